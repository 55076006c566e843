"""The rig on Debian, as root: everything from packages; what needs what, and what runs side by side."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path

from . import (
    arm64,
    bases,
    buildah,
    buildkit,
    cnb,
    cnb_multi,
    engine,
    images,
    network,
    packages,
    processes,
    registries,
)
from .console import RigError, part, say
from .state import Rig, Settings, new_password, settings_path

ARM64 = "arm64"  # name of an optional part
PACKAGES = (
    "docker.io",
    "docker-cli",
    "docker-buildx",
    "docker-registry",
    "iptables",
    "iproute2",
    "mmdebstrap",
    "uidmap",
)
PACKAGES_TLS = ("apache2-utils", "openssl", "ca-certificates")


def up(parts: Collection[str] = ()) -> Rig:
    """Bring up everything that is not up yet, and the optional parts named.

    Raises:
        RigError: says which part failed and what to do.
    """
    with ThreadPoolExecutor() as pool:
        program = pool.submit(buildkit.binary)
        with part("Debian packages"):
            packages.install([*PACKAGES, *PACKAGES_TLS, *buildah.PACKAGES])
        emulated = _start_arm64(pool) if ARM64 in parts else None
        lifecycle = cnb.start(pool, cnb_multi.needed(parts)) if cnb.PART in parts else None
        settings = _settings()
        with part("registries and engines"):
            plain = registries.start_plain(settings)
            tls = registries.start_tls(settings)
            host = engine.start(settings)
            classic = engine.start_classic(settings)
        if not engine.has_containerd_store(host):
            say(f"the engine at {host} is this machine's own, without the containerd image store")
        publisher = images.Publisher(host, plain, tls)
        pending = images.start_debian(publisher, pool)
        address = buildkit.start(program.result(), settings, plain, tls)
        for future in pending:
            future.result()
        if lifecycle:
            lifecycle.result()
            cnb.publish(publisher)
        if emulated:
            emulated.result()
            arm64.publish(publisher)
        if lifecycle and emulated:
            cnb_multi.publish(publisher)
    made = dataclasses.replace(publisher.images(), python311_multi=arm64.reference(publisher))
    return Rig(host, classic, plain, tls, made, address, cnb_multi.reference(publisher))


def down() -> None:
    """End what ``up`` started, and nothing else; the cache stays."""
    for stop in (buildkit.stop, registries.stop, engine.stop):
        stop()


def _start_arm64(pool: Executor) -> Future[Path]:
    """Start the longest part early."""
    with part("arm64 emulation"):
        arm64.install()
    return pool.submit(bases.tar, bases.BOOKWORM_ARM64)


def _settings() -> Settings:
    settings = Settings.load()
    if settings is None:
        plain, tls, remote = network.free_ports()
        main, classic = network.free_subnets(2)
        settings = Settings(plain, tls, remote, new_password(), main, network.free_bridge(), classic)
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
