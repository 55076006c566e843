"""A builder without an engine, as small as it can be: the source as one layer on the base's layers."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from imagesmith import (
    BuilderEntry,
    BuildPlan,
    BuildRequest,
    Built,
    Environment,
    Feature,
    LayoutFolder,
    LocalEngine,
    Readiness,
    Reporter,
    Support,
)
from imagesmith.stores import LayerFiles, StoredImage
from imagesmith.stores._documents import MANIFEST, digest_of
from imagesmith.stores.layout import LayoutStore
from imagesmith.stores.registry import RegistryStore, open_repository
from imagesmith.stores.transfer import carry_blob, download_blob

GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"


@dataclass
class Layering:
    """``known`` is what it remembers of where it leaves images; ``sent`` what it was asked for beside."""

    env: Mapping[str, str]
    folder: Path
    name: str = "layering"
    version: str = "1.0"
    features: Mapping[Feature, Support] = field(default_factory=lambda: dict.fromkeys(Feature, Support.FULL))
    known: set[str] = field(default_factory=set)
    sent: list[str] = field(default_factory=list)
    built: list[BuildRequest] = field(default_factory=list)
    meanwhile: Callable[[RegistryStore], None] = lambda store: None

    def ready(self) -> Readiness:
        return Readiness(True)

    def refusals(self, request: BuildRequest) -> Mapping[str, str]:
        return {}

    def plan(self, request: BuildRequest) -> BuildPlan:
        return BuildPlan(self.name, request, {}, commands=())

    def build(self, plan: BuildPlan, report: Reporter) -> Built:
        request = plan.request
        self.built.append(request)
        if request.ask_again:
            self.known.clear()
        repository = request.base.reference.rpartition(":")[0]
        config = request.spec.registry_config
        below = request.base.manifest["layers"]
        rootfs = request.base.config["rootfs"]
        assert isinstance(below, (list, tuple))
        assert isinstance(rootfs, Mapping)
        raw = _tar(request)
        data = gzip.compress(raw, mtime=0)
        file = self.folder / digest_of(data)[7:]
        file.write_bytes(data)
        mine = {"mediaType": GZIP, "digest": digest_of(data), "size": len(data)}
        files = None
        with open_repository(repository, self.env, config) as source:
            match request.destination:
                case LayoutFolder(path):
                    layout = LayoutStore(path)
                    layout.put_blob(file)
                    for layer in below:
                        carry_blob(source, layout, layer)
                case LocalEngine():
                    new = {} if digest_of(data) in self.known else {digest_of(data): file}
                    files = LayerFiles(new, self._fetch)
                case there:
                    with open_repository(there.repository, self.env, config) as store:
                        self.meanwhile(store)
                        if digest_of(data) not in self.known:
                            store.put_blob(file)
                            for layer in below:
                                carry_blob(source, store, layer)
        self.known.add(digest_of(data))
        self._base = repository
        return Built(
            request.destination,
            "",
            image=StoredImage(
                "",
                {
                    "os": request.platform.split("/")[0],
                    "architecture": request.platform.split("/")[1],
                    "rootfs": {"type": "layers", "diff_ids": [*rootfs["diff_ids"], digest_of(raw)]},
                },
                {
                    "schemaVersion": 2,
                    "mediaType": MANIFEST,
                    "layers": [*({**layer, "mediaType": GZIP} for layer in below), mine],
                },
                MANIFEST,
                files=files,
            ),
        )

    def _fetch(self, descriptor: Mapping[str, object]) -> Path:
        digest = str(descriptor["digest"])
        self.sent.append(digest)
        file = self.folder / digest[7:]
        if not file.exists():
            with open_repository(self._base, self.env) as source:
                download_blob(source, digest, file)
        return file


def entry(builder: Layering) -> BuilderEntry:
    def make(environment: Environment) -> Layering:
        return builder

    return BuilderEntry(builder.name, "for tests", make, needs_engine=False)


def _tar(request: BuildRequest) -> bytes:
    assert request.staged.folder is not None
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for name, path in (("source", "workspace"), ("runtime", "opt/imagesmith")):
            root = request.staged.folder / name
            for file in sorted(each for each in root.rglob("*") if each.is_file()):
                data = file.read_bytes()
                member = tarfile.TarInfo(f"{path}/{file.relative_to(root)}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    return target.getvalue()
