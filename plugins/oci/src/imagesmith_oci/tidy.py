"""Keeps the cache from growing without end: what was not used for longest goes first."""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["tidy"]

MOST = 10_000_000_000
"""bytes"""
_FOLDERS = ("layers", "wheels", "blobs")
_EVERY = 24 * 3600.0
_YOUNG = 3600.0
"""seconds; what was used so lately may be in use"""


def tidy(cache: Path, now: float | None = None, most: int = MOST) -> int:
    """Remove files where there are more bytes than ``most``; looks once a day. Returns how many it removed.

    Never raises: a cache that cannot be tidied is only larger.
    """
    now = time.time() if now is None else now
    mark = cache / "tidied"
    with contextlib.suppress(OSError):
        if now - mark.stat().st_mtime < _EVERY:
            return 0
    removed = 0
    with contextlib.suppress(OSError):
        cache.mkdir(parents=True, exist_ok=True)
        mark.touch()
        os.utime(mark, (now, now))
        files = [
            (told.st_mtime, told.st_size, path)
            for name in _FOLDERS
            for path in (cache / name).rglob("*")
            if path.is_file()
            for told in [path.stat()]
        ]
        held = sum(size for _, size, _ in files)
        for used, size, path in sorted(files):
            if held <= most or now - used < _YOUNG:
                break
            path.unlink(missing_ok=True)
            held -= size
            removed += 1
    return removed
