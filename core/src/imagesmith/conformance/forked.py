"""Processes of their own for a check: copies of this one, so that builders given by hand work in them too."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import warnings
from typing import TYPE_CHECKING, Any

from imagesmith.conformance._catalogue import Skipped

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["run"]

_SECONDS = 300.0


def run(count: int, work: Callable[[], dict[str, Any]]) -> list[dict[str, Any]]:
    """What ``work`` returned in each of ``count`` processes at the same time: plain data.

    ``{"error": text}`` where it raised, or where the process ended without a word.

    Raises:
        Skipped: processes cannot be copied safely on this system.
    """
    if sys.platform != "linux":
        raise Skipped("processes are copied (fork) on Linux alone")
    children = [_start(work) for _ in range(count)]
    late = threading.Timer(_SECONDS, _end, [children])
    late.daemon = True
    late.start()
    told: list[dict[str, Any]] = []
    try:
        for _, reader in children:
            with os.fdopen(reader, "rb") as pipe:
                text = pipe.read()
            told.append(json.loads(text) if text else {"error": "its process ended without a word"})
    except BaseException:
        _end(children)
        raise
    finally:
        late.cancel()
        for pid, _ in children:
            os.waitpid(pid, 0)
    return told


def _end(children: list[tuple[int, int]]) -> None:
    for pid, _ in children:
        os.kill(pid, signal.SIGKILL)


def _start(work: Callable[[], dict[str, Any]]) -> tuple[int, int]:
    """The process, and the end of a pipe to read its answer from."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # other threads: they hold no lock of ours
        pid = os.fork()
    if pid:
        os.close(writer)
        return pid, reader
    told: dict[str, Any] = {"error": "interrupted"}
    try:
        told = work()
    except BaseException as error:  # noqa: BLE001 - told to the other side
        told = {"error": f"{type(error).__name__}: {error}"}
    finally:
        try:
            os.write(writer, json.dumps(told).encode()[:60_000])
        finally:
            os._exit(0)  # none of what this copy of the process would do at its end
