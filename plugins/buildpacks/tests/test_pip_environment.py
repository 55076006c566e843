"""pip's arguments as variables: held against pip itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from plugins.buildpacks.tests.cases import request, requirements

from imagesmith import ImageSpec, Secret
from imagesmith.testing import request_for
from imagesmith_buildpacks.options import Options
from imagesmith_buildpacks.pip_environment import pip_arguments, pip_environment
from imagesmith_buildpacks.render import platform_environment

ASK = """
import json, sys
from pip._internal.cli.main_parser import parse_command
from pip._internal.commands import create_command
command = create_command("install")
options, _ = command.parse_args(sys.argv[1:])
told = {key: value for key, value in vars(options).items() if key not in ("format_control",)}
told["format"] = [sorted(options.format_control.no_binary), sorted(options.format_control.only_binary)]
json.dump(told, sys.stdout, default=str)
"""
CASES = (
    ["--no-deps"],
    ["--pre", "--no-index"],
    ["--no-compile"],
    ["--no-build-isolation"],
    ["--no-binary", "numpy", "--only-binary=:all:"],
    ["--find-links", "https://a.example", "-f", "https://b.example/"],
    ["--trusted-host=a", "--trusted-host", "b"],
    ["-i", "https://index.example/simple", "--extra-index-url", "https://x.example"],
    ["--timeout", "7", "--retries=1"],
    ["--require-hashes"],
    ["-U", "--upgrade-strategy", "eager"],
    ["--no-warn-script-location", "--disable-pip-version-check"],
    ["--prefer-binary", "--ignore-requires-python"],
)


def pip(tmp_path: Path, arguments: list[str], env: dict[str, str]) -> dict[str, object]:
    clean = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PIP_CONFIG_FILE": os.devnull}
    done = subprocess.run(
        [sys.executable, "-c", ASK, *arguments, "x"], env={**clean, **env}, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    found: dict[str, object] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("arguments", CASES, ids=" ".join)
def test_pip_understands_the_same(arguments: list[str], tmp_path: Path) -> None:
    pytest.importorskip("pip", reason="this environment has no pip to ask")
    env = pip_environment(request(ImageSpec(packages=["x"], pip_extra_args=arguments), requirements("x")))
    assert pip(tmp_path, [], env) == pip(tmp_path, arguments, {})


@pytest.mark.parametrize(
    "arguments",
    [
        ["--target", "/x"], ["--user"], ["-r", "x.txt"], ["--prefix=/x"], ["x"], ["--"], ["-"], ["--a b=c"],
        ["--find-links", "two words"], ["--timeout"],
    ],
)  # fmt: skip
def test_what_no_variable_can_say(arguments: list[str]) -> None:
    assert pip_arguments(arguments)[1]


def test_indexes_with_a_login_are_in_no_variable() -> None:
    spec = ImageSpec(packages=["x"], pip_index="https://me:hunter2@index.example/simple")
    env = pip_environment(request(spec, requirements("x", secrets={"pip.conf": Secret(b"hunter2")})))
    assert env == {"PIP_CONFIG_FILE": "/platform/imagesmith/pip.conf"}


def test_a_secret_file_means_what_the_arguments_would(tmp_path: Path) -> None:
    """Whatever variables the base has: without the file, each would win over it."""
    pytest.importorskip("pip", reason="this environment has no pip to ask")
    base = {"PIP_INDEX_URL": "https://base/", "PIP_EXTRA_INDEX_URL": "https://more/ https://most/"}
    spec = ImageSpec(
        packages=["x"], build_env=base, pip_index="https://me:hunter2@index.example/simple",
        pip_extra_args=["--extra-index-url", "https://me:hunter2@extra.example/simple", "--pre"],
    )  # fmt: skip
    asked = request_for(spec)
    conf, empty = tmp_path / "pip.conf", tmp_path / "empty"  # beside either, pip reads the machine's own
    conf.write_bytes(asked.secrets["pip.conf"].reveal())
    empty.touch()
    env = {**platform_environment(asked, Options()), "PIP_CONFIG_FILE": str(conf)}
    arguments = ["--index-url", str(spec.pip_index), *spec.pip_extra_args]
    assert pip(tmp_path, [], env) == pip(tmp_path, arguments, {**base, "PIP_CONFIG_FILE": str(empty)})
