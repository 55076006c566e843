"""What a builder's engine attests about its image, said of the finished one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from imagesmith.stores import StoredImage
from imagesmith.stores._attestations import carry_over, package_url
from imagesmith.stores._documents import CONFIG, INDEX, MANIFEST, descriptor, digest_of, encode
from imagesmith.stores.layout import LayoutStore
from imagesmith.testing import MemoryStore

STATEMENT = "application/vnd.in-toto+json"
PREDICATES = ("https://slsa.dev/provenance/v0.2", "https://spdx.dev/Document")
IMAGE = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}


def put(
    store: LayoutStore, config: dict[str, object], layers: list[dict[str, object]], **more: object
) -> bytes:
    """A manifest of these parts."""
    data = encode(config)
    store.put_blob(data)
    return encode({"schemaVersion": 2, "config": descriptor(CONFIG, data), "layers": layers, **more})


def left(store: LayoutStore, **more: Any) -> tuple[str, str]:
    """An index as BuildKit leaves one. Its digest, and that of its image."""
    image = put(store, IMAGE, [])
    digest = store.put_blob(image)
    subject = [{"name": "pkg:docker/staging", "digest": {"sha256": digest.removeprefix("sha256:")}}]
    statements = [
        encode({"_type": "x", "predicateType": kind, "subject": subject, "predicate": {"é": 1}})
        for kind in PREDICATES
    ]
    layers = [
        {**descriptor(STATEMENT, data), "annotations": {"in-toto.io/predicate-type": kind}}
        for kind, data in zip(PREDICATES, statements, strict=True)
    ]
    diff_ids = [store.put_blob(data) for data in statements]
    config = {"architecture": "unknown", "os": "unknown", "rootfs": {"type": "layers", "diff_ids": diff_ids}}
    attested = put(store, config, layers, **more)
    store.put_blob(attested)
    about = {
        "vnd.docker.reference.digest": digest,
        "vnd.docker.reference.type": "attestation-manifest",
    }
    other = {**about, "vnd.docker.reference.digest": "sha256:" + "9" * 64}
    nowhere = {"architecture": "unknown", "os": "unknown"}
    entries = [
        {**descriptor(MANIFEST, image), "platform": {"architecture": "amd64", "os": "linux"}},
        {**descriptor(MANIFEST, attested), "annotations": about, "platform": nowhere},
        {**descriptor(MANIFEST, attested), "annotations": other, "platform": nowhere},
    ]
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}
    return store.put_blob(encode(index)), digest


def loaded(store: LayoutStore, entry: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(store.get_blob(str(entry["digest"])))
    return found


@pytest.fixture
def store(tmp_path: Path) -> LayoutStore:
    return LayoutStore(tmp_path / "layout")


def test_all_that_names_the_image_names_the_finished_one(store: LayoutStore) -> None:
    index, old = left(store, subject={"mediaType": MANIFEST, "digest": "sha256:old", "size": 1, "x": 1})
    image = store.read(index, "linux/amd64")
    assert image is not None
    assert image.digest == old
    new = store.write_config(image, {**IMAGE, "config": {"User": "1"}})
    attested = carry_over(store, index, new, "t1")
    (entry,) = attested
    assert entry["annotations"] == {
        "vnd.docker.reference.digest": new.digest,
        "vnd.docker.reference.type": "attestation-manifest",
    }
    manifest = loaded(store, entry)
    assert manifest["subject"] == {"mediaType": MANIFEST, "digest": new.digest, "size": new.size}
    digests = [layer["digest"] for layer in manifest["layers"]]
    assert loaded(store, manifest["config"])["rootfs"]["diff_ids"] == digests
    for layer, kind in zip(manifest["layers"], PREDICATES, strict=True):
        assert layer["annotations"] == {"in-toto.io/predicate-type": kind}
        statement = loaded(store, layer)
        assert layer["size"] == len(encode(statement))
        hexadecimal = new.digest.removeprefix("sha256:")
        assert statement["subject"] == [{"name": "_", "digest": {"sha256": hexadecimal}}]
        assert (statement["predicateType"], statement["predicate"]) == (kind, {"é": 1})
    published = store.write_index([replace(new, attestations=attested)])
    listed = json.loads(store.get_blob(published))["manifests"]
    assert [each["digest"] for each in listed] == [new.digest, entry["digest"]]
    assert store.platforms(published) == ("linux/amd64",)
    assert digest_of(encode(manifest)) == entry["digest"]


def test_nothing_is_attested_of_an_image_without_an_index(store: LayoutStore) -> None:
    digest = store.put_blob(put(store, IMAGE, []))
    image = store.read(digest)
    assert image is not None
    assert carry_over(store, digest, image, "t") == ()
    assert carry_over(store, "", image, "t") == ()


def test_a_store_that_keeps_no_documents_has_no_attestations() -> None:
    memory = MemoryStore()
    digest = memory.add(IMAGE)
    assert carry_over(memory, digest, StoredImage(digest, IMAGE), "t") == ()


def test_how_an_image_is_called() -> None:
    assert package_url("r:5000/a/b", "t+1", "linux/arm64/v8") == (
        "pkg:docker/r%3A5000/a/b@t%2B1?platform=linux%2Farm64%2Fv8"
    )
