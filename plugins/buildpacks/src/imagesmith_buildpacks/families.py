"""The families of CNB builders: how each is told about python, and which of its buildpacks make it. Pure.

One small table each. Where a builder is of no known family, its own order decides.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from imagesmith_buildpacks.builder_info import BuilderInfo  # it imports this module

__all__ = ["FAMILIES", "GENERIC", "Family", "Group", "Member", "family_of", "group_order", "order_toml"]


@dataclass(frozen=True, slots=True)
class Member:
    """One buildpack in a group."""

    id: str
    version: str
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Group:
    """Buildpacks that build together, in their order."""

    members: tuple[Member, ...]


@dataclass(frozen=True, slots=True)
class Family:
    """What is particular to the builders of one origin."""

    name: str
    prefix: str
    """how the ids of its buildpacks begin"""
    members: tuple[tuple[str, bool], ...]
    """ids of the buildpacks that make a python application, and whether each is optional"""
    version_env: str | None = None
    """the variable that asks for a python version"""
    version_form: str = "{}"
    """how a minor version such as ``3.11`` is written there; a full one is written as it is"""
    version_file: str | None = None
    """the file of the application that asks for a python version"""
    env: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """what lets it build where the application's source is not shown to it"""
    forbidden: tuple[str, ...] = ()
    """variables that its buildpacks refuse, or that break them"""
    chooses_python: bool = True
    """whether a version can be asked for; else it brings the one of its build image"""

    def environment(self, python: str | None) -> dict[str, str]:
        """What buildpacks are to see for that python."""
        if not self.version_env or not python:
            return dict(self.env)
        form = "{}" if python.count(".") == 2 else self.version_form
        return {**self.env, self.version_env: form.format(python)}

    def files(self, python: str | None) -> dict[str, str]:
        """Files of the application for that python."""
        return {self.version_file: f"{python}\n"} if self.version_file and python else {}


PAKETO = Family(
    name="Paketo",
    prefix="paketo-buildpacks/",
    members=(("paketo-buildpacks/ca-certificates", True), ("paketo-buildpacks/python", False)),
    version_env="BP_CPYTHON_VERSION",
    version_form="{}.*",
)
HEROKU = Family(
    name="Heroku",
    prefix="heroku/",
    members=(("heroku/python", False),),
    version_file=".python-version",
    forbidden=(
        "PIP_CACHE_DIR", "PIP_PREFIX", "PIP_PYTHON", "PIP_ROOT", "PIP_TARGET", "PIP_USER", "PYTHONHOME",
        "PYTHONINSPECT", "PYTHONNOUSERSITE", "PYTHONPLATLIBDIR", "PYTHONUSERBASE", "VIRTUAL_ENV",
    ),
)  # fmt: skip
GOOGLE = Family(
    name="Google",
    prefix="google.",
    members=(
        ("google.python.runtime", False),
        ("google.python.pip", True),
        ("google.config.entrypoint", False),
        ("google.utils.label-image", True),
    ),
    version_env="GOOGLE_PYTHON_VERSION",
    version_form="{}.x",
    env=MappingProxyType({"GOOGLE_RUNTIME": "python", "GOOGLE_ENTRYPOINT": "python"}),
)
FAMILIES = (PAKETO, HEROKU, GOOGLE)
GENERIC = Family(name="generic", prefix="", members=(), chooses_python=False)
"""Any other builder: its own order, and the python of its build image."""


def family_of(info: BuilderInfo) -> Family:
    """The family whose python buildpack the builder holds."""
    for family in FAMILIES:
        needed = [name for name, optional in family.members if not optional]
        if needed and all(name in info.buildpacks for name in needed):
            return family
    return GENERIC


def group_order(
    info: BuilderInfo, family: Family, *, before: tuple[Member, ...] = (), last: Member
) -> tuple[Group, ...]:
    """The groups to try: only those that make python, so that nothing else in the files steers detection.

    ``before`` come first in every group, ``last`` ends it.
    """
    if not family.members:
        own = [Group(tuple(_pinned(each, info) for each in group.members)) for group in info.order]
        return tuple(Group((*before, *group.members, last)) for group in own)
    members = tuple(
        Member(name, info.buildpacks[name], optional)
        for name, optional in family.members
        if name in info.buildpacks
    )
    return (Group((*before, *members, last)),)


def _pinned(member: Member, info: BuilderInfo) -> Member:
    """With the version that stands in the builder, where its order names none."""
    return replace(member, version=member.version or info.buildpacks.get(member.id, ""))


def order_toml(groups: tuple[Group, ...]) -> str:
    """As ``order.toml``; JSON's strings are TOML's."""
    lines = []
    for group in groups:
        lines.append("[[order]]")
        for each in group.members:
            lines += ["  [[order.group]]", f"    id = {json.dumps(each.id)}"]
            lines += [f"    version = {json.dumps(each.version)}"]
            lines += ["    optional = true"] if each.optional else []
    return "".join(f"{line}\n" for line in lines)
