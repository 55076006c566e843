"""Rebasing: the core's part, with a registry on loopback and a builder that swaps layers there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from imagesmith import (
    BaseImageError,
    BuilderEntry,
    BuilderError,
    Built,
    Contribution,
    ImagesmithError,
    ImageSpec,
    Readiness,
    RegistryRepository,
    Reporter,
    UsageError,
    build,
)
from imagesmith.plugins import Plugins
from imagesmith.rebasing import RebaseRequest, RebaseResult, rebase
from imagesmith.settings import Settings, load_settings
from imagesmith.stores import StoredImage
from imagesmith.stores.registry import open_repository
from tests.core.fake_registry import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, FakeRegistry, running, sha
from tests.core.test_pipeline import Pushing


def add_base(registry: FakeRegistry, *tags: str, layer: str) -> str:
    """A base of one layer in the repository ``base``."""
    data = layer.encode()
    config = {
        "os": "linux",
        "architecture": "amd64",
        "config": {"Env": [f"BASE={layer}"], "User": "app"},
        "rootfs": {"type": "layers", "diff_ids": [sha(data)]},
    }
    raw = json.dumps(config).encode()
    with open_repository(f"{registry.host}/base", {}, None) as store:
        store.put_blob(data)
        store.put_blob(raw)
        manifest = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": {"mediaType": OCI_CONFIG, "digest": sha(raw), "size": len(raw)},
            "layers": [{"mediaType": OCI_LAYER, "digest": sha(data), "size": len(data)}],
        }
        digest = store.put_manifest(json.dumps(manifest).encode(), OCI_MANIFEST)
        for tag in tags:
            store.publish(digest, tag)
    return digest


@dataclass
class Swapping(Pushing):
    """Pushes an image of its base's layers and one of its own; can swap the former."""

    requests: list[RebaseRequest] = field(default_factory=list)
    wrong: bool = False
    readiness: Readiness = field(default_factory=lambda: Readiness(True))

    def build(self, plan: Any, report: Reporter) -> Built:
        there = plan.request.destination
        assert isinstance(there, RegistryRepository)
        self.built.append(plan)
        digest = self._push(there, plan.request.base.config["rootfs"]["diff_ids"], "app")
        return Built(there, digest, Contribution(labels={"tool": "1"}))

    def rebase(self, request: RebaseRequest, report: Reporter) -> Built:
        self.requests.append(request)
        there = request.destination
        assert isinstance(there, RegistryRepository)
        below = request.base.config["rootfs"]["diff_ids"]  # type: ignore[index]
        digest = self._push(there, [sha(b"another")] if self.wrong else below, "app")
        return Built(there, digest, Contribution(labels={"tool": "2"}))

    def _push(self, there: RegistryRepository, below: list[str], layer: str) -> str:
        ids = [*below, sha(layer.encode())]
        config = {
            "os": "linux",
            "architecture": "amd64",
            "config": {"Env": ["LOST=1"], "Entrypoint": ["lost"]},
            "rootfs": {"type": "layers", "diff_ids": ids},
        }
        raw = json.dumps(config).encode()
        with open_repository(there.repository, {}, None) as store:
            for data in (raw, layer.encode(), b"one", b"two", b"another"):
                store.put_blob(data)
            layers = [{"mediaType": OCI_LAYER, "digest": each, "size": 3} for each in ids]
            manifest = {
                "schemaVersion": 2,
                "mediaType": OCI_MANIFEST,
                "config": {"mediaType": OCI_CONFIG, "digest": sha(raw), "size": len(raw)},
                "layers": layers,
            }
            digest = store.put_manifest(json.dumps(manifest).encode(), OCI_MANIFEST)
            store.publish(digest, there.staging_tag)
        return digest


