"""What the documentation says is tried: its code, its commands, its links; the reference is current."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from imagesmith.cli import main
from imagesmith.cli.app import COMMANDS, cli
from tests.docs.examples import (
    AUTHORS,
    PAGES,
    ROOT,
    Block,
    Command,
    anchors,
    blocks,
    commands,
    matches,
    walk,
)

NO_ENGINE = {"render", "id", "tag", "files", "builders"}
WITH_CODE = [page for page in PAGES if any(block.language == "python" for block in blocks(page))]
CONSOLE = [
    pytest.param(page, block, command, id=f"{page}:{block.line} {command.line}")
    for page in PAGES
    for block in blocks(page)
    if block.language == "console" and not (page == AUTHORS and block in walk())
    for command in commands(block)
]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty working directory; the environment says nothing."""
    monkeypatch.chdir(tmp_path)
    for name in ("BUILDER", "BASE_IMAGE", "ENVD_ADDRESS", "BLOCKED_BUILDERS", "ID", "DEBUG"):
        monkeypatch.delenv(f"IMAGESMITH_{name}", raising=False)
    monkeypatch.setenv("NO_COLOR", "1")
    yield
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def write(page: str, until: Block | None = None) -> None:
    """The files that a page shows, up to a block of it, into the working directory."""
    for block in blocks(page):
        if until is not None and block.line >= until.line:
            return
        if block.file is not None and block.file != "pyproject.toml":
            Path(block.file).write_text(block.text, encoding="utf-8")


def run(page: str) -> dict[str, Any]:
    """The names that all Python of a page, run in its order, leaves."""
    names: dict[str, Any] = {"__name__": "example"}
    everything = blocks(page)
    for block, after in zip(everything, [*everything[1:], None], strict=True):
        if block.language != "python":
            continue
        code = compile("\n" * block.line + block.text, str(ROOT / page), "exec")
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(code, names)
        if after is not None and after.language == "text":
            assert matches(after.text, printed.getvalue()), f"{page}:{block.line}:\n{printed.getvalue()}"
    return names


@pytest.mark.parametrize("page", WITH_CODE)
@pytest.mark.usefixtures("project")
def test_python_runs(page: str) -> None:
    write(page)
    assert run(page)


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.usefixtures("project")
def test_toml_loads(page: str) -> None:
    from imagesmith import load
    from imagesmith.settings import load_settings

    for block in blocks(page):
        if block.language == "toml":
            table = tomllib.loads(block.text)
            Path(block.file or "x.toml").write_text(block.text, encoding="utf-8")
            if block.file == "spec.toml":
                load("spec.toml")
            elif "imagesmith" in table.get("tool", {}):
                assert load_settings(Path.cwd(), {}).file == Path.cwd() / "pyproject.toml"
            else:
                assert table


@pytest.mark.usefixtures("project")
def test_both_formats_of_registry_config_are_read() -> None:
    from imagesmith.stores.credentials import load_settings

    for name in ("ca.pem", "me.pem", "me.key"):
        Path(name).touch()
    docker, envd = [block for block in blocks("docs/guide.md") if block.language == "json"]
    Path("docker.json").write_text(docker.text, encoding="utf-8")
    login = load_settings({}, "docker.json").login("registry.example:5000")
    assert login is not None
    assert (login.username, login.password) == ("user", "password")
    Path("envd.json").write_text(envd.text, encoding="utf-8")
    found = load_settings({}, "envd.json")
    assert found.access("registry.example:5000").ca == Path("ca.pem")
    assert found.access("10.0.0.7:5000").use_http
    assert found.access("docker.io").mirror == "mirror.example/hub"


