"""The docker builder does what every builder must do: the whole catalogue, on the rig's engine."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from tests.conformance.rigged import environment as rigged

from imagesmith.conformance import BuilderConformance


class TestDocker(BuilderConformance):
    @pytest.fixture
    def builder(self) -> str:
        return "docker"

    @pytest.fixture
    def environment(self, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
        return rigged(tmp_path_factory.mktemp("environment"))
