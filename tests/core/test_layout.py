"""An OCI layout folder as a store."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from imagesmith.errors import LayoutError
from imagesmith.stores import Store
from imagesmith.stores._documents import descriptor, digest_of, encode
from imagesmith.stores.layout import LayoutStore

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
LAYER = b"not really a layer"


def put_image(store: LayoutStore, architecture: str = "amd64", **config: object) -> str:
    """As a builder leaves one: blobs, but no entry in index.json."""
    body = encode({"os": "linux", "architecture": architecture, "config": config})
    store.put_blob(body)
    store.put_blob(LAYER)
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor("application/vnd.oci.image.config.v1+json", body),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", LAYER)],
        "annotations": {"kept": "yes"},
    }
    return store.put_blob(encode(manifest))


def index_json(store: LayoutStore) -> dict[str, list[dict[str, object]]]:
    document: dict[str, list[dict[str, object]]] = json.loads((store.path / "index.json").read_bytes())
    return document


def blobs(store: LayoutStore) -> set[str]:
    return {f"sha256:{path.name}" for path in (store.path / "blobs" / "sha256").iterdir()}


@pytest.fixture
def store(tmp_path: Path) -> LayoutStore:
    return LayoutStore(tmp_path / "deep" / "layout")


def test_it_is_a_store(store: LayoutStore) -> None:
    as_store: Store = store
    assert as_store.platforms("latest") == ()
    assert as_store.read("latest") is None
    assert as_store.read("sha256:" + "0" * 64) is None
    as_store.discard("latest")
    assert not store.path.exists(), "asking makes no folder"


def test_an_image_is_read_by_digest_and_published_by_tag(store: LayoutStore) -> None:
    digest = put_image(store, User="app")
    assert not (store.path / "index.json").exists(), "writing makes no tag"
    store.publish(digest, "v1")
    by_digest, by_tag = store.read(digest), store.read("v1", "linux/amd64")
    assert by_digest is not None
    assert by_digest == by_tag
    assert by_digest.config["config"] == {"User": "app"}
    assert by_digest.media_type == MANIFEST
    assert by_digest.size == (store.path / "blobs" / "sha256" / digest[7:]).stat().st_size
    assert store.platforms("v1") == ("linux/amd64",)
    assert store.read("v1", "linux/arm64") is None
    assert json.loads((store.path / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}
    assert index_json(store)["manifests"] == [
        {
            "mediaType": MANIFEST,
            "digest": digest,
            "size": by_digest.size,
            "platform": {"os": "linux", "architecture": "amd64"},
            "annotations": {"org.opencontainers.image.ref.name": "v1"},
        }
    ]


def test_a_tag_moves_and_others_stay(store: LayoutStore) -> None:
    one, two = put_image(store, User="one"), put_image(store, User="two")
    store.publish(one, "a")
    store.publish(one, "b")
    store.publish(two, "a")
    assert [(store.read(tag) or pytest.fail(tag)).digest for tag in ("a", "b")] == [two, one]
    assert len(index_json(store)["manifests"]) == 2


def test_a_new_configuration_keeps_layers_and_annotations(store: LayoutStore) -> None:
    digest = put_image(store, Env=["A=1"])
    image = store.read(digest)
    assert image is not None
    before = blobs(store)
    config = {**image.config, "config": {"Env": ["A=\n\"'$😀"]}}
    written = store.write_config(image, config)
    assert written == store.read(written.digest)
    assert written.config == config
    assert written.manifest is not None
    assert image.manifest is not None
    assert written.manifest["layers"] == image.manifest["layers"]
    assert written.manifest["annotations"] == {"kept": "yes"}
    assert len(blobs(store) - before) == 2
    assert store.write_config(image, config) == written, "the same again"
    assert not (store.path / "index.json").exists()


def test_an_index_over_platforms(store: LayoutStore) -> None:
    images = [store.read(put_image(store, name)) for name in ("amd64", "arm64")]
    index = store.write_index([image for image in images if image is not None])
    store.publish(index, "multi")
    assert store.platforms("multi") == ("linux/amd64", "linux/arm64")
    assert store.read("multi", "linux/arm64/v8") == images[1]
    assert store.read("multi", "linux/arm64/v9") == images[1], "an older one fits"
    assert store.read("multi", "linux/386") is None
    with pytest.raises(LayoutError, match=r"several platforms.*\n.*linux/amd64, linux/arm64"):
        store.read("multi")


def test_attestations_are_no_platform(store: LayoutStore) -> None:
    digest = put_image(store)
    body = (store.path / "blobs" / "sha256" / digest[7:]).read_bytes()
    entry = descriptor(MANIFEST, body)
    unknown = {"os": "unknown", "architecture": "unknown"}
    index = {
        "schemaVersion": 2,
        "manifests": [entry, {**entry, "platform": unknown, "digest": digest_of(b"none")}],
    }
    store.publish(store.put_blob(encode(index)), "attested")
    assert store.platforms("attested") == ("linux/amd64",)
    assert (store.read("attested") or pytest.fail("none")).digest == digest


def test_discard_takes_the_name_and_the_documents_that_only_it_led_to(store: LayoutStore) -> None:
    image = store.read(put_image(store, User="staged"))
    assert image is not None
    finished = store.write_config(image, {**image.config, "config": {"User": "final"}})
    store.publish(image.digest, "staging")
    store.publish(finished.digest, "v1")
    store.discard("staging")
    assert store.read("staging") is None
    assert store.read(image.digest) is None
    assert store.read("v1") == finished
    assert digest_of(LAYER) in blobs(store)
    assert len(blobs(store)) == 3
    store.publish(finished.digest, "v2")
    store.discard("v2")
    assert store.read("v1") == finished, "another name still leads there"


def test_publishing_what_is_not_there(store: LayoutStore) -> None:
    with pytest.raises(LayoutError, match="lacks the blob sha256:0000"):
        store.publish("sha256:" + "0" * 64, "v1")


def test_a_damaged_blob_is_not_taken(store: LayoutStore) -> None:
    digest = put_image(store)
    path = store.path / "blobs" / "sha256" / digest[7:]
    path.write_bytes(path.read_bytes().replace(b"yes", b"no!"))
    with pytest.raises(LayoutError, match="does not hold what its name says"):
        store.read(digest)


def test_a_digest_from_a_file_is_no_path(store: LayoutStore) -> None:
    store.path.mkdir(parents=True)
    entry = {
        "digest": "sha256:../../../etc/passwd",
        "annotations": {"org.opencontainers.image.ref.name": "v1"},
    }
    (store.path / "index.json").write_text(json.dumps({"manifests": [entry]}))
    with pytest.raises(LayoutError, match="is no sha256 digest"):
        store.read("v1")


@pytest.mark.parametrize("text", ["{", "[]", "\xff"])
def test_an_unreadable_index(store: LayoutStore, text: str) -> None:
    store.path.mkdir(parents=True)
    (store.path / "index.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(LayoutError, match=r"index\.json"):
        store.read("v1")


def test_a_folder_of_other_things_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(
        LayoutError, match=r"not an OCI image layout, and not empty \(it holds 'thesis.tex'\)"
    ):
        put_image(LayoutStore(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_in_the_way_and_a_later_version(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LayoutError, match=r"cannot use .*file as an image layout"):
        put_image(LayoutStore(tmp_path / "file"))
    (tmp_path / "oci-layout").write_text('{"imageLayoutVersion": "2.0.0"}')
    with pytest.raises(LayoutError, match=r"version '2\.0\.0'"):
        put_image(LayoutStore(tmp_path))


def test_writers_of_different_tags_lose_nothing_and_leave_no_drafts(store: LayoutStore) -> None:
    digest = put_image(store)
    threads = [
        threading.Thread(target=LayoutStore(store.path).publish, args=(digest, f"v{n}")) for n in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(index_json(store)["manifests"]) == 20
    assert {path.name for path in store.path.iterdir()} == {"blobs", "index.json", "oci-layout"}


def test_a_file_becomes_a_blob_without_a_copy_where_it_can(store: LayoutStore, tmp_path: Path) -> None:
    file = tmp_path / "layer"
    file.write_bytes(LAYER)
    digest = store.put_blob(file)
    assert digest == digest_of(LAYER)
    assert store.has_blob(digest)
    assert not store.has_blob(digest_of(b"other"))
    path = store.path / "blobs" / "sha256" / digest.removeprefix("sha256:")
    assert path.samefile(file)
    assert store.put_blob(file, digest) == digest, "the same again"
    private = tmp_path / "private"
    private.write_bytes(b"for one user")
    private.chmod(0o600)
    copied = store.path / "blobs" / "sha256" / store.put_blob(private).removeprefix("sha256:")
    assert copied.read_bytes() == b"for one user"
    assert copied.stat().st_mode & 0o777 == 0o644, "a layout is for everyone to read"
    assert private.stat().st_mode & 0o777 == 0o600


def test_a_blob_that_is_not_what_it_is_called_is_refused(store: LayoutStore, tmp_path: Path) -> None:
    file = tmp_path / "layer"
    file.write_bytes(LAYER)
    wrong = digest_of(b"other")
    for data in (file, LAYER):
        with pytest.raises(LayoutError, match=f"instead of {wrong}"):
            store.put_blob(data, wrong)
    with file.open("rb") as stream, pytest.raises(LayoutError, match=f"instead of {wrong}"):
        store.put_stream(stream, wrong)
    assert blobs(store) == set()


def test_several_threads_may_begin_one_layout(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    for number in range(50):
        store = LayoutStore(tmp_path / str(number))
        with ThreadPoolExecutor(8) as pool:
            assert len(set(pool.map(lambda n, store=store: store.put_blob(b"%d" % n), range(8)))) == 8
