"""The process that works in a namespace: started, listened to, and gone with whoever waits for it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import sys
import tempfile
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imagesmith import BuilderNotReady, StepDone, StepLog, StepStarted
from imagesmith.runner import Redactor
from imagesmith_oci.userns_why import Failure

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from imagesmith import Environment, Reporter
    from imagesmith.runner import Stream
    from imagesmith_oci.userns_ids import Ids
    from imagesmith_oci.userns_steps import Step

__all__ = ["Outcome", "Space"]

TAIL = 20
_PACKAGE = Path(__file__).parent
# Nothing of site-packages is loaded: this takes 0.02 s, and what is installed there cannot matter.
_BOOT = (
    "import sys, types\n"
    "package = types.ModuleType('imagesmith_oci')\n"
    "package.__path__ = [sys.argv.pop(1)]\n"
    "sys.modules['imagesmith_oci'] = package\n"
    "from imagesmith_oci.inside.main import main\n"
    "main()\n"
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ended: its ``answer``, or ``failure``, or the step that failed."""

    answer: Mapping[str, Any]
    failure: Failure | None = None
    step: int | None = None
    """the one that failed"""
    status: int = 0
    problem: str = ""
    """why it could not be started, if so"""
    tail: tuple[str, ...] = ()
    """the last lines of the step that failed, or of the process itself"""


@dataclass(frozen=True, slots=True)
class Space:
    """Where jobs work: a folder of the cache for one set of ids, and in it one for each build."""

    environment: Environment
    ids: Ids

    @property
    def cache(self) -> Path:
        """Holds ``layers``, ``kept`` and ``work``; most of it can only be removed from inside."""
        return self.environment.cache_dir.absolute() / "userns" / self.ids.place

    @contextlib.contextmanager
    def work(self) -> Iterator[Path]:
        """A folder for one build, known to be in use as long as this process lives.

        Raises:
            BuilderNotReady: nothing can be written there.
        """
        try:
            for name in ("layers", "kept", "work"):
                (self.cache / name).mkdir(mode=0o755, parents=True, exist_ok=True)
            folder = Path(tempfile.mkdtemp(prefix="run-", dir=self.cache / "work"))
        except OSError as error:
            raise BuilderNotReady(
                f"nothing can be kept in the folder {self.cache}: {error}",
                builder="oci",
                hint="name another one with IMAGESMITH_CACHE_DIR",
            ) from error
        lock = os.open(folder / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)

    def do(
        self,
        folder: Path,
        task: str,
        *,
        steps: Sequence[Step] = (),
        report: Reporter | None = None,
        redact: Collection[str] = (),
        **more: object,
    ) -> Outcome:
        """One job, in a process of its own.

        Raises:
            BuilderNotReady: it ended without an answer.
        """
        token = f"imagesmith-{secrets.token_hex(16)}:"
        job = {
            "task": task,
            "token": token,
            "parent": os.getpid(),
            "folder": str(folder),
            "cache": str(self.cache),
            "ids": {
                "kind": self.ids.kind,
                "uids": self.ids.uids,
                "gids": self.ids.gids,
                "mappers": self.ids.mappers,
            },
            "steps": [_told(step) for step in steps],
            **more,
        }
        file = folder / "job.json"
        file.touch(mode=0o600)
        file.write_text(json.dumps(job), encoding="utf-8", errors="surrogateescape")
        listener = _Listener(token, steps, report, Redactor(redact))
        env = self.environment.env
        done = self.environment.runner.run(
            [sys.executable, "-I", "-S", "-c", _BOOT, str(_PACKAGE), str(file)],
            env={key: value for key, value in env.items() if not key.startswith("LD_")},
            cwd=folder,
            on_line=listener,  # which cuts what steps print, and never what the process says itself
        )
        listener.end()
        if listener.answer is None and listener.failure is None:
            said = "; ".join(listener.noise) or f"exit code {done.returncode}"
            raise BuilderNotReady(
                f"the process that works in a namespace ended without an answer: {said}",
                builder="oci",
                hint="was it killed (out of memory)? else this is a defect of imagesmith-oci",
            )
        return listener.outcome()


def _told(step: Step) -> dict[str, object]:
    return {
        "script": step.script,
        "runner": step.runner,
        "env": {**dict(step.place), **dict(step.env)},
        "caches": dict(step.caches),
        "hidden": step.hidden,
    }


@dataclass(slots=True)
class _Listener:
    """Takes its lines apart: what it says about itself, and what steps print."""

    token: str
    steps: Sequence[Step]
    report: Reporter | None
    redactor: Redactor
    answer: Mapping[str, Any] | None = None
    failure: Failure | None = None
    failed: dict[str, Any] = field(default_factory=dict)
    noise: deque[str] = field(default_factory=lambda: deque(maxlen=TAIL))
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=TAIL))
    _step: int | None = None
    _blank: int = 0

    def __call__(self, line: str, _stream: Stream, /) -> None:
        if line.startswith(self.token):
            self._blank -= 1  # each such line follows an empty one of its own
            self._flush()
            self._about(json.loads(line.removeprefix(self.token)))
        elif not line:
            self._blank += 1
        else:
            self._flush()
            self._printed(line)

    def end(self) -> None:
        """No more lines will come."""
        self._flush()

    def outcome(self) -> Outcome:
        """What was heard."""
        return Outcome(
            self.answer or {},
            self.failure,
            self.failed.get("step"),
            int(self.failed.get("status") or 0),
            str(self.failed.get("problem") or ""),
            tuple(self.tail if self.failed else self.noise),
        )

    def _flush(self) -> None:
        for _ in range(self._blank):
            self._printed("")
        self._blank = 0

    def _printed(self, line: str) -> None:
        line = self.redactor.redact(line)
        if self._step is None:
            self.noise.append(line)
            return
        self.tail.append(line)
        if self.report:
            self.report(StepLog(self.steps[self._step].id, line))

    def _about(self, said: dict[str, Any]) -> None:
        if "failed" in said:
            self.failure = Failure(said["failed"], said["number"], said["text"])
        elif "status" in said:
            self._ended(said)
        elif "step" in said:
            self._step = said["step"]
            self.tail.clear()
            if self.report and self.steps:
                step = self.steps[said["step"]]
                self.report(StepStarted(step.id, step.name))
        elif "done" in said:
            self.answer = said

    def _ended(self, said: dict[str, Any]) -> None:
        number = self._step
        self._step = None
        error = None
        if said["status"]:
            self.failed = said
            error = f"exit code {said['status']}"
        if self.report and self.steps and number is not None:
            self.report(StepDone(self.steps[number].id, said["seconds"], error=error))
