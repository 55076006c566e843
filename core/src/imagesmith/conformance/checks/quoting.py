"""Strings arrive whole: what one value says, no other one says."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, Any

from imagesmith.builder import Feature
from imagesmith.conformance._catalogue import Tier, check
from imagesmith.conformance.subject import shape
from imagesmith.errors import SpecError
from imagesmith.spec import ImageSpec

if TYPE_CHECKING:
    from imagesmith.conformance.subject import Subject

HOSTILE = (
    "two words", "two  words", " ends ", "'", '"', "''", "\\", "\\\\", "$x", "${x}", "$(id)", "`id`", "a;b",
    "a&&b", "a|b", "#a", "!a", "%s", "~", "*", "{a,b}", "\t", "é", "e\u0301", "\U0001f680", "\xa0", "-x",
    "--", "=", "a=b", "'''", '"""', "{{a}}", "<a>", "EOF",
)  # fmt: skip
"""Each means something to some shell, template or format."""
_LINES = ("a\nb", "a\r\nb", "a\rb", "\n", "a\\\nb", "a\nEOF\nb")


def _fields(subject: Subject, text: str) -> list[dict[str, Any]]:
    """The fields that this text may stand in and that the builder itself must carry."""
    line = not set(text) & set("\r\n")
    fields: dict[Feature, list[dict[str, Any]]] = {
        Feature.COMMANDS: [{"commands": [text]}, {"commands": ["true"], "build_env": {"A": text}}],
        Feature.ENV: [{"commands": ["true"], "env": {"A": text}}],
        Feature.BUILD_ENV: [{"packages": ["x"], "build_env": {"A": text}}],
        Feature.WORKDIR: [{"workdir": f"/srv/{text}"}] if line else [],
        Feature.PIP_EXTRA_ARGS: [{"packages": ["x"], "pip_extra_args": [f"--x={text}"]}] if line else [],
        Feature.PACKAGES: [{"packages": [f"x ; platform_version == {text!r}"]}]
        if line and not set(text) & set("'\"\\#") and text.isascii() and text.isprintable()
        else [],
    }
    return [each for feature, found in fields.items() if subject.has(feature) for each in found]


@check("quote.hostile", Tier.PLAN)
def hostile(subject: Subject) -> None:
    """Of strings that mean something to shells and templates, no two give the same plan, in any field."""
    seen: dict[tuple[str, ...], dict[str, str]] = {}
    for text in (*HOSTILE, *_LINES):
        for fields in _fields(subject, text):
            told = _told(subject, fields)
            kept = seen.setdefault(tuple(fields), {})
            if told is not None:
                assert told not in kept, (
                    f"'{list(fields)[-1]}': {kept[told]!r} and {text!r} give one plan: one of them is lost"
                )
                kept[told] = text


@check("quote.any", Tier.PLAN)
def anything(subject: Subject) -> None:
    """The same of random strings and what tools like to make of them: stripped, folded, cut, normalised."""
    import hypothesis  # noqa: PLC0415 - only this check needs it
    from hypothesis import strategies as st  # noqa: PLC0415

    special = st.sampled_from(" \t\n'\"\\$éA")
    character = special | special | st.characters(exclude_categories=["Cs"], exclude_characters="\0")
    texts = st.text(character, min_size=1, max_size=30) | st.text(character, min_size=45, max_size=60)
    count = max(1, len(_fields(subject, "x")))

    @hypothesis.settings(
        max_examples=100,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(hypothesis.HealthCheck),
        report_multiple_bugs=False,
    )
    @hypothesis.given(texts, st.integers(0, count - 1))
    def differ(text: str, number: int) -> None:
        for other in _variants(text):
            pairs = list(zip(_fields(subject, text), _fields(subject, other), strict=False))
            first, changed = pairs[number % len(pairs)]
            if list(first) != list(changed):
                continue
            told = _told(subject, first)
            assert told is None or told != _told(subject, changed), (
                f"'{list(first)[-1]}': {text!r} and {other!r} give one plan: one of them is lost"
            )

    if _fields(subject, "x"):
        differ()


def _variants(text: str) -> list[str]:
    """What careless tools make of a text; without the text itself."""
    made = {
        text.strip(),
        " ".join(text.split()),
        text.lower(),
        unicodedata.normalize("NFC", text),
        unicodedata.normalize("NFD", text),
        text.encode("ascii", "replace").decode(),
        text.replace("'", "").replace('"', ""),
        text.replace("\\", ""),
        text.partition("\n")[0],
        text[:-1],
    }
    return sorted(made - {text, ""})


def _told(subject: Subject, fields: dict[str, Any]) -> str | None:
    """What the plan is, as text; None where the spec or the builder refuses the value by name."""
    try:
        spec = ImageSpec(**fields)
    except SpecError:
        return None
    request = subject.request(spec)
    if subject.builder.refusals(request):
        return None
    return repr(shape(subject.plan(request)))
