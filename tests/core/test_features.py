"""The refusal of what a builder cannot honour."""

from collections.abc import Mapping

import pytest

from imagesmith import (
    Feature,
    FeatureUnsupported,
    ImageSpec,
    LocalEngine,
    RegistryRepository,
    Support,
    features,
)

ALL = dict.fromkeys(Feature, Support.FULL)
LOCAL = LocalEngine("x:y")


def check(
    spec: ImageSpec, table: Mapping[Feature, Support], others: Mapping[str, object] | None = None
) -> None:
    features.check(spec, LOCAL, builder="mine", features=table, others=lambda: others or {})  # type: ignore[arg-type]


def test_what_is_not_asked_for_is_not_required() -> None:
    assert set(features.required(ImageSpec(), LOCAL)) == {Feature.LOCAL_ENGINE, Feature.PLATFORM}
    check(ImageSpec(), {Feature.LOCAL_ENGINE: Support.FULL, Feature.PLATFORM: Support.FULL})


def test_every_field_but_names_and_choices_is_a_feature() -> None:
    from imagesmith.spec import declarations

    no_feature = {"name", "builder", "tag_format", "root"}
    assert {feature.value for feature in Feature if "-" not in feature.value} == set(
        declarations()
    ) - no_feature


def test_an_empty_entrypoint_is_asked_for() -> None:
    assert Feature.ENTRYPOINT in features.required(ImageSpec(entrypoint=[]), LOCAL)


def test_the_destination_decides_about_the_registry() -> None:
    spec = ImageSpec(registry="r.example", platform=["linux/amd64", "linux/arm64"])
    needed = features.required(spec, RegistryRepository("r.example/imagesmith"))
    assert {Feature.REGISTRY, Feature.MULTI_PLATFORM} <= set(needed)
    assert Feature.LOCAL_ENGINE not in needed


def test_all_refused_fields_are_named_with_reasons_and_alternatives() -> None:
    table = {**ALL, Feature.CUDA: Support.NOT_YET}
    del table[Feature.APT_PACKAGES]
    others = {"mine": ALL, "able": ALL, "unable": table}
    with pytest.raises(FeatureUnsupported) as caught:
        check(ImageSpec(cuda="12.4", apt_packages=["git"], env={"A": "b"}), table, others)
    error = caught.value
    assert set(error.fields) == {"cuda", "apt_packages"}
    assert "not yet supported" in error.fields["cuda"]
    assert "not possible" in error.fields["apt_packages"]
    assert error.hint is not None
    assert "able" in error.hint
    assert "unable" not in error.hint
    assert error.builder == "mine"
