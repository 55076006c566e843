"""Archives for ``docker load`` that hold no layers: the engine finds those among the ones it has. Pure."""

from __future__ import annotations

import io
import json
import tarfile
from typing import TYPE_CHECKING

from imagesmith.stores._documents import MANIFEST, descriptor, digest_of, encode

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["classic_archive", "layout_archive"]


def classic_archive(config: bytes, layers: int) -> bytes:
    """For the classic store: a configuration whose layers the engine has already, so none is inside."""
    name = f"{digest_of(config).removeprefix('sha256:')}.json"
    manifest = [{"Config": name, "RepoTags": None, "Layers": [f"{n}/layer.tar" for n in range(layers)]}]
    return _tar({name: config, "manifest.json": json.dumps(manifest).encode("ascii")})


def layout_archive(manifest: bytes, config: bytes | None, name: str | None = None) -> bytes:
    """For the containerd store: an OCI layout without its layers, which the engine has already.

    ``config``: None when it has that too. ``name`` (written out, ``docker.io/library/x:y``) leads to the
    image then, and to no other any more.
    """
    media_type = str(json.loads(manifest).get("mediaType") or MANIFEST)
    named = {"annotations": {"io.containerd.image.name": name}} if name else {}
    index = {"schemaVersion": 2, "manifests": [{**descriptor(media_type, manifest), **named}]}
    blobs = {f"blobs/{digest_of(data).replace(':', '/')}": data for data in (manifest, config) if data}
    return _tar({"oci-layout": encode({"imageLayoutVersion": "1.0.0"}), "index.json": encode(index), **blobs})


def _tar(files: Mapping[str, bytes]) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o644
            archive.addfile(member, io.BytesIO(data))
    return target.getvalue()