@dataclass
class Bench:
    registry: FakeRegistry
    builder: Any
    settings: Settings
    plugins: Plugins

    def image(self) -> str:
        spec = ImageSpec(
            name="app",
            registry=f"{self.registry.host}/me",
            base_image=f"{self.registry.host}/base:1",
            env={"A": "a b"},
            entrypoint=["run"],
            labels={"mine": "yes"},
        )
        return build(spec, builder="pushing", settings=self.settings, plugins=self.plugins).reference

    def rebase(self, image: str, **options: Any) -> RebaseResult:
        return rebase(image, settings=self.settings, plugins=self.plugins, **options)

    def read(self, reference: str) -> StoredImage:
        repository, _, tag = reference.rpartition(":")
        with open_repository(repository, {}, None) as store:
            image = store.read(tag)
        assert image is not None
        return image


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with running() as registry:
        add_base(registry, "1", layer="one")
        builder = Swapping({})
        settings = load_settings(tmp_path, {"IMAGESMITH_CACHE_DIR": str(tmp_path / "cache")})
        entry = BuilderEntry("pushing", "a test's", lambda _: bench.builder)
        bench = Bench(registry, builder, settings, Plugins(discover=False, entries=[entry]))
        yield bench


def test_the_finished_configuration_stays_over_the_new_base(bench: Bench) -> None:
    image = bench.image()
    before: Any = bench.read(image).config
    digest = add_base(bench.registry, "1", layer="two")
    result = bench.rebase(image)
    after: Any = bench.read(image).config
    assert after["rootfs"]["diff_ids"] == [sha(b"two"), sha(b"app")]
    changed = {"org.opencontainers.image.base.digest": digest, "tool": "2"}
    assert after["config"] == {
        **before["config"],
        "Labels": {**before["config"]["Labels"], **changed},
    }
    assert result.changed
    assert result.digest == bench.read(image).digest
    assert result.base == f"{bench.registry.host}/base:1@{digest}"
    (request,) = bench.builder.requests
    assert request.recorded
    assert request.image.startswith(f"{bench.registry.host}/me/app@sha256:")
    assert "lost" not in json.dumps(after)


def test_a_base_that_has_not_changed_is_no_work_unless_forced(bench: Bench) -> None:
    image = bench.image()
    result = bench.rebase(image)
    assert (result.changed, result.digest) == (False, bench.read(image).digest)
    assert not bench.builder.requests
    assert bench.rebase(image, force=True).changed
    assert bench.builder.requests[0].force


def test_another_base_and_another_tag(bench: Bench) -> None:
    image = bench.image()
    before = bench.read(image).digest
    add_base(bench.registry, "next", layer="two")
    there = f"{bench.registry.host}/me/app:next"
    result = bench.rebase(image, run_image=f"{bench.registry.host}/base:next", output=there)
    assert result.reference == there
    assert bench.read(image).digest == before
    labels: Any = bench.read(there).config["config"]
    assert labels["Labels"]["org.opencontainers.image.base.name"].endswith("/base:next")
    assert not bench.builder.requests[0].recorded


def test_a_base_that_moved_in_between_publishes_nothing(bench: Bench) -> None:
    image = bench.image()
    before = bench.read(image).digest
    add_base(bench.registry, "1", layer="two")
    bench.builder.wrong = True
    with pytest.raises(BaseImageError, match="try again"):
        bench.rebase(image)
    assert bench.read(image).digest == before


def test_what_cannot_be_rebased(bench: Bench) -> None:
    image = bench.image()
    host = bench.registry.host
    bench.builder = Pushing({})
    with pytest.raises(BuilderError, match="cannot put another base"):
        bench.rebase(image)
    bench.builder = replace(Swapping({}), readiness=Readiness(False, problem="no engine", hint="start it"))
    with pytest.raises(ImagesmithError, match="no engine"):
        bench.rebase(image)
    with pytest.raises(ImagesmithError, match="there is no image"):
        bench.rebase(f"{host}/me/app:absent")
    with pytest.raises(ImagesmithError, match="not made by imagesmith"):
        bench.rebase(f"{host}/base:1")
    with pytest.raises(UsageError, match="another repository"):
        bench.rebase(image, output=f"{host}/other:1")
    with pytest.raises(UsageError, match="names no tag"):
        bench.rebase(f"{host}/me/app@{bench.read(image).digest}")
    bench.builder = Swapping({})
    with pytest.raises(BaseImageError, match="there is no base image"):
        bench.rebase(image, run_image=f"{host}/base:absent")
