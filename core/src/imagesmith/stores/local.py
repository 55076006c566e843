"""The local Docker Engine as a store, with either of its image stores.

A configuration is changed by loading an archive that holds only the new configuration (classic store) or
configuration and manifest (containerd store): the engine finds the layers among those it has. Of all ways
it is the only exact one: an engine's commit and a build FROM the image can take away neither a variable
nor a label.
"""

from __future__ import annotations

import contextlib
import json
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from imagesmith.errors import (
    AuthenticationFailed,
    BlobUnknown,
    EngineError,
    RegistryError,
    RegistryUnreachable,
    StoreError,
)
from imagesmith.stores import KEPT, KEPT_NAMES, STAGING, LayerFiles, StoredImage
from imagesmith.stores._archive import classic_archive, layout_archive
from imagesmith.stores._documents import (
    MANIFEST,
    digest_of,
    encode,
    reconfigured,
    same_platform,
)
from imagesmith.stores._engine import Endpoint, connect, endpoint, refused, speaking
from imagesmith.stores._kept import Kept
from imagesmith.stores.reference import parse

if TYPE_CHECKING:
    from pathlib import Path

    from docker import APIClient

    from imagesmith.stores import LayerFile

__all__ = ["Endpoint", "LocalStore", "connect", "endpoint"]

JSON = Mapping[str, object]

_PUSHED = re.compile(r"digest: (sha256:[0-9a-f]{64})")
_LACKING = re.compile(r"not found|no such file")
"""in the refusal of an image of which the engine lacks a layer"""
_CONTAINERD = ["driver-type", "io.containerd.snapshotter.v1"]


