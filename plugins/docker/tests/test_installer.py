"""uv or pip, and what each is told."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from plugins.docker.tests.cases import request, requirements

from imagesmith import ImageSpec
from imagesmith_docker import pip_settings
from imagesmith_docker.installer import installer


def script(*arguments: str, line: str = "six", version: str = "3.11.2") -> str:
    config = {"config": {"Env": [f"PYTHON_VERSION={version}"]}}
    spec = ImageSpec(packages=["six"], pip_extra_args=arguments)
    chosen = installer(request(spec, requirements(line), config))
    assert chosen.uv == (not chosen.reason)
    return chosen.script


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--pre"], "--prerelease=allow"),
        (["--no-deps", "--no-binary=:all:"], "--no-deps --no-binary :all:"),
        (["--index-strategy", "first-index"], "--index-strategy first-index"),
        (["-U"], "--upgrade"),
    ],
)
def test_arguments_uv_knows(given: list[str], said: str) -> None:
    found = script(*given)
    assert said in found
    assert ("unsafe-best-match" in found) == ("--index-strategy" not in given)


@pytest.mark.parametrize(
    "given", ["--user", "--prefer-binary", "--config-settings=x=y", "-c https://h/x.txt", "--no-binary"]
)
def test_arguments_that_are_pips_own(given: str) -> None:
    found = script(*given.split())
    assert "UV_" not in found
    assert given.split(maxsplit=1)[0] in found


@pytest.mark.parametrize("line", ["--prefer-binary", "six --global-option=x", "--use-feature fast-deps"])
def test_lines_that_are_pips_own(line: str) -> None:
    assert "UV_" not in script(line=line)


def test_a_python_that_uv_does_not_know() -> None:
    assert "UV_" not in script(version="3.7.17")


def test_one_hash_means_hashes_for_all() -> None:
    assert "--require-hashes" in script(line="six==1 --hash=sha256:00")
    assert "--require-hashes" not in script()


def test_an_index_in_the_requirements_stands_alone() -> None:
    assert pip_settings.OWN_INDEX in script(line="--index-url https://x.example/simple\nsix")


def settings(
    tmp_path: Path, *arguments: str, config: str = "", **env: str
) -> subprocess.CompletedProcess[str]:
    file = tmp_path / "pip.conf"
    file.write_text(config)
    home = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "x")}
    argv = [sys.executable, "-I", pip_settings.__file__, str(tmp_path / "uv.toml"), *arguments]
    variables = {"PIP_CONFIG_FILE": str(file), **home, **env}
    return subprocess.run(argv, env=variables, capture_output=True, text=True, check=False)


def test_settings_of_pip_are_said_to_uv(tmp_path: Path) -> None:
    config = """
[global]
index-url = https://me:pass%20word@one.example/simple
extra-index-url =
    https://two.example/simple
    https://three.example/simple
trusted_host = two.example
[install]
timeout = 7
no-warn-script-location = true
"""
    done = settings(tmp_path, config=config, PIP_RETRIES="2", PIP_CERT="/x y.pem")
    assert done.returncode == 0, done.stderr
    read = subprocess.run(
        ["sh", "-euc", f'{done.stdout}\nenv | grep -E "^(UV|SSL)_" | sort'],
        env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert dict(line.split("=", 1) for line in read.stdout.splitlines()) == {
        "SSL_CERT_FILE": "/x y.pem",
        "UV_CONFIG_FILE": str(tmp_path / "uv.toml"),
        "UV_HTTP_RETRIES": "2",
        "UV_HTTP_TIMEOUT": "7",
    }, "no address stands in the environment, which build backends may keep"
    assert tomllib.loads((tmp_path / "uv.toml").read_text()) == {
        "allow-insecure-host": ["two.example"],
        "pip": {
            "index-url": "https://me:pass%20word@one.example/simple",
            "extra-index-url": ["https://two.example/simple", "https://three.example/simple"],
        },
    }


def test_what_the_spec_says_wins_over_the_settings_or_adds_to_them(tmp_path: Path) -> None:
    config = "[global]\nindex-url = https://one.example\nextra-index-url = https://two.example\n"
    arguments = ("--index-url", "https://mine.example", "--extra-index-url", "https://more.example")
    more = ["https://two.example", "https://more.example"]
    settings(tmp_path, *arguments, config=config)
    said = tomllib.loads((tmp_path / "uv.toml").read_text())
    assert said == {"pip": {"index-url": "https://mine.example", "extra-index-url": more}}
    settings(tmp_path, pip_settings.OWN_INDEX, *arguments, config=config)
    assert tomllib.loads((tmp_path / "uv.toml").read_text()) == {"pip": {"extra-index-url": more}}


@pytest.mark.parametrize(
    "config", ["[global]\nno-index = true\n", "[install]\nconstraint = /c.txt\n", "nonsense"]
)
def test_a_setting_that_uv_does_not_know_is_named(tmp_path: Path, config: str) -> None:
    done = settings(tmp_path, config=config)
    assert done.returncode == 3
    assert done.stdout == ""
    assert "pip installs" in done.stderr


def test_no_files_at_all_where_the_null_device_is_named(tmp_path: Path) -> None:
    (tmp_path / "x" / "pip").mkdir(parents=True)
    (tmp_path / "x" / "pip" / "pip.conf").write_text("[global]\nno-index = true\n")
    assert settings(tmp_path).returncode == 3
    done = settings(tmp_path, PIP_CONFIG_FILE="/dev/null")
    assert (done.returncode, done.stdout) == (0, "")
    assert not (tmp_path / "uv.toml").exists()
