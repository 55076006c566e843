"""Which files of a tree stay out of the image: built-in rules, then those of the tree's own ignore file.

An exception (``!``) brings back what is built in when it says so by name, such as ``!.git``.
``.imagesmithignore`` speaks gitignore (by pathspec): a pattern means the entry it names, and what lies in
an ignored folder cannot come back. ``.dockerignore`` speaks Docker's dialect: patterns start at the root, a
pattern also means all below what it names, and the last pattern that matches decides.
"""

from __future__ import annotations

import os
import re
import warnings
from dataclasses import dataclass
from enum import Enum
from typing import Final

from imagesmith.errors import SourceError

__all__ = ["DOCKER_FILE", "IGNORE_FILE", "Rules", "Verdict", "docker_rules", "git_rules", "load_rules"]

IGNORE_FILE: Final = ".imagesmithignore"
DOCKER_FILE: Final = ".dockerignore"

_DEFAULT_NAMES: Final = frozenset(
    {".git", "__pycache__", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".tox", ".nox", ".hypothesis"}
    | {".ipynb_checkpoints"}
)
_DEFAULT_SUFFIX: Final = ".pyc"


class Verdict(Enum):
    """What happens to an entry."""

    KEEP = "keep"
    NAMED = "keep, because a pattern names it"
    """stronger than KEEP: a virtual environment is kept too"""
    DROP = "drop"
    LOOK = "drop, but look for kept entries below"


@dataclass(frozen=True, slots=True)
class _Rule:
    """One pattern. The regex has one group at most; it takes part when a folder above is what matched."""

    regex: re.Pattern[str]
    ignores: bool
    text: str
    everything: bool = False
    """it consists of wildcards: as an exception (``!*/``) it does not bring back what is built in"""
    fixed: str = ""
    """the folders the pattern starts with, up to its first wildcard, each with a slash (Docker's only)"""


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of one tree. ``file`` is the ignore file they come from, None without one."""

    rules: tuple[_Rule, ...] = ()
    docker: bool = False
    file: str | None = None

    def judge(self, path: str, name: str, *, folder: bool, inside: bool = False) -> Verdict:
        """What happens to ``path``, relative to the tree with ``/`` between its parts; ``name`` is the last.

        ``inside``: the folder it lies in was judged LOOK.
        """
        own = name in _DEFAULT_NAMES or name.endswith(_DEFAULT_SUFFIX) or path in _OWN_FILES
        if not self.rules:
            return Verdict.DROP if own else Verdict.KEEP
        path = path.replace("\n", "\0")  # "." and "$" treat line ends apart; names hold no NUL
        if not self.docker:
            rule = self._named_by(path, folder=folder)
            if rule is None or (rule.everything and not rule.ignores):
                return Verdict.DROP if own else Verdict.KEEP
            return Verdict.DROP if rule.ignores else Verdict.NAMED
        left_out = own or inside
        for rule in reversed(self.rules):
            if match := rule.regex.match(path):
                if rule.ignores:
                    return self._below(path, folder=folder, named=False)
                if not match.lastindex and not rule.everything:
                    return Verdict.NAMED
                left_out = own
                break
        return self._below(path, folder=folder, named=True) if left_out else Verdict.KEEP

    def _named_by(self, path: str, *, folder: bool) -> _Rule | None:
        """The last rule whose pattern means this very entry."""
        as_folder = path + "/"
        for rule in reversed(self.rules):
            match = rule.regex.search(path)
            if match and not match.lastindex:
                return rule
            if folder and any(
                m.end() == len(as_folder) for m in rule.regex.finditer(as_folder) if m.lastindex
            ):
                return rule
        return None

    def _below(self, path: str, *, folder: bool, named: bool) -> Verdict:
        """Whether an ignored folder may hold something that a later ``!`` keeps.

        ``named``: only a pattern that spells the folder out counts (a built-in rule left it out, and
        ``!**/x`` should not send us through ``.git``).
        """
        if not folder:
            return Verdict.DROP
        start = path + "/"
        for rule in self.rules:
            inner = rule.fixed.startswith(start) or (not named and start.startswith(rule.fixed))
            if not rule.ignores and inner:
                return Verdict.LOOK
        return Verdict.DROP

    def trace(self, path: str, *, folder: bool) -> tuple[str | None, bool]:
        """For a path that is named from outside: why it is left out, by itself or a folder above (None: it
        is not), and whether it is a folder judged LOOK."""
        parts = path.split("/") if path else []
        inside = False
        for count in range(1, len(parts) + 1):
            above = "/".join(parts[:count])
            is_folder = folder or count < len(parts)
            verdict = self.judge(above, parts[count - 1], folder=is_folder, inside=inside)
            if verdict is Verdict.DROP:
                return f"{above!r} is ignored by {self._blame(above, folder=is_folder)}", False
            inside = verdict is Verdict.LOOK
        return None, inside

    def _blame(self, path: str, *, folder: bool) -> str:
        if self.docker:
            rule = next((rule for rule in reversed(self.rules) if rule.regex.match(path)), None)
        else:
            rule = self._named_by(path, folder=folder)
        if rule is None or not rule.ignores:
            return "a built-in rule"
        return f"{rule.text!r} in {self.file}"


_OWN_FILES: Final = frozenset({IGNORE_FILE, DOCKER_FILE})


def load_rules(root: str) -> Rules:
    """The rules of the tree at ``root``. Raises SourceError when its ignore file cannot be read."""
    for name, parse in ((IGNORE_FILE, git_rules), (DOCKER_FILE, docker_rules)):
        path = os.path.join(root, name)  # noqa: PTH118 - names may hold what pathlib normalises away
        try:
            with open(path, encoding="utf-8-sig") as file:  # noqa: PTH123
                text = file.read()
        except FileNotFoundError:
            continue
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise SourceError(
                f"{path}: the ignore file cannot be read: {reason}", hint="mend the file, or delete it"
            ) from error
        return parse(text, path)
    return Rules()


def git_rules(text: str, file: str = IGNORE_FILE) -> Rules:
    """Rules in gitignore syntax. Raises SourceError with the line of a pattern that is none."""
    from pathspec import GitIgnoreSpec  # noqa: PLC0415 - 33 ms, for a tree that has such a file

    rules = []
    for number, line in enumerate(text.split("\n"), 1):
        try:
            with warnings.catch_warnings(action="ignore", category=FutureWarning):  # "[[]" is a fine pattern
                (pattern,) = GitIgnoreSpec.from_lines([line.rstrip("\r") or "#"]).patterns
        except (ValueError, re.error) as error:
            raise _malformed(file, number, line) from error
        if pattern.include is not None and pattern.regex is not None:
            rules.append(_Rule(pattern.regex, pattern.include, line.strip(), _is_everything(line.strip())))
    return Rules(tuple(rules), file=file)


def docker_rules(text: str, file: str = DOCKER_FILE) -> Rules:
    """Rules in Docker's syntax. Raises SourceError with the line of a pattern that is none."""
    rules = []
    for number, line in enumerate(text.split("\n"), 1):
        pattern = line.strip()
        if line.startswith("#") or not pattern:
            continue
        ignores = not pattern.startswith("!")
        cleaned = os.path.normpath(pattern.removeprefix("!").strip() or "!").lstrip("/")
        if cleaned in ("", "."):
            continue
        regex = None if cleaned == "!" else _docker_regex(cleaned)
        if regex is None:
            raise _malformed(file, number, line)
        fixed = re.match(r"(?:[^*?\[\\/]+(?:/|\Z))*", cleaned)
        start = fixed[0].rstrip("/") + "/" if fixed and fixed[0] else ""
        rules.append(_Rule(regex, ignores, pattern, _is_everything(pattern), start))
    return Rules(tuple(rules), docker=True, file=file)


