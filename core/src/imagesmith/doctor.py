"""What this machine has and lacks: the engine, each builder's tools, a spec's registry. Raises for none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from imagesmith.builder import LocalEngine
from imagesmith.errors import ImagesmithError
from imagesmith.plugins import Blocked, Broken, Plugins

if TYPE_CHECKING:
    from collections.abc import Iterator

    from imagesmith.builder import Builder
    from imagesmith.plugins import PluginRecord
    from imagesmith.settings import Settings
    from imagesmith.spec import ImageSpec

__all__ = ["Check", "doctor"]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked for; ``hint`` says what to do where it is missing."""

    name: str
    status: Literal["found", "missing", "unknown"]
    detail: str
    hint: str | None = None


def doctor(
    settings: Settings, spec: ImageSpec | None = None, *, plugins: Plugins | None = None
) -> tuple[Check, ...]:
    """Look at everything a build needs; with ``spec`` also at its registry.

    Starts no build, writes nothing. It asks the engine and the registry, so it takes as long as they do.
    """
    plugins = plugins or Plugins(blocked=settings.blocked)
    return tuple(_checks(settings, spec, plugins))


def _checks(settings: Settings, spec: ImageSpec | None, plugins: Plugins) -> Iterator[Check]:
    yield _engine(settings, spec, plugins)
    records = plugins.survey()
    if not records:
        from imagesmith.plugins import DEFAULT_BUILDER  # noqa: PLC0415

        install = f"pip install imagesmith-{DEFAULT_BUILDER}"
        yield Check("builders", "missing", "no builder is installed", install)
    yield from (_builder(record, plugins, settings) for record in records)
    yield _base(settings)
    if spec is not None and spec.registry:
        yield from _registry(spec, settings)


def _engine(settings: Settings, spec: ImageSpec | None, plugins: Plugins) -> Check:
    from imagesmith.engine import probe  # noqa: PLC0415
    from imagesmith.without_engine import way_out  # noqa: PLC0415

    found = probe(settings.env)
    if found.problem is not None:
        destination = LocalEngine(spec.name) if spec is not None and not spec.registry else None
        way = way_out(plugins, lambda name: _made(plugins, name, settings), spec, destination)
        return Check("engine", "missing", found.problem, f"{found.hint}; {way}" if found.hint else way)
    return Check("engine", "found", found.detail)


def _builder(record: PluginRecord, plugins: Plugins, settings: Settings) -> Check:
    name = f"builder {record.name}"
    if isinstance(record, Blocked):
        return Check(name, "unknown", "blocked by IMAGESMITH_BLOCKED_BUILDERS")
    if isinstance(record, Broken):
        return Check(name, "missing", record.error.message, record.error.hint)
    origin = f"{record.distribution} {record.version}"
    try:
        ready = _made(plugins, record.name, settings).ready()
    except Exception as error:  # noqa: BLE001 - a stranger's code: it must not hide what else there is
        detail = f"{origin}: {type(error).__name__}: {error}"
        return Check(name, "missing", detail, f"tell the makers of {record.distribution}")
    if not ready.ok:
        return Check(name, "missing", ready.problem or f"{origin} cannot build on this machine", ready.hint)
    return Check(name, "found", "; ".join((origin, *ready.details)))


def _made(plugins: Plugins, name: str, settings: Settings) -> Builder:
    from imagesmith.pipeline import make_builder  # noqa: PLC0415
    from imagesmith.runner import SubprocessRunner  # noqa: PLC0415

    return make_builder(plugins, name, settings, SubprocessRunner())


def _base(settings: Settings) -> Check:
    from imagesmith.settings import DEFAULT_BASE_IMAGE  # noqa: PLC0415

    if settings.base_image is None:
        return Check("default base image", "found", DEFAULT_BASE_IMAGE)
    origin = "IMAGESMITH_BASE_IMAGE" if settings.env.get("IMAGESMITH_BASE_IMAGE") else str(settings.file)
    return Check("default base image", "found", f"{settings.base_image} (from {origin})")


def _registry(spec: ImageSpec, settings: Settings) -> Iterator[Check]:
    from imagesmith.stores.credentials import load_settings  # noqa: PLC0415
    from imagesmith.stores.reference import parse, repository_for  # noqa: PLC0415
    from imagesmith.stores.registry import open_repository  # noqa: PLC0415

    repository = repository_for(spec.registry, spec.name)
    host = parse(repository).registry
    try:
        login = load_settings(settings.env, spec.registry_config).login(host)
    except ImagesmithError as error:
        yield Check(f"credentials for {host}", "missing", error.message, error.hint)
        return
    if login is None:
        detail = "none are known; enough where everyone may read and write"
        yield Check(f"credentials for {host}", "unknown", detail, f"docker login {host}, or registry_config")
    else:
        who = f"user {login.username}" if login.username else "a token"
        yield Check(f"credentials for {host}", "found", f"{who}, from {login.source}")
    try:
        with open_repository(repository, settings.env, spec.registry_config) as store:
            store.digest("imagesmith-doctor")  # whether that tag exists does not matter: it was answered
    except ImagesmithError as error:
        yield Check(f"registry {host}", "missing", error.message, error.hint)
    else:
        yield Check(f"registry {host}", "found", f"answers for {repository}")
