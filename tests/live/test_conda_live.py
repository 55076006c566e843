"""Conda environments and pythons of a channel made here, in images that real engines built and run."""

from __future__ import annotations

import json
import re
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rattler", reason="the extra 'conda' is not installed")

from imagesmith import BuildResult, ChannelError, CondaUnsolvable, ImageSpec, Phase, StepDone, StepStarted
from tests.live import channel
from tests.live.conftest import Build, Engine
from tests.rig.state import Rig

pytestmark = pytest.mark.live

LOGIN = "us%40er:pa%3Ass%25word"
TOKEN = "T-0123456789abcdef"
RUNNING = channel.RUNNING
MINOR = RUNNING.rpartition(".")[0]
OTHER_BASE = {"3.11": "python313", "3.13": "python311"}


@pytest.fixture(scope="session")
def forge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What stands for conda-forge."""
    folder = tmp_path_factory.mktemp("conda-forge")
    greet = channel.module("greet", depends=("python", "tool >=1"))
    return channel.make(folder, channel.python(), channel.pip(), greet, channel.tool("tool"))


@pytest.fixture(scope="session")
def private(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A channel of somebody's own, with a newer tool."""
    return channel.make(
        tmp_path_factory.mktemp("private"), channel.tool("tool", "2.0"), channel.tool("extra")
    )


@pytest.fixture(scope="session")
def variables(forge: Path) -> dict[str, str]:
    return {"IMAGESMITH_CONDA_FORGE": f"file://{forge}"}


