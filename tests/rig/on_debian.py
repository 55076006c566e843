"""The rig on Debian, as root: everything from packages; what needs what, and what runs side by side."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor

from . import (
    arm64,
    buildah,
    buildkit,
    cnb,
    cnb_multi,
    engine,
    images,
    later,
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
        if ARM64 in parts:
            with part("arm64 emulation"):
                arm64.install()
            later.start(parts)  # the longest part, so early
        lifecycle = cnb.start(pool) if cnb.PART in parts else None
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
    coming = ARM64 in parts
    multi = publisher.reference(arm64.MULTI) if coming or arm64.done(publisher) else None
    made = dataclasses.replace(publisher.images(), multi=multi)
    buildpacks = cnb_multi.reference(publisher, coming=coming and cnb.PART in parts)
    return Rig(host, classic, plain, tls, made, address, buildpacks)


def down() -> None:
    """End what ``up`` started, and nothing else; the cache stays."""
    for stop in (later.stop, buildkit.stop, registries.stop, engine.stop):
        stop()


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
