"""Byte code of packages, made on this machine."""

from __future__ import annotations

import importlib.util
import io
import marshal
import os
import struct
import sys
import tarfile
from pathlib import Path
from types import CodeType

import pytest
from plugins.oci.tests.ocisamples import wheel

from imagesmith import BuilderNotReady
from imagesmith.runner import SubprocessRunner
from imagesmith.tarball import MTIME, TarWriter
from imagesmith_oci.bytecode import Compiler, find_python, module_target
from imagesmith_oci.options import parse
from imagesmith_oci.prefix import Prefix
from imagesmith_oci.wheels import lay_out, write

MINOR = "{}.{}".format(*sys.version_info)
TAG = f"cpython-{MINOR.replace('.', '')}"
SITE = f"opt/venv/lib/python{MINOR}/site-packages"
ENV = {"PATH": os.environ["PATH"]}
NAMES = ", ".join(f"'word{number}'" for number in range(50))
FILES: dict[str, str | bytes] = {
    "odd/__init__.py": f"def odd(x):\n    return x in {{{NAMES}}}\n",
    "odd/template.py": "this is {{ no }} python\n",
    "odd/latin.py": "# -*- coding: latin-1 -*-\nNAME = 'caf\xe9'\n".encode("latin-1"),
    "odd/data.txt": "x",
    "odd-1.0.data/scripts/run.py": "#!python\nprint(1)\n",
}


def laid(folder: Path, *, env: dict[str, str] | None = None) -> dict[str, tuple[tarfile.TarInfo, bytes]]:
    folder.mkdir()
    file = folder / "odd-1.0-py3-none-any.whl"
    file.write_bytes(wheel(files=FILES))
    compiler = Compiler(MINOR, SubprocessRunner(), env or ENV, folder)
    pieces: list[bytes] = []
    tar = TarWriter(pieces.append)
    write(tar, [lay_out(file, Prefix("/opt/venv", MINOR), None, compiler)])
    tar.close()
    with tarfile.open(fileobj=io.BytesIO(b"".join(pieces))) as archive:
        return {
            member.name: (member, held.read() if (held := archive.extractfile(member)) else b"")
            for member in archive
        }


def test_it_lies_where_python_looks_and_is_valid_by_the_time_of_its_source(tmp_path: Path) -> None:
    found = laid(tmp_path / "one")
    compiled = {name for name in found if name.endswith(".pyc")}
    assert compiled == {f"{SITE}/odd/__pycache__/{name}.{TAG}.pyc" for name in ("__init__", "latin")}
    source, (_, data) = (
        found[f"{SITE}/odd/__init__.py"][0],
        found[module_target(f"{SITE}/odd/__init__.py", TAG)],
    )
    assert data[:4] == importlib.util.MAGIC_NUMBER
    assert struct.unpack("<LLL", data[4:16]) == (0, MTIME, source.size)
    assert source.mtime == MTIME
    code = marshal.loads(data[16:])
    assert isinstance(code, CodeType)
    assert code.co_filename == f"/{SITE}/odd/__init__.py"
    record = found[f"{SITE}/odd-1.0.dist-info/RECORD"][1].decode()
    assert f"odd/__pycache__/latin.{TAG}.pyc,,\n" in record
    assert "template.cpython" not in record


def test_the_same_bytes_twice(tmp_path: Path) -> None:
    one = laid(tmp_path / "one", env={**ENV, "PYTHONHASHSEED": "1"})
    two = laid(tmp_path / "two", env={**ENV, "PYTHONHASHSEED": "2", "PYTHONOPTIMIZE": "2"})
    assert {name: data for name, (_, data) in one.items()} == {name: data for name, (_, data) in two.items()}


def test_a_machine_without_that_python_says_so(tmp_path: Path) -> None:
    with pytest.raises(BuilderNotReady, match=r"python 3\.99 cannot be made .* no CPython 3\.99") as caught:
        find_python("3.99", SubprocessRunner(), {"PATH": str(tmp_path)}, tmp_path)
    assert "byte_code" in str(caught.value.hint)


def test_what_calls_itself_that_python_and_is_none_is_not_used(tmp_path: Path) -> None:
    fake = tmp_path / "python3.99"
    fake.write_text("#!/bin/sh\necho 3.99.0 beta cpython-399\n")
    fake.chmod(0o755)
    with pytest.raises(BuilderNotReady):
        find_python("3.99", SubprocessRunner(), {"PATH": f"{tmp_path}:/bin"}, tmp_path)
    fake.write_text("#!/bin/sh\necho 3.99.1 final cpython-399\n")
    assert find_python("3.99", SubprocessRunner(), {"PATH": f"{tmp_path}:/bin"}, tmp_path).version == "3.99.1"


@pytest.mark.parametrize(("value", "want"), [(True, True), (False, False), ("yes", True)])
def test_the_option(value: object, want: bool) -> None:
    options, problems = parse({"byte_code": value}, {})
    assert (options.byte_code, problems) == (want, {})


def test_another_value_of_the_option_is_refused() -> None:
    _, problems = parse({"byte_code": 3}, {})
    assert problems == {"builder_options['byte_code']": "expected true or false, got 3"}
