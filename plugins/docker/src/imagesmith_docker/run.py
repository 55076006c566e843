"""One run of buildx: the folder it works in, the environment it sees, where it leaves the image."""

from __future__ import annotations

import contextlib
import json
import tempfile
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from imagesmith import (
    BuilderNotReady,
    BuildPlan,
    BuildRequest,
    Built,
    Environment,
    FeatureUnsupported,
    LayoutFolder,
    LocalEngine,
    Message,
    RegistryRepository,
    Reporter,
    engine,
    files_layer,
    redactions,
)
from imagesmith.runner import Redactor
from imagesmith.scripts import NOT_BARE
from imagesmith.stores.registry import open_repository
from imagesmith_docker import client
from imagesmith_docker.abilities import Abilities, abilities
from imagesmith_docker.command import ARCHIVE, LAYOUT, build_argv, by_hand, link
from imagesmith_docker.failures import explain, lost, unusable
from imagesmith_docker.layout import take_over, upload
from imagesmith_docker.progress import Progress
from imagesmith_docker.render import CONDA, CONTEXT, render, secret_id

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from imagesmith_docker.options import Options

__all__ = ["Run"]

_STATUS_LIMIT = 16 * 1024 * 1024
"""characters of one status of buildx, which holds output of several steps"""


@dataclass(frozen=True, slots=True)
class Run:
    """What one build needs."""

    environment: Environment
    options: Options
    plan: BuildPlan
    report: Reporter
    facts: client.BuilderFacts | None = None
    """of the builder in use, where they are known"""

    @property
    def request(self) -> BuildRequest:
        """What was asked for."""
        return self.plan.request

    def build(self) -> Built:
        """Run buildx.

        Raises:
            BuildFailed: a step failed.
            BuilderNotReady: the engine does not answer, or went away.
            FeatureUnsupported: the builder in use cannot do this.
        """
        staged = self.request.staged.folder
        if staged is None:
            raise ValueError("this plan was made for showing: its files are only listed")
        with (
            engine.lent_name(self.request, self.environment.cache_dir) as name,
            self._folder(staged.parent) as folder,
        ):
            env = self._env(folder)
            facts = self.facts or client.inspect(
                self.environment.runner, env, folder, self.options.builder, redactions(self.request)
            )
            self._check(facts)
            able = self._check_engine(facts)
            options = self._options(able)
            self._write(folder, staged)

            once = partial(self._once, folder, name, env, facts, options)
            apart = files_layer.solve(self.plan, self.environment.cache_dir, self.report, once)
            if by_hand(options, in_engine=facts.in_engine):
                digest = self._bring(folder, name, env)
            else:
                digest = self._leave(folder, name, in_engine=facts.in_engine)
            return Built(self.request.destination, digest, self.plan.contributed, lacks_files=apart)

    def _once(
        self,
        folder: Path,
        name: str,
        env: Mapping[str, str],
        facts: client.BuilderFacts,
        options: Options,
        apart: bool,
    ) -> bool:
        """Let it be built; False where the files cannot stay ``apart``."""
        secrets = redactions(self.request)
        rendered = render(self.request, self.options, apart=apart)
        planned = apart == self.plan.files_apart
        texts = self.plan.files if planned else {"Dockerfile": rendered.dockerfile, **rendered.scripts}
        for path, text in texts.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8", errors="surrogateescape", newline="")
        argv = build_argv(
            self.request,
            options,
            folder,
            name=name,
            tools=client.lent_tools(self.environment.cache_dir) if rendered.lends_tools else None,
            in_engine=facts.in_engine,
            proxies=_proxies(self.environment.env),
        )
        for again in (False, True):
            progress = Progress(rendered.steps, self.report, Redactor(secrets))
            done = self.environment.runner.run(
                argv,
                env=env,
                cwd=folder,
                on_line=progress.line,
                redact=secrets,
                line_limit=_STATUS_LIMIT,
            )
            if again or done.returncode == 0 or not lost("\n".join((progress.error, *progress.said))):
                break
            self.report(
                Message("the engine threw away a layer that it was building on: once more", "warning")
            )
        if done.returncode != 0 and not (apart and NOT_BARE in progress.tail):
            raise explain(progress, done.returncode)
        return done.returncode == 0

    @contextlib.contextmanager
    def _folder(self, parent: Path) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="docker-", dir=parent) as folder:
            yield Path(folder)

    def _check(self, facts: client.BuilderFacts) -> None:
        """What can be told only once the builder in use is known."""
        request = self.request
        if request.base.local and not facts.in_engine:
            reason = (
                f"{request.base.reference} stands in the local engine, which the builder {facts.name} "
                f"({facts.driver}) cannot see: give the base's spec a registry"
            )
            raise FeatureUnsupported(
                f"the docker builder cannot honour 'base_image':\n  base_image: {reason}",
                builder="docker",
                fields={"base_image": reason},
            )
        proxies = self.environment.env
        if self.options.provenance == "mode=max" and any("@" in proxies[name] for name in _proxies(proxies)):
            reason = (
                "in this mode the engine notes the proxy variables of the steps, and one holds a login: "
                "say 'min', or use a proxy without one"
            )
            raise FeatureUnsupported(
                f"the docker builder cannot honour 'builder_options':\n  provenance: {reason}",
                builder="docker",
                fields={"builder_options['provenance']": reason},
            )
        if not facts.can_run(request.platform):
            raise BuilderNotReady(
                f"the builder {facts.name} cannot run {request.platform}, only {', '.join(facts.platforms)}",
                builder="docker",
                hint="install QEMU's binfmt handlers there (Debian: qemu-user-static), or choose another",
            )

    def _check_engine(self, facts: client.BuilderFacts) -> Abilities:
        """What the engine behind the builder in use can do.

        Raises:
            BuilderNotReady: less than this build needs.
        """
        able = abilities(self.environment.runner, self.environment.env, self.environment.cache_dir, facts)
        if able.problem:
            raise unusable(facts.name, able.problem)
        wanted = [
            *(["an image layout"] if isinstance(self.request.destination, LayoutFolder) else []),
            *(f"builder_options[{name!r}]" for name in self.options.attests),
            *(["builder_options['cache_to']"] if self.options.exports_cache else []),
        ]
        if wanted and not able.exports:
            raise BuilderNotReady(
                f"the engine of the builder {facts.name} cannot give {', '.join(wanted)}",
                builder="docker",
                hint="turn on the engine's containerd image store, or choose another buildx builder",
            )
        return able

    def _options(self, able: Abilities) -> Options:
        """As far as this engine can."""
        if self.options.source_date_epoch is None or able.dates:
            return self.options
        self.report(
            Message("this engine cannot set the times in layers: the digest will not repeat", "warning")
        )
        return replace(self.options, source_date_epoch=None)

    def _write(self, folder: Path, staged: Path) -> None:
        """The secrets, and a name for the context.

        Engines remember what they were sent under the name of its folder: one for each image lets them be
        sent only what changed.
        """
        (folder / CONTEXT).mkdir(exist_ok=True)
        link(self.request, folder, "context").symlink_to(staged)
        conda = self.request.conda
        if conda is not None and conda.folder is not None:
            link(self.request, folder, CONDA).symlink_to(conda.folder)
        secrets = {name: secret.reveal() for name, secret in self.request.secrets.items()}
        (folder / "secrets").mkdir(mode=0o700)
        for name, value in secrets.items():
            file = folder / "secrets" / secret_id(name)
            file.touch(mode=0o600)
            file.write_bytes(value)

    def _env(self, folder: Path) -> dict[str, str]:
        """The user's environment, with a Docker configuration that holds the logins of this build."""
        outer = self.environment.env
        env = {
            key: value for key, value in outer.items() if not key.startswith(("OTEL_", "BUILDKIT_PROGRESS"))
        }
        references = [] if self.request.base.local else [self.request.base.reference]
        if isinstance(self.request.destination, RegistryRepository):
            references.append(self.request.destination.repository)
        config = self.request.spec.registry_config
        facts = [engine.registry_facts(reference, outer, config) for reference in references]
        return env | client.private_config(folder / "docker", outer, facts)

    def _bring(self, folder: Path, name: str, env: Mapping[str, str]) -> str:
        """Bring what was written to the build folder to where it was wanted."""
        request, destination = self.request, self.request.destination
        if isinstance(destination, RegistryRepository):
            config = request.spec.registry_config
            with open_repository(destination.repository, self.environment.env, config) as store:
                return upload(folder / LAYOUT, store, request.base.reference)
        if isinstance(destination, LocalEngine):
            client.load(self.environment.runner, env, folder, folder / ARCHIVE)
        return self._leave(folder, name, in_engine=True)

    def _leave(self, folder: Path, name: str, *, in_engine: bool) -> str:
        """The digest under which the image stands where it was wanted."""
        request = self.request
        destination, environment = request.destination, self.environment
        if isinstance(destination, LayoutFolder):
            return take_over(folder / LAYOUT, destination.path)
        if isinstance(destination, RegistryRepository) and not in_engine:
            return _told_digest(folder)
        with contextlib.closing(engine.local_store(environment.env)) as store:
            if isinstance(destination, RegistryRepository):
                facts = engine.registry_facts(
                    destination.repository, environment.env, request.spec.registry_config
                )
                return engine.push(store, name, destination, facts, environment.cache_dir)
            image = store.read(name, request.platform)
        if image is None:
            raise BuilderNotReady("buildx left no image in the engine", builder="docker", hint="see the log")
        return image.digest


def _told_digest(folder: Path) -> str:
    told = json.loads((folder / "metadata.json").read_text(encoding="utf-8"))
    digest = str(told.get("containerimage.digest") or "")
    if not digest:
        raise BuilderNotReady("buildx names no digest", builder="docker", hint="see the log")
    return digest


def _proxies(env: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(sorted(name for name in env if name.lower().endswith("_proxy") and env[name]))
