"""The door for pytest. Needs no plugin and no conftest: the class generates its own tests."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, ClassVar

import pytest

from imagesmith.conformance._catalogue import Check, Tier, refuse_unknown, selected
from imagesmith.conformance.judge import judge, open_subject
from imagesmith.conformance.report import Status

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from imagesmith.conformance.subject import Factory, Subject

__all__ = ["BuilderConformance"]


class BuilderConformance:
    """The catalogue as tests of one builder::

        class TestMine(BuilderConformance):
            @pytest.fixture
            def builder(self):
                return "mine"  # an installed one, or what makes one: MyBuilder

    ``expected_failures`` are strict: a declared failure that passes is red.
    """

    tiers: ClassVar[tuple[str, ...]] = tuple(Tier)
    """``plan``, ``fake``, ``live``"""
    only: ClassVar[tuple[str, ...]] = ()
    """ids; then no other check is made"""
    expected_failures: ClassVar[Mapping[str, str]] = {}
    """id -> reason"""

    def __init_subclass__(cls) -> None:
        refuse_unknown(cls.expected_failures)
        selected([Tier(tier) for tier in cls.tiers], cls.only)

    @pytest.fixture
    def builder(self) -> str | Factory:
        """The builder's name, or what makes it of an ``Environment``. Asked once."""
        raise NotImplementedError(f"{type(self).__name__} must define the fixture 'builder'")

    @pytest.fixture
    def environment(self) -> Mapping[str, str] | None:
        """Environment variables of the live tier (engine, base image, registry); None: this process's."""
        return None

    @pytest.fixture(scope="class")
    @classmethod
    def subjects(cls) -> Iterator[tuple[ExitStack, list[Subject]]]:
        """The one that is opened for this class, once it is."""
        with ExitStack() as stack:
            yield stack, []

    @pytest.fixture
    def subject(
        self,
        request: pytest.FixtureRequest,
        subjects: tuple[ExitStack, list[Subject]],
    ) -> Subject:
        """What the checks are made on; images that several of them look at are built once."""
        stack, opened = subjects
        if not opened:
            given = request.getfixturevalue("builder"), request.getfixturevalue("environment")
            opened.append(stack.enter_context(open_subject(given[0], env=given[1])))
        return opened[0]

    @classmethod
    def pytest_generate_tests(cls, metafunc: pytest.Metafunc) -> None:
        """One test for each check, called by its id; live ones are marked where the project has that mark."""
        if "check" not in metafunc.fixturenames:
            return
        marked = any(line.startswith("live:") for line in metafunc.config.getini("markers"))
        marks = {Tier.LIVE: [pytest.mark.live]} if marked else {}
        checks = selected([Tier(tier) for tier in cls.tiers], cls.only)
        metafunc.parametrize(
            "check", [pytest.param(each, id=each.id, marks=marks.get(each.tier, [])) for each in checks]
        )

    def test_conforms(self, check: Check, subject: Subject) -> None:
        """The builder keeps the rule."""
        outcome = judge(check, subject, self.expected_failures.get(check.id))
        told = f"{check.id}: {check.rule}\n{outcome.message}"
        match outcome.status:
            case Status.SKIPPED:
                pytest.skip(outcome.message)
            case Status.EXPECTED:
                pytest.xfail(outcome.message)
            case Status.FAILED | Status.FIXED:
                pytest.fail(told, pytrace=False)
            case Status.ERROR:
                pytest.fail(f"an error in the suite, or of this machine: {told}", pytrace=False)
