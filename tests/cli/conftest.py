"""A command line whose pipeline is a fake one: what it is asked, and what it answers, are the test's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from imagesmith import pipeline
from imagesmith.cli import main
from imagesmith.events import Event, Message, Phase, StepDone, StepLog, StepStarted
from imagesmith.pipeline import BuildResult

SPEC = 'from imagesmith import ImageSpec\nimage = ImageSpec(name="app")\nother = ImageSpec(name="other")\n'

EVENTS: tuple[Event, ...] = (
    Phase("checking", "app:tag"),
    Message("the base is old", "warning"),
    StepStarted("1", "install packages"),
    StepLog("1", "fetching \x1b[31msix\x1b[0m"),
    StepDone("1", 1.25),
    StepStarted("2", "copy files"),
    StepDone("2", cached=True),
)


@dataclass
class Outcome:
    """How a run of the command line ended."""

    code: int
    out: str
    err: str


Run = Callable[..., Outcome]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a spec, and an environment that says nothing."""
    (tmp_path / "app.py").write_text(SPEC, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    for name in ("NO_COLOR", "FORCE_COLOR", "IMAGESMITH_DEBUG", "IMAGESMITH_PROGRESS", "IMAGESMITH_BUILDER"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def run(project: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command line in this process."""

    def run(*arguments: str) -> Outcome:
        capsys.readouterr()
        code = main(arguments)
        out, err = capsys.readouterr()
        return Outcome(code, out, err)

    return run


@dataclass
class FakeBuild:
    """Stands for ``pipeline.build``."""

    calls: list[tuple[Any, dict[str, Any]]] = field(default_factory=list)
    error: BaseException | None = None
    reused: bool = False

    def __call__(self, spec: Any, **options: Any) -> BuildResult:
        self.calls.append((spec, options))
        for event in EVENTS:
            options["report"](event)
        if self.error is not None:
            raise self.error
        return BuildResult(
            f"registry.example/{spec.name}:tag",
            "sha256:" + "0" * 64,
            ("linux/amd64",),
            "fake 1.0",
            self.reused,
            1.5,
            Path("build.log"),
        )


@pytest.fixture
def fake_build(monkeypatch: pytest.MonkeyPatch) -> FakeBuild:
    fake = FakeBuild()
    monkeypatch.setattr(pipeline, "build", fake)
    return fake
