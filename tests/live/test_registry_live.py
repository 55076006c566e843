"""The registry store against real registries. No engine takes part but to run the result."""

from __future__ import annotations

import base64
import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagesmith.errors import AuthenticationFailed, RegistryError, RegistryUnreachable
from imagesmith.stores import StoredImage
from imagesmith.stores._documents import CONFIG, MANIFEST, descriptor, encode
from imagesmith.stores.reference import parse
from imagesmith.stores.registry import RegistryStore, open_repository
from tests.rig.state import Rig

pytestmark = pytest.mark.live

NO_ENGINE = {"DOCKER_HOST": "tcp://127.0.0.1:1", "PATH": os.defpath}
AWKWARD = ["SPACE=a b", "QUOTES=\"'", "NEWLINE=a\nb", "DOLLAR=$HOME", "BACKSLASH=\\n", "EMOJI=😀", "EMPTY="]


@pytest.fixture
def copied(rig: Rig) -> Iterator[tuple[RegistryStore, StoredImage]]:
    """A store over a repository of this test's own, and in it the rig's python image."""
    base = parse(rig.images.python311)
    source = open_repository(base.repository_reference, NO_ENGINE)
    name = f"{rig.registry}/test/registry-{uuid.uuid4().hex[:12]}"
    with source, open_repository(name, NO_ENGINE) as store:
        image = source.read(base.tag or "latest", "linux/amd64")
        assert image is not None
        assert image.manifest is not None
        for entry in [*image.manifest["layers"], image.manifest["config"]]:  # type: ignore[misc]
            assert store.mount_blob(entry["digest"], base.repository_reference)
            assert store.has_blob(entry["digest"])
        digest = store.put_manifest(encode(image.manifest), image.media_type)
        copy = store.read(digest)
        assert copy is not None
        made = {digest}
        publish = store.publish

        def remembered(digest: str, tag: str) -> None:
            publish(digest, tag)
            made.add(digest)

        store.publish = remembered  # type: ignore[method-assign]
        yield store, copy
        for digest in made:
            store._origin.delete_manifest(digest)


def edited(image: StoredImage, env: list[str]) -> dict[str, object]:
    config = json.loads(json.dumps(dict(image.config)))
    config["config"]["Env"] = [*config["config"]["Env"], *env]
    config["config"]["Cmd"] = ["env", "-0"]
    return dict(config)


def test_a_new_configuration_on_a_real_image(copied: tuple[RegistryStore, StoredImage]) -> None:
    store, image = copied
    assert store.exists("final") is False
    new = store.write_config(image, edited(image, AWKWARD))
    assert store.exists("final") is False
    store.publish(new.digest, "final")
    assert store.exists("final", ["linux/amd64"]) is True
    assert store.digest("final") == new.digest
    assert store.platforms("final") == ("linux/amd64",)
    with open_repository(store.repository, NO_ENGINE) as fresh:
        again = fresh.read("final", "linux/amd64")
    assert again == new
    assert again is not None
    assert again.manifest is not None
    assert image.manifest is not None
    assert again.manifest["layers"] == image.manifest["layers"]
    assert again.media_type == image.media_type
    store.discard("final")  # this registry deletes no tags: nothing happens, and nothing is raised
    assert store.exists("final") is True


def test_an_index_over_real_images(copied: tuple[RegistryStore, StoredImage]) -> None:
    store, image = copied
    other = store.write_config(image, {**image.config, "architecture": "arm64", "variant": "v8"})
    digest = store.write_index([image, other])
    store.publish(digest, "both")
    with open_repository(store.repository, NO_ENGINE) as fresh:
        assert fresh.platforms("both") == ("linux/amd64", "linux/arm64/v8")
        found = fresh.read("both", "linux/arm64")
    assert found == other


def test_an_engine_runs_the_image_with_its_new_configuration(
    rig: Rig, copied: tuple[RegistryStore, StoredImage]
) -> None:
    import docker

    store, image = copied
    new = store.write_config(image, edited(image, AWKWARD))
    store.publish(new.digest, "final")
    client = docker.DockerClient(base_url=rig.docker_host)
    try:
        name = f"{store.repository}@{new.digest}"
        output = client.containers.run(name, remove=True)
        assert set(AWKWARD) <= set(output.decode().split("\0"))
        client.images.remove(name)
    finally:
        client.close()


