"""A repository in a registry as a store: no daemon takes part. Importing this loads urllib3."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Self, TypeVar

from imagesmith._frozen import FrozenMap
from imagesmith.errors import AuthenticationFailed, BlobUnknown, ImagesmithError, RegistryError
from imagesmith.stores import StoredImage
from imagesmith.stores._documents import (
    CONFIG,
    INDEX,
    MANIFEST,
    children,
    closest_platform,
    digest_of,
    encode,
    index_over,
    is_index,
    reconfigured,
    same_platform,
)
from imagesmith.stores._http import Transport
from imagesmith.stores._kept import Kept
from imagesmith.stores._repository import Manifest, Repository
from imagesmith.stores.credentials import RegistryAccess, load_settings
from imagesmith.stores.reference import parse

if TYPE_CHECKING:
    import os
    from pathlib import Path
    from types import TracebackType

    from imagesmith.stores import LayerFile
    from imagesmith.stores._stream import BlobStream
    from imagesmith.stores.shared import Registries

__all__ = ["RegistryStore", "open_repository"]

JSON = Mapping[str, object]
T = TypeVar("T")

_logger = logging.getLogger(__name__)

_PLAIN = RegistryAccess()
_DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"


class RegistryStore:
    """One repository. ``ref`` is a tag or a digest everywhere. Blobs may come and go in several threads.

    Every method but ``discard`` raises AuthenticationFailed, RegistryUnreachable or RegistryError where
    the registry does not do its part; absence is an answer (None, False, empty), not an error.
    """

    def __init__(
        self,
        repository: str,
        access: RegistryAccess = _PLAIN,
        env: Mapping[str, str] = FrozenMap(),
        *,
        mirror: tuple[str, RegistryAccess] | None = None,
        kept: Path | None = None,
        only_read: bool = False,
        shared: Callable[[str, Callable[[], Transport]], Transport] | None = None,
        settle: Callable[[str], None] | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.time,
        read_seconds: float = 60.0,
    ) -> None:
        """A repository, ``host[:port]/path``.

        Args:
            repository: its name.
            access: how its host is spoken to.
            env: names proxies and certificates.
            mirror: a repository to read from first.
            kept: a folder for configurations that were read, by digest: the next time they are not asked for.
                What a tag leads to is always asked.
            only_read: keep there the manifests too that an index names. Not for a repository that is
                written to: what it lacks must be seen.
            shared: gives a way to a host that other stores use too, or makes one; then it is not closed here.
            settle: is called with the repository before a manifest is sent: it waits for blobs on their way.
            sleep: waits, seconds.
            clock: seconds since 1970.
            read_seconds: how long a silent registry is waited for.
        """

        def remote(repository: str, access: RegistryAccess) -> Repository:
            parsed = parse(repository)

            def make() -> Transport:
                return Transport(
                    parsed.registry, access, env, sleep=sleep, clock=clock, read_seconds=read_seconds
                )

            transport = shared(parsed.registry, make) if shared else make()
            return Repository(transport, parsed.repository)

        self._owns_connections = shared is None
        self._settle = settle or (lambda _: None)
        self.repository = parse(repository).repository_reference
        self._origin = remote(repository, access)
        self._mirror = remote(*mirror) if mirror else None
        self._manifests: dict[str, Manifest] = {}
        self._configs: dict[str, JSON] = {}
        self._kept = Kept(kept)
        self._kept_manifests = Kept(kept if only_read else None)
        self._held: set[str] = set()
        """digests of manifests that are written together with the tag or the index that leads to them"""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections, unless others use them too; the store can still be used."""
        if not self._owns_connections:
            return
        self._origin.transport.close()
        if self._mirror is not None:
            self._mirror.transport.close()

    # what the core asks of every store

    def resolve(self, ref: str) -> str | None:
        """What a tag leads to, with the manifest: ``platforms`` and ``read`` of the digest ask no more.

        A repository that is only read is asked for the digest first, which counts against no pull limit,
        and for the manifest only where it is not kept.
        """
        if self._kept_manifests:
            digest = self._nearest(lambda remote: remote.head_manifest(ref))
            return None if digest is None else self._existing(digest).digest
        manifest = self._manifest(ref)
        return None if manifest is None else manifest.digest

    def platforms(self, ref: str) -> tuple[str, ...]:
        """The platforms under a tag or digest, attestations left out; empty when there is no such image."""
        manifest = self._manifest(ref)
        if manifest is None:
            return ()
        if not is_index(manifest.document):
            return (self._image(manifest).platform,)
        return tuple(self._listed(manifest))

    def read(self, ref: str, platform: str | None = None) -> StoredImage | None:
        """The image for a platform: the same one, else the closest older variant, as engines choose."""
        manifest = self._manifest(ref)
        if manifest is None:
            return None
        if not is_index(manifest.document):
            image = self._image(manifest)
            return image if platform is None or closest_platform([image.platform], platform) else None
        listed = self._listed(manifest)
        if platform is not None:
            chosen = closest_platform(list(listed), platform)
        elif len(listed) > 1:
            raise self._origin.error(
                f"{ref} holds several platforms, and none was named", hint=f"name one of {', '.join(listed)}"
            )
        else:
            chosen = next(iter(listed), None)
        return self.read(self._existing(listed[chosen]).digest) if chosen is not None else None

    def add_layer(self, image: StoredImage, layer: LayerFile, *, instead: bool = False) -> StoredImage:
        """The layer is sent; the registry need not have it."""
        self.put_blob(layer.path, layer.digest)
        return image.with_layer(layer, instead=instead)

    def write_config(self, image: StoredImage, config: JSON) -> StoredImage:
        """A new configuration; no layer moves. The manifest is sent by ``publish`` or ``write_index``.

        Nothing is read back: the registry takes a blob or a manifest only if its digest is that of the
        bytes, and names it in its answer.
        """
        if image.manifest is None:
            raise self._origin.error(f"does not hold {image.digest}: it comes from another store")
        data = encode(config)
        config_digest = self.put_blob(data)
        self._configs[config_digest] = config
        self._kept.put(config_digest, data)
        manifest = reconfigured(image.manifest, data)
        return self._image(self._hold(manifest, image.media_type or MANIFEST))

    def write_index(self, images: Sequence[StoredImage]) -> str:
        """An index over images of this repository, sent by ``publish``. Returns its digest."""
        known = [(image, self._existing(image.digest)) for image in images]
        for _, manifest in known:
            if manifest.digest in self._held:
                self.put_manifest(manifest.raw, manifest.media_type)
        exact = [replace(image, media_type=it.media_type, size=len(it.raw)) for image, it in known]
        return self._hold(index_over(exact), INDEX).digest

    def publish(self, digest: str, tag: str) -> None:
        """Put the very bytes under ``digest`` under ``tag``; fine if they stand there already."""
        manifest = self._existing(digest)
        self._settle(self.repository)
        try:
            self._origin.put_manifest(manifest.raw, manifest.media_type, tag)
            self._held.discard(digest)
        except RegistryError as error:
            if error.status is None or error.status == 429 or isinstance(error, BlobUnknown):
                raise
            standing = None
            with contextlib.suppress(RegistryError):
                standing = self.digest(tag)
            if standing == digest:
                return
            if standing is None or error.status >= 500 or isinstance(error, AuthenticationFailed):
                raise
            raise RegistryError(
                f"{error.message}; {tag} leads to {standing} already",
                registry=error.registry,
                status=error.status,
                hint="the registry seems to let no tag be overwritten: delete it there, or change the spec",
            ) from error

    def discard(self, ref: str) -> None:
        """Delete a tag where the registry can. A digest is left alone: another tag may lead to it."""
        if ":" not in ref:
            with contextlib.suppress(ImagesmithError):
                self._origin.delete_manifest(ref)

    # what only a registry has

    def exists(self, ref: str, platforms: Sequence[str] = ()) -> bool:
        """Whether something stands under ``ref``, for all these platforms. One HEAD when none are named."""
        if self.digest(ref) is None:
            return False
        offered = self.platforms(ref) if platforms else ()
        return all(any(same_platform(wanted, one) for one in offered) for wanted in platforms)

    def digest(self, ref: str) -> str | None:
        """What a tag leads to, or None when there is nothing."""
        return self._origin.head_manifest(ref)

    def has_blob(self, digest: str) -> bool:
        """Whether a blob stands in the repository."""
        return self._origin.head_blob(digest)

    def document(self, ref: str) -> JSON | None:
        """The manifest or index under a tag or digest."""
        manifest = self._manifest(ref)
        return None if manifest is None else manifest.document

    def get_blob(self, digest: str) -> bytes:
        """A blob of at most 16 MiB, checked against its digest."""
        found = self._nearest(lambda remote: remote.get_blob(digest))
        if found is None:
            raise self._origin.error(f"lacks the blob {digest}", status=404, hint="build and push it anew")
        return found

    @contextlib.contextmanager
    def open_blob(self, digest: str) -> Iterator[BlobStream]:
        """A blob of any size as a stream, ``read(n)``; see ``BlobStream`` for what it raises.

        A connection that breaks in the middle is an error (RegistryUnreachable): start over then.
        """
        stream = self._nearest(lambda remote: remote.open_blob(digest))
        if stream is None:
            raise self._origin.error(f"lacks the blob {digest}", status=404, hint="build and push it anew")
        with stream:
            yield stream

    def put_blob(self, data: bytes | Path, digest: str | None = None) -> str:
        """Upload bytes or a file without asking first. Returns the digest (computed when not given)."""
        if digest is None:
            digest = digest_of(data) if isinstance(data, bytes) else _digest_of_file(data)
        self._origin.put_blob(data, digest)
        return digest

    def mount_blob(self, digest: str, source: str) -> bool:
        """Take a blob over from another repository (``host/path``), if the registry can."""
        other = parse(source)
        if other.registry != self._origin.transport.host:
            return False
        return self._origin.mount_blob(digest, other.repository)

    def put_manifest(self, raw: bytes, media_type: str) -> str:
        """Put a manifest or index under its own digest, which is returned. It gets no tag."""
        digest = digest_of(raw)
        self._settle(self.repository)
        self._origin.put_manifest(raw, media_type, digest)
        self._manifests[digest] = Manifest(digest, media_type, raw, json.loads(raw))
        self._held.discard(digest)
        return digest

    # inside

    def _hold(self, document: JSON, media_type: str) -> Manifest:
        """Keep a manifest until a tag or an index leads to it."""
        raw = encode(document)
        manifest = Manifest(digest_of(raw), media_type, raw, json.loads(raw))
        if manifest.digest not in self._manifests:
            self._manifests[manifest.digest] = manifest
            self._held.add(manifest.digest)
        return manifest

    def _nearest(self, fetch: Callable[[Repository], T | None]) -> T | None:
        if self._mirror is not None:
            try:
                found = fetch(self._mirror)
            except RegistryError as error:
                _logger.info("the mirror does not help, asking %s: %s", self._origin.transport.host, error)
            else:
                if found is not None:
                    return found
        return fetch(self._origin)

    def _manifest(self, ref: str) -> Manifest | None:
        if ref in self._manifests:
            return self._manifests[ref]
        manifest = self._nearest(lambda remote: remote.get_manifest(ref))
        if manifest is not None:
            if manifest.document.get("schemaVersion") != 2:
                raise self._origin.error(f"{ref} is in Docker's manifest format 1, which is out of use")
            self._manifests[manifest.digest] = manifest
        return manifest

    def _existing(self, digest: str) -> Manifest:
        if (raw := self._kept_manifests.get(digest)) is not None and digest not in self._manifests:
            document = self._origin.document(raw, digest)
            media_type = str(document.get("mediaType") or MANIFEST)
            self._manifests[digest] = Manifest(digest, media_type, raw, document)
        manifest = self._manifest(digest)
        if manifest is None:
            raise self._origin.error(f"does not hold {digest}", status=404, hint="build and push it anew")
        if raw is None and manifest.document.get("mediaType"):
            self._kept_manifests.put(digest, manifest.raw)
        return manifest

    def _listed(self, index: Manifest) -> dict[str, str]:
        """Platform -> digest of the images in an index; of two for one platform the first, as engines do."""
        listed: dict[str, str] = {}
        for platform, entry in children(index.document):
            digest = str(entry.get("digest"))
            listed.setdefault(platform or self._image(self._existing(digest)).platform, digest)
        return listed

    def _image(self, manifest: Manifest) -> StoredImage:
        entry = manifest.document.get("config")
        described: JSON = entry if isinstance(entry, Mapping) else {}
        kind = described.get("mediaType")
        if kind not in {CONFIG, _DOCKER_CONFIG}:
            raise self._origin.error(f"{manifest.digest} is no container image: its configuration is {kind}")
        digest = str(described.get("digest"))
        if digest not in self._configs:
            raw = self._kept.get(digest)
            if raw is None:
                raw = self.get_blob(digest)
                self._kept.put(digest, raw)
            self._configs[digest] = self._origin.document(raw, digest)
        return StoredImage(
            manifest.digest, self._configs[digest], manifest.document, manifest.media_type, len(manifest.raw)
        )


