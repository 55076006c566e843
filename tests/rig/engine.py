"""Docker Engines: the machine's own if one is usable, else ours; and one with the classic image store."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import subprocess
import tempfile
import urllib.parse
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from . import network, processes
from .console import run
from .state import Settings, answers, cache

DEFAULT = "unix:///var/run/docker.sock"
MAIN = "dockerd"
CLASSIC = "dockerd-classic"
ANSWER_SECONDS = 10.0


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=ANSWER_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def info(host: str) -> dict[str, Any] | None:
    """Return what the engine there says of itself, None where none answers (or only over TLS or SSH)."""
    address = urllib.parse.urlsplit(host)
    if address.scheme == "unix":
        connection: http.client.HTTPConnection = _UnixConnection(address.path)
    elif address.scheme == "tcp" and address.hostname:
        connection = http.client.HTTPConnection(
            address.hostname, address.port or 2375, timeout=ANSWER_SECONDS
        )
    else:
        return None
    try:
        connection.request("GET", "/info")
        response = connection.getresponse()
        answer: dict[str, Any] = json.loads(response.read())
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()
    return answer if response.status == 200 else None


def has_containerd_store(host: str) -> bool:
    """Tell whether the engine keeps images in containerd."""
    status = (info(host) or {}).get("DriverStatus") or []
    return any("io.containerd.snapshotter" in value for _, value in status)


def existing() -> str | None:
    """Return a usable engine's address: DOCKER_HOST, the docker client's context, or the usual socket."""
    candidates = [os.environ.get("DOCKER_HOST"), _context_host(), DEFAULT]
    return next((host for host in candidates if host and info(host) is not None), None)


def start(settings: Settings) -> str:
    """Return the address of the main engine, started here if the machine has none usable."""
    running = next((host for host in _ours() if info(host) is not None), None) or existing()
    if running:
        return running
    # The usual socket where it is free, so that a plain `docker` finds the engine.
    host = _own() if answers(DEFAULT) else DEFAULT
    configuration = {
        "features": {"containerd-snapshotter": True},
        "bip": network.gateway(settings.subnet),
        "mtu": network.mtu(),
    }
    _start(MAIN, cache() / "engine", host, configuration, [])
    network.keep_address("docker0", settings.subnet)
    return host


def start_classic(settings: Settings) -> str:
    """Return the address of the second engine: overlay2 image store, own bridge, iptables left alone."""
    folder = cache() / "classic"
    host = f"unix://{folder / 'docker.sock'}"
    if processes.alive(CLASSIC) and info(host) is not None:
        return host
    processes.stop(CLASSIC)
    network.bridge_up(settings.bridge_classic, settings.subnet_classic)
    configuration = {
        "features": {"containerd-snapshotter": False},
        "storage-driver": "overlay2",
        "bridge": settings.bridge_classic,
        "iptables": False,
        "ip-forward": False,
        "mtu": network.mtu(),
    }
    own = ["--containerd-namespace", "imagesmith", "--containerd-plugins-namespace", "imagesmith-plugins"]
    _start(CLASSIC, folder, host, configuration, own)
    return host


def build(
    host: str, dockerfile: str, reference: str, options: Sequence[str] = (), files: Path | None = None
) -> None:
    """Build a Dockerfile as a plain image in that engine; ``files``: the folder it copies from."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "Dockerfile")
        file.write_text(dockerfile, encoding="utf-8")
        argv: list[str | Path] = [
            "docker",
            "buildx",
            "build",
            "--load",
            "--provenance=false",
            *options,
            "--tag",
            reference,
            "--file",
            file,
            files or folder,
        ]
        run(argv, env={"DOCKER_HOST": host, "BUILDX_BUILDER": ""})


def remove(host: str, references: Iterable[str]) -> None:
    """Remove what is there of these images.

    An engine looks for garbage after each one, which takes longer than most tests. From our own one they are
    removed behind its back: one search follows for all of them.
    """
    names = sorted(set(references))
    address = cache() / "engine" / "run" / "containerd" / "containerd.sock"
    if host in _ours() and shutil.which("ctr") and address.exists():
        argv = ["ctr", "--address", str(address), "--namespace", "moby", "images", "rm"]
        removals = [[*argv, *map(_full_name, names)]]
    else:
        removals = [["docker", "--host", host, "rmi", "--force", name] for name in names]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda argv: subprocess.run(argv, capture_output=True, check=False), removals))


def _own() -> str:
    """The main engine's address where the usual socket is taken."""
    return f"unix://{cache() / 'engine' / 'docker.sock'}"


def _ours() -> tuple[str, ...]:
    """Where the main engine may be, if we started it."""
    return (_own(), DEFAULT) if processes.alive(MAIN) else ()


def _full_name(reference: str) -> str:
    """As containerd knows it."""
    first, slash, _ = reference.partition("/")
    if not slash:
        return f"docker.io/library/{reference}"
    return reference if {".", ":"} & set(first) or first == "localhost" else f"docker.io/{reference}"


def stop() -> None:
    """End the engines that we started."""
    for name in (CLASSIC, MAIN):
        processes.stop(name)
    settings = Settings.load()
    if settings and shutil.which("iptables"):
        network.bridge_down(settings.bridge_classic, settings.subnet_classic)


def _start(name: str, folder: Path, host: str, configuration: dict[str, Any], arguments: list[str]) -> None:
    """Start a dockerd; the machine's /etc/docker/daemon.json is neither read nor written."""
    processes.stop(name)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "daemon.json"
    file.write_text(json.dumps(configuration, indent=2) + "\n", encoding="utf-8")
    (folder / "docker.pid").unlink(
        missing_ok=True
    )  # left by a machine that was cut off: its number may be another's
    argv: list[str | Path] = [
        "dockerd",
        "--config-file",
        file,
        "--host",
        host,
        "--data-root",
        folder / "data",
    ]
    argv += ["--exec-root", folder / "run", "--pidfile", folder / "docker.pid", *arguments]
    processes.start(name, argv, ready=lambda: info(host) is not None)


def _context_host() -> str | None:
    """Ask the docker client, if there is one, where its context points."""
    if not shutil.which("docker"):
        return None
    argv = ["docker", "context", "inspect", "--format", "{{.Endpoints.docker.Host}}"]
    done = subprocess.run(
        argv, capture_output=True, text=True, timeout=30, check=False, stdin=subprocess.DEVNULL
    )
    return done.stdout.strip() or None
