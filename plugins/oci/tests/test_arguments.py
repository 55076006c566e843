"""What pip is told, in each of the ways it can be told, as the resolution understands it."""

from __future__ import annotations

import pytest

from imagesmith import BaseImage, BuildRequest, ImageSpec
from imagesmith.testing import request_for
from imagesmith_oci.arguments import arguments_of, misunderstood
from imagesmith_oci.machine import Machine
from imagesmith_oci.options import Options
from imagesmith_oci.platforms import Libc
from imagesmith_oci.resolve import indexes, question

LOGIN = "https://u:hunter2@"


def asked(*variables: str, **fields: object) -> BuildRequest:
    base = BaseImage("base.example/x:1", config={"config": {"Env": list(variables)}})
    return request_for(ImageSpec(**{"packages": ["six"], **fields}), base=base)  # type: ignore[arg-type]


def found(request: BuildRequest) -> tuple[str | None, tuple[str, ...]]:
    machine = Machine(index="https://machine/", extra=("https://more/",))
    return indexes(question(request, Options(), machine, "3.11.2", Libc("glibc", 2, 36)))


def test_indexes_come_from_the_spec_then_its_variables_then_the_base_then_the_machine() -> None:
    base = "PIP_INDEX_URL=https://base/"
    told = {"build_env": {"PIP_INDEX_URL": "https://told/"}}
    assert found(asked())[0] == "https://machine/"
    assert found(asked(base))[0] == "https://base/"
    assert found(asked(base, **told))[0] == "https://told/"
    assert found(asked(base, **told, pip_index="https://spec/"))[0] == "https://spec/"
    assert found(asked(base, **told, pip_index=f"{LOGIN}spec/"))[0] == f"{LOGIN}spec/"
    argued = asked(base, **told, pip_index=f"{LOGIN}spec/", pip_extra_args=["-i", "https://argued/"])
    assert found(argued)[0] == "https://argued/"


@pytest.mark.parametrize("login", ["https://", LOGIN])
def test_further_indexes_add_up(login: str) -> None:
    spec = {"build_env": {"PIP_EXTRA_INDEX_URL": "https://told/ $PIP_EXTRA_INDEX_URL"}}
    request = asked("PIP_EXTRA_INDEX_URL=https://base/", **spec, pip_extra_index_url=[f"{login}spec/"])
    assert found(request)[1] == ("https://more/", "https://told/", "https://base/", f"{login}spec/")


def test_flags_are_on_or_off() -> None:
    assert arguments_of(asked("PIP_PRE=1", "PIP_NO_DEPS=off")).options == ("--prerelease=allow",)
    assert arguments_of(asked("PIP_UPGRADE=yes")).upgrade


def test_constraints_may_lie_elsewhere() -> None:
    request = asked("PIP_CONSTRAINT=https://base/c.txt", pip_extra_args=["-c", "https://h/c.txt"])
    assert arguments_of(request).options == (
        "--constraints", "https://base/c.txt", "--constraints", "https://h/c.txt",
    )  # fmt: skip


def test_usual_variables_of_bases_are_of_no_account() -> None:
    usual = ["PIP_NO_CACHE_DIR=off", "PIP_DISABLE_PIP_VERSION_CHECK=1", "PIP_DEFAULT_TIMEOUT=100",
             "PIP_ROOT_USER_ACTION=ignore", "PIP_BREAK_SYSTEM_PACKAGES=1", "PIP_CACHE_DIR=/x",
             "PIP_CONFIG_FILE=/dev/null"]  # fmt: skip
    assert not misunderstood(asked(*usual))
    assert arguments_of(asked(*usual)) == arguments_of(asked())


def test_what_cannot_be_followed_is_refused_by_where_it_stands() -> None:
    """Bases for CUDA have such a file of constraints, and nothing here can read it."""
    limits = "PIP_CONSTRAINT=/etc/pip/constraint.txt"
    assert "/etc/pip/constraint.txt is a file of the image" in misunderstood(asked(limits))["base_image"]
    assert list(misunderstood(asked(build_env={"PIP_CONSTRAINT": "/x"}))) == ["build_env"]
    assert not misunderstood(asked(limits, packages=[])), "no package is asked for"
