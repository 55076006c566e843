"""Builders that push layers only: how many requests a build takes, and what happens when one goes wrong."""

from __future__ import annotations

import base64
import json
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from imagesmith import (
    BlobUnknown,
    BuilderEntry,
    BuildPlan,
    Built,
    Environment,
    ImageSpec,
    Message,
    RegistryError,
    RegistryRepository,
    RegistryUnreachable,
    Reporter,
    StoreError,
)
from imagesmith.plugins import Plugins
from imagesmith.settings import load_settings
from imagesmith.stores import StoredImage
from imagesmith.stores.registry import RegistryStore, open_repository
from imagesmith.stores.shared import Registries
from tests.core import fake_registry as fakes
from tests.core.fake_registry import OCI_INDEX, OCI_LAYER, OCI_MANIFEST, running, sha
from tests.core.test_pipeline import Bench, Pushing


@dataclass
class Leaving(Pushing):
    """Pushes one layer on the base's, unless it remembers that it did; leaves the rest to the core."""

    remembers: set[str] = field(default_factory=set)
    trusting: bool = False
    """go on remembering, whatever the core says"""
    registries: Registries | None = None

    def build(self, plan: BuildPlan, report: Reporter) -> Built:
        self.built.append(plan)
        request = plan.request
        self.meanwhile(request)
        destination = request.destination
        assert isinstance(destination, RegistryRepository)
        layer = f"layer for {request.platform} of {sorted(request.staged.digests.items())}".encode() * 10_000
        below = request.base.manifest["layers"]
        config = request.base.config
        assert isinstance(below, list)
        known = sha(layer) in self.remembers and (self.trusting or not request.ask_again)
        with open_repository(destination.repository, self.env, registries=self.registries) as store:
            if not known:
                store.put_blob(layer)
                for each in below:
                    assert store.mount_blob(each["digest"], request.base.reference.rpartition(":")[0])
        self.remembers.add(sha(layer))
        mine = {"mediaType": OCI_LAYER, "digest": sha(layer), "size": len(layer)}
        manifest = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "layers": [*below, mine]}
        rootfs = {"type": "layers", "diff_ids": ["sha256:" + "1" * 64, sha(layer)]}
        left = {"os": config["os"], "architecture": config["architecture"], "rootfs": rootfs}
        return Built(destination, "", image=StoredImage("", left, manifest, OCI_MANIFEST))


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setattr("imagesmith.stores._http._backoff", lambda attempt: 0.0)
    (tmp_path / "src").mkdir()
    with running() as registry:
        entries = [
            {
                "mediaType": OCI_MANIFEST,
                "digest": registry.add_image("base", platform=f"linux/{arch}", env="PYTHON_VERSION=3.12.1"),
                "size": 1,
                "platform": {"os": "linux", "architecture": arch},
            }
            for arch in ("amd64", "arm64")
        ]
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
        registry.add_manifest("base", OCI_INDEX, index, "one")
        env = {
            "HOME": str(tmp_path),
            "IMAGESMITH_CACHE_DIR": str(tmp_path / "cache"),
            "IMAGESMITH_BASE_IMAGE": f"{registry.host}/base:one",
            "IMAGESMITH_BUILDER": "leaving",
        }
        builder = Leaving(env, name="leaving")

        def make(environment: Environment) -> Leaving:
            builder.registries = environment.registries
            return builder

        plugins = Plugins(discover=False, entries=[BuilderEntry("leaving", "for tests", make)])
        yield Bench(registry, builder, load_settings(tmp_path, env), plugins)


def requests(bench: Bench) -> list[str]:
    """The requests since the last time, digests and tags shortened."""
    log = [re.sub(r"sha256(:|%3A)[0-9a-f]{64}", "DIGEST", line) for line in bench.registry.log()]
    bench.registry.requests.clear()
    return [
        re.sub(r"/uploads/.*", "/uploads", re.sub(r"/manifests/[a-z0-9]{26}", "/manifests/TAG", x))
        for x in log
    ]


def edited(bench: Bench, tmp_path: Path, text: str) -> ImageSpec:
    (tmp_path / "src" / "app.py").write_text(text)
    return bench.spec(source_root=tmp_path / "src")


def test_an_edit_is_seven_requests_and_one_manifest(bench: Bench, tmp_path: Path) -> None:
    bench.build(edited(bench, tmp_path, "1"))
    requests(bench)
    bench.build(bench.spec(source_root=tmp_path / "src"))
    assert requests(bench) == ["GET /v2/me/app/manifests/TAG"], "nothing changed"
    builder = bench.builder
    assert isinstance(builder, Leaving)
    result = bench.build(edited(bench, tmp_path, "2"))
    mounted = "POST /v2/me/app/blobs/uploads"
    assert requests(bench) == [
        "GET /v2/me/app/manifests/TAG",  # is it there?
        "HEAD /v2/base/manifests/one",  # what does the base's tag lead to today?
        "POST /v2/me/app/blobs/uploads",  # the layer
        "PUT /v2/me/app/blobs/uploads",
        mounted,  # which this builder does not remember
        "POST /v2/me/app/blobs/uploads",  # the configuration
        "PUT /v2/me/app/blobs/uploads",
        "PUT /v2/me/app/manifests/TAG",
    ]
    assert bench.tags() == {
        ref for name, ref in bench.registry.manifests if ":" not in ref and name == "me/app"
    }
    assert "imagesmith-staging" not in bench.tags()
    assert result.digest == sha(bench.registry.manifests["me/app", result.reference.rpartition(":")[2]][1])


