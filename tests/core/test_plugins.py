"""Plugins, really installed as wheels and asked in a process of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from imagesmith import plugins as plugins_module
from imagesmith.builder import BuilderEntry, Environment
from imagesmith.errors import (
    ApiMismatch,
    BrokenPlugin,
    DuplicateBuilder,
    PluginError,
    UnknownBuilder,
    UsageError,
)
from imagesmith.plugins import DEFAULT_BUILDER, Broken, Loaded, Plugins, choose
from tests.core.wheels import install, write_wheel

GOOD = """
    from imagesmith.builder import BuilderEntry
    from imagesmith.hookspecs import hookimpl

    def make(environment):
        return environment

    @hookimpl
    def imagesmith_builder():
        return BuilderEntry(name="{name}", summary="a test builder", factory=make)
"""
RETURN = 'return BuilderEntry(name="{name}", summary="a test builder", factory=make)'
BROKEN = {
    "importless": "import a_module_that_is_not_there\n",
    "exiting": "import sys\nsys.exit('no display')\n",
    "misspelt": GOOD.replace("def imagesmith_builder", "def imagesmith_bilder"),
    "stranger": GOOD.replace("def imagesmith_builder", "def something_else"),
    "hookless": "x = 1\n",
    "unmarked": GOOD.replace("    @hookimpl\n", ""),
    "misnamed": GOOD.replace('"{name}"', '"other"'),
    "parentheses": GOOD.replace(RETURN, "return BuilderEntry"),
    "raising": GOOD.replace(RETURN, "return 1 / 0"),
    "nothing": GOOD.replace(RETURN, "pass"),
    "arguments": GOOD.replace("imagesmith_builder():", "imagesmith_builder(config):"),
    "future": GOOD.replace("factory=make", "factory=make, api=99"),
    "ancient": GOOD.replace("factory=make", "factory=make, api=0"),
    "uncallable": GOOD.replace("factory=make", "factory=3"),
    "textual": GOOD.replace("factory=make", "factory=make, api='1'"),
    "refusing": GOOD.replace(
        RETURN, "from imagesmith import UsageError\n        raise UsageError('not today')"
    ),
    "leaving": GOOD.replace(RETURN, "raise SystemExit('gone')"),
}
UNMADE = {
    "explosive": GOOD.replace("return environment", "return 1 / 0"),
    "quitting": GOOD.replace("return environment", "raise SystemExit('gone')"),
    "empty": GOOD.replace("return environment", "return None"),
    "partial": GOOD.replace(
        "return environment", "P = type('P', (), {'name': 'x', 'version': '1'}); return P()"
    ),
    "tableless": """
        from imagesmith.builder import BuilderEntry
        from imagesmith.hookspecs import hookimpl
        from imagesmith.testing import FakeBuilder

        class Builder(FakeBuilder):
            name = "tableless"

            @property
            def features(self):
                raise RuntimeError("no table")

        @hookimpl
        def imagesmith_builder():
            return BuilderEntry(name="tableless", summary="", factory=Builder)
    """,
    "listed": """
        from imagesmith.builder import BuilderEntry
        from imagesmith.hookspecs import hookimpl
        from imagesmith.testing import FakeBuilder

        class Builder(FakeBuilder):
            name = "listed"
            features = ["packages"]

        @hookimpl
        def imagesmith_builder():
            return BuilderEntry(name="listed", summary="", factory=Builder)
    """,
}
"""They load; what they make is no builder."""
WORKING = """
    from imagesmith.builder import BuilderEntry, Feature, Support
    from imagesmith.hookspecs import hookimpl
    from imagesmith.testing import FakeBuilder

    class Builder(FakeBuilder):
        name = "working"
        features = {**FakeBuilder.features, Feature.CUDA: Support.NOT_YET}

    @hookimpl
    def imagesmith_builder():
        return BuilderEntry(name="working", summary="it works", factory=Builder)
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every kind of plugin installed in it."""
    folder = tmp_path_factory.mktemp("plugins")
    wheels = [_plugin(folder, "good", GOOD)]
    wheels += [_plugin(folder, name, text) for name, text in {**BROKEN, **UNMADE}.items()]
    wheels.append(_plugin(folder, "working", WORKING))
    for number in "12":
        module = f"twice{number}"
        text = textwrap.dedent(GOOD).format(name="twice")
        files = {f"{module}/__init__.py": text}
        wheels.append(
            write_wheel(folder, f"twice-{number}", f"{number}.5", files=files, entry_points={"twice": module})
        )
    install(folder / "site", *wheels)
    return folder / "site"


def _plugin(folder: Path, name: str, text: str) -> Path:
    files = {f"imagesmith_{name}/__init__.py": textwrap.dedent(text).replace("{name}", name)}
    return write_wheel(folder, f"imagesmith-{name}", files=files, entry_points={name: f"imagesmith_{name}"})


def _ask(site: Path, code: str, **env: str) -> Any:
    """What a script says on stdout, as JSON; ``plugins`` and ``sys`` are at hand."""
    script = "import sys, json\nfrom imagesmith.plugins import *\n" + textwrap.dedent(code)
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(site), **env},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def _load(site: Path, name: str) -> tuple[str, str, str]:
    """Error class, message and hint of loading that builder."""
    code = f"""
        try:
            Plugins().load({name!r})
        except Exception as error:
            print(json.dumps([type(error).__name__, error.message, error.hint]))
    """
    kind, message, hint = _ask(site, code)
    return kind, message, hint


def test_names_are_listed_without_importing_a_plugin(site: Path) -> None:
    code = """
        names = Plugins().names()
        imported = [name for name in sys.modules if name.startswith(("imagesmith_", "twice"))]
        print(json.dumps([names, imported]))
    """
    names, imported = _ask(site, code)
    assert set(names) >= {"good", "twice", *BROKEN}
    assert names == sorted(names)
    assert imported == []


def test_only_the_builder_asked_for_is_imported(site: Path) -> None:
    code = """
        entry = Plugins().load("good")
        imported = [name for name in sys.modules if name.startswith("imagesmith_")]
        print(json.dumps([entry.name, entry.summary, imported]))
    """
    assert _ask(site, code) == ["good", "a test builder", ["imagesmith_good"]]


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        (
            "importless",
            "BrokenPlugin",
            ["does not import", "ModuleNotFoundError: No module named 'a_m"],
        ),
        ("exiting", "BrokenPlugin", ["does not import", "no display"]),
        ("misspelt", "BrokenPlugin", ["'imagesmith_bilder'", "did you mean 'imagesmith_builder'?"]),
        ("stranger", "BrokenPlugin", ["'something_else'", "there is only 'imagesmith_builder'"]),
        ("hookless", "BrokenPlugin", ["implements no hook 'imagesmith_builder'"]),
        ("unmarked", "BrokenPlugin", ["imagesmith_builder lacks its @hookimpl"]),
        ("misnamed", "BrokenPlugin", ["entry point is named 'misnamed'", "builder 'other'"]),
        ("parentheses", "BrokenPlugin", ["the class BuilderEntry", "forgotten the parentheses"]),
        ("raising", "BrokenPlugin", ["raised ZeroDivisionError"]),
        ("nothing", "BrokenPlugin", ["returned None, not a BuilderEntry"]),
        ("arguments", "BrokenPlugin", ["does not fit", "config"]),
        ("uncallable", "BrokenPlugin", ["factory is a int"]),
        ("refusing", "BrokenPlugin", ["said: not today"]),
        ("leaving", "BrokenPlugin", ["raised SystemExit: gone"]),
        ("textual", "ApiMismatch", ["version '1'", "speaks 1"]),
        ("future", "ApiMismatch", ["version 99", "speaks 1"]),
        ("ancient", "ApiMismatch", ["version 0", "speaks 1"]),
    ],
)
def test_a_broken_plugin_says_which_one_why_and_what_next(
    site: Path, name: str, kind: str, words: list[str]
) -> None:
    found, message, hint = _load(site, name)
    assert found == kind
    for word in [f"imagesmith-{name} 1.0", *words]:
        assert word in message
    assert "pip install" in hint


def test_an_api_mismatch_says_which_side_to_upgrade(site: Path) -> None:
    assert _load(site, "future")[2] == "pip install --upgrade imagesmith"
    assert _load(site, "ancient")[2] == "pip install --upgrade imagesmith-ancient"


def test_two_distributions_with_one_name_are_refused_naming_both(site: Path) -> None:
    kind, message, hint = _load(site, "twice")
    assert kind == "DuplicateBuilder"
    assert "twice-1 1.5 and twice-2 2.5" in message
    assert "uninstall all but one" in hint


def test_a_misspelt_name_gets_a_guess_and_an_unknown_one_an_install_command(site: Path) -> None:
    kind, message, hint = _load(site, "goood")
    assert kind == "UnknownBuilder"
    assert "'goood'" in message
    assert "good" in message.split("installed:")[1]
    assert hint == "did you mean 'good'?"  # and nothing to install: a stranger may have that name
    assert "pip install imagesmith-elsewhere" in _load(site, "elsewhere")[2]


def test_a_survey_has_a_record_for_each_and_hides_none(site: Path) -> None:
    code = """
        records = Plugins(blocked=("hookless",)).survey()
        print(json.dumps([[type(r).__name__, r.name, r.distribution, r.version] for r in records]))
    """
    records = [tuple(record) for record in _ask(site, code)]
    made = {"good", "twice", *BROKEN}  # what UNMADE are is seen when their builders are made
    ours = {record for record in records if record[1] in made}
    broken = set(BROKEN) - {"hookless"}
    assert ours == {
        ("Loaded", "good", "imagesmith-good", "1.0"),
        ("Blocked", "hookless", "imagesmith-hookless", "1.0"),
        ("Broken", "twice", "twice-1", "1.5"),
        ("Broken", "twice", "twice-2", "2.5"),
        *(("Broken", name, f"imagesmith-{name}", "1.0") for name in broken),
    }


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("explosive", ["cannot be made: ZeroDivisionError"]),
        ("quitting", ["cannot be made: SystemExit: gone"]),
        ("empty", ["made None without name"]),
        ("partial", ["made a P without features"]),
        ("tableless", ["cannot be made: RuntimeError: no table"]),
        ("listed", ["its feature table is a list, not a mapping"]),
    ],
)
def test_what_is_no_builder_is_refused_when_it_is_made(site: Path, name: str, words: list[str]) -> None:
    code = f"""
        from pathlib import Path
        from imagesmith import Environment, SubprocessRunner
        environment = Environment(runner=SubprocessRunner(), env={{}}, cache_dir=Path("cache"))
        try:
            Plugins().make({name!r}, environment)
        except Exception as error:
            print(json.dumps([type(error).__name__, error.message, error.hint]))
    """
    kind, message, hint = _ask(site, code)
    assert kind == "BrokenPlugin"
    for word in [f"imagesmith-{name} 1.0", *words]:
        assert word in message
    assert "pip install" in hint


def _imagesmith(site: Path, folder: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    nowhere = {"DOCKER_HOST": f"unix://{folder}/none.sock", "HOME": str(folder), "PYTHONPATH": str(site)}
    return subprocess.run(
        [sys.executable, "-c", "import sys; from imagesmith.cli import main; sys.exit(main())", *argv],
        cwd=folder,
        env={**os.environ, **nowhere, "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_no_broken_plugin_stops_another_builder(site: Path, tmp_path: Path) -> None:
    """With all of them installed, every command does its work for the one that works."""
    (tmp_path / "spec.toml").write_text('packages = ["six"]\n', encoding="utf-8")
    (tmp_path / "cuda.toml").write_text('cuda = "12.4"\n', encoding="utf-8")
    shown = _imagesmith(site, tmp_path, "render", "spec.toml", "--builder", "working")
    assert shown.returncode == 0, shown.stderr
    assert "fake-tool" in shown.stdout
    # the refusal asks every installed builder for its table
    refused = _imagesmith(site, tmp_path, "render", "cuda.toml", "--builder", "working")
    assert refused.returncode == 2
    assert "cannot honour 'cuda'" in refused.stderr
    assert "Traceback" not in refused.stderr
    listed = _imagesmith(site, tmp_path, "builders", "--json")
    rows = {(row["name"], row["distribution"]): row for row in json.loads(listed.stdout)}
    assert rows["working", "imagesmith-working"]["status"] == "loaded"
    for name in {**BROKEN, **UNMADE}:
        row = rows[name, f"imagesmith-{name}"]
        assert row["status"] == "broken", name
        assert row["problem"], name
    assert {rows["twice", f"twice-{number}"]["status"] for number in "12"} == {"broken"}
    doctor = _imagesmith(site, tmp_path, "doctor")
    assert "builder working" in doctor.stdout + doctor.stderr
    assert "Traceback" not in doctor.stderr
    report = _imagesmith(site, tmp_path, "conformance", "working", "--only", "table.name")
    assert report.returncode == 0, report.stderr
    # and one that is asked for says what is wrong with it, by this machine's exit code
    asked = _imagesmith(site, tmp_path, "render", "spec.toml", "--builder", "explosive")
    assert asked.returncode == 3
    assert "the plugin 'explosive' (imagesmith-explosive 1.0) is broken" in asked.stderr


def test_a_blocked_plugin_is_neither_listed_nor_imported(site: Path) -> None:
    code = """
        from imagesmith.errors import UnknownBuilder
        plugins = Plugins(blocked=("good",))
        plugins.survey()
        try:
            plugins.load("good")
        except UnknownBuilder as error:
            print(json.dumps(["good" in plugins.names(), "imagesmith_good" in sys.modules, str(error)]))
    """
    listed, imported, message = _ask(site, code)
    assert not listed
    assert not imported
    assert "blocked" in message
    assert "IMAGESMITH_BLOCKED_BUILDERS" in message


def test_metadata_that_cannot_be_read_hides_nothing(site: Path, tmp_path: Path) -> None:
    info = tmp_path / "odd-1.0.dist-info"
    info.mkdir()
    (info / "entry_points.txt").write_text("[imagesmith]\nodd = no such module!\n", encoding="utf-8")
    code = "print(json.dumps([[type(r).__name__, r.name, r.distribution] for r in Plugins().survey()]))"
    records = _ask(site, code, PYTHONPATH=os.pathsep.join([str(tmp_path), str(site)]))
    assert ["Broken", "odd", "an unknown distribution"] in records
    assert ["Loaded", "good", "imagesmith-good"] in records


def _make(environment: Environment) -> Any:
    return environment


def test_builders_can_be_given_by_hand_without_looking_for_installed_ones() -> None:
    entry = BuilderEntry(name="mine", summary="", factory=_make)
    plugins = Plugins(discover=False, entries=[entry])
    assert plugins.names() == ("mine",)
    assert plugins.load("mine") is entry
    assert [type(record) for record in plugins.survey()] == [Loaded]
    assert Plugins(discover=False).names() == ()


def test_a_builder_given_twice_by_hand_is_refused() -> None:
    entry = BuilderEntry(name="mine", summary="", factory=_make)
    plugins = Plugins(discover=False, entries=[entry, entry])
    with pytest.raises(DuplicateBuilder):
        plugins.load("mine")
    assert [type(record) for record in plugins.survey()] == [Broken, Broken]


def test_a_deprecated_api_is_used_with_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins_module, "SUPPORTED_APIS", frozenset({1, 2}))
    monkeypatch.setattr(plugins_module, "DEPRECATED_APIS", frozenset({1}))
    old, new = (BuilderEntry(name=f"v{api}", summary="", factory=_make, api=api) for api in (1, 2))
    plugins = Plugins(discover=False, entries=[old, new])
    with pytest.warns(FutureWarning, match="version 1 of the plugin API"):
        assert plugins.load("v1") is old
    assert plugins.load("v2") is new


def test_plugin_errors_have_the_exit_codes_of_the_tree() -> None:
    assert {UnknownBuilder.exit_code, BrokenPlugin.exit_code, ApiMismatch.exit_code} == {2, 3}
    assert issubclass(UnknownBuilder, LookupError)


@pytest.mark.parametrize(
    ("named", "installed", "expected"),
    [
        (("a", "s", "e", "p"), ["x"], "a"),
        ((None, "s", "e", "p"), ["x"], "s"),
        ((None, None, "e", "p"), ["x"], "e"),
        ((None, None, None, "p"), ["x"], "p"),
        ((None, "", "", None), ["x", DEFAULT_BUILDER, "y"], DEFAULT_BUILDER),
        ((None, None, None, None), ["x"], "x"),
    ],
)
def test_the_order_in_which_a_builder_is_chosen(
    named: tuple[str | None, str | None, str | None, str | None], installed: list[str], expected: str
) -> None:
    assert choose(*named, installed) == expected


def test_no_builder_installed_says_what_to_install() -> None:
    with pytest.raises(PluginError, match=f"pip install imagesmith-{DEFAULT_BUILDER}") as caught:
        choose(None, None, None, None, [])
    assert caught.value.exit_code == 3


def test_several_without_the_default_one_ask_for_a_choice() -> None:
    with pytest.raises(UsageError, match=r"x, y[\s\S]*--builder"):
        choose(None, None, None, None, ["y", "x"])
