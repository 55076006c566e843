"""The registry as a store: what is read, written, published; which requests that takes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from imagesmith.errors import AuthenticationFailed, BlobUnknown, RegistryError
from imagesmith.stores import Store
from imagesmith.stores.credentials import Login, RegistryAccess
from imagesmith.stores.registry import RegistryStore, open_repository
from tests.core import fake_registry as fakes
from tests.core.fake_registry import FakeRegistry

Open = Callable[..., RegistryStore]


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    with fakes.running() as registry:
        yield registry


@pytest.fixture
def opened(fake: FakeRegistry) -> Iterator[Open]:
    with ExitStack() as stack:
        yield lambda name="me/app": stack.enter_context(RegistryStore(f"{fake.host}/{name}"))


def index_of(fake: FakeRegistry, *tags: str, entries: list[dict[str, object]]) -> str:
    document = {"schemaVersion": 2, "mediaType": fakes.OCI_INDEX, "manifests": entries}
    return fake.add_manifest("me/app", fakes.OCI_INDEX, document, *tags)


def entry(fake: FakeRegistry, platform: str, digest: str | None = None, **more: object) -> dict[str, object]:
    system, machine, *variant = platform.split("/")
    digest = digest or fake.add_image("me/app", platform=platform)
    named = {"os": system, "architecture": machine} | ({"variant": variant[0]} if variant else {})
    media_type, raw = fake.manifests["me/app", digest]
    return {"mediaType": media_type, "digest": digest, "size": len(raw), "platform": named, **more}


def test_it_is_a_store(opened: Open) -> None:
    store: Store = opened()
    assert store.platforms("nothing") == ()
    assert store.read("nothing") is None


def test_urllib3_is_loaded_only_to_talk_to_a_registry() -> None:
    modules = "places, stores, stores.reference, stores.credentials".replace(", ", ", imagesmith.")
    code = f"import sys, imagesmith.{modules}; print({{'urllib3', 'docker', 'requests'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "set()\n"


def test_existence_takes_one_request(fake: FakeRegistry, opened: Open) -> None:
    fake.add_image("me/app", "1")
    store = opened()
    assert store.exists("1") is True
    assert store.exists("2") is False
    assert opened("me/other").exists("1") is False
    assert fake.log() == [
        "HEAD /v2/me/app/manifests/1",
        "HEAD /v2/me/app/manifests/2",
        "HEAD /v2/me/other/manifests/1",
    ]


@pytest.mark.parametrize("docker", [False, True])
def test_existence_with_platforms(fake: FakeRegistry, opened: Open, docker: bool) -> None:
    fake.add_image("me/app", "1", docker=docker)
    assert opened().exists("1", ["linux/amd64"]) is True
    assert opened().exists("1", ["linux/amd64", "linux/arm64"]) is False


def test_a_registry_that_does_not_name_digests_is_asked_for_the_manifest(
    fake: FakeRegistry, opened: Open
) -> None:
    digest = fake.add_image("me/app", "1")
    fake.names_digests = False
    assert opened().digest("1") == digest


@pytest.mark.parametrize("docker", [False, True])
def test_reading_one_image(fake: FakeRegistry, opened: Open, docker: bool) -> None:
    digest = fake.add_image("me/app", "1", docker=docker)
    store = opened()
    for ref, platform in (("1", None), ("1", "linux/amd64"), (digest, None)):
        image = store.read(ref, platform)
        assert image is not None
        assert image.digest == digest
        assert image.platform == "linux/amd64"
        assert image.config["config"] == {"Env": ["A=1"]}
        assert image.media_type == (fakes.DOCKER_MANIFEST if docker else fakes.OCI_MANIFEST)
        assert image.size == len(fake.manifests["me/app", digest][1])
    assert store.read("1", "linux/arm64") is None
    assert store.platforms("1") == ("linux/amd64",)


def test_an_index_leads_to_the_platform_and_attestations_are_no_images(
    fake: FakeRegistry, opened: Open
) -> None:
    amd, arm = entry(fake, "linux/amd64"), entry(fake, "linux/arm64/v8")
    notes = {"vnd.docker.reference.type": "attestation-manifest"}
    hidden = entry(fake, "unknown/unknown", annotations=notes)
    index_of(fake, "both", entries=[amd, hidden, arm])
    index_of(fake, "one", entries=[amd, hidden])
    store = opened()
    assert store.platforms("both") == ("linux/amd64", "linux/arm64/v8")
    found = store.read("both", "linux/arm64")
    assert found is not None
    assert found.digest == arm["digest"]
    assert store.read("both", "linux/s390x") is None
    only = store.read("one")
    assert only is not None
    assert only.digest == amd["digest"]
    with pytest.raises(RegistryError, match="several platforms"):
        store.read("both")


def test_arm_variants_fit_as_engines_choose_them(fake: FakeRegistry, opened: Open) -> None:
    digests = {}
    entries = []
    for variant in ("v5", "v6"):
        one = entry(fake, f"linux/arm/{variant}")
        digests[variant] = one["digest"]
        entries.append(one)
    index_of(fake, "arm", entries=entries)
    store = opened()
    for wanted, variant in (
        ("linux/arm/v7", "v6"),
        ("linux/arm", "v6"),
        ("linux/arm/v6", "v6"),
        ("linux/arm/v5", "v5"),
    ):
        image = store.read("arm", wanted)
        assert image is not None, wanted
        assert image.digest == digests[variant], wanted
    assert store.read("arm", "linux/arm64") is None


def test_an_index_that_names_no_platforms_is_read_through(fake: FakeRegistry, opened: Open) -> None:
    one = entry(fake, "linux/arm64")
    del one["platform"]
    index_of(fake, "bare", entries=[one])
    assert opened().platforms("bare") == ("linux/arm64",)


def test_an_index_over_a_missing_manifest_is_an_error(fake: FakeRegistry, opened: Open) -> None:
    one = entry(fake, "linux/amd64")
    index_of(fake, "1", entries=[one])
    del fake.manifests["me/app", str(one["digest"])]
    with pytest.raises(RegistryError, match="does not hold sha256:"):
        opened().read("1", "linux/amd64")


def test_what_is_no_container_image_is_refused(fake: FakeRegistry, opened: Open) -> None:
    config = {
        "mediaType": "application/vnd.cncf.helm.config.v1+json",
        "digest": fake.add_blob("me/app", b"{}"),
        "size": 2,
    }
    document = {"schemaVersion": 2, "mediaType": fakes.OCI_MANIFEST, "config": config, "layers": []}
    fake.add_manifest("me/app", fakes.OCI_MANIFEST, document, "chart")
    fake.add_manifest("me/app", fakes.DOCKER_MANIFEST, {"schemaVersion": 1, "tag": "old"}, "old")
    with pytest.raises(RegistryError, match=r"no container image.*helm"):
        opened().read("chart")
    with pytest.raises(RegistryError, match="format 1"):
        opened().platforms("old")


@pytest.mark.parametrize("docker", [False, True])
def test_a_new_configuration_moves_no_layer(fake: FakeRegistry, opened: Open, docker: bool) -> None:
    fake.add_image("me/app", "1", docker=docker)
    store = opened()
    before = store.read("1")
    assert before is not None
    fake.requests.clear()
    env = ['A=a b\n$HOME "q" é\u2028😀', "EMPTY="]
    after = store.write_config(before, {**before.config, "config": {"Env": env}})
    assert [request.method for request in fake.requests] == ["POST", "PUT"], "the manifest waits for its tag"
    assert store.read("1") == before
    assert opened().read(after.digest) is None
    fake.requests.clear()
    store.publish(after.digest, "2")
    assert fake.log() == ["PUT /v2/me/app/manifests/2"]
    with opened() as fresh:
        again = fresh.read(after.digest)
    assert again == after
    assert again is not None
    assert again.manifest is not None
    assert before.manifest is not None
    assert again.config["config"] == {"Env": env}
    assert {**again.manifest, "config": None} == {**before.manifest, "config": None}
    assert again.manifest["config"]["mediaType"] == before.manifest["config"]["mediaType"]  # type: ignore[index]
    assert again.media_type == before.media_type


def test_publishing_sends_the_very_bytes(fake: FakeRegistry, opened: Open) -> None:
    digest = fake.add_image("me/app")  # by an engine, with its own spacing
    raw = fake.manifests["me/app", digest]
    opened().publish(digest, "final")
    assert fake.manifests["me/app", "final"] == raw
    assert fake.log() == [f"GET /v2/me/app/manifests/{digest}", "PUT /v2/me/app/manifests/final"]
    fake.requests.clear()
    store = opened()
    image = store.read("final")
    assert image is not None
    edited = store.write_config(image, {**image.config, "config": {}})
    fake.requests.clear()
    store.publish(edited.digest, "final")
    assert fake.log() == ["PUT /v2/me/app/manifests/final"]
    assert store.digest("final") == edited.digest


def test_an_index_over_images_of_both_formats(fake: FakeRegistry, opened: Open) -> None:
    fake.add_image("me/app", "amd", docker=True)
    fake.add_image("me/app", "arm", platform="linux/arm64/v8")
    store = opened()
    images = [image for tag in ("amd", "arm") if (image := store.read(tag)) is not None]
    digest = store.write_index(images)
    store.publish(digest, "both")
    fresh = opened()
    assert fresh.platforms("both") == ("linux/amd64", "linux/arm64/v8")
    media_type, raw = fake.manifests["me/app", "both"]
    listed = json.loads(raw)["manifests"]
    assert media_type == fakes.OCI_INDEX
    assert [one["mediaType"] for one in listed] == [fakes.DOCKER_MANIFEST, fakes.OCI_MANIFEST]
    assert [one["size"] for one in listed] == [image.size for image in images]
    with pytest.raises(RegistryError, match="does not hold"):
        opened("me/other").write_index(images)


def test_a_tag_that_cannot_be_overwritten(fake: FakeRegistry, opened: Open) -> None:
    fake.immutable = True
    first, second = fake.add_image("me/app", "1"), fake.add_image("me/app", env="A=2")
    opened().publish(first, "1")  # stands there already: nothing to do
    with pytest.raises(RegistryError, match=f"immutable.*1 leads to {first} already") as caught:
        opened().publish(second, "1")
    assert "overwritten" in str(caught.value.hint)
    assert caught.value.status == 400


def test_publishing_what_is_not_there(fake: FakeRegistry, opened: Open) -> None:
    with pytest.raises(RegistryError, match="does not hold"):
        opened().publish(fakes.sha(b"x"), "1")


def test_a_manifest_over_a_missing_blob_is_refused_in_the_registrys_words(
    fake: FakeRegistry, opened: Open
) -> None:
    fake.add_image("me/app", "1")
    image = opened().read("1")
    assert image is not None
    other = opened("me/other")
    written = other.write_config(image, image.config)
    with pytest.raises(
        BlobUnknown, match=r"me/other.*HTTP 400, MANIFEST_BLOB_UNKNOWN: blob unknown"
    ) as caught:
        other.publish(written.digest, "1")
    assert caught.value.code == "MANIFEST_BLOB_UNKNOWN"
    with pytest.raises(BlobUnknown):
        other.write_index([written])
    assert fake.log()[-1].endswith(f"/me/other/manifests/{written.digest}"), "children come first"


def test_discard_deletes_a_tag_and_never_more(fake: FakeRegistry, opened: Open) -> None:
    digest = fake.add_image("me/app", "staging", "final")
    store = opened()
    store.discard(digest)
    assert fake.requests == []
    store.discard("staging")
    store.discard("staging")
    assert set(fake.manifests) == {("me/app", digest), ("me/app", "final")}
    fake.can_delete_tags = False
    store.discard("final")
    fake.fail("DELETE", fakes.error(500, "UNKNOWN"), fakes.reset)
    store.discard("final")
    store.discard("final")
    assert store.exists("final")


def test_blobs(fake: FakeRegistry, opened: Open, tmp_path: Path) -> None:
    store = opened()
    file = tmp_path / "layer"
    file.write_bytes(b"x" * 3_000_000)
    digest = store.put_blob(file)
    assert digest == fakes.sha(file.read_bytes())
    assert store.has_blob(digest)
    assert not store.has_blob(fakes.sha(b"other"))
    assert store.get_blob(store.put_blob(b"small")) == b"small"
    with pytest.raises(RegistryError, match="lacks the blob"):
        store.get_blob(fakes.sha(b"other"))
    with pytest.raises(RegistryError, match="DIGEST_INVALID"):
        store.put_blob(b"one", fakes.sha(b"another"))


def test_a_blob_is_taken_over_from_another_repository(fake: FakeRegistry, opened: Open) -> None:
    digest = opened("me/base").put_blob(b"layer")
    store = opened()
    assert store.mount_blob(digest, f"{fake.host}/me/base") is True
    assert store.has_blob(digest)
    fake.can_mount = False
    assert opened("me/third").mount_blob(digest, f"{fake.host}/me/base") is False
    assert fake.log()[-1].startswith("DELETE /v2/me/third/blobs/uploads/")
    assert store.mount_blob(digest, "elsewhere.example/me/base") is False


def test_a_mirror_is_read_first_and_the_registry_is_the_truth(tmp_path: Path) -> None:
    with fakes.running() as registry, fakes.running() as mirror:
        mirrored = mirror.add_image("cache/me/app", "1")
        registry.add_image("me/app", "2", env="A=2")
        config = tmp_path / "registries.json"
        entries = [{"name": registry.host, "mirror": f"{mirror.host}/cache"}]
        config.write_text(json.dumps({"registries": entries}))
        with open_repository(f"{registry.host}/me/app", {}, config, mirrored=True) as store:
            image = store.read("1")
            assert image is not None
            assert image.digest == mirrored
            assert registry.requests == []
            assert store.platforms("2") == ("linux/amd64",)
            assert store.exists("1") is False
            mirror.fail("GET", *[fakes.error(500, "UNKNOWN")] * 4)
        with open_repository(f"{registry.host}/me/app", {}, config) as store:
            assert store.read("1") is None


def test_access_denied_at_publishing_is_not_taken_for_a_standing_tag() -> None:
    with fakes.running("basic") as fake:
        first, second = fake.add_image("me/app", "1"), fake.add_image("me/app", env="A=2")
        access = RegistryAccess(login=lambda: Login("bob", fake.users["bob"]))
        with RegistryStore(f"{fake.host}/me/app", access) as store:
            store.publish(first, "1")
            with pytest.raises(AuthenticationFailed, match="'bob'"):
                store.publish(second, "1")
