"""What was written becomes a layer: nothing is mounted here, overlayfs's marks are made by hand."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import subprocess
import tarfile
from pathlib import Path

import pytest

from imagesmith_oci.inside.capture import Layer, capture
from imagesmith_oci.inside.layers import Layers
from imagesmith_oci.inside.probe import program
from imagesmith_oci.inside.unpack import OPAQUE

START, TIME = 1_700_000_000, 315_619_200
OLD = 1_600_000_000


@pytest.fixture
def upper(tmp_path: Path) -> Path:
    folder = tmp_path / "upper"
    folder.mkdir()
    return folder


def put(path: Path, text: str = "x", time: int = OLD) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (time, time))
    return path


def take(upper: Path, *lowers: Path) -> tuple[Layer, dict[str, tarfile.TarInfo]]:
    target = io.BytesIO()
    layer = capture(str(upper), [str(lower) for lower in lowers], target, start=START * 10**9, time=TIME)
    data = target.getvalue()
    assert layer.sha256 == hashlib.sha256(data).hexdigest()
    assert layer.size == len(data)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        found = {entry.name: entry for entry in archive}
    assert layer.entries == len(found)
    return layer, found


def test_times(upper: Path) -> None:
    put(upper / "kept")
    put(upper / "now", time=START)
    put(upper / "later", time=START + 99)
    _, found = take(upper)
    assert {name: entry.mtime for name, entry in found.items()} == {"kept": OLD, "now": TIME, "later": TIME}
    assert (upper / "later").stat().st_mtime == TIME  # so it is like the layer, and can stand for it
    again, _ = take(upper)
    assert again == take(upper)[0]


def test_byte_code_is_told_of_its_source(upper: Path) -> None:
    def code(name: str, flags: int, time: int) -> Path:
        file = upper / name
        file.write_bytes(b"\xa7\r\r\n" + flags.to_bytes(4, "little") + time.to_bytes(4, "little") + b"rest")
        return file

    late, old, hashed = code("a.pyc", 0, START + 5), code("b.pyc", 0, OLD), code("c.pyc", 3, START + 5)
    put(upper / "d.pyc", "no")
    take(upper)
    held = [int.from_bytes(file.read_bytes()[8:12], "little") for file in (late, old, hashed)]
    assert held == [TIME, OLD, START + 5]
    assert late.read_bytes().endswith(b"rest")


def test_kinds(upper: Path) -> None:
    put(upper / "b/file", "12345").chmod(0o4711)
    (upper / "b/again").hardlink_to(upper / "b/file")
    (upper / "b/link").symlink_to("/else where")
    os.mkfifo(upper / "b/fifo")
    put(upper / ("b/" + "n" * 150))
    put(upper / "b/é\n")
    _, found = take(upper)
    assert list(found) == sorted(found, key=os.fsencode)
    assert (found["b/again"].isreg(), found["b/file"].islnk(), found["b/file"].linkname) == (
        True,
        True,
        "b/again",
    )
    assert stat.S_IMODE(found["b/again"].mode) == 0o4711
    assert found["b/link"].linkname == "/else where"
    assert found["b/fifo"].isfifo()
    assert {"b/" + "n" * 150, "b/é\n"} <= set(found)
    assert {(entry.uname, entry.gname) for entry in found.values()} == {("", "")}


def test_what_is_gone_and_what_is_hidden(upper: Path) -> None:
    (upper / "etc").mkdir()
    os.mknod(upper / "etc/gone", stat.S_IFCHR, os.makedev(0, 0))
    (upper / "new").mkdir()
    os.setxattr(upper / "new", OPAQUE, b"y")
    _, found = take(upper)
    assert list(found) == ["etc", "etc/.wh.gone", "new", "new/.wh..wh..opq"]
    assert found["etc/.wh.gone"].isreg()


def test_folders_that_only_were_looked_into(tmp_path: Path, upper: Path) -> None:
    top, bottom = tmp_path / "top", tmp_path / "bottom"
    for path in (top / "x", bottom / "a/b", bottom / "mode", bottom / "hides", bottom / "file/was"):
        path.mkdir(parents=True)
    for name in ("a/b", "mode", "hides", "new", "file"):
        (upper / name).mkdir(parents=True)
    (upper / "mode").chmod(0o1777)
    os.setxattr(upper / "hides", OPAQUE, b"y")
    _, found = take(upper, top, bottom)
    assert set(found) == {"mode", "hides", "hides/.wh..wh..opq", "new"}


def test_nothing(upper: Path) -> None:
    layer, found = take(upper)
    assert (layer.entries, found) == (0, {})


def test_the_tiny_program_runs(tmp_path: Path) -> None:
    architecture = {"x86_64": "amd64", "aarch64": "arm64", "riscv64": "riscv64"}.get(os.uname().machine)
    if architecture is None:
        pytest.skip("no tiny program is known for this machine")
    data = program(architecture)
    assert data is not None
    file = tmp_path / "program"
    file.write_bytes(data)
    file.chmod(0o755)
    assert subprocess.run([file], check=False).returncode == 0
    assert program("vax") is None


def kept(cache: Path, name: str, *, boot: str, age: int, written: bool = False) -> None:
    folder = cache / "layers" / f"sha256-{name}"
    (folder / "files").mkdir(parents=True)
    (folder / "boot").write_text(boot)
    (folder / "used").touch()
    if written:
        (folder / "written").touch()
    time = (folder / "used").stat().st_mtime - age
    os.utime(folder / "used", (time, time))


def test_which_layers_are_believed(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    this = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    kept(tmp_path, "fresh", boot=this, age=5)
    kept(tmp_path, "settled", boot=this, age=500)
    kept(tmp_path, "crashed", boot="another", age=500)
    kept(tmp_path, "survived", boot="another", age=500, written=True)
    kept(tmp_path, "unused", boot=this, age=15 * 24 * 3600, written=True)
    layers = Layers(str(tmp_path))
    assert layers.find("sha256:crashed") is None
    assert layers.find("sha256:none") is None
    (tmp_path / "layers/sha256-unused/used").touch()
    os.utime(tmp_path / "layers/sha256-unused/used", (0, 0))
    layers.sweep()
    left = {path.name.removeprefix("sha256-") for path in (tmp_path / "layers").iterdir()}
    assert left == {"fresh", "settled", "survived"}
    assert (tmp_path / "layers/sha256-settled/written").exists()
    assert not (tmp_path / "layers/sha256-fresh/written").exists()
    assert layers.find("sha256:fresh") == str(tmp_path / "layers/sha256-fresh/files")
    assert list((tmp_path / "work").iterdir()) == []
