"""Blobs of any size from one repository to another, or into a layout; peak memory stays small."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from imagesmith.errors import RegistryError, RegistryUnreachable
from imagesmith.stores._stream import CHUNK
from imagesmith.stores.layout import LayoutStore
from imagesmith.stores.reference import parse
from imagesmith.stores.registry import RegistryStore

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from imagesmith.stores._stream import BlobStream

__all__ = ["Carried", "carry_blob", "download_blob"]

Carried = Literal["mounted", "copied", "there"]

_ATTEMPTS = 4


def carry_blob(
    source: RegistryStore,
    target: RegistryStore | LayoutStore,
    descriptor: Mapping[str, object],
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> Carried:
    """See that ``target`` has a blob of ``source``: by a word to their common registry, else by copying.

    Args:
        source: where it stands.
        target: where it is wanted.
        descriptor: as a manifest names it: ``digest``, ``size``.
        sleep: waits between tries, seconds.

    Returns:
        ``mounted``: the registry took it over; ``copied``: it came through this machine; ``there``: it was
        there already.

    Raises:
        RegistryError: ``source`` lacks it or sends something else, or ``target`` does not take it.
        LayoutError: the folder cannot be written.
    """
    digest = str(descriptor["digest"])
    if isinstance(target, RegistryStore):
        if source.repository == target.repository:
            return "there"
        if _mounted(source, target, digest):
            return "mounted"
    if target.has_blob(digest):
        return "there"
    if isinstance(target, LayoutStore):
        _download(source, digest, lambda stream: target.put_stream(stream, digest), sleep)
        return "copied"
    with tempfile.TemporaryDirectory(prefix="imagesmith-") as folder:
        file = Path(folder) / "blob"
        download_blob(source, digest, file, sleep=sleep)
        target.put_blob(file, digest)
    return "copied"


def download_blob(
    source: RegistryStore, digest: str, file: Path, *, sleep: Callable[[float], None] = time.sleep
) -> None:
    """Write a blob of any size into a file, which holds nothing of use when this raises.

    Raises:
        RegistryError: ``source`` lacks it, sends something else, or breaks off again and again.
        OSError: the file cannot be written.
    """
    _download(source, digest, lambda stream: _write(stream, file), sleep)


def _mounted(source: RegistryStore, target: RegistryStore, digest: str) -> bool:
    """Whether the registry took it over. One that refuses to is not one that refuses the blob."""
    if parse(source.repository).registry != parse(target.repository).registry:
        return False
    try:
        return target.mount_blob(digest, source.repository)
    except RegistryUnreachable:
        raise
    except RegistryError:
        return False


def _download(
    source: RegistryStore, digest: str, take: Callable[[BlobStream], None], sleep: Callable[[float], None]
) -> None:
    """Let ``take`` read the blob, from the start again where the connection breaks."""
    for attempt in range(_ATTEMPTS):
        try:
            with source.open_blob(digest) as stream:
                take(stream)
        except RegistryUnreachable:
            if attempt == _ATTEMPTS - 1:
                raise
            sleep(0.5 * 2.0**attempt)
        else:
            return


def _write(stream: BlobStream, file: Path) -> None:
    with file.open("wb") as copy:
        while data := stream.read(CHUNK):
            copy.write(data)
