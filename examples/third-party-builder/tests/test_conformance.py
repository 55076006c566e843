"""What every builder must do. The live tier needs buildah, a registry, and an engine to run images on."""

from __future__ import annotations

import pytest

from imagesmith.conformance import BuilderConformance


class TestBuildah(BuilderConformance):
    @pytest.fixture
    def builder(self) -> str:
        return "buildah"