def test_a_manifest_that_names_a_missing_blob(copied: tuple[RegistryStore, StoredImage]) -> None:
    store, image = copied
    broken = encode({**(image.manifest or {}), "config": descriptor(CONFIG, b"never uploaded")})
    with pytest.raises(RegistryError, match="MANIFEST_BLOB_UNKNOWN"):
        store.put_manifest(broken, image.media_type)


def docker_config(folder: Path, rig: Rig, password: str) -> dict[str, str]:
    folder.mkdir(exist_ok=True)
    login = base64.b64encode(f"{rig.registry_tls.username}:{password}".encode()).decode()
    (folder / "config.json").write_text(json.dumps({"auths": {rig.registry_tls.address: {"auth": login}}}))
    return {**NO_ENGINE, "DOCKER_CONFIG": str(folder)}


def trusting(folder: Path, rig: Rig) -> Path:
    path = folder / "registries.json"
    entry = {"name": rig.registry_tls.address, "ca": rig.registry_tls.ca}
    path.write_text(json.dumps({"registries": [entry]}))
    return path


def test_tls_with_a_login_from_a_file(rig: Rig, tmp_path: Path) -> None:
    env = docker_config(tmp_path / "docker", rig, rig.registry_tls.password)
    name = f"{rig.registry_tls.address}/test/registry-{uuid.uuid4().hex[:12]}"
    with open_repository(name, env, trusting(tmp_path, rig)) as store:
        assert store.exists("1") is False
        layer = store.put_blob(b"layer")
        config = encode({"os": "linux", "architecture": "amd64", "config": {}, "rootfs": {"type": "layers"}})
        store.put_blob(config)
        document = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": descriptor(CONFIG, config),
            "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer, "size": 5}],
        }
        first = store.put_manifest(encode(document), MANIFEST)
        image = store.read(first)
        assert image is not None
        second = store.write_config(image, {**image.config, "config": {"Env": AWKWARD}}).digest
        store.publish(second, "1")
        assert store.exists("1") is True
        for digest in (first, second):
            store._origin.delete_manifest(digest)
        assert store.exists("1") is False


def test_tls_with_a_login_from_a_helper(rig: Rig, tmp_path: Path) -> None:
    answer = json.dumps({"Username": rig.registry_tls.username, "Secret": rig.registry_tls.password})
    (tmp_path / "answer.json").write_text(answer)
    helper = tmp_path / "docker-credential-stub"
    asked = f"get {rig.registry_tls.address}"
    helper.write_text(f"#!/bin/sh\n[ \"$1 $(cat)\" = '{asked}' ] && cat '{tmp_path}/answer.json'\n")
    helper.chmod(0o755)
    (tmp_path / "config.json").write_text(json.dumps({"credHelpers": {rig.registry_tls.address: "stub"}}))
    env = NO_ENGINE | {
        "DOCKER_CONFIG": str(tmp_path),
        "PATH": f"{tmp_path}:{os.defpath}",
        "SSL_CERT_FILE": rig.registry_tls.ca,
    }
    with open_repository(f"{rig.registry_tls.address}/test/absent", env) as store:
        assert store.exists("1") is False


def test_tls_refusals(rig: Rig, tmp_path: Path) -> None:
    name = f"{rig.registry_tls.address}/test/absent"
    trust = trusting(tmp_path, rig)
    env = docker_config(tmp_path / "docker", rig, "a-wrong-password")
    with pytest.raises(AuthenticationFailed, match=f"as '{rig.registry_tls.username}'") as caught:
        open_repository(name, env, trust).exists("1")
    assert "a-wrong-password" not in str(caught.value)
    with pytest.raises(AuthenticationFailed, match="without credentials") as caught:
        open_repository(name, NO_ENGINE, trust).exists("1")
    assert f"docker login {rig.registry_tls.address}" in str(caught.value)
    with pytest.raises(RegistryUnreachable, match="certificate is not trusted"):
        open_repository(name, env).exists("1")
