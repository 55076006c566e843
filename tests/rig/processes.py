"""Background processes of the rig: started, remembered by pid and start time, ended only if they are ours."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .console import RigError
from .state import cache, write_private

STOP_SECONDS = 30.0
POLL_SECONDS = 0.1


def start(
    name: str,
    argv: Sequence[str | os.PathLike[str]],
    *,
    ready: Callable[[], bool],
    seconds: float = 60,
    env: Mapping[str, str] | None = None,
) -> None:
    """Start in a session of its own, with its output in a log file, and wait until it answers.

    Raises:
        RigError: it ended or does not answer in time; holds the end of its log.
    """
    file = log(name)
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", encoding="utf-8") as output:
        process = subprocess.Popen(
            [os.fspath(word) for word in argv],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd="/",
            env={**os.environ, **(env or {})},
        )
    _record(
        name,
        {"pid": process.pid, "start": _start_time(process.pid), "argv": [os.fspath(word) for word in argv]},
    )
    deadline = time.monotonic() + seconds
    while not ready():
        if process.poll() is not None:
            _record(name, None)
            raise RigError(
                f"{name} ended with exit code {process.returncode}; its log {file} ends:\n{tail(file)}"
            )
        if time.monotonic() > deadline:
            stop(name)
            raise RigError(
                f"{name} does not answer after {seconds:.0f} s; its log {file} ends:\n{tail(file)}"
            )
        time.sleep(POLL_SECONDS)
    process.returncode = 0  # it goes on after us: no warning about a child that still runs


def log(name: str) -> Path:
    """Return the file that holds what it says."""
    return cache() / "logs" / f"{name}.log"


def alive(name: str) -> bool:
    """Tell whether the process that we started under this name still runs."""
    record = _records().get(name)
    return record is not None and _start_time(record["pid"]) == record["start"]


def pid(name: str) -> int | None:
    """Return the pid of a live process of ours."""
    return int(_records()[name]["pid"]) if alive(name) else None


def stop(name: str) -> None:
    """End it: TERM, and KILL to its group after a while. Does nothing where it is not ours or has ended."""
    record = _records().get(name)
    if record is None:
        return
    if alive(name):
        os.kill(record["pid"], signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while alive(name) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        if alive(name):
            os.killpg(record["pid"], signal.SIGKILL)
    _record(name, None)


def _start_time(process: int) -> int | None:
    """Return field 22 of /proc/PID/stat (clock ticks since boot), None for a dead or zombie process."""
    try:
        text = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] == "Z" else int(fields[19])


def _path() -> Path:
    return cache() / "processes.json"


def _records() -> dict[str, dict[str, Any]]:
    try:
        records: dict[str, dict[str, Any]] = json.loads(_path().read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return records


def _record(name: str, value: dict[str, Any] | None) -> None:
    records = {key: record for key, record in _records().items() if key != name}
    if value is not None:
        records[name] = value
    write_private(_path(), json.dumps(records, indent=2) + "\n")


def tail(file: Path) -> str:
    """Return the end of a log."""
    return file.read_text(encoding="utf-8", errors="replace")[-2000:].strip()