class LocalStore:
    """Names are ``name:tag``, digests are image ids. Every method but ``discard`` raises EngineError."""

    def __init__(self, client: APIClient, kept: Path | None = None) -> None:
        """``kept``: a folder for manifests by their digests, which a containerd store does not show."""
        self._client: Any = client  # its type stubs leave half of the calls untyped
        self._kept = Kept(kept)
        self._containerd: bool | None = None

    @property
    def containerd(self) -> bool:
        """Whether the engine keeps images in containerd (else in its classic store)."""
        if self._containerd is None:
            with speaking("ask the engine what it is"):
                status = self._client.info().get("DriverStatus") or ()
            self._containerd = _CONTAINERD in [list(entry) for entry in status]
        return self._containerd

    def version(self) -> str:
        """Such as ``26.1.5 (containerd image store)``."""
        with speaking("ask the engine what it is"):
            number = self._client.version()["Version"]
        return f"{number} ({'containerd' if self.containerd else 'classic'} image store)"

    def resolve(self, ref: str) -> str | None:
        """The id of the image."""
        found = self._inspect(ref)
        return None if found is None else str(found["Id"])

    def platforms(self, ref: str) -> tuple[str, ...]:
        """The platform of the image; none when there is no such image."""
        image = self.read(ref)
        return () if image is None else (image.platform,)

    def read(self, ref: str, platform: str | None = None) -> StoredImage | None:
        """What the engine says of the image. ``manifest`` is None: neither image store shows it."""
        found = self._inspect(ref)
        if found is None:
            return None
        image = StoredImage(str(found["Id"]), _document(found, self._history(str(found["Id"]))))
        return image if platform is None or same_platform(image.platform, platform) else None

    def add_layer(self, image: StoredImage, layer: LayerFile, *, instead: bool = False) -> StoredImage:
        """The layer is sent with the configuration."""
        if image.files is None:
            manifest = json.loads(self._manifest(image)) if self.containerd else _by_diff_ids(image)
            media_type = str(manifest.get("mediaType") or MANIFEST)
            image = replace(image, manifest=manifest, media_type=media_type, files=LayerFiles({}, _gone))
        return image.with_layer(layer, instead=instead)

    def write_config(self, image: StoredImage, config: JSON) -> StoredImage:
        """The same layers under another configuration. The image has no name."""
        data = encode(config)
        if image.files is not None:
            return self._take(image, image.files, config)
        if self.containerd:
            document = image.manifest or json.loads(self._manifest(image))
            manifest = encode(reconfigured(document, data))
            self._kept.put(digest_of(manifest), manifest)
            digest, archive = digest_of(manifest), layout_archive(manifest, data)
        else:
            digest, archive = digest_of(data), classic_archive(data, len(image.diff_ids))
        self._load(archive)
        written = self.read(digest)
        if written is None:
            raise EngineError(f"the engine took the new configuration of {image.digest} and does not show it")
        return written

    def write_index(self, images: Sequence[StoredImage]) -> str:
        """Never possible here: an engine holds one platform under a name."""
        raise EngineError(
            f"an image for {len(images)} platforms needs a registry or an OCI layout: "
            "the local engine holds one",
            hint="set registry= in the spec, or name one platform",
        )

    def publish(self, digest: str, tag: str) -> None:
        """Let ``name:tag`` mean this image from now on."""
        repository, name = _split(tag)
        with speaking(f"tag {digest} as {tag}"):
            self._client.tag(digest, repository, name, force=True)

    def discard(self, ref: str) -> None:
        """Untag; an image that no name leads to any more goes."""
        with contextlib.suppress(EngineError):
            found = self._inspect(ref)
            if found is not None and not (ref == found["Id"] and found.get("RepoTags")):
                self.remove(ref)

    def close(self) -> None:
        """Close the connections to the engine."""
        self._client.close()

    def remove(self, ref: str) -> None:
        """Untag, and delete the image if that was its last name; by id: delete it."""
        with speaking(f"remove {ref}"):
            self._client.remove_image(ref)

    def pull(self, reference: str, platform: str, auth: Mapping[str, str] | None = None) -> None:
        """Let the engine fetch ``repository@digest``, unless it has it. ``auth`` as for ``push``.

        Raises:
            AuthenticationFailed, RegistryUnreachable, RegistryError: the registry's answer.
        """
        if self.read(reference, platform) is not None:
            return
        repository, _, digest = reference.partition("@")
        refusal = None
        with speaking(f"pull {reference}"):
            for event in self._client.pull(
                repository,
                tag=digest,
                platform=platform,
                stream=True,
                decode=True,
                auth_config=dict(auth or {}),
            ):
                refusal = refusal or event.get("error")
        if refusal is not None:
            raise _registry_error("pull", reference, str(refusal), bool(auth))

    def push(self, reference: str, auth: Mapping[str, str] | None = None) -> str:
        """Let the engine push ``registry/name:tag`` there. Returns the digest of the manifest.

        ``auth`` is Docker's auth configuration (``username`` and ``password``, or ``identitytoken``);
        without it the engine asks anonymously: nothing is looked up in files.

        Raises:
            AuthenticationFailed, RegistryUnreachable, RegistryError: the registry's answer.
        """
        repository, name = _split(reference)
        digest = refusal = None
        with speaking(f"push {reference}"):
            # read to its end also after an error: the client library closes the connection only there
            for event in self._client.push(
                repository, tag=name, stream=True, decode=True, auth_config=dict(auth or {})
            ):
                refusal = refusal or event.get("error")
                if named := _PUSHED.search(str(event.get("status", ""))):
                    digest = named[1]
        if refusal is not None:
            raise _registry_error("push", reference, str(refusal), bool(auth))
        if digest is None:
            raise EngineError(f"the engine pushed {reference} without naming a digest")
        return digest

    def _inspect(self, ref: str) -> dict[str, Any] | None:
        from docker.errors import ImageNotFound, NotFound  # noqa: PLC0415 - costs 0.2 s

        with speaking(f"look for {ref}"):
            try:
                found: dict[str, Any] = self._client.inspect_image(ref)
            except (ImageNotFound, NotFound):
                return None
        return found

    def _history(self, digest: str) -> Sequence[Mapping[str, Any]] | None:
        """None where it cannot be told: by the containerd store of an image that is not unpacked yet."""
        try:
            with speaking(f"read the history of {digest}"):
                return self._client.history(digest) or ()
        except EngineError:
            if not self.containerd:
                raise
            return None

    def _load(self, archive: bytes | Iterator[bytes]) -> None:
        doing = "load an image configuration"
        with speaking(doing):
            refusals = [event["error"] for event in self._client.load_image(archive) if "error" in event]
        if refusals:
            raise refused(doing, str(refusals[0]))

    def _manifest(self, image: StoredImage) -> bytes:
        """Of an image in the containerd store. What a builder staged is kept from now on."""
        if known := self._kept.get(image.digest):
            return known
        from imagesmith.stores._manifests import pushed_manifest, saved_manifest  # noqa: PLC0415 - rare

        with speaking(f"read the manifest of {image.digest}"):
            manifest = None
            names = self._names(image)
            if names:
                manifest = pushed_manifest(self._client, image.digest, image.platform)
            manifest = manifest or saved_manifest(self._client, image.digest, image.platform)
        if manifest is None:
            raise EngineError(f"the engine's archive of {image.digest} lacks its manifest")
        self._keep(names, manifest)
        return manifest

    def _take(self, image: StoredImage, files: LayerFiles, config: JSON) -> StoredImage:
        """An image whose layers are files here: those are sent that the engine lacks."""
        from imagesmith.stores.archive import engine_archive, loaded_as  # noqa: PLC0415 - few builders

        data = encode(config)
        digest = loaded_as(image, data, containerd=self.containerd)
        if self.containerd:
            self._kept.put(digest, encode(reconfigured(image.manifest or {}, data)))
        try:
            try:
                self._load(engine_archive(image, data, files.new))
            except EngineError as error:
                if not _LACKING.search(error.message):
                    raise
                self._load(engine_archive(image, data, _all_files(image, files)))
        except BaseException:
            self.discard(digest)  # the containerd store keeps what it could not unpack
            raise
        written = self.read(digest)
        if written is None:
            raise EngineError(f"the engine took the image {digest} and does not show it")
        return written

    def _keep(self, names: Sequence[str], manifest: bytes) -> None:
        """Keep what a builder staged, under one of a few names of ours, until another image gets that.

        The containerd store unpacks layers for the image that first needs them, and with its last name they
        go: while they do, which takes 0.5 s and more, a container of the finished image fails to start.
        """
        staged = next((name for name in names if _split(name)[1].startswith(STAGING)), None)
        if staged:
            slot = zlib.crc32(_split(staged)[0].encode()) % KEPT_NAMES
            self._load(layout_archive(manifest, None, str(parse(f"{KEPT}:{slot}"))))

    def _names(self, image: StoredImage) -> Sequence[str]:
        return (self._inspect(image.digest) or {}).get("RepoTags") or ()


