"""Which features a spec asks for, and the refusal when a builder lacks one. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from imagesmith.builder import Feature, LayoutFolder, LocalEngine, RegistryRepository, Support
from imagesmith.errors import FeatureUnsupported

if TYPE_CHECKING:
    from imagesmith.builder import Destination
    from imagesmith.spec import ImageSpec

__all__ = ["check", "refusal", "required"]

_FIELDS = tuple(feature for feature in Feature if "-" not in feature.value)


def required(spec: ImageSpec, destination: Destination | None) -> dict[Feature, str]:
    """Feature -> the field (or option) that asks for it."""
    wanted = {feature: feature.value for feature in _FIELDS if _is_set(spec, feature.value)}
    # what goes where is asked for by the destination, not by the field
    wanted.pop(Feature.REGISTRY, None)
    match destination:
        case RegistryRepository():
            wanted[Feature.REGISTRY] = "registry"
        case LocalEngine():
            wanted[Feature.LOCAL_ENGINE] = "registry"
        case LayoutFolder():
            wanted[Feature.OCI_LAYOUT] = "output"
    if len(spec.platforms) > 1:
        wanted[Feature.MULTI_PLATFORM] = "platform"
    return wanted


def _is_set(spec: ImageSpec, field: str) -> bool:
    value = getattr(spec, field)
    if field == "entrypoint":
        return value is not None
    return value not in (None, "", ()) and (not isinstance(value, Mapping) or bool(value))


def check(
    spec: ImageSpec,
    destination: Destination | None,
    *,
    builder: str,
    features: Mapping[Feature, Support],
    others: Callable[[], Mapping[str, Mapping[Feature, Support]]],
) -> None:
    """Refuse a field the builder cannot honour, naming the installed builders that can.

    Raises:
        FeatureUnsupported: with every field that is refused, and why.
    """
    reasons: dict[str, str] = {}
    missing: set[Feature] = set()
    for feature, field in required(spec, destination).items():
        support = features.get(feature, Support.IMPOSSIBLE)
        if support is not Support.FULL:
            missing.add(feature)
            what = {
                Feature.LOCAL_ENGINE: "leaving the image in the local engine (no registry is set)",
                Feature.OCI_LAYOUT: "writing an OCI layout folder",
                Feature.MULTI_PLATFORM: "several platforms",
            }.get(feature, f"'{field}'")
            when = "not yet supported" if support is Support.NOT_YET else "not possible"
            reasons[field] = f"{what}: {when} with the {builder} builder"
    if reasons:
        able = sorted(
            name
            for name, table in others().items()
            if name != builder and all(table.get(feature) is Support.FULL for feature in missing)
        )
        raise refusal(builder, reasons, able)


def refusal(builder: str, reasons: Mapping[str, str], able: Iterable[str] = ()) -> FeatureUnsupported:
    """One error for all refused fields."""
    names = ", ".join(f"'{name}'" for name in reasons)
    lines = "\n".join(f"  {field}: {reason}" for field, reason in reasons.items())
    able = tuple(able)
    hint = (
        f"builders installed here that can: {', '.join(able)} (builder= or --builder)"
        if able
        else "no other builder installed here can: leave the field out, or install one that can"
    )
    return FeatureUnsupported(
        f"the {builder} builder cannot honour {names}:\n{lines}", builder=builder, fields=reasons, hint=hint
    )