def test_a_change_of_configuration_is_six_requests(bench: Bench, tmp_path: Path) -> None:
    spec = edited(bench, tmp_path, "1")
    bench.build(spec)
    requests(bench)
    result = bench.build(spec.with_env({"A": "2"}))
    assert requests(bench) == [
        "GET /v2/me/app/manifests/TAG",
        "HEAD /v2/base/manifests/one",
        "GET /v2/me/app/manifests/DIGEST",  # does what is remembered still stand?
        "POST /v2/me/app/blobs/uploads",
        "PUT /v2/me/app/blobs/uploads",
        "PUT /v2/me/app/manifests/TAG",
    ]
    assert len(bench.builder.built) == 1
    assert "A=2" in bench.config(result)["Env"]  # type: ignore[operator]


def test_platforms_come_before_their_index(bench: Bench, tmp_path: Path) -> None:
    spec = edited(bench, tmp_path, "1").replace(platform=["linux/amd64", "linux/arm64"])
    bench.build(spec)
    manifests = [line for line in requests(bench) if line.startswith("PUT") and "manifests" in line]
    assert manifests == ["PUT /v2/me/app/manifests/DIGEST"] * 2 + ["PUT /v2/me/app/manifests/TAG"]


def test_what_was_kept_on_disk_and_got_damaged_is_asked_for_again(bench: Bench, tmp_path: Path) -> None:
    bench.build(edited(bench, tmp_path, "1"))
    kept = list((tmp_path / "cache" / "documents").iterdir())
    assert len(kept) == 4, "the base's index, manifest and configuration, and the image's configuration"
    for file in kept:
        file.write_bytes(b"{}")
    requests(bench)
    result = bench.build(edited(bench, tmp_path, "2"))
    assert {"GET /v2/base/manifests/DIGEST", "GET /v2/base/blobs/DIGEST"} <= set(requests(bench))
    assert "PYTHON_VERSION=3.12.1" in bench.config(result)["Env"]  # type: ignore[operator]


def test_a_blob_that_the_registry_lost_is_pushed_again(bench: Bench, tmp_path: Path) -> None:
    builder = bench.builder
    assert isinstance(builder, Leaving)
    first = bench.build(edited(bench, tmp_path, "1"))
    (layer,) = builder.remembers
    del bench.registry.blobs["me/app", layer]
    again = bench.build(edited(bench, tmp_path, "1"), force=True)
    assert [plan.request.ask_again for plan in builder.built] == [False, False, True]
    assert again.digest == first.digest
    assert bench.registry.blobs["me/app", layer]
    texts = [event.text for event in bench.said if isinstance(event, Message) and event.level == "warning"]
    assert len(texts) == 1
    assert "MANIFEST_BLOB_UNKNOWN" in texts[0]
    builder.trusting = True
    del bench.registry.blobs["me/app", layer]
    tag = first.reference.rpartition(":")[2]
    del bench.registry.manifests["me/app", tag]
    with pytest.raises(BlobUnknown):
        bench.build(edited(bench, tmp_path, "1"), force=True)
    assert len(builder.built) == 5, "twice, and no more"
    assert tag not in bench.tags()


def test_remembered_files_whose_layer_is_gone_are_built(bench: Bench, tmp_path: Path) -> None:
    builder = bench.builder
    assert isinstance(builder, Leaving)
    spec = edited(bench, tmp_path, "1")
    bench.build(spec)
    (layer,) = builder.remembers
    del bench.registry.blobs["me/app", layer]
    bench.build(spec.with_env({"A": "2"}))
    assert len(builder.built) == 2, "the second time is the second try"
    assert bench.registry.blobs["me/app", layer]


TROUBLE = {
    "too many requests": fakes.error(429, "TOOMANYREQUESTS", Retry_After="0"),
    "server error": fakes.error(500, "UNKNOWN"),
    "hang-up before the body": fakes.hang_up_after(0),
    "hang-up in the middle": fakes.hang_up_after(70_000),
    "hang-up at the end": fakes.reset,
}