def _by_diff_ids(image: StoredImage) -> dict[str, object]:
    """In place of a manifest, where layers are known by their content only: as if none were compressed."""
    layers = [{"digest": each} for each in image.diff_ids]
    return {"schemaVersion": 2, "mediaType": MANIFEST, "layers": layers}


def _gone(layer: JSON) -> Path:
    raise BlobUnknown(f"the engine lost the layer {layer.get('digest')}", registry="the local engine")


def _document(found: Mapping[str, Any], history: Sequence[Mapping[str, Any]] | None) -> JSON:
    """An OCI configuration document from what the engine shows of one; ``history`` only where it does."""
    layers = list((found.get("RootFS") or {}).get("Layers") or ())
    platform = {"architecture": found["Architecture"], "os": found["Os"], "variant": found.get("Variant")}
    config = {key: value for key, value in (found.get("Config") or {}).items() if value}
    return {
        **{key: value for key, value in platform.items() if value},
        "created": found.get("Created"),
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": layers},
        **({} if history is None else {"history": list(_history(history, len(layers)))}),
    }


def _history(entries: Sequence[Mapping[str, Any]], layers: int) -> Iterator[JSON]:
    """Oldest first. The engine does not say which entries have no layer: those of no size, if it adds up."""
    empty = len(entries) - layers
    told = sum(not entry.get("Size") for entry in entries) == empty
    for entry in reversed(entries):
        marked = {"empty_layer": True} if told and not entry.get("Size") else {}
        yield {"created_by": str(entry.get("CreatedBy") or ""), **marked}


def _all_files(image: StoredImage, files: LayerFiles) -> dict[str, Path]:
    """Every layer of the image as a file."""
    layers = (image.manifest or {}).get("layers")
    found = [layer for layer in layers if isinstance(layer, Mapping)] if isinstance(layers, Sequence) else []
    return {
        digest: files.new[digest] if digest in files.new else files.get(layer)
        for layer in found
        for digest in [str(layer.get("digest"))]
    }


def _split(reference: str) -> tuple[str, str]:
    """``registry:5000/name:tag`` -> (``registry:5000/name``, ``tag``)."""
    head, colon, tag = reference.rpartition(":")
    return (head, tag) if colon and "/" not in tag else (reference, "latest")


def _registry_error(doing: str, reference: str, why: str, with_login: bool) -> StoreError:
    registry = reference.partition("/")[0]
    text = f"the engine cannot {doing} {reference}: {why}"
    if re.search(r"unauthorized|authentication required|no basic auth|denied|forbidden", why, re.IGNORECASE):
        login = "the login is refused" if with_login else "no login was given"
        return AuthenticationFailed(f"{text} ({login})", registry=registry, hint=f"docker login {registry}")
    if re.search(r"refused|no such host|timeout|deadline|gave HTTP response|x509|certificate", why):
        hint = "the engine talks to the registry, not this process: it needs the address and the certificate"
        return RegistryUnreachable(text, registry=registry, hint=hint)
    if "does not exist" in why:
        return refused(f"{doing} {reference}", why)
    return RegistryError(text, registry=registry)
