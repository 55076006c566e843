"""Kinds of fields: how a value is normalised and checked. The field table of ``spec.py`` is made of these.

A kind turns what a user wrote into what a spec holds, and appends to ``problems`` instead of raising, so
that one error can list everything.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import FrozenInstanceError, dataclass, field
from enum import Enum

from imagesmith._checks import nearest
from imagesmith._frozen import FrozenMap
from imagesmith._urls import strip_credentials
from imagesmith.errors import Problem, SpecError

TYPE_CHECKING = False  # typing is not imported at run time: it costs 2 ms
if TYPE_CHECKING:
    from typing import Any, Generic, Self, TypeAlias, TypeVar, overload

    Normalise: TypeAlias = Callable[[object, str, "Problems"], Any]
    Check: TypeAlias = Callable[[str], str | None]

Problems = list[Problem]


class Role(Enum):
    """Where a field enters: id and tag, the tag alone, or neither (location, transport, builder)."""

    IDENTITY = "id and tag"
    TAG_ONLY = "tag"
    NONE = "neither"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Declaration:
    """What is known of a field beside its name and type; found in its dataclass metadata."""

    kind: str
    normalise: Normalise
    doc: str
    role: Role
    default: object
    ordered: bool
    """whether the order of items means something"""
    urls: bool
    """whether items may be or hold URLs, whose credentials do not enter id and tag"""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Kind:
    """A kind of value: its name for people, and how it is normalised."""

    name: str
    normalise: Normalise


def declare(
    kind: Kind,
    doc: str,
    *,
    role: Role = Role.IDENTITY,
    default: object = None,
    ordered: bool = False,
    urls: bool = False,
) -> Any:
    """The one declaration of a field."""
    told = Declaration(kind.name, kind.normalise, doc, role, default, ordered, urls)
    return field(default=default, metadata={"imagesmith": told})


def unknown_fields(names: Iterable[str], known: Iterable[str]) -> Problems:
    """A problem for each name that is no field, with the one it probably means."""
    fields = list(known)
    found: Problems = []
    for name in names:
        if name not in fields:
            close = nearest(name, fields)
            found.append(Problem(name, "unknown field", f"did you mean {close!r}?" if close else None))
    return found


def naming_unknown_fields(init: Callable[..., None]) -> Callable[..., None]:
    """Let an unknown keyword be one problem among the others, instead of a TypeError that hides them."""

    @functools.wraps(init)
    def checked(self: Any, *positional: Any, **named: Any) -> None:
        problems = unknown_fields(
            named, [name for name, each in self.__dataclass_fields__.items() if each.init]
        )
        for problem in problems:
            del named[problem.path]
        try:
            init(self, *positional, **named)
        except SpecError as error:
            problems += error.problems
        if problems:
            raise SpecError(problems, where=type(self).__name__)

    return checked


def refuse_assignment(self: object, name: str, _value: object) -> None:
    """``__setattr__`` of an immutable class: says how to get another value instead."""
    ways = [f"replace({name}=…)", *([f"with_{name}(…)"] if hasattr(self, f"with_{name}") else [])]
    raise FrozenInstanceError(
        f"an ImageSpec is immutable: cannot assign to {name!r}; make a new one with {' or '.join(ways)}"
    )


def text(check: Check | None = None, *, empty: bool = False, blank_is_unset: bool = False) -> Kind:
    """A string. Numbers are not turned into one: YAML's ``3.10`` is the number 3.1."""

    def normalise(value: object, path: str, problems: Problems) -> str | None:
        if value == "" and blank_is_unset:
            return None
        if not isinstance(value, str):
            problems.append(Problem(path, _expected("text", value)))
            return None
        _check_text(value, path, problems, check, empty=empty)
        return value

    return Kind("text", normalise)


