"""The builder: readiness, plan, and one run of envd for each platform."""

from __future__ import annotations

import contextlib
import os
import shutil
import sysconfig
import tempfile
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from imagesmith import (
    BuilderNotReady,
    BuildPlan,
    BuildRequest,
    Built,
    Command,
    Environment,
    Feature,
    LocalEngine,
    Readiness,
    RegistryFacts,
    RegistryRepository,
    Reporter,
    Support,
    ToolMissing,
    engine,
    python_mismatch,
)
from imagesmith_envd import __version__, localbase
from imagesmith_envd.failures import explain
from imagesmith_envd.home import Seed, docker_config, registries_conf
from imagesmith_envd.output import Progress
from imagesmith_envd.quoting import starlark
from imagesmith_envd.render import CONTEXT, render

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

FULL, NOT_YET, IMPOSSIBLE = Support.FULL, Support.NOT_YET, Support.IMPOSSIBLE

FEATURES: Mapping[Feature, Support] = MappingProxyType(
    dict.fromkeys(Feature, FULL)
    | {
        Feature.CONDA_PACKAGES: NOT_YET,
        Feature.CONDA_CHANNELS: NOT_YET,
        Feature.CUDA: NOT_YET,
        Feature.CUDNN: NOT_YET,
        Feature.OCI_LAYOUT: NOT_YET,
        Feature.BUILDER_OPTIONS: IMPOSSIBLE,
    }
)

_SCHEMES = ("tcp", "unix")


