"""One run of envd: the folder it works in, the environment it sees, where it leaves the image."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from imagesmith import (
    BuilderNotReady,
    BuildPlan,
    BuildRequest,
    Built,
    Environment,
    Message,
    RegistryFacts,
    RegistryRepository,
    Reporter,
    StoreError,
    ToolMissing,
    engine,
    files_layer,
    redactions,
)
from imagesmith.scripts import NOT_BARE
from imagesmith_envd import localbase
from imagesmith_envd.failures import explain
from imagesmith_envd.home import Seed, docker_config, registries_conf
from imagesmith_envd.output import Progress
from imagesmith_envd.quoting import starlark
from imagesmith_envd.render import CONDA, CONTEXT, WORKDIR, build_argv, render

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["Run"]

_SOURCE = "source"
"""what the core stages for the work directory"""


@dataclass(frozen=True, slots=True)
class Run:
    """What one build needs. ``address`` is that of a BuildKit; None: the Docker engine."""

    environment: Environment
    binary: str
    address: str | None
    plan: BuildPlan
    report: Reporter

    @property
    def request(self) -> BuildRequest:
        """What was asked for."""
        return self.plan.request

    def build(self) -> Built:
        """Run envd.

        Raises:
            BuildFailed: a step failed.
            BuilderNotReady: the engine does not answer, or went away.
        """
        try:
            return self._build()
        except ToolMissing as error:
            raise BuilderNotReady(str(error), builder="envd", hint="pip install envd") from error

    def _build(self) -> Built:
        request, cache = self.request, self.environment.cache_dir
        staged = request.staged.folder
        if staged is None:
            raise ValueError("this plan was made for showing: its files are only listed")
        with (
            tempfile.TemporaryDirectory(prefix="envd-", dir=staged.parent) as inside,
            self._base() as base,
            engine.lent_name(request, cache) as name,
        ):
            folder = Path(inside)
            self._write(folder, staged)
            env = self._env(folder, base)

            pushed: str | None = None

            def once(apart: bool) -> bool:
                nonlocal pushed
                progress = self._once(folder, base, name, env, apart=apart)
                pushed = progress.digest
                return progress.failed is None

            apart = files_layer.solve(self.plan, cache, self.report, once)
            digest = self._leave(name, pushed)
            return Built(request.destination, digest, self.plan.contributed, lacks_files=apart)

    @contextlib.contextmanager
    def _base(self) -> Iterator[str]:
        """The reference that envd is given: one that a registry answers for."""
        request, env = self.request, self.environment.env
        if not self._engine_has_base():
            yield request.base.pinned
            return
        with (
            contextlib.closing(engine.local_store(env)) as store,
            localbase.serve(request.base.config) as host,
        ):
            name = f"{host}/imagesmith-base:{request.spec.id}"
            store.publish(request.base.pinned, name)
            try:
                yield name
            finally:
                store.discard(name)

    def _engine_has_base(self) -> bool:
        """Whether it can be told apart; where not, envd finds out for itself what is wrong."""
        request, env = self.request, self.environment.env
        if request.base.local:
            return True
        if self.address is not None:  # a BuildKit, which has no images and sees no port of ours
            return False
        try:
            facts = engine.registry_facts(request.base.pinned, env, request.spec.registry_config)
            with contextlib.closing(engine.local_store(env)) as store:
                engine.pull(store, request.base, request.platform, facts)
        except StoreError as error:
            self.report(Message(f"envd will run some steps again without a reason: {error.message}"))
            return False
        return True

    def _write(self, folder: Path, staged: Path) -> None:
        """The context, but for the files of the work directory, and secrets."""
        context = folder / CONTEXT
        context.mkdir()
        for each in staged.iterdir():
            if each.name != _SOURCE:
                _link_tree(each, context / each.name)
        conda = self.request.conda
        if conda is not None and conda.folder is not None:
            _link_tree(conda.folder, context / CONDA)
        for path, secret in self.request.secrets.items():
            inside = path if path.startswith("requirements/") else f"secret/{path}"
            target = context / inside.replace("[", "-").replace("]", "")
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            target.write_bytes(secret.reveal())

    def _once(self, folder: Path, base: str, name: str, env: Mapping[str, str], *, apart: bool) -> Progress:
        """Let envd build it. One failure is only told: that the files cannot stay ``apart``."""
        request, staged = self.request, self.request.staged.folder
        rendered = render(request, apart=apart)
        planned = apart == self.plan.files_apart
        texts = dict(self.plan.files if planned else {"build.envd": rendered.build_envd, **rendered.files})
        pinned, given = starlark(request.base.pinned), starlark(base)
        texts["build.envd"] = texts["build.envd"].replace(pinned, given, 1)
        for path, text in texts.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8", errors="surrogateescape", newline="")
        if not apart and staged is not None and (staged / _SOURCE).is_dir():
            _link_tree(staged / _SOURCE, folder / CONTEXT / _SOURCE)

        progress = Progress(rendered.steps, self.report)
        done = self.environment.runner.run(
            build_argv(self.binary, folder, self.address, request, name),
            env=env,
            cwd=folder,
            on_line=progress.line,
            redact=redactions(request),
        )
        failed = progress.step()
        crowded = failed is not None and failed.key == WORKDIR and NOT_BARE in progress.tail()
        if done.returncode != 0 and not crowded:
            where = self.address or engine.engine_address(self.environment.env)
            raise explain(progress, done.returncode, where)
        return progress

    def _env(self, folder: Path, base: str) -> dict[str, str]:
        """The whole environment of envd: nothing of the user's but what is named here."""
        outer = self.environment.env
        env = {key: outer[key] for key in ("PATH", "LANG", "SSL_CERT_FILE", "SSL_CERT_DIR") if key in outer}
        env |= {key: value for key, value in outer.items() if key.lower().endswith("_proxy")}
        env |= engine.docker_variables(outer)
        env |= {"ENVD_ANALYTICS": "false", "ENVD_BUILD_OWNER": "0:0", "BUILDKIT_PROGRESS": "plain"}
        home = folder / "home"
        Seed(self.environment.cache_dir, self.environment.runner, self.binary, self.address).copy_to(
            home, env
        )
        env["HOME"] = str(home)
        registries = self._registries(base)
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

    def _leave(self, name: str, pushed: str | None) -> str:
        """The digest under which the image stands where it was wanted; ``pushed``: what envd named."""
        request = self.request
        if self.address and isinstance(request.destination, RegistryRepository):
            if pushed is None:
                raise BuilderNotReady("envd pushed no image", builder="envd", hint="see the log")
            return pushed
        with contextlib.closing(engine.local_store(self.environment.env)) as store:
            image = store.read(name, request.platform)
            if image is None:
                raise BuilderNotReady("envd left no image in the engine", builder="envd", hint="see the log")
            if not isinstance(request.destination, RegistryRepository):
                return image.digest
            facts = engine.registry_facts(
                request.destination.repository, self.environment.env, request.spec.registry_config
            )
            return engine.push(store, name, request.destination, facts, self.environment.cache_dir)

    def _registries(self, base: str) -> list[RegistryFacts]:
        """The base's registry, and the one that is pushed to."""
        request = self.request
        references = [base]
        if isinstance(request.destination, RegistryRepository):
            references.append(request.destination.repository)
        env, config = self.environment.env, request.spec.registry_config
        found = [engine.registry_facts(reference, env, config) for reference in references]
        return list({facts.host: facts for facts in found}.values())


def _link_tree(source: Path, target: Path) -> None:
    shutil.copytree(source, target, symlinks=True, copy_function=_link)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
