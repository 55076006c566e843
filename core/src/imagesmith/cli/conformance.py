"""``imagesmith conformance``."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import click

from imagesmith.cli import options
from imagesmith.cli.terminal import answer, answer_json, say
from imagesmith.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from imagesmith.builder import Feature, Support
    from imagesmith.conformance import Outcome

__all__ = ["command", "tables"]


def _split(_context: click.Context, _parameter: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(part for text in value for part in text.replace(",", " ").split())


@click.command(
    "conformance",
    short_help="Check that a builder does what every builder must do.",
    epilog="Example: imagesmith conformance envd --tier plan --tier fake",
)
@click.argument("name", metavar="[NAME]", required=False)
@click.option(
    "--tier",
    "tiers",
    multiple=True,
    type=click.Choice(["plan", "fake", "live"]),
    help="Checks of this tier; may be given several times; unset: all.",
)
@click.option(
    "--only", metavar="ID,...", multiple=True, callback=_split, help="Only the checks with these ids."
)
@click.option(
    "--expect",
    metavar="ID=REASON",
    multiple=True,
    help="A failure that is known, and why; that it passes is a failure then.",
)
@click.option(
    "--junit", type=click.Path(path_type=Path, dir_okay=False), help="Write JUnit's XML there as well."
)
@click.option("--rules", is_flag=True, help="Print the rules, as Markdown, instead.")
@options.as_json
@options.debug
def command(
    name: str | None,
    *,
    tiers: tuple[str, ...],
    only: tuple[str, ...],
    expect: tuple[str, ...],
    junit: Path | None,
    rules: bool,
    as_json: bool,
) -> int:
    """Check the builder NAME against the catalogue that all builders share.

    The live tier builds images on the engine of this machine: see docs/conformance.md for what it needs.
    """
    if rules:
        from imagesmith.conformance.document import rules as page  # noqa: PLC0415

        answer(page(tables()).rstrip())
        return 0
    if name is None:
        raise UsageError(
            "name the builder to check", hint="imagesmith builders lists those that are installed"
        )
    expected = dict(_expectation(text) for text in expect)
    from imagesmith.conformance import check_builder  # noqa: PLC0415

    try:
        import hypothesis  # noqa: F401, PLC0415 - one of the checks needs it
    except ImportError as error:
        raise UsageError(
            f"conformance needs {error.name}", hint="pip install 'imagesmith[conformance]'"
        ) from error
    report = check_builder(
        name, tiers=tiers or ("plan", "fake", "live"), only=only, expected_failures=expected, watch=_watch
    )
    if junit is not None:
        junit.write_text(report.to_junit(), encoding="utf-8")
    if as_json:
        answer_json(report.to_dict())
    else:
        answer(report.to_text())
    return 0 if report.ok else 1


def _watch(outcome: Outcome) -> None:
    say(f"{outcome.status:8} {outcome.check.id} ({outcome.seconds:.1f} s)")


def _expectation(text: str) -> tuple[str, str]:
    check, equals, reason = text.partition("=")
    if not equals or not reason.strip():
        raise UsageError(f"--expect {text!r} is not ID=REASON", hint="a known failure needs its reason")
    return check, reason


def tables() -> dict[str, Mapping[Feature, Support]]:
    """The feature tables of the builders that are installed and can be made."""
    from imagesmith.errors import ImagesmithError  # noqa: PLC0415
    from imagesmith.pipeline import make_builder  # noqa: PLC0415
    from imagesmith.plugins import Plugins  # noqa: PLC0415
    from imagesmith.runner import SubprocessRunner  # noqa: PLC0415
    from imagesmith.settings import Settings  # noqa: PLC0415

    plugins, found = Plugins(), {}
    for name in plugins.names():
        with contextlib.suppress(ImagesmithError):
            found[name] = make_builder(plugins, name, Settings(), SubprocessRunner()).features
    return found
