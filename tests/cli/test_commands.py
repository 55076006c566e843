"""The commands beside build: answers, exit codes, and what they must not touch."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from imagesmith import pipeline
from imagesmith.builder import (
    BaseImage,
    Builder,
    BuilderEntry,
    BuildPlan,
    BuildRequest,
    Command,
    Contribution,
    Environment,
    Feature,
    RegistryRepository,
    Support,
)
from imagesmith.cli.targets import is_spec
from imagesmith.errors import BrokenPlugin
from imagesmith.loading import load
from imagesmith.pipeline import Existence
from imagesmith.plugins import Blocked, Broken, Loaded, Plugins
from imagesmith.testing import FakeBuilder
from tests.cli.conftest import Run


def test_id_is_that_of_the_spec(run: Run, project: Path) -> None:
    expected = load("app.py:image").id
    assert run("id", "app.py:image").out == f"{expected}\n"
    both = run("id", "app.py:image", "app.py:other").out.splitlines()
    assert both[0] == expected != both[1]
    assert json.loads(run("id", "app.py:image", "--json").out) == {"target": "app.py:image", "id": expected}


def test_tag_is_that_of_the_spec(run: Run, project: Path) -> None:
    spec = load("app.py:image")
    assert run("tag", "app.py:image").out == f"{spec.tag}\n"
    assert json.loads(run("tag", "app.py:image", "--json").out) == {
        "target": "app.py:image",
        "id": spec.id,
        "tag": spec.tag,
        "reference": spec.image_name(),
    }


def test_files_are_those_that_enter_the_image(run: Run, project: Path) -> None:
    source = project / "src"
    (source / "__pycache__").mkdir(parents=True)
    (source / "__pycache__" / "x.pyc").write_bytes(b"x")
    (source / "a file.py").write_text("1", encoding="utf-8")
    (source / "ü🙂.txt").write_text("2", encoding="utf-8")
    (project / "spec.toml").write_text('name = "x"\nsource_root = "src"\n', encoding="utf-8")
    done = run("files", "spec.toml")
    assert done.code == 0
    assert "a file.py" in done.out
    assert "pyc" not in done.out
    answer = json.loads(run("files", "spec.toml", "--json").out)
    assert any("a file.py" in name for name in answer["files"])
    assert answer["digests"]


@pytest.mark.parametrize(
    ("found", "code", "word"), [(True, 0, "found"), (False, 1, "absent"), (None, 3, "unknown")]
)
def test_exists_answers_in_a_word_and_a_code(
    run: Run, monkeypatch: pytest.MonkeyPatch, found: bool | None, code: int, word: str
) -> None:
    cause = "no route to host" if found is None else None
    existence = Existence(found, cause, "registry.example/app:tag", digest="sha256:1" if found else None)
    monkeypatch.setattr(pipeline, "exists", lambda spec, *, settings: existence)
    done = run("exists", "app.py:image")
    assert (done.code, done.out) == (code, f"{word}\n")
    assert (cause or "") in done.err
    answer = json.loads(run("exists", "app.py:image", "--json").out)
    assert answer["found"] is found
    assert answer["cause"] == cause


@pytest.fixture
def plan(project: Path) -> BuildPlan:
    request = BuildRequest(
        spec=load("app.py:image"),
        platform="linux/amd64",
        base=BaseImage("docker.io/library/python:3.12-slim"),
        destination=RegistryRepository("registry.example/app"),
        staged=None,  # type: ignore[arg-type]
    )
    return BuildPlan(
        builder="fake",
        request=request,
        files={"build.envd": "def build():\n    pass\n"},
        commands=(Command(("tool", "a b", "$x"), {"KEY": "v w"}),),
        contributed=Contribution(path=("/opt/venv/bin",)),
        steps=("install", "copy"),
    )


def test_render_prints_files_and_commands_as_a_shell_takes_them(
    run: Run, plan: BuildPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "render", lambda spec, **_: (plan,))
    out = run("render", "app.py:image").out
    assert "--- build.envd\ndef build():\n    pass\n" in out
    assert "KEY='v w' tool 'a b' '$x'" in out
    assert "base:     docker.io/library/python:3.12-slim" in out
    assert "registry.example/app:imagesmith-staging" in out
    assert "1. install" in out
    answer = json.loads(run("render", "app.py:image", "--json").out)
    assert answer["files"] == {"build.envd": "def build():\n    pass\n"}
    assert answer["commands"] == [{"argv": ["tool", "a b", "$x"], "env": {"KEY": "v w"}}]


def test_render_of_several_platforms_gives_a_plan_each(
    run: Run, plan: BuildPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "render", lambda spec, **_: (plan, plan))
    assert run("render", "app.py:image").out.count("--- build.envd") == 2
    assert len(json.loads(run("render", "app.py:image", "--json").out)) == 2


class _Fake(FakeBuilder):
    """Its table is what the listing looks at."""

    features: Mapping[Feature, Support] = {Feature.ENV: Support.FULL, Feature.CUDA: Support.NOT_YET}


def _make(environment: Environment) -> Builder:
    return _Fake(environment)


def _fails(environment: Environment) -> Builder:
    raise RuntimeError("no such colour")


class _Survey(Plugins):
    """Installed plugins of every kind."""

    def __init__(self, **_: Any) -> None:
        entries = [BuilderEntry("good", "it is good", _make), BuilderEntry("odd", "it is odd", _fails)]
        super().__init__(discover=False, entries=entries)

    def survey(self) -> tuple[Loaded | Broken | Blocked, ...]:
        broken = Broken("bad", "d-bad", "2", BrokenPlugin("it is broken", hint="mend it"))
        return (*super().survey(), broken, Blocked("shut", "d-shut", "3"))


def test_builders_lists_all_of_them_and_what_is_wrong(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imagesmith.plugins.Plugins", _Survey)
    done = run("builders")
    lines = done.out.splitlines()
    assert done.code == 0
    assert lines[0].split() == ["NAME", "DISTRIBUTION", "VERSION", "STATUS", "FEATURES"]
    assert f"loaded   1 of {len(Feature)}; not yet: cuda; impossible: " in lines[1]
    assert [line.split()[0] for line in lines[1:]] == ["good", "odd", "bad", "shut"]
    assert [
        word in done.err for word in ("RuntimeError: no such colour", "it is broken", "hint: mend it")
    ] == [True] * 3
    answer = {row["name"]: row for row in json.loads(run("builders", "--json").out)}
    assert {name: row["status"] for name, row in answer.items()} == {
        "good": "loaded",
        "odd": "broken",
        "bad": "broken",
        "shut": "blocked",
    }
    assert answer["good"]["features"]["env"] == "full"
    assert answer["good"]["features"]["cuda"] == "not yet"
    assert answer["bad"]["version"] == "2"


def test_builders_without_any_says_what_to_install(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imagesmith.plugins.Plugins", lambda **_: Plugins(discover=False))
    done = run("builders")
    assert (done.code, done.out) == (0, "")
    assert "pip install imagesmith-" in done.err
    assert json.loads(run("builders", "--json").out) == []


def test_blocked_builders_come_from_the_environment(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGESMITH_BLOCKED_BUILDERS", "envd, other")
    rows = json.loads(run("builders", "--json").out)
    assert {row["name"]: row["status"] for row in rows}["envd"] == "blocked"


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("app.py:image", True),
        ("app.py", True),
        ("some/where/spec.toml", True),
        ("app:image", True),
        ("json:tool", True),
        ("python:3.12", False),
        ("registry.example:5000/app:tag", False),
        ("not_a_module_here:tag", False),
        ("app@sha256:0000", False),
        ("app", False),
    ],
)
def test_a_spec_and_an_image_are_told_apart(project: Path, target: str, expected: bool) -> None:
    assert is_spec(target) is expected


def test_a_reader_that_goes_away_is_no_error(project: Path) -> None:
    (project / "many.py").write_text(
        "from imagesmith import ImageSpec\nimage = ImageSpec()\n", encoding="utf-8"
    )
    code = "import sys; from imagesmith.cli import main; sys.exit(main(['id'] + ['many.py:image'] * 9000))"
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=project, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.read(10)
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(30) == 0


def test_the_module_of_a_command_is_imported_when_it_is_asked_for() -> None:
    heavy = ("rich", "docker", "urllib3", "pluggy", "pathspec", "asyncio", "importlib.metadata")
    ours = ("imagesmith.pipeline", "imagesmith.cli.build", "imagesmith.loading")
    code = f"import sys, imagesmith.cli; print([name for name in {heavy + ours} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
