"""Options of a builder, from a spec's ``builder_options`` and the machine's settings, checked. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

__all__ = ["Kinds", "checked", "text", "texts", "yes_no"]

Kinds: TypeAlias = Mapping[str, Callable[[object], Any]]
"""Option -> what gives its value; it raises ValueError with what is wrong."""


def checked(
    given: Mapping[str, object], kinds: Kinds, builder: str, field: str = ""
) -> tuple[dict[str, Any], dict[str, str]]:
    """The values, and option -> what is wrong with it (as ``field['option']`` where a field is named)."""
    values: dict[str, Any] = {}
    problems: dict[str, str] = {}
    for name, value in given.items():
        where = f"{field}[{name!r}]" if field else name
        if name not in kinds:
            near = difflib.get_close_matches(name.replace("-", "_"), list(kinds), n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(kinds)}"
            problems[where] = f"no option of the {builder} builder; {hint}"
            continue
        try:
            values[name] = kinds[name](value)
        except ValueError as error:
            problems[where] = str(error)
    return values, problems


def text(value: object) -> str:
    """One line that no tool takes for an option of its own."""
    if not isinstance(value, str) or not value or value.startswith("-") or "\n" in value:
        raise ValueError(f"expected text, got {value!r}")
    return value


def texts(value: object) -> tuple[str, ...]:
    """One text, or several."""
    if isinstance(value, str):
        return (text(value),)
    if not isinstance(value, Sequence):
        raise ValueError(f"expected text or a list of texts, got {value!r}")  # noqa: TRY004 - of one kind
    return tuple(text(each) for each in value)


def yes_no(value: object) -> bool:
    """True or false, also as a word."""
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in words:  # from a variable of the environment
        return words[value.lower()]
    raise ValueError(f"expected true or false, got {value!r}")
