"""The plan as text: golden files. ``python -m plugins.buildpacks.tests.test_render`` writes them anew."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from plugins.buildpacks.tests.cases import PYTHON, request, requirements

from imagesmith import (
    CondaPackage,
    CondaTree,
    Contribution,
    Environment,
    ImageSpec,
    RegistryRepository,
    Secret,
)
from imagesmith.testing import RecordingRunner
from imagesmith_buildpacks.builder import BuildpacksBuilder
from imagesmith_buildpacks.options import DEFAULT_BUILDER, Options
from imagesmith_buildpacks.render import Creator, command_scripts, platform_environment, run_toml

GOLDEN = Path(__file__).parent / "golden"
SPEC = ImageSpec(
    name="golden",
    apt_packages=["git", "curl", "git"],
    packages=["numpy", "x[a]>=1; python_version < '3.13'"],
    python_version="3.11",
    env={"A": "it's\n$x", "B": ""},
    build_env={"C": "d e'f", "PATH": "/own:$PATH"},
    commands=["echo 'one' | cat", "false"],
    pip_extra_args=["--no-deps", "--trusted-host", "h"],
    pip_extra_index_url=["https://one.example/simple"],
    builder_options={"env": {"BP_LOG_LEVEL": "DEBUG"}, "cache_image": "registry.example/cache"},
    source_root=".",
    user="1000:1000",
)
CONF = b"[global]\nindex-url = https://me:hunter2@private.example/simple\n"
CASES = {
    "nothing": request(ImageSpec()),
    "everything": request(SPEC, requirements("numpy", "x[a]>=1; python_version < '3.13'", has_source=True)),
    "conda": replace(
        request(ImageSpec(conda_packages=["numpy"], packages=["six"]), requirements("six"), {"config": {}}),
        conda=CondaTree(
            ("numpy",),
            ("conda-forge",),
            (CondaPackage("python", "3.11.9", "0", "https://x/python.conda", "00", 1),),
        ),
    ),
    "secrets": request(
        ImageSpec(
            packages=["six"],
            pip_index="https://me:hunter2@private.example/simple",
            pip_secret_mounts=[("token", "/run/secret/token")],
        ),
        requirements("six", secrets={"pip.conf": Secret(CONF), "pip_secret_mounts[0]": Secret(b"hunter2")}),
    ),
}


def builder(**options: Any) -> BuildpacksBuilder:
    return BuildpacksBuilder(Environment(RecordingRunner(), {}, Path("/nonexistent"), options))


def shown(name: str) -> str:
    plan = builder().plan(CASES[name])
    parts = [f"--- {path}\n{text}" for path, text in sorted(plan.files.items())]
    parts += ["--- command\n", *(f"{word}\n" for command in plan.commands for word in command.argv)]
    parts += ["--- steps\n", *(f"{step}\n" for step in plan.steps), f"--- contributed\n{plan.contributed}\n"]
    return "".join(part if part.endswith("\n") else f"{part}\n" for part in parts)


@pytest.mark.parametrize("name", CASES)
def test_golden(name: str) -> None:
    assert shown(name) == (GOLDEN / f"{name}.txt").read_text()
    assert "hunter2" not in shown(name)


def test_variables_arrive_byte_for_byte_and_pip_settings_win() -> None:
    spec = ImageSpec(
        packages=["x"],
        build_env={"A": " a\n$b ", "PIP_NO_DEPS": "0"},
        pip_extra_args=["--no-deps"],
    )
    env = platform_environment(request(spec, requirements("x")), Options(env={"A": "below", "BP_X": "1"}))
    assert env == {"A": " a\n$b ", "BP_X": "1", "PIP_NO_DEPS": "1"}


def test_a_run_image_is_recorded_by_name_and_used_by_digest() -> None:
    assert run_toml("r/x:1", "r/x@sha256:0") == '[[images]]\nimage = "r/x:1"\nmirrors = ["r/x@sha256:0"]\n'
    assert run_toml("x:1", "x:1") == '[[images]]\nimage = "x:1"\n'


def test_flags_come_before_the_image() -> None:
    argv = Creator("x:1", "run:1", daemon=True, previous="x:0", insecure=("h:1", "h:2")).argv()
    assert argv[-1] == "x:1"
    text = " ".join(argv)
    assert "-daemon -launch-cache /launch-cache" in text
    assert "-previous-image x:0" in text
    assert "-insecure-registry h:1 -insecure-registry h:2" in text
    assert "-cache-dir /cache" in text
    assert "-cache-dir" not in Creator("x:1", "run:1", cache_image="c:1").argv()


def test_commands_see_what_the_build_found(tmp_path: Path) -> None:
    spec = ImageSpec(
        env={"A": "it's\n$x"}, commands=['echo "$A"; echo $PATH; echo $V'], workdir=str(tmp_path)
    )
    found = Contribution(("/layers/x/bin",), {"V": "1"})
    for name, text in command_scripts(request(spec), found).items():
        (tmp_path / name).write_text(text)
    done = subprocess.run(
        ["/bin/sh", "-eu", str(tmp_path / "command.sh"), str(tmp_path / "000.sh")],
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "it's\n$x\n/layers/x/bin:/usr/local/bin:/usr/bin:/bin\n1\n"


HOLDING = ImageSpec(base_image=ImageSpec(name="low", base_image=ImageSpec(name="lower", packages=["x"])))
CNB_BASE = {
    "config": {**PYTHON["config"], "Labels": {"io.buildpacks.lifecycle.metadata": "{}"}}  # type: ignore[dict-item]
}


@pytest.mark.parametrize(
    ("spec", "staged", "config", "field"),
    [
        (ImageSpec(builder_options={"bulder": "x"}), None, PYTHON, "builder_options['bulder']"),
        (ImageSpec(packages=["x"], pip_extra_args=["--target", "/x"]), None, PYTHON, "pip_extra_args"),
        (
            ImageSpec(packages=["x"], pip_secret_mounts=[("t", "/layers/t")]),
            None,
            PYTHON,
            "pip_secret_mounts[0]",
        ),
        (
            ImageSpec(packages=["x"], pip_secret_mounts=[("t", "/root/.netrc")]),
            None,
            PYTHON,
            "pip_secret_mounts[0]",
        ),
        (ImageSpec(packages=["x"]), requirements("x"), CNB_BASE, "base_image"),
        (ImageSpec(), None, CNB_BASE, None),
        (HOLDING, None, PYTHON, None),
        (HOLDING.replace(packages=["y"]), requirements("y"), PYTHON, "base_image"),
    ],
)
def test_refusals(spec: ImageSpec, staged: Any, config: dict[str, Any], field: str | None) -> None:
    assert list(builder().refusals(request(spec, staged, config))) == ([field] if field else [])


def test_which_base_an_unset_one_stands_for() -> None:
    spec = ImageSpec()
    told = ImageSpec(builder_options={"run_image": "me/run"})
    assert builder().default_base(spec, None, ask=False) == f"the run image of {DEFAULT_BUILDER}"
    assert builder().default_base(spec, "machine/base:1", ask=True) == "machine/base:1"
    assert builder().default_base(told, "machine/base:1", ask=True) == "docker.io/me/run:latest"
    assert builder(run_image="a.b/run:2").default_base(spec, None, ask=True) == "a.b/run:2"


def test_a_registry_changes_no_file_of_the_plan() -> None:
    case = CASES["everything"]
    there = replace(case, destination=RegistryRepository("r/x"))
    assert builder().plan(case).files == builder().plan(there).files


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for name in CASES:
        (GOLDEN / f"{name}.txt").write_text(shown(name))
