"""Publishing to registries through envd, on the Docker engine and on a BuildKit of one's own."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from imagesmith import (
    AuthenticationFailed,
    BuildResult,
    ImagesmithError,
    ImageSpec,
    StepStarted,
    exists,
)
from imagesmith.settings import load_settings
from imagesmith.stores.registry import open_repository
from tests.live.conftest import Build, Engine
from tests.live.index import private_index, wheel
from tests.rig.state import Rig

pytestmark = pytest.mark.live
RUN = uuid.uuid4().hex[:8]


def login_file(folder: Path, rig: Rig, password: str | None = None) -> Path:
    """Docker's format for the login and envd's for the certificate, in one file."""
    tls = rig.registry_tls
    file = folder / "registries.json"
    auth = {"username": tls.username, "password": password or tls.password}
    registries = [{"name": tls.address, "ca": tls.ca}]
    file.write_text(json.dumps({"auths": {tls.address: auth}, "registries": registries}))
    return file


def layers(reference: str, environment: dict[str, str], config: Path | None = None) -> list[str]:
    repository, _, tag = reference.rpartition(":")
    with open_repository(repository, environment, config) as store:
        image = store.read(tag)
    assert image is not None
    assert image.manifest is not None
    found = image.manifest["layers"]
    assert isinstance(found, list)
    return [layer["digest"] for layer in found]


@pytest.fixture(params=["docker", "tcp", "unix"])
def engine_variables(request: pytest.FixtureRequest, rig: Rig) -> dict[str, str]:
    """Where envd builds."""
    address = {"docker": None, "tcp": rig.buildkit.tcp, "unix": rig.buildkit.unix}[request.param]
    return {"IMAGESMITH_ENVD_ADDRESS": address} if address else {}


def test_pushed_runs_is_reused_and_an_env_change_moves_no_layer(
    make: Build, engine: Engine, rig: Rig, environment: dict[str, str], engine_variables: dict[str, str]
) -> None:
    spec = ImageSpec(
        name="pushed",
        registry=f"{rig.registry}/live-{RUN}/{len(engine_variables.get('IMAGESMITH_ENVD_ADDRESS', ''))}",
        python_version="3.11",
        packages=["six"],
        env={"A": "one two\nthree"},
        entrypoint=["python", "-c", "import os, six; print(repr(os.environ['A']))"],
    )
    first = make(spec, variables=engine_variables)
    assert engine.run(first.reference) == "'one two\\nthree'\n"
    again = make(spec, variables={**engine_variables, "DOCKER_HOST": "unix:///nonexistent"})
    assert again.reused
    assert again.digest == first.digest
    assert again.builder == first.builder

    events: list[object] = []
    other = make(spec.with_env({"A": "$2"}), variables=engine_variables, report=events.append)
    assert other.reference != first.reference
    assert layers(other.reference, environment) == layers(first.reference, environment)
    assert engine.run(other.reference) == "'$2'\n"
    assert not [event for event in events if isinstance(event, StepStarted)], "envd was asked again"


def test_several_platforms_under_one_tag(make: Build, engine: Engine, rig: Rig) -> None:
    if rig.images.python311_multi is None:
        pytest.skip("the rig has no two-platform base: python3 -m tests.rig up --with arm64")
    spec = ImageSpec(
        name="multi",
        registry=f"{rig.registry}/live-{RUN}",
        base_image=rig.images.python311_multi,
        platform=["linux/amd64", "linux/arm64"],
        packages=["markupsafe"],  # compiled
        commands=["uname -m > machine"],
    )
    result = make(spec)
    assert result.platforms == ("linux/amd64", "linux/arm64")
    code = (
        "import markupsafe._speedups as m; print(open('machine').read().strip(), m.__file__.split('-')[-3])"
    )
    for platform, machine in (("linux/amd64", "x86_64"), ("linux/arm64", "aarch64")):
        out = engine.run(
            result.reference, "python", "-c", code, options=("--pull", "always", "--platform", platform)
        )
        assert out.split()[0] == machine
        assert machine in out.split()[1]
    assert make(spec).reused


def test_built_by_buildkit_for_the_local_engine(make: Build, engine: Engine, rig: Rig) -> None:
    spec = ImageSpec(name="frombuildkit", python_version="3.11", env={"A": "\n"}, entrypoint=[])
    result = make(spec, variables={"IMAGESMITH_ENVD_ADDRESS": rig.buildkit.tcp})
    assert engine.env(result.reference)["A"] == "\n"
    assert not engine.config(result.reference)["Cmd"]


@pytest.fixture(scope="module")
def private(make: Build, rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> tuple[ImageSpec, BuildResult]:
    config = login_file(tmp_path_factory.mktemp("login"), rig)
    spec = ImageSpec(
        name="private",
        registry=f"{rig.registry_tls.address}/live-{RUN}",
        registry_config=config,
        base_image=f"{rig.registry_tls.address}/library/python:3.11",
        packages=["six", f"idna!=0.{int(RUN, 16)}"],  # never in the engine's cache yet
        env={"A": "b"},
    )
    return spec, make(spec)


def test_pushed_to_a_registry_with_tls_and_login(
    private: tuple[ImageSpec, BuildResult], rig: Rig, environment: dict[str, str], tmp_path: Path
) -> None:
    spec, result = private
    assert result.reference.startswith(f"{rig.registry_tls.address}/live-{RUN}/private:")
    # no daemon is asked
    settings = load_settings(tmp_path, {**environment, "DOCKER_HOST": "unix:///nonexistent"})
    assert exists(spec, settings=settings).found is True
    assert exists(spec.replace(name="other"), settings=settings).found is False
    wrong = exists(spec.replace(registry_config=login_file(tmp_path, rig, "wrong")), settings=settings)
    assert wrong.found is None
    assert wrong.cause is not None
    assert rig.registry_tls.address in wrong.cause
    assert "rig" in wrong.cause
    assert "wrong" not in wrong.cause.replace("wrong or", "")


def test_an_env_change_moves_no_layer_there_either(
    make: Build, private: tuple[ImageSpec, BuildResult], environment: dict[str, str]
) -> None:
    spec, first = private
    other = make(spec.with_env({"A": "another"}))
    config = Path(str(spec.registry_config))
    assert layers(other.reference, environment, config) == layers(first.reference, environment, config)


def test_wrong_login_publishes_nothing(
    make: Build, private: tuple[ImageSpec, BuildResult], rig: Rig, tmp_path: Path
) -> None:
    spec = private[0].replace(registry_config=login_file(tmp_path, rig, "wrong-password"), name="denied")
    with pytest.raises(ImagesmithError) as caught:
        make(spec)
    assert "wrong-password" not in str(caught.value)
    assert "docker login" in str(caught.value)
    with pytest.raises((AuthenticationFailed, ImagesmithError)):
        make(spec, on_unknown="build")
    with pytest.raises(ImagesmithError):
        make(spec.replace(base_image=f"{rig.registry}/library/python:3.11"), on_unknown="build")


def image_bytes(engine: Engine, reference: str, folder: Path) -> bytes:
    """All that the image holds: layers unpacked, configuration, manifest."""
    engine("pull", reference, check=False)
    archive = folder / "image.tar"
    engine("save", "--output", str(archive), reference)
    out = folder / "image"
    out.mkdir()
    subprocess.run(["tar", "-xf", archive, "-C", out], check=True)
    data = b""
    for blob in out.rglob("*"):
        if blob.is_file():
            raw = blob.read_bytes()
            data += raw
            if raw[:4] == b"\x28\xb5\x2f\xfd":
                data += subprocess.run(["zstd", "-dc"], input=raw, capture_output=True, check=True).stdout
            if raw[:2] == b"\x1f\x8b":
                data += subprocess.run(["gzip", "-dc"], input=raw, capture_output=True, check=True).stdout
    return data


def test_index_credentials_and_secret_files_are_found_nowhere(
    make: Build, engine: Engine, rig: Rig, tmp_path: Path
) -> None:
    secret = f"hunter2{RUN}"
    token = tmp_path / "token"
    token.write_text(f"file-{secret}\n")
    local = tmp_path / "localpkg-1.0-py3-none-any.whl"
    local.write_bytes(wheel("localpkg"))
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("privatepkg==1.0  # from the private index\n")
    with private_index("privatepkg", f"me:{secret}") as host:
        spec = ImageSpec(
            name="secretive",
            python_version="3.11",
            registry=f"{rig.registry}/live-{RUN}",
            packages=[str(local)],
            requirements=requirements,
            pip_index=f"http://me:{secret}@{host}/simple",
            pip_extra_args=["--no-deps"],
            pip_secret_mounts=[(token, "/run/deep/er/token")],
            entrypoint=["python", "-c", "import privatepkg, localpkg; print(privatepkg.VERSION)"],
        )
        variables = {"IMAGESMITH_ENVD_ADDRESS": rig.buildkit.tcp}
        events: list[object] = []
        result = make(spec, variables=variables, report=events.append)
    assert engine.run(result.reference) == "1.0\n"
    listing = engine.run(result.reference, "/run", options=("--entrypoint", "ls"))
    assert "deep" not in listing.split(), "the folders made for the secret file were left"
    data = image_bytes(engine, result.reference, tmp_path)
    assert b"privatepkg" in data
    assert result.log is not None
    places = {
        "image": data,
        "log": result.log.read_bytes(),
        "events": repr(events).encode(),
        "reference": result.reference.encode(),
        "spec": repr(spec).encode(),
    }
    assert {name for name, place in places.items() if secret.encode() in place} == set()
    repository = result.reference.rpartition(":")[0]
    with open_repository(repository, {}, None) as store:
        staged = store.read("imagesmith-staging")
    assert staged is not None
    assert secret not in json.dumps(dict(staged.config))
    assert make(spec.replace(pip_index=f"http://you:other@{host}/simple"), variables=variables).reused


def test_an_extra_index_beside_the_usual_one(make: Build, engine: Engine, rig: Rig) -> None:
    name = f"extra{RUN}"
    with private_index(name, None) as host:
        spec = ImageSpec(
            name="extra",
            python_version="3.11",
            registry=f"{rig.registry}/live-{RUN}",
            packages=["six", name],
            pip_extra_index_url=[f"http://{host}/simple"],
            entrypoint=["python", "-c", f"import six, {name}; print({name}.VERSION)"],
        )
        result = make(spec, variables={"IMAGESMITH_ENVD_ADDRESS": rig.buildkit.tcp})
    assert engine.run(result.reference) == "1.0\n"


def test_two_processes_build_once(environment: dict[str, str], tmp_path: Path, engine: Engine) -> None:
    (tmp_path / "image.py").write_text(
        "from imagesmith import ImageSpec\n"
        f"image = ImageSpec(name='twice', python_version='3.11', commands=['sleep 3; echo {RUN}'])\n"
    )
    argv = [str(Path(sys.executable).parent / "imagesmith"), "build", "--json", "image.py"]
    both = [
        subprocess.Popen(argv, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    said = [json.loads(process.communicate(timeout=120)[0]) for process in both]
    assert sorted(answer["reused"] for answer in said) == [False, True]
    assert said[0]["digest"] == said[1]["digest"]
    engine("rmi", said[0]["reference"])


def test_classic_image_store(make: Build, rig: Rig) -> None:
    if rig.docker_host_classic is None:
        pytest.skip("this machine has no second engine with the classic image store")
    classic = Engine(rig.docker_host_classic)
    spec = ImageSpec(
        name="classic",
        python_version="3.11",
        env={"A": "x\ny", "LANG": "C"},
        entrypoint=[],
        labels={"l": "m"},
    )
    result = make(spec, variables={"DOCKER_HOST": rig.docker_host_classic})
    try:
        assert classic.env(result.reference)["A"] == "x\ny"
        assert not classic.config(result.reference)["Cmd"]
        labels = classic.config(result.reference)["Labels"]
        assert labels["l"] == "m"
        assert not [label for label in labels if label.startswith("ai.tensorchord")]
        assert classic.run(result.reference, "python", "-c", "print(1)") == "1\n"
    finally:
        classic("rmi", "--force", result.reference)
