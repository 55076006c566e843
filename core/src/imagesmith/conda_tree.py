"""A laid-out conda environment made the same on every machine: records, modes, times.

Most of its files are hard links into the package cache: their content is never touched, and what is set
here (mode, time) is the same for all that share them.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from typing import TYPE_CHECKING, Any

from imagesmith._contents import settle_folders

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["link_scripts", "settle"]

_TIME = 315_619_200
"""1980-01-02, for what has no time of its own"""
_SECOND = 10**9
_OF_THE_INSTALLER = ("CACHEDIR.TAG",)
_VOLATILE = ("indexed_timestamp", "package_tarball_full_path", "requested_spec", "requested_specs")
"""keys of a record that say when and how it was asked for, not what it is"""


def settle(folder: Path, prefix: str, shown: Mapping[str, str]) -> None:
    """Make the environment in ``folder``, laid out for ``prefix``, equal to what other machines lay out.

    ``shown``: address of a channel -> the one that the records name. Raises OSError.
    """
    for name in _OF_THE_INSTALLER:
        (folder / name).unlink(missing_ok=True)
    digests: dict[str, str] = {}
    original: set[str] = set()
    for file in sorted((folder / "conda-meta").glob("*.json")):
        record = json.loads(file.read_text(encoding="utf-8"))
        for path in record.get("paths_data", {}).get("paths", ()):
            name = path["_path"]
            if digest := path.get("sha256_in_prefix") or path.get("sha256"):
                digests[name] = digest
            if path.get("path_type") == "hardlink" and not path.get("sha256_in_prefix"):
                original.add(name)
        text = json.dumps(_public(record, prefix, shown), indent=2, sort_keys=True) + "\n"
        file.unlink()
        file.write_text(text, encoding="utf-8")
    top = os.fspath(folder)
    for parent, folders, files in os.walk(top):
        for name in folders:
            path = os.path.join(parent, name)  # noqa: PTH118 - there may be 100,000 of them
            if os.path.islink(path):  # noqa: PTH114
                os.utime(path, (_TIME, _TIME), follow_symlinks=False)
            else:
                os.chmod(path, 0o755)  # noqa: PTH101, S103 - for every user, as all of the image
        for name in files:
            path = os.path.join(parent, name)  # noqa: PTH118
            inner = os.path.relpath(path, top)
            _settle_file(path, digests.get(inner), keep_time=inner in original)
    folder.chmod(0o755)
    settle_folders(folder)


def link_scripts(folder: Path) -> list[str]:
    """The packages that bring a script to be run when they are installed, which it is not."""
    found = [*(folder / "bin").glob(".*-post-link.sh"), *(folder / "bin").glob(".*-pre-link.sh")]
    return sorted({file.name[1:].rsplit("-", 2)[0] for file in found})


def _settle_file(path: str, digest: str | None, *, keep_time: bool) -> None:
    """A file's time keeps its seconds where compiled python modules in the package rely on them. The part
    below a second is the content's: an engine takes a file of equal size and time for the one it has."""
    info = os.lstat(path)
    if stat.S_ISLNK(info.st_mode):
        os.utime(path, (_TIME, _TIME), follow_symlinks=False)
        return
    mode = 0o755 if info.st_mode & stat.S_IXUSR else 0o644
    if stat.S_IMODE(info.st_mode) != mode:
        os.chmod(path, mode)  # noqa: PTH101
    if digest is None:
        with open(path, "rb") as opened:  # noqa: PTH123
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
    seconds = int(info.st_mtime) if keep_time else _TIME
    time = seconds * _SECOND + int(digest, 16) % _SECOND
    if info.st_mtime_ns != time:
        os.utime(path, ns=(time, time))


def _public(record: dict[str, Any], prefix: str, shown: Mapping[str, str]) -> dict[str, Any]:
    """The record without addresses and folders of this machine."""
    package = record["fn"].removesuffix(".conda").removesuffix(".tar.bz2")
    cached = f"{prefix}/pkgs/{package}"
    public = {key: value for key, value in record.items() if key not in _VOLATILE}
    channel, url = str(record.get("channel") or "").rstrip("/"), str(record["url"])
    known = max((each for each in shown if url.startswith(f"{each}/")), key=len, default=None)
    if known is not None:
        public["url"] = shown[known] + url.removeprefix(known)
        public["channel"] = shown[known] if channel else record.get("channel")
    public["extracted_package_dir"] = cached
    public["link"] = {"source": cached, "type": 1}
    public["files"] = sorted(record.get("files", ()))
    if data := record.get("paths_data"):
        public["paths_data"] = {**data, "paths": sorted(data["paths"], key=lambda path: str(path["_path"]))}
    return public
