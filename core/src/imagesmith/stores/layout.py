"""An OCI image layout folder as a store."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Protocol

from imagesmith.errors import LayoutError
from imagesmith.stores import LayerFile, StoredImage
from imagesmith.stores._documents import (
    INDEX,
    MANIFEST,
    REF_NAME,
    children,
    closest_platform,
    descriptor,
    digest_of,
    encode,
    index_over,
    is_index,
    reconfigured,
)

__all__ = ["LayoutStore"]

JSON = Mapping[str, object]

_VERSION = {"imageLayoutVersion": "1.0.0"}
_DRAFT = ".imagesmith-"
"""how files are called that are being written"""
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")


_CHUNK = 1 << 20
"""Bytes copied at a time."""


class SupportsRead(Protocol):
    """What gives bytes until there are none."""

    def read(self, size: int, /) -> bytes:
        """``size`` bytes, fewer only at the end."""


class LayoutStore:
    """One folder; it is made when something is first written. Tags are ``ref.name`` annotations.

    Every method but ``discard`` raises LayoutError where the folder is no layout or cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def resolve(self, ref: str) -> str | None:
        """The digest of a tag's image or index."""
        found = self._find(ref)
        return None if found is None else str(found.get("digest"))

    def platforms(self, ref: str) -> tuple[str, ...]:
        """The platforms under a tag or digest."""
        found = self._find(ref)
        if found is None:
            return ()
        return tuple(image.platform for image in self._images(found))

    def read(self, ref: str, platform: str | None = None) -> StoredImage | None:
        """The image for a platform: the same one, else the closest older variant, as engines choose."""
        found = self._find(ref)
        if found is None:
            return None
        images = self._images(found)
        if platform is None:
            image = next(images, None)
            if image is not None and next(images, None) is not None:
                raise LayoutError(
                    f"{ref} in {self.path} holds several platforms, and none was named",
                    hint=f"name one of {', '.join(self.platforms(ref))}",
                )
            return image
        offered = [*images]
        chosen = closest_platform((image.platform for image in offered), platform)
        return next((image for image in offered if image.platform == chosen), None)

    def add_layer(self, image: StoredImage, layer: LayerFile, *, instead: bool = False) -> StoredImage:
        """The layer stands in the folder."""
        self.put_blob(layer.path, layer.digest)
        return image.with_layer(layer, instead=instead)

    def write_config(self, image: StoredImage, config: JSON) -> StoredImage:
        """New configuration and manifest beside the old ones; no layer is touched."""
        if image.manifest is None:
            raise LayoutError(f"{image.digest} comes from another store than {self.path}")
        data = encode(config)
        self.put_blob(data)
        manifest = reconfigured(image.manifest, data)
        body = encode(manifest)
        digest = self.put_blob(body)
        return StoredImage(digest, dict(config), manifest, image.media_type, len(body))

    def write_index(self, images: Sequence[StoredImage]) -> str:
        """An index of these images, which stand in the folder."""
        for image in images:
            self._blob(image.digest)
        return self.put_blob(encode(index_over(images)))

    def publish(self, digest: str, tag: str) -> None:
        """``index.json`` is replaced as a whole; whoever reads sees the old or the new one."""
        body = self._blob(digest)
        document = self._json(body, digest)
        media_type = str(document.get("mediaType") or (INDEX if is_index(document) else MANIFEST))
        entry = {**descriptor(media_type, body), "annotations": {REF_NAME: tag}}
        if not is_index(document):
            image = self._image(descriptor(media_type, body))
            entry["platform"] = _platform(image.config)
        with self._exclusive():
            others = [known for known in self._entries() if _name(known) != tag]
            self._write_entries([*others, entry])

    def discard(self, ref: str) -> None:
        """Take the name out of ``index.json``, and what only it led to, layers aside."""
        with contextlib.suppress(LayoutError, OSError):
            found = self._find(ref)
            if found is None:
                return
            with self._exclusive():
                entries = [
                    entry for entry in self._entries() if ref not in (_name(entry), entry.get("digest"))
                ]
                kept = {digest for entry in entries for digest in self._documents(entry)}
                self._write_entries(entries)
                for digest in set(self._documents(found)) - kept:
                    self._path(digest).unlink(missing_ok=True)

    def close(self) -> None:
        """See Store: nothing is held open."""

    def has_blob(self, digest: str) -> bool:
        """Whether a blob stands in the folder."""
        return self._path(digest).exists()

    def blob_path(self, digest: str) -> Path:
        """Where a blob stands, or would."""
        return self._path(digest)

    def put_blob(self, data: bytes | Path, digest: str | None = None) -> str:
        """Write one blob, if it does not stand there. Returns its digest (computed when not given).

        A file is linked where it can be, else copied: it must not be changed in place afterwards.

        Raises:
            LayoutError: also where the content is not what ``digest`` says.
        """
        if isinstance(data, bytes):
            actual = digest_of(data)
        else:
            with data.open("rb") as stream:
                actual = f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}"
        if digest is not None and digest != actual:
            raise LayoutError(f"a blob for {self.path} is {actual} instead of {digest}")
        path = self._path(actual)
        if not path.exists():
            self._prepare()
            if isinstance(data, bytes):
                self._replace(path, data)
            elif not _link(data, path):
                with data.open("rb") as stream:
                    self.put_stream(stream, actual)
        return actual

    def put_stream(self, stream: SupportsRead, digest: str) -> None:
        """Write one blob as it comes from elsewhere, never as a whole in memory.

        Raises:
            LayoutError: also where the content is not what ``digest`` says.
        """
        path = self._path(digest)
        self._prepare()
        hasher = hashlib.sha256()
        with self._draft(path) as draft:
            while data := stream.read(_CHUNK):
                hasher.update(data)
                draft.write(data)
            if (actual := f"sha256:{hasher.hexdigest()}") != digest:
                raise LayoutError(f"a blob for {self.path} is {actual} instead of {digest}")

    def get_blob(self, digest: str) -> bytes:
        """A blob's bytes, checked against its digest."""
        return self._blob(digest)

    def put_manifest(self, raw: bytes, media_type: str) -> str:  # noqa: ARG002 - it says so itself
        """Write a manifest or index, untagged. Returns its digest."""
        return self.put_blob(raw)

    def document(self, ref: str) -> JSON | None:
        """The manifest or index under a tag or digest."""
        found = self._find(ref)
        return None if found is None else self._json(self._blob(str(found.get("digest"))), ref)

    # index.json

    def _entries(self) -> list[JSON]:
        path = self.path / "index.json"
        try:
            document = self._json(path.read_bytes(), str(path))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise LayoutError(f"cannot read {path}: {error.strerror}") from error
        manifests = document.get("manifests")
        return (
            [entry for entry in manifests if isinstance(entry, Mapping)]
            if isinstance(manifests, list)
            else []
        )

    def _write_entries(self, entries: Sequence[JSON]) -> None:
        document = {"schemaVersion": 2, "mediaType": INDEX, "manifests": list(entries)}
        self._replace(self.path / "index.json", encode(document))

    def _find(self, ref: str) -> JSON | None:
        """The descriptor of a tag or of a digest; builders may leave the latter outside index.json."""
        for entry in self._entries():
            if ref in (_name(entry), entry.get("digest")):
                return entry
        if not _DIGEST.fullmatch(ref) or not self._path(ref).exists():
            return None
        body = self._blob(ref)
        document = self._json(body, ref)
        return descriptor(str(document.get("mediaType") or (INDEX if is_index(document) else MANIFEST)), body)

    @contextlib.contextmanager
    def _exclusive(self) -> Iterator[None]:
        """One writer of index.json at a time; the lock is on the folder and leaves no file."""
        self._prepare()
        handle = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    # images

    def _images(self, entry: JSON) -> Iterator[StoredImage]:
        document = self._json(self._blob(str(entry.get("digest"))), str(entry.get("digest")))
        if not is_index(document):
            yield self._image(entry)
            return
        for _, child in children(document):
            yield from self._images(child)

    def _image(self, entry: JSON) -> StoredImage:
        digest = str(entry.get("digest"))
        body = self._blob(digest)
        manifest = self._json(body, digest)
        config = self._json(self._blob(_config_digest(manifest)), digest)
        media_type = str(manifest.get("mediaType") or entry.get("mediaType") or MANIFEST)
        return StoredImage(digest, config, manifest, media_type, len(body))

    def _documents(self, entry: JSON) -> Iterator[str]:
        """The digests of the manifests and configurations under a descriptor."""
        digest = str(entry.get("digest"))
        yield digest
        document = self._json(self._blob(digest), digest)
        if is_index(document):
            for _, child in children(document):
                yield from self._documents(child)
        else:
            yield _config_digest(document)

    # files

    def _path(self, digest: str) -> Path:
        match = _DIGEST.fullmatch(digest)
        if match is None:
            raise LayoutError(f"{digest!r} in {self.path} is no sha256 digest")
        return self.path / "blobs" / "sha256" / match[1]

    def _blob(self, digest: str) -> bytes:
        path = self._path(digest)
        try:
            data = path.read_bytes()
        except FileNotFoundError as error:
            raise LayoutError(
                f"the image layout {self.path} lacks the blob {digest}", hint="write the layout anew"
            ) from error
        except OSError as error:
            raise LayoutError(f"cannot read {path}: {error.strerror}") from error
        if digest_of(data) != digest:
            raise LayoutError(
                f"{path} does not hold what its name says: it is damaged", hint="write the layout anew"
            )
        return data

    def _json(self, data: bytes, where: str) -> JSON:
        try:
            document = json.loads(data)
        except ValueError as error:
            raise LayoutError(f"{where} in {self.path} is no JSON: {error}") from error
        if not isinstance(document, Mapping):
            raise LayoutError(f"{where} in {self.path} is no JSON object")
        return document

    def _prepare(self) -> None:
        """Make the folder a layout, unless it is one; never in a folder that holds something else."""
        marker = self.path / "oci-layout"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if marker.exists():
                version = self._json(marker.read_bytes(), str(marker)).get("imageLayoutVersion")
                if version != _VERSION["imageLayoutVersion"]:
                    raise LayoutError(f"{marker} says version {version!r}; this imagesmith knows 1.0.0")
                return
            names = {path.name for path in self.path.iterdir()} - {"oci-layout", "blobs", "index.json"}
            strange = {name for name in names if not name.startswith(_DRAFT)}  # a thread beside this one's
            if strange:
                raise LayoutError(
                    f"{self.path} is not an OCI image layout, and not empty (it holds {min(strange)!r})",
                    hint="name an empty folder, or one that does not exist",
                )
        except OSError as error:
            raise LayoutError(f"cannot use {self.path} as an image layout: {error.strerror}") from error
        self._replace(marker, encode(_VERSION))

    def _replace(self, path: Path, data: bytes) -> None:
        """Write a whole file under its name in one step."""
        with self._draft(path) as draft:
            draft.write(data)

    @contextlib.contextmanager
    def _draft(self, path: Path) -> Iterator[BinaryIO]:
        """A file that gets its name when it is whole, and does not stay when it is not."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=_DRAFT, dir=path.parent)
            try:
                with os.fdopen(handle, "wb") as draft:
                    yield draft
                Path(name).chmod(0o644)
                Path(name).replace(path)
            except BaseException:
                Path(name).unlink(missing_ok=True)
                raise
        except OSError as error:
            raise LayoutError(f"cannot write {path}: {error.strerror}", hint="is the disk full?") from error


def _link(file: Path, path: Path) -> bool:
    """Let ``path`` be a second name of the file, where the file system can and everyone may read it."""
    try:
        if file.is_symlink() or file.stat().st_mode & 0o444 != 0o444:
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        path.hardlink_to(file)
    except FileExistsError:
        return True
    except OSError:
        return False
    return True


def _name(entry: JSON) -> str | None:
    annotations = entry.get("annotations")
    name = annotations.get(REF_NAME) if isinstance(annotations, Mapping) else None
    return name if isinstance(name, str) else None


def _platform(config: JSON) -> JSON:
    return {key: config[key] for key in ("architecture", "os", "variant") if config.get(key)}


def _config_digest(manifest: JSON) -> str:
    config = manifest.get("config")
    return str(config.get("digest")) if isinstance(config, Mapping) else ""
