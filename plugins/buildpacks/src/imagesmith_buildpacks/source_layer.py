"""The layer above what buildpacks made: work directory, the core's own modules, source and copied files.

A lifecycle gives all files of an application to one user and the folder to another than the program's;
so these come as a layer of their own, which the core's store takes as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from imagesmith import final_user
from imagesmith.tarball import LayerSink, TarWriter, compressor, write_tree

if TYPE_CHECKING:
    from pathlib import Path

    from imagesmith import BuildRequest
    from imagesmith.stores import LayerFile

__all__ = ["RUNTIME", "work_owner", "write"]

RUNTIME = "/opt/imagesmith"
_COMPRESSION = "gzip"


def work_owner(request: BuildRequest) -> str:
    """The user that the work directory belongs to, as the configuration names it."""
    return final_user(request).partition(":")[0]


def write(request: BuildRequest, path: Path, uid: int, *, files: bool) -> LayerFile:
    """Write the layer to ``path``. Raises OSError.

    Args:
        request: what was asked for.
        path: a file that need not exist.
        uid: owns the work directory.
        files: whether the work directory's files are in it; else the core adds them.
    """
    staged = request.staged
    if staged.folder is None:
        raise ValueError("this plan was made for showing: its files are only listed")
    workdir, runtime = request.spec.workdir_or_default.strip("/"), RUNTIME.strip("/")
    above = tuple(filter(None, (each.rpartition("/")[0] for each in (workdir, runtime))))
    with path.open("wb") as file:
        sink = LayerSink(file.write, compressor(_COMPRESSION))
        archive = TarWriter(sink.write, above)
        archive.folder(workdir, 0o775, uid, 0)
        if staged.has_source and files:
            write_tree(archive, staged.folder / "source", workdir)
        if staged.has_runtime:
            archive.folder(runtime)
            write_tree(archive, staged.folder / "runtime", runtime)
        archive.close()
        return sink.close(path, _COMPRESSION)
