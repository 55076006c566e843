"""Builds that fail: what is said, and that nothing is left."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from imagesmith.builder import Feature
from imagesmith.conformance._catalogue import Skipped, Tier, check
from imagesmith.errors import (
    BaseImageError,
    BuilderNotReady,
    BuildFailed,
    EngineError,
    ImagesmithError,
    StoreError,
)
from imagesmith.events import StepLog

if TYPE_CHECKING:
    from imagesmith.conformance.subject import Subject
    from imagesmith.conformance.workshop import Attempt
    from imagesmith.events import Event

F = Feature
_TOLD = "value-not-to-be-seen"


def _failing(subject: Subject) -> Attempt:
    workshop = subject.workshop()

    def make() -> Attempt:
        spec = workshop.spec(
            "failing",
            commands=[
                'echo "told: ${CONFORMANCE-}"',
                'echo first line; echo "the reason ${CONFORMANCE_TOO-}" >&2; exit 7',
                "echo never",
            ],
            env={"CONFORMANCE": _TOLD},
            build_env={"CONFORMANCE_TOO": f"{_TOLD} either"},
        )
        return workshop.failed(subject.supported(spec))

    made: Attempt = workshop.once("failing", make)
    return made


@check("fault.command", Tier.LIVE, F.COMMANDS)
def command(subject: Subject) -> None:
    """A command that fails ends the build: BuildFailed with command, exit code, last lines and log."""
    error = _failing(subject).error
    assert isinstance(error, BuildFailed), f"it is a {type(error).__name__}: {error}"
    assert error.returncode == 7, f"the exit code is {error.returncode}, not 7"
    assert "exit 7" in error.message, f"the message does not name the command: {error.message}"
    for line in ("first line", "the reason"):
        assert any(line in each for each in error.tail), f"the last lines lack {line!r}: {error.tail}"
    assert error.log is not None and Path(error.log).is_file(), "there is no log"  # noqa: PT018
    text = Path(error.log).read_text(encoding="utf-8", errors="replace")
    assert "the reason" in text, "the log lacks what the command printed"


@check("fault.values", Tier.LIVE, F.COMMANDS)
def values(subject: Subject) -> None:
    """A value of env or build_env is in no event, log or error, even where a command prints it."""
    attempt = _failing(subject)
    error = attempt.error
    assert isinstance(error, BuildFailed), f"it is a {type(error).__name__}: {error}"
    assert any("told:" in repr(event) for event in attempt.events), "no event tells what commands print"
    log = Path(error.log).read_text(encoding="utf-8", errors="replace") if error.log else ""
    places = {"an event": repr(attempt.events), "the log": log, "the error": f"{error} {error.tail}"}
    found = [place for place, text in places.items() if _TOLD in text]
    assert not found, f"a value that a command printed stands in {', '.join(found)}"


@check("fault.nothing-left", Tier.LIVE, F.COMMANDS, F.LOCAL_ENGINE)
def nothing_left(subject: Subject) -> None:
    """A build that fails publishes nothing and leaves no name in the engine."""
    names = subject.workshop().published(_failing(subject).spec)
    assert not names, f"left in the engine: {', '.join(sorted(names))}"


@check("fault.set-eu", Tier.LIVE, F.COMMANDS)
def set_eu(subject: Subject) -> None:
    """A command ends at its first line that fails, and at a variable that is not set."""
    workshop = subject.workshop()
    for stem, text in (("unset", "echo $CONFORMANCE_UNSET"), ("middle", "false\necho went on")):
        error = workshop.failed(workshop.spec(stem, commands=[text])).error
        assert isinstance(error, BuildFailed), f"{text!r}: {type(error).__name__}: {error}"


@check("fault.package", Tier.LIVE, F.PACKAGES, F.PIP_EXTRA_ARGS)
def package(subject: Subject) -> None:
    """A package that does not exist is a BuildFailed that names it."""
    workshop = subject.workshop()
    spec = workshop.spec("package", packages=["conformance-no-such==9"], pip_extra_args=["--no-index"])
    error = workshop.failed(spec).error
    assert isinstance(error, BuildFailed), f"it is a {type(error).__name__}: {error}"
    assert "conformance-no-such" in str(error), f"it does not name the package: {error}"


@check("fault.base", Tier.LIVE, F.BASE_IMAGE)
def base(subject: Subject) -> None:
    """A base that does not exist is an error that names it, before the builder is asked."""
    workshop = subject.workshop()
    absent = f"{workshop.base.reference.partition('@')[0].rpartition(':')[0]}:conformance-no-such"
    before = workshop.builds
    error = workshop.failed(workshop.spec("base", base_image=absent)).error
    assert isinstance(error, (BaseImageError, StoreError)), f"it is a {type(error).__name__}: {error}"
    assert absent in str(error), f"it does not name {absent}: {error}"
    assert workshop.builds == before, "the builder was asked to build"


@check("fault.platform", Tier.LIVE, F.PLATFORM)
def platform(subject: Subject) -> None:
    """A platform that the base lacks is refused by name, before the builder is asked."""
    workshop = subject.workshop()
    before = workshop.builds
    error = workshop.failed(workshop.spec("platform", platform="linux/mips64le")).error
    assert isinstance(error, BaseImageError), f"it is a {type(error).__name__}: {error}"
    assert "linux/mips64le" in str(error), f"it does not name the platform: {error}"
    assert workshop.builds == before, "the builder was asked to build"


@check("fault.dead-engine", Tier.LIVE, F.LOCAL_ENGINE)
def dead_engine(subject: Subject) -> None:
    """Without an engine a build ends at once with an error for this machine (exit code 3) and a hint."""
    workshop = subject.workshop()
    host = {"DOCKER_HOST": f"unix://{workshop.folder}/none.sock"}
    began = time.monotonic()
    error = workshop.failed(workshop.spec("dead"), variables=host, on_unknown="build").error
    assert isinstance(error, (BuilderNotReady, EngineError)), f"it is a {type(error).__name__}: {error}"
    assert error.exit_code == 3, f"the exit code is {error.exit_code}"
    assert error.hint, f"no hint: {error}"
    assert time.monotonic() - began < 20, "it took more than 20 s to say so"


@check("fault.interrupt", Tier.LIVE, F.COMMANDS)
def interrupt(subject: Subject) -> None:
    """An interrupt stops the build on the engine too, and leaves no name, no lock and no temporary file."""
    if threading.current_thread() is not threading.main_thread():
        raise Skipped("only the main thread can be interrupted")
    workshop = subject.workshop()
    seconds = f"{1000 + int(workshop.mark, 16) % 1000}.25"
    spec = workshop.spec("interrupted", commands=[f"echo conformance-started; sleep {seconds}"])
    once = threading.Lock()
    over = threading.Event()

    def strike() -> None:
        if once.acquire(blocking=False):
            os.kill(os.getpid(), signal.SIGINT)

    def report(event: Event) -> None:
        if isinstance(event, StepLog) and event.line.strip() == "conformance-started":
            threading.Timer(0.3, strike).start()

    def watch() -> None:
        while not over.wait(0.2):
            if _sleeps(seconds):
                strike()

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=watch, daemon=True).start()
    visible = False
    try:
        try:
            workshop.build(spec, report=report)
        except KeyboardInterrupt:
            visible = True
        except ImagesmithError as error:
            raise AssertionError(f"the interrupt became {type(error).__name__}: {error}") from error
        finally:
            over.set()
            once.acquire(blocking=False)
    finally:
        signal.signal(signal.SIGINT, before)
    assert visible, "the build went on as if it had not been interrupted"
    deadline = time.monotonic() + 15
    while _sleeps(seconds) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not _sleeps(seconds), "the command still runs on the engine"
    if not spec.registry:
        names = workshop.published(spec)
        assert not names, f"left in the engine: {', '.join(sorted(names))}"
    locks = list((subject.folder / "live-cache" / "locks").glob("*"))
    assert not locks, f"locks are left: {', '.join(lock.name for lock in locks)}"


def _sleeps(seconds: str) -> bool:
    """Whether a ``sleep`` of that many seconds runs, as far as it can be seen from here."""
    wanted = f"sleep\0{seconds}\0".encode()
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if file.read_bytes().endswith(wanted):
                return True
        except OSError:
            continue
    return False
