"""The base of a build: its facts, from the cache or from its layers, and where its layers are."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from imagesmith import BaseImage, BaseImageError, RegistryUnreachable, base_environment
from imagesmith_oci.basefacts import Facts, merged, told
from imagesmith_oci.baseindex import IndexCache, LayerIndex, UnreadableError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from imagesmith.stores.registry import RegistryStore

__all__ = ["FactsCache", "facts_of", "layers_of"]

FORMAT = 1
_ATTEMPTS = 4


class FactsCache:
    """A folder of facts by the base's digest."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, digest: str) -> Facts | None:
        """What is known of that base."""
        try:
            return Facts.from_json(self._file(digest).read_text(encoding="utf-8"))
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def put(self, digest: str, facts: Facts) -> None:
        """Keep them."""
        self._folder.mkdir(parents=True, exist_ok=True)
        file = self._file(digest)
        draft = file.with_name(f".{file.name}.new")
        draft.write_text(facts.to_json(), encoding="utf-8")
        draft.replace(file)

    def _file(self, digest: str) -> Path:
        return self._folder / f"{digest.replace(':', '-')}-{FORMAT}"


def layers_of(base: BaseImage) -> list[Mapping[str, Any]]:
    """The layers as the base's manifest names them."""
    layers: Any = base.manifest.get("layers")
    return [dict(layer) for layer in layers or ()]


def facts_of(base: BaseImage, source: RegistryStore, cache: Path) -> Facts:
    """What the base is; its layers are read once, by digest.

    Raises:
        BaseImageError: they cannot be read.
        StoreError: the registry does not do its part.
    """
    known = FactsCache(cache / "bases")
    if base.digest and (found := known.get(base.digest)):
        return found
    indexes = IndexCache(cache / "indexes")

    def one(layer: Mapping[str, Any]) -> LayerIndex:
        digest = str(layer["digest"])
        for attempt in range(_ATTEMPTS):
            try:
                return indexes.get(digest, lambda: source.open_blob(digest))
            except RegistryUnreachable:
                if attempt == _ATTEMPTS - 1:
                    raise
        raise AssertionError("unreachable")

    try:
        with ThreadPoolExecutor(2, thread_name_prefix="index") as pool:
            layers = list(pool.map(one, layers_of(base)))
    except UnreadableError as error:
        raise BaseImageError(
            f"the base image {base.reference} cannot be read: {error}",
            hint="choose another base, or another builder",
        ) from error
    facts = told(merged(layers), base_environment(base.config))
    if base.digest:
        known.put(base.digest, facts)
    return facts