def file_path(check: Check | None = None) -> Kind:
    """A path as ``str`` or ``os.PathLike``; held with forward slashes."""

    def normalise(value: object, path: str, problems: Problems) -> str | None:
        if isinstance(value, os.PathLike):
            value = os.fspath(value)
        if not isinstance(value, str):
            problems.append(Problem(path, _expected("a path", value)))
            return None
        if os.sep != "/":
            value = value.replace(os.sep, "/")
        _check_text(value, path, problems, check, empty=False, utf8=False)
        return value

    return Kind("path", normalise)


def many(item: Kind, *, distinct: bool = False) -> Kind:
    """A list, held as a tuple. A string is an error, never a list of letters."""

    def normalise(value: object, path: str, problems: Problems) -> tuple[Any, ...]:
        if isinstance(value, (str, bytes, os.PathLike, Mapping)) or not isinstance(value, Iterable):
            problems.append(Problem(path, _expected("a list", value), _in_a_list(value)))
            return ()
        if isinstance(value, (set, frozenset)):
            value = sorted(value, key=str)
        before = len(problems)
        items = tuple(item.normalise(each, f"{path}[{index}]", problems) for index, each in enumerate(value))
        if distinct and len(problems) == before:
            for index, each in enumerate(items):
                if each in items[:index]:
                    problems.append(Problem(f"{path}[{index}]", f"{each!r} is named twice"))
        return items

    return Kind(f"list of {item.name}", normalise)


def one_or_many(one: Kind, several: Kind) -> Kind:
    """A single item, or a list of them that must not be empty."""

    def normalise(value: object, path: str, problems: Problems) -> Any:
        if isinstance(value, str) or not isinstance(value, Iterable):
            return one.normalise(value, path, problems)
        items = several.normalise(value, path, problems)
        if not items:
            problems.append(Problem(path, "is an empty list; leave it out"))
        return items

    return Kind(f"{one.name} or {several.name}", normalise)


def shell_words(words: Kind) -> Kind:
    """A list of arguments, or one string that is split as a shell would."""

    def normalise(value: object, path: str, problems: Problems) -> Any:
        if isinstance(value, str):
            from shlex import split  # noqa: PLC0415 - rare, and not free

            try:
                value = split(value)
            except ValueError as error:
                problems.append(Problem(path, f"{value!r} cannot be split into arguments: {error}"))
                return ()
        return words.normalise(value, path, problems)

    return Kind(f"{words.name}, or one string of arguments", normalise)


def mapping(key: Check, value_check: Check | None = None) -> Kind:
    """A dict of text to text, held immutable."""
    item = text(value_check, empty=True)

    def normalise(value: object, path: str, problems: Problems) -> FrozenMap[str, str]:
        if not isinstance(value, Mapping):
            problems.append(Problem(path, _expected("a mapping", value)))
            return FrozenMap()
        held: dict[str, str] = {}
        for name, each in value.items():
            here = f"{path}[{name!r}]"
            if isinstance(name, str):
                _check_text(name, here, problems, key, empty=True)
            else:
                problems.append(Problem(here, _expected("text as key", name)))
            held[name] = item.normalise(each, here, problems)
        return FrozenMap(held)

    return Kind("mapping of text to text", normalise)


def pairs(first: Kind, second: Kind) -> Kind:
    """A list of pairs, held as a tuple of tuples."""

    def one(value: object, path: str, problems: Problems) -> tuple[Any, ...]:
        if isinstance(value, str) or not isinstance(value, Sequence) or len(value) != 2:
            problems.append(Problem(path, _expected(f"a pair ({first.name}, {second.name})", value)))
            return ()
        return (
            first.normalise(value[0], f"{path}[0]", problems),
            second.normalise(value[1], f"{path}[1]", problems),
        )

    return many(Kind(f"pairs ({first.name}, {second.name})", one), distinct=True)


