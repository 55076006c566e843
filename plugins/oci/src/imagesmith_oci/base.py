"""The base of a build: its facts, from the cache or from its layers, and where its layers are."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from imagesmith import BaseImageError, BuildRequest, RegistryUnreachable, base_environment
from imagesmith_oci.basefacts import Facts, merged, told
from imagesmith_oci.baseindex import IndexCache, LayerIndex, Readable, UnreadableError

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from types import TracebackType

    from imagesmith.stores import LayerFile
    from imagesmith.stores.layout import LayoutStore
    from imagesmith.stores.registry import RegistryStore
    from imagesmith.stores.shared import Registries

__all__ = ["Base", "BaseLayer", "Origins", "oci_descriptor"]

FORMAT = 2
"""of what is kept of bases"""
_ATTEMPTS = 4
_OWN_TYPE = "application/vnd.oci.image.layer.v1.tar"
_TYPES = {
    "application/vnd.docker.image.rootfs.diff.tar.gzip": f"{_OWN_TYPE}+gzip",
    "application/vnd.docker.image.rootfs.diff.tar": _OWN_TYPE,
    "application/vnd.docker.image.rootfs.diff.tar.zstd": f"{_OWN_TYPE}+zstd",
}


def oci_descriptor(descriptor: Mapping[str, Any]) -> dict[str, Any]:
    """A layer by its OCI type: Docker's own types do not belong in an OCI manifest."""
    media_type = str(descriptor.get("mediaType", ""))
    return {**descriptor, "mediaType": _TYPES.get(media_type, media_type)}


@dataclass(frozen=True, slots=True)
class BaseLayer:
    """A layer of the base, and where it can be had: in a repository, or as a file of the cache."""

    digest: str
    diff_id: str
    size: int
    media_type: str
    repository: str = ""
    config: str = ""
    """registry_config for the repository"""
    file: str = ""

    @property
    def descriptor(self) -> dict[str, Any]:
        """For a manifest."""
        return oci_descriptor({"mediaType": self.media_type, "digest": self.digest, "size": self.size})


