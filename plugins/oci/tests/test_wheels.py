"""Wheels as an installer would lay them out."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path

import pytest
from plugins.oci.tests.ocisamples import wheel
from tests.core.tars import content, entries

from imagesmith.tarball import TarWriter
from imagesmith_oci import wheels
from imagesmith_oci.prefix import Prefix

VENV = Prefix("/opt/venv", "3.11")
SITE = "opt/venv/lib/python3.11/site-packages"


def laid(tmp_path: Path, *archives: bytes, prefix: Prefix = VENV, direct_url: str | None = None) -> bytes:
    found = []
    for number, data in enumerate(archives):
        file = tmp_path / f"wheel{number}.whl"
        file.write_bytes(data)
        found.append(wheels.lay_out(file, prefix, direct_url))
    pieces: list[bytes] = []
    tar = TarWriter(pieces.append, ("opt",))
    wheels.write(tar, found)
    tar.close()
    return b"".join(pieces)


def record(archive: bytes, name: str = "odd-1.0") -> dict[str, list[str]]:
    text = content(archive, f"{SITE}/{name}.dist-info/RECORD").decode()
    return {row[0]: row[1:] for row in csv.reader(io.StringIO(text))}


def test_modules_keep_their_execute_bit_and_nothing_else(tmp_path: Path) -> None:
    data = wheel(files={"odd/__init__.py": "", "odd/tool": "x"}, executable=("odd/tool",))
    found = entries(laid(tmp_path, data))
    assert found[f"{SITE}/odd/__init__.py"].mode == 0o644
    assert found[f"{SITE}/odd/tool"].mode == 0o755
    assert found[f"{SITE}/odd"].mode == 0o755
    assert {member.uid for member in found.values()} == {0}


def test_data_folders_land_where_they_belong(tmp_path: Path) -> None:
    data = wheel(
        files={
            "odd-1.0.data/data/share/odd/x.txt": "shared",
            "odd-1.0.data/purelib/pure.py": "P = 1\n",
            "odd-1.0.data/platlib/plat.py": "P = 2\n",
            "odd-1.0.data/headers/odd.h": "// h",
            "odd-1.0.data/scripts/plain": "#!/bin/sh\necho\n",
        }
    )
    archive = laid(tmp_path, data)
    assert content(archive, "opt/venv/share/odd/x.txt") == b"shared"
    assert content(archive, f"{SITE}/pure.py") == b"P = 1\n"
    assert content(archive, f"{SITE}/plat.py") == b"P = 2\n"
    assert content(archive, "opt/venv/include/site/python3.11/odd/odd.h") == b"// h"
    assert content(archive, "opt/venv/bin/plain") == b"#!/bin/sh\necho\n"
    assert entries(archive)["opt/venv/bin/plain"].mode == 0o755
    assert "../../../share/odd/x.txt" in record(archive)
    assert "../../../bin/plain" in record(archive)


@pytest.mark.parametrize(
    ("first", "want"),
    [
        (b"#!python\n", b"#!/opt/venv/bin/python\n"),
        (b"#!python -E -s\r\n", b"#!/opt/venv/bin/python -E -s\r\n"),
        (b"#!pythonw\n", b"#!/opt/venv/bin/python\n"),
        (b"#!python3\n", b"#!/opt/venv/bin/python\n"),
        (b"#!pythonic\n", b"#!pythonic\n"),
        (b"#!/usr/bin/env python\n", b"#!/usr/bin/env python\n"),
        (b"\x7fELF\x00#!python", b"\x7fELF\x00#!python"),
        (b"", b""),
    ],
)
def test_scripts_name_the_python_of_the_image(tmp_path: Path, first: bytes, want: bytes) -> None:
    archive = laid(tmp_path, wheel(files={"odd-1.0.data/scripts/run": first + b"rest"}))
    assert content(archive, "opt/venv/bin/run") == want + b"rest"


def test_entry_points_become_scripts(tmp_path: Path) -> None:
    text = (
        "[console_scripts]\nodd-run = odd.cli:main\ndeep = odd:A.b.c [extra]\nSpaced Name=odd:x\n"
        "[gui_scripts]\nwin = odd:gui\n[other]\nx = y:z\n"
    )
    archive = laid(tmp_path, wheel(files={"odd-1.0.dist-info/entry_points.txt": text}))
    run = content(archive, "opt/venv/bin/odd-run").decode()
    assert run.startswith("#!/opt/venv/bin/python\n")
    assert "from odd.cli import main\n" in run
    assert "sys.exit(main())" in run
    assert "sys.exit(A.b.c())" in content(archive, "opt/venv/bin/deep").decode()
    assert "from odd import A\n" in content(archive, "opt/venv/bin/deep").decode()
    assert {"opt/venv/bin/win", "opt/venv/bin/Spaced Name"} <= set(entries(archive))
    compile(run, "odd-run", "exec")


def test_record_tells_every_file_and_its_hash(tmp_path: Path) -> None:
    archive = laid(tmp_path, wheel(files={"odd/a,b.py": "x\n", "ünï/cödé.py": "y\n"}))
    rows = record(archive)
    assert rows["odd-1.0.dist-info/RECORD"] == ["", ""]
    assert rows["odd/a,b.py"][0].startswith("sha256=")
    assert rows["ünï/cödé.py"][1] == "2"
    assert rows["odd-1.0.dist-info/INSTALLER"][1] == str(len("imagesmith\n"))
    files = {name.removeprefix(f"{SITE}/") for name, it in entries(archive).items() if it.isfile()}
    assert files == set(rows)


def test_what_was_asked_for_by_address_says_so(tmp_path: Path) -> None:
    archive = laid(tmp_path, wheel(), direct_url='{"url": "x"}')
    assert content(archive, f"{SITE}/odd-1.0.dist-info/direct_url.json") == b'{"url": "x"}'


def test_of_two_wheels_with_one_file_the_later_wins_and_it_is_written_once(tmp_path: Path) -> None:
    one = wheel("one", {"shared/__init__.py": "1\n", "shared/one.py": ""})
    two = wheel("two", {"shared/__init__.py": "2\n"})
    archive = laid(tmp_path, one, two)
    assert content(archive, f"{SITE}/shared/__init__.py") == b"2\n"
    assert archive.count(b"shared/__init__.py\0") == 1
    assert f"{SITE}/shared/one.py" in entries(archive)


def test_a_namespace_package_is_shared(tmp_path: Path) -> None:
    archive = laid(tmp_path, wheel("one", {"ns/one.py": ""}), wheel("two", {"ns/two.py": ""}))
    assert {f"{SITE}/ns/one.py", f"{SITE}/ns/two.py"} <= set(entries(archive))


@pytest.mark.parametrize(
    "files",
    [
        {"../evil.py": "x"},
        {"/etc/passwd": "x"},
        {"a/../../b": "x"},
        {"a\\b.py": "x"},
        {"odd-1.0.data/nowhere/x": "x"},
        {"odd-1.0.dist-info/entry_points.txt": "[console_scripts]\n../x = a:b\n"},
        {"odd-1.0.dist-info/entry_points.txt": "[console_scripts]\nx = import os\n"},
        {"odd-1.0.dist-info/WHEEL": "Wheel-Version: 2.0\n"},
        {"other-1.dist-info/WHEEL": "Wheel-Version: 1.0\n"},
    ],
)
def test_what_no_installer_takes_is_refused(tmp_path: Path, files: Mapping[str, str]) -> None:
    with pytest.raises(wheels.BadWheelError):
        laid(tmp_path, wheel(files=files))


def test_a_damaged_wheel_is_told_by_name(tmp_path: Path) -> None:
    data = wheel(files={"odd.py": "x" * 10_000})
    spot = data.index(b"odd.py") + len("odd.py") + 5
    for broken in (data[:200], data[:spot] + b"\xff\xff\xff" + data[spot + 3 :], b"no archive"):
        with pytest.raises(wheels.BadWheelError, match=r"wheel0\.whl"):
            laid(tmp_path, broken)


def test_a_conda_environment_gets_them_at_its_own_place(tmp_path: Path) -> None:
    data = wheel(files={"odd.py": "", "odd-1.0.data/scripts/run": "#!python\n"})
    archive = laid(tmp_path, data, prefix=Prefix("/opt/conda", "3.12"))
    assert "opt/conda/lib/python3.12/site-packages/odd.py" in entries(archive)
    assert content(archive, "opt/conda/bin/run") == b"#!/opt/conda/bin/python\n"