def _is_everything(pattern: str) -> bool:
    return not pattern.strip("!*?/")


def _malformed(file: str, number: int, line: str) -> SourceError:
    return SourceError(f"{file}:{number}: {line.strip()!r} is no pattern", hint="mend or delete this line")


def _docker_regex(pattern: str) -> re.Pattern[str] | None:
    """A cleaned pattern as a regex over paths; None when it is malformed."""
    if pattern.startswith("**") and not re.search(r"[*?\[\\/]", pattern[2:]):
        return re.compile(rf".*{re.escape(pattern[2:])}(?:(/)|\Z)", re.DOTALL)
    out = []
    rest = pattern
    while rest:
        if wildcard := re.match(r"\*\*/?", rest):
            out.append("(?:.*/)?" if wildcard.end() < len(rest) else ".*")
            rest = rest[wildcard.end() :]
        elif bracket := re.match(r"\[(\^?)((?:\\.|[^\]\\])+)\]", rest):
            members = _members(bracket[2])
            if members is None:
                return None
            out.append(f"[{bracket[1]}{members}]")
            rest = rest[bracket.end() :]
        elif escaped := re.match(r"\\(.)", rest, re.DOTALL):
            out.append(re.escape(escaped[1]))
            rest = rest[2:]
        elif rest[0] in "[\\":
            return None
        else:
            out.append({"*": "[^/]*", "?": "[^/]"}.get(rest[0]) or re.escape(rest[0]))
            rest = rest[1:]
    return re.compile(rf"{''.join(out)}(?:(/)|\Z)", re.DOTALL)


def _members(text: str) -> str | None:
    """What stands in brackets, as Python's regexes write it; None for ``[-x]``, ``[x-]``, ``[b-a]``."""
    out = []
    character = r"(?:\\(.)|([^-\\]))"
    while text:
        found = re.match(rf"{character}(?:-{character})?", text, re.DOTALL)
        if found is None:
            return None
        low, high = found[1] or found[2], found[3] or found[4] or ""
        if high and high < low:
            return None
        out.append(re.escape(low) + (f"-{re.escape(high)}" if high else ""))
        text = text[found.end() :]
    return "".join(out)
