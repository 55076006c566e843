"""Options: what is taken, what is refused, who wins."""

from __future__ import annotations

import pytest

from imagesmith_buildpacks.options import DEFAULT_BUILDER, parse


def test_the_spec_wins_over_the_machine() -> None:
    options, problems = parse(
        {"builder": "me/builder"}, {"builder": "a.b/c:1", "trust": "yes", "network": "host"}
    )
    assert not problems
    assert (options.builder, options.trust, options.network) == ("docker.io/me/builder:latest", True, "host")
    assert not options.machine_builder


def test_references_are_written_out() -> None:
    options, _ = parse({"cache_image": "r:5/c", "run_image": f"x@sha256:{'0' * 64}"}, {})
    assert options.cache_image == "r:5/c:latest"
    assert options.run_image == f"docker.io/library/x@sha256:{'0' * 64}"


@pytest.mark.parametrize(
    ("declared", "machine", "trusted"),
    [
        ({}, {}, True),
        ({"builder": "docker.io/heroku/builder:24"}, {}, True),
        ({"builder": "gcr.io/buildpacks/builder:google-24"}, {}, True),
        ({"builder": "evil/builder"}, {}, False),
        ({"builder": "evil/builder", "trust": True}, {}, True),
        ({}, {"builder": "evil/builder"}, True),
        ({"builder": "evil/builder"}, {"builder": "good/builder"}, False),
    ],
)
def test_who_is_trusted(declared: dict[str, object], machine: dict[str, object], trusted: bool) -> None:
    assert parse(declared, machine)[0].trusted is trusted


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("bulder", "x", "did you mean 'builder'?"),
        ("machine_builder", True, "no option"),
        ("builder", "UPPER", "upper-case"),
        ("builder", 3, "expected text"),
        ("env", "A=1", "a table of variables"),
        ("env", {"a-b": "1"}, "no variable"),
        ("env", {"A": 1}, "no variable"),
        ("trust", "perhaps", "true or false"),
        ("network", "-x", "expected text"),
        ("buildpacks", 7, "a list of texts"),
    ],
)
def test_what_is_wrong_is_told_by_name(name: str, value: object, why: str) -> None:
    _, problems = parse({name: value}, {})
    assert list(problems) == [f"builder_options[{name!r}]"]
    assert why in problems[f"builder_options[{name!r}]"]


def test_without_any() -> None:
    options, problems = parse({}, {})
    assert (options.builder, problems) == (DEFAULT_BUILDER, {})
