"""Archives that an engine or a registry unpacks: equal files give equal bytes."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

__all__ = ["Owner", "add_folder", "add_text", "add_tree", "of_texts", "unpacked"]


@dataclass(frozen=True, slots=True)
class Owner:
    """Numbers, for names mean nothing in another image."""

    uid: int = 0
    gid: int = 0


ROOT = Owner()


def of_texts(texts: Mapping[str, str | bytes], owner: Owner = ROOT, *, mode: int = 0o644) -> bytes:
    """An archive of these files, by path; their folders come before them."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for folder in _parents(texts):
            add_folder(archive, folder, owner)
        for path, text in sorted(texts.items()):
            add_text(archive, path, text, owner, mode=mode)
    return buffer.getvalue()


def add_text(
    archive: tarfile.TarFile, path: str, text: str | bytes, owner: Owner = ROOT, *, mode: int = 0o644
) -> None:
    """One file."""
    data = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
    entry = _entry(path, owner, mode)
    entry.size = len(data)
    archive.addfile(entry, io.BytesIO(data))


def add_folder(archive: tarfile.TarFile, path: str, owner: Owner = ROOT, *, mode: int = 0o755) -> None:
    """One folder, without what is in it."""
    entry = _entry(path, owner, mode)
    entry.type = tarfile.DIRTYPE
    archive.addfile(entry)


def add_tree(
    archive: tarfile.TarFile, source: Path, target: str, owner: Owner = ROOT, *, programs: str | None = None
) -> None:
    """All that lies in a folder: files 0644 or 0755, links as they are.

    ``programs``: a folder in it whose files can be executed, whatever the disk says: installers lose that.
    """
    for path, info in _walk(source):
        name = f"{target}/{path}" if target else path
        place = os.path.join(os.fsencode(source), os.fsencode(path))  # noqa: PTH118 - names of any bytes
        executable = info.st_mode & 0o100 or (programs is not None and path.startswith(f"{programs}/"))
        entry = _entry(name, owner, 0o755 if executable else 0o644)
        if stat.S_ISLNK(info.st_mode):
            entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, os.fsdecode(os.readlink(place)), 0o777  # noqa: PTH115
            archive.addfile(entry)
        elif stat.S_ISDIR(info.st_mode):
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(entry)
        elif stat.S_ISREG(info.st_mode):
            with open(place, "rb") as file:  # noqa: PTH123
                entry.size = os.fstat(file.fileno()).st_size
                archive.addfile(entry, file)


def unpacked(archive: IO[bytes]) -> dict[str, bytes]:
    """Path -> content of the regular files in a small archive; folders end in ``/`` and are empty."""
    found = {}
    with tarfile.open(fileobj=archive) as opened:
        for entry in opened:
            if entry.isfile() and (file := opened.extractfile(entry)) is not None:
                found[entry.name] = file.read()
            elif entry.isdir():
                found[entry.name.rstrip("/") + "/"] = b""
    return found


def _entry(path: str, owner: Owner, mode: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(path)
    entry.uid, entry.gid, entry.mode, entry.mtime = owner.uid, owner.gid, mode, 0
    return entry


def _parents(paths: Iterable[str]) -> list[str]:
    found = set[str]()
    for path in paths:
        parts = path.split("/")[:-1]
        found.update("/".join(parts[: n + 1]) for n in range(len(parts)))
    return sorted(found - {"", "."})


def _walk(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Path relative to ``folder`` and what it is, folders before what is in them, in one order everywhere."""
    top = os.fspath(folder)
    waiting = [""]
    while waiting:
        path = waiting.pop()
        if path:
            info = os.lstat(os.path.join(top, path))  # noqa: PTH118
            yield path, info
            if not stat.S_ISDIR(info.st_mode):
                continue
        names = sorted(os.listdir(os.path.join(top, path)), reverse=True)  # noqa: PTH118, PTH208
        waiting += [f"{path}/{name}" if path else name for name in names]
