"""A plan is a pure value."""

from __future__ import annotations

import dataclasses
import os
import pickle
import posixpath
from typing import TYPE_CHECKING

from imagesmith.builder import BuildPlan, Contribution, Feature
from imagesmith.conformance._catalogue import Tier, check
from imagesmith.conformance.guard import deeds
from imagesmith.conformance.samples import SECRET, everything
from imagesmith.conformance.subject import shape
from imagesmith.spec import ImageSpec

if TYPE_CHECKING:
    from imagesmith.conformance.subject import Subject


@check("plan.pure", Tier.PLAN)
def pure(subject: Subject) -> None:
    """Planning opens no socket, starts no process, writes nothing, reads neither clock nor environment."""
    request = subject.request(subject.supported(everything()), staged=True)
    subject.plan(request)  # imports what it needs
    builder = subject.make()
    with deeds() as seen:
        subject.plan(request, builder=builder)
    told = sorted({f"{deed} ({detail})" for deed, detail in seen})
    assert not told, f"plan() {'; '.join(told)}"


@check("plan.deterministic", Tier.PLAN)
def deterministic(subject: Subject) -> None:
    """The same request gives the same plan, on any machine."""
    request = subject.request(subject.supported(everything()), staged=True)
    first = subject.plan(request)
    second = subject.plan(request)
    assert shape(first) == shape(second), f"two plans of one request differ: {_difference(first, second)}"
    elsewhere = subject.make(env={**subject.nowhere, "HOME": "/elsewhere", "USER": "you", "LANG": "de_DE"})
    here = os.getcwd()  # noqa: PTH109
    os.chdir("/")
    try:
        third = subject.plan(request, builder=elsewhere)
    finally:
        os.chdir(here)
    assert shape(first) == shape(third), (
        f"another HOME, LANG and working directory give another plan: {_difference(first, third)}"
    )


@check("plan.value", Tier.PLAN)
def value(subject: Subject) -> None:
    """A plan is plain data: it names its builder, holds its request, its files stay in the build folder."""
    request = subject.request(subject.supported(everything()), staged=True)
    plan = subject.plan(request)
    assert isinstance(plan, BuildPlan), f"plan() returned {type(plan).__name__}, not a BuildPlan"
    assert plan.builder == subject.name, f"the plan names the builder {plan.builder!r}"
    assert plan.request is request, "the plan holds another request than the one it was made for"
    for path, text in plan.files.items():
        assert isinstance(text, str), f"the file {path} is {type(text).__name__}, not text"
        outside = posixpath.normpath(path) != path or path.startswith(("/", ".."))
        assert not outside, f"the file {path!r} is not a plain path below the build folder"
    assert plan.steps, "the plan names no steps"
    assert all(isinstance(step, str) and step.strip() for step in plan.steps), f"steps: {plan.steps!r}"
    bare = dataclasses.replace(request, secrets={}, staged=dataclasses.replace(request.staged, secrets={}))
    try:
        pickle.dumps(dataclasses.replace(plan, request=bare))
    except (TypeError, AttributeError, pickle.PicklingError) as error:
        raise AssertionError(f"the plan is no plain data: {error}") from error


@check("plan.argv", Tier.PLAN)
def argv(subject: Subject) -> None:
    """Every command is a list of words, the program first; no shell stands between."""
    plan = subject.plan(subject.supported(everything()))
    for command in plan.commands:
        assert isinstance(command.argv, tuple), f"a command is a {type(command.argv).__name__}, not a tuple"
        assert command.argv, "a command is empty"
        odd = [word for word in command.argv if not isinstance(word, str) or "\0" in word]
        assert not odd, f"these words of a command are no text: {odd!r}"
        assert " " not in command.argv[0], f"the program {command.argv[0]!r} is a whole command line"
        shell = command.argv[0].rpartition("/")[2] in {"sh", "bash", "dash", "zsh"} and "-c" in command.argv
        assert not shell, f"a shell is given a command line: {command.argv[:3]!r}"


@check("plan.listed", Tier.PLAN)
def listed(subject: Subject) -> None:
    """A plan can be made for showing: the base unresolved, the files only listed."""
    request = subject.request(subject.supported(everything()))
    base = dataclasses.replace(request.base, digest=None, config={})
    plan = subject.plan(dataclasses.replace(request, base=base))
    assert plan.files or plan.commands, "there is nothing to show: neither files nor commands"


@check("plan.order-blind", Tier.PLAN)
def order_blind(subject: Subject) -> None:
    """Where order and repetition mean nothing, they change nothing: packages, apt, env, build_env, labels."""
    spec = subject.supported(everything())
    for field in ("packages", "apt_packages", "env", "build_env", "labels", "conda_packages"):
        had = getattr(spec, field)
        if not had:
            continue
        turned = (
            dict(reversed(list(had.items()))) if hasattr(had, "items") else [*reversed(had), next(iter(had))]
        )
        first, second = subject.plan(spec), subject.plan(spec.replace(**{field: turned}))
        assert shape(first) == shape(second), (
            f"'{field}' in another order gives another plan: {_difference(first, second)}"
        )


