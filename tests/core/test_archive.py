"""Images as one tar file."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest

from imagesmith.stores import StoredImage
from imagesmith.stores._documents import MANIFEST, descriptor, digest_of
from imagesmith.stores.archive import engine_archive, loaded_as, tar_stream

LAYER = b"a layer" * 100_000


def opened(data: bytes) -> tarfile.TarFile:
    return tarfile.open(fileobj=io.BytesIO(data))


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 3_000_000])
def test_what_goes_in_comes_out(tmp_path: Path, size: int) -> None:
    file = tmp_path / "blob"
    file.write_bytes(b"x" * size)
    file.chmod(0o600)
    data = b"".join(tar_stream([("a", b"y" * size), ("deep/er/blob", file)]))
    assert len(data) % tarfile.RECORDSIZE == 0
    with opened(data) as archive:
        members = {member.name: member for member in archive}
        assert list(members) == ["deep", "deep/er", "a", "deep/er/blob"]
        content = archive.extractfile("deep/er/blob")
        assert content is not None
        assert content.read() == b"x" * size
        assert archive.extractfile("a").read() == b"y" * size  # type: ignore[union-attr]
    assert {member.mode for member in members.values()} == {0o755, 0o644}
    assert {(member.uid, member.gid, member.mtime) for member in members.values()} == {(0, 0, 0)}
    file.touch()
    assert b"".join(tar_stream([("a", b"y" * size), ("deep/er/blob", file)])) == data, "the same again"


def test_a_file_that_shrinks_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "blob"
    file.write_bytes(b"x" * 1000)
    stream = tar_stream([("blob", file)])
    next(stream)
    file.write_bytes(b"x")
    with pytest.raises(OSError, match="became shorter"):
        list(stream)


def test_what_an_engine_is_sent(tmp_path: Path) -> None:
    file = tmp_path / "layer"
    file.write_bytes(LAYER)
    base = {
        "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
        "digest": "sha256:" + "1" * 64,
        "size": 9,
    }
    mine = descriptor("application/vnd.oci.image.layer.v1.tar+zstd", LAYER)
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "layers": [base, mine]}
    image = StoredImage("", {"os": "linux"}, manifest, MANIFEST)
    config = b'{"os":"linux"}'
    with opened(b"".join(engine_archive(image, config, {str(mine["digest"]): file}))) as archive:
        files = {name: archive.extractfile(name) for name in archive.getnames()}
        read = {name: content.read() for name, content in files.items() if content is not None}
    (entry,) = json.loads(read["index.json"])["manifests"]
    assert entry["digest"] == loaded_as(image, config, containerd=True)
    assert json.loads(read["blobs/" + entry["digest"].replace(":", "/")])["layers"] == [base, mine]
    (listed,) = json.loads(read["manifest.json"])
    assert listed["RepoTags"] is None
    assert read[listed["Config"]] == config
    assert loaded_as(image, config, containerd=False) == digest_of(config)
    assert listed["Config"] == "blobs/" + digest_of(config).replace(":", "/")
    assert listed["Layers"][0] not in read, "the engine has the base"
    assert read[listed["Layers"][1]] == LAYER
    assert json.loads(read["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
