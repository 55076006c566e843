"""What hashing the files of a spec costs over a bare walk that reads and hashes the same files.

    python bench/hashing.py [files] [bytes per file]

The two are measured in turns, best of seven each, in one process on a warm page cache. Goal: 1.3 or less.
"""

from __future__ import annotations

import hashlib
import os
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from imagesmith import ImageSpec
from imagesmith.sources import digests

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS = 7
FILES_PER_FOLDER = 50


def make_tree(root: Path, files: int, size: int) -> None:
    """Folders of fifty files of random bytes."""
    source = random.Random(0)
    for number in range(files):
        folder = (
            root / f"package{number // (FILES_PER_FOLDER * 20):02}" / f"module{number // FILES_PER_FOLDER:03}"
        )
        if number % FILES_PER_FOLDER == 0:
            folder.mkdir(parents=True)
        (folder / f"file{number:05}.py").write_bytes(source.randbytes(size))


def bare(root: Path) -> str:
    """Walk, read, SHA-256: nothing left out, nothing framed."""
    hashed = hashlib.sha256()
    for folder, _, names in os.walk(root):
        for name in names:
            with open(os.path.join(folder, name), "rb") as file:  # noqa: PTH118, PTH123 - the bare way
                hashed.update(file.read())
    return hashed.hexdigest()


def seconds(work: Callable[[], object]) -> float:
    """Wall-clock time of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main(files: int = 20_000, size: int = 10_000) -> None:
    """Print both times and their ratio, without and with an ignore file."""
    patterns = (
        "*.log\n*.egg-info\n/build/\n/dist/\n.venv/\n!keep.log\ndata/**/*.csv\n.DS_Store\n*.swp\nsecrets.*\n"
    )
    with tempfile.TemporaryDirectory(prefix="imagesmith-bench-") as name:
        root = Path(name)
        make_tree(root, files, size)
        spec = ImageSpec(source_root=str(root))
        for label, ignore in (("built-in rules", ""), ("ten patterns", patterns)):
            if ignore:
                (root / ".imagesmithignore").write_text(ignore, encoding="utf-8")
            bare(root)
            times = [(seconds(lambda: bare(root)), seconds(lambda: digests(spec))) for _ in range(ROUNDS)]
            plain, ours = (min(column) for column in zip(*times, strict=True))
            print(
                f"{label}: {files} files of {size} bytes: bare {plain:.3f} s, digests {ours:.3f} s, "
                f"ratio {ours / plain:.2f}"
            )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
