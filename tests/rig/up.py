"""Bring the rig up and down: what needs what, and what runs side by side."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from . import buildkit, engine, network, packages, processes, registries
from .console import RigError, part
from .images import Publisher
from .state import Rig, Settings, cache, forget, new_password, save, settings_path

PACKAGES = (
    "docker.io",
    "docker-cli",
    "docker-buildx",
    "docker-registry",
    "iptables",
    "iproute2",
    "mmdebstrap",
)
PACKAGES_TLS = ("apache2-utils", "openssl", "ca-certificates")
PORTS = (5055, 5056, 5057)  # plain registry, TLS registry, buildkitd


@contextlib.contextmanager
def lock() -> Iterator[None]:
    """One rig command at a time."""
    cache().mkdir(parents=True, exist_ok=True)
    with (cache() / "lock").open("w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def up() -> Rig:
    """Bring up everything that is not up yet.

    Raises:
        RigError: says which part failed and what to do.
    """
    with part("all"), ThreadPoolExecutor() as pool:
        go = buildkit.debian_packages()
        early = None if go else pool.submit(buildkit.binary)
        with part("Debian packages"):
            packages.install([*PACKAGES, *PACKAGES_TLS, *go])
        program = early or pool.submit(buildkit.binary)
        settings = _settings()
        with part("registries and engines"):
            plain = registries.start_plain(settings)
            tls = registries.start_tls(settings)
            host = engine.start(settings)
            classic = engine.start_classic(settings)
        wait = Publisher(host, plain, tls).start(pool)
        address = buildkit.start(program.result(), settings, plain, tls)
        rig = Rig(host, classic, plain, tls, wait(), address)
        save(rig)
        return rig


def down() -> None:
    """End what ``up`` started, and nothing else; the cache stays."""
    forget()
    for stop in (buildkit.stop, registries.stop, engine.stop):
        stop()


def _settings() -> Settings:
    settings = Settings.load()
    if settings is None:
        plain, tls, bk = network.free_ports(PORTS)
        main, classic = network.free_subnets(2)
        settings = Settings(plain, tls, bk, main, classic, new_password())
        settings.save()
    users = {
        registries.PLAIN: settings.registry_port,
        registries.TLS: settings.registry_tls_port,
        buildkit.NAME: settings.buildkit_port,
    }
    for name, port in users.items():
        if not processes.alive(name) and not network.port_is_free(port):
            raise RigError(
                f"port {port} of {name} is taken by another program; end it, "
                f"or remove {settings_path()} so that others are chosen"
            )
    return settings
