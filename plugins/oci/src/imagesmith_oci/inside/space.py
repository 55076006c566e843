"""Enter namespaces in which this process is root, over the ids that it was lent."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from imagesmith_oci.inside import linux

__all__ = ["SpaceError", "enter"]

Range = Sequence[int]
"""An id inside, the id outside that it stands for, and how many follow."""


class SpaceError(Exception):
    """It cannot be entered: the step that failed, and the error number (0 where there is none)."""

    def __init__(self, step: str, number: int, text: str) -> None:
        super().__init__(text)
        self.step = step
        self.number = number


def enter(ids: Mapping[str, Any]) -> None:
    """A mount namespace, and a user namespace where ``ids`` wants one.

    ``ids``: ``kind`` is ``root`` (none is wanted), ``same`` (root maps its own ids) or ``lent`` (by
    ``mappers``, the paths of newuidmap and newgidmap); ``uids`` and ``gids`` are lists of ranges.

    Raises:
        SpaceError: this host does not let it.
    """
    if ids["kind"] == "root":
        _try("mounts", linux.NEWNS)
    else:
        _enter_user(ids)
    try:
        linux.mount("none", "/", None, linux.REC | linux.PRIVATE)
    except OSError as error:
        raise SpaceError("mounts", error.errno or 0, str(error)) from error


def _try(step: str, flags: int) -> None:
    try:
        linux.unshare(flags)
    except OSError as error:
        raise SpaceError(step, error.errno or 0, str(error)) from error


def _enter_user(ids: Mapping[str, Any]) -> None:
    """Who maps ids must stand outside: a child that stays there does it once this process has left."""
    ready, left = os.pipe()
    answer, said = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(left)
        text = "the child that maps ids ended early"
        with contextlib.suppress(BaseException):
            if os.read(ready, 1):
                text = _map_ids(os.getppid(), ids)
        os.write(said, text.encode(errors="replace"))
        os._exit(0)
    os.close(ready)
    os.close(said)
    try:
        _try("user", linux.NEWUSER | linux.NEWNS)
        os.write(left, b".")
        text = b"".join(iter(lambda: os.read(answer, 65536), b"")).decode()
    finally:
        os.close(left)
        os.close(answer)
        os.waitpid(child, 0)
    if text:
        raise SpaceError("ids", 0, text)
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def _map_ids(pid: int, ids: Mapping[str, Any]) -> str:
    """Empty, or what went wrong."""
    for kind, mapper in zip(("uid", "gid"), ids.get("mappers") or (None, None), strict=True):
        ranges: Sequence[Range] = ids[f"{kind}s"]
        if mapper is None:
            lines = "".join(f"{' '.join(map(str, each))}\n" for each in ranges)
            try:
                Path(f"/proc/{pid}/{kind}_map").write_text(lines, encoding="ascii")
            except OSError as error:
                return f"{kind}_map: {error}"
            continue
        argv = [mapper, str(pid), *(str(number) for each in ranges for number in each)]
        done = subprocess.run(argv, capture_output=True, text=True, errors="replace", check=False)
        if done.returncode:
            said = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
            return f"{Path(mapper).name}: {said.removeprefix(f'{Path(mapper).name}: ')}"
    return ""
