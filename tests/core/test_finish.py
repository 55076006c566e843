"""From what a builder left to what was asked for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from imagesmith import BaseImage, Contribution, ImageSpec
from imagesmith.builder import LayoutFolder
from imagesmith.configuration import document, wanted
from imagesmith.errors import VerificationFailed
from imagesmith.finish import finish
from imagesmith.stores import Store, StoredImage
from imagesmith.stores._documents import descriptor, encode
from imagesmith.stores.layout import LayoutStore
from imagesmith.testing import MemoryStore

BASE_CONFIG = {
    "architecture": "amd64",
    "os": "linux",
    "created": "2024-05-06T07:08:09Z",
    "config": {"Env": ["FOO=base", "PATH=/usr/bin"], "Cmd": ["python3"], "Labels": {"of": "base"}},
    "rootfs": {"type": "layers", "diff_ids": ["sha256:" + "1" * 64]},
    "history": [{"created_by": "ADD"}],
}
BASE = BaseImage("docker.io/library/python:3.12", "sha256:" + "b" * 64, BASE_CONFIG)
LEFT = {
    **BASE_CONFIG,
    "config": {
        "Env": ["FOO=base", "LANG=C", "LANG=C.UTF-8", "TOKEN=hunter2"],
        "Labels": {"ai.tensorchord.envd.graph": "hunter2"},
        "Entrypoint": ["/horust"],
        "OnBuild": ["RUN x"],
    },
    "rootfs": {"type": "layers", "diff_ids": ["sha256:" + "1" * 64, "sha256:" + "2" * 64]},
    "history": [{"created_by": "ADD"}, {"created_by": "RUN TOKEN=hunter2 make"}],
}
SPEC = ImageSpec("app", env={"FOO": "mine", "BAR": "a b\n\"'$x😀"}, entrypoint=["python", "-m", "app"])
CONTRIBUTION = Contribution(path=("/opt/venv/bin",))


def finished(store: Store, built: str | StoredImage, spec: ImageSpec = SPEC, **more: str) -> StoredImage:
    return finish(
        store,
        built,
        base=BASE,
        spec=spec,
        contribution=CONTRIBUTION,
        tag="t1",
        builder="envd 0.1.0",
        version="0.1.0",
        **more,
    )


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def test_whatever_was_left_the_configuration_is_what_was_asked_for(store: MemoryStore) -> None:
    built = store.add(LEFT)
    image = finished(store, built)
    assert image.config["config"] == wanted(
        BASE, SPEC, CONTRIBUTION, tag="t1", builder="envd 0.1.0", version="0.1.0"
    )
    config = image.config["config"]
    assert isinstance(config, Mapping)
    assert config["Env"] == [
        "FOO=mine",
        "PATH=/opt/venv/bin:/usr/bin",
        "BAR=a b\n\"'$x😀",
        f"IMAGESMITH_ID={SPEC.id}",
        "PYTHONPATH=/workspace:/opt/imagesmith",
    ]
    assert "Cmd" not in config
    assert "hunter2" not in repr(image.config)
    assert image.config["rootfs"] == LEFT["rootfs"]
    assert image.manifest is not None
    before = store.read(built)
    assert before is not None
    assert before.manifest is not None
    assert image.manifest["layers"] == before.manifest["layers"], "no layer moves"
    assert store.tags == {}, "nothing is published"


def test_an_image_without_a_manifest_gets_one(store: MemoryStore) -> None:
    read = store.read(store.add(LEFT))
    assert read is not None
    assert read.manifest is not None
    layers = {key: value for key, value in read.manifest.items() if key != "config"}
    config = {key: LEFT[key] for key in ("os", "architecture", "rootfs")}
    left = StoredImage("", config, layers, read.media_type)
    image = finished(store, left)
    assert image == finished(store, store.add(LEFT)), "the same as of one that was written"
    with pytest.raises(VerificationFailed, match="no image for linux/arm64 but one for linux/amd64"):
        finished(store, left, platform="linux/arm64")


def test_the_same_twice_is_the_same_digest(store: MemoryStore) -> None:
    first = finished(store, store.add(LEFT))
    again = finished(store, store.add({**LEFT, "created": "2030-01-01T00:00:00Z"}))
    assert first == again
    assert first.config["created"] == BASE_CONFIG["created"]
    later = finished(store, store.add(LEFT), created="2001-01-01T00:00:00Z")
    assert later.config["created"] == "2001-01-01T00:00:00Z"


def test_an_image_that_is_right_already_is_kept() -> None:
    class ReadOnly(MemoryStore):
        def write_config(self, image: StoredImage, config: Mapping[str, object]) -> StoredImage:
            raise AssertionError("nothing differs")

    store = ReadOnly()
    config = wanted(BASE, SPEC, CONTRIBUTION, tag="t1", builder="envd 0.1.0", version="0.1.0")
    built = store.add(
        {**document(LEFT, BASE_CONFIG, config, builder="envd 0.1.0"), "created": "by the builder"}
    )
    assert finished(store, built).digest == built


def test_history_alone_is_a_reason_to_write(store: MemoryStore) -> None:
    config = wanted(BASE, SPEC, CONTRIBUTION, tag="t1", builder="envd 0.1.0", version="0.1.0")
    built = store.add({**LEFT, "config": config})
    image = finished(store, built)
    assert image.digest != built
    assert "hunter2" not in repr(image.config)


def test_a_history_that_cannot_be_read_is_written_anew() -> None:
    """As of an image in the containerd store that is not unpacked: what it holds might be a secret."""

    class Untold(MemoryStore):
        def read(self, ref: str, platform: str | None = None) -> StoredImage | None:
            image = super().read(ref, platform)
            assert image is not None
            untold = {key: value for key, value in image.config.items() if key != "history"}
            return StoredImage(image.digest, untold, image.manifest)

    store = Untold()
    config = wanted(BASE, SPEC, CONTRIBUTION, tag="t1", builder="envd 0.1.0", version="0.1.0")
    built = store.add({**LEFT, "config": config})
    image = MemoryStore.read(store, finished(store, built).digest)
    assert image is not None
    assert image.digest != built
    assert "hunter2" not in repr(image.config)


def test_a_store_that_changes_what_is_written_is_found_out() -> None:
    class Forgetful(MemoryStore):
        """As an engine's commit: what is not named comes back, and a newline gets lost."""

        def write_config(self, image: StoredImage, config: Mapping[str, object]) -> StoredImage:
            inner = dict(config["config"])  # type: ignore[call-overload]
            inner["Env"] = [pair.replace("\n", " ") for pair in inner["Env"]] + ["TOKEN=hunter2"]
            inner["Cmd"] = ["python3"]
            return super().write_config(image, {**config, "config": inner})

    store = Forgetful()
    built = store.add(LEFT)
    with pytest.raises(VerificationFailed) as raised:
        finished(store, built)
    text = str(raised.value)
    assert "nothing was published" in text
    assert "env BAR: another value" in text
    assert "env TOKEN: not wanted" in text
    assert "Cmd: ['python3'] instead of None" in text
    assert "hunter2" not in text
    assert store.tags == {}


