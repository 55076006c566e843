"""Layers: their bytes, and how they are known again."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import pytest
import zstandard
from tests.core.tars import entries

from imagesmith.tarball import TarWriter
from imagesmith_oci.layers import Compression, LayerCache, key_of


def fill(tar: TarWriter) -> None:
    tar.data("opt/venv/file", b"text\n" * 1000)


@pytest.mark.parametrize("compression", ["zstd", "gzip"])
def test_a_layer_is_what_its_digests_say(tmp_path: Path, compression: Compression) -> None:
    made = LayerCache(tmp_path, compression).make("k", fill, ("opt",))
    packed = made.path.read_bytes()
    plain = gzip.decompress(packed) if compression == "gzip" else zstandard.decompress(packed, 1 << 20)
    assert made.digest == f"sha256:{hashlib.sha256(packed).hexdigest()}"
    assert made.diff_id == f"sha256:{hashlib.sha256(plain).hexdigest()}"
    assert made.size == len(packed)
    assert made.media_type.endswith(f"tar+{compression}")
    assert list(entries(plain)) == ["opt/venv", "opt/venv/file"]
    assert made.path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("compression", ["zstd", "gzip"])
def test_two_caches_make_the_same_bytes(tmp_path: Path, compression: Compression) -> None:
    made = [LayerCache(tmp_path / name, compression).make("k", fill) for name in "ab"]
    assert made[0].digest == made[1].digest


def test_a_known_layer_is_found_and_a_damaged_one_is_not(tmp_path: Path) -> None:
    cache = LayerCache(tmp_path)
    assert cache.get("k") is None
    made = cache.make("k", fill)
    assert LayerCache(tmp_path).get("k") == made
    assert LayerCache(tmp_path, "gzip").get("k") is None
    made.path.write_bytes(b"short")
    assert cache.get("k") is None
    made.path.unlink()
    assert cache.get("k") is None


def test_a_layer_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fails(tar: TarWriter) -> None:
        tar.data("x", b"x")
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        LayerCache(tmp_path).make("k", fails)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_that_there_is_nothing_is_remembered_too(tmp_path: Path) -> None:
    assert LayerCache(tmp_path).pack("k", None).size == 0
    known = LayerCache(tmp_path).get("k")
    assert known is not None
    assert known.size == 0


def test_an_archive_is_packed_as_it_is(tmp_path: Path) -> None:
    plain = tmp_path / "x.tar"
    plain.write_bytes(b"anything" * 100_000)
    made = LayerCache(tmp_path / "cache").pack("k", plain)
    assert made.diff_id == f"sha256:{hashlib.sha256(plain.read_bytes()).hexdigest()}"


def test_keys_differ_where_the_parts_do() -> None:
    assert key_of("a", ["b"]) == key_of("a", ("b",))
    assert len({key_of("a", "b"), key_of("ab"), key_of("a", ["b"]), key_of("b", "a")}) == 4
