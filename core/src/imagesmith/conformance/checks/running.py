"""A builder and its tools, without an engine: what it starts, what it says when that fails."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from imagesmith.builder import BuildRequest, Readiness
from imagesmith.conformance._catalogue import Skipped, Tier, check
from imagesmith.conformance.guard import writes
from imagesmith.conformance.samples import SECRET, everything
from imagesmith.conformance.subject import blaming
from imagesmith.errors import BuilderError, ImagesmithError
from imagesmith.runner import ToolMissing
from imagesmith.testing import RecordingRunner

if TYPE_CHECKING:
    from pathlib import Path

    from imagesmith.conformance.subject import Subject
    from imagesmith.events import Event

_SENTINEL = "imagesmith-conformance-sentinel"
_READY_SECONDS = 15.0


class _Attempt:
    """One build with a runner that starts nothing: what came of it."""

    def __init__(self, subject: Subject, runner: RecordingRunner) -> None:
        self.runner = runner
        self.events: list[Event] = []
        self.error: BaseException | None = None
        request = subject.request(subject.supported(everything()), staged=True)
        builder = subject.make(runner)
        plan = subject.plan(request, builder=builder)
        folder = request.staged.folder
        assert folder is not None
        self.request: BuildRequest = request
        self.folder: Path = folder
        os.environ["IMAGESMITH_CONFORMANCE_SENTINEL"] = _SENTINEL
        try:
            with writes() as self.writes:
                builder.build(plan, self.events.append)
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - it is looked at
            self.error = error
        finally:
            del os.environ["IMAGESMITH_CONFORMANCE_SENTINEL"]

    def started(self) -> None:
        """Skip where it starts no process."""
        if not self.runner.calls:
            raise Skipped("it starts no process through its runner")

    def left(self) -> list[str]:
        """What lies beside the staged files."""
        return sorted(path.name for path in self.folder.parent.iterdir() if path != self.folder)


@check("ready.never-raises", Tier.FAKE)
def ready(subject: Subject) -> None:
    """ready() raises nothing and answers within seconds, on a machine that has nothing, and one that lies."""
    environments: tuple[dict[str, str], ...] = (
        {},
        subject.nowhere,
        {**subject.nowhere, "DOCKER_HOST": "tcp://127.0.0.1:9"},
        {**subject.nowhere, "DOCKER_HOST": "nonsense", "DOCKER_CONTEXT": "nonsense"},
    )
    runners = (
        RecordingRunner(),
        RecordingRunner(returncode=1, lines=["nonsense"]),
        RecordingRunner(raises=ToolMissing("cannot start it", tool="it")),
        RecordingRunner(raises=OSError("no such thing")),
    )
    for env in environments:
        for runner in runners:
            began = time.monotonic()
            try:
                given = subject.make(runner, env=env).ready()
            except Exception as error:
                raise AssertionError(f"ready() raised {type(error).__name__}: {error}") from error
            seconds = time.monotonic() - began
            assert isinstance(given, Readiness), f"ready() returned {type(given).__name__}, not a Readiness"
            assert seconds < _READY_SECONDS, f"ready() took {seconds:.0f} s"


@check("ready.hint", Tier.FAKE)
def ready_hint(subject: Subject) -> None:
    """Where a builder is not ready it says what is wrong and what to do."""
    runner = RecordingRunner(raises=ToolMissing("cannot start it: it is not on PATH", tool="it"))
    with blaming("ready()"):
        given = subject.make(runner).ready()
    if given.ok:
        raise Skipped("it is ready on a machine that has nothing")
    assert given.problem, "it is not ready, but names no problem"
    assert given.hint, f"it names a problem ({given.problem}), but nothing to do about it"


@check("build.tool-missing", Tier.FAKE)
def tool_missing(subject: Subject) -> None:
    """A tool that cannot be started is an ImagesmithError with a hint."""
    attempt = _Attempt(subject, RecordingRunner(raises=ToolMissing("cannot start it", tool="it")))
    attempt.started()
    error = _typed(attempt, "a tool that is missing")
    assert error.hint, f"{type(error).__name__} has no hint: {error}"


@check("build.tool-fails", Tier.FAKE)
def tool_fails(subject: Subject) -> None:
    """A tool that ends with an error is a BuilderError that names the builder."""
    attempt = _Attempt(subject, RecordingRunner(returncode=1, lines=["it does not work"]))
    attempt.started()
    error = _typed(attempt, "a tool that fails")
    assert isinstance(error, BuilderError), f"it is a {type(error).__name__}, not a BuilderError"
    assert error.builder == subject.name, f"the error names the builder {error.builder!r}"


@check("build.no-engine", Tier.FAKE)
def no_engine(subject: Subject) -> None:
    """Where neither engine nor registry answers, a build ends in an ImagesmithError, never in a result."""
    attempt = _Attempt(subject, RecordingRunner())
    if attempt.runner.calls and attempt.error is None:
        raise Skipped("its engine is behind its runner")
    _typed(attempt, "an engine that does not answer")


def _typed(attempt: _Attempt, what: str) -> ImagesmithError:
    error = attempt.error
    assert error is not None, f"{what}: build() went on as if nothing had happened"
    assert isinstance(error, ImagesmithError), (
        f"{what}: build() raised {type(error).__name__}, which is no ImagesmithError: {error}"
    )
    assert error.message.strip(), f"{what}: {type(error).__name__} says nothing"
    return error


@check("build.interrupt", Tier.FAKE)
def interrupt(subject: Subject) -> None:
    """An interrupt goes through a builder, and leaves nothing behind."""
    attempt = _Attempt(subject, RecordingRunner(raises=KeyboardInterrupt()))
    attempt.started()
    assert isinstance(attempt.error, KeyboardInterrupt), f"the interrupt became {attempt.error!r}"
    assert not attempt.left(), f"it left {', '.join(attempt.left())} beside the staged files"


@check("build.leaves-nothing", Tier.FAKE)
def leaves_nothing(subject: Subject) -> None:
    """A build, failed or not, removes its own files, and leaves the staged ones as they were."""
    for returncode in (0, 1):
        attempt = _Attempt(subject, RecordingRunner(returncode=returncode))
        assert not attempt.left(), f"it left {', '.join(attempt.left())} beside the staged files"
        before = attempt.request.staged.digests
        with blaming("reading the staged files after build()"):
            now = _digests(attempt.folder)
        changed = sorted(name for name, digest in now.items() if name in before and before[name] != digest)
        gone = sorted(name for name in before if name not in now and before[name] != "dir")
        assert not changed, f"it changed staged files: {', '.join(changed)}"
        assert not gone, f"it removed staged files: {', '.join(gone)}"


def _digests(folder: Path) -> dict[str, str]:
    from imagesmith._contents import digest  # noqa: PLC0415

    found = {}
    for path in folder.rglob("*"):
        if path.is_file():
            kind = "exec" if path.stat().st_mode & 0o100 else "file"
            found[path.relative_to(folder).as_posix()] = digest(kind, str(path))
    return found


@check("build.writes", Tier.FAKE)
def where_it_writes(subject: Subject) -> None:
    """A build writes only beside the staged files, in its cache folder and in the temporary folder."""
    import tempfile  # noqa: PLC0415

    attempt = _Attempt(subject, RecordingRunner())
    beside = str(attempt.folder.parent)
    allowed = (beside, str(subject.folder / "cache"), os.path.realpath(tempfile.gettempdir()), "/dev/")
    outer = str(subject.folder / "home")
    wrong = [
        path
        for deed, path in attempt.writes
        if deed == "writes"
        and path.startswith("/")
        and "__pycache__" not in path
        and (path.startswith(outer) or not path.startswith(allowed))
    ]
    assert not wrong, f"it writes to {', '.join(sorted(set(wrong))[:5])}"


@check("build.processes", Tier.FAKE)
def processes(subject: Subject) -> None:
    """Processes are argv lists in a folder that exists, with an environment made of what was injected."""
    attempt = _Attempt(subject, RecordingRunner())
    outside = sorted({detail for deed, detail in attempt.writes if deed == "starts a process"})
    assert not outside, f"it starts a process without its runner: {', '.join(outside)}"
    attempt.started()
    for call in attempt.runner.calls:
        odd = [word for word in call.argv if not isinstance(word, str)]
        assert not odd, f"these words are no text: {odd!r}"
        assert call.cwd.is_absolute(), f"the folder {call.cwd} depends on where imagesmith was started"
        assert _SENTINEL not in call.env.values(), (
            "a process got a variable of this process's environment, which was not injected"
        )
        strange = [key for key, value in call.env.items() if not isinstance(value, str)]
        assert not strange, f"these variables are no text: {', '.join(strange)}"


@check("build.secrets", Tier.FAKE)
def secrets(subject: Subject) -> None:
    """No secret stands in the arguments of a process, and one that a tool prints is cut from the events."""
    attempt = _Attempt(
        subject, RecordingRunner(lines=[f"the token is {SECRET}-file", f"#5 0.1 {SECRET}-file"])
    )
    attempt.started()
    for call in attempt.runner.calls:
        told = [word for word in call.argv if isinstance(word, str) and SECRET in word]
        assert not told, f"a secret stands in the arguments of {call.argv[0]}"
    shown = [event for event in attempt.events if f"{SECRET}-file" in repr(event)]
    assert not shown, f"a tool printed a secret, and it reached an event: {type(shown[0]).__name__}"
    told_main = [call for call in attempt.runner.calls if any(SECRET in each for each in call.redact)]
    assert told_main, "it does not tell its runner what to redact"
