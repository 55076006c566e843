"""What may come after the rest: a process of its own makes it while the first tests run.

It is what is emulated, and so slow: the images for linux/arm64. Whoever reads their names in the state waits.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Collection
from pathlib import Path

from . import arm64, bases, cnb, cnb_multi, images, processes, state

NAME = "later"
ROOT = Path(__file__).parents[2]
SECONDS = 1500.0
POLL_SECONDS = 0.3


def start(parts: Collection[str]) -> None:
    """Begin; where it runs already, or all is there, nothing is made twice."""
    if processes.alive(NAME):
        return
    _done().unlink(missing_ok=True)
    argv = [sys.executable, "-m", "tests.rig", NAME, *(f"--with={part}" for part in parts)]
    processes.start(NAME, argv, ready=lambda: True, env={"PYTHONPATH": str(ROOT)})


def work(parts: Collection[str]) -> None:
    """Make it: what that process does. What needs the engine comes when the rest of the rig is up."""
    bases.tar(bases.BOOKWORM_ARM64)
    with state.lock():
        rig = state.load()
    publisher = images.Publisher(rig.docker_host, rig.registry, rig.registry_tls)
    arm64.publish(publisher)
    if cnb.PART in parts and rig.cnb and rig.cnb.run:
        cnb.lifecycle(cnb_multi.ARCHITECTURE)
        cnb_multi.publish(publisher)
    _done().touch()


def wait() -> None:
    """Return when it is there.

    Raises:
        RigDownError: it failed; holds the end of its log.
    """
    deadline = time.monotonic() + SECONDS
    while not _done().exists():
        if not processes.alive(NAME) and not _done().exists():
            log = processes.log(NAME)
            told = processes.tail(log) if log.exists() else ""
            raise state.RigDownError(
                "no images for arm64: making them failed, or was ended; "
                f"do it again: {state.UP} --with arm64; the log {log} ends:\n{told}"
            )
        if time.monotonic() > deadline:
            raise state.RigDownError(f"no images for arm64 after {SECONDS:.0f} s: see {processes.log(NAME)}")
        time.sleep(POLL_SECONDS)


def stop() -> None:
    """End it, and what it started."""
    number = processes.pid(NAME)
    if number is not None:
        os.killpg(number, signal.SIGTERM)  # it leads a group of its own
    processes.stop(NAME)


def _done() -> Path:
    return state.cache() / "later.done"