@pytest.fixture(scope="session", params=["envd", "docker", "oci"])
def builder(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def served(private: Path) -> Iterator[str]:
    with channel.serve(private, login="us@er:pa:ss%word") as address:
        yield address


@pytest.fixture(scope="session")
def spec(builder: str, served: str, tmp_path_factory: pytest.TempPathFactory) -> ImageSpec:
    source = tmp_path_factory.mktemp("conda-source")
    (source / "app.py").write_text("print('one')\n")
    return ImageSpec(
        name=f"condaful-{builder}",
        conda_packages=["greet", "tool"],
        conda_channels=[f"http://{LOGIN}@{served}/channel"],
        packages=["six==1.16.0"],
        python_version=MINOR,
        source_root=source,
        commands=["greet > greeting.txt; for each in python pip; do command -v $each; done >> greeting.txt"],
        entrypoint=["greet"],
    )


@pytest.fixture(scope="session")
def events(builder: str) -> list[Any]:
    """Of this builder's build."""
    return []


@pytest.fixture(scope="session")
def built(
    make: Build, spec: ImageSpec, variables: dict[str, str], events: list[Any], builder: str
) -> BuildResult:
    return make(spec, builder=builder, variables=variables, report=events.append)


def test_packages_scripts_and_python_are_there(built: BuildResult, engine: Engine) -> None:
    assert engine.run(built.reference) == "greet 1.0\n"
    options = ("--entrypoint", "python")
    code = "import greet, six, sys; print(greet.VERSION, six.__version__, sys.prefix, sys.version.split()[0])"
    assert engine.run(built.reference, "-c", code, options=options) == f"1.0 1.16.0 /opt/conda {RUNNING}\n"
    options = ("--entrypoint", "tool")
    assert engine.run(built.reference, options=options) == "tool 2.0 in /opt/conda\n", (
        "the first channel wins"
    )
    env = engine.env(built.reference)
    assert env["PATH"].startswith("/opt/conda/bin:")
    assert env["PYTHON_VERSION"] == RUNNING


def test_commands_see_it_and_all_users_can_use_it(built: BuildResult, engine: Engine) -> None:
    said = engine.run(built.reference, "greeting.txt", options=("--entrypoint", "cat"))
    assert said == "greet 1.0\n/opt/conda/bin/python\n/opt/conda/bin/pip\n"
    options = ("--user", "12345:0", "--read-only", "--entrypoint", "python")
    assert engine.run(built.reference, "-c", "import greet, six; print('ok')", options=options) == "ok\n"


def test_files_are_root_owned_and_readable(built: BuildResult, engine: Engine) -> None:
    script = (
        "find /opt/conda ! -user root -o ! -group root -o ! -type l ! -perm -444 | head -3;"
        "find /opt/conda -perm /022 ! -type l | head -3; readlink /opt/conda/bin/python"
    )
    said = engine.run(built.reference, "-c", script, options=("--entrypoint", "sh"))
    assert said == f"python{MINOR}\n"


def test_the_result_names_what_was_laid_out(built: BuildResult, served: str, events: list[Any]) -> None:
    found = {package.name: package for package in built.conda}
    assert set(found) == {"greet", "pip", "python", "tool"}
    assert (found["python"].version, found["tool"].version) == (RUNNING, "2.0")
    assert found["tool"].url == f"http://{served}/channel/linux-64/tool-2.0-0.tar.bz2"
    assert re.fullmatch("[0-9a-f]{64}", found["tool"].sha256)
    assert found["tool"].size > 0
    started = [event.name for event in events if isinstance(event, StepStarted)]
    assert any(name.startswith("conda: solve ") for name in started)
    phases = [event.name for event in events if isinstance(event, Phase)]
    assert phases.index("solving") < phases.index("building")


def unpacked(engine: Engine, reference: str, folder: Path) -> Iterator[bytes]:
    """All that the image is made of: configuration, manifests, layers."""
    archive = folder / "image.tar"
    argv = ["docker", "--host", engine.host, "save", "-o", str(archive), reference]
    subprocess.run(argv, check=True, timeout=300)
    with tarfile.open(archive) as outer:
        for member in outer:
            if member.isfile():
                file = outer.extractfile(member)
                assert file is not None
                data = file.read()
                yield data[:1_000_000] if data[:1] == b"{" else b""
                try:
                    with tarfile.open(fileobj=__import__("io").BytesIO(data)) as layer:
                        for inner in layer:
                            content = layer.extractfile(inner) if inner.isfile() else None
                            yield content.read() if content else inner.name.encode()
                except tarfile.ReadError:
                    continue


def test_credentials_are_nowhere(
    built: BuildResult, engine: Engine, events: list[Any], environment: dict[str, str], tmp_path: Path
) -> None:
    secrets = ("pa%3Ass", "pa:ss%word", "us%40er", "dXNAZXI6cGE6c3Mld29yZA")
    assert built.log is not None
    told = "\n".join(
        (
            repr(built),
            repr(events),
            built.log.read_text(),
            engine("history", "--no-trunc", built.reference),
            json.dumps(engine.config(built.reference)),
        )
    )
    for secret in secrets:
        assert secret not in told
    for data in unpacked(engine, built.reference, tmp_path):
        assert not any(secret.encode() in data for secret in secrets)
    for file in (Path(environment["IMAGESMITH_CACHE_DIR"])).rglob("*"):
        if file.is_file():
            data = file.read_bytes()
            assert not any(secret.encode() in data for secret in secrets), file


def test_a_token_in_the_channel(
    make: Build, variables: dict[str, str], private: Path, engine: Engine, builder: str
) -> None:
    events: list[Any] = []
    with channel.serve(private, token=TOKEN) as address:
        spec = ImageSpec(
            name=f"tokened-{builder}",
            conda_packages=["extra"],
            conda_channels=[f"http://{address}/t/{TOKEN}/channel"],
            python_version=MINOR,
        )
        result = make(spec, builder=builder, variables=variables, report=events.append)
    assert engine.run(result.reference, "extra") == "extra 1.0 in /opt/conda\n"
    assert result.log is not None
    for text in (
        repr(result),
        repr(events),
        result.log.read_text(),
        json.dumps(engine.config(result.reference)),
    ):
        assert TOKEN not in text


def test_env_alone_builds_nothing_and_an_edit_copies_nothing(
    make: Build, built: BuildResult, spec: ImageSpec, variables: dict[str, str], builder: str
) -> None:
    events: list[Any] = []
    spec = spec.replace(commands=())
    make(spec, builder=builder, variables=variables)
    other = make(spec.with_env({"A": "b"}), builder=builder, variables=variables, report=events.append)
    assert not other.reused
    assert "building" not in [event.name for event in events if isinstance(event, Phase)]
    (Path(str(spec.source_root)) / "app.py").write_text("print('two')\n")
    events.clear()
    make(spec, builder=builder, variables=variables, report=events.append)
    if builder != "oci":  # which makes the layer of the files itself
        assert "building" not in [event.name for event in events if isinstance(event, Phase)]
        make(spec, builder=builder, variables=variables, report=events.append, force=True)
    done = {event.id: event for event in events if isinstance(event, StepDone)}
    names = {event.id: event.name for event in events if isinstance(event, StepStarted)}
    cached = {name: done[step].cached for step, name in names.items() if step in done}
    steps = ("conda: 1 ", "conda: 2 ", "conda: 4 ", "packages:")
    kept = [value for name, value in cached.items() if name.startswith(steps)].count(True)
    assert kept == (4 if builder == "oci" else 2)  # it has a layer for each large package


@pytest.mark.skipif(MINOR not in OTHER_BASE, reason="the rig has no base with another python than this one")
def test_a_base_with_another_python_gets_the_one_asked_for(
    make: Build, engine: Engine, rig: Rig, variables: dict[str, str], builder: str
) -> None:
    base = getattr(rig.images, OTHER_BASE[MINOR])
    spec = ImageSpec(name=f"otherpython-{builder}", base_image=base, python_version=MINOR, packages=["six"])
    result = make(spec, builder=builder, variables=variables)
    code = "import six, sys; print(sys.version_info[:2], sys.prefix)"
    options = ("--entrypoint", "python")
    major, minor = MINOR.split(".")
    want = f"({major}, {minor}) /opt/conda\n"
    assert engine.run(result.reference, "-c", code, options=options) == want
    upper = ImageSpec(name=f"above-{builder}", base_image=spec, python_version=MINOR, packages=["idna"])
    again = make(upper, builder=builder, variables=variables)
    assert again.conda == (), "its base says which python it has"
    code = "import six, idna; print('ok')"
    assert engine.run(again.reference, "-c", code, options=options) == "ok\n"


def test_a_base_that_says_nothing(
    make: Build, engine: Engine, rig: Rig, variables: dict[str, str], builder: str
) -> None:
    spec = ImageSpec(
        name=f"bareconda-{builder}",
        base_image=rig.images.debian,
        conda_packages=["greet", f"python={MINOR}"],
        user="1234",
    )
    result = make(spec, builder=builder, variables=variables)
    assert {package.name for package in result.conda} == {"greet", "python", "tool"}
    assert engine.run(result.reference, "greet") == "greet 1.0\n"


def test_through_a_buildkit_into_a_registry(
    make: Build, engine: Engine, rig: Rig, variables: dict[str, str]
) -> None:
    spec = ImageSpec(
        name="pushed", registry=f"{rig.registry}/conda-live", conda_packages=["greet"], python_version=MINOR
    )
    away = {**variables, "IMAGESMITH_ENVD_ADDRESS": rig.buildkit.tcp}
    result = make(spec, builder="envd", variables=away, force=True)
    assert engine.run(result.reference, "greet") == "greet 1.0\n"


def test_the_same_again_has_the_same_digest(
    make: Build, engine: Engine, rig: Rig, variables: dict[str, str]
) -> None:
    """The docker builder without a cache, and with a time for all files."""
    spec = ImageSpec(
        name="conda-again",
        registry=f"{rig.registry}/conda-live",
        base_image=rig.images.debian,
        conda_packages=["greet"],
        python_version=MINOR,
        packages=["six"],
        commands=["python -c 'import greet, six, json'"],
        builder_options={"no_cache": True, "source_date_epoch": 1700000000},
    )
    first, second = (make(spec, builder="docker", variables=variables, force=True) for _ in range(2))
    assert first.digest == second.digest
    assert engine.run(second.reference, "greet") == "greet 1.0\n"


def test_what_cannot_be_solved_or_asked_builds_nothing(
    make: Build, engine: Engine, variables: dict[str, str], builder: str
) -> None:
    spec = ImageSpec(name=f"unsolved-{builder}", conda_packages=["greet >=2"], python_version=MINOR)
    events: list[Any] = []
    with pytest.raises(CondaUnsolvable, match="No candidates were found for greet >=2"):
        make(spec, builder=builder, variables=variables, report=events.append)
    nowhere = spec.replace(conda_channels=[f"http://{LOGIN}@127.0.0.1:9/channel"])
    with pytest.raises(ChannelError, match="refused") as caught:
        make(nowhere, builder=builder, variables=variables, report=events.append)
    assert "building" not in [event.name for event in events if isinstance(event, Phase)]
    assert "pa%3Ass" not in repr(events) + str(caught.value)
    assert engine.tags(spec.name) == set()
