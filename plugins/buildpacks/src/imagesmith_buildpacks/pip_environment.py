"""The spec's packages for buildpacks: pip's command line as the variables that pip reads. Pure.

A buildpack starts pip itself, so nothing can be added to its arguments; but pip takes each of its long
options from the environment too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from imagesmith import install_arguments

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from imagesmith import BuildRequest

__all__ = ["PIP_CONF", "pip_arguments", "pip_environment"]

PIP_CONF = "/platform/imagesmith/pip.conf"
"""Where a ``pip.conf`` with credentials lies while packages are installed; nothing there is exported."""

_SHORT = {
    "-i": "--index-url", "-f": "--find-links", "-U": "--upgrade", "-c": "--constraint", "-q": "--quiet",
    "-v": "--verbose", "-C": "--config-settings", "-I": "--ignore-installed",
}  # fmt: skip
_WITH_VALUE = frozenset(
    {"--index-url", "--extra-index-url", "--find-links", "--trusted-host", "--constraint", "--timeout",
     "--retries", "--proxy", "--cert", "--client-cert", "--no-binary", "--only-binary", "--progress-bar",
     "--upgrade-strategy", "--platform", "--python-version", "--implementation", "--abi", "--exists-action",
     "--use-feature", "--use-deprecated", "--config-settings", "--global-option", "--log", "--cache-dir",
     "--report", "--root-user-action", "--keyring-provider", "--uploaded-prior-to"}
)  # fmt: skip
_SEVERAL = frozenset(
    {"--extra-index-url", "--find-links", "--trusted-host", "--constraint", "--use-feature",
     "--use-deprecated", "--global-option", "--abi", "--platform"}
)  # fmt: skip
"""given more than once they add up; pip splits their variable at white space"""
_ELSEWHERE = frozenset(
    {"--target", "-t", "--user", "--prefix", "--root", "--src", "--editable", "-e", "--requirement", "-r",
     "--python", "--dry-run", "--isolated", "--download", "-d"}
)  # fmt: skip
"""where packages go, and which, is the buildpack's to say"""
_TURN_OFF = frozenset(
    {"--no-compile", "--no-build-isolation", "--no-warn-script-location", "--no-warn-conflicts"}
)
"""pip reads the variables of these as the value of what they turn off"""


def pip_environment(request: BuildRequest) -> dict[str, str]:
    """Variables for the spec's indexes and ``pip_extra_args``."""
    found, _ = pip_arguments(install_arguments(request))
    told = {f"PIP_{name[2:].replace('-', '_').upper()}": value for name, value in found.items()}
    if "pip.conf" in request.secrets:
        told["PIP_CONFIG_FILE"] = PIP_CONF
    return told


def pip_arguments(arguments: Iterable[str]) -> tuple[Mapping[str, str], str | None]:
    """Long option -> value, and what cannot be said by a variable; flags have the value ``1``."""
    found: dict[str, str] = {}
    waiting = iter(arguments)
    for word in waiting:
        name, equals, value = word.partition("=") if word.startswith("--") else (word, "", "")
        if name[:2] in _SHORT and not name.startswith("--") and len(name) > 2:
            name, equals, value = name[:2], "=", name[2:]
        name = _SHORT.get(name, name)
        if name in _ELSEWHERE or not name.startswith("--") or len(name) < 4:
            return found, f"{word!r}: a buildpack decides where packages go, and takes no such argument"
        if not equals and name in _WITH_VALUE:
            given = next(waiting, None)
            if given is None:
                return found, f"{word!r}: its value is missing"
            equals, value = "=", given
        if "\0" in name or not name[2:].replace("-", "").replace("_", "").isalnum() or not name.isascii():
            return found, f"{word!r} is no option of pip"
        if name in _SEVERAL:
            if len(value.split()) != 1:
                return found, f"{word!r}: pip would split this value at its white space"
            found[name] = f"{found[name]} {value}" if name in found else value
        else:
            found[name] = value if equals else "0" if name in _TURN_OFF else "1"
    return found, None
