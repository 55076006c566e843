"""How to reach and log in to a registry: Docker's config.json, and the file a spec names.

The docker SDK's ``docker.auth`` reads the same file, but importing it costs more than a whole existence
check (0.37 s), it takes a broken or missing file for an empty one, finds helpers on the PATH of the
process only, and waits for them without limit. A test holds the two to the same answers.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import shutil
import subprocess
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from imagesmith._frozen import FrozenMap
from imagesmith.errors import ImagesmithError, RegistryError, StoreError, UsageError
from imagesmith.stores.reference import DOCKER_HUB

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Login", "RegistryAccess", "RegistrySettings", "anonymous", "load_settings"]

_HUB_KEY = "https://index.docker.io/v1/"
_TOKEN_USER = "<token>"  # noqa: S105 - what credential helpers answer as the user of an identity token
_HELPER_SECONDS = 60.0
_DOCKER_KEYS = ("auths", "credsStore", "credHelpers")
_REGISTRY_KEYS = ("name", "ca", "cert", "key", "use_http", "mirror")


@dataclass(frozen=True, slots=True)
class Login:
    """Either a user and a password, or an identity token."""

    username: str | None = None
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    source: str = ""
    """where it was found, for messages"""

    def entry(self) -> dict[str, str]:
        """As it stands below ``auths`` in Docker's ``config.json``, which buildah and others read too."""
        if self.token:
            return {"identitytoken": self.token}
        pair = f"{self.username or ''}:{self.password or ''}"
        return {"auth": base64.b64encode(pair.encode()).decode()}


def anonymous() -> Login | None:
    """No login."""
    return None


@dataclass(frozen=True, slots=True)
class RegistryAccess:
    """What it takes to talk to one registry."""

    login: Callable[[], Login | None] = anonymous
    """called when the registry asks for one, and only then: it may start a credential helper"""
    ca: Path | None = None
    """certificates to trust beside the usual ones (PEM)"""
    cert: Path | None = None
    key: Path | None = None
    """client certificate and its key (PEM)"""
    use_http: bool = False
    mirror: str | None = None
    """``host[:port][/prefix]`` to read base images from first"""


@dataclass(frozen=True, slots=True)
class RegistrySettings:
    """All that the files say, for every registry."""

    registries: Mapping[str, RegistryAccess] = field(default_factory=FrozenMap)
    docker: Mapping[str, object] = field(default_factory=FrozenMap, repr=False)
    docker_path: Path | None = None
    env: Mapping[str, str] = field(default_factory=FrozenMap, repr=False)

    def access(self, host: str) -> RegistryAccess:
        """How to reach ``host[:port]``; its login is looked up when it is called."""
        known = self.registries.get(host, RegistryAccess())
        return replace(known, login=lambda: self.login(host))

    def login(self, host: str) -> Login | None:
        """The login for ``host[:port]``: from its credential helper, else from ``auths``.

        Raises:
            StoreError: the helper is missing or fails, or the entry cannot be read.
        """
        if self.docker_path is None:
            return None
        keys = (_HUB_KEY, DOCKER_HUB) if host == DOCKER_HUB else (host,)
        helpers = _table(self.docker, "credHelpers", self.docker_path, StoreError)
        helper = next((helpers[key] for key in keys if key in helpers), self.docker.get("credsStore"))
        found = _ask_helper(str(helper), keys[0], host, self.env) if helper else None
        if found is not None:
            return found
        auths = _table(self.docker, "auths", self.docker_path, StoreError)
        matching = [key for key in keys if key in auths] or [key for key in auths if _host_of(key) == host]
        return _decode(matching[0], auths[matching[0]], self.docker_path) if matching else None


def load_settings(
    env: Mapping[str, str], registry_config: str | os.PathLike[str] | None = None
) -> RegistrySettings:
    """Read ``registry_config`` (if given) and, for what it does not say, the machine's Docker configuration.

    ``registry_config`` is JSON in Docker's format (``auths``, ``credsStore``, ``credHelpers``: then it alone
    has the logins), in envd's (``registries: [{name, ca, cert, key, use_http, mirror}]``), or both at once.
    The machine's configuration is ``$DOCKER_CONFIG/config.json``, else ``~/.docker/config.json``.

    Raises:
        UsageError: ``registry_config`` is missing, or in neither format.
        StoreError: the machine's configuration cannot be read.
    """
    registries: Mapping[str, RegistryAccess] = {}
    if registry_config is not None:
        path = Path(registry_config)
        document = _read(path, UsageError)
        if "registries" in document:
            registries = _registries(document["registries"], path)
        if any(key in document for key in _DOCKER_KEYS):
            return RegistrySettings(FrozenMap(registries), document, path, env)
        if "registries" not in document:
            raise UsageError(
                f"{path} is no registry configuration: it has neither Docker's keys "
                f"({', '.join(_DOCKER_KEYS)}) nor envd's (registries)",
                hint='write {"auths": {…}} or {"registries": [{"name": "host:port", "ca": "ca.pem"}]}',
            )
    default = _default_path(env)
    if default is None or not default.exists():
        return RegistrySettings(FrozenMap(registries), env=env)
    return RegistrySettings(FrozenMap(registries), _read(default, StoreError), default, env)


def _default_path(env: Mapping[str, str]) -> Path | None:
    if folder := env.get("DOCKER_CONFIG"):
        return Path(folder) / "config.json"
    home = env.get("HOME") or env.get("USERPROFILE")
    return Path(home) / ".docker" / "config.json" if home else None


