"""The rig on a machine with Docker and the internet: its engine, public images, the rest in containers."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from . import buildkit, cnb, engine, images, network, registries
from .console import RigError, part, run, say
from .state import Buildkit, Rig, Settings, TlsRegistry, cache, new_password

REGISTRY_IMAGE = "registry:2"
PASSWORD_IMAGE = "httpd:2-alpine"  # for its htpasswd
BUILDKIT_IMAGE = "moby/buildkit:v0.25.1"
NAMES = tuple(f"imagesmith-rig-{name}" for name in (registries.PLAIN, registries.TLS, buildkit.NAME))
READY_SECONDS = 60.0


def up(parts: Collection[str] = ()) -> Rig:
    """Bring up everything that is not up yet. There is no second engine here, and no emulation.

    Raises:
        RigError: says which part failed and what to do.
    """
    if left_out := set(parts) - {cnb.PART}:
        say(f"left out, since it is for root on Debian: {', '.join(left_out)}")
    host = engine.existing()
    if host is None:
        raise RigError(
            "no Docker Engine answers; start Docker (or run as root on Debian, where the rig brings its own)"
        )
    settings = _settings()
    plain, tls = registries.plain_address(settings), registries.tls_registry(settings)
    with part("registries and buildkitd"):
        _start_registry(host, NAMES[0], plain, None, lambda: registries.answers(plain))
        _prepare_tls(host, tls)
        _start_registry(
            host, NAMES[1], tls.address, cache() / "tls", lambda: registries.answers(tls.address, tls.ca)
        )
        address = _start_buildkit(host, settings, plain, tls)
    publisher = images.Publisher(host, plain, tls)
    with ThreadPoolExecutor() as pool:
        lifecycle = cnb.start(pool) if cnb.PART in parts else None
        for future in images.start_public(publisher, pool):
            future.result()
        if lifecycle:
            lifecycle.result()
            cnb.publish(publisher)
    return Rig(host, None, plain, tls, publisher.images(), address, cnb.reference(publisher))


def down() -> None:
    """Remove the rig's containers; images and the registries' volumes stay."""
    host = engine.existing()
    if host:
        for name in NAMES:
            run(["docker", "rm", "--force", name], env={"DOCKER_HOST": host})


def _settings() -> Settings:
    settings = Settings.load()
    if settings is None:
        settings = Settings(*network.free_ports(), new_password())
        settings.save()
    return settings


def _start_registry(
    host: str, name: str, address: str, secured: Path | None, ready: Callable[[], bool]
) -> None:
    file = cache() / f"{name}.json"
    port = address.rpartition(":")[2]
    file.write_text(
        registries.configuration(f":{port}", Path("/var/lib/registry"), secured), encoding="utf-8"
    )
    options = ["--publish", f"{address}:{port}", "--volume", f"{name}:/var/lib/registry"]
    options += ["--volume", f"{file}:/etc/docker/registry/config.yml:ro"]
    options += ["--volume", f"{secured}:{secured}:ro"] if secured else []
    _start(host, name, image=REGISTRY_IMAGE, options=options, command=[], ready=ready)


def _prepare_tls(host: str, tls: TlsRegistry) -> None:
    registries.certificates()
    argv = ["docker", "run", "--rm", "--interactive", PASSWORD_IMAGE, "htpasswd", "-niB", tls.username]
    registries.write_passwords(run(argv, env={"DOCKER_HOST": host}, stdin=tls.password))


def _start_buildkit(host: str, settings: Settings, plain: str, tls: TlsRegistry) -> Buildkit:
    """Start it in the host's network, where the loopback registries are."""
    folder = cache() / "buildkit"
    folder.mkdir(exist_ok=True)
    address = buildkit.addresses(settings)
    file = folder / "buildkitd.toml"
    file.write_text(buildkit.configuration(Path("/var/lib/buildkit"), address, plain, tls), encoding="utf-8")
    options = ["--privileged", "--network=host", "--volume", f"{folder}:{folder}"]
    options += ["--volume", f"{Path(tls.ca).parent}:{Path(tls.ca).parent}:ro"]
    command = ["--config", str(file), "--group", str(os.getgid())]
    ready = functools.partial(buildkit.listens, settings)
    _start(host, NAMES[2], image=BUILDKIT_IMAGE, options=options, command=command, ready=ready)
    return address


def _start(
    host: str,
    name: str,
    *,
    image: str,
    options: Sequence[str],
    command: Sequence[str],
    ready: Callable[[], bool],
) -> None:
    """Run a container until the rig goes down.

    Raises:
        RigError: it does not answer in time; holds what it printed.
    """
    env = {"DOCKER_HOST": host}
    if not run(["docker", "ps", "--quiet", "--filter", f"name=^{name}$"], env=env).strip():
        run(["docker", "rm", "--force", name], env=env)
        run(["docker", "run", "--detach", "--name", name, *options, image, *command], env=env)
    deadline = time.monotonic() + READY_SECONDS
    while not ready():
        if time.monotonic() > deadline:
            logs = run(["docker", "logs", "--tail", "20", name], env=env)
            raise RigError(f"{name} does not answer after {READY_SECONDS:.0f} s:\n{logs}")
        time.sleep(0.2)
