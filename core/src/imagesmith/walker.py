"""Which files enter the image: the one walk that hashing, staging and listing share. Reads no content."""

from __future__ import annotations

import errno
import filecmp
import os
import stat
from typing import TYPE_CHECKING, Final, NamedTuple

from imagesmith.errors import SourceError
from imagesmith.ignore import Rules, Verdict, load_rules

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Entry", "Forest", "Kind", "Refusals", "shown"]

Kind = str
"""``file``, ``link`` or ``dir``"""

_SHOWN: Final = 20
"""refused files that an error names before it only counts."""
_SPECIAL: Final = "neither a file nor a folder (a socket, pipe or device)"
_VENV_FILE: Final = "pyvenv.cfg"


class Entry(NamedTuple):
    """One thing that enters the image."""

    target: str
    """where it lands, relative, ``/`` between the parts"""
    kind: Kind
    origin: str
    """absolute path on this machine; a folder made for what lies in it has none"""


def shown(path: str) -> str:
    """A path for a message: as it is, or quoted where it would break the line or cannot be printed."""
    return path if path.isprintable() else repr(path)


class Refusals:
    """Files that cannot enter the image; raised together."""

    def __init__(self) -> None:
        self._all: list[str] = []

    def add(self, path: str, reason: str) -> None:
        """Remember that ``path`` cannot be taken, and why."""
        self._all.append(f"{shown(path)}: {reason}")

    def add_error(self, path: str, error: OSError) -> None:
        """Remember what the system said about ``path``."""
        gone = error.errno in (errno.ENOENT, errno.ENOTDIR)
        self.add(path, "disappeared while it was read" if gone else f"cannot be read: {error.strerror}")

    def raise_if_any(self) -> None:
        """Raise SourceError with all of them (the first twenty by name)."""
        if not self._all:
            return
        count = len(self._all)
        lines = [f"  {line}" for line in sorted(self._all)[:_SHOWN]]
        if count > _SHOWN:
            lines.append(f"  … and {count - _SHOWN} more")
        head = "1 file cannot enter the image:" if count == 1 else f"{count} files cannot enter the image:"
        raise SourceError(
            "\n".join([head, *lines]), hint="mend or remove them, or name them in .imagesmithignore"
        )


class Forest:
    """Collects entries from trees and single files, each target once."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self._rules: dict[str, Rules] = {}
        self._refusals = Refusals()

    def rules(self, root: str) -> Rules:
        """The ignore rules of a tree, read once."""
        if root not in self._rules:
            self._rules[root] = load_rules(root)
        return self._rules[root]

    def add_tree(self, top: str, target: str, rules: Rules, prefix: str = "", *, inside: bool = False) -> int:
        """All that ``rules`` keep of the folder ``top``, below ``target``; returns the number of files.

        ``prefix``: where ``top`` lies in the tree that the rules belong to. ``inside``: see ``Rules.judge``.
        """
        count = 0
        waiting = [(top, target, prefix, inside, True)]
        while waiting:
            folder, target, prefix, inside, named = waiting.pop()
            try:
                with os.scandir(folder) as found:
                    children = list(found)
            except OSError as error:
                self._refusals.add_error(folder, error)
                continue
            if not named and any(child.name == _VENV_FILE for child in children):
                continue
            if target and not inside:
                self._add(Entry(target, "dir", folder))
            target = f"{target}/" if target else ""
            prefix = f"{prefix}/" if prefix else ""
            for child in children:
                name = child.name
                is_folder = child.is_dir(follow_symlinks=False)
                verdict = rules.judge(prefix + name, name, folder=is_folder, inside=inside)
                if verdict is Verdict.DROP:
                    continue
                if is_folder and (name.isascii() or _encodable(name)):
                    look = verdict is Verdict.LOOK
                    below = (child.path, target + name, prefix + name, look, verdict is Verdict.NAMED)
                    waiting.append(below)
                else:
                    count += self._add_child(child, target + name)
        return count

    def add_file(self, path: str, target: str) -> None:
        """One regular file, symlinks followed."""
        origin = os.path.realpath(path)
        try:
            mode = os.stat(origin).st_mode  # noqa: PTH116
        except OSError as error:
            self._refusals.add_error(path, error)
            return
        if stat.S_ISREG(mode):
            self._add(Entry(target, "file", origin))
        else:
            self._refusals.add(path, _SPECIAL)

    def entries(self) -> tuple[Entry, ...]:
        """All entries by target, the folders they lie in among them. Raises SourceError for refused ones."""
        self._refusals.raise_if_any()
        entries = self._entries
        for target in list(entries):
            above = target.rpartition("/")[0]
            while above and above not in entries:
                entries[above] = Entry(above, "dir", "")
                above = above.rpartition("/")[0]
            if above and entries[above].kind != "dir":
                _clash(entries[above], entries[target])
        return tuple(sorted(entries.values()))

    def _add_child(self, child: os.DirEntry[str], target: str) -> int:
        if not child.name.isascii() and not _encodable(child.name):
            self._refusals.add(child.path, "its name is not UTF-8")
        elif child.is_file(follow_symlinks=False):
            self._add(Entry(target, "file", child.path))
        elif child.is_symlink():
            self._add(Entry(target, "link", child.path))
        else:
            self._refusals.add(child.path, _SPECIAL)
        return 1

    def _add(self, entry: Entry) -> None:
        standing = self._entries.setdefault(entry.target, entry)
        if standing is not entry and not _same(standing, entry):
            _clash(standing, entry)


def _encodable(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _same(one: Entry, other: Entry) -> bool:
    """Whether two origins give the same thing in the image."""
    if one.kind != other.kind:
        return False
    if one.kind == "dir" or one.origin == other.origin:
        return True
    try:
        if one.kind == "link":
            return os.readlink(one.origin) == os.readlink(other.origin)  # noqa: PTH115
        modes = {os.stat(entry.origin).st_mode & stat.S_IXUSR for entry in (one, other)}  # noqa: PTH116
        return len(modes) == 1 and filecmp.cmp(one.origin, other.origin, shallow=False)
    except OSError:
        return False  # whoever reads it next says why


def _clash(one: Entry, other: Entry) -> None:
    origins = " and ".join(f"{shown(entry.origin or entry.target)} ({entry.kind})" for entry in (one, other))
    raise SourceError(
        f"two different things would land at {shown(one.target)}: {origins}",
        hint="leave one of them out of source_root, copy or requirements, or rename it",
    )


def folder_of(rules_roots: Iterable[str], path: str) -> tuple[str, str] | None:
    """The first of the roots that ``path`` lies in (or is), and where in it; None when in none."""
    for root in rules_roots:
        if path == root:
            return root, ""
        if path.startswith(root.rstrip("/") + "/"):
            return root, path[len(root.rstrip("/")) + 1 :]
    return None
