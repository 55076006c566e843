"""The Dockerfile as text: golden files, and read back by an independent parser.

``python -m plugins.docker.tests.test_render`` writes the golden files anew.
"""

from __future__ import annotations

import io
import json
import re
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from dockerfile_parse import DockerfileParser
from hypothesis import given, settings
from hypothesis import strategies as st
from plugins.docker.tests.cases import DEBIAN, request, requirements

from imagesmith import (
    BuildRequest,
    CondaPackage,
    CondaTree,
    ImageSpec,
    LayoutFolder,
    LocalEngine,
    RegistryRepository,
    Secret,
)
from imagesmith.sources import Staged
from imagesmith_docker import pip_settings
from imagesmith_docker.command import build_argv
from imagesmith_docker.options import Options, parse
from imagesmith_docker.render import CONTEXTS, Rendered, render, secret_id

GOLDEN = Path(__file__).parent / "golden"
SPEC = ImageSpec(
    name="golden",
    apt_packages=["git", "curl"],
    packages=["numpy", "x[a]>=1; python_version < '3.13'"],
    env={"A": "it's\n$x", "B": ""},
    build_env={"C": "d e'f"},
    commands=["echo 'one' | cat", "false"],
    pip_extra_args=["--no-deps", "--trusted-host", "h"],
    pip_extra_index_url=["https://one.example/simple"],
    source_root=".",
    user="1000:1000",
)
CONF = b"[global]\nindex-url = https://me:hunter2@private.example/simple\n"
CASES = {
    "nothing": request(ImageSpec()),
    "python": request(SPEC, requirements("numpy", "x[a]>=1; python_version < '3.13'", has_source=True)),
    "apart": request(ImageSpec(source_root=".", user="1000", workdir="/srv/my app"), Staged(has_source=True)),
    "debian": request(ImageSpec(python_version="3.12", packages=["six"]), requirements("six"), DEBIAN),
    "conda": replace(
        request(ImageSpec(conda_packages=["numpy"], packages=["six"]), requirements("six"), DEBIAN),
        conda=CondaTree(
            ("numpy",),
            ("conda-forge",),
            (CondaPackage("python", "3.11.9", "0", "https://x/python.conda", "00", 1),),
        ),
    ),
    "pip": request(
        ImageSpec(packages=["six"], pip_extra_args=["--user"]), requirements("six --hash=sha256:00")
    ),
    "secrets": request(
        ImageSpec(
            packages=["six"],
            pip_index="https://me:hunter2@private.example/simple",
            pip_secret_mounts=[("token", "/root/.secret/token")],
        ),
        requirements("six", secrets={"pip.conf": Secret(CONF), "pip_secret_mounts[0]": Secret(b"hunter2")}),
    ),
}
PROGRAM = "imagesmith/pip_settings.py"


def shown(name: str) -> str:
    rendered = render(CASES[name])
    files = (f"--- {path}\n{text}" for path, text in sorted(rendered.scripts.items()) if path != PROGRAM)
    return rendered.dockerfile + "".join(files)


@pytest.mark.parametrize("name", CASES)
def test_golden(name: str) -> None:
    assert shown(name) == (GOLDEN / f"{name}.txt").read_text()


@pytest.mark.parametrize("name", CASES)
def test_scripts_are_what_a_shell_can_read(name: str) -> None:
    for path, text in render(CASES[name]).scripts.items():
        if path.endswith(".sh"):
            done = subprocess.run(["sh", "-n"], input=text, text=True, capture_output=True, check=False)
            assert done.returncode == 0, f"{path}: {done.stderr}"


def instructions(rendered: Rendered) -> list[tuple[str, str]]:
    parser = DockerfileParser(fileobj=io.BytesIO(rendered.dockerfile.encode()))
    return [
        (each["instruction"], each["value"]) for each in parser.structure if each["instruction"] != "COMMENT"
    ]


def mounts(value: str) -> list[dict[str, str]]:
    found = re.findall(r"--mount=(\S+)", value)
    return [dict(part.partition("=")[::2] for part in each.split(",")) for each in found]