def _read(path: Path, error: type[ImagesmithError]) -> Mapping[str, object]:
    try:
        document = json.loads(path.read_bytes())
    except OSError as cause:
        raise error(
            f"cannot read {path}: {cause.strerror}", hint="check the path and its permissions"
        ) from cause
    except ValueError as cause:
        where = f" (line {cause.lineno})" if isinstance(cause, json.JSONDecodeError) else ""
        raise error(f"{path} is no JSON{where}", hint="mend it, or remove it and log in again") from None
    if not isinstance(document, dict):
        raise error(f"{path} is no JSON object", hint="mend it, or remove it and log in again")
    return FrozenMap(document)


def _table(
    document: Mapping[str, object], key: str, path: Path, error: type[ImagesmithError]
) -> Mapping[str, object]:
    value = document.get(key) or {}
    if not isinstance(value, dict):
        raise error(f"{path}: {key} is no object", hint='it maps hosts to entries: {"host": …}')
    return value


def _host_of(key: str) -> str:
    host = key.partition("://")[2] if "://" in key else key
    host = host.partition("/")[0]
    return DOCKER_HUB if host == "index.docker.io" else host


def _decode(key: str, entry: object, path: Path) -> Login | None:
    if not isinstance(entry, dict):
        raise StoreError(f"{path}: auths[{key!r}] is no object", hint=f"run: docker login {_host_of(key)}")
    if token := entry.get("identitytoken"):
        return Login(token=str(token), source=str(path))
    if encoded := entry.get("auth"):
        try:
            username, colon, password = base64.b64decode(str(encoded), validate=True).decode().partition(":")
        except (binascii.Error, ValueError):
            colon = ""
        if not colon:
            raise StoreError(
                f"{path}: auths[{key!r}].auth is not the base64 of user:password",
                hint=f"run: docker login {_host_of(key)}",
            )
        return Login(username, password.rstrip("\0"), source=str(path))
    if "username" in entry and "password" in entry:
        return Login(str(entry["username"]), str(entry["password"]), source=str(path))
    return None


def _ask_helper(name: str, server: str, host: str, env: Mapping[str, str]) -> Login | None:
    program = f"docker-credential-{name}"
    executable = shutil.which(program, path=env.get("PATH", os.defpath))
    if executable is None:
        hint = f"install it, or take {name!r} out of credsStore and credHelpers; then: docker login {host}"
        raise RegistryError(f"no login for {host}: {program} is not on PATH", registry=host, hint=hint)
    hint = f"run it by hand: echo {server} | {program} get"
    try:
        done = subprocess.run(
            [executable, "get"],
            input=server.encode(),
            env=dict(env),
            capture_output=True,
            timeout=_HELPER_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        why = f"gave no answer in {_HELPER_SECONDS:.0f} s"
        raise RegistryError(f"no login for {host}: {program} {why}", registry=host, hint=hint) from None
    except OSError as cause:
        why = f"does not start: {cause.strerror}"
        raise RegistryError(f"no login for {host}: {program} {why}", registry=host, hint=hint) from None
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip()).decode(errors="replace")
        if "credentials not found" in said:
            return None
        why = f"failed (exit {done.returncode}): {said.splitlines()[0][:200] if said else 'no message'}"
        raise RegistryError(f"no login for {host}: {program} {why}", registry=host, hint=hint)
    try:
        answer = json.loads(done.stdout)
        username, secret = str(answer["Username"]), str(answer["Secret"])
    except (ValueError, KeyError, TypeError):
        why = "answered without Username and Secret"
        raise RegistryError(f"no login for {host}: {program} {why}", registry=host, hint=hint) from None
    if not username and not secret:
        return None
    if username == _TOKEN_USER:
        return Login(token=secret, source=program)
    return Login(username, secret, source=program)


def _registries(entries: object, path: Path) -> dict[str, RegistryAccess]:
    if not isinstance(entries, list):
        raise UsageError(f"{path}: registries is no list", hint='write "registries": [{"name": "host:port"}]')
    found = {}
    for index, entry in enumerate(entries):
        where = f"{path}: registries[{index}]"
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str) or not entry["name"]:
            raise UsageError(f"{where} has no name", hint='write {"name": "host:port", …}')
        if unknown := sorted(set(entry) - set(_REGISTRY_KEYS)):
            raise UsageError(
                f"{where} has unknown keys: {', '.join(unknown)}", hint=f"known: {_REGISTRY_KEYS}"
            )
        if not isinstance(entry.get("use_http", False), bool):
            raise UsageError(f"{where}.use_http is neither true nor false", hint="write it without quotes")
        ca, cert, key = (_file(entry.get(kind), f"{where}.{kind}", path) for kind in ("ca", "cert", "key"))
        if (cert is None) != (key is None):
            raise UsageError(f"{where} has only one of cert and key", hint="a client certificate needs both")
        mirror = entry.get("mirror") or None
        if mirror is not None and (not isinstance(mirror, str) or "://" in mirror):
            raise UsageError(
                f"{where}.mirror is no host[:port][/prefix]", hint="write it without a URL scheme"
            )
        found[entry["name"]] = RegistryAccess(
            ca=ca, cert=cert, key=key, use_http=entry.get("use_http", False), mirror=mirror
        )
    return found


def _file(value: object, where: str, config: Path) -> Path | None:
    if value is None or value == "":
        return None
    path = config.parent / str(value)
    if not path.is_file():
        raise UsageError(
            f"{where}: there is no file {path}", hint=f"a relative path starts at {config.parent}"
        )
    return path
