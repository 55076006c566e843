"""What an engine is sent of an image whose layers are files, and what follows from its answers."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from imagesmith.errors import EngineError
from imagesmith.stores import LayerFiles, StoredImage
from imagesmith.stores._documents import MANIFEST, descriptor
from imagesmith.stores.local import LocalStore

LAYERS = [b"base " * 1000, b"packages " * 1000, b"source"]
DESCRIPTORS = [descriptor("application/vnd.oci.image.layer.v1.tar", data) for data in LAYERS]
DIGESTS = [str(each["digest"]) for each in DESCRIPTORS]
CONFIG = {"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": DIGESTS}}


@dataclass
class Client:
    """An engine that has some layers, or says something else."""

    has: set[str]
    containerd: bool
    says: str | None = None
    loads: list[set[str]] = field(default_factory=list)
    images: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    removed: list[str] = field(default_factory=list)

    def info(self) -> object:
        return {"DriverStatus": [["driver-type", "io.containerd.snapshotter.v1"]] if self.containerd else []}

    def load_image(self, data: Iterator[bytes]) -> Sequence[Mapping[str, str]]:
        with tarfile.open(fileobj=io.BytesIO(b"".join(data))) as archive:
            files = {member.name: archive.extractfile(member) for member in archive if member.isfile()}
            read = {name: content.read() for name, content in files.items() if content}
        sent = {"sha256:" + name[-64:] for name in read if name.startswith("blobs/")}
        self.loads.append(sent & set(DIGESTS))
        digest = json.loads(read["index.json"])["manifests"][0]["digest"]
        config = json.loads(read["manifest.json"])[0]["Config"]
        document = json.loads(read[config])
        name = digest if self.containerd else "sha256:" + config[-64:]
        if self.containerd or not set(DIGESTS) - self.has - sent:
            self.images[name] = {
                "Id": name,
                "Architecture": document["architecture"],
                "Os": document["os"],
                "RootFS": {"Layers": DIGESTS},
                "RepoTags": [],
            }
        if self.says:
            return [{"error": self.says}]
        if missing := set(DIGESTS) - self.has - sent:
            where = f"open /x/{missing.pop()}: no such file or directory"
            return [{"error": f"content digest {missing}: not found" if self.containerd else where}]
        return [{"stream": f"Loaded image ID: {name}"}]

    def inspect_image(self, ref: str) -> Mapping[str, Any]:
        from docker.errors import ImageNotFound

        if ref not in self.images:
            raise ImageNotFound(ref)
        return self.images[ref]

    def history(self, ref: str) -> Sequence[Mapping[str, Any]]:
        return []

    def remove_image(self, ref: str) -> None:
        self.removed.append(ref)
        del self.images[ref]


@dataclass
class Files:
    """The layers as files; ``fetched`` tells which were asked for."""

    folder: Path
    fetched: list[str] = field(default_factory=list)

    def path(self, number: int) -> Path:
        path = self.folder / str(number)
        path.write_bytes(LAYERS[number])
        return path

    def get(self, wanted: Mapping[str, object]) -> Path:
        self.fetched.append(str(wanted["digest"]))
        return self.path(DIGESTS.index(str(wanted["digest"])))


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@pytest.fixture(params=[True, False], ids=["containerd", "classic"])
def containerd(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def taken(client: Client, files: Files, *new: int) -> StoredImage:
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "layers": DESCRIPTORS}
    given = LayerFiles({DIGESTS[number]: files.path(number) for number in new}, files.get)
    image = StoredImage("", CONFIG, manifest, MANIFEST, files=given)
    return LocalStore(cast("Any", client)).write_config(image, {**CONFIG, "config": {"Env": ["A=b"]}})


def test_only_what_is_new_is_sent(files: Files, containerd: bool) -> None:
    client = Client(set(DIGESTS[:2]), containerd)
    image = taken(client, files, 2)
    assert client.loads == [{DIGESTS[2]}]
    assert files.fetched == []
    assert list(client.images) == [image.digest]


def test_all_is_sent_where_something_is_lacking(files: Files, containerd: bool) -> None:
    client = Client(set(), containerd)
    image = taken(client, files, 2)
    assert client.loads == [{DIGESTS[2]}, set(DIGESTS)]
    assert files.fetched == DIGESTS[:2], "what is new is there already"
    assert client.removed == []
    assert list(client.images) == [image.digest]


def test_another_refusal_is_an_error_and_nothing_stays(files: Files, containerd: bool) -> None:
    client = Client(set(), containerd, says="no space left on device")
    with pytest.raises(EngineError, match="no space left"):
        taken(client, files, 2)
    assert len(client.loads) == 1
    assert client.images == {}


def test_a_file_that_is_gone_is_said_as_such(files: Files, containerd: bool) -> None:
    client = Client(set(DIGESTS), containerd)
    gone = LayerFiles({DIGESTS[2]: files.folder / "gone"}, files.get)
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "layers": DESCRIPTORS}
    image = StoredImage("", CONFIG, manifest, MANIFEST, files=gone)
    with pytest.raises(FileNotFoundError, match="gone"):
        LocalStore(cast("Any", client)).write_config(image, CONFIG)
    assert client.loads == []
