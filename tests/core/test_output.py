"""``--output``: a layout folder, or one tar file."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from imagesmith import BuildResult, ExistenceUnknown, ImageSpec, LayoutError, UsageError, build
from imagesmith.plugins import Plugins
from imagesmith.settings import Settings, load_settings
from imagesmith.stores.layout import LayoutStore
from tests.core.fake_registry import OCI_INDEX, OCI_MANIFEST, FakeRegistry, error, running, sha
from tests.live.layering import Layering, entry


@dataclass
class Bench:
    registry: FakeRegistry
    builder: Layering
    settings: Settings
    out: Path

    def build(self, output: Path, **fields: object) -> BuildResult:
        given = {"name": "app", "base_image": f"{self.registry.host}/base:both", **fields}
        plugins = Plugins(discover=False, entries=[entry(self.builder)])
        force = bool(given.pop("force", False))
        spec = ImageSpec(**given)  # type: ignore[arg-type]
        return build(spec, output=output, settings=self.settings, plugins=plugins, force=force)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with running() as registry:
        entries = []
        for arch in ("amd64", "arm64"):
            digest = registry.add_image("base", platform=f"linux/{arch}", env="PYTHON_VERSION=3.12.1")
            media_type, raw = registry.manifests["base", digest]
            manifest = json.loads(raw)
            config = json.loads(registry.blobs["base", manifest["config"]["digest"]])
            config["rootfs"]["diff_ids"] = [sha(arch.encode())]
            data = json.dumps(config).encode()
            manifest["config"] |= {"digest": registry.add_blob("base", data), "size": len(data)}
            digest = registry.add_manifest("base", media_type, manifest)
            platform = {"os": "linux", "architecture": arch}
            entries.append(
                {"mediaType": OCI_MANIFEST, "digest": digest, "size": len(raw), "platform": platform}
            )
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
        registry.add_manifest("base", OCI_INDEX, index, "both")
        cache = tmp_path / "layers"
        cache.mkdir()
        settings = load_settings(tmp_path, {"IMAGESMITH_CACHE_DIR": str(tmp_path / "cache")})
        builder = Layering({}, cache)
        out = tmp_path / "out"
        out.mkdir()
        settings = load_settings(tmp_path, {**settings.env, "IMAGESMITH_BUILDER": "layering"})
        yield Bench(registry, builder, settings, out)


def contents(file: Path) -> dict[str, bytes]:
    with tarfile.open(file) as archive:
        read = {member.name: archive.extractfile(member) for member in archive if member.isfile()}
        return {name: content.read() for name, content in read.items() if content is not None}


def test_one_file_is_a_layout_and_what_docker_lists(bench: Bench) -> None:
    result = bench.build(bench.out / "image.tar", env={"A": "b"})
    file = bench.out / "image.tar"
    assert [path.name for path in bench.out.iterdir()] == ["image.tar"], "nothing else stays"
    assert file.stat().st_mode & 0o777 == 0o644
    tag = result.reference.rpartition(":")[2]
    assert result.reference == f"{file}:{tag}"
    read = contents(file)
    (named,) = json.loads(read["index.json"])["manifests"]
    assert named["digest"] == result.digest
    assert named["annotations"] == {
        "io.containerd.image.name": f"docker.io/library/app:{tag}",
        "org.opencontainers.image.ref.name": tag,
    }
    blobs = {name: data for name, data in read.items() if name.startswith("blobs/")}
    assert all(sha(data) == "sha256:" + name.rpartition("/")[2] for name, data in blobs.items())
    (listed,) = json.loads(read["manifest.json"])
    assert listed["RepoTags"] == [f"app:{tag}"]
    config = json.loads(read[listed["Config"]])
    assert "A=b" in config["config"]["Env"]
    assert len(listed["Layers"]) == 2
    assert set(listed["Layers"]) <= set(blobs)
    assert len(blobs) == 4, "layers, configuration, manifest"


def test_the_name_is_that_of_the_registry_where_the_spec_names_one(bench: Bench) -> None:
    result = bench.build(bench.out / "image.tar", registry="registry.example/me")
    tag = result.reference.rpartition(":")[2]
    read = contents(bench.out / "image.tar")
    (named,) = json.loads(read["index.json"])["manifests"]
    assert named["annotations"]["io.containerd.image.name"] == f"registry.example/me/app:{tag}"
    assert json.loads(read["manifest.json"])[0]["RepoTags"] == [f"registry.example/me/app:{tag}"]


def test_the_same_again_is_reused_and_the_same_bytes(bench: Bench) -> None:
    file = bench.out / "image.tar"
    first = bench.build(file)
    data = file.read_bytes()
    again = bench.build(file)
    assert again.reused
    assert (again.digest, again.builder) == (first.digest, "layering 1.0")
    assert not bench.build(file, force=True).reused
    assert file.read_bytes() == data
    other = bench.build(file, env={"A": "b"})
    assert not other.reused
    assert bench.build(file, env={"A": "b"}).reused
    assert not bench.build(file).reused, "one file holds one image"


def test_several_platforms_in_one_file(bench: Bench) -> None:
    platforms = ["linux/arm64", "linux/amd64"]
    result = bench.build(bench.out / "image.tar", platform=platforms)
    read = contents(bench.out / "image.tar")
    (named,) = json.loads(read["index.json"])["manifests"]
    assert named["digest"] == result.digest
    index = json.loads(read["blobs/" + result.digest.replace(":", "/")])
    assert [each["platform"]["architecture"] for each in index["manifests"]] == ["arm64", "amd64"]
    (listed,) = json.loads(read["manifest.json"])
    assert json.loads(read[listed["Config"]])["architecture"] == "arm64", "the first one"
    again = bench.build(bench.out / "image.tar", platform=platforms)
    assert again.reused
    assert again.digest == result.digest


def test_a_folder_holds_several_images(bench: Bench) -> None:
    folder = bench.out / "layout"
    first = bench.build(folder)
    second = bench.build(folder, env={"A": "b"})
    store = LayoutStore(folder)
    for result in (first, second):
        assert store.resolve(result.reference.rpartition(":")[2]) == result.digest
    assert bench.build(folder).reused
    (bench.out / "odd.tar").mkdir()
    assert bench.build(bench.out / "odd.tar").digest == first.digest
    assert (bench.out / "odd.tar" / "index.json").exists(), "a folder that is there is a folder"


def test_a_failing_build_leaves_the_old_file(bench: Bench) -> None:
    file = bench.out / "image.tar"
    bench.build(file)
    data = file.read_bytes()
    bench.registry.fail("GET .*/blobs/", *[error(404, "BLOB_UNKNOWN")] * 9)
    with pytest.raises(Exception, match="lacks the blob"):
        bench.build(file, env={"A": "b"})
    assert file.read_bytes() == data
    assert [path.name for path in bench.out.iterdir()] == ["image.tar"]


def test_a_file_that_is_something_else_is_not_replaced(bench: Bench) -> None:
    file = bench.out / "image.tar"
    file.write_bytes(b"my thesis")
    with pytest.raises(ExistenceUnknown, match=r"image\.tar is no image that imagesmith wrote"):
        bench.build(file)
    assert file.read_bytes() == b"my thesis"
    other = bench.out / "image.tgz"
    other.write_bytes(b"")
    with pytest.raises(UsageError, match=r"ends in \.tar"):
        bench.build(other)


def test_a_disk_that_cannot_be_written_is_an_error(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(members: object) -> Iterator[bytes]:
        yield b"x"
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("imagesmith.stores.archive.tar_stream", full)
    with pytest.raises(LayoutError, match="No space left on device"):
        bench.build(bench.out / "image.tar")
    assert list(bench.out.iterdir()) == []
