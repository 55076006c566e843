"""The live tier bites: each sabotage fails exactly the checks that are about it."""

from __future__ import annotations

import types
import uuid
from collections.abc import Callable, Mapping

import pytest

from imagesmith.conformance import Status, Tier, catalogue, check_builder, workshop
from imagesmith.conformance.checks import publishing
from tests.conformance.rigged import environment
from tests.conformance.saboteurs import ALL, SABOTAGES, Sabotage, Team, teams

pytestmark = pytest.mark.live

GROUPS = {
    "rich": (
        "env.configured env.visible env.path env.pythonpath env.commands env.not-at-install "
        "build-env.install build-env.commands build-env.gone marker.configured marker.commands "
        "marker.own-code publish.exists python.version packages.installed packages.requirements "
        "packages.any-user "
        "packages.before-files source.files source.ignored source.modes source.links copy.lands "
        "workdir.default workdir.writable entrypoint.list labels.own labels.user history.plain "
        "commands.order commands.shell commands.place publish.result publish.reuse"
    ),
    "plain": "env.no-rebuild entrypoint.kept platform.one",
    "changed": "workdir.set workdir.owner user.set entrypoint.empty commands.root",
    "apt": "apt.installed apt.before-packages",
    "conda": "conda.path conda.installed conda.files conda.commands conda.result",
    "cuda": "base.cuda",
    "volume": "base.volume",
    "upper": "env.over-base base.spec base.kept base.commands",
    "private": (
        "index.private index.extra index.variable "
        "secrets.mounted secrets.layers secrets.told secrets.other-login"
    ),
    "publish": "publish.force publish.clean publish.last publish.once publish.processes",
    "processes": "publish.once publish.processes",
    "container": "publish.clean",
    "registry": "registry.push registry.no-engine registry.env-moves-nothing",
    "login": "registry.private registry.refused",
    "several": "platform.several",
    "fault": "fault.command fault.values fault.nothing-left fault.set-eu fault.package",
    "refusal": "fault.base fault.platform fault.dead-engine",
    "interrupt": "fault.interrupt",
}


def expected(sabotage: Sabotage) -> set[str]:
    return set(GROUPS[sabotage.group].split()) if ALL in sabotage.killed_by else set(sabotage.killed_by)


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    return environment(tmp_path_factory.mktemp("environment"))


@pytest.fixture(scope="module")
def mark() -> str:
    return uuid.uuid4().hex


@pytest.mark.parametrize("team", teams(), ids=[f"{team.group}-{n}" for n, team in enumerate(teams())])
def test_sabotage_fails_exactly_these_checks(
    team: Team, env: Mapping[str, str], mark: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the same content for all of them: what one has installed stands in the engine's cache for the next
    stub = types.SimpleNamespace(uuid4=lambda: uuid.UUID(mark))
    monkeypatch.setattr(workshop, "uuid", stub)
    for sabotage in team.sabotages:
        for owner, name, stand_in in sabotage.patches:
            change: Callable[..., object] = stand_in(getattr(owner, name))
            monkeypatch.setattr(owner, name, change)
    if team.group == "container":  # no need to wait for containers of others as long as elsewhere
        monkeypatch.setattr(publishing, "_SECONDS_OF_OTHERS", 5.0)
    wanted = {check: each.why for each in team.sabotages for check in expected(each)}
    report = check_builder(team.builder, only=GROUPS[team.group].split(), env=env)
    if report.ids(Status.SKIPPED) & set(wanted):
        pytest.skip("; ".join(each.message for each in report.outcomes if each.status is Status.SKIPPED))
    found = report.ids(Status.FAILED)
    unseen = {check: why for check, why in wanted.items() if check not in found}
    told = f"{team.why}\nunseen: {unseen}\ntoo much: {found - set(wanted)}\n{report.to_text()}"
    assert found == set(wanted), told
    assert not report.ids(Status.ERROR), told


def test_every_live_check_sees_a_sabotage() -> None:
    killers = {each for sabotage in SABOTAGES for each in expected(sabotage)}
    idle = {check.id for check in catalogue([Tier.LIVE])} - killers
    assert not idle, "these checks see nothing: sharpen them or take them out"
    grouped = {each for ids in GROUPS.values() for each in ids.split()}
    assert grouped == {check.id for check in catalogue([Tier.LIVE])}
