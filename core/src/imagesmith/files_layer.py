"""The files of the work directory as a layer, for builders that leave them to the core."""

from __future__ import annotations

import hashlib
import json
import os
from functools import partial
from typing import TYPE_CHECKING, BinaryIO

from imagesmith.authoring import final_user
from imagesmith.builder import LocalEngine
from imagesmith.events import Message
from imagesmith.tarball import EXECUTABLE, PLAIN, LayerSink, TarWriter, compressor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from imagesmith.builder import BuildPlan, BuildRequest
    from imagesmith.events import Reporter
    from imagesmith.sources import Staged
    from imagesmith.stores import LayerFile, StoredImage

__all__ = ["can_be_apart", "solve", "write_files", "write_source"]

_WORKDIR_MODE = 0o775


def can_be_apart(request: BuildRequest) -> bool:
    """Whether the files can be put over the rest, as far as the request tells: there are any, no command
    sees them, and the owner of the work directory can be told."""
    return request.staged.has_source and not request.spec.commands and _user(request) is not None


def solve(plan: BuildPlan, cache: Path, report: Reporter, once: Callable[[bool], bool]) -> bool:
    """Build without the files if the plan says so, and with them where the work directory proves not bare.

    That is remembered for this base.

    Args:
        plan: what is to be done.
        cache: a folder of the builder's own.
        report: is told when the files have to be copied after all.
        once: builds; told True to leave the files out and to run ``scripts.bare_work_directory`` in the
            image, and False is its answer where that (and nothing else) failed.

    Returns:
        Whether they were left out: ``Built.lacks_files``.
    """
    crowded = _crowded(plan.request, cache)
    if plan.files_apart and not crowded.exists():
        if once(True):
            return True
        report(Message("the work directory is not bare: the files are copied while building"))
        crowded.parent.mkdir(parents=True, exist_ok=True)
        crowded.touch()
    once(False)
    return False


def _crowded(request: BuildRequest, cache: Path) -> Path:
    what = [request.base.reference, request.base.digest, request.spec.workdir_or_default]
    return cache / "crowded" / hashlib.sha256(json.dumps(what).encode()).hexdigest()[:40]


def _user(request: BuildRequest) -> int | None:
    """The number of the final user; None where only the image's own files tell it."""
    name = final_user(request).partition(":")[0]
    if name.isascii() and name.isdecimal():
        return int(name)
    return 0 if name == "root" else None


def write_files(request: BuildRequest, image: StoredImage, path: Path) -> LayerFile:
    """Write the layer to ``path``, compressed as the image's last layer is; for an engine not at all.

    Raises:
        SourceError: a file cannot be read, or is not what it was.
        OSError: ``path`` cannot be written.
    """
    staged, user = request.staged, _user(request)
    if not staged.origins or user is None:
        raise ValueError("this plan leaves nothing to the core")
    engine = isinstance(request.destination, LocalEngine)
    compression = "" if engine else _compression(image.manifest or {})
    top = request.spec.workdir_or_default.strip("/")
    above = top.rpartition("/")[0]
    with path.open("wb") as file:
        sink = LayerSink(file.write, compressor(compression))
        tar = TarWriter(sink.write, (above,) if above else ())
        tar.folder(top, _WORKDIR_MODE, user, 0)
        write_source(tar, staged, top)
        tar.close()
        return sink.close(path, compression)


def write_source(
    tar: TarWriter,
    staged: Staged,
    top: str,
    *,
    real: Callable[[str], str] = lambda path: path,
    folder: Callable[[str], None] | None = None,
) -> None:
    """The staged files of the work directory, from wherever they lie.

    Args:
        tar: gets the entries, in an order that no file system decides.
        staged: what was staged.
        top: the work directory, without slashes at its ends; it is not described.
        real: where a file really comes to stand.
        folder: describes a folder; unset: as a new one.

    Raises:
        SourceError: a file cannot be read, or is not what it was.
        OSError: the archive cannot be written.
    """
    describe = folder or tar.folder
    for name in sorted(staged.origins, key=lambda name: [os.fsencode(part) for part in name.split("/")]):
        target = f"{top}/{name.partition('/')[2]}".lstrip("/")
        match staged.digests[name].partition(":")[0]:
            case "dir":
                describe(target)
            case "link":
                tar.link(real(target), staged.link(name))
            case _:
                staged.read(name, partial(_write_stream, tar, real(target)))


def _write_stream(tar: TarWriter, target: str, stream: BinaryIO, size: int, executable: bool) -> None:
    tar.stream(target, stream, size, EXECUTABLE if executable else PLAIN)


def _compression(manifest: Mapping[str, object]) -> str:
    layers = manifest.get("layers")
    last = layers[-1] if isinstance(layers, list | tuple) and layers else {}
    return "zstd" if str(last.get("mediaType")).endswith(("+zstd", ".zstd")) and _zstandard() else "gzip"


def _zstandard() -> bool:
    import importlib.util  # noqa: PLC0415

    return importlib.util.find_spec("zstandard") is not None
