"""Files that a builder leaves to the core: the layer itself, and when an edit needs no builder."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from imagesmith import (
    BaseImage,
    BuilderEntry,
    BuildPlan,
    BuildRequest,
    BuildResult,
    Built,
    ImageSpec,
    LocalEngine,
    Phase,
    RegistryRepository,
    Reporter,
    SourceError,
    VerificationFailed,
)
from imagesmith.files_layer import can_be_apart, solve, write_files
from imagesmith.plugins import Plugins
from imagesmith.scripts import NOT_BARE, bare_work_directory
from imagesmith.settings import Settings, load_settings
from imagesmith.sources import stage
from imagesmith.stores import StoredImage
from imagesmith.stores.registry import open_repository
from tests.core.fake_registry import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, running, sha
from tests.core.tars import content, entries
from tests.core.test_pipeline import Bench, Pushing

ZSTD = OCI_LAYER.replace("gzip", "zstd")


# The layer


def asked(folder: Path, **fields: Any) -> BuildRequest:
    source = folder / "project"
    (source / "inner" / "empty").mkdir(parents=True)
    (source / "inner" / "tool").write_text("#!/bin/sh\n")
    (source / "inner" / "tool").chmod(0o700)
    (source / "plain.py").write_text("text\n")
    (source / "plain.py").chmod(0o600)
    (source / "link").symlink_to("plain.py")
    spec = ImageSpec(**{"source_root": source, "user": "1234:99", **fields})
    place = RegistryRepository("example.org/x")
    return BuildRequest(spec, "linux/amd64", BaseImage("base"), place, stage(spec, folder / "staged"))


def over(media_type: str) -> StoredImage:
    return StoredImage("", {}, {"layers": [{"mediaType": media_type, "digest": "x"}]})


def test_the_layer_holds_the_files_and_the_work_directory(tmp_path: Path) -> None:
    request = asked(tmp_path, workdir="/srv/app")
    layer = write_files(request, over(OCI_LAYER), tmp_path / "layer")
    packed = layer.path.read_bytes()
    plain = gzip.decompress(packed)
    assert (layer.digest, layer.diff_id, layer.size) == (sha(packed), sha(plain), len(packed))
    assert layer.media_type == OCI_LAYER
    found = entries(plain)
    assert "srv" not in found, "a folder above is not described"
    told = {name: (oct(each.mode), each.uid, each.gid) for name, each in found.items()}
    assert told == {
        "srv/app": ("0o775", 1234, 0),
        "srv/app/inner": ("0o755", 0, 0),
        "srv/app/inner/empty": ("0o755", 0, 0),
        "srv/app/inner/tool": ("0o755", 0, 0),
        "srv/app/link": ("0o777", 0, 0),
        "srv/app/plain.py": ("0o644", 0, 0),
    }
    assert found["srv/app/link"].linkname == "plain.py"
    assert content(plain, "srv/app/plain.py") == b"text\n"


def test_it_is_compressed_as_the_layer_below_and_for_an_engine_not_at_all(tmp_path: Path) -> None:
    import zstandard

    request = asked(tmp_path)
    gz = write_files(request, over(OCI_LAYER), tmp_path / "gz")
    zstd = write_files(request, over(ZSTD), tmp_path / "zstd")
    local = write_files(replace(request, destination=LocalEngine("x:y")), over(ZSTD), tmp_path / "plain")
    assert gz.diff_id == zstd.diff_id == local.diff_id == local.digest
    assert (zstd.media_type, local.media_type) == (ZSTD, OCI_LAYER.removesuffix("+gzip"))
    unpacked = zstandard.ZstdDecompressor().decompressobj().decompress(zstd.path.read_bytes())
    assert unpacked == local.path.read_bytes()


def test_equal_files_give_an_equal_layer(tmp_path: Path) -> None:
    digests = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        request = asked(tmp_path / name)
        os.utime(tmp_path / name / "staged" / "source" / "plain.py", (1, len(digests)))
        digests.append(write_files(request, over(OCI_LAYER), tmp_path / f"{name}.tar").digest)
    assert digests[0] == digests[1]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, True),
        ({"user": "root"}, True),
        ({"user": None}, True),
        ({"user": "somebody"}, False),
        ({"commands": ["true"]}, False),
    ],
)
def test_when_files_can_be_apart(tmp_path: Path, fields: dict[str, Any], expected: bool) -> None:
    assert can_be_apart(asked(tmp_path, **fields)) is expected


def test_without_files_there_is_nothing_to_leave(tmp_path: Path) -> None:
    request = asked(tmp_path)
    assert not can_be_apart(replace(request, staged=replace(request.staged, has_source=False)))


def test_a_crowded_base_is_built_on_twice_and_remembered(tmp_path: Path) -> None:
    def tried(request: BuildRequest, *, bare: bool, apart: bool = True) -> tuple[bool, list[bool], int]:
        asked: list[bool] = []
        said: list[object] = []

        def once(apart: bool) -> bool:
            asked.append(apart)
            return bare or not apart

        plan = BuildPlan("some", request, {}, (), files_apart=apart)
        return solve(plan, tmp_path / "cache", said.append, once), asked, len(said)

    request = asked(tmp_path)
    assert tried(request, bare=True) == (True, [True], 0)
    assert tried(request, bare=False, apart=False) == (False, [False], 0)
    assert tried(request, bare=False) == (False, [True, False], 1)
    assert tried(request, bare=True) == (False, [False], 0)
    elsewhere = replace(request, spec=request.spec.replace(workdir="/elsewhere"))
    assert tried(elsewhere, bare=True) == (True, [True], 0)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give folders away")
@pytest.mark.parametrize(
    ("prepare", "bare"),
    [
        ("true", True),
        ("mkdir -p {top}/a/b", True),
        ("mkdir -p {top}/a/b && touch {top}/a/b/.hidden", False),
        ("mkdir -p {top}/a && chmod 0700 {top}/a", False),
        ("mkdir -p {top}/a && chown 1:0 {top}/a", False),
        ("mkdir -p {top}/c && ln -s c {top}/a", False),
        ("mkdir -p {top}/a {top}/c && ln -s ../c {top}/a/b", False),
    ],
)
def test_what_counts_as_bare(prepare: str, bare: bool) -> None:
    """In a folder that is as ``mkdir`` makes them all the way up."""
    top = Path("/usr/local") / f"imagesmith-test-{os.getpid()}"
    top.mkdir(mode=0o755)
    try:
        subprocess.run(["/bin/sh", "-ec", prepare.format(top=top)], check=True)
        spec = ImageSpec(workdir=f"{top}/a/b", user="7")
        request = BuildRequest(spec, "linux/amd64", BaseImage("b"), LocalEngine("x:y"), None)  # type: ignore[arg-type]
        argv = ["/bin/sh", "-euc", f"umask 022\n{bare_work_directory(request)}"]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert (done.returncode == 0) is bare, done.stderr
        assert (NOT_BARE in done.stderr) is not bare
        told = (top / "a" / "b").stat()
        assert (told.st_uid, told.st_gid, told.st_mode & 0o7777) == (7, 0, 0o775)
    finally:
        subprocess.run(["rm", "-r", str(top)], check=True)


# The pipeline


@dataclass
class Leaving(Pushing):
    """Pushes one layer of packages and leaves the files, unless it finds the base crowded."""

    crowded: bool = False
    promises: bool = True

    def plan(self, request: BuildRequest) -> BuildPlan:
        plan = super().plan(request)
        return replace(plan, files_apart=self.promises and can_be_apart(request))

    def build(self, plan: BuildPlan, report: Reporter) -> Built:
        self.built.append(plan)
        self.meanwhile(plan.request)
        place = plan.request.destination
        assert isinstance(place, RegistryRepository)
        what = plan.request.staged.digests if self.crowded else plan.request.spec.packages
        layer = f"{plan.request.platform} {what}".encode()
        config = {
            "os": "linux",
            "architecture": plan.request.platform.partition("/")[2],
            "rootfs": {"type": "layers", "diff_ids": [sha(layer)]},
        }
        raw = json.dumps(config).encode()
        with open_repository(place.repository, self.env) as store:
            layers = [{"mediaType": OCI_LAYER, "digest": store.put_blob(layer), "size": len(layer)}]
            described = {"mediaType": OCI_CONFIG, "digest": store.put_blob(raw), "size": len(raw)}
            manifest = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": described, "layers": layers}
            digest = store.put_manifest(json.dumps(manifest).encode(), OCI_MANIFEST)
        lacks = not (self.crowded or plan.request.spec.commands)
        return Built(place, digest, lacks_files=lacks)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    (tmp_path / "src").mkdir()
    with running() as registry:
        registry.add_image("base", "one", env="PYTHON_VERSION=3.12.1")
        env = {
            "HOME": str(tmp_path),
            "IMAGESMITH_CACHE_DIR": str(tmp_path / "cache"),
            "IMAGESMITH_BASE_IMAGE": f"{registry.host}/base:one",
            "IMAGESMITH_BUILDER": "leaving",
        }
        builder = Leaving(MappingProxyType(env), name="leaving")
        entry = BuilderEntry("leaving", "for tests", lambda environment: builder)
        plugins = Plugins(discover=False, entries=[entry])
        yield Bench(registry, builder, load_settings(tmp_path, env), plugins)


def edit(bench: Bench, tmp_path: Path, **files: str) -> BuildResult:
    """Build with these files, and no others, in the source folder."""
    for old in (tmp_path / "src").iterdir():
        old.unlink()
    for name, text in files.items():
        (tmp_path / "src" / f"{name}.py").write_text(text)
    bench.said.clear()
    return bench.build(bench.spec(source_root=tmp_path / "src"))


def seen(bench: Bench, result: BuildResult) -> tuple[int, dict[str, bytes]]:
    """How many layers there are, and the files of the last one."""
    repository, _, tag = result.reference.rpartition(":")
    with open_repository(repository, {}) as store:
        image = store.read(tag)
        assert image is not None
        assert image.manifest is not None
        layers: Any = image.manifest["layers"]
        plain = gzip.decompress(store.get_blob(layers[-1]["digest"]))
    rootfs: Any = image.config["rootfs"]
    assert len(rootfs["diff_ids"]) == len(layers)
    assert rootfs["diff_ids"][-1] == f"sha256:{hashlib.sha256(plain).hexdigest()}"
    files = [name for name, each in entries(plain).items() if each.isfile()]
    return len(layers), {name: content(plain, name) for name in files}


def phases(bench: Bench) -> list[str]:
    return [event.name for event in bench.said if isinstance(event, Phase)]


def test_an_edit_asks_no_builder(bench: Bench, tmp_path: Path) -> None:
    first = edit(bench, tmp_path, a="1", b="2")
    assert "building" in phases(bench)
    assert seen(bench, first) == (2, {"workspace/a.py": b"1", "workspace/b.py": b"2"})
    for files in ({"a": "3", "b": "2"}, {"b": "2"}, {"b": "2", "c": "x"}):
        result = edit(bench, tmp_path, **files)
        assert "building" not in phases(bench)
        assert seen(bench, result) == (2, {f"workspace/{k}.py": v.encode() for k, v in files.items()})
    assert len(bench.builder.built) == 1
    assert result.digest != first.digest


def test_an_edit_needs_no_readiness(bench: Bench, tmp_path: Path) -> None:
    from imagesmith import BuilderNotReady, Readiness

    edit(bench, tmp_path, a="1")
    bench.builder.readiness = Readiness(False, problem="away")
    edit(bench, tmp_path, a="2")
    with pytest.raises(BuilderNotReady, match="away"):
        bench.build(bench.spec(source_root=tmp_path / "src", packages=["six"]))


def test_the_same_files_again_make_the_same_layer(bench: Bench, tmp_path: Path) -> None:
    first = edit(bench, tmp_path, a="1")
    edit(bench, tmp_path, a="2")
    again = bench.build(replace_env(bench, tmp_path, a="1"))
    assert seen(bench, again) == seen(bench, first)
    assert len(bench.builder.built) == 1


def replace_env(bench: Bench, tmp_path: Path, **files: str) -> ImageSpec:
    for name, text in files.items():
        (tmp_path / "src" / f"{name}.py").write_text(text)
    return bench.spec(source_root=tmp_path / "src", env={"NEW": "1"})


def test_a_change_of_both_files_and_configuration(bench: Bench, tmp_path: Path) -> None:
    edit(bench, tmp_path, a="1")
    result = bench.build(replace_env(bench, tmp_path, a="2"))
    assert len(bench.builder.built) == 1
    assert seen(bench, result) == (2, {"workspace/a.py": b"2"})
    assert "NEW=1" in bench.config(result)["Env"]  # type: ignore[operator]


def test_who_goes_on_editing_while_it_builds_gets_what_was_hashed(bench: Bench, tmp_path: Path) -> None:
    def meanwhile(request: BuildRequest) -> None:
        (tmp_path / "src" / "a.py").write_text("2")

    bench.builder.meanwhile = meanwhile
    assert seen(bench, edit(bench, tmp_path, a="1"))[1] == {"workspace/a.py": b"1"}


def test_a_file_that_changes_after_it_was_hashed_fails_an_edit(bench: Bench, tmp_path: Path) -> None:
    edit(bench, tmp_path, a="1")
    before = bench.tags()
    real = bench.settings.default_base

    class Changing(Settings):
        def default_base(self, spec: ImageSpec) -> str:
            (tmp_path / "src" / "a.py").write_text("3")
            return real(spec)

    bench.settings = Changing(**{name: getattr(bench.settings, name) for name in Settings.__slots__})
    with pytest.raises(SourceError, match=r"a\.py"):
        edit(bench, tmp_path, a="2")
    assert bench.tags() == before
    assert len(bench.builder.built) == 1


def test_what_else_changes_is_built(bench: Bench, tmp_path: Path) -> None:
    edit(bench, tmp_path, a="1")
    for number, fields in enumerate(({"packages": ["six"]}, {"commands": ["true"]}, {"workdir": "/else"})):
        bench.build(bench.spec(source_root=tmp_path / "src", **fields))
        assert len(bench.builder.built) == number + 2
    forced = bench.build(bench.spec(source_root=tmp_path / "src"), force=True)
    assert len(bench.builder.built) == 5
    assert seen(bench, forced) == (2, {"workspace/a.py": b"1"})


def test_a_builder_that_copied_them_after_all_is_asked_each_time(bench: Bench, tmp_path: Path) -> None:
    bench.builder.crowded = True  # type: ignore[attr-defined]
    for number, text in enumerate(("1", "2")):
        edit(bench, tmp_path, a=text)
        assert len(bench.builder.built) == number + 1
    bench.build(replace_env(bench, tmp_path, a="2"))
    assert len(bench.builder.built) == 2, "of the same files the configuration alone is made"


def test_where_the_registry_lost_a_layer_all_is_built_again(bench: Bench, tmp_path: Path) -> None:
    first = edit(bench, tmp_path, a="1")
    repository, _, tag = first.reference.rpartition(":")
    with open_repository(repository, {}) as store:
        image = store.read(tag)
    assert image is not None
    assert image.manifest is not None
    layers: Any = image.manifest["layers"]
    del bench.registry.blobs["me/app", layers[0]["digest"]]
    result = edit(bench, tmp_path, a="2")
    assert len(bench.builder.built) == 2
    assert seen(bench, result) == (2, {"workspace/a.py": b"2"})


def test_files_left_out_against_the_plan_are_an_error(bench: Bench, tmp_path: Path) -> None:
    bench.builder.promises = False  # type: ignore[attr-defined]
    with pytest.raises(VerificationFailed, match="left out files") as caught:
        edit(bench, tmp_path, a="1")
    assert "mistake of the builder" in (caught.value.hint or "")
    assert bench.tags() == set()


def test_each_platform_gets_the_files(bench: Bench, tmp_path: Path) -> None:
    entries = [
        {
            "mediaType": OCI_MANIFEST,
            "digest": bench.registry.add_image("base", platform=f"linux/{arch}", env="A=1"),
            "size": 1,
            "platform": {"os": "linux", "architecture": arch},
        }
        for arch in ("amd64", "arm64")
    ]
    kind = "application/vnd.oci.image.index.v1+json"
    index = {"schemaVersion": 2, "mediaType": kind, "manifests": entries}
    bench.registry.add_manifest("base", kind, index, "both")
    for text in ("1", "2"):
        (tmp_path / "src" / "a.py").write_text(text)
        spec = bench.spec(
            base_image=f"{bench.registry.host}/base:both",
            platform=["linux/amd64", "linux/arm64"],
            source_root=tmp_path / "src",
        )
        result = bench.build(spec)
        repository, _, tag = result.reference.rpartition(":")
        with open_repository(repository, {}) as store:
            found = {image.manifest["layers"][-1]["digest"]  # type: ignore[index, union-attr]
                     for image in (store.read(tag, each) for each in spec.platforms) if image}  # fmt: skip
            [digest] = found
            assert content(gzip.decompress(store.get_blob(digest)), "workspace/a.py") == text.encode()
    assert len(bench.builder.built) == 2
