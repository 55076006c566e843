"""``imagesmith build``, with a pipeline that is a fake one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from imagesmith.errors import BuilderNotReady, BuildFailed, ImagesmithError, SpecError
from tests.cli.conftest import FakeBuild, Run


def test_stdout_carries_the_reference_and_nothing_else(run: Run, fake_build: FakeBuild) -> None:
    done = run("build", "app.py:image")
    assert (done.code, done.out) == (0, "registry.example/app:tag\n")
    assert "== checking app:tag" in done.err
    assert "built registry.example/app:tag" in done.err
    assert "log: build.log" in done.err


def test_several_targets_give_a_line_each_in_their_order(run: Run, fake_build: FakeBuild) -> None:
    done = run("build", "app.py:other", "app.py:image")
    assert done.out == "registry.example/other:tag\nregistry.example/app:tag\n"


def test_a_wrong_target_among_several_builds_none(run: Run, fake_build: FakeBuild) -> None:
    done = run("build", "app.py:image", "nowhere.toml")
    assert (done.code, done.out, fake_build.calls) == (2, "", [])
    assert "nowhere.toml" in done.err


def test_json_is_an_object_for_one_and_a_list_for_several(run: Run, fake_build: FakeBuild) -> None:
    one = json.loads(run("build", "app.py:image", "--json").out)
    assert one == {
        "reference": "registry.example/app:tag",
        "digest": "sha256:" + "0" * 64,
        "platforms": ["linux/amd64"],
        "builder": "fake 1.0",
        "reused": False,
        "seconds": 1.5,
        "log": "build.log",
        "conda": [],
        "packages": [],
    }
    several = json.loads(run("build", "app.py:image", "app.py:other", "--json").out)
    assert [value["reference"] for value in several] == [
        "registry.example/app:tag",
        "registry.example/other:tag",
    ]


def test_a_reused_image_is_said_to_be_one(run: Run, fake_build: FakeBuild) -> None:
    fake_build.reused = True
    done = run("build", "app.py:image")
    assert "reused registry.example/app:tag" in done.err
    assert json.loads(run("build", "app.py:image", "--json").out)["reused"] is True


def test_every_option_reaches_the_pipeline(run: Run, fake_build: FakeBuild) -> None:
    options = ["--builder", "b", "--force", "--no-push", "--on-unknown", "build", "--output", "layout"]
    run("build", "app.py:image", *options)
    run("build", "app.py:image", "--push")
    run("build", "app.py:image")
    (spec, first), (_, second), (_, third) = fake_build.calls
    assert spec.name == "app"
    names = ("builder", "force", "push", "on_unknown", "output")
    assert [first[name] for name in names] == ["b", True, False, "build", Path("layout")]
    assert [second[name] for name in names] == [None, False, True, "error", None]
    assert third["push"] is None


def test_settings_of_the_working_directory_reach_the_pipeline(
    run: Run, fake_build: FakeBuild, project: Path
) -> None:
    (project / "pyproject.toml").write_text("[tool.imagesmith]\nbuilder = 'mine'\n", encoding="utf-8")
    run("build", "app.py:image")
    assert fake_build.calls[0][1]["settings"].builder_project == "mine"


def test_a_module_is_found_in_the_working_directory(run: Run, fake_build: FakeBuild, project: Path) -> None:
    (project / "a_module_of_this_test.py").write_text(
        "import sys\nfrom imagesmith import ImageSpec\nspec = ImageSpec(name=__name__.replace('_', '-'))\n",
        encoding="utf-8",
    )
    import sys

    before = list(sys.path)
    assert run("build", "a_module_of_this_test:spec").out == "registry.example/a-module-of-this-test:tag\n"
    assert sys.path == before


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (ImagesmithError("it says no", hint="ask again"), 1, ["error: it says no", "hint: ask again"]),
        (SpecError([]), 2, ["error: ImageSpec"]),
        (BuilderNotReady("no tool", builder="b", hint="install it"), 3, ["error: no tool", "install it"]),
        (
            BuildFailed("command 2 failed", builder="b", tail=["one", "two"], log="x.log"),
            1,
            ["error: command 2 failed", "| two", "log: x.log"],
        ),
        (OSError(28, "No space left on device", "/cache"), 3, ["error: [Errno 28]", "/cache"]),
        (KeyboardInterrupt(), 130, ["interrupted"]),
    ],
)
def test_every_error_has_its_exit_code_and_no_traceback(
    run: Run, fake_build: FakeBuild, error: BaseException, code: int, words: list[str]
) -> None:
    fake_build.error = error
    done = run("build", "app.py:image")
    assert (done.code, done.out) == (code, "")
    assert "Traceback" not in done.err
    for word in words:
        assert word in done.err


@pytest.mark.parametrize("how", ["option", "option of the group", "environment"])
def test_a_traceback_for_those_who_ask(
    run: Run, fake_build: FakeBuild, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    fake_build.error = ImagesmithError("it says no")
    if how == "environment":
        monkeypatch.setenv("IMAGESMITH_DEBUG", "1")
    before = ["--debug"] if how == "option of the group" else []
    after = ["--debug"] if how == "option" else []
    done = run(*before, "build", "app.py:image", *after)
    assert done.code == 1
    assert "Traceback" in done.err
    assert done.err.rstrip().endswith("error: it says no")


def test_a_fault_of_ours_shows_its_traceback_and_is_no_answer(run: Run, fake_build: FakeBuild) -> None:
    fake_build.error = ZeroDivisionError("oops")
    done = run("build", "app.py:image")
    assert done.code == 3
    assert "Traceback" in done.err
    assert "not yours: ZeroDivisionError: oops" in done.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("build",),
        ("build", "--nonsense", "x"),
        ("biuld", "x"),
        ("build", "app.py:image", "--on-unknown", "maybe"),
    ],
)
def test_wrong_usage_is_2(run: Run, fake_build: FakeBuild, arguments: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert (done.code, done.out) == (2, "")
    assert "Usage:" in done.err


def test_a_misspelt_command_gets_a_guess(run: Run) -> None:
    assert "Did you mean 'build'?" in run("biuld", "x").err


@pytest.mark.parametrize(
    "command", ["", "build", "render", "id", "tag", "exists", "files", "inspect", "doctor"]
)
def test_help_is_an_answer(run: Run, command: str) -> None:
    done = run(*filter(None, [command]), "--help")
    assert (done.code, done.err) == (0, "")
    assert "Usage: imagesmith" in done.out
    assert ("Example" in done.out) == bool(command)


def test_one_file_is_for_one_image(run: Run, fake_build: FakeBuild) -> None:
    done = run("build", "app.py:image", "app.py:other", "--output", "image.tar")
    assert (done.code, fake_build.calls) == (2, [])
    assert "image.tar holds one image, not 2" in done.err
    assert run("build", "app.py:image", "--output", "image.tar").code == 0
    assert run("build", "app.py:image", "app.py:other", "--output", "layout").code == 0
