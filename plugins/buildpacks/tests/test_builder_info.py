"""Builder images: what their labels say, and which cannot be used."""

from __future__ import annotations

from typing import Any

import pytest
from plugins.buildpacks.tests.cases import GOOGLE, HEROKU, OWN, PAKETO, builder_config, entry

from imagesmith import BuilderNotReady
from imagesmith_buildpacks.builder_info import distro_of, lifecycle_warning, read, run_image_mismatch
from imagesmith_buildpacks.families import Group, Member, family_of, group_order, order_toml

LAST = Member("imagesmith/finish", "1")


@pytest.mark.parametrize(
    ("config", "family", "run_image"),
    [
        (PAKETO, "Paketo", "index.docker.io/paketobuildpacks/run-jammy-base:latest"),
        (HEROKU, "Heroku", "docker.io/heroku/heroku:24"),
        (GOOGLE, "Google", "gcr.io/buildpacks/google-22/run"),
        (OWN, "generic", None),
    ],
)
def test_families(config: dict[str, Any], family: str, run_image: str | None) -> None:
    info = read("builder:1", config)
    assert family_of(info).name == family
    assert info.run_image(None) == run_image
    assert info.platform_api == "0.14"


def test_the_mirror_on_the_registry_that_is_written_to_comes_first() -> None:
    info = read("builder:1", PAKETO)
    assert info.run_image("gcr.io") == "gcr.io/paketo-buildpacks/run:base-jammy"
    assert info.run_image("registry.example") == "index.docker.io/paketobuildpacks/run-jammy-base:latest"


def test_only_what_makes_python_is_tried() -> None:
    info = read("builder:1", PAKETO)
    (group,) = group_order(info, family_of(info), last=LAST)
    assert [each.id for each in group.members] == [
        "paketo-buildpacks/ca-certificates", "paketo-buildpacks/python", "imagesmith/finish"
    ]  # fmt: skip
    heroku = read("builder:1", HEROKU)
    (group,) = group_order(heroku, family_of(heroku), last=LAST)
    assert [(each.id, each.version) for each in group.members] == [
        ("heroku/python", "6.5.6"), ("imagesmith/finish", "1")
    ]  # fmt: skip


def test_an_unknown_builder_keeps_its_own_order() -> None:
    info = read("builder:1", OWN)
    before = (Member("mine/agent", "7"),)
    groups = group_order(info, family_of(info), before=before, last=LAST)
    assert groups == (Group((*before, Member("me/tools", "1", True), Member("me/python", "2"), LAST)),)
    assert order_toml(groups) == (
        '[[order]]\n  [[order.group]]\n    id = "mine/agent"\n    version = "7"\n'
        '  [[order.group]]\n    id = "me/tools"\n    version = "1"\n    optional = true\n'
        '  [[order.group]]\n    id = "me/python"\n    version = "2"\n'
        '  [[order.group]]\n    id = "imagesmith/finish"\n    version = "1"\n'
    )


@pytest.mark.parametrize(
    ("name", "python", "env", "files"),
    [
        ("Paketo", "3.12", {"BP_CPYTHON_VERSION": "3.12.*"}, {}),
        ("Paketo", "3.12.4", {"BP_CPYTHON_VERSION": "3.12.4"}, {}),
        ("Paketo", None, {}, {}),
        ("Heroku", "3.12", {}, {".python-version": "3.12\n"}),
        (
            "Google",
            "3.12",
            {"GOOGLE_RUNTIME": "python", "GOOGLE_ENTRYPOINT": "python", "GOOGLE_PYTHON_VERSION": "3.12.x"},
            {},
        ),
        ("generic", "3.12", {}, {}),
    ],
)
def test_how_a_family_is_asked_for_a_python(
    name: str, python: str | None, env: dict[str, str], files: dict[str, str]
) -> None:
    configs = {"Paketo": PAKETO, "Heroku": HEROKU, "Google": GOOGLE, "generic": OWN}
    family = family_of(read("builder:1", configs[name]))
    assert family.environment(python) == env
    assert family.files(python) == files


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"config": {}}, "it has no label io.buildpacks.builder.metadata"),
        ({"config": {"Labels": {"io.buildpacks.builder.metadata": "{"}}}, "is no JSON"),
        ({"config": {"Labels": {"io.buildpacks.builder.metadata": "[]"}}}, "is no JSON object"),
        (builder_config({}, [], platform=("0.3", "0.9")), "speaks the platform APIs 0.3, 0.9"),
        (builder_config({}, [], platform=()), "speaks the platform APIs none"),
        (builder_config({}, [], user=None), "CNB_USER_ID"),
        (
            builder_config(
                {}, [], labels={"io.buildpacks.buildpack.order-extensions": '[{"group": [{"id": "x"}]}]'}
            ),
            "image extensions",
        ),
    ],
)
def test_images_that_are_no_use(config: dict[str, Any], why: str) -> None:
    with pytest.raises(BuilderNotReady) as caught:
        read("me/builder:1", config)
    assert why in caught.value.message
    assert "me/builder:1" in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    ("theirs", "platform", "why"),
    [
        (("ubuntu", "22.04"), "linux/amd64", None),
        (("ubuntu", "24.04"), "linux/amd64", "is ubuntu 24.04"),
        (("debian", "12"), "linux/amd64", "is debian 12"),
        (None, "linux/amd64", None),
        (("ubuntu", "22.04"), "linux/arm64", "is for linux/arm64"),
    ],
)
def test_run_images_that_do_not_fit(theirs: tuple[str, str] | None, platform: str, why: str | None) -> None:
    info = read("builder:1", PAKETO)
    found = run_image_mismatch(info, info.distro, platform, theirs, "run:1")
    assert found is None if why is None else why in str(found)


def test_a_point_release_is_the_same_distribution() -> None:
    info = read("builder:1", OWN)
    assert run_image_mismatch(info, ("debian", "12"), "linux/amd64", ("debian", "12.5"), "run:1") is None
    assert run_image_mismatch(info, ("debian", "12"), "linux/amd64", ("debian", "13.1"), "run:1")


def test_distro_of_labels() -> None:
    assert distro_of(PAKETO) == ("ubuntu", "22.04")
    assert distro_of(HEROKU) is None


@pytest.mark.parametrize(
    ("version", "word"),
    [
        ("0.20.20", None), ("0.21.0", "Docker 25"), ("0.21.2", "No such image"), ("0.21.5", "Docker 25"),
        ("0.21.6", None), ("0.21.10", "identities"), ("0.21.12", None), ("0.21.14", None),
        ("0.21.15", "manifests"), ("0.21.17+abc", "manifests"), ("0.21.18", None), ("dev", None),
    ],
)  # fmt: skip
def test_lifecycles_whose_writing_into_an_engine_is_broken(version: str, word: str | None) -> None:
    found = lifecycle_warning(version)
    assert found is None if word is None else word in str(found)


def test_the_highest_shared_platform_api_is_taken() -> None:
    config = builder_config({"x": "1"}, [[entry("x")]], platform=("0.9", "0.12", "0.15"))
    assert read("b", config).platform_api == "0.12"
