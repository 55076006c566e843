"""What pip is told, by arguments and variables, as uv's resolution understands it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from imagesmith import Contribution, base_environment, install_arguments, install_environment

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from imagesmith import BuildRequest

__all__ = ["Arguments", "UnknownArgumentError", "arguments_of", "misunderstood", "translate"]

_FLAGS = {
    "--no-deps": "--no-deps", "--pre": "--prerelease=allow", "--no-index": "--no-index",
}  # fmt: skip
_WITH_VALUE = {
    "--find-links": "--find-links", "-f": "--find-links", "--trusted-host": "--allow-insecure-host",
    "--constraint": "--constraints", "-c": "--constraints",
    # uv's own
    "--index-strategy": "--index-strategy", "--prerelease": "--prerelease", "--resolution": "--resolution",
    "--exclude-newer": "--exclude-newer", "--torch-backend": "--torch-backend",
}  # fmt: skip
_INDEXES = {"--index-url", "-i", "--default-index", "--extra-index-url", "--index"}
_OF_NO_ACCOUNT = {
    "--quiet", "-q", "--verbose", "-v", "--disable-pip-version-check", "--no-input", "--no-compile",
    "--break-system-packages", "--no-cache-dir", "--no-cache", "--force-reinstall", "--reinstall",
    "--no-warn-script-location", "--no-build", "--prefer-binary", "--ignore-installed", "-I",
    "--system-certs", "--no-color", "--no-python-version-warning", "--require-virtualenv",
}  # fmt: skip
_OF_NO_ACCOUNT_WITH_VALUE = {
    "--root-user-action", "--progress-bar", "--timeout", "--default-timeout", "--retries", "--only-binary",
    "--cache-dir", "--python-version",
}  # fmt: skip
_SEVERAL = {"--extra-index-url", "--find-links", "--trusted-host", "--constraint"}
"""pip splits their variables and settings at white space"""
_OFF = {"0", "false", "no", "off", "n", "f"}


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
            if _WITH_VALUE.get(name) == "--constraints" and "://" not in given:
                raise UnknownArgumentError(f"{given} is a file of the image, which is not read")
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


def arguments_of(request: BuildRequest) -> Arguments:
    """All that pip would be told: by the base's variables and ``build_env``, by ``pip.conf``, by arguments.

    Raises:
        UnknownArgumentError: as ``translate``.
    """
    words = [word for name, value in _variables(request).items() for word in _said(name, value)]
    return translate([*words, *_settings(request), *install_arguments(request)])


def misunderstood(request: BuildRequest) -> dict[str, str]:
    """Field -> what it tells pip that resolving does not know."""
    found: dict[str, str] = {}
    variables = _variables(request) if request.staged.has_requirements else {}
    for variable, value in variables.items():
        try:
            translate(_said(variable, value))
        except UnknownArgumentError as error:
            field = "build_env" if variable in request.spec.build_env else "base_image"
            found[field] = f"the variable {variable}: {error}"
    try:
        translate(install_arguments(request))
    except UnknownArgumentError as error:
        found["pip_extra_args"] = str(error)
    return found


def _variables(request: BuildRequest) -> Mapping[str, str]:
    """Those of pip that an install step would see, but for what says nothing."""
    seen = {**base_environment(request.base.config), **install_environment(request, Contribution())}
    return {
        name: value
        for name, value in sorted(seen.items())
        if name.startswith("PIP_") and value not in ("", "/dev/null")
    }


def _settings(request: BuildRequest) -> Iterator[str]:
    """What the secret ``pip.conf`` says, as arguments."""
    if (secret := request.secrets.get("pip.conf")) is None:
        return
    from configparser import RawConfigParser  # noqa: PLC0415 - few specs need it

    parser = RawConfigParser()
    parser.read_string(secret.reveal().decode())
    for name, value in parser.items("global"):
        yield from _said(f"PIP_{name.upper()}", value)


def _said(variable: str, value: str) -> list[str]:
    """A variable of pip as arguments."""
    name = f"--{variable.removeprefix('PIP_').lower().replace('_', '-')}"
    if name in _SEVERAL:
        return [f"{name}={each}" for each in value.split()]
    if name in {*_FLAGS, *_OF_NO_ACCOUNT, "--upgrade", "--require-hashes"}:
        return [] if value.lower() in _OFF else [name]
    return [f"{name}={value}"]
