"""Documents that were read from a registry, kept on disk by their digests: what has one never changes."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from imagesmith.stores._documents import digest_of

__all__ = ["Kept"]

_KEEP = 500
_SPARE = 100
"""how many more there may be before the oldest go"""


class Kept:
    """Manifests and configurations in a folder of the user's own. Without a folder it keeps nothing."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def __bool__(self) -> bool:
        return self._folder is not None

    def get(self, digest: str) -> bytes | None:
        """What has this digest, checked; None when it is not known."""
        if self._folder is None or not digest.startswith("sha256:"):
            return None
        try:
            data = self._file(self._folder, digest).read_bytes()
        except OSError:
            return None
        return data if digest_of(data) == digest else None

    def put(self, digest: str, data: bytes) -> None:
        """Keep it for the next time, as far as the disk lets us."""
        if self._folder is None or not digest.startswith("sha256:"):
            return
        with contextlib.suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            self._forget_old(self._folder)
            handle, draft = tempfile.mkstemp(prefix=".imagesmith-", dir=self._folder)
            with os.fdopen(handle, "wb") as stream:
                stream.write(data)
            Path(draft).replace(self._file(self._folder, digest))

    @staticmethod
    def _file(folder: Path, digest: str) -> Path:
        return folder / digest.removeprefix("sha256:")

    @staticmethod
    def _forget_old(folder: Path) -> None:
        if len(os.listdir(folder)) <= _KEEP + _SPARE:  # noqa: PTH208 - to ask each for its time takes longer
            return
        known = sorted(folder.iterdir(), key=lambda file: file.stat().st_mtime)
        for old in known[:-_KEEP]:
            old.unlink(missing_ok=True)
