"""Processes, injected: argv in, lines out, every secret cut, and nothing left running.

A builder gets a ``Runner`` in its ``Environment``; tests give it one that records.
"""

from __future__ import annotations

import codecs
import contextlib
import os
import selectors
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, Self, TypeAlias

from imagesmith._redaction import Redactor
from imagesmith.errors import ImagesmithError

__all__ = [
    "Completed",
    "OnLine",
    "Redactor",
    "Runner",
    "Stream",
    "SubprocessRunner",
    "ToolMissing",
    "ToolTimeout",
]

TAIL_LINES = 200
LINE_CHARACTERS = 8192
"""A longer line is cut there, where nothing else is said."""

_CHUNK = 65536
_POLL_SECONDS = 0.1
_CUT = " … (cut)"

Stream: TypeAlias = Literal["stdout", "stderr"]
OnLine: TypeAlias = Callable[[str, Stream], None]


class ToolMissing(ImagesmithError):
    """A program cannot be started: absent, not executable, or its working directory is gone."""

    exit_code = 3

    def __init__(self, message: str, *, tool: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.tool = tool


class ToolTimeout(ImagesmithError):
    """A process took longer than it was given; it was ended."""

    exit_code = 3


@dataclass(frozen=True, slots=True)
class Completed:
    """How a process ended. ``returncode`` is negative for a signal, as in ``subprocess``."""

    returncode: int
    tail: tuple[str, ...]
    """the last lines of both streams, secrets cut"""
    seconds: float


class Runner(Protocol):
    """Starts processes for a builder."""

    def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        on_line: OnLine,
        redact: Collection[str] = (),
        timeout: float | None = None,
        line_limit: int = LINE_CHARACTERS,
    ) -> Completed:
        """Run it to its end.

        Args:
            argv: program and arguments; no shell reads them.
            env: the complete environment; its PATH finds the program.
            cwd: the working directory.
            on_line: is called with each line (no line end) as it comes, in the caller's thread.
            redact: secret values; each is cut from every line before anything sees it.
            timeout: in seconds; None waits as long as it takes.
            line_limit: a longer line is cut there; more than the usual is for output that programs read.

        Raises:
            ToolMissing: the program cannot be started.
            ToolTimeout: it took too long.
        """


@dataclass(frozen=True, slots=True)
class SubprocessRunner:
    """The real one. Whatever interrupts it ends the whole process group: INT, then TERM, then KILL."""

    grace: float = 5.0
    """seconds between INT and TERM"""

    def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        on_line: OnLine,
        redact: Collection[str] = (),
        timeout: float | None = None,
        line_limit: int = LINE_CHARACTERS,
    ) -> Completed:
        """See ``Runner.run``."""
        started = time.monotonic()
        redactor = Redactor(redact)
        tail: deque[str] = deque(maxlen=TAIL_LINES)

        def emit(line: str, stream: Stream) -> None:
            tail.append(line)
            on_line(line, stream)

        process = _start(argv, env, cwd)
        try:
            with _Pipes(process, emit, redactor, line_limit) as pipes:
                deadline = None if timeout is None else started + timeout
                try:
                    _follow(process, pipes, deadline, argv[0], timeout)
                except BaseException:
                    self._end(process, pipes)
                    raise
        finally:
            for pipe in (process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()
        return Completed(process.returncode, tuple(tail), time.monotonic() - started)

    def _end(self, process: subprocess.Popen[bytes], pipes: _Pipes) -> None:
        for number, seconds in ((signal.SIGINT, self.grace), (signal.SIGTERM, 2.0), (signal.SIGKILL, 5.0)):
            # a second Ctrl-C does not stop the end of the group, it hastens it
            with contextlib.suppress(KeyboardInterrupt):
                if not _signal_group(process, number) or _gone(process, pipes, seconds):
                    break
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=1.0)


