"""The three doors, and how outcomes are told apart."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from imagesmith import Environment, Feature, Support
from imagesmith.cli import main
from imagesmith.conformance import (
    BuilderConformance,
    Check,
    Report,
    Status,
    Tier,
    UnknownCheck,
    catalogue,
    check_builder,
)
from imagesmith.conformance._catalogue import Skipped
from imagesmith.conformance.document import rules
from imagesmith.conformance.judge import judge, open_subject
from imagesmith.testing import FakeBuilder

ROOT = Path(__file__).resolve().parents[2]


class Unlike(FakeBuilder):
    """Fails ``table.name``, lacks a feature."""

    version = ""
    features: Mapping[Feature, Support] = MappingProxyType(
        {**FakeBuilder.features, Feature.ENTRYPOINT: Support.NOT_YET}
    )


def test_ids_are_stable_words_and_rules_are_one_sentence() -> None:
    checks = catalogue()
    assert len({check.id for check in checks}) == len(checks)
    for check in checks:
        area, dot, name = check.id.partition(".")
        assert all((dot, area, name)), check.id
        assert check.rule.endswith("."), check.id
        assert "\n" not in check.rule


def test_outcomes_are_told_apart() -> None:
    only = ["table.name", "table.values", "plan.env-apart", "plan.argv"]
    report = check_builder(
        Unlike,
        only=only,
        expected_failures={"table.name": "#12: it has none yet", "plan.argv": "#13: has a shell"},
    )
    assert {outcome.check.id: outcome.status for outcome in report.outcomes} == {
        "table.name": Status.EXPECTED,
        "table.values": Status.PASSED,
        "plan.argv": Status.FIXED,
        "plan.env-apart": Status.SKIPPED,
    }
    assert not report.ok, "a failure that was declared and does not happen is red"
    messages = {outcome.check.id: outcome.message for outcome in report.outcomes}
    assert messages["table.name"].startswith("#12: it has none yet\n")
    assert messages["plan.env-apart"] == "entrypoint: not yet"
    assert check_builder(Unlike, only=only, expected_failures={"table.name": "#12"}).ok


def made(error: Exception | None) -> Check:
    def run(subject: object) -> None:
        if error is not None:
            raise error

    return Check("area.name", "A rule.", Tier.PLAN, frozenset(), "0.1", run)


def test_the_suites_own_fault_is_no_failure_of_the_builder() -> None:
    with open_subject(FakeBuilder) as subject:
        fault = judge(made(ZeroDivisionError("mine")), subject, "expected")
        assert fault.status is Status.ERROR
        assert "ZeroDivisionError: mine" in fault.message
        assert judge(made(Skipped("no engine")), subject).message == "no engine"
        assert judge(made(AssertionError("no")), subject).status is Status.FAILED
        assert judge(made(None), subject).status is Status.PASSED


def test_a_builder_that_cannot_be_made_fails_and_breaks_nothing() -> None:
    def explode(environment: Environment) -> Any:
        raise RuntimeError("no licence")

    report = check_builder(explode, only=["table.name", "plan.pure"])
    assert report.ids(Status.FAILED) == {"table.name", "plan.pure"}
    assert "no licence" in report.outcomes[0].message


def test_unknown_ids_are_refused() -> None:
    with pytest.raises(UnknownCheck, match=r"no conformance check is called 'plan\.prue'") as caught:
        check_builder(FakeBuilder, only=["plan.prue"])
    assert caught.value.hint == "did you mean 'plan.pure'?"
    with pytest.raises(UnknownCheck):
        check_builder(FakeBuilder, expected_failures={"plan.prue": "x"})
    with pytest.raises(UnknownCheck):
        type("TestIt", (BuilderConformance,), {"expected_failures": {"plan.prue": "x"}})


@pytest.fixture(scope="module")
def report() -> Report:
    return check_builder(Unlike, only=["table.name", "table.values", "plan.env-apart"])


def test_the_text_reads_well(report: Report) -> None:
    text = report.to_text()
    assert "failed table.name: A builder's name is that of its entry point, and it has a version.\n" in text
    assert "  its version is empty\n" in text
    assert "skipped   plan.env-apart  entrypoint: not yet\n" in text
    assert text.splitlines()[-1].startswith("DOES NOT CONFORM: 1 passed, 1 failed, 1 skipped in ")


def test_json_and_junit(report: Report) -> None:
    told = json.loads(json.dumps(report.to_dict()))
    assert (told["ok"], told["counts"]) == (False, {"passed": 1, "failed": 1, "skipped": 1})
    assert told["checks"][0]["status"] == "failed"
    suite = ET.fromstring(report.to_junit())
    assert {key: suite.get(key) for key in ("tests", "failures", "errors", "skipped")} == {
        "tests": "3",
        "failures": "1",
        "errors": "0",
        "skipped": "1",
    }
    failure = suite.find("testcase[@name='table.name']/failure")
    assert failure is not None
    assert failure.text == "its version is empty"


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    junit = tmp_path / "report.xml"
    code = main(["conformance", "envd", "--only", "plan.pure,plan.argv", "--json", "--junit", str(junit)])
    out, err = capsys.readouterr()
    assert code == 0
    assert [check["id"] for check in json.loads(out)["checks"]] == ["plan.pure", "plan.argv"]
    assert "passed   plan.pure" in err
    assert ET.fromstring(junit.read_text()).get("tests") == "2"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["envd", "--only", "plan.argv", "--expect", "plan.argv=#1: a reason"], 1, "take it out"),
        (["envd", "--expect", "plan.argv"], 2, "needs its reason"),
        (["envd", "--only", "plan.prue"], 2, "did you mean 'plan.pure'"),
        (["envdd"], 2, "did you mean 'envd'"),
        ([], 2, "name the builder"),
        (["envd", "--tier", "lively"], 2, "lively"),
    ],
)
def test_the_command_line_says_no(
    capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, words: str
) -> None:
    assert main(["conformance", *arguments]) == code
    assert words in "".join(capsys.readouterr())


def test_under_pytest(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        textwrap.dedent("""
        import pytest
        from imagesmith.conformance import BuilderConformance
        from tests.conformance.test_doors import Unlike

        class TestUnlike(BuilderConformance):
            tiers = ("plan", "fake")
            expected_failures = {"table.name": "#12", "plan.argv": "#13"}

            @pytest.fixture
            def builder(self):
                return Unlike
        """)
    )
    argv = [sys.executable, "-m", "pytest", "-rA", "--strict-markers", "-p", "no:cacheprovider", "test_it.py"]
    env = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(argv, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert "PASSED test_it.py::TestUnlike::test_conforms[plan.pure]" in done.stdout, done.stdout + done.stderr
    assert "XFAIL test_it.py::TestUnlike::test_conforms[table.name] - #12" in done.stdout
    assert "FAILED test_it.py::TestUnlike::test_conforms[plan.argv]" in done.stdout
    assert "entrypoint: not yet" in done.stdout
    assert "1 failed, 27 passed, 2 skipped, 1 xfailed" in done.stdout


def test_optimised_python_is_refused() -> None:
    code = "from imagesmith.conformance import check_builder\ncheck_builder('envd', tiers=['plan'])\n"
    done = subprocess.run([sys.executable, "-O", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "python -O leaves out the assertions" in done.stderr


def test_the_page_of_rules_is_current() -> None:
    from imagesmith.cli.conformance import tables

    page = rules(tables()).rstrip() + "\n"
    assert (ROOT / "docs" / "conformance.md").read_text(encoding="utf-8") == page, (
        "run: imagesmith conformance --rules > docs/conformance.md"
    )
