"""Sees what a piece of code does to the world: sockets, processes, writes, the clock, the environment.

By Python's audit events, and by standing in for the functions that read the clock and the environment.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import threading
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["deeds", "writes"]

_WATCHED: ContextVar[list[tuple[str, str]] | None] = ContextVar("imagesmith_conformance", default=None)

_EVENTS = {
    "socket.connect": "opens a socket",
    "socket.getaddrinfo": "asks for an address",
    "socket.gethostbyname": "asks for an address",
    "socket.sendto": "opens a socket",
    "socket.bind": "opens a socket",
    "subprocess.Popen": "starts a process",
    "os.system": "starts a process",
    "os.exec": "starts a process",
    "os.posix_spawn": "starts a process",
    "os.spawn": "starts a process",
    "os.fork": "starts a process",
    "os.forkpty": "starts a process",
    "os.mkdir": "writes",
    "os.rename": "writes",
    "os.remove": "writes",
    "os.rmdir": "writes",
    "os.link": "writes",
    "os.symlink": "writes",
    "os.truncate": "writes",
    "os.chmod": "writes",
    "os.chown": "writes",
    "os.utime": "writes",
    "os.putenv": "changes the environment",
    "os.unsetenv": "changes the environment",
    "os.chdir": "changes the working directory",
}
_CLOCK = (
    "time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "localtime", "gmtime",
)  # fmt: skip


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    seen = _WATCHED.get()
    if seen is None:
        return
    if event == "open":
        path, mode, flags = arguments
        writing = (isinstance(mode, str) and set(mode) & set("wax+")) or (
            isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        )
        if writing and str(path) != os.devnull:
            seen.append(("writes", str(path)))
    elif kind := _EVENTS.get(event):
        seen.append(
            (kind, str(arguments[1] if event == "socket.connect" else arguments[0] if arguments else ""))
        )


@functools.cache
def _install() -> None:
    """Once for the process: an audit hook cannot be taken out again. It looks only where it is asked to."""
    sys.addaudithook(_audit)


@contextlib.contextmanager
def writes() -> Iterator[list[tuple[str, str]]]:
    """Pairs (what is done, to what), filled while the block runs; clock and environment may be read."""
    _install()
    seen: list[tuple[str, str]] = []
    token = _WATCHED.set(seen)
    try:
        yield seen
    finally:
        _WATCHED.reset(token)


@contextlib.contextmanager
def deeds() -> Iterator[list[tuple[str, str]]]:
    """As ``writes``; reads of the clock and of ``os.environ`` by this thread are seen too."""
    with writes() as seen, contextlib.ExitStack() as stack:
        thread = threading.get_ident()

        def spy(owner: Any, name: str, deed: str) -> None:
            real: Callable[..., Any] = getattr(owner, name)

            @functools.wraps(real)
            def called(*arguments: Any, **named: Any) -> Any:
                if threading.get_ident() == thread:
                    detail = str(arguments[1]) if len(arguments) > 1 else name
                    seen.append((deed, detail))
                return real(*arguments, **named)

            setattr(owner, name, called)
            stack.callback(setattr, owner, name, real)

        for name in _CLOCK:
            spy(time, name, "reads the clock")
        spy(type(os.environ), "__getitem__", "reads the environment")
        spy(type(os.environ), "__iter__", "reads the environment")
        yield seen
