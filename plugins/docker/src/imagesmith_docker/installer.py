"""How the packages are installed: by uv, as pip would, or by pip itself. Pure.

uv is lent to the build by a bind mount. pip's settings in the base and its options are translated for it;
where one of them cannot be, pip installs, so that a spec means the same with every builder.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from imagesmith import BuildRequest, Contribution, install_arguments, scripts, stated_python
from imagesmith_docker.pip_settings import OWN_INDEX

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["MOUNT", "SETTINGS", "Installer", "contribution", "installer", "needs_environment"]

MOUNT = "/run/imagesmith"
"""All that a step borrows stands below this folder; nothing of it stays in the image."""

SETTINGS = "pip_settings.py"
"""The program that tells uv of pip's settings, a module of this package."""

_OLDEST_PYTHON = (3, 8)
"""that uv installs into"""

# pip's spelling -> uv's, without and with a value. What is not here is left to pip.
_FLAGS = {
    "--no-deps": "--no-deps", "--pre": "--prerelease=allow", "--no-index": "--no-index",
    "--require-hashes": "--require-hashes", "--no-build-isolation": "--no-build-isolation",
    "--upgrade": "--upgrade", "-U": "--upgrade", "--force-reinstall": "--reinstall",
    "--no-cache-dir": "--no-cache", "--compile": "--compile-bytecode", "--no-compile": "",
    "--quiet": "--quiet", "-q": "--quiet", "--verbose": "--verbose", "-v": "--verbose",
    "--disable-pip-version-check": "", "--no-input": "", "--break-system-packages": "",
    "--no-cache": "--no-cache", "--compile-bytecode": "--compile-bytecode", "--reinstall": "--reinstall",
    "--no-build": "--no-build", "--system-certs": "--system-certs",
}  # fmt: skip
_SETTINGS = {
    "--index-url": "--index-url", "-i": "--index-url", "--extra-index-url": "--extra-index-url",
    "--find-links": "--find-links", "-f": "--find-links", "--trusted-host": "--trusted-host",
}  # fmt: skip
"""those that pip's own settings know as well, and which add to them or win over them"""
_WITH_VALUE = {
    "--no-binary": "--no-binary", "--only-binary": "--only-binary", "--root-user-action": "",
    "--progress-bar": "",
    # uv's own
    "--index": "--index", "--default-index": "--default-index", "--index-strategy": "--index-strategy",
    "--prerelease": "--prerelease", "--resolution": "--resolution", "--exclude-newer": "--exclude-newer",
    "--torch-backend": "--torch-backend", "--no-build-isolation-package": "--no-build-isolation-package",
    "--upgrade-package": "--upgrade-package", "-P": "--upgrade-package",
}  # fmt: skip
_PIP_ONLY_LINES = re.compile(
    r"^(--prefer-binary|--use-feature)\b|\s--(config-settings|global-option)=", re.MULTILINE
)

_NO_PIP = (
    "imagesmith: the base image has no pip, and uv cannot be used there: "
    "add apt_packages python3-venv, or choose another base"
)


@dataclass(frozen=True, slots=True)
class Installer:
    """The script of the step, and whether it may use uv. ``reason`` says why it may not."""

    script: str
    uv: bool
    reason: str = ""


class _Arguments(NamedTuple):
    """pip's arguments for uv: those of its command line, and those that ``pip_settings.py`` takes."""

    options: list[str]
    settings: list[str]


def needs_environment(request: BuildRequest) -> bool:
    """A base that states its python is used as it is. Any other may have ``python3`` only, or an
    externally managed one: a virtual environment answers for both."""
    return request.conda is None and stated_python(request.base) is None


def contribution(request: BuildRequest) -> Contribution:
    """Where the image's python is, when it is not the base's own."""
    if request.conda is not None:
        return request.conda.contribution
    return Contribution(path=(f"{scripts.VENV}/bin",)) if needs_environment(request) else Contribution()


