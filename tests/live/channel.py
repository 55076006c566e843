"""A conda channel made here: packages written with tarfile, a stand-in python, an index, a server."""

from __future__ import annotations

import asyncio
import base64
import ensurepip
import hashlib
import io
import json
import sys
import tarfile
import threading
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import rattler.index

PLACEHOLDER = "/placehold_placehold_placehold_placehold"
RUNNING = ".".join(map(str, sys.version_info[:3]))
"""the version of the stand-in python: that of the interpreter which runs the tests"""
_MTIME = 1_600_000_000
_LEFT_OUT = frozenset({"__pycache__", "ensurepip", "idlelib", "site-packages", "test", "tests", "turtledemo"})


@dataclass(frozen=True)
class Package:
    """One package. A file's data is bytes, or text for the target of a link."""

    name: str
    version: str = "1.0"
    files: Mapping[str, bytes | str] = field(default_factory=dict)
    depends: tuple[str, ...] = ()
    subdir: str = "linux-64"
    noarch: str | None = None
    entry_points: tuple[str, ...] = ()
    placeholders: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """file -> (the prefix written in it, ``text`` or ``binary``)"""

    @property
    def build(self) -> str:
        return "py_0" if self.noarch else "0"


def write(channel: Path, package: Package) -> Path:
    """The package as a file of the channel; ``index`` makes it known."""
    folder = channel / ("noarch" if package.noarch else package.subdir)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{package.name}-{package.version}-{package.build}.tar.bz2"
    with tarfile.open(file, "w:bz2", compresslevel=1) as archive:
        for name, data in {**package.files, **_info(package)}.items():
            entry = tarfile.TarInfo(name)
            entry.mtime = _MTIME
            if isinstance(data, str):
                entry.type, entry.linkname = tarfile.SYMTYPE, data
                archive.addfile(entry)
            else:
                # group-writable, as many real packages are
                entry.size, entry.mode = len(data), 0o775 if "bin/" in name else 0o664
                archive.addfile(entry, io.BytesIO(data))
    return file


def index(channel: Path) -> Path:
    """Write the channel's repodata."""
    (channel / "noarch").mkdir(parents=True, exist_ok=True)
    asyncio.run(rattler.index.index_fs(channel))
    return channel


def _info(package: Package) -> dict[str, bytes]:
    described = {
        "name": package.name,
        "version": package.version,
        "build": package.build,
        "build_number": 0,
        "depends": list(package.depends),
        "subdir": "noarch" if package.noarch else package.subdir,
        "timestamp": 1_600_000_000_000,
    }
    if package.noarch:
        described["noarch"] = package.noarch
    paths = []
    for name, data in package.files.items():
        body = data.encode() if isinstance(data, str) else data
        entry: dict[str, object] = {
            "_path": name,
            "path_type": "softlink" if isinstance(data, str) else "hardlink",
            "sha256": hashlib.sha256(body).hexdigest(),
            "size_in_bytes": len(body),
        }
        if name in package.placeholders:
            entry["prefix_placeholder"], entry["file_mode"] = package.placeholders[name]
        paths.append(entry)
    info: dict[str, object] = {
        "info/index.json": described,
        "info/paths.json": {"paths": paths, "paths_version": 1},
    }
    if package.noarch == "python":
        info["info/link.json"] = {
            "noarch": {"type": "python", "entry_points": list(package.entry_points)},
            "package_metadata_version": 1,
        }
    texts = {name: json.dumps(data).encode() for name, data in info.items()}
    return {**texts, "info/files": "".join(f"{name}\n" for name in package.files).encode()}


@cache
def python() -> Package:
    """The running interpreter and its standard library, as a relocatable package."""
    prefix, minor = Path(sys.base_prefix), f"{sys.version_info[0]}.{sys.version_info[1]}"
    files: dict[str, bytes | str] = {
        f"bin/python{minor}": (prefix / "bin" / f"python{minor}").read_bytes(),
        "bin/python": f"python{minor}",
        "bin/python3": f"python{minor}",
    }
    for library in sorted((prefix / "lib").glob(f"libpython{minor}.so*")):
        if not library.is_symlink():
            files[f"lib/{library.name}"] = library.read_bytes()
    top = prefix / "lib" / f"python{minor}"
    for path in sorted(top.rglob("*")):
        inner = path.relative_to(top)
        if (
            path.is_file()
            and not _LEFT_OUT.intersection(inner.parts)
            and not inner.parts[0].startswith("config-")
        ):
            files[f"lib/python{minor}/{inner.as_posix()}"] = path.read_bytes()
    # where the interpreter finds its library; a shorter prefix has no room for the new one, nor needs it.
    # Not in the library itself: a linker may keep the version as the tail of the prefix
    fits = len(str(prefix)) >= len("/opt/conda")
    placeholders = {f"bin/python{minor}": (str(prefix), "binary")} if fits else {}
    return Package("python", RUNNING, files, placeholders=placeholders)


@cache
def pip() -> Package:
    """The pip that the running interpreter bundles."""
    (wheel,) = (Path(ensurepip.__file__).parent / "_bundled").glob("pip-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        files: dict[str, bytes | str] = {
            f"site-packages/{name}": archive.read(name)
            for name in archive.namelist()
            if not name.endswith("/")
        }
    return Package("pip", wheel.name.split("-")[1], files, ("python",), noarch="python",
                   entry_points=("pip = pip._internal.cli.main:main",))  # fmt: skip


def module(name: str, version: str = "1.0", depends: tuple[str, ...] = ("python",)) -> Package:
    """A noarch package: a module of that name and a console script that says its version."""
    text = f"VERSION = {version!r}\n\n\ndef main():\n    print('{name}', VERSION)\n"
    files = {f"site-packages/{name}.py": text.encode()}
    return Package(name, version, files, depends, noarch="python", entry_points=(f"{name} = {name}:main",))


def tool(name: str, version: str = "1.0", **more: object) -> Package:
    """A package for one platform: a script that knows where it stands."""
    file = f"bin/{name}"
    text = f"#!/bin/sh\necho {name} {version} in {PLACEHOLDER}\n".encode()
    return Package(name, version, {file: text}, placeholders={file: (PLACEHOLDER, "text")}, **more)  # type: ignore[arg-type]


def make(folder: Path, *packages: Package) -> Path:
    """A channel of these packages."""
    for package in packages:
        write(folder, package)
    return index(folder)


@contextmanager
def serve(channel: Path, login: str | None = None, token: str | None = None) -> Iterator[str]:
    """Serves it at the yielded ``host:port`` as ``/channel``, or ``/t/TOKEN/channel``.

    ``login`` is ``user:password``.
    """
    wanted = f"Basic {base64.b64encode(login.encode()).decode()}" if login else None

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            if wanted and self.headers.get("Authorization") != wanted:
                self.send_response(401)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            start = f"/t/{token}/channel/" if token else "/channel/"
            if not self.path.startswith(start):
                self.send_error(404)
                return
            self.path = "/" + self.path.removeprefix(start)
            super().do_GET()

        def send_error(self, *arguments: Any) -> None:
            with suppress(BrokenPipeError):  # the client knows enough by the status
                super().send_error(*arguments)

        do_HEAD = do_GET  # noqa: N815 - the names that http.server calls

        def log_message(self, format: str, *arguments: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), lambda *args: Handler(*args, directory=str(channel)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
