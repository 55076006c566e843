"""One build of an image at a time on this machine, across processes."""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from imagesmith.events import Message, Reporter

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["last_move", "locked"]


def last_move(folder: Path) -> int:
    """When a lock was last taken or let go, in the file system's nanoseconds; 0 where none ever was."""
    try:
        return folder.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


@contextlib.contextmanager
def locked(folder: Path, reference: str, report: Reporter, *, since: int = 0) -> Iterator[bool]:
    """Hold the lock of ``reference``. Waits as long as it takes, and says that it waits.

    Gives whether another process may have built it after ``since``, which ``last_move`` gave: it had to be
    waited for, or some lock was taken or let go since then.
    """
    from filelock import FileLock, Timeout  # noqa: PLC0415 - only a build needs it

    others = last_move(folder) != since
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / (hashlib.sha256(reference.encode()).hexdigest()[:32] + ".lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        report(Message(f"another process builds {reference}: waiting for it"))
        lock.acquire()
        others = True
    try:
        yield others
    finally:
        # Gone before it is released: whoever waits on the old file notices and opens a new one.
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()
