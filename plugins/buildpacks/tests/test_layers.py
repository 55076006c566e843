"""Archives and the layer of files."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import tarfile
from pathlib import Path

from plugins.buildpacks.tests.cases import request

from imagesmith import ImageSpec
from imagesmith.sources import Staged
from imagesmith.tarball import MTIME
from imagesmith_buildpacks.archive import Owner, add_tree, of_texts, unpacked
from imagesmith_buildpacks.source_layer import write


def staged(folder: Path) -> Staged:
    for name, text in {
        "source/app.py": "x",
        "source/sub/ünï'$ x": "y",
        "runtime/imagesmith/a.py": "z",
    }.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    (folder / "source" / "new\nline").write_text("")
    (folder / "source" / "tool").write_text("")
    (folder / "source" / "tool").chmod(0o700)
    (folder / "source" / "link").symlink_to("/nowhere/at all")
    return Staged(folder=folder, has_source=True, has_runtime=True)


def entries(path: Path) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(path) as archive:
        return {entry.name: entry for entry in archive}


def test_the_layer_of_files(tmp_path: Path) -> None:
    case = request(ImageSpec(source_root=".", workdir="/srv/a b", user="7"), staged(tmp_path / "staged"))
    made = write(case, tmp_path / "layer", 7, files=True)
    found = entries(made.path)
    assert {name: oct(entry.mode) for name, entry in found.items()} == {
        "srv/a b": "0o775",
        "srv/a b/app.py": "0o644",
        "srv/a b/link": "0o777",
        "srv/a b/new\nline": "0o644",
        "srv/a b/sub": "0o755",
        "srv/a b/sub/ünï'$ x": "0o644",
        "srv/a b/tool": "0o755",
        "opt/imagesmith": "0o755",
        "opt/imagesmith/imagesmith": "0o755",
        "opt/imagesmith/imagesmith/a.py": "0o644",
    }
    assert (found["srv/a b"].uid, found["srv/a b"].gid) == (7, 0)
    assert {(entry.uid, entry.gid, entry.mtime) for entry in list(found.values())[1:]} == {(0, 0, MTIME)}
    assert found["srv/a b/link"].linkname == "/nowhere/at all"
    data = made.path.read_bytes()
    assert made.digest == f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert made.diff_id == f"sha256:{hashlib.sha256(gzip.decompress(data)).hexdigest()}"
    assert made.size == len(data)


def test_equal_files_give_equal_bytes(tmp_path: Path) -> None:
    spec = ImageSpec(source_root=".")
    one = write(request(spec, staged(tmp_path / "one")), tmp_path / "1", 0, files=True)
    os.umask(os.umask(0o077))
    two = write(request(spec, staged(tmp_path / "two")), tmp_path / "2", 0, files=True)
    assert one.digest == two.digest


def test_nothing_but_the_work_directory(tmp_path: Path) -> None:
    made = write(request(ImageSpec(), Staged(folder=tmp_path)), tmp_path / "layer", 0, files=True)
    assert list(entries(made.path)) == ["workspace"]


def test_files_can_be_left_to_the_core(tmp_path: Path) -> None:
    case = request(ImageSpec(source_root="."), staged(tmp_path / "staged"))
    made = write(case, tmp_path / "layer", 0, files=False)
    assert [name for name in entries(made.path) if not name.startswith("opt/")] == ["workspace"]


def test_texts_come_with_their_folders() -> None:
    data = of_texts({"a/b/c": "x", "a/d": b"\xff"}, Owner(5, 6), mode=0o600)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert archive.getnames() == ["a", "a/b", "a/b/c", "a/d"]
        assert {(entry.uid, entry.gid) for entry in archive} == {(5, 6)}
    assert unpacked(io.BytesIO(data)) == {"a/": b"", "a/b/": b"", "a/b/c": b"x", "a/d": b"\xff"}


def test_programs_can_be_executed_whatever_an_installer_made_of_them(tmp_path: Path) -> None:
    for name in ("bin/build", "share/text"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("")
        (tmp_path / name).chmod(0o644)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        add_tree(archive, tmp_path, "x", programs="bin")
    buffer.seek(0)
    with tarfile.open(fileobj=buffer) as archive:
        modes = {entry.name: oct(entry.mode) for entry in archive if entry.isfile()}
    assert modes == {"x/bin/build": "0o755", "x/share/text": "0o644"}
