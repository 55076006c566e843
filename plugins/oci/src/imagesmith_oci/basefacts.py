"""What a base is: its python, its C library, its users, the links and special folders on our ways. Pure."""

from __future__ import annotations

import json
import posixpath
import re
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from imagesmith_oci.baseindex import LayerIndex, Name
from imagesmith_oci.platforms import Libc
from imagesmith_oci.prefix import Python

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["Facts", "merged", "place", "told", "user_id"]

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_USUAL = (0o755, 0, 0)


@dataclass(frozen=True, slots=True)
class Facts:
    """The little of a base that a build needs."""

    python: Python | None
    libc: Libc | None
    users: Mapping[str, int] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    """symbolic links to folders, and where they lead"""
    folders: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)
    """folders with another mode or owner than 0755 and root: mode, uid, gid"""

    def to_json(self) -> str:
        """For the cache."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Facts:
        """What ``to_json`` wrote."""
        known = json.loads(text)
        return cls(
            Python(**known["python"]) if known["python"] else None,
            Libc(**known["libc"]) if known["libc"] else None,
            known["users"],
            known["links"],
            {path: (mode, uid, gid) for path, (mode, uid, gid) in known["folders"].items()},
        )


def merged(layers: Sequence[LayerIndex]) -> LayerIndex:
    """All layers as one, the lowest first: what one takes away is gone."""
    whole = LayerIndex()
    for layer in layers:
        hidden = {*layer.gone}
        hidden |= {
            path
            for path, name in layer.names.items()
            if name.kind != "d" and path in whole.names and whole.names[path].kind == "d"
        }
        opaque = {*layer.opaque}
        if hidden or opaque:
            for path in [path for path in whole.names if _covered(path, hidden, opaque)]:
                del whole.names[path]
        for path, name in layer.names.items():
            whole.names[path] = name
            whole.texts.pop(path, None)
            whole.glibc.pop(path, None)
        whole.texts |= layer.texts
        whole.glibc |= layer.glibc
        whole.packages |= layer.packages
    return whole


def _covered(path: str, hidden: set[str], opaque: set[str]) -> bool:
    if path in hidden:
        return True
    while path:
        path = path.rpartition("/")[0]
        if path in hidden or path in opaque:
            return True
    return False


def told(whole: LayerIndex, env: Mapping[str, str]) -> Facts:
    """The facts of a base with that environment."""
    links = {path: name.target for path, name in whole.names.items() if name.kind == "l"}
    folders = {path for path, name in whole.names.items() if name.kind == "d"}
    leading = {}
    for path in links:
        target = _resolved(path, links)
        if target is not None and (target in folders or not target):
            leading[path] = f"/{target}"
    special = {
        path: (name.mode, name.uid, name.gid)
        for path, name in whole.names.items()
        if name.kind == "d" and (name.mode, name.uid, name.gid) != _USUAL
    }
    return Facts(_python(whole, links, env), _libc(whole), _users(whole), leading, special)


def place(facts: Facts, path: str) -> str:
    """Where a path in an archive really is, when links of the base are followed."""
    return _resolved(path.strip("/"), dict(facts.links)) or path.strip("/")


def user_id(facts: Facts, user: str) -> int | None:
    """The number of ``user[:group]``; None where the base does not know it."""
    name = user.partition(":")[0]
    return int(name) if name.isdecimal() else facts.users.get(name)


def _resolved(path: str, links: Mapping[str, str]) -> str | None:
    """The path with all links followed; None for a circle."""
    parts, done = list(reversed(path.split("/"))), ""
    for _ in range(400):
        if not parts:
            return done
        part = parts.pop()
        if part in {"", "."}:
            continue
        if part == "..":
            done = posixpath.dirname(done)
            continue
        here = f"{done}/{part}" if done else part
        target = links.get(here)
        if target is None:
            done = here
            continue
        if target.startswith("/"):
            done = ""
        parts.extend(reversed(target.split("/")))
    return None


def _python(whole: LayerIndex, links: Mapping[str, str], env: Mapping[str, str]) -> Python | None:
    for found, real in _executables(whole, links, env.get("PATH") or DEFAULT_PATH):
        home, extra = real, ""
        venv = posixpath.dirname(posixpath.dirname(found))
        cfg = whole.texts.get(f"{venv}/pyvenv.cfg")
        version = env.get("PYTHON_VERSION") or _version(whole, real)
        if version is None:
            continue
        if cfg is not None:
            minor = ".".join(version.split(".")[:2])
            extra = f"/{venv}/lib/python{minor}/site-packages"
        return Python(f"/{home}", version, extra)
    return None


def _executables(whole: LayerIndex, links: Mapping[str, str], path: str) -> Iterator[tuple[str, str]]:
    for name in ("python3", "python"):
        for folder in path.split(":"):
            found = f"{folder.strip('/')}/{name}"
            parent = _resolved(found.rpartition("/")[0], links)
            real = _resolved(found, links)
            if parent is not None and real is not None and whole.names.get(real, Name("")).kind == "f":
                yield f"{parent}/{name}", real


def _version(whole: LayerIndex, real: str) -> str | None:
    """Of a python in a base that does not state it: by its name, and its package."""
    folder, _, name = real.rpartition("/")
    minor = re.fullmatch(r"python(3\.\d+)", name)
    root = posixpath.dirname(folder)
    minors = [minor[1]] if minor else []
    minors += [
        found[1]
        for path in whole.names
        if path.startswith(f"{root}/lib/python3.")
        and (found := re.fullmatch(r".*/python(3\.\d+)/os\.py", path))
    ]
    if not minors:
        return None
    for package in (f"python{minors[0]}", f"python{minors[0]}-minimal", "python3"):
        stated = re.match(r"(?:\d+:)?(\d+\.\d+\.\d+)", whole.packages.get(package, ""))
        if stated and root == "usr" and stated[1].startswith(f"{minors[0]}."):
            return stated[1]
    return minors[0]


def _libc(whole: LayerIndex) -> Libc | None:
    for path, (major, minor) in whole.glibc.items():
        if path in whole.names and path.startswith(("lib", "usr/lib")):
            return Libc("glibc", major, minor)
    if any(re.fullmatch(r"(usr/)?lib/ld-musl-[^/]+\.so\.1", path) for path in whole.names):
        stated = re.match(r"1\.(\d+)", whole.packages.get("musl", ""))
        return Libc("musl", 1, int(stated[1]) if stated else 2)
    return None


def _users(whole: LayerIndex) -> dict[str, int]:
    lines = (line.split(":") for line in whole.texts.get("etc/passwd", "").splitlines())
    return {parts[0]: int(parts[2]) for parts in lines if len(parts) > 2 and parts[2].isdecimal()}
