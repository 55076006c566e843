"""One build of an image at a time on this machine, across processes."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from typing import TYPE_CHECKING

from imagesmith.events import Message, Reporter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

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
    others = last_move(folder) != since
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / (hashlib.sha256(reference.encode()).hexdigest()[:32] + ".lock")
    held = _taken(file, wait=False)
    if held is None:
        report(Message(f"another process builds {reference}: waiting for it"))
        held = _taken(file, wait=True)
        others = True
    try:
        yield others
    finally:
        # Gone before it is released: whoever waits on the old file notices and opens a new one.
        file.unlink(missing_ok=True)
        if held is not None:
            os.close(held)


def _taken(file: Path, *, wait: bool) -> int | None:
    """A descriptor of the file, locked as long as it is open; None where another has it and ``wait`` is not.

    By hand: to load filelock takes as long as to hash 500 files.
    """
    while True:
        opened = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            if os.fstat(opened).st_nlink:
                return opened
        except BlockingIOError:
            os.close(opened)
            return None
        except BaseException:
            os.close(opened)
            raise
        os.close(opened)
