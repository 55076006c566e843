"""Which ids this user may use in a namespace. Pure but for reading files."""

from __future__ import annotations

import os
import pwd
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["ENOUGH", "Ids", "IdsMissing", "find_ids", "lent_ranges", "parse_map"]

ENOUGH = 65536
"""Ids that an image may use: 0 to 65535."""

Range = tuple[int, int, int]


class IdsMissing(Exception):
    """This user was lent too few ids; ``hint`` says what to do."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Ids:
    """How root in the namespace and the ids beside it are made; see ``inside.space.enter``."""

    kind: Literal["root", "same", "lent"]
    uids: tuple[Range, ...] = ()
    gids: tuple[Range, ...] = ()
    mappers: tuple[str, str] | None = None

    @property
    def place(self) -> str:
        """A name for what is written with these ids: on the disk they are other ones."""
        if self.kind != "lent":
            return "root"
        return "-".join(str(outer) for _, outer, _ in (*self.uids, *self.gids))


def find_ids(env: Mapping[str, str], *, sees_mounts: bool) -> Ids:
    """What this process has.

    Args:
        env: its PATH finds newuidmap and newgidmap.
        sees_mounts: whether this process may mount, so that root needs no namespace for ids.

    Raises:
        IdsMissing: too few.
    """
    if os.geteuid() == 0:
        if sees_mounts:
            return Ids("root")
        return Ids("same", _own("uid"), _own("gid"))
    mappers = [shutil.which(name, path=env.get("PATH", os.defpath)) for name in ("newuidmap", "newgidmap")]
    if mappers[0] is None or mappers[1] is None:
        raise IdsMissing(
            "newuidmap and newgidmap are missing, which give an ordinary user the ids of an image",
            "install them (Debian, Ubuntu: apt-get install uidmap; Fedora: shadow-utils)",
        )
    try:
        name = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        name = str(os.geteuid())
    found = []
    for kind, own_id in (("uid", os.geteuid()), ("gid", os.getegid())):
        file = Path(f"/etc/sub{kind}")
        try:
            text = file.read_text(encoding="utf-8", errors="replace")
        except OSError:
            text = ""
        lent = lent_ranges(text, (name, str(os.geteuid())))
        if sum(count for _, count in lent) < ENOUGH - 1:
            raise IdsMissing(
                f"{file} lends {name} {'too few' if lent else 'no'} ids, and the files of an image "
                f"belong to {ENOUGH}",
                f"as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {name} "
                "(a range nobody else has)",
            )
        found.append(_ranges(own_id, lent))
    return Ids("lent", found[0], found[1], (mappers[0], mappers[1]))


def lent_ranges(text: str, names: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """First id and count of each range that /etc/subuid or /etc/subgid lends to one of ``names``."""
    found = []
    for line in text.splitlines():
        fields = line.strip().split(":")
        if len(fields) == 3 and fields[0] in names and fields[1].isdigit() and fields[2].isdigit():
            found.append((int(fields[1]), int(fields[2])))
    return tuple(found)


def parse_map(text: str) -> tuple[Range, ...]:
    """The lines of a uid_map or gid_map."""
    rows = (line.split() for line in text.splitlines() if line.strip())
    return tuple((int(inner), int(outer), int(count)) for inner, outer, count in rows)


def _own(kind: str) -> tuple[Range, ...]:
    """All ids there are, each as itself."""
    text = Path(f"/proc/self/{kind}_map").read_text(encoding="ascii")
    return tuple((inner, inner, count) for inner, _, count in parse_map(text))


def _ranges(own: int, lent: Sequence[tuple[int, int]]) -> tuple[Range, ...]:
    """Root is the user; the other ids are lent ones, in their order."""
    ranges = [(0, own, 1)]
    inside = 1
    for first, count in lent:
        taken = min(count, ENOUGH - inside)
        if taken > 0:
            ranges.append((inside, first, taken))
            inside += taken
    return tuple(ranges)
