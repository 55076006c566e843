"""Write docs/reference.md and docs/builders.md from the code: fields, features, commands, errors, settings.

``make docs`` runs it; a test holds the checked-in files to it.
"""

from __future__ import annotations

import inspect
import json
import os
import tomllib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import click

import imagesmith
from imagesmith import (
    Feature,
    ImagesmithError,
    ImageSpec,
    SubprocessRunner,
    Support,
    engine,
    errors,
    hints,
    scripts,
)
from imagesmith.cli.app import COMMANDS, cli
from imagesmith.pipeline import make_builder
from imagesmith.plugins import Plugins
from imagesmith.settings import Settings
from imagesmith.spec import declarations

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "docs" / "reference.md"
CHOICE_FILE = ROOT / "docs" / "builders.md"
WIDTH = 88
AUTHORING = (
    *("command_environment", "conda_check", "final_user", "install_arguments", "install_environment"),
    "python_mismatch",
    "redactions",
    "stated_python",
)
"""The public functions of ``imagesmith`` that a builder calls."""

HEAD = """\
<!-- Made by docs/generate.py (make docs) from the code: edit that, not this. -->
# Reference

The [guide](guide.md) explains; this page lists. It is generated from the code.
"""


CHOICE_HEAD = """\
<!-- Made by docs/generate.py (make docs) from the builders' feature tables and bench/results.json. -->
# Which builder?

Any of them: the same spec gives an image that behaves the same, or a refusal that says why. So start with
what is there, and change one word later. `imagesmith doctor` says what your machine can use. Builders of
others are installed beside these and chosen by name: [the page for their authors](builder-authors.md).

"""
CHOICES = (
    ("Builder", "It needs", "Take it when", "Rather not when"),
    (
        "`envd`, the default",
        "a Docker engine, or a BuildKit at an address",
        "you have Docker and no wish to think about it: the tool comes with pip",
        "images are built for several platforms, or packages change often",
    ),
    (
        "`docker`",
        "Docker's client with buildx, and any builder that buildx knows",
        "images are built often, on a farm, for several platforms, with caches in a registry",
        "there is no engine to be had",
    ),
    (
        "`buildpacks`",
        "a Docker engine, and the builder image of some buildpacks",
        "others keep the base images, to be exchanged under what you built (`imagesmith rebase`)",
        "you have no builder image, or the exact files of a base matter",
    ),
    (
        "`oci`",
        "no engine and no root; for `apt_packages` and `commands` Linux with user namespaces",
        "there is no Docker (a laptop, a pod, a CI job), or the fastest edit is what counts",
        "packages come as source that has to be compiled",
    ),
)
"""What no table of features says."""


def choice() -> str:
    """The page that tells the builders apart."""
    head = CHOICE_HEAD + "\n".join([*_table(*CHOICES[0]), *(_row(*cells) for cells in CHOICES[1:])]) + "\n"
    parts = (_section("What they can do", _differences()), _section("Measured", _measured()))
    return "\n".join([head, *parts])


def _differences() -> Iterator[str]:
    tables = dict(_feature_tables())
    same, rows = [], []
    for feature in Feature:
        supports = [table.get(feature, Support.IMPOSSIBLE) for table in tables.values()]
        if set(supports) == {Support.FULL}:
            same.append(f"`{feature}`")
        else:
            rows.append(_row(f"`{feature}`", *(support.value for support in supports)))
    yield f"All of them: {', '.join(same)}."
    if rows:
        yield ""
        yield from _table("Feature", *tables)
        yield from rows
    yield ""
    yield "A field that a builder cannot honour is refused before any work, with the builders that can."


def _measured() -> Iterator[str]:
    told = json.loads((ROOT / "bench" / "results.json").read_text(encoding="utf-8"))
    cases = list(next(iter(told.values())))
    yield "Seconds of whole processes on two cores, and megabytes of all files in the image: curl, git"
    yield "by apt; numpy, pandas, requests; 200 source files; for the local engine. `make bench` runs it."
    yield ""
    yield from _table("", *cases)
    for who, found in told.items():
        yield _row(who, *(format(found[case], ".0f" if case == "MB" else ".2f") for case in cases))


def reference() -> str:
    """The whole page."""
    parts = (
        HEAD,
        _section("Fields of ImageSpec", _fields()),
        _section("Methods of ImageSpec", _methods()),
        _section("Functions", _functions()),
        _section("What each builder can do", _features()),
        _section("Command line", _command_line()),
        _section("Errors", _errors()),
        _section("Helpers for builders", _members(imagesmith, AUTHORING)),
        *(
            _section(f"Helpers for builders: {module.__name__}", _members(module, module.__all__))
            for module in (engine, scripts, hints)
        ),
    )
    return "\n".join(parts)


def _section(title: str, lines: Iterator[str]) -> str:
    return "\n".join([f"## {title}", "", *lines]) + "\n"


def _row(*cells: object) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def _table(*head: str) -> Iterator[str]:
    yield _row(*head)
    yield "|" + "---|" * len(head)


