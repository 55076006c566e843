"""The process itself: one job, given as the path of a JSON file, and lines about it on its output."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

from imagesmith_oci.inside import linux
from imagesmith_oci.inside.capture import capture
from imagesmith_oci.inside.layers import Layers
from imagesmith_oci.inside.probe import probe
from imagesmith_oci.inside.space import SpaceError, enter
from imagesmith_oci.inside.steps import Say, run
from imagesmith_oci.inside.unpack import LayerError

__all__ = ["main"]


class _EndedError(BaseException):
    """Somebody wants this to end, or started it and is gone."""


def main() -> NoReturn:
    """Do the job; the exit code is 0 when it was done, whatever the answer is."""
    os.umask(0o022)
    path = Path(sys.argv[1])
    job = json.loads(path.read_text(encoding="utf-8", errors="surrogateescape"))
    path.unlink()  # it may hold what commands are told and nobody else
    say = Say(job["token"])
    own = f"{job['folder']}/own"
    gone = [own, f"{job['folder']}/layers"]  # the latter are for one build, unpacked before it is run
    code = 0
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, _end)
        enter(job["ids"])
        linux.die_with_parent(signal.SIGTERM)
        if os.getppid() != job["parent"]:
            _end(0, None)
        os.mkdir(own, 0o700)
        Layers(job["cache"]).sweep()
        done = _do(job, own, say)
        if job["task"] == "unpack":
            gone.pop()
        say(**done)
    except SpaceError as error:
        say(failed=error.step, text=str(error), number=error.number)
    except LayerError as error:
        say(failed="layer", text=str(error), number=0)
    except OSError as error:
        say(failed="files", text=str(error), number=error.errno or 0)
    except _EndedError:
        code = 130
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        if os.getppid() != job["parent"]:
            gone.append(job["folder"])
        for folder in gone:
            shutil.rmtree(folder, ignore_errors=True)
    os._exit(code)


def _end(_number: int, _frame: object) -> None:
    raise _EndedError


def _do(job: dict[str, Any], own: str, say: Say) -> dict[str, Any]:
    if job["task"] == "probe":
        return probe(job, own, say)
    layers = Layers(job["cache"])
    if job["task"] == "unpack":
        for layer in job["layers"]:
            layers.unpack(layer["tar"], layer["place"], own)
        return {"done": True}
    start, code = _run(job, own, say)
    if code:
        return {"done": False}
    return {"done": True, **_capture(job, own, layers, start)}


def _run(job: dict[str, Any], own: str, say: Say) -> tuple[int, int]:
    """The time before it began, and its exit code."""
    start = _now(own)
    child = run(own, job["lowers"], job["steps"], f"{job['cache']}/kept", say)
    try:
        _, status = os.waitpid(child, 0)
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise
    return start, os.waitstatus_to_exitcode(status)


def _now(folder: str) -> int:
    """By the clock that files get their times from, which lags behind the precise one."""
    file = Path(folder, "now")
    file.touch()
    return file.stat().st_mtime_ns


def _capture(job: dict[str, Any], own: str, layers: Layers, start: int) -> dict[str, Any]:
    with open(job["into"], "wb") as target:
        layer = capture(f"{own}/upper", job["lowers"], target, start=start, time=job["time"])
    if layer.entries:
        layers.take_over(f"{own}/upper", f"sha256:{layer.sha256}")
    return {"sha256": layer.sha256, "size": layer.size, "entries": layer.entries}