def test_a_store_that_loses_the_image_is_found_out() -> None:
    class Losing(MemoryStore):
        def write_config(self, image: StoredImage, config: Mapping[str, object]) -> StoredImage:
            return StoredImage("sha256:" + "0" * 64, config)

    store = Losing()
    with pytest.raises(VerificationFailed, match="the store does not know it"):
        finished(store, store.add(LEFT))


def test_a_builder_that_left_nothing(store: MemoryStore) -> None:
    with pytest.raises(VerificationFailed, match=r"envd 0\.1\.0 left no image.*nothing stands there"):
        finished(store, "sha256:" + "0" * 64)


def test_a_builder_that_left_another_platform(store: MemoryStore) -> None:
    built = store.add(LEFT)
    with pytest.raises(VerificationFailed, match=r"no image for linux/arm64 .*linux/amd64 stands there"):
        finished(store, built, platform="linux/arm64")
    assert finished(store, built, platform="linux/amd64").platform == "linux/amd64"


def test_two_platforms_and_their_index(store: MemoryStore) -> None:
    images = [
        finished(store, store.add({**LEFT, "architecture": name}), platform=f"linux/{name}")
        for name in ("amd64", "arm64")
    ]
    store.publish(store.write_index(images), "v1")
    assert store.platforms("v1") == ("linux/amd64", "linux/arm64")
    assert store.read("v1", "linux/arm64/v8") == images[1]
    store.discard("v1")
    assert store.read("v1") is None


def test_in_a_layout_folder_as_well(tmp_path: Path) -> None:
    store = LayoutStore(LayoutFolder(tmp_path / "out").path)
    body = encode(LEFT)
    store.put_blob(body)
    layers = [descriptor("application/vnd.oci.image.layer.v1.tar", b"one")]
    manifest = {"schemaVersion": 2, "config": descriptor("application/vnd.oci.image.config.v1+json", body)}
    built = store.put_blob(encode({**manifest, "layers": layers}))
    image = finished(store, built, platform="linux/amd64")
    assert store.read(image.digest) == image
    memory = MemoryStore()
    assert image.config == finished(memory, memory.add(LEFT)).config, "the same in every store"
    assert "hunter2" not in repr(image)
