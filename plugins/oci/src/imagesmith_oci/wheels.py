"""A wheel as entries of an archive, as an installer would lay it out: scripts, data folders, RECORD.

PyPA's ``installer`` does the same for files on a disk; it hashes every file anew and does not tell sizes
before contents, which an archive that is streamed needs.
"""

from __future__ import annotations

import base64
import contextlib
import csv
import hashlib
import io
import posixpath
import re
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, cast

from imagesmith.tarball import EXECUTABLE, PLAIN, TarWriter
from imagesmith_oci.bytecode import module_target

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from imagesmith_oci.bytecode import Compiler
    from imagesmith_oci.prefix import Prefix

__all__ = ["BadWheelError", "Laid", "lay_out", "write"]

_MADE = frozenset({"RECORD", "RECORD.jws", "RECORD.p7s", "INSTALLER", "REQUESTED", "direct_url.json"})
_SHEBANG = re.compile(rb"#!pythonw?[0-9.]*(?=[ \t\r\n]|\Z)")
_ENTRY = re.compile(r"(?P<module>[\w.]+)\s*(?::\s*(?P<attr>[\w.]+))?\s*(?:\[[^\]]*\])?\s*\Z")
_SCRIPT = """#!{python}
# -*- coding: utf-8 -*-
import re
import sys
from {module} import {name}
if __name__ == '__main__':
    sys.argv[0] = re.sub(r'(-script\\.pyw|\\.exe)?$', '', sys.argv[0])
    sys.exit({attr}())
"""
_MOST_SCRIPT = 1 << 24
"""bytes of a script that is looked at; a larger one is a program"""


class BadWheelError(Exception):
    """It cannot be installed; the text says why."""


@dataclass(frozen=True, slots=True)
class _Item:
    """One file: of the wheel (``member``), or made (``data``)."""

    mode: int
    member: zipfile.ZipInfo | None = None
    data: bytes = b""
    compiled: bool = False
    """whether the member is of the archive of byte code"""


@dataclass(frozen=True, slots=True)
class Laid:
    """The files of one wheel, by path in the archive."""

    wheel: Path
    items: dict[str, _Item]
    byte_code: Path | None = None


