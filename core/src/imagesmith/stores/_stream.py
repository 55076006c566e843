"""A blob read as it arrives, and checked against its digest."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from imagesmith.errors import RegistryError
    from imagesmith.stores._connection import Body

__all__ = ["CHUNK", "BlobStream", "Hasher", "hasher"]

CHUNK = 1 << 20
"""Bytes read at a time."""


class Hasher:
    """The digest of what passes, and the error when it is another one than was asked for."""

    def __init__(self, algorithm: str, error: Callable[..., RegistryError]) -> None:
        self._algorithm = algorithm
        self._hash = hashlib.new(algorithm)
        self._error = error

    def update(self, data: bytes) -> None:
        """So much more has passed."""
        self._hash.update(data)

    def check(self, expected: str | None) -> str:
        """The digest. Raises RegistryError when another one was expected."""
        actual = f"{self._algorithm}:{self._hash.hexdigest()}"
        if expected is not None and actual != expected:
            raise self._error(
                f"sent other content than was asked for: {actual} instead of {expected}",
                hint="something on the way (a proxy, a cache) changes it, or the registry is damaged",
            )
        return actual


def hasher(digest: str, error: Callable[..., RegistryError]) -> Hasher:
    """One for digests of this one's kind. Raises RegistryError for an unknown kind."""
    algorithm = digest.partition(":")[0]
    if algorithm not in {"sha256", "sha512"}:
        raise error(f"names content by a digest of an unknown kind: {digest}")
    return Hasher(algorithm, error)


class BlobStream:
    """A blob as a readable stream, of any size. Leaving it reads what is left, so that all is checked.

    ``read`` and leaving raise RegistryUnreachable when the connection breaks (start over) and RegistryError
    when the content is not what its digest says: what was read up to then must not be believed.
    """

    def __init__(self, body: Body, digest: str, error: Callable[..., RegistryError]) -> None:
        self.digest = digest
        self._body = body
        self._hasher = hasher(digest, error)
        self._whole = False

    def read(self, size: int = -1) -> bytes:
        """``size`` bytes, fewer only at the end; all that is left for -1."""
        if size < 0:
            return b"".join(iter(lambda: self.read(CHUNK), b""))
        if self._whole or size == 0:
            return b""
        data = self._body.read(size)
        self._hasher.update(data)
        if not data:
            self._whole = True
            self._hasher.check(self.digest)
        return data

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            while kind is None and self.read(CHUNK):
                pass
        finally:
            self._body.close(whole=self._whole)
