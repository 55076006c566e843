"""Where this machine gets packages from, beside what a spec says: uv's own settings, and pip's for uv.

uv reads its own files and ``UV_*``. It does not read pip's, but many machines name their index only there.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["Machine", "logins", "read_machine", "stripped"]

_LOGIN = re.compile(r"(?P<scheme>https?)://(?P<login>[^/@\s\"']+)@(?P<host>[^/\s\"']+)")
_OWN = ("UV_DEFAULT_INDEX", "UV_INDEX_URL")


@dataclass(frozen=True, slots=True)
class Machine:
    """Settings of the machine. Values may hold credentials."""

    index: str | None = None
    """instead of the public one; None: uv's own settings decide"""
    extra: tuple[str, ...] = ()
    trusted: tuple[str, ...] = ()
    """hosts whose certificates are not checked"""
    certificates: str | None = None
    """a file of authorities to trust"""
    netrc: str = ""
    """the text of the user's file of logins"""
    basis: str = ""
    """all else that decides a resolution, credentials cut out"""


def read_machine(env: Mapping[str, str], pip_conf: str = "", netrc: str = "") -> Machine:
    """Read the environment and the files it leads to.

    Args:
        env: the user's environment.
        pip_conf: the text of a ``pip.conf`` that wins over the machine's.
        netrc: text of a further file of logins.
    """
    pip = _pip(env, pip_conf)
    own = any(env.get(name) for name in _OWN)
    certificates = next(
        (env[name] for name in ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE") if env.get(name)),
        pip.get("cert"),
    )
    known = [f"{key}={stripped(value)}" for key, value in sorted(env.items()) if key.startswith("UV_")]
    return Machine(
        index=None if own else pip.get("index-url"),
        extra=() if own else tuple(pip.get("extra-index-url", "").split()),
        trusted=tuple(pip.get("trusted-host", "").split()),
        certificates=certificates,
        netrc="\n".join(filter(None, (netrc, _text(_netrc(env))))),
        basis="\n".join([*known, *(stripped(_text(path)) for path in _uv_files(env))]),
    )


def stripped(text: str) -> str:
    """The text with the credentials of addresses cut out."""
    return _LOGIN.sub(r"\g<scheme>://\g<host>", text)


def logins(texts: Iterable[str], netrc: str = "") -> dict[str, tuple[str, str]]:
    """``host[:port]`` -> user and password, as the addresses in these texts and a netrc say."""
    from urllib.parse import unquote  # noqa: PLC0415

    found: dict[str, tuple[str, str]] = {}
    for text in texts:
        for match in _LOGIN.finditer(text):
            user, _, password = match["login"].partition(":")
            found.setdefault(match["host"].lower(), (unquote(user), unquote(password)))
    words = netrc.split()
    for number, word in enumerate(words):
        if word == "machine":
            rest = words[number + 2 :]
            end = next((i for i, each in enumerate(rest) if each in {"machine", "default"}), len(rest))
            told = dict(zip(rest[:end:2], rest[1:end:2], strict=False))
            if number + 1 < len(words) and "login" in told:
                found.setdefault(words[number + 1].lower(), (told["login"], told.get("password", "")))
    return found


def _pip(env: Mapping[str, str], pip_conf: str) -> dict[str, str]:
    """pip's settings for ``install``: files, then variables, then what was given."""
    found: dict[str, str] = {}
    texts = [_text(path) for path in _pip_files(env)]
    if any((*texts, pip_conf)):
        import configparser  # noqa: PLC0415
    for number, text in enumerate([*texts, pip_conf]):
        if number == len(texts):
            for key, value in env.items():
                if key.startswith("PIP_") and value:
                    found[key[4:].lower().replace("_", "-")] = value
        if not text:
            continue
        parser = configparser.RawConfigParser(strict=False)
        try:
            parser.read_string(text)
        except configparser.Error:
            continue  # pip itself would say so; uv installs, and does not read it
        for section in ("global", "install"):
            if parser.has_section(section):
                found |= {key.replace("_", "-"): value for key, value in parser.items(section)}
    return found


def _pip_files(env: Mapping[str, str]) -> list[Path]:
    named = env.get("PIP_CONFIG_FILE", "")
    if named == os.devnull:
        return []
    home = Path(env.get("HOME") or "/nonexistent")
    user = Path(env.get("XDG_CONFIG_HOME") or home / ".config")
    files = [Path("/etc/xdg/pip/pip.conf"), Path("/etc/pip.conf"), home / ".pip/pip.conf"]
    return [*files, user / "pip/pip.conf", *([Path(named)] if named else [])]


def _uv_files(env: Mapping[str, str]) -> list[Path]:
    if named := env.get("UV_CONFIG_FILE"):
        return [Path(named)]
    home = Path(env.get("HOME") or "/nonexistent")
    return [Path(env.get("XDG_CONFIG_HOME") or home / ".config") / "uv/uv.toml", Path("/etc/uv/uv.toml")]


def _netrc(env: Mapping[str, str]) -> Path:
    return Path(env.get("NETRC") or f"{env.get('HOME') or '/nonexistent'}/.netrc")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