@pytest.mark.parametrize(("page", "block", "command"), CONSOLE)
@pytest.mark.usefixtures("project")
def test_commands_are_true(
    page: str, block: Block, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = command.argv
    if argv[0] == "docker" and "$(imagesmith" in command.line:
        argv = command.line.partition("$(")[2].partition(")")[0].split()
    if re.fullmatch(r"[A-Z_]+=\S+", argv[0]):
        del argv[0]
    match argv[0]:
        case "imagesmith" if argv[1] in NO_ENGINE:
            write(page, block)
            if not Path("image.py").exists():
                Path("image.py").write_text("from imagesmith import ImageSpec\nimage = ImageSpec()\n")
            if "--builder" in argv and argv[argv.index("--builder") + 1] != "envd":
                _parse(argv)
                return
            code = main(argv[1:])
            out, err = capsys.readouterr()
            assert code == command.code, err
            assert not command.shown or matches(command.shown, out + err), out + err
        case "imagesmith":
            _parse(argv)
        case "pip":
            assert argv[1] == "install"
            for name in argv[2:]:
                assert name == "." or re.split(r"[\[<>=]", name)[0] in _distributions(), name
        case "make":
            targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
            assert argv[1] in targets
        case "towncrier" | "python3" | "pytest":
            pass  # the tools of those who work on this project
        case _:
            pytest.fail(f"nobody knows whether this is true: {command.line}")


def _parse(argv: list[str]) -> None:
    """The command and its options exist; its engine is not asked."""
    import click

    assert argv[1] in COMMANDS
    with click.Context(cli, **cli.context_settings) as top:
        command = cli.get_command(top, argv[1])
        assert command is not None
        command.make_parser(click.Context(command, parent=top)).parse_args(argv[2:])


def _distributions() -> set[str]:
    files = [ROOT / "core" / "pyproject.toml", *ROOT.glob("plugins/*/pyproject.toml")]
    return {tomllib.loads(file.read_text(encoding="utf-8"))["project"]["name"] for file in files}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    text = re.sub(r"```.*?```", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        file = (ROOT / page).parent / path if path else ROOT / page
        assert file.exists(), f"{page} links to {target}"
        assert not anchor or anchor in anchors(file), f"{page} links to {target}"


def test_the_guide_names_every_field_setting_command_and_option() -> None:
    from imagesmith.settings import _OWN
    from imagesmith.spec import declarations

    text = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
    for name in [*declarations(), *(_OWN - {"IMAGESMITH_RIG"})]:
        assert f"`{name}`" in text or f'"{name}"' in text, name
    for name in COMMANDS:
        assert f"imagesmith {name}" in text, name


def test_the_builders_guide_names_the_whole_contract() -> None:
    import dataclasses

    import imagesmith

    text = (ROOT / "docs" / "builder-authors.md").read_text(encoding="utf-8")
    values = (imagesmith.BuildRequest, imagesmith.BuildPlan, imagesmith.Environment, imagesmith.Readiness)
    names = {field.name for value in values for field in dataclasses.fields(value)}
    names |= {feature.value for feature in imagesmith.Feature if "-" in feature.value}
    names |= {"ready", "refusals", "plan", "build", "features"}
    names |= {"has_source", "has_requirements", "has_runtime"}
    names |= {"StepStarted", "StepLog", "StepDone", "Message"}
    names |= {"Contribution", "BuildFailed", "BuilderNotReady"}
    assert {name for name in names if not re.search(rf"\b{name}\b", text)} == set()


def test_the_reference_is_current() -> None:
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    assert generate.reference() == generate.FILE.read_text(encoding="utf-8"), "run: make docs"
    assert generate.choice() == generate.CHOICE_FILE.read_text(encoding="utf-8"), "run: make docs"


def test_readme_is_one_screen() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 60


def test_changelog_fragments_are_all_taken() -> None:
    argv = [sys.executable, "-m", "towncrier", "build", "--draft", "--version", "0.0.1"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    kinds = ("added", "changed", "fixed", "removed")
    for file in (ROOT / "changelog.d").glob("*.md"):
        if file.name not in ("README.md", "template.md"):
            assert file.suffixes[-2:-1] in [[f".{kind}"] for kind in kinds], file.name
            assert f"- {' '.join(file.read_text(encoding='utf-8').split())}" in " ".join(done.stdout.split())