class Origins:
    """Where the layers of images in the local engine came from, by diff id: the engine does not say."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, diff_id: str) -> BaseLayer | None:
        """The layer, if an image with it was built here."""
        try:
            found = BaseLayer(**json.loads(self._file(diff_id).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None
        return found if not found.file or Path(found.file).exists() else None

    def note(self, layer: BaseLayer) -> None:
        """Remember it."""
        file = self._file(layer.diff_id)
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            draft = file.with_name(f".{file.name}")
            draft.write_text(json.dumps(asdict(layer)), encoding="utf-8")
            draft.replace(file)

    def _file(self, diff_id: str) -> Path:
        return self._folder / diff_id.replace(":", "-")


class Base:
    """The base of one build. It opens the repositories it reads from, and closes them."""

    def __init__(
        self,
        request: BuildRequest,
        env: Mapping[str, str],
        cache: Path,
        registries: Registries | None = None,
    ) -> None:
        """Raises BaseImageError where its layers are not to be had."""
        self._registries = registries
        self._base = request.base
        self._env = env
        self._cache = cache
        self._stores: dict[tuple[str, str], RegistryStore] = {}
        own = getattr(request.spec.base_image, "registry_config", None)
        config = str(own or request.spec.registry_config or "")
        self.layers = self._found(config)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for store in self._stores.values():
            store.close()

    def open(self, layer: BaseLayer) -> AbstractContextManager[Readable]:
        """The layer as it is stored."""
        if layer.file:
            return contextlib.closing(Path(layer.file).open("rb"))
        return self._store(layer).open_blob(layer.digest)

    def carry(self, layer: BaseLayer, target: RegistryStore | LayoutStore) -> None:
        """See that ``target`` has it."""
        if layer.file:
            if not target.has_blob(layer.digest):
                target.put_blob(Path(layer.file), layer.digest)
            return
        from imagesmith.stores.transfer import carry_blob  # noqa: PLC0415 - once for each base and place

        carry_blob(self._store(layer), target, layer.descriptor)

    def download(self, layer: BaseLayer) -> Path:
        """The layer as a file of the cache."""
        if layer.file:
            return Path(layer.file)
        from imagesmith.stores.transfer import download_blob  # noqa: PLC0415 - seldom needed

        file = self._cache / "blobs" / layer.digest.replace(":", "-")
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            draft = file.with_name(f".{file.name}")
            download_blob(self._store(layer), layer.digest, draft)
            draft.replace(file)
        return file

    def facts(self, more: LayerFile | None = None) -> Facts:
        """What the base is, with one layer over it; each is read once, by its digest.

        Raises:
            BaseImageError: they cannot be read.
            StoreError: the registry does not do its part.
        """
        known = _FactsCache(self._cache / "bases")
        key = f"{self._base.digest}+{more.digest}" if more else str(self._base.digest)
        if found := known.get(key):
            return found
        indexes = IndexCache(self._cache / "indexes")
        opened: list[tuple[str, Callable[[], AbstractContextManager[Readable]]]] = [
            (layer.diff_id, functools.partial(self.open, layer)) for layer in self.layers
        ]
        if more is not None:
            opened.append((more.diff_id, lambda: contextlib.closing(more.path.open("rb"))))
        try:
            with ThreadPoolExecutor(2, thread_name_prefix="index") as pool:
                layers = list(pool.map(lambda pair: _index(indexes, *pair), opened))
        except UnreadableError as error:
            raise BaseImageError(
                f"the base image {self._base.reference} cannot be read: {error}",
                hint="choose another base, or another builder",
            ) from error
        facts = told(merged(layers), base_environment(self._base.config))
        known.put(key, facts)
        return facts

    def _found(self, config: str) -> list[BaseLayer]:
        rootfs: Any = self._base.config.get("rootfs")
        diff_ids = [str(each) for each in rootfs.get("diff_ids", ())] if isinstance(rootfs, Mapping) else []
        listed: Any = self._base.manifest.get("layers")
        if not self._base.local and listed:
            from imagesmith.stores.reference import parse  # noqa: PLC0415

            name = parse(self._base.reference).repository_reference
            return [
                BaseLayer(
                    str(each["digest"]), diff_id, int(each["size"]), str(each["mediaType"]), name, config
                )
                for each, diff_id in zip(listed, diff_ids, strict=True)
            ]
        origins = Origins(self._cache / "origins")
        found = [layer for diff_id in diff_ids if (layer := origins.get(diff_id))]
        if not found or len(found) != len(diff_ids):
            raise BaseImageError(
                f"the layers of the base image {self._base.reference} are in no registry that is known here",
                hint="push it to a registry and name it there; or build the base with this builder too",
            )
        return found

    def _store(self, layer: BaseLayer) -> RegistryStore:
        name = (layer.repository, layer.config)
        if name not in self._stores:
            from imagesmith.stores.registry import open_repository  # noqa: PLC0415

            opened = open_repository(
                layer.repository,
                self._env,
                layer.config or None,
                mirrored=True,
                registries=self._registries,
            )
            self._stores.setdefault(name, opened)
        return self._stores[name]


class _FactsCache:
    """A folder of facts by what they are of."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, key: str) -> Facts | None:
        """What is known of that base."""
        try:
            return Facts.from_json(self._file(key).read_text(encoding="utf-8"))
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def put(self, key: str, facts: Facts) -> None:
        """Keep them."""
        self._folder.mkdir(parents=True, exist_ok=True)
        file = self._file(key)
        draft = file.with_name(f".{file.name}.new")
        draft.write_text(facts.to_json(), encoding="utf-8")
        draft.replace(file)

    def _file(self, key: str) -> Path:
        return self._folder / f"{key.replace(':', '-')}-{FORMAT}"


def _index(
    indexes: IndexCache, diff_id: str, opened: Callable[[], AbstractContextManager[Readable]]
) -> LayerIndex:
    for attempt in range(_ATTEMPTS):
        try:
            return indexes.get(diff_id, opened)
        except RegistryUnreachable:
            if attempt == _ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable")