class _Pipes:
    """Both output streams of a process, read as they come, cut into lines."""

    def __init__(
        self, process: subprocess.Popen[bytes], emit: OnLine, redactor: Redactor, line_limit: int
    ) -> None:
        self._selector = selectors.DefaultSelector()
        self._lines: dict[Stream, _Lines] = {}
        pipes: tuple[tuple[Stream, object], ...] = (("stdout", process.stdout), ("stderr", process.stderr))
        for name, pipe in pipes:
            self._lines[name] = _Lines(name, emit, redactor, line_limit)
            self._selector.register(pipe, selectors.EVENT_READ, name)  # type: ignore[arg-type]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._selector.close()

    @property
    def open(self) -> bool:
        return bool(self._selector.get_map())

    def read(self, seconds: float, *, keep: bool = True) -> bool:
        """Wait that long for output and pass it on; False when there was none."""
        if not self.open:
            time.sleep(seconds)
            return False
        ready = self._selector.select(seconds)
        for key, _ in ready:
            chunk = os.read(key.fd, _CHUNK)
            if not chunk:
                self._selector.unregister(key.fileobj)
            elif keep:
                self._lines[key.data].feed(chunk)
        return bool(ready)

    def flush(self) -> None:
        """Pass on what stands without a line end."""
        for lines in self._lines.values():
            lines.finish()


class _Lines:
    """Bytes of one stream to lines. A carriage return overwrites, as on a terminal."""

    def __init__(self, stream: Stream, emit: OnLine, redactor: Redactor, line_limit: int) -> None:
        self._stream = stream
        self._emit = emit
        self._redactor = redactor
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        # enough behind the cut to see a secret that begins before it
        self._line_limit = line_limit
        self._limit = line_limit + redactor.longest
        self._rest = ""

    def feed(self, chunk: bytes) -> None:
        *whole, rest = (self._rest + self._decoder.decode(chunk)).split("\n")
        self._rest = ""
        for line in whole:
            self._line(line)
        self._rest = _visible(rest)[: self._limit] if len(rest) > self._limit else rest

    def finish(self) -> None:
        last = self._rest + self._decoder.decode(b"", final=True)
        self._rest = ""
        if last:
            self._line(last)

    def _line(self, text: str) -> None:
        text = _visible(text)
        cut = self._redactor.redact(text[: self._limit], limit=self._line_limit)
        self._emit(cut + _CUT if len(text) > self._line_limit else cut, self._stream)


def _visible(line: str) -> str:
    """What a terminal would show of it: the part after the last carriage return that is not a line end."""
    return line.rstrip("\r").rpartition("\r")[2]


def _start(argv: Sequence[str], env: Mapping[str, str], cwd: Path) -> subprocess.Popen[bytes]:
    if not cwd.is_dir():
        raise ToolMissing(f"cannot start {argv[0]}: there is no folder {cwd} to start it in", tool=argv[0])
    try:
        return subprocess.Popen(
            list(argv),
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
    except FileNotFoundError as error:
        where = (
            "it does not exist" if os.sep in argv[0] else f"it is not on PATH ({env.get('PATH', 'unset')})"
        )
        raise ToolMissing(
            f"cannot start {argv[0]}: {where}", tool=argv[0], hint=f"install {argv[0]}"
        ) from error
    except PermissionError as error:
        raise ToolMissing(
            f"cannot start {argv[0]}: it may not be executed", tool=argv[0], hint="look at its permissions"
        ) from error


def _follow(
    process: subprocess.Popen[bytes], pipes: _Pipes, deadline: float | None, tool: str, timeout: float | None
) -> None:
    """Pass on its output until it has ended."""
    while True:
        if not pipes.open:
            if _wait(process, deadline):
                break
        # a child of its own may hold the pipes open when it is gone: what it said itself is enough
        elif not pipes.read(_POLL_SECONDS) and process.poll() is not None:
            break
        if deadline is not None and time.monotonic() > deadline:
            raise ToolTimeout(
                f"{tool} did not end within {timeout:g} seconds", hint="see whether what it talks to answers"
            )
    pipes.flush()


def _wait(process: subprocess.Popen[bytes], deadline: float | None) -> bool:
    seconds = None if deadline is None else max(0.0, deadline - time.monotonic())
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=seconds)
        return True
    return False


def _signal_group(process: subprocess.Popen[bytes], number: int) -> bool:
    """False when nobody is left to hear it."""
    process.poll()
    try:
        os.killpg(process.pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _gone(process: subprocess.Popen[bytes], pipes: _Pipes, seconds: float) -> bool:
    """Wait for the whole group, its output thrown away so that none of it blocks on a full pipe."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        pipes.read(0.02, keep=False)
        if not _signal_group(process, 0) or _all_dead(process.pid):
            return True
    return False


def _all_dead(group: int) -> bool:
    """Whether only dead members are left, which an idle init (in a container) has not collected."""
    if not Path("/proc/self/stat").exists():
        return False
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, member_of = stat.read_text(errors="replace").rpartition(")")[2].split()[:3]
            if int(member_of) == group and state not in "ZX":
                return False
    return True
