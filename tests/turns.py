"""Two tests at a time: who runs beside whom (``make test``; a plain ``pytest`` runs one after the other).

What live tests make has names of its own, so that any two can share an engine. A test that counts what all
have made is marked ``alone``: it waits until no other live test runs, in this run or another, and the others
wait for it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def turn(folder: Path, *, alone: bool) -> Iterator[None]:
    """Hold the place there: with others, or alone."""
    folder.mkdir(parents=True, exist_ok=True)
    with _opened(folder / "place.lock") as place:
        with _opened(folder / "door.lock") as door:  # who waits here for the place is not overtaken for ever
            fcntl.flock(door, fcntl.LOCK_EX)
            fcntl.flock(place, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[int]:
    """Closing it lets go of its lock; processes that are started meanwhile do not inherit it."""
    number = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        yield number
    finally:
        os.close(number)