texts = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), min_size=1, max_size=12)
lines = st.text(st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp")), min_size=1, max_size=12)
keys = st.text("ABC_xyz.0-", min_size=1, max_size=6)


@given(
    env=st.dictionaries(keys, texts, max_size=3),
    commands=st.lists(texts.filter(str.strip), max_size=3),
    folders=st.lists(
        lines.filter(lambda part: not set(part) & set("/") and part.strip(".")), min_size=1, max_size=2
    ),
)
@settings(max_examples=100, deadline=None)
def test_an_independent_parser_reads_back_what_was_said(
    env: dict[str, str], commands: list[str], folders: list[str]
) -> None:
    workdir = "/" + "/".join(folders)
    spec = ImageSpec(env=env, build_env=env, commands=commands, workdir=workdir, source_root=".")
    rendered = render(request(spec, requirements("six", has_source=True)))
    found = instructions(rendered)
    assert [kind for kind, _ in found] == [
        "FROM", "USER", "WORKDIR", "RUN", "RUN", "COPY", "COPY", *["RUN"] * len(commands)
    ]  # fmt: skip
    copies = [json.loads(value) for kind, value in found if kind == "COPY"]
    # the engine takes backslashes out of the words of a COPY
    assert [re.sub(r"\\(.)", r"\1", each[1]) for each in copies] == ["/opt/imagesmith/", workdir + "/"]
    runs = [value for kind, value in found if kind == "RUN"]
    for value in runs:
        program, by, file = json.loads(value[value.index("[") :])
        borrowed = {each["target"]: each.get("source") for each in mounts(value)}
        assert program == "/bin/sh"
        assert borrowed[by] == by.rpartition("/")[2]
        assert f"imagesmith/{borrowed[file]}" in rendered.scripts
    scripts = [rendered.scripts[f"imagesmith/command-{number:03d}.sh"] for number in range(len(commands))]
    assert scripts == [f"{command}\n" for command in spec.commands]
    assert [step.name for step in rendered.steps[-len(commands) :] if commands] == [
        f"command: {command}" for command in spec.commands
    ]
    for name in ("command.sh", "install.sh"):
        if f"imagesmith/{name}" in rendered.scripts:
            words = shlex.split(rendered.scripts[f"imagesmith/{name}"])
            given = dict(word.partition("=")[::2] for word in words if "=" in word)
            for key, value in env.items():
                expected = re.sub(rf"\$(\{{{re.escape(key)}\}}|{re.escape(key)}(?![A-Za-z0-9_]))", "", value)
                assert given[key] == expected


def test_values_stand_only_where_commands_read_them() -> None:
    value = "a-value-to-be-found"
    spec = ImageSpec(env={"A": value}, packages=["six"], entrypoint=[value], labels={"l": value})
    rendered = render(request(spec, requirements("six")))
    assert value not in rendered.dockerfile + "".join(rendered.scripts.values())
    rendered = render(request(spec.with_commands("true"), requirements("six")))
    assert {path for path, text in rendered.scripts.items() if value in text} == {"imagesmith/command.sh"}


def test_secrets_are_named_and_never_said() -> None:
    case = CASES["secrets"]
    everything = shown("secrets") + shlex.join(build_argv(case, Options(), Path("/x")))
    assert "hunter2" not in everything
    assert "private.example" in everything, "another index has to run the step again"
    argv = build_argv(case, Options(), Path("/x"))
    given = {word for word in argv if word.startswith("id=")}
    assert given == {
        "id=pip.conf,src=/x/secrets/pip.conf",
        "id=pip_secret_mounts-0,src=/x/secrets/pip_secret_mounts-0",
    }
    for each in re.findall(r"type=secret,\S+", render(case).dockerfile):
        assert ",required=true," in each
        assert re.search(r"id=([^,]+)", each)[1] in {secret_id(name) for name in case.secrets}  # type: ignore[index]


@pytest.mark.parametrize(
    "changed",
    [{"env": {"A": "b"}}, {"entrypoint": ["x"]}, {"labels": {"a": "b"}}, {"user": "0"}, {"name": "y"}],
)
def test_a_change_of_configuration_changes_no_text(changed: dict[str, Any]) -> None:
    def text(spec: ImageSpec) -> object:
        rendered = render(request(spec, requirements("six"), DEBIAN))
        return rendered.dockerfile, dict(rendered.scripts)

    spec = ImageSpec(packages=["six"])
    assert text(spec) == text(spec.replace(**changed))


def test_where_the_image_goes() -> None:
    def output(destination: Any, **options: Any) -> str:
        case = request(ImageSpec())
        case = BuildRequest(case.spec, case.platform, case.base, destination, case.staged)
        argv = build_argv(
            case, Options(compression=options.pop("compression", None)), Path("/x/f"), **options
        )
        return argv[argv.index("--output") + 1]

    registry = RegistryRepository("r:5000/x")
    assert output(registry, in_engine=False) == (
        "type=image,name=r:5000/x:imagesmith-staging,push=true,compression=zstd,oci-mediatypes=true"
    )
    assert "compression=gzip,force-compression=true" in output(registry, in_engine=False, compression="gzip")
    assert output(registry) == "type=image,name=imagesmith-build:…,compression=zstd,oci-mediatypes=true"
    assert (
        output(LocalEngine("x:staging")) == "type=image,name=x:staging,compression=zstd,oci-mediatypes=true"
    )
    assert output(LocalEngine("x:staging"), in_engine=False).startswith("type=docker,")


def test_certificates_of_the_machine() -> None:
    case = CASES["python"]
    rendered = render(case, Options(ca="some/ca.pem"))
    assert rendered.dockerfile.count("type=secret,id=ca,required=true") == 2, "apt and packages"
    assert "PIP_CERT=/run/imagesmith/secrets/ca.pem" in rendered.scripts["imagesmith/install.sh"]
    assert "CAInfo=/run/imagesmith/secrets/ca.pem" in rendered.scripts["imagesmith/apt.sh"]
    assert "ca.pem" not in rendered.scripts["imagesmith/command.sh"]
    argv = build_argv(case, Options(ca="some/ca.pem"), Path("/x"))
    assert f"id=ca,src={Path('some/ca.pem').absolute()}" in argv


def test_contexts_stand_where_packages_and_commands_can_read_them() -> None:
    options, problems = parse({"build_contexts": {"wheels": "r/wheels:1"}}, {})
    assert problems == {}
    case = CASES["python"]
    rendered = render(case, options)
    runs = [value for kind, value in instructions(rendered) if kind == "RUN"]
    reading = [
        value
        for value in runs
        if {"type": "bind", "from": "wheels", "target": CONTEXTS + "/wheels"} in mounts(value)
    ]
    assert [json.loads(value[value.index("[") :])[2].rpartition("/")[2] for value in reading] == [
        "packages.sh", "command-000.sh", "command-001.sh"
    ]  # fmt: skip
    assert "# context wheels: docker-image://r/wheels:1\n" in rendered.dockerfile, (
        "what is remembered is another's"
    )
    argv = build_argv(case, options, Path("/x"))
    assert "wheels=docker-image://r/wheels:1" in argv
    folder, _ = parse({}, {"build_contexts": "wheels=./a b"})
    assert f"wheels={Path('a b').absolute()}" in build_argv(case, folder, Path("/x"))


def test_the_time_of_all_files() -> None:
    options = Options(source_date_epoch=7)
    case = CASES["python"]
    rendered = render(case, options)
    assert "SOURCE_DATE_EPOCH=7" in rendered.scripts["imagesmith/install.sh"]
    assert "PYTHONDONTWRITEBYTECODE=1" in rendered.scripts["imagesmith/install.sh"]
    command = rendered.scripts["imagesmith/command-000.sh"]
    assert 'export SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH-7}"\n' in command, "the spec's own wins"
    assert command.endswith("\necho 'one' | cat\n")
    assert rendered.dockerfile != render(case).dockerfile, "what is remembered is another's"

    def output(destination: Any, *, in_engine: bool) -> str:
        argv = build_argv(replace(case, destination=destination), options, Path("/x"), in_engine=in_engine)
        assert "SOURCE_DATE_EPOCH=7" in argv
        return argv[argv.index("--output") + 1]

    registry, engine = RegistryRepository("r:5000/x"), LocalEngine("x:s")
    by_hand = "type=oci,tar=false,dest=/x/layout,compression=zstd,rewrite-timestamp=true"
    assert output(registry, in_engine=True) == by_hand
    assert output(LayoutFolder(Path("/y")), in_engine=True) == by_hand
    assert output(registry, in_engine=False).endswith(
        ",push=true,compression=zstd,oci-mediatypes=true,rewrite-timestamp=true"
    )
    assert output(engine, in_engine=True).startswith("type=docker,name=x:s,dest=/x/image.tar,")
    assert output(engine, in_engine=False).startswith("type=docker,name=x:s,compression=")


def test_no_line_would_pull_a_frontend() -> None:
    for case in CASES.values():
        assert "syntax" not in render(case).dockerfile
        assert "<<" not in render(case).dockerfile
    assert Path(pip_settings.__file__).read_text() == render(CASES["python"]).scripts[PROGRAM]


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for name in CASES:
        (GOLDEN / f"{name}.txt").write_text(shown(name))
