"""pip's own settings, for uv. Runs in the image that is built, with its python; standard library only.

uv reads neither ``pip.conf`` nor ``PIP_*``. What these say about indexes, credentials included, is written
to a ``uv.toml`` (build backends that uv starts see the environment, and may keep it); the rest is printed as
variables, to be read by a shell. Where something cannot be said to uv this names it and fails, and then pip
has to install.

Arguments: where to write; then those of pip that name indexes, which win over the settings or add to them,
as with pip.
"""

from __future__ import annotations

import configparser
import json
import os
import shlex
import sys

VARIABLES = {
    "cert": "SSL_CERT_FILE",
    "client-cert": "SSL_CLIENT_CERT",
    "timeout": "UV_HTTP_TIMEOUT",
    "default-timeout": "UV_HTTP_TIMEOUT",
    "retries": "UV_HTTP_RETRIES",
    "proxy": "ALL_PROXY",
}
SEVERAL = {"extra-index-url", "find-links", "trusted-host"}
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


def translated(env: dict[str, str], arguments: list[str]) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Variables, and indexes by pip's names. Raises ValueError naming what cannot be said to uv."""
    found: dict[str, str] = {}
    indexes: dict[str, list[str]] = {}
    for key, value in settings(env).items():
        if key in VARIABLES:
            found[VARIABLES[key]] = value
        elif key in SEVERAL or key == "index-url":
            indexes[key] = value.split()
        elif key not in HARMLESS:
            raise ValueError(key)
    for name, value in zip(arguments[::2], arguments[1::2]):  # noqa: B905 - python 3.8 has no strict=
        key = name.lstrip("-")
        if key == "index-url":
            indexes[key] = [value]
        else:
            indexes.setdefault(key, []).append(value)
    return found, {key: values for key, values in indexes.items() if values}


def toml(indexes: dict[str, list[str]]) -> str:
    """A ``uv.toml``. Its strings are written as JSON writes them."""
    lines = []
    if "trusted-host" in indexes:
        lines.append("allow-insecure-host = " + json.dumps(indexes["trusted-host"]))
    lines.append("[pip]")
    if "index-url" in indexes:
        lines.append("index-url = " + json.dumps(indexes["index-url"][-1]))
    lines += [
        f"{key} = {json.dumps(indexes[key])}" for key in ("extra-index-url", "find-links") if key in indexes
    ]
    return "".join(line + "\n" for line in lines)


def main() -> int:
    """Write the file where there is something to say, and print the variables."""
    path, *arguments = sys.argv[1:]
    own = OWN_INDEX in arguments
    try:
        found, indexes = translated(dict(os.environ), [each for each in arguments if each != OWN_INDEX])
    except (ValueError, configparser.Error, OSError) as error:
        print(f"pip installs, for uv does not know its setting {error}", file=sys.stderr)  # noqa: T201
        return 3
    if own:
        indexes.pop("index-url", None)
    if indexes:
        with open(path, "w", encoding="utf-8") as file:  # noqa: PTH123
            file.write(toml(indexes))
        found["UV_CONFIG_FILE"] = path
    for name, value in sorted(found.items()):
        print(f"export {name}={shlex.quote(value)}")  # noqa: T201 - a shell reads it
    return 0


if __name__ == "__main__":
    sys.exit(main())