def installer(request: BuildRequest) -> Installer:
    """The script that installs ``imagesmith.txt`` in the folder of requirements."""
    texts = request.staged.texts
    arguments = _translated(install_arguments(request))
    reason = _reason(request, arguments)
    own = contribution(request).path
    python = f"{own[0]}/python" if own else '"$(command -v python)"'
    lines = [f"python={python}", *_salt(texts), f"cd {MOUNT}/requirements"]
    lines += scripts.pip_settings(request, f"{MOUNT}/secrets/pip.conf").splitlines()
    if reason or arguments is None:
        return Installer("\n".join([*lines, *_pip(request)]) + "\n", uv=False, reason=reason)
    settings = [f"{MOUNT}/settings/uv.toml", *arguments.settings]
    if any(re.search(r"^--index-url\b", text, re.MULTILINE) for text in texts.values()):
        settings.append(OWN_INDEX)
    lines += [
        f"uv={MOUNT}/tools/uv",
        'if "$uv" --version >/dev/null 2>&1 &&',
        f'  settings=$("$python" -IB {MOUNT}/{SETTINGS} {shlex.join(settings)})',
        "then",
        *(f"  {line}" for line in _uv(request, arguments.options)),
        "else",
        *(f"  {line}" for line in _pip(request)),
        "fi",
    ]
    return Installer("\n".join(lines) + "\n", uv=True)


def _reason(request: BuildRequest, arguments: _Arguments | None) -> str:
    if arguments is None:
        return "an argument of pip_extra_args is pip's own"
    if any(_PIP_ONLY_LINES.search(text) for text in request.staged.texts.values()):
        return "a line of the requirements is pip's own"
    stated = stated_python(request.base) if request.conda is None else request.conda.python
    if stated is not None and _version(stated) < _OLDEST_PYTHON:
        return f"python {stated} is too old for uv"
    return ""


def _uv(request: BuildRequest, options: Iterable[str]) -> list[str]:
    argv = ["pip", "install", "--break-system-packages", "--no-sources"]
    if "--index-strategy" not in options:
        argv += ["--index-strategy", "unsafe-best-match"]  # as pip: the best version of all indexes
    if any(re.search(r"(^|\s)--(hash|require-hashes)\b", text) for text in request.staged.texts.values()):
        argv.append("--require-hashes")
    argv += [*options, "-r", "imagesmith.txt"]
    return [
        'eval "$settings"',
        f"export UV_CACHE_DIR={MOUNT}/cache/uv UV_LINK_MODE=copy UV_NO_PROGRESS=1 UV_PYTHON_DOWNLOADS=never",
        'if [ -z "${SSL_CERT_FILE:-}" ] && [ -s /etc/ssl/certs/ca-certificates.crt ]; then',
        "  export UV_SYSTEM_CERTS=true",
        "fi",
        f'"$uv" {shlex.join(argv)} --python "$python"',
    ]


def _pip(request: BuildRequest) -> list[str]:
    argv = ["-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--root-user-action=ignore"]
    argv += [*install_arguments(request), "-r", "imagesmith.txt"]
    return [
        'if ! "$python" -m pip --version >/dev/null 2>&1; then',
        f"  echo {shlex.quote(_NO_PIP)} >&2",
        "  exit 1",
        "fi",
        f'PIP_CACHE_DIR={MOUNT}/cache/pip "$python" {shlex.join(argv)}',
    ]


def _translated(arguments: Iterable[str]) -> _Arguments | None:
    """The same for uv; None where one of them is not known to mean the same there."""
    found = _Arguments([], [])
    waiting = iter(arguments)
    for word in waiting:
        name, equals, value = word.partition("=")
        if word in _FLAGS:
            found.options.extend([_FLAGS[word]] if _FLAGS[word] else [])
        elif name in _WITH_VALUE or name in _SETTINGS:
            given = value if equals else next(waiting, None)
            if given is None:
                return None
            if name in _SETTINGS:
                found.settings.extend([_SETTINGS[name], given])
            elif _WITH_VALUE[name]:
                found.options.extend([_WITH_VALUE[name], given])
        else:
            return None
    return found


def _salt(texts: Mapping[str, str]) -> list[str]:
    """What the engine must know to tell that a secret file asks for something else, credentials aside."""
    import hashlib  # noqa: PLC0415

    return [f"# {name} {hashlib.sha256(text.encode()).hexdigest()}" for name, text in sorted(texts.items())]


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:2])
