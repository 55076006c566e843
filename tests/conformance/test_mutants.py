"""The catalogue bites: each broken builder fails exactly the checks that are about what is wrong with it."""

from __future__ import annotations

import pytest

from imagesmith.conformance import Status, Tier, catalogue, check_builder
from imagesmith.testing import FakeBuilder
from tests.conformance.mutants import MUTANTS, Mutant

TIERS = (Tier.PLAN, Tier.FAKE)


def test_the_fake_builder_conforms() -> None:
    report = check_builder(FakeBuilder, tiers=TIERS)
    assert report.ok, report.to_text()
    assert report.ids(Status.SKIPPED) == {"build.no-engine"}


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.why.replace(" ", "-") for mutant in MUTANTS])
def test_a_broken_builder_fails_exactly_these_checks(mutant: Mutant) -> None:
    report = check_builder(mutant.builder, tiers=TIERS)
    assert report.ids(Status.FAILED) - mutant.perhaps == mutant.killed_by, report.to_text()
    assert not report.ids(Status.ERROR), report.to_text()


def test_every_check_kills_a_mutant() -> None:
    killers = {each for mutant in MUTANTS for each in mutant.killed_by}
    idle = {check.id for check in catalogue(TIERS)} - killers
    assert not idle, "these checks see nothing: sharpen them or take them out"
