"""``imagesmith inspect``, of images in a registry that is a small server on loopback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagesmith.inspection import inspect
from imagesmith.settings import load_settings
from imagesmith.spec import ImageSpec
from tests.cli.conftest import Run
from tests.core import fake_registry as fakes
from tests.core.fake_registry import FakeRegistry


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    with fakes.running() as registry:
        yield registry


def _push(fake: FakeRegistry, tag: str) -> str:
    config = {
        "Env": ["PATH=/bin", "TOKEN=sesame", "EMPTY="],
        "Entrypoint": ["python", "-m", "app"],
        "WorkingDir": "/workspace",
        "Labels": {"maintainer": "me", "io.imagesmith.id": "abc", "io.imagesmith.builder": "envd 0.1.0"},
    }
    document = {"os": "linux", "architecture": "amd64", "config": config, "rootfs": {"type": "layers"}}
    raw = json.dumps(document).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": fakes.OCI_MANIFEST,
        "config": {"mediaType": fakes.OCI_CONFIG, "digest": fake.add_blob("me/app", raw), "size": len(raw)},
        "layers": [],
    }
    return fake.add_manifest("me/app", fakes.OCI_MANIFEST, manifest, tag)


def test_the_answer_has_digest_entrypoint_labels_and_names_of_env(run: Run, fake: FakeRegistry) -> None:
    digest = _push(fake, "1")
    done = run("inspect", f"{fake.host}/me/app:1")
    assert done.code == 0
    lines = done.out.splitlines()
    assert f"digest:     {digest}" in lines
    assert "platforms:  linux/amd64" in lines
    assert 'entrypoint: ["python", "-m", "app"]' in lines
    assert "command:    null" in lines
    assert "env:        EMPTY, PATH, TOKEN" in lines
    assert lines[-3:] == [
        "  io.imagesmith.builder: envd 0.1.0",
        "  io.imagesmith.id: abc",
        "  maintainer: me",
    ]
    assert "sesame" not in done.out


def test_json_has_the_whole_configuration(run: Run, fake: FakeRegistry) -> None:
    digest = _push(fake, "1")
    answer = json.loads(run("inspect", "--json", f"{fake.host}/me/app@{digest}").out)
    assert answer["digest"] == digest
    assert answer["config"]["Env"] == ["PATH=/bin", "TOKEN=sesame", "EMPTY="]


def test_an_image_that_is_not_there_is_a_no(run: Run, fake: FakeRegistry) -> None:
    done = run("inspect", f"{fake.host}/me/app:2")
    assert (done.code, done.out) == (1, "")
    assert f"there is no image {fake.host}/me/app:2" in done.err


def test_text_that_names_no_image_is_wrong_usage(run: Run) -> None:
    assert run("inspect", "registry.example/UPPER:1").code == 2


def test_a_spec_is_looked_up_under_its_own_name(fake: FakeRegistry, tmp_path: Path) -> None:
    spec = ImageSpec(name="app", registry=f"{fake.host}/me")
    digest = _push(fake, spec.tag)
    found = inspect(spec, settings=load_settings(tmp_path, {"HOME": str(tmp_path)}))
    assert (found.reference, found.digest) == (spec.image_name(), digest)
    assert found.labels["io.imagesmith.id"] == "abc"


def test_a_name_without_a_host_is_asked_of_the_local_engine(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    done = run("inspect", "app:1.0")
    assert done.code == 3
    assert "127.0.0.1:1" in done.err
