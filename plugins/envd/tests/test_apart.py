"""Files that are left to the core: what the plan says of them, and what is done where they cannot be."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from imagesmith import (
    BaseImage,
    BuildFailed,
    BuildPlan,
    BuildRequest,
    Built,
    Environment,
    Event,
    ImageSpec,
    LocalEngine,
    Message,
)
from imagesmith.runner import Completed
from imagesmith.scripts import NOT_BARE
from imagesmith.sources import stage
from imagesmith_envd.builder import EnvdBuilder
from imagesmith_envd.home import Seed
from imagesmith_envd.run import Run

PYTHON = BaseImage("base", "sha256:" + "0" * 64, {"config": {"Env": ["PYTHON_VERSION=3.11.2"]}})
ARGV = '#7 ERROR: process "bash -c set -euo pipefail\\n…" did not complete successfully: exit code: 1'


def says(step: str, *said: str) -> list[str]:
    """What envd prints when this step fails with these lines."""
    return ["#7 bash -c set -euo pipefail", f"# {step}", "", *(f"#7 0.1 {line}" for line in said), ARGV]


@dataclass
class Envd:
    """Runs of envd, each with what it prints when it fails; it sees the context of each."""

    failures: list[list[str]]
    texts: list[str] = field(default_factory=list)
    contexts: list[set[str]] = field(default_factory=list)

    def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        on_line: Callable[[str, str], None],
        **_: Any,
    ) -> Completed:
        context = Path(argv[argv.index("--path") + 1])
        self.texts.append((cwd / "build.envd").read_text())
        found = (each for each in context.rglob("*") if each.is_file() and "runtime" not in each.parts)
        self.contexts.append({each.relative_to(context).as_posix() for each in found})
        lines = self.failures.pop(0) if self.failures else []
        for line in lines:
            on_line(line, "stdout")
        return Completed(1 if lines else 0, tuple(lines), 0.0)


@pytest.fixture
def engineless(monkeypatch: pytest.MonkeyPatch) -> None:
    """No engine answers; envd can tell no more."""

    @contextlib.contextmanager
    def base(self: Run) -> Iterator[str]:
        yield self.request.base.pinned

    monkeypatch.setattr(Run, "_base", base)
    monkeypatch.setattr(Run, "_leave", lambda *_: "sha256:left")
    monkeypatch.setattr(Seed, "copy_to", lambda _, home, __: home.mkdir())


def asked(folder: Path, text: str = "1", **fields: Any) -> BuildRequest:
    source = folder / "project"
    source.mkdir(parents=True, exist_ok=True)
    (source / "app.py").write_text(text)
    spec = ImageSpec(**{"source_root": source, "user": "1000:1000", **fields})
    staged = stage(spec, folder / f"staged-{text}")
    return BuildRequest(spec, "linux/amd64", PYTHON, LocalEngine("x:staging"), staged)


def planned(request: BuildRequest) -> BuildPlan:
    return EnvdBuilder(Environment(Envd([]), {}, Path("/nowhere"))).plan(request)


def built(envd: Envd, plan: BuildPlan, cache: Path) -> tuple[Built, list[Event]]:
    events: list[Event] = []
    environment = Environment(envd, {"DOCKER_HOST": "unix:///nowhere"}, cache)
    return Run(environment, "envd", None, plan, events.append).build(), events


def test_an_edit_changes_no_plan(tmp_path: Path) -> None:
    one, two = (planned(asked(tmp_path, text)) for text in ("1", "2"))
    assert one.files_apart
    assert one.request.staged.digests != two.request.staged.digests
    assert replace(one, request=two.request) == two
    assert one.steps == ("work directory: /workspace", "clean up", "files: /workspace")


@pytest.mark.parametrize("fields", [{"commands": ["true"]}, {"user": "somebody"}])
def test_what_needs_the_files_has_them(tmp_path: Path, fields: dict[str, Any]) -> None:
    plan = planned(asked(tmp_path, **fields))
    assert not plan.files_apart
    assert plan.steps[0] == "files: /workspace"
    assert f"{plan.files['build.envd']}".count("/source/.") == 1


@pytest.mark.usefixtures("engineless")
def test_envd_does_not_see_files_that_are_apart(tmp_path: Path) -> None:
    envd = Envd([])
    result, _ = built(envd, planned(asked(tmp_path)), tmp_path)
    assert result.lacks_files
    assert envd.contexts == [set()]
    assert "/source" not in envd.texts[0]


@pytest.mark.usefixtures("engineless")
def test_where_the_work_directory_is_not_bare_envd_copies(tmp_path: Path) -> None:
    envd = Envd([says("workdir", NOT_BARE)])
    plan = planned(asked(tmp_path))
    result, events = built(envd, plan, tmp_path / "cache")
    assert not result.lacks_files
    assert envd.contexts == [set(), {"source/app.py"}]
    assert ["/source/." in text for text in envd.texts] == [False, True]
    assert [each for each in events if isinstance(each, Message) and "not bare" in each.text]

    result, events = built(envd, plan, tmp_path / "cache")
    assert not result.lacks_files
    assert len(envd.texts) == 3, "the bare way was tried again"
    assert not [each for each in events if isinstance(each, Message)]


@pytest.mark.usefixtures("engineless")
@pytest.mark.parametrize(
    "lines",
    [says("workdir", "mkdir: cannot create directory"), says("packages", NOT_BARE), says("workdir")],
)
def test_other_failures_are_errors(tmp_path: Path, lines: list[str]) -> None:
    envd = Envd([lines])
    plan = planned(asked(tmp_path, packages=["six"]))
    with pytest.raises(BuildFailed):
        built(envd, plan, tmp_path / "cache")
    assert len(envd.texts) == 1


@pytest.mark.usefixtures("engineless")
def test_a_failure_of_the_copy_is_an_error(tmp_path: Path) -> None:
    envd = Envd([says("workdir", NOT_BARE), says("files", "no space left on device")])
    with pytest.raises(BuildFailed, match=r"files: /workspace failed"):
        built(envd, planned(asked(tmp_path)), tmp_path / "cache")
