"""Name, feature table, refusals: what a builder says of itself is true."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imagesmith import features, pipeline
from imagesmith._frozen import FrozenMap
from imagesmith.builder import Feature, Support
from imagesmith.conformance._catalogue import Tier, check
from imagesmith.conformance.guard import deeds
from imagesmith.conformance.samples import BASE, FIELDS
from imagesmith.conformance.subject import OTHER, blaming, shape
from imagesmith.errors import FeatureUnsupported
from imagesmith.settings import Settings
from imagesmith.spec import ImageSpec

if TYPE_CHECKING:
    from imagesmith.conformance.subject import Subject

_CORE = frozenset(
    {Feature.CONDA_CHANNELS, Feature.ENTRYPOINT, Feature.ENV, Feature.LABELS, Feature.REGISTRY,
     Feature.REGISTRY_CONFIG, Feature.PYTHON_VERSION, Feature.LOCAL_ENGINE, Feature.MULTI_PLATFORM,
     Feature.OCI_LAYOUT}
)  # fmt: skip
"""What the core does, or what a plan need not show."""


@check("table.name", Tier.PLAN)
def name(subject: Subject) -> None:
    """A builder's name is that of its entry point, and it has a version."""
    builder = subject.builder
    assert builder.name == subject.name, f"it is known as '{subject.name}', but calls itself {builder.name!r}"
    assert isinstance(builder.version, str), f"its version is {builder.version!r}"
    assert builder.version, "its version is empty"


@check("table.values", Tier.PLAN)
def values(subject: Subject) -> None:
    """The feature table maps features to FULL, NOT_YET or IMPOSSIBLE, and is always the same."""
    table = subject.builder.features
    strange = [repr(key) for key in table if not isinstance(key, Feature)]
    assert not strange, f"these keys are no features: {', '.join(strange)}"
    wrong = [f"{key}: {value!r}" for key, value in table.items() if not isinstance(value, Support)]
    assert not wrong, f"these values are no Support: {', '.join(wrong)}"
    again = subject.make().features
    assert dict(again) == dict(table), "a second builder has another table"


@check("table.refusals", Tier.PLAN)
def refusals(subject: Subject) -> None:
    """A feature that is not FULL is refused before any work, naming the field, the builder and who can."""
    listed = dict(subject.builder.features)
    for feature, fields in FIELDS.items():
        support = listed.get(feature, Support.IMPOSSIBLE)
        if support is Support.FULL:
            continue
        spec = ImageSpec(root=subject.project, **fields)  # type: ignore[arg-type]
        with deeds() as seen:
            error = _refusal(subject, spec, feature)
        opened = [deed for deed, _ in seen if deed in {"opens a socket", "starts a process"}]
        assert not opened, f"'{feature}' was refused only after work: {', '.join(opened)}"
        assert feature.value in error.fields, (
            f"'{feature}' is {support.value}, but the refusal names only {', '.join(error.fields)}"
        )
        text = str(error)
        for word in (f"'{feature}'", subject.name, OTHER):
            assert word in text, f"the refusal of '{feature}' does not name {word}: {text}"


def _refusal(subject: Subject, spec: ImageSpec, feature: Feature) -> FeatureUnsupported:
    settings = Settings(env=FrozenMap(subject.nowhere))
    with blaming(f"asking for '{feature}', which is not FULL,"):
        try:
            pipeline.render(spec, builder=subject.name, settings=settings, plugins=subject.plugins())
        except FeatureUnsupported as error:
            return error
    raise AssertionError(f"'{feature}' is not FULL in the table, but asking for it is not refused")


@check("table.visible", Tier.PLAN)
def visible(subject: Subject) -> None:
    """Each FULL feature that is the builder's to do changes the plan."""
    ignored = []
    for feature, fields in FIELDS.items():
        if feature in _CORE or not subject.has(feature):
            continue
        spec = ImageSpec(**fields)  # type: ignore[arg-type]
        if any(not subject.has(each) for each in features.required(spec, None)):
            continue
        without = {name: value for name, value in fields.items() if name != feature.value}
        if feature is Feature.BUILD_ENV:
            spec, without = spec.replace(commands=["true"]), {"commands": ["true"]}
        request, plain = subject.request(spec), subject.request(ImageSpec(**without))  # type: ignore[arg-type]
        if not subject.make().refusals(request) and shape(subject.plan(request)) == shape(
            subject.plan(plain)
        ):
            ignored.append(feature.value)
    assert not ignored, f"FULL in the table, but the plan is the same without: {', '.join(ignored)}"


@check("table.python", Tier.PLAN, Feature.PYTHON_VERSION)
def python(subject: Subject) -> None:
    """A python other than the base's is refused by the field's name, or the plan does something for it."""
    other = subject.request(ImageSpec(python_version="3.13"))
    with blaming("refusals()"):
        reasons = subject.make().refusals(other)
    if "python_version" in reasons:
        return
    same = shape(subject.plan(other)) == shape(subject.plan(ImageSpec()))
    assert not same, "the base states python 3.11.7, the spec wants 3.13: neither refused nor planned for"


@check("table.reasons", Tier.PLAN)
def reasons(subject: Subject) -> None:
    """Refusals name fields of the spec with a reason each, and there are none for a plain request."""
    with blaming("refusals()"):
        given = subject.make().refusals(subject.request(ImageSpec(), config=BASE))
    assert not given, f"a spec that asks for nothing is refused: {dict(given)}"
    for spec in (
        ImageSpec(python_version="3.13"),
        ImageSpec(platform="linux/s390x"),
        ImageSpec(user="nobody"),
    ):
        with blaming("refusals()"):
            found = subject.make().refusals(subject.request(spec))
        for field, reason in found.items():
            assert hasattr(spec, field), f"it refuses '{field}', which is no field of a spec"
            assert isinstance(reason, str) and reason.strip(), f"it refuses '{field}' without a reason"  # noqa: PT018
