"""Fixtures for all tests, and which of them run at the same time."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator

import pytest

from tests import turns
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


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Whoever counts what is in the engines is alone with them."""
    live = item.get_closest_marker("live") is not None
    alone = item.get_closest_marker("alone") is not None
    with turns.turn(state.cache() / "turns", alone=alone) if live else contextlib.nullcontext():
        return (yield)