@check("plan.order-kept", Tier.PLAN)
def order_kept(subject: Subject) -> None:
    """Where order means something it is kept: commands, extra indexes, the installer's arguments."""
    spec = subject.supported(everything(pip_index="http://index.invalid/simple"))
    for field in ("commands", "pip_extra_index_url", "pip_extra_args", "conda_channels"):
        had = getattr(spec, field)
        if not had:
            continue
        first, second = subject.plan(spec), subject.plan(spec.replace(**{field: list(reversed(had))}))
        assert shape(first) != shape(second), f"'{field}' in another order gives the same plan"


@check("plan.env-apart", Tier.PLAN, Feature.ENV, Feature.ENTRYPOINT, Feature.LABELS)
def env_apart(subject: Subject) -> None:
    """Without commands, changing env, entrypoint or labels changes no plan, and so rebuilds no layer."""
    spec = subject.supported(everything(commands=()))
    for changes in (
        {"env": {"CONFORMANCE_A": "other"}},
        {"entrypoint": ["other"]},
        {"labels": {"other": "x"}},
    ):
        first, second = subject.plan(spec), subject.plan(spec.replace(**changes))
        assert shape(first) == shape(second), (
            f"another {next(iter(changes))} gives another plan: {_difference(first, second)}"
        )


@check("plan.env-of-commands", Tier.PLAN, Feature.ENV, Feature.COMMANDS)
def env_of_commands(subject: Subject) -> None:
    """With commands, another env gives another plan: the commands see it."""
    spec = subject.supported(everything(env={"CONFORMANCE_A": "x"}))
    first, second = subject.plan(spec), subject.plan(spec.replace(env={"CONFORMANCE_A": "y"}))
    assert shape(first) != shape(second), "commands see env, but another env gives the same plan"


@check("plan.base-pinned", Tier.PLAN)
def base_pinned(subject: Subject) -> None:
    """A plan builds on the digest that the core resolved, not on whatever the name means later."""
    first = subject.plan(subject.request(ImageSpec()))
    second = subject.plan(subject.request(ImageSpec(), digest="sha256:" + "f" * 64))
    assert shape(first) != shape(second), "another digest of the base gives the same plan"


@check("plan.contribution", Tier.PLAN)
def contribution(subject: Subject) -> None:
    """What a builder contributes to the configuration are absolute folders for PATH and plain variables."""
    for spec in (ImageSpec(), subject.supported(everything())):
        for config in ({}, subject.request(spec).base.config):
            given = subject.plan(subject.request(spec, config=config)).contributed
            assert isinstance(given, Contribution), f"contributed is {type(given).__name__}"
            wrong = [path for path in given.path if not path.startswith("/") or ":" in path or path == "/"]
            assert not wrong, f"these are no folders for PATH: {wrong}"
            names = [key for key in given.env if key in {"PATH", "IMAGESMITH_ID"} or key in spec.env]
            assert not names, f"these variables are not the builder's to set: {names}"


@check("plan.no-marker", Tier.PLAN)
def no_marker(subject: Subject) -> None:
    """The marker belongs to the finished image: neither its name nor the spec's id stands in a plan."""
    plan = subject.plan(subject.supported(everything()))
    text = _text(plan)
    for word in ("IMAGESMITH_ID", plan.request.spec.id):
        assert word not in text, f"{word!r} stands in the plan"


@check("plan.no-secrets", Tier.PLAN)
def no_secrets(subject: Subject) -> None:
    """No secret stands in a plan: no credentials of an index, no content of a secret file."""
    plan = subject.plan(subject.request(subject.supported(everything()), staged=True))
    where = [name for name, text in {**plan.files, "its commands": _argv(plan)}.items() if SECRET in text]
    where += ["its repr"] if SECRET in repr(plan) else []
    assert not where, f"a secret stands in {', '.join(where)}"


def _argv(plan: BuildPlan) -> str:
    return repr([(command.argv, dict(command.env)) for command in plan.commands])


def _text(plan: BuildPlan) -> str:
    return "\n".join([*plan.files.values(), *plan.files, _argv(plan), *map(str, plan.steps)])


def _difference(first: BuildPlan, second: BuildPlan) -> str:
    """Where two plans differ, briefly."""
    for path in sorted({*first.files, *second.files}):
        ours, theirs = first.files.get(path), second.files.get(path)
        if ours is None or theirs is None:
            return f"only one has the file {path}"
        for number, (one, other) in enumerate(zip(ours.splitlines(), theirs.splitlines(), strict=False), 1):
            if one != other:
                return f"{path}:{number}: {one[:150]!r} and {other[:150]!r}"
        if ours != theirs:
            return f"{path}: one is longer"
    if _argv(first) != _argv(second):
        return f"commands {_argv(first)[:200]} and {_argv(second)[:200]}"
    return f"contributed {first.contributed} and {second.contributed}"
