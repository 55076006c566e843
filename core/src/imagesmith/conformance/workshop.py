"""The live tier's workshop: builds specs through the real pipeline, once each, and cleans up."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from imagesmith import bases, pipeline
from imagesmith.builder import BuilderEntry, Feature
from imagesmith.conformance._catalogue import Skipped
from imagesmith.conformance.engine import Engine
from imagesmith.conformance.probe import PROBE
from imagesmith.errors import EngineError, ImagesmithError
from imagesmith.existence import base_for, exists
from imagesmith.plugins import Plugins
from imagesmith.runner import SubprocessRunner
from imagesmith.settings import load_settings
from imagesmith.spec import ImageSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from imagesmith.builder import BaseImage, Builder, BuildPlan, Built, Environment
    from imagesmith.conformance.subject import Subject
    from imagesmith.events import Event, Reporter
    from imagesmith.pipeline import BuildResult

__all__ = ["Attempt", "Image", "Workshop"]


@dataclass
class Image:
    """An image that was built, and what it looks like from inside."""

    spec: ImageSpec
    result: BuildResult
    events: list[Event]
    engine: Engine

    @property
    def name(self) -> str:
        """``[registry/]name:tag``."""
        return self.result.reference

    @functools.cached_property
    def config(self) -> dict[str, Any]:
        """Its configuration."""
        return self.engine.config(self.name)

    @functools.cached_property
    def env(self) -> dict[str, str]:
        """The environment in its configuration."""
        return dict(entry.split("=", 1) for entry in self.config.get("Env") or ())

    @functools.cached_property
    def labels(self) -> dict[str, str]:
        """Its labels."""
        return dict(self.config.get("Labels") or {})

    @functools.cached_property
    def inside(self) -> dict[str, Any]:
        """What a python program sees in a container of it, its entrypoint overridden."""
        found: dict[str, Any] = json.loads(self.run(["-c", PROBE], entrypoint=["python"]))
        return found

    @property
    def tree(self) -> dict[str, list[Any]]:
        """Path below the work directory -> kind, content or target, mode, owner."""
        found: dict[str, list[Any]] = self.inside["tree"]
        return found

    def text(self, path: str) -> str:
        """The content of a file in the work directory."""
        assert path in self.tree, f"there is no {path!r} in the work directory"
        return str(self.tree[path][1])

    @functools.cached_property
    def install(self) -> dict[str, Any]:
        """What the install step saw, told by a package that was built in it."""
        found: dict[str, Any] | None = self.inside["install"]
        assert found is not None, "the package that tells what the install step saw is not installed"
        return found

    def history(self) -> str:
        """What the engine tells of how it was made."""
        assert self.inside  # some engines tell the history only of what has run
        return self.engine.history(self.name)

    def run(self, argv: list[str] | tuple[str, ...] = (), **options: Any) -> str:
        """Run a container of it; its standard output."""
        return self.engine.run(self.name, argv, **options)


@dataclass
class Attempt:
    """A build that failed."""

    spec: ImageSpec
    error: ImagesmithError
    events: list[Event] = field(default_factory=list)


class Workshop:
    """Builds and runs, in the environment of a user who has an engine. All it makes goes at the end."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.folder = subject.folder / "live"
        self.folder.mkdir(exist_ok=True)
        given = dict(os.environ if subject.env is None else subject.env)
        self.env = {**given, "IMAGESMITH_CACHE_DIR": str(subject.folder / "live-cache")}
        self.env.pop("IMAGESMITH_BLOCKED_BUILDERS", None)
        self.settings = load_settings(self.folder, self.env)
        try:
            self.engine = Engine(self.env)
        except EngineError as error:
            raise Skipped(f"no engine: {error.message}") from error
        self.mark = uuid.uuid4().hex[:8]
        self.builds = 0
        """how often the builder was told to build"""
        self.contributed_labels: set[str] = set()
        """names of the labels that the builder left on its images"""
        self._known: dict[str, Any] = {}
        self._closing = contextlib.ExitStack()
        self._pulled: list[str] = []

    @property
    def python(self) -> str:
        """The python version to ask for."""
        return self.env.get("IMAGESMITH_CONFORMANCE_PYTHON") or "3.11"

    def setting(self, name: str) -> str:
        """A setting of the suite. Raises Skipped where it is not given."""
        value = self.env.get(f"IMAGESMITH_CONFORMANCE_{name}")
        if not value:
            raise Skipped(f"IMAGESMITH_CONFORMANCE_{name} is not set")
        return value

    def spec(self, stem: str, **fields: Any) -> ImageSpec:
        """A spec whose name is of this run alone."""
        told: dict[str, Any] = {"python_version": self.python, **fields}
        if "base_image" in fields:
            told["python_version"] = fields.get("python_version")
        if "registry" not in told and not self.subject.has(Feature.LOCAL_ENGINE):
            told["registry"] = self.setting("REGISTRY")
        told = {key: value for key, value in told.items() if value is not None}
        return ImageSpec(name=self.name_of(stem), **told)

    def name_of(self, stem: str) -> str:
        """An image's name, of this run alone."""
        return f"imagesmith-conformance-{self.mark}/{stem}"

    def path(self, stem: str) -> Path:
        """A new folder."""
        made = self.subject.path(stem)
        made.mkdir(parents=True)
        return made

    @functools.cached_property
    def base(self) -> BaseImage:
        """The base that an unset ``base_image`` stands for."""
        spec, runner = self.spec("base"), SubprocessRunner()
        builder = pipeline.make_builder(self.plugins, self.subject.name, self.settings, runner)
        reference = base_for(spec, builder, self.settings, ask=True)
        return bases.resolve(spec, reference, self.settings)[spec.platforms[0]]

    @functools.cached_property
    def plugins(self) -> Plugins:
        """The builder under examination, alone; it is counted how often it builds."""

        def factory(environment: Environment) -> Builder:
            return _Counted(self.subject.factory(environment), self)

        return Plugins(discover=False, entries=[BuilderEntry(self.subject.name, "examined", factory)])

    def build(self, spec: ImageSpec, events: list[Event] | None = None, **options: Any) -> BuildResult:
        """Build it for real; ``variables`` come on top of the environment. Raises as the pipeline does."""
        variables: Mapping[str, str] = options.pop("variables", {})
        settings = load_settings(self.folder, {**self.env, **variables}) if variables else self.settings
        report: Reporter = options.pop("report", [].append if events is None else events.append)
        return pipeline.build(
            spec, builder=self.subject.name, settings=settings, plugins=self.plugins, report=report, **options
        )

    def made(self, spec: ImageSpec, **options: Any) -> Image:
        """Build it; a build that fails is the builder's failure."""
        events: list[Event] = []
        try:
            result = self.build(spec, events, **options)
        except ImagesmithError as error:
            raise AssertionError(f"the build of {spec.name.rpartition('/')[2]} failed: {error}") from error
        except Exception as error:
            raise AssertionError(
                f"the build raised {type(error).__name__}, which is no ImagesmithError: {error}"
            ) from error
        if spec.registry:
            self.engine.pull(result.reference)
            self._pulled.append(result.reference)
        return Image(spec, result, events, self.engine)

    def failed(self, spec: ImageSpec, **options: Any) -> Attempt:
        """Build what cannot be built."""
        events: list[Event] = []
        try:
            result = self.build(spec, events, **options)
        except ImagesmithError as error:
            return Attempt(spec, error, events)
        except Exception as error:
            raise AssertionError(
                f"the build raised {type(error).__name__}, which is no ImagesmithError: {error}"
            ) from error
        raise AssertionError(f"{result.reference} was built, and should not have been")

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """What ``make`` returned, or raised, the first time it was asked for under this name."""
        if name not in self._known:
            try:
                self._known[name] = make()
            except (AssertionError, Skipped) as error:
                self._known[name] = error
        found = self._known[name]
        if isinstance(found, Exception):
            raise type(found)(*found.args)
        return found

    def keep(self, manager: contextlib.AbstractContextManager[Any]) -> Any:
        """Enter it; it is left when the workshop closes."""
        return self._closing.enter_context(manager)

    def reference(self, spec: ImageSpec) -> str:
        """The name under which the spec's image is published."""
        return exists(spec, settings=self.settings).reference

    def published(self, spec: ImageSpec) -> set[str]:
        """The names in the engine under the spec's, staging names too."""
        return self.engine.names(spec.name)

    def close(self) -> None:
        """Remove what was made: images and their names, here; what was pushed stays in its registry."""
        self._closing.close()
        mine = f"imagesmith-conformance-{self.mark}/*"
        self.engine.remove(*sorted(self.engine.names(mine)), *self._pulled)
        self.engine.close()


class _Counted:
    """A builder whose builds are counted."""

    def __init__(self, inner: Builder, workshop: Workshop) -> None:
        self._inner = inner
        self._workshop = workshop

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def build(self, plan: BuildPlan, report: Reporter) -> Built:
        """The builder's own."""
        self._workshop.builds += 1
        built: Built = self._inner.build(plan, report)
        self._workshop.contributed_labels.update(built.contributed.labels)
        return built
