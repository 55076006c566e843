"""The buildpacks builder does what every builder must do: the whole catalogue, with the rig's CNB builder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import pytest
from tests.conformance.rigged import environment as rigged
from tests.rig import state

from imagesmith.conformance import BuilderConformance


class TestBuildpacks(BuilderConformance):
    expected_failures: ClassVar[Mapping[str, str]] = {
        "packages.before-files": "a lifecycle refuses to build as root: its own user installs the packages",
    }

    @pytest.fixture
    def builder(self) -> str:
        return "buildpacks"

    @pytest.fixture
    def environment(self, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
        env = dict(rigged(tmp_path_factory.mktemp("environment")))
        try:
            cnb = state.load().cnb
        except state.RigDownError:
            return env
        if cnb is None:
            pytest.skip("the rig has no CNB builder: python3 -m tests.rig up --with cnb")
        several = getattr(cnb, "builder_multi", None)
        if several is None:  # the rig's builder image is for this machine's platform only
            env.pop("IMAGESMITH_CONFORMANCE_MULTI_BASE", None)
        return {**env, "IMAGESMITH_BUILDPACKS_BUILDER": several or cnb.builder}
