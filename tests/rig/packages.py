"""Debian packages, from the machine's own mirror, without touching the machine's own apt configuration."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .console import RigError, run
from .state import cache

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
POLICY = Path("/usr/sbin/policy-rc.d")
NEWER = "trixie"  # a bookworm machine takes the engine from here: its own knows no containerd image store
FROM_NEWER = ("docker.io", "docker-cli", "docker-buildx")


@dataclass(frozen=True, slots=True)
class Source:
    """One Debian archive line of the machine: a mirror and a suite."""

    uri: str
    suite: str


def codename() -> str:
    """Return the Debian release of this machine, such as ``bookworm``."""
    release = Path("/etc/os-release").read_text(encoding="utf-8")
    found = re.search(r"^VERSION_CODENAME=(\S+)$", release, re.MULTILINE)
    if not found:
        raise RigError("/etc/os-release names no VERSION_CODENAME: the rig knows only Debian releases")
    return found[1]


def sources(suite: str) -> list[Source]:
    """Return the machine's archive lines of that release (with its updates and security)."""
    files = [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]
    texts = {file: file.read_text(encoding="utf-8") for file in files if file.is_file()}
    found = [
        source
        for file, text in texts.items()
        for source in (parse_deb822(text) if file.suffix == ".sources" else parse_one_line(text))
        if source.suite == suite or source.suite.startswith(f"{suite}-")
    ]
    if not any(source.suite == suite for source in found):
        raise RigError(f"/etc/apt names no mirror for {suite}; add one and run again")
    return found


def mirror() -> str:
    """Return the machine's mirror of the main archive."""
    suite = codename()
    return next(source.uri for source in sources(suite) if source.suite == suite)


def parse_deb822(text: str) -> list[Source]:
    """Read a ``.sources`` file."""
    found: list[Source] = []
    plain = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    for stanza in re.split(r"\n\s*\n", plain):
        fields = {
            key.lower(): value.split()
            for key, value in re.findall(r"^([\w-]+):((?:.*)(?:\n[ \t].*)*)", stanza, re.MULTILINE)
        }
        if "deb" in fields.get("types", []) and fields.get("enabled") != ["no"]:
            found += [
                Source(uri, suite) for uri in fields.get("uris", []) for suite in fields.get("suites", [])
            ]
    return found


def parse_one_line(text: str) -> list[Source]:
    """Read a ``sources.list`` file."""
    lines = re.findall(r"^deb\s+(?:\[[^\]]*\]\s+)?(\S+)\s+(\S+)\s", text, re.MULTILINE)
    return [Source(uri, suite) for uri, suite in lines]


def missing(names: Sequence[str]) -> list[str]:
    """Return those not installed; an engine older than the containerd image store counts as missing."""
    status = run(["dpkg-query", "--show", "--showformat", "${Package} ${db:Status-Status} ${Version}\n"])
    installed = {
        fields[0]: fields[2]
        for fields in map(str.split, status.splitlines())
        if len(fields) == 3 and fields[1] == "installed"
    }
    return [
        name
        for name in names
        if name not in installed or (name == "docker.io" and _major(installed[name]) < 24)
    ]


def install(names: Sequence[str]) -> None:
    """Install what is missing; no service of theirs is started."""
    wanted = missing(names)
    if not wanted:
        return
    env = {"APT_CONFIG": str(_configuration()), "DEBIAN_FRONTEND": "noninteractive"}
    options = ["-q", "-y", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=300"]
    run(["apt-get", "update", "-q"], env=env)
    with _no_services():
        run(["apt-get", "install", *options, *wanted], env=env)


def _configuration() -> Path:
    """Write an apt configuration of our own: the machine's Debian lines, and the newer release pinned low."""
    folder = cache() / "apt"
    for name in ("parts", "lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    suite = codename()
    signed = f"[signed-by={KEYRING}] " if KEYRING.exists() else ""
    lines = [f"deb {signed}{source.uri} {source.suite} main" for source in sources(suite)]
    pins = ""
    if suite == "bookworm":
        lines.append(f"deb {signed}{mirror()} {NEWER} main")
        pins = (
            f"Package: *\nPin: release n={NEWER}\nPin-Priority: 50\n\n"
            f"Package: {' '.join(FROM_NEWER)}\nPin: release n={NEWER}\nPin-Priority: 600\n"
        )
    (folder / "sources.list").write_text("\n".join(dict.fromkeys(lines)) + "\n", encoding="utf-8")
    (folder / "preferences").write_text(pins, encoding="utf-8")
    configuration = folder / "apt.conf"
    settings = {
        "Dir::Etc::SourceList": folder / "sources.list",
        "Dir::Etc::SourceParts": folder / "parts",
        "Dir::Etc::Preferences": folder / "preferences",
        "Dir::Etc::PreferencesParts": folder / "parts",
        "Dir::State::Lists": folder / "lists",
        "Dir::Cache": folder / "cache",
        "Acquire::Languages": "none",
        "Acquire::Retries": "3",
        "APT::Sandbox::User": "root",  # the folder may be readable for root alone
    }
    text = "".join(f'{key} "{value}";\n' for key, value in settings.items())
    configuration.write_text(text, encoding="utf-8")
    return configuration


@contextlib.contextmanager
def _no_services() -> Iterator[None]:
    """Keep packages from starting their daemons: the rig starts its own, with its own settings."""
    if POLICY.exists():
        yield
        return
    POLICY.write_text("#!/bin/sh\nexit 101\n", encoding="utf-8")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink()


def _major(version: str) -> int:
    found = re.match(r"(?:\d+:)?(\d+)", version)
    return int(found[1]) if found else 0