def plain_data() -> Kind:
    """A dict of text, whole numbers, booleans, lists and dicts of these; held immutable all the way down."""

    def freeze(value: object, path: str, problems: Problems) -> object:
        if isinstance(value, str):
            _check_text(value, path, problems, None, empty=True)
        elif isinstance(value, Mapping):
            return FrozenMap(
                {
                    _key(name, path, problems): freeze(each, f"{path}[{name!r}]", problems)
                    for name, each in value.items()
                }
            )
        elif isinstance(value, (list, tuple)):
            return tuple(freeze(each, f"{path}[{index}]", problems) for index, each in enumerate(value))
        elif isinstance(value, os.PathLike):
            return freeze(os.fspath(value), path, problems)
        elif value is not None and not isinstance(value, int):
            problems.append(
                Problem(path, _expected("text, a whole number, a boolean, a list or a mapping", value))
            )
        return value

    def normalise(value: object, path: str, problems: Problems) -> object:
        if not isinstance(value, Mapping):
            problems.append(Problem(path, _expected("a mapping", value)))
            return FrozenMap()
        return freeze(value, path, problems)

    return Kind("mapping of text to plain data", normalise)


def _key(name: object, path: str, problems: Problems) -> str:
    if not isinstance(name, str):
        problems.append(Problem(f"{path}[{name!r}]", _expected("text as key", name)))
    return str(name)


def _check_text(
    value: str, path: str, problems: Problems, check: Check | None, *, empty: bool, utf8: bool = True
) -> None:
    reason = None
    if "\0" in value:
        reason = "holds a NUL character"
    elif not value.strip() and not empty:
        reason = "is empty; leave it out instead"
    elif utf8 and not value.isascii() and not _is_utf8(value):
        reason = "holds characters that UTF-8 cannot write (lone surrogates)"
    elif check is not None:
        reason = check(value)
    if reason is not None:
        problems.append(Problem(path, strip_credentials(reason)))


def _is_utf8(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _expected(wanted: str, value: object) -> str:
    reason = f"expected {wanted}, got {type(value).__name__} ({strip_credentials(repr(value))})"
    if wanted != "text" or not isinstance(value, (int, float)):
        return reason
    if isinstance(value, bool):
        return f"{reason}; quote it"
    quoted = " (3.10 is the number 3.1)" if isinstance(value, float) else f': "{value}"'
    return f"{reason}; quote it{quoted}"


def _in_a_list(value: object) -> str | None:
    return f"write [{strip_credentials(repr(value))}]" if isinstance(value, str) else None


if TYPE_CHECKING:
    In_contra = TypeVar("In_contra", contravariant=True)
    Out_co = TypeVar("Out_co", covariant=True)

    class Stored(Generic[In_contra, Out_co]):
        """Types a field whose written value (a list) is not the held one (a tuple); checkers only see it."""

        @overload
        def __get__(self, instance: None, owner: Any) -> Self: ...
        @overload
        def __get__(self, instance: object, owner: Any) -> Out_co: ...
        def __get__(self, instance: object, owner: Any) -> Any: ...
        def __set__(self, instance: object, value: In_contra) -> None: ...

    AnyPath: TypeAlias = str | os.PathLike[str]
    Path: TypeAlias = Stored[AnyPath | None, str | None]
    Paths: TypeAlias = Stored[Sequence[AnyPath] | None, tuple[str, ...]]
    PathPairs: TypeAlias = Stored[Sequence[Sequence[AnyPath]] | None, tuple[tuple[str, str], ...]]
    Texts: TypeAlias = Stored[Sequence[str] | None, tuple[str, ...]]
    OptionalTexts: TypeAlias = Stored[Sequence[str] | None, tuple[str, ...] | None]
    Arguments: TypeAlias = Stored[str | Sequence[str] | None, tuple[str, ...]]
    Map: TypeAlias = Stored[Mapping[str, str] | None, FrozenMap[str, str]]
    Options: TypeAlias = Stored[Mapping[str, object] | None, FrozenMap[str, object]]
