"""pip's own settings, for uv. Runs in the image that is built, with its python; standard library only.

uv reads neither ``pip.conf`` nor ``PIP_*``. This prints them as the variables that uv knows, to be read by a
shell; where one cannot be said to uv it says so and fails, and then pip has to install.

Arguments are those of pip that name indexes. They win over the settings, or add to them, as with pip.
"""

from __future__ import annotations

import configparser
import os
import shlex
import sys

SINGLE = {
    "index-url": "UV_INDEX_URL",
    "cert": "SSL_CERT_FILE",
    "client-cert": "SSL_CLIENT_CERT",
    "timeout": "UV_HTTP_TIMEOUT",
    "default-timeout": "UV_HTTP_TIMEOUT",
    "retries": "UV_HTTP_RETRIES",
    "proxy": "ALL_PROXY",
}
SEVERAL = {
    "extra-index-url": "UV_EXTRA_INDEX_URL",
    "find-links": "UV_FIND_LINKS",
    "trusted-host": "UV_INSECURE_HOST",
}
# Of no account for what is installed, or the same without them.
HARMLESS = {
    "break-system-packages", "cache-dir", "disable-pip-version-check", "no-cache-dir", "no-color", "no-input",
    "no-python-version-warning", "no-warn-script-location", "progress-bar", "quiet", "require-virtualenv",
    "root-user-action", "verbose", "config-file", "python-version",
}  # fmt: skip
OWN_INDEX = "--own-index"
"""An argument of this program: the requirements name their index themselves."""


def files(env: dict[str, str]) -> list[str]:
    """Where pip looks, the last one winning."""
    named = env.get("PIP_CONFIG_FILE", "")
    if named == os.devnull:
        return []
    home = env.get("HOME") or "/root"
    user = env.get("XDG_CONFIG_HOME") or home + "/.config"
    return [
        "/etc/xdg/pip/pip.conf",
        "/etc/pip.conf",
        home + "/.pip/pip.conf",
        user + "/pip/pip.conf",
        sys.prefix + "/pip.conf",
        *([named] if named else []),
    ]


def settings(env: dict[str, str]) -> dict[str, str]:
    """What the files and the environment say about ``pip install``."""
    found = {}
    for section in ("global", "install"):
        for file in files(env):
            parser = configparser.RawConfigParser()
            parser.read(file, encoding="utf-8")
            if parser.has_section(section):
                found.update({key.replace("_", "-"): value for key, value in parser.items(section)})
    for key, value in env.items():
        if key.startswith("PIP_") and value:
            found[key[4:].lower().replace("_", "-")] = value
    return found


def variables(env: dict[str, str], arguments: list[str]) -> dict[str, str]:
    """The same for uv. Raises ValueError naming what cannot be said to it."""
    found: dict[str, list[str]] = {}
    for key, value in settings(env).items():
        if key in SINGLE:
            found[SINGLE[key]] = [value]
        elif key in SEVERAL:
            found[SEVERAL[key]] = value.split()
        elif key not in HARMLESS:
            raise ValueError(key)
    for name, value in zip(arguments[::2], arguments[1::2]):  # noqa: B905 - python 3.8 has no strict=
        key = name.lstrip("-")
        if key in SINGLE:
            found[SINGLE[key]] = [value]
        else:
            found.setdefault(SEVERAL[key], []).append(value)
    if "UV_INDEX_URL" in found and found["UV_INDEX_URL"] == [""]:
        del found["UV_INDEX_URL"]
    links = found.get("UV_FIND_LINKS")
    if links:
        found["UV_FIND_LINKS"] = [",".join(links)]
    return {name: " ".join(values) for name, values in found.items()}


def main() -> int:
    """Print them."""
    arguments = sys.argv[1:]
    own = OWN_INDEX in arguments
    try:
        found = variables(dict(os.environ), [each for each in arguments if each != OWN_INDEX])
    except (ValueError, configparser.Error, OSError) as error:
        print(f"pip installs, for uv does not know its setting {error}", file=sys.stderr)  # noqa: T201
        return 3
    for name, value in sorted(found.items()):
        if not (own and name == "UV_INDEX_URL"):
            print(f"export {name}={shlex.quote(value)}")  # noqa: T201 - a shell reads it
    return 0


if __name__ == "__main__":
    sys.exit(main())
