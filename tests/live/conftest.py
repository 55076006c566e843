"""What the live tests share: an environment that points at the rig, and an engine to run images on."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from imagesmith import BuildResult, ImageSpec, build, exists
from imagesmith.settings import load_settings
from tests.rig import engine as rig_engine
from tests.rig.state import Cnb, Rig


@dataclass(frozen=True)
class Engine:
    """A Docker Engine, by its own client."""

    host: str

    def __call__(self, *arguments: str, check: bool = True, stdin: str | None = None) -> str:
        argv = ["docker", "--host", self.host, *arguments]
        done = subprocess.run(argv, capture_output=True, text=True, input=stdin, timeout=300, check=False)
        assert not check or done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
        return done.stdout

    def run(self, image: str, *command: str, options: tuple[str, ...] = ()) -> str:
        return self("run", "--rm", *options, image, *command)

    def config(self, image: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self("image", "inspect", image))[0]["Config"]
        return found

    def env(self, image: str) -> dict[str, str]:
        return dict(entry.split("=", 1) for entry in self.config(image)["Env"])

    def tags(self, name: str) -> set[str]:
        """What stands in the engine under this name."""
        return set(self("images", "--format", "{{.Repository}}:{{.Tag}}", name).split())

    def discard(self, references: Iterable[str]) -> None:
        """Remove what is there of these."""
        rig_engine.remove(self.host, references)


@pytest.fixture(scope="session")
def engine(rig: Rig) -> Engine:
    return Engine(rig.docker_host)


@pytest.fixture(scope="session")
def environment(
    rig: Rig, engine: Engine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """The environment of a user who works on the rig; the cache is the test run's own."""
    cache = tmp_path_factory.mktemp("cache")
    yield {
        **{key: value for key, value in os.environ.items() if not key.startswith(("IMAGESMITH_", "DOCKER_"))},
        "DOCKER_HOST": rig.docker_host,
        "DOCKER_CONFIG": str(tmp_path_factory.mktemp("docker-config")),
        "IMAGESMITH_BASE_IMAGE": f"{rig.registry}/library/python:{{python_version}}",
        "IMAGESMITH_CACHE_DIR": str(cache),
        "IMAGESMITH_BUILDER": "envd",
        **({"IMAGESMITH_BUILDPACKS_BUILDER": rig.cnb.builder} if rig.cnb else {}),
    }
    for file in cache.glob("*/names/id"):  # what this cache's builds keep in the engine
        engine.discard(name for name in engine.tags("imagesmith-build") if f":{file.read_text()}-" in name)


Build = Callable[..., BuildResult]


@pytest.fixture(scope="session")
def images_made() -> set[tuple[str, str]]:
    """The images that stand in engines by ``make``: the engine's address, the name."""
    return set()


@pytest.fixture(scope="module", autouse=True)
def discarded(images_made: set[tuple[str, str]]) -> Iterator[None]:
    """What a module's tests have built goes at its end: an engine is the slower, the more it holds."""
    yield
    for host in {host for host, _ in images_made}:
        Engine(host).discard(name for there, name in images_made if there == host)
    images_made.clear()


@pytest.fixture(scope="session")
def make(
    environment: dict[str, str],
    rig: Rig,
    images_made: set[tuple[str, str]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Build:
    """Build a spec on the rig; further keywords are variables."""
    folder = tmp_path_factory.mktemp("project")

    def run(spec: ImageSpec, *, variables: dict[str, str] | None = None, **options: Any) -> BuildResult:
        settings = load_settings(folder, {**environment, **(variables or {})})
        host = settings.env["DOCKER_HOST"]
        if not spec.registry:
            there = exists(spec, settings=settings)
            if there.found and there.reference not in {
                name for _, name in images_made
            }:  # of a run that was cut off
                Engine(host)("rmi", "--force", there.reference)
        result = build(spec, settings=settings, **options)
        images_made.add((rig.docker_host, result.reference))  # pulled to be run, if it was not built there
        if host == rig.docker_host_classic:
            images_made.add((host, result.reference))
        return result

    return run


def script(folder: Path, name: str, text: str) -> Path:
    """A file of that name and text."""
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


@pytest.fixture(scope="session")
def cnb(rig: Rig) -> Cnb:
    if rig.cnb is None:
        pytest.skip("the rig has no builder image: python3 -m tests.rig up --with cnb")
    return rig.cnb


@pytest.fixture(scope="session")
def own_cnb(cnb: Cnb) -> Cnb:
    """The rig's own builder image, whose buildpack does what a test asks for."""
    if cnb.run is None:
        pytest.skip(f"a public builder image is used ({cnb.builder}): this is about the rig's own")
    return cnb


@pytest.fixture(scope="session")
def by_buildpacks(make: Build, cnb: Cnb, engine: Engine) -> Iterator[Build]:
    """Build by buildpacks, always anew. The volumes that come into being meanwhile go at the end."""
    defaults = {"IMAGESMITH_BUILDPACKS_BUILDER": cnb.builder, "IMAGESMITH_BASE_IMAGE": ""}
    volumes: set[tuple[str, str]] = set()

    def there(host: str) -> set[tuple[str, str]]:
        names = Engine(host)("volume", "ls", "--quiet", "--filter", "name=imagesmith-buildpacks")
        return {(host, name) for name in names.split()}

    def run(spec: ImageSpec, **options: Any) -> BuildResult:
        variables = {**defaults, **options.pop("variables", {})}
        host = variables.get("DOCKER_HOST", engine.host)
        before = there(host)
        try:
            return make(spec, builder="buildpacks", variables=variables, **{"force": True, **options})
        finally:
            volumes.update(there(host) - before)

    yield run
    for host, name in volumes:
        Engine(host)("volume", "rm", name, check=False)
