"""Run scripts in a root of their own, as the first process of a PID namespace: with it, all they left end."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import select
import signal
import time
from typing import TYPE_CHECKING, Any

from imagesmith_oci.inside import linux
from imagesmith_oci.inside.mounts import SCRIPTS, Root, overlay

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Say", "run"]

_FLAGS = linux.NEWNS | linux.NEWIPC | linux.NEWUTS


class Say:
    """Writes lines that stand out from what programs print, by a token that these do not know."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, **what: object) -> None:
        """One line: the token, then JSON."""
        line = f"\n{self._token}{json.dumps(what)}\n".encode()
        while line:
            line = line[os.write(1, line) :]


def run(folder: str, lowers: Sequence[str], steps: Sequence[Mapping[str, Any]], caches: str, say: Say) -> int:
    """Start the process that runs ``steps`` over ``lowers``; its id. What it changes is in ``folder/upper``.

    It tells how each step went; its own exit code is 0 when all went well, 1 when one did not, 2 when
    the root could not be made. It ends when this process does.
    """
    alive, held = os.pipe()
    linux.unshare(linux.NEWPID)
    child = os.fork()
    if child:
        os.close(alive)
        return child  # ``held`` stays open as long as this process lives
    code = 2
    try:
        os.close(held)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        linux.die_with_parent(signal.SIGKILL)
        if not select.select([alive], [], [], 0)[0]:
            code = _first(folder, lowers, steps, caches, say)
    except OSError as error:
        say(failed="root", text=str(error), number=error.errno or 0)
    finally:
        os._exit(code)


def _first(
    folder: str, lowers: Sequence[str], steps: Sequence[Mapping[str, Any]], caches: str, say: Say
) -> int:
    linux.unshare(_FLAGS)
    linux.set_hostname("imagesmith")
    overlay(folder, lowers)
    say(phase="mounted")
    locks = [
        _lock(f"{caches}/{name}") for name in sorted({cache for step in steps for cache in step["caches"]})
    ]
    scripts = {}
    for number, step in enumerate(steps):
        scripts[f"{number}.sh"] = step["script"]
        scripts[f"{number}-by.sh"] = step["runner"]
    root = Root()
    root.enter(f"{folder}/root", scripts)
    for step in steps:
        for name, target in step["caches"].items():
            root.bind(f"{caches}/{name}/content", target)
        for target in step["hidden"]:
            if os.path.isfile(target):
                root.show_text("", target)
    root.close()
    code = 0
    for number, step in enumerate(steps):
        say(step=number)
        started = time.monotonic()
        status, problem = _step(number, step)
        say(step=number, status=status, problem=problem, seconds=time.monotonic() - started)
        if status:
            code = 1
            break
    root.leave()
    for lock in locks:
        os.close(lock)
    return code


def _lock(folder: str) -> int:
    """A folder for what steps keep between builds, for one build at a time."""
    os.makedirs(f"{folder}/content", 0o755, exist_ok=True)
    lock = os.open(f"{folder}/lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


def _step(number: int, step: Mapping[str, Any]) -> tuple[int, str]:
    """Exit code (128 + signal for a signal), and why it could not even be started."""
    told, tell = os.pipe()  # closed by the start of the program
    child = os.fork()
    if child == 0:
        os.close(told)
        _start(number, step, tell)
    os.close(tell)
    problem = os.read(told, 4096).decode(errors="replace")
    os.close(told)
    status = _wait_for(child)
    return status, problem


def _start(number: int, step: Mapping[str, Any], tell: int) -> None:
    try:
        for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(each, signal.SIG_DFL)
        linux.drop_capabilities()
        os.umask(0o022)
        os.chdir("/")
        os.dup2(1, 2)
        argv = ["/bin/sh", f"{SCRIPTS}/{number}-by.sh", f"{SCRIPTS}/{number}.sh"]
        env = {os.fsencode(key): os.fsencode(value) for key, value in step["env"].items()}
        os.execve(argv[0], argv, env)
    except OSError as error:
        if error.errno == errno.ENOEXEC:
            text = "foreign"
        elif error.errno == errno.ENOENT:
            text = "no shell"
        else:
            text = str(error)
        os.write(tell, text.encode())
    finally:
        os._exit(127)


def _wait_for(child: int) -> int:
    """Wait, and end what it left running: nothing may go on from one step to the next."""
    while True:
        pid, status = os.wait()
        if pid == child:
            break
    while True:
        try:
            os.kill(-1, signal.SIGKILL)
            os.wait()
        except (ProcessLookupError, ChildProcessError):
            break
    code = os.waitstatus_to_exitcode(status)
    return 128 - code if code < 0 else code
