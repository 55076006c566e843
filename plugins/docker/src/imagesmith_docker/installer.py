"""How the packages are installed: by uv, as pip would, or by pip itself. Pure.

uv is lent to the build by a bind mount. It knows neither pip's configuration nor all of its options: where
one of these has a say, pip installs, so that a spec means the same with every builder.
"""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from imagesmith import BuildRequest, index_options, scripts, stated_python

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["MOUNT", "Installer", "installer", "needs_environment", "uv_configuration"]

MOUNT = "/run/imagesmith"
"""All that a step borrows stands below this folder; nothing of it stays in the image."""

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
_WITH_VALUE = {
    "--index-url": "--index-url", "-i": "--index-url", "--extra-index-url": "--extra-index-url",
    "--find-links": "--find-links", "-f": "--find-links", "--trusted-host": "--allow-insecure-host",
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

_PIP_FILES = (
    '"${PIP_CONFIG_FILE:-}" /etc/pip.conf /etc/xdg/pip/pip.conf /root/.pip/pip.conf '
    '/root/.config/pip/pip.conf "${python%/bin/*}/pip.conf"'
)
# Settings of pip that change neither what is installed nor from where.
_HARMLESS = (
    "CERT|CACHE_DIR|NO_CACHE_DIR|DISABLE_PIP_VERSION_CHECK|DEFAULT_TIMEOUT|TIMEOUT|RETRIES|NO_INPUT|NO_COLOR"
    "|PROGRESS_BAR|ROOT_USER_ACTION|BREAK_SYSTEM_PACKAGES|PREFER_BINARY|QUIET|VERBOSE|REQUIRE_VIRTUALENV"
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


def needs_environment(request: BuildRequest) -> bool:
    """A base that states its python is used as it is. Any other may have ``python3`` only, or an
    externally managed one: a virtual environment answers for both."""
    return stated_python(request.base) is None


def uv_configuration(request: BuildRequest) -> str | None:
    """A ``uv.toml`` with the spec's indexes when one of them has credentials, else None. A secret."""
    if "pip.conf" not in request.secrets:
        return None
    spec = request.spec
    lines = ["[pip]"]
    if spec.pip_index:
        lines.append(f"index-url = {json.dumps(spec.pip_index)}")
    if spec.pip_extra_index_url:
        lines.append(f"extra-index-url = {json.dumps(list(spec.pip_extra_index_url))}")
    return "".join(f"{line}\n" for line in lines)


def installer(request: BuildRequest) -> Installer:
    """The script that installs ``imagesmith.txt`` in the folder of requirements."""
    spec, texts = request.spec, request.staged.texts
    arguments = _uv_arguments(spec.pip_extra_args)
    reason = _reason(request, arguments)
    python = f"{scripts.VENV}/bin/python" if needs_environment(request) else '"$(command -v python)"'
    lines = [f"python={python}", *_salt(texts), f"cd {MOUNT}/requirements"]
    pip = _pip(request)
    if reason:
        return Installer("\n".join([*lines, *pip]) + "\n", uv=False, reason=reason)
    hashed = any(re.search(r"(^|\s)--(hash|require-hashes)\b", text) for text in texts.values())
    lines += [
        f"uv={MOUNT}/tools/uv",
        "configured=",
        f'for file in {_PIP_FILES}; do if [ -s "$file" ]; then configured=$file; fi; done',
        f"if env | grep '^PIP_' | grep -qvE '^PIP_({_HARMLESS})='; then configured=environment; fi",
        'if [ -z "$configured" ] && "$uv" --version >/dev/null 2>&1; then',
        *(f"  {line}" for line in _uv(request, arguments or (), hashed=hashed)),
        "else",
        *(f"  {line}" for line in pip),
        "fi",
    ]
    return Installer("\n".join(lines) + "\n", uv=True)


def _reason(request: BuildRequest, arguments: tuple[str, ...] | None) -> str:
    if arguments is None:
        return "an argument of pip_extra_args is pip's own"
    if any(_PIP_ONLY_LINES.search(text) for text in request.staged.texts.values()):
        return "a line of the requirements is pip's own"
    stated = stated_python(request.base)
    if stated is not None and _version(stated) < _OLDEST_PYTHON:
        return f"python {stated} is too old for uv"
    return ""


def _uv(request: BuildRequest, arguments: Iterable[str], *, hashed: bool) -> list[str]:
    argv = ["pip", "install", "--break-system-packages", "--no-sources"]
    if "--index-strategy" not in request.spec.pip_extra_args:
        argv += ["--index-strategy", "unsafe-best-match"]  # as pip: the best version of all indexes
    argv += ["--require-hashes"] if hashed else []
    argv += [*index_options(request.spec), *arguments, "-r", "imagesmith.txt"]
    config = [f"export UV_CONFIG_FILE={MOUNT}/secrets/uv.toml"] if "pip.conf" in request.secrets else []
    return [
        f"export UV_CACHE_DIR={MOUNT}/cache/uv UV_LINK_MODE=copy UV_NO_PROGRESS=1 UV_PYTHON_DOWNLOADS=never",
        "certificates=${SSL_CERT_FILE:-${PIP_CERT:-${REQUESTS_CA_BUNDLE:-}}}",
        'if [ -n "$certificates" ]; then export SSL_CERT_FILE="$certificates"',
        "elif [ -s /etc/ssl/certs/ca-certificates.crt ]; then export UV_SYSTEM_CERTS=true; fi",
        *config,
        f'"$uv" {shlex.join(argv)} --python "$python"',
    ]


def _pip(request: BuildRequest) -> list[str]:
    argv = ["-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--root-user-action=ignore"]
    argv += [*index_options(request.spec), *request.spec.pip_extra_args, "-r", "imagesmith.txt"]
    config = [f"export PIP_CONFIG_FILE={MOUNT}/secrets/pip.conf"] if "pip.conf" in request.secrets else []
    return [
        'if ! "$python" -m pip --version >/dev/null 2>&1; then',
        f"  echo {shlex.quote(_NO_PIP)} >&2",
        "  exit 1",
        "fi",
        *config,
        f'PIP_CACHE_DIR={MOUNT}/cache/pip "$python" {shlex.join(argv)}',
    ]


def _uv_arguments(arguments: Iterable[str]) -> tuple[str, ...] | None:
    """The same for uv; None where one of them is not known to mean the same there."""
    found: list[str] = []
    waiting = iter(arguments)
    for word in waiting:
        name, equals, value = word.partition("=")
        if word in _FLAGS:
            found += [_FLAGS[word]] if _FLAGS[word] else []
        elif name in _WITH_VALUE:
            given = value if equals else next(waiting, None)
            if given is None:
                return None
            found += [_WITH_VALUE[name], given] if _WITH_VALUE[name] else []
        else:
            return None
    return tuple(found)


def _salt(texts: Mapping[str, str]) -> list[str]:
    """What the engine must know to tell that a secret file asks for something else, credentials aside."""
    import hashlib  # noqa: PLC0415

    return [f"# {name} {hashlib.sha256(text.encode()).hexdigest()}" for name, text in sorted(texts.items())]


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:2])
