"""One build of an image at a time on this machine, across processes."""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from imagesmith.events import Message, Reporter

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["locked"]


@contextlib.contextmanager
def locked(folder: Path, reference: str, report: Reporter) -> Iterator[None]:
    """Hold the lock of ``reference``. Waits as long as it takes, and says that it waits."""
    from filelock import FileLock, Timeout  # noqa: PLC0415 - only a build needs it

    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / (hashlib.sha256(reference.encode()).hexdigest()[:32] + ".lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        report(Message(f"another process builds {reference}: waiting for it"))
        lock.acquire()
    try:
        yield
    finally:
        # Gone before it is released: whoever waits on the old file notices and opens a new one.
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()
