"""Where a builder leaves its image: one of three stores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Destination", "LayoutFolder", "LocalEngine", "RegistryRepository"]


@dataclass(frozen=True, slots=True)
class LocalEngine:
    """The local engine; the builder leaves the image there under ``reference`` (name:tag)."""

    reference: str


@dataclass(frozen=True, slots=True)
class RegistryRepository:
    """A repository in a registry; the builder pushes there under ``staging_tag`` and names the digest."""

    repository: str
    """``host[:port]/path``, without a tag"""
    staging_tag: str = "imagesmith-staging"

    @property
    def reference(self) -> str:
        """``repository:staging_tag``."""
        return f"{self.repository}:{self.staging_tag}"


@dataclass(frozen=True, slots=True)
class LayoutFolder:
    """An OCI image layout folder."""

    path: Path


Destination: TypeAlias = LocalEngine | RegistryRepository | LayoutFolder