def lay_out(
    wheel: Path, prefix: Prefix, direct_url: str | None = None, compiler: Compiler | None = None
) -> Laid:
    """What goes where.

    Args:
        wheel: the wheel.
        prefix: where to.
        direct_url: the text of direct_url.json, where it was asked for by address.
        compiler: makes the byte code, where it is asked for.

    Raises:
        BadWheelError: it is none, or one that no installer takes.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            byte_code = _Compiled(wheel, compiler) if compiler else None
            items = _items(archive, prefix, direct_url, byte_code)
            return Laid(wheel, items, byte_code.file if byte_code else None)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, UnicodeError, OSError, EOFError) as error:
        raise BadWheelError(f"{wheel.name} is damaged: {error}") from error


def write(tar: TarWriter, wheels: Sequence[Laid]) -> None:
    """Write them all; a file that several have is written once, as the last one has it.

    Raises:
        BadWheelError: what is in one of them is damaged.
    """
    last = {path: number for number, laid in enumerate(wheels) for path in laid.items}
    for number, laid in enumerate(wheels):
        try:
            with contextlib.ExitStack() as stack:
                archive = stack.enter_context(zipfile.ZipFile(laid.wheel))
                made = stack.enter_context(zipfile.ZipFile(laid.byte_code)) if laid.byte_code else archive
                for path, item in laid.items.items():
                    if last[path] != number:
                        continue
                    if item.member is None:
                        tar.data(path, item.data, item.mode)
                    else:
                        with (made if item.compiled else archive).open(item.member) as stream:
                            tar.stream(path, cast("BinaryIO", stream), item.member.file_size, item.mode)
        except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
            raise BadWheelError(f"{laid.wheel.name} is damaged: {error}") from error
        except Exception as error:
            if type(error).__module__ == "zlib":
                raise BadWheelError(f"{laid.wheel.name} is damaged: {error}") from error
            raise


class _Compiled:
    """The byte code of one wheel."""

    def __init__(self, wheel: Path, compiler: Compiler) -> None:
        self._wheel = wheel
        self._compiler = compiler
        self.file: Path | None = None

    def of(self, items: Mapping[str, _Item], site: str) -> Iterable[tuple[str, zipfile.ZipInfo]]:
        """Path and content for each module that can be compiled."""
        modules = {
            item.member.filename: path
            for path, item in items.items()
            if item.member is not None and path.startswith(f"{site}/") and path.endswith(".py")
        }
        if not modules:
            return
        named = [(name, f"/{path}") for name, path in modules.items()]
        self.file = self._compiler.compile(self._wheel, named)
        with zipfile.ZipFile(self.file) as made:
            for member in made.infolist():
                yield module_target(modules[member.filename], self._compiler.tag), member


def _items(
    archive: zipfile.ZipFile, prefix: Prefix, direct_url: str | None, byte_code: _Compiled | None
) -> dict[str, _Item]:
    members = [member for member in archive.infolist() if not member.is_dir()]
    info = _info_folder(archive, members)
    stem = info.removesuffix(".dist-info")
    distribution = stem.rpartition("-")[0] or stem
    recorded = _record(archive, info)
    items: dict[str, _Item] = {}
    rows: dict[str, tuple[str, str]] = {}

    def put(path: str, item: _Item, known: tuple[str, str] | None) -> None:
        items.pop(path, None)
        items[path] = item
        rows[path] = known or _row(item.data)

    for member in members:
        name = _checked(member.filename, archive.filename or "")
        folder, _, inner = name.partition("/")
        if folder == info and inner in _MADE:
            continue
        mode = EXECUTABLE if (member.external_attr >> 16) & 0o111 else PLAIN
        known = recorded.get(name, ("", ""))
        if folder != f"{stem}.data":
            put(f"{prefix.site}/{name}", _Item(mode, member), known)
            continue
        scheme, _, rest = inner.partition("/")
        target = prefix.folder(scheme, distribution)
        if target is None or not rest:
            raise BadWheelError(f"{archive.filename}: {name!r} is for a place that is unknown")
        script = _script(archive, member, prefix) if scheme == "scripts" else None
        if script is None:
            put(f"{target}/{rest}", _Item(EXECUTABLE if scheme == "scripts" else mode, member), known)
        else:
            put(f"{target}/{rest}", _Item(EXECUTABLE, data=script), None)
    for name, text in _entry_points(archive, info, prefix):
        put(f"{prefix.top}/bin/{name}", _Item(EXECUTABLE, data=text.encode()), None)
    put(f"{prefix.site}/{info}/INSTALLER", _Item(PLAIN, data=b"imagesmith\n"), None)
    if direct_url is not None:
        put(f"{prefix.site}/{info}/direct_url.json", _Item(PLAIN, data=direct_url.encode()), None)
    for path, member in list(byte_code.of(items, prefix.site)) if byte_code else ():
        put(path, _Item(PLAIN, member, compiled=True), ("", ""))
    record = f"{prefix.site}/{info}/RECORD"
    items[record] = _Item(PLAIN, data=_written(rows, record, prefix.site))
    return items


def _info_folder(archive: zipfile.ZipFile, members: Iterable[zipfile.ZipInfo]) -> str:
    found = {
        member.filename.partition("/")[0]
        for member in members
        if re.fullmatch(r"[^/]+\.dist-info/WHEEL", member.filename)
    }
    if len(found) != 1:
        raise BadWheelError(f"{archive.filename} is no wheel: it holds {len(found)} files *.dist-info/WHEEL")
    info = found.pop()
    stated = re.search(
        r"^Wheel-Version:\s*(\d+)", archive.read(f"{info}/WHEEL").decode(errors="replace"), re.MULTILINE
    )
    if stated is None or stated[1] != "1":
        raise BadWheelError(f"{archive.filename} is a wheel of version {stated and stated[1]}, not of 1")
    return info


def _checked(name: str, wheel: str) -> str:
    parts = name.split("/")
    if name.startswith("/") or "\\" in name or "\0" in name or any(part in {"", ".", ".."} for part in parts):
        raise BadWheelError(f"{wheel} holds {name!r}, which lies outside of it")
    return name


def _record(archive: zipfile.ZipFile, info: str) -> dict[str, tuple[str, str]]:
    try:
        text = archive.read(f"{info}/RECORD").decode()
    except KeyError:
        return {}
    return {row[0]: (row[1], row[2]) for row in csv.reader(io.StringIO(text)) if len(row) == 3}


def _row(data: bytes) -> tuple[str, str]:
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    return f"sha256={digest}", str(len(data))


def _written(rows: dict[str, tuple[str, str]], record: str, site: str) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for path, row in sorted({**rows, record: ("", "")}.items()):
        writer.writerow((posixpath.relpath(path, site), *row))
    return text.getvalue().encode()


def _script(archive: zipfile.ZipFile, member: zipfile.ZipInfo, prefix: Prefix) -> bytes | None:
    """The script with the image's python in its first line, arguments kept; None where it names none."""
    if member.file_size > _MOST_SCRIPT:
        return None
    with archive.open(member) as stream:
        found = _SHEBANG.match(stream.read(64))
    if found is None:
        return None
    return b"#!" + prefix.python.encode() + archive.read(member)[found.end() :]


def _entry_points(archive: zipfile.ZipFile, info: str, prefix: Prefix) -> Iterable[tuple[str, str]]:
    try:
        text = archive.read(f"{info}/entry_points.txt").decode()
    except KeyError:
        return
    import configparser  # noqa: PLC0415 - few wheels need it

    parser = configparser.ConfigParser(delimiters=("=",), interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    try:
        parser.read_string(text)
    except configparser.Error as error:
        raise BadWheelError(f"{archive.filename}: entry_points.txt cannot be read: {error}") from error
    for section in ("console_scripts", "gui_scripts"):
        for name, value in parser.items(section) if parser.has_section(section) else ():
            found = _ENTRY.match(value.strip())
            if found is None or not found["attr"] or "/" in name or name in {".", ".."}:
                raise BadWheelError(f"{archive.filename}: the script {name!r} = {value!r} is none")
            first = found["attr"].partition(".")[0]
            yield (
                name,
                _SCRIPT.format(python=prefix.python, module=found["module"], name=first, attr=found["attr"]),
            )
