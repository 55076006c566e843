"""Entry points as ``importlib.metadata`` finds them, without it."""

import os
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from imagesmith._entry_points import Point, entry_points


def install(folder: Path, name: str, text: str, kind: str = "dist-info") -> None:
    info = folder / f"{name}.{kind}"
    info.mkdir(parents=True)
    (info / "entry_points.txt").write_text(text, encoding="utf-8")
    project, _, version = name.partition("-")
    head = f"Metadata-Version: 2.1\nName: {project}\nVersion: {version}\n\nName: of the text\n"
    (info / ("METADATA" if kind == "dist-info" else "PKG-INFO")).write_text(head, encoding="utf-8")


def test_they_are_what_importlib_says() -> None:
    found = {
        (point.name, point.value, point.distribution, point.version) for point in entry_points("pytest11")
    }
    assert found == {
        (point.name, point.value, point.dist.name, point.dist.version)
        for point in metadata.entry_points(group="pytest11")
        if point.dist is not None
    }
    assert found


def test_the_first_distribution_of_a_name_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path / "one", "A.b-1", "[other]\nno = x\n[mine]\n# no = x\nyes = os:path.join [extra]\n")
    install(tmp_path / "two", "a_b-2", "[mine]\nlate = x\n")
    install(tmp_path / "two", "c-3", "[mine]\neggs = c\n", "egg-info")
    monkeypatch.setattr(sys, "path", [str(tmp_path / "one"), str(tmp_path / "two"), "/nonexistent"])
    yes, eggs = entry_points("mine")
    assert yes == Point("yes", "os:path.join [extra]", "A.b", "1")
    assert yes.load() is os.path.join
    assert eggs == Point("eggs", "c", "c", "3")


def test_those_in_an_archive_are_found_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(tmp_path / "some.zip", "w") as archive:
        archive.writestr("z-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: z\nVersion: 1\n")
        archive.writestr("z-1.dist-info/entry_points.txt", "[mine]\nzipped = z\n")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "some.zip")])
    assert entry_points("mine") == [Point("zipped", "z", "z", "1")]


def test_a_build_with_a_named_builder_loads_no_metadata() -> None:
    code = "import sys; from imagesmith.plugins import Plugins; Plugins().load('oci'); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"importlib.metadata", "email", "packaging"} & set(done.stdout.split())