def _fields() -> Iterator[str]:
    yield "In positional order; from `copy` on they are keyword-only. *Enters*: what the value changes."
    yield "*Order*: whether the order of a list means something (elsewhere it changes neither id nor tag)."
    yield ""
    yield from _table("Field", "Kind", "Default", "Enters", "Order", "Meaning")
    for name, told in declarations().items():
        default = "unset" if told.default is None or told.default in ((), {}) else f"`{told.default!r}`"
        order = "" if "list" not in told.kind else ("kept" if told.ordered else "free")
        yield _row(f"`{name}`", told.kind, default, told.role.value, order, told.doc)


def _methods() -> Iterator[str]:
    yield from _table("Name", "What it gives")
    for name, member in inspect.getmembers(ImageSpec):
        public = not name.startswith("_") and name not in declarations()
        if public and (callable(member) or isinstance(member, property)):
            shown = f"`{name}`" if isinstance(member, property) else f"`{name}{_parameters(member)}`"
            yield _row(shown, _first_line(member))


def _functions() -> Iterator[str]:
    for function in (imagesmith.build, imagesmith.exists, imagesmith.render, imagesmith.load):
        yield f"### imagesmith.{function.__name__}"
        yield ""
        yield "```text"
        yield from _signature(function)
        yield ""
        yield inspect.getdoc(function) or ""
        yield "```"
        yield ""


def _signature(function: Callable[..., object]) -> Iterator[str]:
    told = inspect.signature(function)
    yield f"{function.__name__}("
    keyword_only = False
    for each in told.parameters.values():
        if each.kind is each.KEYWORD_ONLY and not keyword_only:
            keyword_only = True
            yield "    *,"
        default = getattr(each.default, "__name__", repr(each.default))
        yield f"    {each.name}: {each.annotation}{'' if each.default is each.empty else f' = {default}'},"
    yield f") -> {told.return_annotation}"


def _features() -> Iterator[str]:
    yield "A field that a builder cannot honour is refused before any work. *not yet*: possible, not written."
    yield ""
    tables = dict(_feature_tables())
    yield from _table("Feature", *tables)
    for feature in Feature:
        supports = (table.get(feature, Support.IMPOSSIBLE).value for table in tables.values())
        yield _row(f"`{feature}`", *supports)


def _feature_tables() -> Iterator[tuple[str, dict[Feature, Support]]]:
    """Of this project's own builders that are installed, whatever else is."""
    plugins = Plugins()
    for project in sorted(ROOT.glob("plugins/*/pyproject.toml")):
        told = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
        for name in set(plugins.names()) & told["entry-points"]["imagesmith"].keys():
            builder = make_builder(plugins, name, Settings(), SubprocessRunner())
            yield name, dict(builder.features)


def _command_line() -> Iterator[str]:
    options = cli.context_settings
    with click.Context(cli, info_name="imagesmith", terminal_width=WIDTH, color=False, **options) as top:
        yield from _help("imagesmith", cli.get_help(top))
        for name in COMMANDS:
            command = cli.get_command(top, name)
            assert command is not None
            with click.Context(command, info_name=name, parent=top, terminal_width=WIDTH, color=False) as ctx:
                yield from _help(f"imagesmith {name}", command.get_help(ctx))


def _help(title: str, text: str) -> Iterator[str]:
    yield f"### {title}"
    yield ""
    yield "```text"
    yield text
    yield "```"
    yield ""


def _errors() -> Iterator[str]:
    yield "Every error is an `ImagesmithError` with `message`, `hint` and `exit_code` (what the command line"
    yield "returns). Indented ones are caught by those above them."
    yield ""
    yield from _table("Error", "Exit", "Meaning")
    yield from _error(ImagesmithError, 0)


def _error(kind: type[ImagesmithError], depth: int) -> Iterator[str]:
    yield _row("&nbsp;" * 4 * depth + f"`{kind.__name__}`", kind.exit_code, _first_line(kind))
    for below in sorted(kind.__subclasses__(), key=_place):
        if below.__name__ in imagesmith.__all__:
            yield from _error(below, depth + 1)


def _place(kind: type) -> tuple[int, str]:
    """As the tree in errors.py is drawn."""
    return (errors.__doc__ or "").find(f" {kind.__name__} "), kind.__name__


def _members(module: object, names: Sequence[str]) -> Iterator[str]:
    yield from _table("Name", "What it gives")
    for name in names:
        member = getattr(module, name)
        if inspect.isfunction(member):
            yield _row(f"`{name}{_parameters(member)}`", _first_line(member))


def _parameters(function: object) -> str:
    names = inspect.signature(function).parameters.values()  # type: ignore[arg-type]
    shown = [str(each.replace(annotation=each.empty, default=each.empty)) for each in names]
    return f"({', '.join(name for name in shown if name != 'self')})"


def _first_line(thing: object) -> str:
    return " ".join((inspect.getdoc(thing) or "").partition("\n\n")[0].split()).replace("``", "`")


if __name__ == "__main__":
    os.environ.pop("IMAGESMITH_BLOCKED_BUILDERS", None)
    for file, page in ((FILE, reference), (CHOICE_FILE, choice)):
        file.write_text(page(), encoding="utf-8")
        print(f"wrote {file.relative_to(ROOT)}")
