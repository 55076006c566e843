"""What must fit before any work: trust, how images go to and fro, the python that came out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from plugins.buildpacks.tests.cases import OWN, PAKETO, PYTHON, request, requirements

from imagesmith import (
    BaseImage,
    BuilderNotReady,
    BuildFailed,
    EngineError,
    FeatureUnsupported,
    ImageSpec,
    Message,
    RegistryRepository,
)
from imagesmith.runner import Redactor
from imagesmith_buildpacks.builder_info import read
from imagesmith_buildpacks.checks import check_python, check_run_image, check_trust, uid_of_work_directory
from imagesmith_buildpacks.families import GENERIC, HEROKU, family_of
from imagesmith_buildpacks.options import parse
from imagesmith_buildpacks.site import Site

MANIFEST = {"schemaVersion": 2, "layers": [], "config": {}}


def site(
    spec: ImageSpec,
    *,
    registry: bool = False,
    env: dict[str, str] | None = None,
    said: list[Any] | None = None,
    config: dict[str, Any] = PYTHON,
    **base: Any,
) -> Site:
    case = request(spec, requirements("x"), config)
    case = replace(case, base=replace(case.base, **base))
    if registry:
        case = replace(case, destination=RegistryRepository("r:5000/x"))
    options, problems = parse(spec.builder_options, {})
    assert not problems
    docker: Any = SimpleNamespace()  # nothing may be asked of it
    report = (said if said is not None else []).append
    return Site(case, options, docker, env or {}, Path("/c"), Path("/f"), report, Redactor(()))


def test_a_strangers_builder_is_not_let_at_a_login() -> None:
    strange = ImageSpec(builder_options={"builder": "evil/builder"})
    with pytest.raises(BuilderNotReady, match="evil/builder") as caught:
        check_trust(site(strange, registry=True))
    assert "TRUST" in str(caught.value.hint)
    check_trust(site(strange))  # there is none in the container
    cached = ImageSpec(builder_options={"builder": "evil/builder", "cache_image": "r/c"})
    with pytest.raises(BuilderNotReady):
        check_trust(site(cached))


LABELS = {"io.buildpacks.base.distro.name": "debian", "io.buildpacks.base.distro.version": "12"}


def test_a_base_of_another_distribution_is_refused_by_its_field() -> None:
    config = {**PYTHON, "config": {**PYTHON["config"], "Labels": LABELS}}  # type: ignore[dict-item]
    info = read("b:1", PAKETO)
    with pytest.raises(FeatureUnsupported) as caught:
        check_run_image(site(ImageSpec(), config=config), info, family_of(info))
    assert list(caught.value.fields) == ["base_image"]
    assert "debian 12" in str(caught.value)
    assert "ubuntu 22.04" in str(caught.value)


def test_variables_that_a_family_refuses() -> None:
    with pytest.raises(FeatureUnsupported, match="PIP_TARGET"):
        check_run_image(site(ImageSpec(build_env={"PIP_TARGET": "/x"})), read("b:1", OWN), HEROKU)


def test_when_images_are_exchanged_in_a_folder() -> None:
    assert site(ImageSpec(), manifest=MANIFEST).exchanges
    assert not site(ImageSpec()).exchanges, "the base's manifest is not known"
    assert not site(ImageSpec(), manifest=MANIFEST, local=True).exchanges
    assert not site(ImageSpec(apt_packages=["git"]), manifest=MANIFEST).exchanges
    assert not site(ImageSpec(), manifest=MANIFEST, registry=True).exchanges


def test_a_lifecycle_that_writes_badly_into_engines_is_told_only_where_it_does() -> None:
    config = {**PYTHON, "config": {**PYTHON["config"], "Labels": LABELS}}  # type: ignore[dict-item]
    info = replace(read("b:1", OWN), lifecycle="0.21.16", distro=("debian", "12"))
    said: list[Any] = []
    check_run_image(site(ImageSpec(), said=said, config=config, manifest=MANIFEST), info, GENERIC)
    assert not said
    check_run_image(site(ImageSpec(), said=said, config=config), info, GENERIC)
    (message,) = said
    assert isinstance(message, Message)
    assert message.level == "warning"
    assert "0.21.16" in message.text


@pytest.mark.parametrize("python", [None, "3.12.1", "3.12"])
def test_the_python_that_was_asked_for(python: str | None) -> None:
    check_python(site(ImageSpec(python_version="3.12")), python, GENERIC)


def test_another_python_fails() -> None:
    with pytest.raises(BuildFailed, match=r"made python 3\.11\.2, the spec asks for 3\.12"):
        check_python(site(ImageSpec(python_version="3.12")), "3.11.2", GENERIC)


@pytest.mark.parametrize(("user", "uid"), [("7:8", 7), ("root", 0), ("0", 0)])
def test_whom_the_work_directory_belongs_to(user: str, uid: int) -> None:
    assert uid_of_work_directory(site(ImageSpec(user=user))) == uid


@pytest.mark.parametrize(
    ("options", "hosts", "network"),
    [
        ({}, (), None),
        ({}, ("registry.example",), None),
        ({}, ("registry.example", "127.0.0.1:5000"), "host"),
        ({}, ("localhost:5000",), "host"),
        ({"network": "none"}, ("localhost:5000",), "none"),
    ],
)
def test_networks(options: dict[str, str], hosts: tuple[str, ...], network: str | None) -> None:
    assert site(ImageSpec(builder_options=options)).network(*hosts) == network


def test_an_engine_without_a_socket_cannot_be_written_into() -> None:
    assert site(ImageSpec(), env={"DOCKER_HOST": "unix:///run/d.sock"}).socket() == "/run/d.sock"
    with pytest.raises(EngineError, match="tcp://far:2375"):
        site(ImageSpec(), env={"DOCKER_HOST": "tcp://far:2375"}).socket()


def test_the_base_as_a_layout_without_layers() -> None:
    import hashlib
    import json

    from imagesmith_buildpacks.exchange import place, sparse

    base = BaseImage("docker.io/library/python:3.11", "sha256:" + "1" * 64, PYTHON, manifest=MANIFEST)
    files = sparse(base)
    top = f"index.docker.io/library/python/sha256/{'1' * 64}"
    assert place(base.pinned) == top
    index = json.loads(files[f"{top}/index.json"])
    manifest = files[f"{top}/blobs/{index['manifests'][0]['digest'].replace(':', '/')}"]
    config = files[f"{top}/blobs/{json.loads(manifest)['config']['digest'].replace(':', '/')}"]
    assert json.loads(config) == PYTHON
    for path, data in files.items():
        if "/blobs/" in path:
            assert path.endswith(hashlib.sha256(data).hexdigest())
