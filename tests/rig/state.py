"""What the rig remembers: its folder, its settings (kept over down/up) and the rig that is up."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import socket
import urllib.parse
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

UP = "python3 -m tests.rig up"


class RigDownError(Exception):
    """No rig is up; the message says how to bring it up."""


@dataclass(frozen=True, slots=True)
class TlsRegistry:
    """A registry with a certificate of the rig's own authority that asks for a user and a password."""

    address: str  # host:port
    ca: str  # path of a PEM file
    username: str
    password: str


@dataclass(frozen=True, slots=True)
class Images:
    """Base images, as full references in the plain registry."""

    python311: str
    python313: str
    debian: str  # python3, no python, pip externally managed (PEP 668)
    bare: str  # no python at all
    multi: str | None = None  # of ``python311_multi``, which see

    @property
    def python311_multi(self) -> str | None:
        """For linux/amd64 and linux/arm64; only with ``up --with arm64``. Waits until it is there."""
        return _awaited(self.multi)


@dataclass(frozen=True, slots=True)
class Buildkit:
    """Addresses of one buildkitd."""

    tcp: str
    unix: str


@dataclass(frozen=True, slots=True)
class Cnb:
    """Cloud Native Buildpacks; only with ``up --with cnb``. All but ``pack`` are full references."""

    builder: str
    builder_old: str | None = (
        None  # its platform APIs are too old; None here and below: a public builder is used
    )
    builder_extended: str | None = None  # has image extensions
    run: str | None = None
    run_next: str | None = None  # a later version of it
    run_pinned: str | None = None  # applications on it cannot be rebased
    run_other: str | None = None  # of another distribution
    pack: str | None = None  # path of the program
    multi: str | None = None  # of ``builder_multi``, which see

    @property
    def builder_multi(self) -> str | None:
        """For linux/amd64 and linux/arm64; only with ``up --with arm64`` too. Waits until it is there."""
        return _awaited(self.multi)


@dataclass(frozen=True, slots=True)
class Rig:
    """All that runs. Addresses are URLs for engines and BuildKit, ``host:port`` for registries."""

    docker_host: str
    docker_host_classic: (
        str | None
    )  # None where the machine's own engine is used and a second one cannot be started
    registry: str
    registry_tls: TlsRegistry
    images: Images
    buildkit: Buildkit
    cnb: Cnb | None = None

    def to_json(self) -> str:
        """Return the text of the state file."""
        data = asdict(self)
        _rename(data["images"], "multi", "python311_multi")
        _rename(data["cnb"], "multi", "builder_multi")
        return json.dumps(data, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Rig:
        """Read what ``to_json`` wrote."""
        data: dict[str, Any] = json.loads(text)
        _rename(data["images"], "python311_multi", "multi")
        _rename(data.get("cnb"), "builder_multi", "multi")
        return cls(
            **{
                **data,
                "registry_tls": TlsRegistry(**data["registry_tls"]),
                "images": Images(**data["images"]),
                "buildkit": Buildkit(**data["buildkit"]),
                "cnb": Cnb(**data["cnb"]) if data.get("cnb") else None,
            }
        )


def _rename(data: dict[str, Any] | None, name: str, to: str) -> None:
    """Other programs read the file: its keys are what the names are for them."""
    if data is not None:
        data[to] = data.pop(name, None)


def _awaited(reference: str | None) -> str | None:
    from . import later

    if reference is not None:
        later.wait()
    return reference


def uses_public_images() -> bool:
    """Tell whether this machine has an engine and the internet, rather than Debian packages and root."""
    if os.environ.get("IMAGESMITH_RIG_PUBLIC"):
        return True
    release = Path("/etc/os-release")
    on_debian = release.exists() and "\nID=debian\n" in "\n" + release.read_text(encoding="utf-8")
    return not (on_debian and os.geteuid() == 0)


def cache() -> Path:
    """Return the folder that holds all the rig keeps."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / ("imagesmith-rig-public" if uses_public_images() else "imagesmith-rig")


def state_path() -> Path:
    """Return the state file: there while the rig is up."""
    return cache() / "rig.json"


def load() -> Rig:
    """Return the rig that is up.

    Raises:
        RigDownError: none is.
    """
    try:
        text = state_path().read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise RigDownError(f"the rig is not up (no {state_path()}); start it: {UP}") from error
    rig = Rig.from_json(text)
    silent = [
        address
        for address in (rig.docker_host, f"tcp://{rig.registry}", rig.buildkit.tcp)
        if not answers(address)
    ]
    if silent:
        raise RigDownError(
            f"the rig was up, but nothing answers at {', '.join(silent)}; start it again: {UP}"
        )
    return rig


def save(rig: Rig) -> None:
    """Write the state file; it holds a password, so only the user reads it."""
    write_private(state_path(), rig.to_json())


@contextlib.contextmanager
def lock(name: str = "lock") -> Iterator[None]:
    """One rig command at a time; another name: whatever else must not be done twice at once."""
    cache().mkdir(parents=True, exist_ok=True)
    with (cache() / name).open("w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def forget() -> None:
    """Remove the state file."""
    state_path().unlink(missing_ok=True)


def write_private(path: Path, text: str) -> None:
    """Replace a file as a whole, mode 0600."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.touch(mode=0o600)
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


@dataclass(frozen=True, slots=True)
class Settings:
    """Choices made at the first ``up`` and kept, since image names and bridges hold them."""

    registry_port: int
    registry_tls_port: int
    buildkit_port: int
    password: str  # of the TLS registry
    subnet: str = ""  # "a.b.c.0/24" of the engine's bridge
    bridge_classic: str = ""  # link name of the second engine's bridge
    subnet_classic: str = ""

    @classmethod
    def load(cls) -> Settings | None:
        """Return the settings of an earlier ``up``, if there was one."""
        try:
            return cls(**json.loads(settings_path().read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None

    def save(self) -> None:
        """Keep them."""
        write_private(settings_path(), json.dumps(asdict(self), indent=2) + "\n")


def answers(address: str) -> bool:
    """Tell whether something accepts connections there; an address of another kind is believed."""
    parts = urllib.parse.urlsplit(address)
    if parts.scheme == "unix":
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(parts.path) == 0
    if parts.scheme == "tcp" and parts.hostname and parts.port:
        with socket.socket() as probe:
            probe.settimeout(5)
            return probe.connect_ex((parts.hostname, parts.port)) == 0
    return True


def new_password() -> str:
    """Return a random one."""
    return secrets.token_urlsafe(18)


def settings_path() -> Path:
    """Return the file of the settings."""
    return cache() / "settings.json"
