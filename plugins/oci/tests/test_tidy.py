"""The cache has an end."""

from __future__ import annotations

import os
from pathlib import Path

from imagesmith_oci.tidy import tidy

NOW = 1_000_000.0


def fill(cache: Path) -> None:
    for number, name in enumerate(("layers/zstd/a.tar.zst", "wheels/ab/x.whl", "layers/zstd/new.tar.zst")):
        file = cache / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x" * 100)
        os.utime(file, (NOW - 100_000 + number * 1000, NOW - 100_000 + number * 1000))
    os.utime(file, (NOW - 10, NOW - 10))
    (cache / "locks").mkdir()
    (cache / "locks" / "kept").write_bytes(b"x" * 1000)


def test_the_oldest_go_first_and_what_is_in_use_stays(tmp_path: Path) -> None:
    fill(tmp_path)
    assert tidy(tmp_path, NOW, most=250) == 1
    assert not (tmp_path / "layers/zstd/a.tar.zst").exists()
    assert (tmp_path / "wheels/ab/x.whl").exists()
    assert tidy(tmp_path, NOW + 10, most=0) == 0, "it looks once a day"
    (tmp_path / "tidied").unlink()
    assert tidy(tmp_path, NOW, most=0) == 1
    assert (tmp_path / "layers/zstd/new.tar.zst").exists()
    assert (tmp_path / "locks" / "kept").exists()


def test_enough_room_removes_nothing(tmp_path: Path) -> None:
    fill(tmp_path)
    assert tidy(tmp_path, NOW) == 0


def test_no_cache_is_no_matter(tmp_path: Path) -> None:
    assert tidy(tmp_path / "none", NOW) == 0
