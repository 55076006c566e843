"""Wheels and layers to try things with."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import zipfile
from collections.abc import Mapping

from imagesmith.tarball import TarWriter


def wheel(
    name: str = "odd",
    files: Mapping[str, str | bytes] | None = None,
    *,
    executable: tuple[str, ...] = (),
    tag: str = "py3-none-any",
    version: str = "1.0",
) -> bytes:
    """A wheel with these files; those of its dist-info come by themselves unless they are given."""
    info = f"{name}-{version}.dist-info"
    held: dict[str, str | bytes] = {
        **(files or {f"{name}.py": "VERSION = 1\n"}),
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: {tag}\n",
        **{path: data for path, data in (files or {}).items() if path.startswith(info)},
    }
    record = ""
    for path, data in held.items():
        raw = data.encode() if isinstance(data, str) else data
        digest = base64.urlsafe_b64encode(hashlib.sha256(raw).digest()).rstrip(b"=").decode()
        shown = f'"{path}"' if "," in path else path
        record += f"{shown},sha256={digest},{len(raw)}\n"
    held[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in held.items():
            entry = zipfile.ZipInfo(path)
            entry.external_attr = (0o755 if path in executable else 0o644) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, data)
    return buffer.getvalue()


def layer(files: Mapping[str, bytes | str | None], *, packed: bool = True) -> io.BytesIO:
    """A layer of a base: bytes are a file, text is where a link leads, None is a folder."""
    pieces: list[bytes] = []
    archive = TarWriter(pieces.append)
    for path, what in files.items():
        if what is None:
            archive.folder(path)
        elif isinstance(what, str):
            archive.link(path, what)
        else:
            archive.data(path, what)
    archive.close()
    data = b"".join(pieces)
    return io.BytesIO(gzip.compress(data) if packed else data)
