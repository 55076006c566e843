"""The local engine as a store, with both of its image stores."""

from __future__ import annotations

import hashlib
import json
import urllib.request
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from imagesmith.errors import AuthenticationFailed, EngineError, RegistryUnreachable
from imagesmith.stores import Store, StoredImage
from imagesmith.stores import _manifests as manifests
from imagesmith.stores.local import LocalStore, connect
from tests.live.engines import KINDS, Engine, open_engine
from tests.rig.state import Rig

pytestmark = pytest.mark.live


@pytest.fixture(scope="module", params=KINDS)
def engine(request: pytest.FixtureRequest, rig: Rig) -> Iterator[Engine]:
    with open_engine(rig, request.param) as opened:
        yield opened


@pytest.fixture(scope="module")
def built(engine: Engine, rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> str:
    """As a builder leaves it: under a name, with all that finish must be able to take away."""
    return engine.image(
        tmp_path_factory.mktemp("image"),
        f"FROM {rig.images.python311}\n"
        f"RUN echo {uuid.uuid4()} > /own\n"
        "LABEL gone=yes other=also\n"
        "ENV GONE=1 CHANGED=old\n"
        'RUN echo "hunter2" > /layer\n'
        'ENTRYPOINT ["/bin/echo"]\n'
        'CMD ["old"]\n'
        "EXPOSE 80\n"
        "USER daemon\n",
    )


def image_of(engine: Engine, ref: str) -> StoredImage:
    image = engine.store.read(ref)
    assert image is not None
    return image


def inner(image: StoredImage) -> Mapping[str, object]:
    config = image.config["config"]
    assert isinstance(config, Mapping)
    return config


def other_config(image: StoredImage, user: str = "nobody") -> dict[str, object]:
    layers = image.config["rootfs"]["diff_ids"]  # type: ignore[index]
    return {
        **image.config,
        "created": "2001-02-03T04:05:06Z",
        "config": {
            "Env": ["CHANGED=a\nb\t\"'$HOME ${X} \\ 😀", "EMPTY=", "PATH=/usr/local/bin:/bin"],
            "User": user,
        },
        "history": [{"created": "2001-02-03T04:05:06Z", "created_by": "plain"}] * len(layers),
    }


def test_it_is_a_store_that_knows_its_kind(engine: Engine, request: pytest.FixtureRequest) -> None:
    as_store: Store = engine.store
    kind = request.node.callspec.params["engine"]
    assert engine.store.containerd == (kind == "containerd")
    assert engine.store.version().endswith(f"({kind} image store)")
    assert as_store.read("imagesmith-test-none:latest") is None
    assert as_store.platforms("sha256:" + "0" * 64) == ()
    as_store.discard("imagesmith-test-none:latest")


def test_what_stands_in_the_engine_is_read_whole(engine: Engine, built: str) -> None:
    image = image_of(engine, built)
    assert engine.store.platforms(built) == ("linux/amd64",)
    assert engine.store.read(built, "linux/amd64") == image
    assert engine.store.read(built, "linux/arm64") is None
    assert engine.store.read(image.digest) == image
    config = inner(image)
    assert {"GONE=1", "CHANGED=old"} <= set(config["Env"])  # type: ignore[call-overload]
    assert (config["Entrypoint"], config["Cmd"], config["User"]) == (["/bin/echo"], ["old"], "daemon")
    history = image.config["history"]
    assert isinstance(history, list)
    layers = [entry for entry in history if not entry.get("empty_layer")]
    assert len(layers) == len(image.config["rootfs"]["diff_ids"])  # type: ignore[index]
    assert "hunter2" in layers[-1]["created_by"]


def test_a_new_configuration_is_exact_and_moves_no_layer(engine: Engine, built: str) -> None:
    image = image_of(engine, built)
    config = other_config(image)
    before = engine.alike(built)
    written = engine.store.write_config(image, config)
    engine.keep_track(written.digest)
    assert inner(written) == config["config"], "nothing came back: no env, label, port, entrypoint or command"
    assert written.config["rootfs"] == image.config["rootfs"]
    assert {entry["created_by"] for entry in written.config["history"]} == {"plain"}  # type: ignore[attr-defined]
    assert engine.inspect(written.digest)["RepoTags"] == [], "no name"
    assert engine.alike(built) - before == {written.digest}
    assert engine.store.write_config(image, config).digest == written.digest, "equal in, equal out"
    assert image_of(engine, built) == image, "what it was made from stays"


def test_an_image_without_a_name_can_be_changed_and_stays(engine: Engine, built: str) -> None:
    first = engine.store.write_config(image_of(engine, built), other_config(image_of(engine, built), "one"))
    engine.keep_track(first.digest)
    second = engine.store.write_config(first, other_config(first, "two"))
    engine.keep_track(second.digest)
    assert inner(second)["User"] == "two"
    assert image_of(engine, first.digest) == first


def test_a_tag_moves_and_a_staging_name_goes_without_the_layers(engine: Engine, built: str) -> None:
    staging, final = engine.name(), engine.name()
    first = image_of(engine, built)
    engine.store.publish(first.digest, staging)
    written = engine.store.write_config(first, other_config(first, "daemon"))
    engine.store.publish(first.digest, final)
    engine.store.publish(written.digest, final)
    assert image_of(engine, final).digest == written.digest
    engine.store.discard(staging)
    assert engine.store.read(staging) is None
    assert engine.docker("run", "--rm", final, "cat", "/layer") == "hunter2\n"
    engine.store.discard(written.digest)
    assert image_of(engine, final) == written, "an id that has a name is not discarded"


def test_layers_survive_when_the_built_image_is_gone(engine: Engine, rig: Rig, tmp_path: Path) -> None:
    unique = hashlib.sha256(str(tmp_path).encode()).hexdigest()
    name = engine.image(tmp_path, f"FROM {rig.images.python311}\nRUN echo {unique} > /unique\n")
    image = image_of(engine, name)
    written = engine.store.write_config(image, other_config(image, ""))
    final = engine.name()
    engine.store.publish(written.digest, final)
    engine.store.discard(name)
    assert engine.store.read(image.digest) is None
    assert engine.docker("run", "--rm", final, "cat", "/unique").strip() == unique
    target = f"{rig.registry}/{final.removesuffix(':latest')}:t"
    engine.made.append(target)
    engine.store.publish(written.digest, target)
    assert engine.store.push(target).startswith("sha256:")


def test_a_finished_image_runs_at_once_when_the_staged_one_goes(
    engine: Engine, rig: Rig, tmp_path: Path
) -> None:
    """The containerd store takes a while to let layers go, and meanwhile starts nothing that needs them."""
    staged, final = f"{engine.name().removesuffix(':latest')}:imagesmith-staging-1", engine.name()
    engine.made.append(staged)
    for number in range(3):
        (tmp_path / "Dockerfile").write_text(
            f"FROM {rig.images.python311}\nRUN echo {staged} {number} > /it\n"
        )
        engine.docker("buildx", "build", "-q", "--provenance=false", "-t", staged, str(tmp_path))
        image = image_of(engine, staged)
        written = engine.store.write_config(image, other_config(image))
        engine.store.publish(written.digest, final)
        engine.store.discard(staged)
        assert engine.docker("run", "--rm", final, "cat", "/it") == f"{staged} {number}\n"
        assert "imagesmith" not in engine.docker("history", final), "it can be told"
    kept = engine.docker("images", "--format", "{{.Repository}}", "imagesmith-build").split()
    assert bool(kept) == engine.store.containerd


def test_both_ways_to_learn_a_manifest_agree(engine: Engine, built: str) -> None:
    if not engine.store.containerd:
        pytest.skip("the classic store needs no manifest")
    client = engine.store._client
    image = image_of(engine, built)
    tags = engine.inspect(built)["RepoTags"]
    pushed = manifests.pushed_manifest(client, image.digest, image.platform)
    saved = manifests.saved_manifest(client, image.digest, image.platform)
    assert pushed is not None
    assert pushed == saved
    assert engine.inspect(built)["RepoTags"] == tags, "the name it needed is gone"
    remote = client.base_url
    try:
        client.base_url = "http://elsewhere:2375"
        assert manifests.pushed_manifest(client, image.digest, image.platform) is None
    finally:
        client.base_url = remote


def test_an_image_for_another_platform(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /x\n")
    name = engine.name()
    engine.docker(
        "buildx", "build", "-q", "--provenance=false", "--platform=linux/arm64", "-t", name, str(tmp_path)
    )
    image = image_of(engine, name)
    assert engine.store.platforms(name) == ("linux/arm64",)
    assert engine.store.read(name, "linux/arm64/v8") == image
    written = engine.store.write_config(image, other_config(image))
    engine.keep_track(written.digest)
    assert (written.platform, inner(written)["User"]) == ("linux/arm64", "nobody")


def test_with_attestations_the_image_itself_is_changed(engine: Engine, rig: Rig, tmp_path: Path) -> None:
    if not engine.store.containerd:
        pytest.skip("the classic store keeps no attestations")
    name = engine.name()
    (tmp_path / "Dockerfile").write_text(f"FROM {rig.images.python311}\nENV A=1\n")
    engine.docker("buildx", "build", "-q", "--provenance=true", "-t", name, str(tmp_path))
    image = image_of(engine, name)
    written = engine.store.write_config(image, other_config(image))
    engine.keep_track(written.digest)
    assert inner(written)["User"] == "nobody"
    assert written.config["rootfs"] == image.config["rootfs"]


def test_pushed_to_a_registry_under_the_digest_it_answers(engine: Engine, rig: Rig, built: str) -> None:
    target = f"{rig.registry}/imagesmith-test/pushed:t1"
    engine.made.append(target)
    engine.store.publish(image_of(engine, built).digest, target)
    digest = engine.store.push(target)
    url = f"http://{rig.registry}/v2/imagesmith-test/pushed/manifests/{digest}"
    kinds = "application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.manifest.v1+json"
    request = urllib.request.Request(url, headers={"Accept": kinds})
    with urllib.request.urlopen(request) as answer:
        body = answer.read()
    assert f"sha256:{hashlib.sha256(body).hexdigest()}" == digest
    assert "layers" in json.loads(body)


def test_a_push_takes_the_login_it_is_given_and_no_other(engine: Engine, rig: Rig, built: str) -> None:
    tls = rig.registry_tls
    target = f"{tls.address}/imagesmith-test/pushed:t1"
    engine.made.append(target)
    engine.store.publish(image_of(engine, built).digest, target)
    login = {"username": tls.username, "password": tls.password}
    assert engine.store.push(target, login).startswith("sha256:")
    with pytest.raises(AuthenticationFailed, match="no login was given"):
        engine.store.push(target)
    with pytest.raises(AuthenticationFailed, match="the login is refused") as raised:
        engine.store.push(target, {**login, "password": "hunter2"})
    assert "hunter2" not in str(raised.value)
    assert tls.address in raised.value.registry


def test_pushed_to_nowhere(engine: Engine, built: str) -> None:
    target = "127.0.0.1:9/imagesmith-test/pushed:t1"
    engine.made.append(target)
    engine.store.publish(image_of(engine, built).digest, target)
    with pytest.raises(RegistryUnreachable, match=r"cannot push 127\.0\.0\.1:9/imagesmith-test"):
        engine.store.push(target)
    with pytest.raises(EngineError, match=r"the Docker engine says: .*does not exist"):
        engine.store.push("127.0.0.1:9/imagesmith-test/none:t1")


def test_what_an_engine_cannot_do(engine: Engine, built: str) -> None:
    image = image_of(engine, built)
    with pytest.raises(EngineError, match="2 platforms needs a registry or an OCI layout"):
        engine.store.write_index([image, image])
    with pytest.raises(EngineError, match="cannot tag sha256:0000"):
        engine.store.publish("sha256:" + "0" * 64, "imagesmith-test-none:latest")
    with pytest.raises(EngineError, match="cannot remove imagesmith-test-none"):
        engine.store.remove("imagesmith-test-none:latest")


def test_reached_through_a_docker_context(engine: Engine, tmp_path: Path) -> None:
    env = {**engine.env, "DOCKER_CONFIG": str(tmp_path)}
    del env["DOCKER_HOST"]
    engine.env["DOCKER_CONFIG"], before = str(tmp_path), engine.env.get("DOCKER_CONFIG")
    try:
        engine.docker("context", "create", "mine", "--docker", f"host={engine.host}")
        engine.docker("context", "use", "mine")
    finally:
        if before is None:
            del engine.env["DOCKER_CONFIG"]
        else:
            engine.env["DOCKER_CONFIG"] = before
    for through in (env, {**env, "DOCKER_CONTEXT": "mine"}):
        store = LocalStore(connect(through))
        assert store.version() == engine.store.version()
        store.close()
