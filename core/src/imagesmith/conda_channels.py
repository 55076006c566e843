"""Conda channels: names to addresses, addresses to what is public of them and what is not. Pure."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

from imagesmith._urls import strip_credentials

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["CONDA_FORGE", "Channel", "channel", "channels", "split_channel"]

CONDA_FORGE = "conda-forge"
NO_DEFAULTS = "nodefaults"
"""the item that keeps conda-forge out of the list"""
_PUBLIC = "https://conda.anaconda.org"
_DEFAULTS = ("https://repo.anaconda.com/pkgs/main", "https://repo.anaconda.com/pkgs/r")
"""what conda means by ``defaults``, outside Windows"""
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Channel:
    """Where a channel is asked, and how it is called in the image."""

    url: str
    """without credentials, without a slash at the end"""
    shown: str
    """the address that files in the image name: the same on every machine"""
    login: tuple[str, str] | None = field(default=None, repr=False)
    """user and password"""
    secret_url: str | None = field(default=None, repr=False)
    """the address with the token in its path, where there is one"""


def channels(names: Iterable[str], root: str, conda_forge: str | None) -> tuple[Channel, ...]:
    """The channels in their order, then conda-forge unless the list says otherwise; none twice.

    ``root``: the absolute folder that relative paths start from. ``conda_forge``: instead of the public one.
    """
    listed = list(names)
    if NO_DEFAULTS not in listed:
        listed.append(CONDA_FORGE)
    found: dict[str, Channel] = {}
    for name in listed:
        if name == NO_DEFAULTS:
            continue
        for each in _DEFAULTS if name == "defaults" else (name,):
            made = channel(each, root, conda_forge)
            found.setdefault(made.url, made)
    return tuple(found.values())


def channel(name: str, root: str, conda_forge: str | None) -> Channel:
    """One channel, by name, URL, or path (absolute, or starting with ``./`` or ``../``)."""
    if name == CONDA_FORGE and conda_forge:
        return _addressed(_as_url(conda_forge, root), shown=f"{_PUBLIC}/{CONDA_FORGE}")
    if "://" not in name and not _is_path(name):
        url = f"{_PUBLIC}/{name.strip('/')}"
        return Channel(url, url)
    return _addressed(_as_url(name, root))


def split_channel(spec: str) -> tuple[str | None, str]:
    """``channel::rest`` of a match specification; a package given by its URL stays whole."""
    match = re.match(r"([^\s\[\]=<>!~]+?)::(.+)", spec, re.DOTALL)
    return (match[1], match[2]) if match else (None, spec)


def _is_path(name: str) -> bool:
    return name.startswith(("/", "./", "../"))


def _as_url(name: str, root: str) -> str:
    if not _is_path(name):
        return name.rstrip("/")
    return "file://" + quote(posixpath.normpath(posixpath.join(root, name)))


def _addressed(url: str, shown: str | None = None) -> Channel:
    parts = urlsplit(url)
    login = None
    if parts.username is not None:
        login = (unquote(parts.username), unquote(parts.password or ""))
    without_login = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    clean = strip_credentials(url)
    if shown is None:
        local = parts.scheme == "file" or parts.hostname in _LOOPBACK
        shown = f"file:///{PurePosixPath(urlsplit(clean).path).name}" if local else clean
    return Channel(clean, shown, login, without_login if without_login != clean else None)
