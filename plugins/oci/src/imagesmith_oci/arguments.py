"""``pip_extra_args`` as uv's resolution understands them. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Arguments", "UnknownArgumentError", "translate"]

_FLAGS = {
    "--no-deps": "--no-deps", "--pre": "--prerelease=allow", "--no-index": "--no-index",
}  # fmt: skip
_WITH_VALUE = {
    "--find-links": "--find-links", "-f": "--find-links", "--trusted-host": "--allow-insecure-host",
    # uv's own
    "--index-strategy": "--index-strategy", "--prerelease": "--prerelease", "--resolution": "--resolution",
    "--exclude-newer": "--exclude-newer", "--torch-backend": "--torch-backend",
}  # fmt: skip
_INDEXES = {"--index-url", "-i", "--default-index", "--extra-index-url", "--index"}
_OF_NO_ACCOUNT = {
    "--quiet", "-q", "--verbose", "-v", "--disable-pip-version-check", "--no-input", "--no-compile",
    "--break-system-packages", "--no-cache-dir", "--no-cache", "--force-reinstall", "--reinstall",
    "--no-warn-script-location", "--no-build", "--prefer-binary", "--ignore-installed", "-I",
    "--system-certs",
}  # fmt: skip
_OF_NO_ACCOUNT_WITH_VALUE = {
    "--root-user-action",
    "--progress-bar",
    "--timeout",
    "--retries",
    "--only-binary",
}


class UnknownArgumentError(Exception):
    """An argument that resolving does not know; the text names it."""


@dataclass(frozen=True, slots=True)
class Arguments:
    """What was asked for."""

    options: tuple[str, ...] = ()
    """of ``uv pip compile``"""
    index: str | None = None
    extra: tuple[str, ...] = ()
    trusted: tuple[str, ...] = field(default=())
    require_hashes: bool = False
    upgrade: bool = False
    """ask again, whatever was found before"""


def translate(arguments: Iterable[str]) -> Arguments:
    """Raises UnknownArgumentError for one that is not known to mean the same here."""
    options: list[str] = []
    index: str | None = None
    extra: list[str] = []
    trusted: list[str] = []
    hashes = upgrade = False
    waiting = iter(arguments)
    for word in waiting:
        name, equals, value = word.partition("=")
        if word in _FLAGS:
            options.append(_FLAGS[word])
        elif word in {"--upgrade", "-U"}:
            upgrade = True
        elif word == "--require-hashes":
            hashes = True
        elif word in _OF_NO_ACCOUNT:
            continue
        elif name in _WITH_VALUE or name in _INDEXES or name in _OF_NO_ACCOUNT_WITH_VALUE:
            given = value if equals else next(waiting, None)
            if given is None:
                raise UnknownArgumentError(f"{word} has no value")
            if name in {"--index-url", "-i", "--default-index"}:
                index = given
            elif name in _INDEXES:
                extra.append(given)
            elif name in _WITH_VALUE:
                options += [_WITH_VALUE[name], given]
                trusted += [given] if name == "--trusted-host" else []
        else:
            raise UnknownArgumentError(
                f"{name} says how to install, and nothing is installed: packages are resolved and laid out"
            )
    return Arguments(tuple(options), index, tuple(extra), tuple(trusted), hashes, upgrade)
