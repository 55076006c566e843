"""What uv answers, and which wheel is chosen."""

from __future__ import annotations

from pathlib import Path

import pytest

from imagesmith_oci.lock import Lock, LockCache, Package, UnusableError, read_pylock
from imagesmith_oci.platforms import Libc, tags, uv_platform

TAGS = tags("3.11.2", "linux/amd64", Libc("glibc", 2, 36))
HEAD = 'lock-version = "1.0"\n'


def wheels(*files: str) -> str:
    rows = ", ".join(
        f'{{ url = "https://h/{name}", size = {10 + number}, hashes = {{ sha256 = "{number}" }} }}'
        for number, name in enumerate(files)
    )
    return f'{HEAD}[[packages]]\nname = "p"\nversion = "1"\nwheels = [{rows}]\n'


@pytest.mark.parametrize(
    ("files", "want"),
    [
        (["p-1-py3-none-any.whl", "p-1-cp311-cp311-manylinux_2_28_x86_64.whl"], 1),
        (["p-1-cp311-cp311-manylinux2014_x86_64.whl", "p-1-cp311-cp311-manylinux_2_34_x86_64.whl"], 1),
        (["p-1-cp37-abi3-manylinux_2_17_x86_64.manylinux2014_x86_64.whl", "p-1-py3-none-any.whl"], 0),
        (["p-1-cp311-cp311-musllinux_1_2_x86_64.whl", "p-1-py2.py3-none-any.whl"], 1),
        (["p-1-cp311-cp311-manylinux_2_39_x86_64.whl", "p-1-py3-none-any.whl"], 1),
        (["p-1-cp311-cp311-manylinux_2_17_aarch64.whl", "p-1-cp311-cp311-linux_x86_64.whl"], 1),
    ],
)
def test_the_best_wheel_that_fits(files: list[str], want: int) -> None:
    (package,) = read_pylock(wheels(*files), TAGS, {}).packages
    assert (package.file, package.sha256, package.size) == (files[want], str(want), 10 + want)


def test_a_hash_that_was_asked_for_chooses_too() -> None:
    text = wheels("p-1-cp311-cp311-manylinux_2_28_x86_64.whl", "p-1-py3-none-any.whl")
    (package,) = read_pylock(text, TAGS, {"p": frozenset({"1"})}).packages
    assert package.file == "p-1-py3-none-any.whl"
    with pytest.raises(UnusableError, match="hash"):
        read_pylock(text, TAGS, {"p": frozenset({"9"})})


def test_no_wheel_that_fits_is_told() -> None:
    with pytest.raises(UnusableError, match="p 1: none of its wheels fits"):
        read_pylock(wheels("p-1-cp312-cp312-win_amd64.whl"), TAGS, {})


def test_archives_folders_and_repositories() -> None:
    text = f"""{HEAD}
[[packages]]
name = "wheel"
version = "1"
archive = {{ path = "../requirements/wheel-1-py3-none-any.whl", hashes = {{ sha256 = "a" }} }}
[[packages]]
name = "far"
version = "1"
archive = {{ url = "https://h/far-1-py3-none-any.whl", hashes = {{ sha256 = "b" }} }}
[[packages]]
name = "folder"
directory = {{ path = "../requirements/03-folder" }}
[[packages]]
name = "git"
version = "2"
vcs = {{ type = "git", url = "https://g/x.git", commit-id = "abc", subdirectory = "in" }}
[[packages]]
name = "source"
version = "3"
sdist = {{ url = "https://h/source-3.tar.gz", hashes = {{ sha256 = "c" }} }}
"""
    found = {package.name: package for package in read_pylock(text, TAGS, {}).packages}
    assert found["wheel"].path == "wheel-1-py3-none-any.whl"
    assert found["far"].direct
    assert found["folder"] == Package("folder", "", "", path="03-folder", direct=True)
    assert (found["git"].commit, found["git"].subdirectory) == ("abc", "in")
    assert not found["source"].is_wheel
    assert not found["source"].direct


def test_a_lock_is_kept_and_forgotten(tmp_path: Path) -> None:
    lock = Lock((Package("p", "1", "p-1-py3-none-any.whl", "https://h/p", sha256="a", size=5),))
    cache = LockCache(tmp_path / "locks")
    assert cache.get("k") is None
    cache.put("k", lock)
    assert LockCache(tmp_path / "locks").get("k") == lock
    cache.forget("k")
    assert cache.get("k") is None


@pytest.mark.parametrize(
    ("platform", "libc", "want"),
    [
        ("linux/amd64", Libc("glibc", 2, 36), "x86_64-manylinux_2_36"),
        ("linux/arm64/v8", Libc("glibc", 2, 30), "aarch64-manylinux_2_28"),
        ("linux/amd64", Libc("glibc", 2, 99), "x86_64-manylinux_2_40"),
        ("linux/amd64", Libc("glibc", 2, 12), None),
        ("linux/arm64", Libc("musl", 1, 2), "aarch64-unknown-linux-musl"),
        ("linux/s390x", Libc("glibc", 2, 36), None),
    ],
)
def test_what_uv_calls_a_platform(platform: str, libc: Libc, want: str | None) -> None:
    assert uv_platform(platform, libc) == want


def test_tags_of_musl_are_musls() -> None:
    found = tags("3.12", "linux/arm64", Libc("musl", 1, 2))
    assert "cp312-cp312-musllinux_1_2_aarch64" in found
    assert not [tag for tag in found if "manylinux" in tag]
