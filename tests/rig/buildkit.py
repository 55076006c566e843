"""A stock buildkitd, built from its Go module: the address that remote builds go to."""

from __future__ import annotations

import json
import socket
from pathlib import Path

from . import golang, processes
from .state import Buildkit, Settings, TlsRegistry, cache

NAME = "buildkitd"
MODULE = Path(__file__).parent / "buildkit"
COMMAND = "github.com/moby/buildkit/cmd/buildkitd"


def binary() -> Path:
    """Return the program."""
    return golang.build("buildkit", MODULE, [COMMAND], {}) / NAME


def addresses(settings: Settings) -> Buildkit:
    """Return where it listens."""
    socket_path = cache() / "buildkit" / "buildkitd.sock"
    return Buildkit(tcp=f"tcp://127.0.0.1:{settings.buildkit_port}", unix=f"unix://{socket_path}")


def start(program: Path, settings: Settings, plain: str, tls: TlsRegistry) -> Buildkit:
    """Return the addresses of a buildkitd that knows both registries."""
    folder = cache() / "buildkit"
    address = addresses(settings)
    if processes.alive(NAME):
        return address
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "buildkitd.toml"
    file.write_text(configuration(folder / "root", address, plain, tls), encoding="utf-8")
    processes.start(NAME, [program, "--config", file], ready=lambda: listens(settings))
    return address


def listens(settings: Settings) -> bool:
    """Tell whether it accepts connections."""
    with socket.socket() as probe:
        probe.settimeout(2)
        return probe.connect_ex(("127.0.0.1", settings.buildkit_port)) == 0


def stop() -> None:
    """End it."""
    processes.stop(NAME)


def configuration(root: Path, address: Buildkit, plain: str, tls: TlsRegistry) -> str:
    """Return TOML (JSON strings and lists are TOML ones); ``http = false``: HTTP is assumed on loopback."""
    text = (
        f"root = {json.dumps(str(root))}\n"
        f"[grpc]\naddress = {json.dumps([address.unix, address.tcp])}\n"
        '[worker.oci]\nenabled = true\nnetworkMode = "host"\n'
        "[worker.containerd]\nenabled = false\n"
    )
    for name in _names(plain):
        text += f"[registry.{json.dumps(name)}]\nhttp = true\n"
    for name in _names(tls.address):
        text += f"[registry.{json.dumps(name)}]\nhttp = false\nca = {json.dumps([tls.ca])}\n"
    return text


def _names(address: str) -> tuple[str, str]:
    port = address.rpartition(":")[2]
    return f"127.0.0.1:{port}", f"localhost:{port}"
