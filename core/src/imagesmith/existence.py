"""Whether a spec's image stands already: True, False, or None with the cause."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, cast

from imagesmith.errors import ExistenceUnknown, StoreError
from imagesmith.events import Message, Reporter
from imagesmith.places import Place, place_for
from imagesmith.settings import Settings, load_settings
from imagesmith.spec import ImageSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from imagesmith.builder import Builder, ChoosesBase

__all__ = [
    "Existence",
    "OnUnknown",
    "base_for",
    "base_reference",
    "current_settings",
    "exists",
    "look",
    "reusable",
    "tag_for",
]

OnUnknown: TypeAlias = Literal["error", "build", "assume"]


@dataclass(frozen=True, slots=True)
class Existence:
    """Whether an image stands under the reference: True, False, or None with the cause."""

    found: bool | None
    cause: str | None
    reference: str
    digest: str | None = None
    hint: str | None = None
    """what to do about the cause"""
    builder: str = ""
    """``NAME VERSION`` of the builder that made it"""


def current_settings() -> Settings:
    """Those of the working directory and the environment."""
    return load_settings(Path.cwd(), dict(os.environ))


def exists(spec: ImageSpec, *, settings: Settings | None = None, push: bool | None = None) -> Existence:
    """Ask the place where the spec's image would be published. Never raises for what a store answers."""
    from imagesmith.sources import digests  # noqa: PLC0415

    settings = settings or current_settings()
    with place_for(spec, settings, push=push) as place:
        return look(place, tag_for(spec, digests(spec), settings))


def look(place: Place, tag: str) -> Existence:
    """What stands there under that tag."""
    reference = place.reference(tag)
    try:
        image = place.find(tag)
    except StoreError as error:
        return Existence(None, error.message, reference, hint=error.hint)
    if image is None:
        return Existence(False, None, reference)
    return Existence(True, None, reference, digest=image.digest, builder=image.builder)


def reusable(place: Place, tag: str, on_unknown: OnUnknown, report: Reporter) -> Existence | None:
    """The image to reuse, None when it has to be built.

    Raises:
        ExistenceUnknown: it cannot be told, and the policy for that is ``error``.
    """
    known = look(place, tag)
    if known.found is not None:
        return known if known.found else None
    if on_unknown == "error":
        raise ExistenceUnknown(
            f"cannot tell whether {known.reference} exists: {known.cause}",
            hint=f"{known.hint or 'mend the cause'}; or say on_unknown='build' or 'assume' (--on-unknown)",
        )
    report(Message(f"cannot tell whether {known.reference} exists: {known.cause}", "warning"))
    return known if on_unknown == "assume" else None


def tag_for(spec: ImageSpec, digests: Mapping[str, str], settings: Settings) -> str:
    """The tag of the content: the declaration, these digests, and what the settings stand for."""
    from imagesmith import sources  # noqa: PLC0415
    from imagesmith.identity import content_tag  # noqa: PLC0415

    base = spec.base_image
    base_tag = tag_for(base, sources.digests(base), settings) if isinstance(base, ImageSpec) else None
    return content_tag(spec, digests=digests, default_base=settings.default_base(spec), base_tag=base_tag)


def base_reference(spec: ImageSpec, settings: Settings) -> str:
    """The reference of the base: declared, of the base spec, or the default."""
    from imagesmith import sources  # noqa: PLC0415

    base = spec.base_image
    if isinstance(base, ImageSpec):
        with place_for(base, settings) as place:
            return place.reference(tag_for(base, sources.digests(base), settings))
    return base or settings.default_base(spec)


def base_for(spec: ImageSpec, builder: Builder, settings: Settings, *, ask: bool) -> str:
    """The same, but the builder's own choice where the spec leaves one to it. See ``ChoosesBase``."""
    if spec.base_image is None and spec.cuda is None and hasattr(builder, "default_base"):
        chooser = cast("ChoosesBase", builder)  # not isinstance: builders come wrapped
        configured = settings.default_base(spec) if settings.base_image else None
        return chooser.default_base(spec, configured, ask=ask) or base_reference(spec, settings)
    return base_reference(spec, settings)