@pytest.mark.parametrize("trouble", TROUBLE)
@pytest.mark.parametrize("request_", ["PUT .*/blobs/uploads/", "POST .*/blobs/uploads/", "PUT .*/manifests/"])
def test_trouble_that_passes_is_not_noticed(
    bench: Bench, tmp_path: Path, trouble: str, request_: str
) -> None:
    bench.registry.fail(request_, *[TROUBLE[trouble]] * 3)
    result = bench.build(edited(bench, tmp_path, "1"))
    assert result.reference.rpartition(":")[2] in bench.tags()
    (layer,) = bench.builder.remembers  # type: ignore[attr-defined]
    assert sha(bench.registry.blobs["me/app", layer]) == layer


@pytest.mark.parametrize("trouble", TROUBLE)
@pytest.mark.parametrize("request_", ["PUT .*/blobs/uploads/", "POST .*/blobs/uploads/", "PUT .*/manifests/"])
def test_trouble_that_stays_is_one_clear_error_and_nothing_published(
    bench: Bench, tmp_path: Path, trouble: str, request_: str
) -> None:
    bench.registry.fail(request_, *[TROUBLE[trouble]] * 50)
    with pytest.raises(StoreError) as caught:
        bench.build(edited(bench, tmp_path, "1"))
    error = caught.value
    assert isinstance(error, RegistryError)
    assert error.hint
    assert "me/app" in error.message
    assert bench.registry.host in error.message
    if "hang-up" in trouble:
        assert isinstance(error, RegistryUnreachable)
    assert bench.tags() == set()
    assert len(bench.builder.built) == 1
    tried = [line for line in bench.registry.log() if re.search(request_, line)]
    assert len(tried) == 4
    bench.registry._script.clear()
    assert not bench.build(edited(bench, tmp_path, "1")).reused


def test_trouble_with_the_last_of_several_platforms_publishes_none(bench: Bench, tmp_path: Path) -> None:
    spec = edited(bench, tmp_path, "1").replace(platform=["linux/amd64", "linux/arm64"])
    bench.registry.fail("PUT .*/manifests/[a-z0-9]{26}$", fakes.error(403, "DENIED"))
    with pytest.raises(RegistryError):
        bench.build(spec)
    assert bench.tags() == set()


def test_a_registry_that_stores_something_else_is_found_out(bench: Bench, tmp_path: Path) -> None:
    wrong = fakes.Answer(201, headers={"Docker-Content-Digest": sha(b"other")})
    bench.registry.fail("PUT .*/blobs/uploads/", wrong)
    with pytest.raises(RegistryError, match=r"has sha256:.* where sha256:.* was sent"):
        bench.build(edited(bench, tmp_path, "1"))
    assert bench.tags() == set()


def test_one_conversation_with_a_registry_that_wants_tokens(bench: Bench, tmp_path: Path) -> None:
    bench.registry.auth = "bearer"
    login = base64.b64encode(f"alice:{bench.registry.users['alice']}".encode()).decode()
    (tmp_path / "config.json").write_text(json.dumps({"auths": {bench.registry.host: {"auth": login}}}))
    env = {**bench.settings.env, "DOCKER_CONFIG": str(tmp_path)}
    bench.settings = load_settings(tmp_path, env)
    bench.builder.env = env
    bench.build(edited(bench, tmp_path, "1"))
    requests(bench)
    connections: set[int] = set()
    accept = bench.registry._server.get_request
    bench.registry._server.get_request = lambda: _noted(accept(), connections)  # type: ignore[method-assign]
    bench.build(edited(bench, tmp_path, "2"))
    log = requests(bench)
    refused = "GET /v2/me/app/manifests/TAG"
    assert log[:3] == [refused, log[1], refused], "asked for a login once"
    tokens = [line for line in log if line.startswith("GET /token")]
    assert len(tokens) == 4, "to read there, to read the base, to write, to mount"
    assert len(log) == 8 + 1 + len(tokens)
    assert len(connections) == 1


def _noted(accepted: tuple[socket.socket, object], connections: set[int]) -> tuple[socket.socket, object]:
    connections.add(accepted[0].getpeername()[1])
    return accepted


def test_several_threads_may_use_a_store(bench: Bench) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with RegistryStore(f"{bench.registry.host}/me/app") as store, ThreadPoolExecutor(8) as pool:
        data = [bytes([number]) * 100_000 for number in range(40)]
        digests = list(pool.map(store.put_blob, data))
        assert all(pool.map(store.has_blob, digests))
    assert digests == [sha(each) for each in data]


def test_a_lock_that_moved_meanwhile_is_a_reason_to_look_again(bench: Bench, tmp_path: Path) -> None:
    """Another process builds the same image between our first look and our lock."""
    spec = edited(bench, tmp_path, "1")
    real = bench.registry.answer
    raced: list[bool] = []

    def race(request: fakes.Request) -> fakes.Answer:
        answer = real(request)
        if not raced and request.method == "GET" and "/me/app/manifests/" in request.path:
            raced.append(True)
            replace(bench).build(spec)
        return answer

    bench.registry.answer = race  # type: ignore[method-assign]
    assert bench.build(spec).reused
    assert len(bench.builder.built) == 1