class EnvdBuilder:
    """Builds with envd on the Docker engine, or on a BuildKit address given by the machine's settings."""

    name = "envd"
    version = __version__
    features = FEATURES

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        address = environment.options.get("address")
        self._address = str(address) if address else None

    def _binary(self) -> str | None:
        """The envd beside this Python, else the one on PATH."""
        beside = Path(sysconfig.get_path("scripts")) / "envd"
        return (
            str(beside)
            if os.access(beside, os.X_OK)
            else shutil.which("envd", path=self._environment.env.get("PATH"))
        )

    def ready(self) -> Readiness:
        """The envd binary, and an answer from the engine."""
        binary = self._binary()
        if binary is None:
            return Readiness(False, problem="there is no envd", hint="pip install envd")
        details = [f"envd: {binary}"]
        if self._address:
            scheme = self._address.partition("://")[0]
            if scheme not in _SCHEMES:
                return Readiness(
                    False,
                    tuple(details),
                    problem=f"the BuildKit address {self._address!r} is not tcp://host:port or unix:///path",
                    hint="set IMAGESMITH_ENVD_ADDRESS, or [tool.imagesmith.envd] address",
                )
            if problem := engine.unreachable(self._address):
                return Readiness(
                    False,
                    tuple(details),
                    problem=f"no BuildKit answers at {self._address}: {problem}",
                    hint="start buildkitd there, or unset IMAGESMITH_ENVD_ADDRESS to use the Docker engine",
                )
            return Readiness(True, (*details, f"BuildKit: {self._address}"))
        found = engine.probe(self._environment.env)
        if found.problem:
            return Readiness(False, tuple(details), problem=found.problem, hint=found.hint)
        return Readiness(True, (*details, f"Docker engine: {found.detail}"))

    def refusals(self, request: BuildRequest) -> Mapping[str, str]:
        """A python that the base does not have."""
        reasons = {}
        if request.base.local and self._address:
            reasons["base_image"] = (
                f"{request.base.reference} stands in the local engine, which the BuildKit at {self._address} "
                "cannot see: give the base's spec a registry"
            )
        if mismatch := python_mismatch(request.base, request.spec.python_version):
            reasons["python_version"] = f"{mismatch}; installing another one is not yet supported"
        return reasons

    def plan(self, request: BuildRequest) -> BuildPlan:
        """``build.envd``, the files beside it, and the command that builds it."""
        rendered = render(request)
        return BuildPlan(
            builder=self.name,
            request=request,
            files={"build.envd": rendered.build_envd, **rendered.files},
            commands=(Command(tuple(self._argv("envd", Path("…"), request))),),
            contributed=rendered.contributed,
            steps=tuple(step.name for step in rendered.steps),
        )

    def _argv(self, envd: str, folder: Path, request: BuildRequest) -> list[str]:
        argv = [envd, "build", "--path", str(folder / CONTEXT), "--from", f"{folder / 'build.envd'}:build"]
        argv += ["--platform", request.platform, "--force"]
        if self._address and isinstance(request.destination, RegistryRepository):
            return [*argv, "--output", f"type=image,name={request.destination.reference},push=true"]
        return [*argv, "--tag", _local_name(request, folder)]

    def build(self, plan: BuildPlan, report: Reporter) -> Built:
        """One run of envd; the image is pushed where it should go."""
        request = plan.request
        staged = request.staged.folder
        binary = self._binary()
        if binary is None or staged is None:
            raise BuilderNotReady("there is no envd", builder=self.name, hint="pip install envd")
        with (
            tempfile.TemporaryDirectory(prefix="envd-", dir=staged.parent) as name,
            self._base(request) as base,
        ):
            folder = Path(name)
            self._write(plan, folder, staged, base)
            env = self._env(request, folder, binary, base)
            progress = Progress(render(request).steps, report)
            try:
                done = self._environment.runner.run(
                    self._argv(binary, folder, request),
                    env=env,
                    cwd=folder,
                    on_line=progress.line,
                    redact=_redactions(request),
                )
            except ToolMissing as error:
                raise BuilderNotReady(str(error), builder=self.name, hint="pip install envd") from error
            if done.returncode != 0:
                raise explain(
                    progress, done.returncode, self._address or engine.engine_address(self._environment.env)
                )
            return Built(request.destination, self._leave(request, folder, progress), plan.contributed)

    @contextlib.contextmanager
    def _base(self, request: BuildRequest) -> Iterator[str]:
        """The reference that envd is given: one that a registry answers for."""
        if not request.base.local:
            yield request.base.pinned
            return
        with (
            contextlib.closing(engine.local_store(self._environment.env)) as store,
            localbase.serve(request.base.config) as host,
        ):
            name = f"{host}/imagesmith-base:{request.spec.id}"
            store.publish(request.base.reference, name)
            try:
                yield name
            finally:
                store.discard(name)

    def _write(self, plan: BuildPlan, folder: Path, staged: Path, base: str) -> None:
        context = folder / CONTEXT
        shutil.copytree(staged, context, symlinks=True, copy_function=_link)
        pinned, given = starlark(plan.request.base.pinned), starlark(base)
        files = {**plan.files, "build.envd": plan.files["build.envd"].replace(pinned, given, 1)}
        for path, text in files.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8", errors="surrogateescape", newline="")
        for path, secret in plan.request.secrets.items():
            inside = path if path.startswith("requirements/") else f"secret/{path}"
            target = context / inside.replace("[", "-").replace("]", "")
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            target.write_bytes(secret.reveal())

    def _env(self, request: BuildRequest, folder: Path, binary: str, base: str) -> dict[str, str]:
        """The whole environment of envd: nothing of the user's but what is named here."""
        outer = self._environment.env
        env = {key: outer[key] for key in ("PATH", "LANG", "SSL_CERT_FILE", "SSL_CERT_DIR") if key in outer}
        env |= {key: value for key, value in outer.items() if key.lower().endswith("_proxy")}
        env |= engine.docker_variables(outer)
        env |= {"ENVD_ANALYTICS": "false", "ENVD_BUILD_OWNER": "0:0", "BUILDKIT_PROGRESS": "plain"}
        home = folder / "home"
        Seed(self._environment.cache_dir, self._environment.runner, binary, self._address).copy_to(home, env)
        env["HOME"] = str(home)
        registries = self._registries(request, base)
        conf = home / ".config" / "containers" / "registries.conf"
        conf.parent.mkdir(parents=True, exist_ok=True)
        insecure = [facts.host for facts in registries if facts.insecure]
        conf.write_text(registries_conf(insecure), encoding="utf-8")
        for facts in registries:
            if facts.ca is not None:
                certs = conf.parent / "certs.d" / facts.host
                certs.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(facts.ca, certs / "ca.crt")
        docker = folder / "docker"
        docker.mkdir(mode=0o700)
        (docker / "config.json").write_text(docker_config(registries), encoding="utf-8")
        env["DOCKER_CONFIG"] = str(docker)
        return env

    def _leave(self, request: BuildRequest, folder: Path, progress: Progress) -> str:
        """The digest under which the image stands where it was wanted."""
        if self._address and isinstance(request.destination, RegistryRepository):
            if progress.digest is None:
                raise BuilderNotReady("envd pushed no image", builder=self.name, hint="see the log")
            return progress.digest
        local = _local_name(request, folder)
        with contextlib.closing(engine.local_store(self._environment.env)) as store:
            image = store.read(local, request.platform)
            if image is None:
                raise BuilderNotReady(
                    "envd left no image in the engine", builder=self.name, hint="see the log"
                )
            if not isinstance(request.destination, RegistryRepository):
                return image.digest
            facts = engine.registry_facts(
                request.destination.repository, self._environment.env, request.spec.registry_config
            )
            try:
                return engine.push(store, local, request.destination, facts, self._environment.cache_dir)
            finally:
                store.discard(local)

    def _registries(self, request: BuildRequest, base: str) -> list[RegistryFacts]:
        """The base's registry, and the one that is pushed to."""
        references = [base]
        if isinstance(request.destination, RegistryRepository):
            references.append(request.destination.repository)
        env, config = self._environment.env, request.spec.registry_config
        found = [engine.registry_facts(reference, env, config) for reference in references]
        return list({facts.host: facts for facts in found}.values())


def _local_name(request: BuildRequest, folder: Path) -> str:
    if isinstance(request.destination, LocalEngine):
        return request.destination.reference
    return f"imagesmith-build:{folder.name.lower().replace('…', 'x')}"


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _redactions(request: BuildRequest) -> tuple[str, ...]:
    """Secrets, and the values of ``env`` and ``build_env`` where they are long enough to mean something."""
    values = [*request.spec.env.values(), *request.spec.build_env.values()]
    values += [secret.reveal().decode(errors="replace").strip() for secret in request.secrets.values()]
    return tuple(value for value in values if len(value) >= 6)
