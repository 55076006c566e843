"""The grammar of requirements files, as pip reads them. Pure."""

from __future__ import annotations

import codecs
import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ARCHIVES", "Line", "MalformedError", "Wanted", "decode", "lines", "local_path", "wanted"]

ARCHIVES: Final = (".whl", ".tar.gz", ".tgz", ".zip", ".tar.bz2", ".tar.xz")
"""Endings of wheels and source distributions."""

_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_TAKES_VALUE: Final = {
    "-r": "-r",
    "--requirement": "-r",
    "-c": "-c",
    "--constraint": "-c",
    "-e": "-e",
    "--editable": "-e",
    "-i": "--index-url",
    "--index-url": "--index-url",
    "--pypi-url": "--index-url",
    "--extra-index-url": "--extra-index-url",
    "-f": "--find-links",
    "--find-links": "--find-links",
    "--no-binary": "--no-binary",
    "--only-binary": "--only-binary",
    "--trusted-host": "--trusted-host",
    "--use-feature": "--use-feature",
    "--hash": "--hash",
    "-C": "--config-settings",
    "--config-setting": "--config-settings",
    "--config-settings": "--config-settings",
    "--global-option": "--global-option",
}
# Most requirements look so, and these need no grammar of markers, URLs and versions: 15 ms to load.
_PLAIN: Final = re.compile(
    r"([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)"
    r"(?: ?(?:==|!=|<=|>=|<|>) ?[0-9]+(?:\.[0-9]+)*(?:, ?(?:==|!=|<=|>=|<|>) ?[0-9]+(?:\.[0-9]+)*)*)?"
)
_FLAGS: Final = frozenset({"--no-index", "--prefer-binary", "--require-hashes", "--pre"})
_OF_ONE_REQUIREMENT: Final = frozenset({"--hash", "--config-settings", "--global-option"})


class MalformedError(ValueError):
    """A line that is not what it should be; the text says why."""


@dataclass(frozen=True, slots=True)
class Line:
    """One logical line: a requirement or options, never both (but ``--hash`` belongs to a requirement)."""

    number: int
    requirement: str
    """empty where the line holds options only"""
    options: tuple[tuple[str, str | None], ...]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What one requirement asks for."""

    text: str
    """as the installer can read it, when it is not local"""
    name: str | None = None
    """of the package, where the requirement tells it"""
    path: str | None = None
    """of a local file or folder; None for an index or a URL"""
    extras: str = ""
    """``[a,b]`` or nothing"""
    marker: str | None = None


def decode(data: bytes) -> str:
    """The text of a requirements file: UTF-8, or what its byte order mark says. Raises MalformedError."""
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), "utf-8")
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise MalformedError(f"byte {error.start} is not {encoding.upper()}") from error


def lines(text: str) -> Iterator[Line]:
    """The logical lines of a file: comments gone, continued lines joined. Raises MalformedError."""
    for number, line in _joined(text):
        content = re.sub(r"(^|\s+)#.*$", "", line).strip()
        if content:
            try:
                yield _parse(number, content)
            except MalformedError as error:
                raise MalformedError(f"{number}: {error}") from error


def _joined(text: str) -> Iterator[tuple[int, str]]:
    parts: list[str] = []
    first = 0
    for number, line in enumerate(text.splitlines(), 1):
        first = first if parts else number
        comment = re.match(r"\s*#", line) is not None
        if line.endswith("\\") and not comment:
            parts.append(line.rstrip("\\"))
            continue
        yield first, "".join([*parts, " " + line if comment else line])
        parts.clear()
    if parts:
        yield first, "".join(parts)


def _parse(number: int, content: str) -> Line:
    words = content.split(" ")
    start = next((index for index, each in enumerate(words) if each.startswith("-")), len(words))
    requirement = " ".join(words[:start]).strip()
    try:
        rest = shlex.split(" ".join(words[start:]))
    except ValueError as error:
        raise MalformedError(f"{content!r}: {error}") from error
    options = tuple(_options(rest))
    names = [name for name, _ in options]
    for name in names:
        belongs = name in _OF_ONE_REQUIREMENT
        if belongs and not requirement and "-e" not in names:
            raise MalformedError(f"{content!r}: {name} belongs behind a requirement")
        if not belongs and (requirement or ("-e" in names and names[0] != name)):
            raise MalformedError(f"{content!r}: {name} stands on a line of its own")
    return Line(number, requirement, options)


def _options(words: list[str]) -> Iterator[tuple[str, str | None]]:
    waiting = iter(words)
    for word in waiting:
        name, equals, value = word.partition("=")
        if not word.startswith("--") and len(word) > 2:
            name, equals, value = word[:2], "=", word[2:]
        if name in _FLAGS and not equals:
            yield name, None
        elif name in _TAKES_VALUE:
            given = value if equals else next(waiting, "")
            if not given:
                raise MalformedError(f"{name} without its value")
            yield _TAKES_VALUE[name], given
        else:
            raise MalformedError(f"{word!r} is no option of a requirements file")


def wanted(text: str) -> Wanted:
    """Read a requirement: a name, a URL, or the path of a local file or folder. Raises MalformedError."""
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", text):
        return _from_url(text)
    named = re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*\s*(?:\[[^\]]*\])?\s*@", text)
    path, extras, marker = _path_parts(text)
    looks_like_path = "://" not in path and ("/" in path or path.lower().endswith(ARCHIVES))
    if not named and (path.startswith(".") or looks_like_path):
        return Wanted(text, path=path, extras=extras, marker=marker)
    if plain := _PLAIN.fullmatch(text):
        return Wanted(text, plain[1])
    from packaging.requirements import InvalidRequirement, Requirement  # noqa: PLC0415

    try:
        parsed = Requirement(text)
    except InvalidRequirement as error:
        raise MalformedError(f"{text!r} is no requirement: {str(error).splitlines()[0]}") from error
    if parsed.url is not None and (parsed.url.startswith("file:") or ":" not in parsed.url):
        extras = f"[{','.join(sorted(parsed.extras))}]" if parsed.extras else ""
        local = local_path(parsed.url)
        return Wanted(text, parsed.name, local, extras, marker=str(parsed.marker) if parsed.marker else None)
    return Wanted(text, parsed.name)


def _from_url(text: str) -> Wanted:
    address, _, marker = text.partition("; ")
    egg = re.search(r"[#&]egg=([A-Za-z0-9][A-Za-z0-9._-]*)", address)
    name = egg[1] if egg else None
    if not address.startswith("file:"):
        return Wanted(text, name)
    path, extras, _ = _path_parts(address.partition("#")[0])
    return Wanted(text, name, local_path(path), extras, marker.strip() or None)


def _path_parts(text: str) -> tuple[str, str, str | None]:
    """Path, extras and marker of ``./folder[extra] ; marker``."""
    path, _, marker = text.partition(";")
    found = re.fullmatch(r"(.+?)(\[[^\]/]*\])?", path.strip(), re.DOTALL)
    return (found[1], found[2] or "", marker.strip() or None) if found else (path, "", None)


def local_path(url: str) -> str:
    """The path of ``file:///x``, ``file://localhost/x``, ``file:x`` or of a bare path, ``#…`` left out."""
    if not url.startswith("file:"):
        return url
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost"):
        raise MalformedError(f"{url!r} names a file of another machine ({parts.netloc})")
    return unquote(parts.path)
