"""Fixtures for all tests."""

from __future__ import annotations

import os

import pytest

from tests.rig import state


@pytest.fixture(scope="session")
def rig() -> state.Rig:
    """The engines, registries and images that run; without them a skip, and in CI a failure."""
    try:
        return state.load()
    except state.RigDownError as error:
        if os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(str(error))
