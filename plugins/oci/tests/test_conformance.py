"""The oci builder does what every builder must do: the whole catalogue, with and without an engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import ClassVar

import pytest
from tests.conformance.rigged import environment as rigged

from imagesmith import Environment, Feature
from imagesmith.conformance import BuilderConformance
from imagesmith_oci.builder import FEATURES, OciBuilder

ON_THE_HOST = "source is made a wheel on this machine, not in the image: "
EXPECTED = MappingProxyType(
    {
        "apt.before-packages": ON_THE_HOST + "its build sees this machine's programs",
        "secrets.mounted": ON_THE_HOST + "no path of the image can be made for it",
    }
)


class TestOci(BuilderConformance):
    expected_failures: ClassVar[Mapping[str, str]] = EXPECTED

    @pytest.fixture
    def builder(self) -> str:
        return "oci"

    @pytest.fixture
    def environment(self, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
        return rigged(tmp_path_factory.mktemp("environment"))


class WithoutEngine(OciBuilder):
    """One that could not find an engine if it looked for it; so its images go to the registry."""

    features = MappingProxyType(
        {key: value for key, value in FEATURES.items() if key != Feature.LOCAL_ENGINE}
    )

    def __init__(self, environment: Environment) -> None:
        nowhere = {**environment.env, "DOCKER_HOST": "unix:///nonexistent/docker.sock", "DOCKER_CONTEXT": ""}
        super().__init__(replace(environment, env=nowhere))


class TestOciWithoutEngine(BuilderConformance):
    """What is built is pulled by the rig's engine only to run it."""

    expected_failures: ClassVar[Mapping[str, str]] = EXPECTED

    @pytest.fixture
    def builder(self) -> type[WithoutEngine]:
        return WithoutEngine

    @pytest.fixture
    def environment(self, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
        return rigged(tmp_path_factory.mktemp("environment"))
