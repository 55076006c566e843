"""Progress on stderr, and processes that say what they were doing when they fail."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

TAIL = 4000  # characters of a failed command's output that are shown


class RigError(Exception):
    """The rig cannot come up; the message says what to do next."""


def say(text: str) -> None:
    """One line of progress."""
    sys.stderr.write(f"rig: {text}\n")
    sys.stderr.flush()


@contextlib.contextmanager
def part(name: str) -> Iterator[None]:
    """Say what was done and how many seconds it took."""
    begun = time.monotonic()
    try:
        yield
    except BaseException:
        say(f"{name}: FAILED after {time.monotonic() - begun:.1f} s")
        raise
    say(f"{name}: {time.monotonic() - begun:.1f} s")


def run(
    argv: Sequence[str | os.PathLike[str]],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: str | None = None,
    timeout: float = 900,
) -> str:
    """Run to the end and return stdout; ``env`` is added to our own.

    Raises:
        RigError: the command is missing, timed out or failed; holds the end of its output.
    """
    words = [os.fspath(word) for word in argv]
    try:
        done = subprocess.run(
            words,
            env={**os.environ, **(env or {})},
            cwd=cwd,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )
    except FileNotFoundError as error:
        raise RigError(f"cannot run {words[0]}: {error}") from error
    except subprocess.TimeoutExpired as error:
        raise RigError(f"{words[0]}: no end after {timeout:.0f} s: {' '.join(words)}") from error
    if done.returncode:
        output = (done.stdout + done.stderr)[-TAIL:].strip()
        raise RigError(f"exit code {done.returncode} from {' '.join(words)}\n{output}")
    return done.stdout