def open_repository(
    repository: str,
    env: Mapping[str, str],
    registry_config: str | os.PathLike[str] | None = None,
    *,
    mirrored: bool = False,
    kept: Path | None = None,
    registries: Registries | None = None,
) -> RegistryStore:
    """A store for ``host[:port]/path``, with what the configuration files say about its host.

    ``mirrored``: read from the mirror that they name, if any, and from the registry what it lacks. For
    images that only are read: what a mirror has under a tag may be old. ``kept``: see ``RegistryStore``.
    ``registries``: what all stores of one build share, given the same ``env``.

    Raises:
        UsageError: ``registry_config`` is missing or in no known format.
        StoreError: the machine's Docker configuration cannot be read.
        InvalidReference: ``repository`` is none.
    """
    settings = load_settings(env, registry_config)
    name = parse(repository)
    access = settings.access(name.registry)
    mirror = None
    if mirrored and access.mirror:
        prefix = access.mirror.rstrip("/")
        mirror = (f"{prefix}/{name.repository}", settings.access(prefix.partition("/")[0]))
    shared = partial(registries.transport, registry_config) if registries else None
    return RegistryStore(
        repository,
        access,
        env,
        mirror=mirror,
        kept=kept,
        only_read=mirrored,
        shared=shared,
        settle=registries.settle if registries else None,
    )


def _digest_of_file(path: Path) -> str:
    with path.open("rb") as stream:
        return f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}"
