"""What an image is called in the local engine on its way to a registry.

The engine pushes by name, and what it pushed it has to keep: with the last name of an image its layers go,
and the next build of the repository would have to make and compress all of them again (1 s for 100 MB).
So each repository has a name of its own here, which every build moves on to its image. Builds of one
repository that run at the same time have one each.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import uuid
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["UNNAMED", "lent"]

_PREFIX = "imagesmith-build"
UNNAMED = f"{_PREFIX}:…"
"""What stands for such a name in a plan."""


@contextlib.contextmanager
def lent(cache: Path, repository: str, platform: str) -> Iterator[str]:
    """A name for this build alone, until it ends; of those of the repository the first that is free."""
    from filelock import FileLock, Timeout  # noqa: PLC0415 - other destinations need none of it

    folder = cache / "names"
    folder.mkdir(parents=True, exist_ok=True)
    key = hashlib.sha256(f"{_user(folder)} {repository} {platform}".encode()).hexdigest()[:16]
    for number in itertools.count():
        lock = FileLock(folder / f"{key}-{number}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        try:
            yield f"{_PREFIX}:{key}-{number}"
        finally:
            lock.release()
        return


def _user(folder: Path) -> str:
    """Tells this cache from those of others who use the same engine."""
    file = folder / "id"
    with contextlib.suppress(FileExistsError), file.open("x", encoding="ascii") as new:
        new.write(uuid.uuid4().hex)
    return file.read_text(encoding="ascii")
