"""The OCI distribution API of one repository: one method per thing a registry can be asked. No policy."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from imagesmith.errors import BlobUnknown, RegistryError
from imagesmith.stores._documents import DOCKER_INDEX, INDEX, MANIFEST, digest_of
from imagesmith.stores._stream import BlobStream, hasher

if TYPE_CHECKING:
    from pathlib import Path

    from imagesmith.stores._connection import Response
    from imagesmith.stores._http import Transport

__all__ = ["DOCKER_MANIFEST", "Manifest", "Repository"]

JSON = Mapping[str, object]

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_ACCEPT = f"{MANIFEST}, {INDEX}, {DOCKER_MANIFEST}, {DOCKER_INDEX}"
_UNKNOWN = frozenset({"MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN", "MANIFEST_UNKNOWN"})
"""how registries say that they lack what a manifest names"""
_SLOWEST = 2 * 1024 * 1024
"""bytes per second: a registry answers the end of an upload only when it has stored and checked all of it"""


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest or index: exactly the bytes that its digest names, and what they say."""

    digest: str
    media_type: str
    raw: bytes
    document: JSON


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository as one host names it. What is absent is None or False; what is received is verified."""

    transport: Transport
    name: str

    def get_manifest(self, ref: str) -> Manifest | None:
        """The manifest or index under a tag or digest."""
        response = self._ask(
            "GET", f"manifests/{ref}", f"reading {self.name} {ref}", headers={"Accept": _ACCEPT}
        )
        if response.status == 404:
            return None
        expected = ref if ":" in ref else response.headers.get("Docker-Content-Digest")
        digest = self._verified(response.body, expected)
        document = self.document(response.body, digest)
        media_type = document.get("mediaType") or response.headers.get("Content-Type", "").partition(";")[0]
        return Manifest(digest, str(media_type), response.body, document)

    def head_manifest(self, ref: str) -> str | None:
        """The digest under a tag; registries do not count this against pull limits."""
        doing = f"looking for {self.name} {ref}"
        response = self._ask("HEAD", f"manifests/{ref}", doing, headers={"Accept": _ACCEPT})
        if response.status == 404:
            return None
        if named := response.headers.get("Docker-Content-Digest"):
            return named
        manifest = self.get_manifest(ref)
        return manifest.digest if manifest else None

    def put_manifest(self, raw: bytes, media_type: str, ref: str) -> None:
        """Put these very bytes under a tag or under their digest.

        Raises:
            BlobUnknown: the registry lacks something that they name.
        """
        try:
            response = self.transport.request(
                "PUT",
                f"/v2/{self.name}/manifests/{ref}",
                doing=f"writing {self.name} {ref}",
                scopes=self._push,
                expect={201},
                headers={"Content-Type": media_type},
                body=raw,
            )
        except RegistryError as error:
            if error.code not in _UNKNOWN:
                raise
            raise BlobUnknown(
                error.message,
                registry=error.registry,
                status=error.status,
                code=error.code,
                hint="the registry lost a layer or cleans up just now: build again",
            ) from error
        stored, sent = response.headers.get("Docker-Content-Digest"), digest_of(raw)
        if stored is not None and stored.startswith("sha256:") and stored != sent:
            raise self.error(f"has {stored} under {ref} where {sent} was sent")

    def delete_manifest(self, ref: str) -> None:
        """Delete a tag; tried once."""
        self.transport.request(
            "DELETE",
            f"/v2/{self.name}/manifests/{ref}",
            doing=f"deleting {self.name} {ref}",
            scopes=(f"repository:{self.name}:delete",),
            expect={202, 404},
            attempts=1,
        )

    def get_blob(self, digest: str) -> bytes | None:
        """A blob, of a size that fits in memory."""
        response = self._ask("GET", f"blobs/{digest}", f"reading a blob of {self.name}")
        if response.status == 404:
            return None
        self._verified(response.body, digest)
        return response.body

    def head_blob(self, digest: str) -> bool:
        """Whether a blob stands there."""
        return self._ask("HEAD", f"blobs/{digest}", f"looking for a blob of {self.name}").status == 200

    def open_blob(self, digest: str) -> BlobStream | None:
        """A blob of any size, to be read as it arrives and closed."""
        response = self._ask("GET", f"blobs/{digest}", f"reading a blob of {self.name}", streaming=True)
        if response.status == 404 or response.rest is None:
            return None
        return BlobStream(response.rest, digest, self.error)

    def put_blob(self, data: bytes | Path, digest: str) -> None:
        """Upload bytes or a file in one piece; a broken upload starts over."""

        size = len(data) if isinstance(data, bytes) else data.stat().st_size

        def upload() -> Response:
            start = self.transport.exchange("POST", f"/v2/{self.name}/blobs/uploads/", scopes=self._push)
            if start.status != 202 or not start.location:
                return start
            joint = "&" if "?" in start.location else "?"
            return self.transport.exchange(
                "PUT",
                f"{start.location}{joint}{urlencode({'digest': digest})}",
                scopes=self._push,
                headers={"Content-Type": "application/octet-stream"},
                body=data,
                more_seconds=size / _SLOWEST,
            )

        response = self.transport.persist(upload, f"uploading a blob to {self.name}", {201})
        stored = response.headers.get("Docker-Content-Digest")
        if stored is not None and stored != digest:
            raise self.error(f"has {stored} where {digest} was sent")

    def mount_blob(self, digest: str, source: str) -> bool:
        """Take over a blob from another repository of the host; False when the registry does not."""
        scopes = (*self._push, f"repository:{source}:pull")
        response = self.transport.request(
            "POST",
            f"/v2/{self.name}/blobs/uploads/?{urlencode({'mount': digest, 'from': source})}",
            doing=f"taking over a blob from {source} to {self.name}",
            scopes=scopes,
            expect={201, 202},
        )
        if response.status == 202 and response.location:  # it opened an upload instead
            self.transport.exchange("DELETE", response.location, scopes=scopes)
        return response.status == 201

    def document(self, body: bytes, digest: str) -> JSON:
        """Read a JSON object that stands under ``digest``."""
        try:
            document = json.loads(body)
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise self.error(f"has something under {digest} that is no JSON object")
        return document

    def error(self, what: str, *, hint: str | None = None, status: int | None = None) -> RegistryError:
        """An error whose message starts with the repository."""
        host = self.transport.host
        return RegistryError(f"{host}/{self.name} {what}", registry=host, status=status, hint=hint)

    @property
    def _push(self) -> tuple[str, ...]:
        return (f"repository:{self.name}:pull,push",)

    def _ask(
        self,
        method: str,
        path: str,
        doing: str,
        headers: Mapping[str, str] | None = None,
        *,
        streaming: bool = False,
    ) -> Response:
        return self.transport.request(
            method,
            f"/v2/{self.name}/{path}",
            doing=doing,
            scopes=(f"repository:{self.name}:pull",),
            expect={200, 404},
            headers=headers,
            streaming=streaming,
        )

    def _verified(self, body: bytes, expected: str | None) -> str:
        found = hasher(expected or "sha256:", self.error)
        found.update(body)
        return found.check(expected)
