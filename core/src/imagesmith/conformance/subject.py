"""A builder under examination, and what checks need to ask it questions."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from imagesmith import conda_environments, sources
from imagesmith._frozen import FrozenMap
from imagesmith.authoring import secrets_over
from imagesmith.builder import (
    BaseImage,
    Builder,
    BuilderEntry,
    BuildPlan,
    BuildRequest,
    Environment,
    Feature,
    LayoutFolder,
    LocalEngine,
    RegistryRepository,
    Support,
)
from imagesmith.conformance import samples
from imagesmith.errors import ImagesmithError
from imagesmith.plugins import Plugins
from imagesmith.settings import Settings
from imagesmith.testing import FakeBuilder, RecordingRunner

if TYPE_CHECKING:
    from imagesmith.builder import Destination
    from imagesmith.conformance.workshop import Workshop
    from imagesmith.runner import Runner
    from imagesmith.spec import ImageSpec

__all__ = ["Factory", "Subject", "shape"]

Factory: TypeAlias = Callable[[Environment], Builder]

OTHER = "another"
"""The name of a second builder, which can do everything."""


class Subject:
    """Makes the builder in environments that the suite controls. ``folder`` is the suite's own."""

    def __init__(self, builder: str | Factory, folder: Path, env: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.env = env
        self.factory: Factory = Plugins().load(builder).factory if isinstance(builder, str) else builder
        self._given_name = builder if isinstance(builder, str) else None
        self._workshop: Workshop | None = None
        self._numbers = itertools.count()

    @functools.cached_property
    def builder(self) -> Builder:
        """One that can reach nothing."""
        return self.make()

    @property
    def name(self) -> str:
        """The name it is known by: its entry point's, else its own."""
        return self._given_name or self.builder.name

    @property
    def made_by(self) -> str:
        """``NAME VERSION``, as far as it says."""
        try:
            return f"{self.name} {self.builder.version}"
        except Exception:  # noqa: BLE001 - a stranger's code; the checks will say what is wrong
            return self._given_name or "a builder that cannot be made"

    def make(
        self,
        runner: Runner | None = None,
        *,
        env: Mapping[str, str] | None = None,
        options: Mapping[str, object] | None = None,
    ) -> Builder:
        """A new one; unset: a runner that starts nothing, no tool on PATH, no engine, no settings."""
        return self.factory(
            Environment(
                runner=runner or RecordingRunner(),
                env=FrozenMap(self.nowhere if env is None else env),
                cache_dir=self.folder / "cache",
                options=FrozenMap(options or {}),
            )
        )

    @functools.cached_property
    def nowhere(self) -> dict[str, str]:
        """The environment of a machine that has nothing."""
        (self.folder / "home").mkdir(exist_ok=True)
        (self.folder / "bin").mkdir(exist_ok=True)
        return {
            "PATH": str(self.folder / "bin"),
            "HOME": str(self.folder / "home"),
            "DOCKER_HOST": f"unix://{self.folder}/no-engine.sock",
            "DOCKER_CONFIG": str(self.folder / "home" / "docker"),
        }

    @functools.cached_property
    def project(self) -> Path:
        """A folder with files for every field that names some."""
        return samples.project(self.folder / "project")

    def path(self, stem: str) -> Path:
        """A path in the suite's folder that nothing has used; not made."""
        return self.folder / f"{stem}-{next(self._numbers)}"

    def has(self, feature: Feature) -> bool:
        """Whether the builder's table says so."""
        return self.builder.features.get(feature) is Support.FULL

    def plugins(self) -> Plugins:
        """This builder, and another one that can do everything."""
        entry = BuilderEntry(self.name, "the one that is examined", self.factory)
        return Plugins(
            discover=False,
            entries=[entry, BuilderEntry(OTHER, "can do everything", _Other)],
        )

    def destination(self) -> Destination:
        """A place the builder can leave an image in."""
        if self.has(Feature.LOCAL_ENGINE):
            return LocalEngine("conformance:imagesmith-staging")
        if self.has(Feature.REGISTRY):
            return RegistryRepository("registry.invalid/conformance")
        return LayoutFolder(Path("/nonexistent/layout"))

    def request(
        self,
        spec: ImageSpec,
        *,
        staged: bool = False,
        digest: str | None = None,
        config: Mapping[str, object] = samples.BASE,
    ) -> BuildRequest:
        """What the core would tell the builder, on a base that exists nowhere.

        ``staged`` lays the files out; else they are only listed, as ``imagesmith render`` does.
        """
        spec = spec if spec.root is not None else spec.replace(root=self.project)
        files = sources.stage(spec, self.path("staged") / "staged") if staged else sources.listed(spec)
        default = Settings().default_base(spec) if spec.cuda else samples.REFERENCE
        reference = str(spec.base_image or default)
        digest = digest or "sha256:" + hashlib.sha256(reference.encode()).hexdigest()
        base = BaseImage(reference, digest, config)
        return BuildRequest(
            spec=spec,
            platform=spec.platforms[0],
            base=base,
            destination=self.destination(),
            staged=files,
            secrets=secrets_over(base, spec, files),
            conda=conda_environments.shown(spec, self.builder, base, Settings()),
        )

    def plan(self, of: ImageSpec | BuildRequest, *, builder: Builder | None = None) -> BuildPlan:
        """Its plan."""
        request = of if isinstance(of, BuildRequest) else self.request(of)
        with blaming("plan()"):
            return (builder or self.make()).plan(request)

    def supported(self, spec: ImageSpec) -> ImageSpec:
        """The spec without the fields that the builder cannot honour."""
        lacking = {
            feature.value: None
            for feature in Feature
            if "-" not in feature.value and not self.has(feature) and feature is not Feature.REGISTRY
        }
        return spec.replace(**lacking) if lacking else spec

    def workshop(self) -> Workshop:
        """The engine, and images built on it.

        Raises:
            Skipped: there is no engine.
        """
        if self._workshop is None:
            from imagesmith.conformance.workshop import Workshop  # noqa: PLC0415 - loads docker's client

            self._workshop = Workshop(self)
        return self._workshop

    def close(self) -> None:
        """Remove what was made."""
        if self._workshop is not None:
            self._workshop.close()
            self._workshop = None


class _Other(FakeBuilder):
    name = OTHER


def shape(plan: BuildPlan) -> tuple[object, ...]:
    """What a plan does: two plans of one shape make the same files."""
    contributed = plan.contributed
    return (
        dict(plan.files),
        tuple((command.argv, dict(command.env)) for command in plan.commands),
        contributed.path,
        dict(contributed.env),
    )


@contextlib.contextmanager
def blaming(what: str) -> Iterator[None]:
    """What the builder raises is its failure, not the suite's."""
    try:
        yield
    except ImagesmithError as error:
        raise AssertionError(f"{what} raised {type(error).__name__}: {error}") from error
    except AssertionError as error:
        raise AssertionError(f"{what} raised AssertionError: {error}") from error
    except Exception as error:
        raise AssertionError(
            f"{what} raised {type(error).__name__}, which is no ImagesmithError: {error}"
        ) from error
