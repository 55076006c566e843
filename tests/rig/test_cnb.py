"""The rig's builder image: a real lifecycle, and a buildpack whose layers are the same for the same files."""

from __future__ import annotations

import json
import re
import subprocess
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.rig import __main__ as command
from tests.rig import cnb, cnb_multi, golang, images, state
from tests.rig.test_rig import RIG


def test_go_version_is_read_from_what_go_says() -> None:
    assert golang.version("go version go1.26.5 linux/amd64") == (1, 26, 5)
    assert golang.version("go version go1.27 linux/arm64") == (1, 27)
    assert golang.version("go version devel +abc linux/amd64") == ()
    assert golang.version("go version go1.26.5 linux/amd64") >= golang.NEEDED


def test_programs_are_kept_by_the_content_of_their_module(tmp_path: Path) -> None:
    before = golang.place("x", tmp_path)
    (tmp_path / "go.mod").write_text("module x\n")
    assert golang.place("x", tmp_path) != before


def test_what_is_built_is_what_the_modules_pin() -> None:
    for module, wanted in ((cnb.LIFECYCLE, cnb.LIFECYCLE_VERSION), (cnb.PACK, cnb.PACK_VERSION)):
        assert f"{module.name} v{wanted}\n" in (module / "go.mod").read_text()


def test_state_of_buildpacks_survives_the_file(tmp_path: Path) -> None:
    text = RIG.to_json()
    assert state.Rig.from_json(text).cnb is None
    data = {**json.loads(text), "cnb": {"builder": "b", "pack": "/pack"}}
    found = state.Rig.from_json(json.dumps(data))
    assert found.cnb == state.Cnb("b", pack="/pack")
    assert "export IMAGESMITH_BUILDPACKS_BUILDER=b\n" in command.exports(found)
    assert "IMAGESMITH_BUILDPACKS" not in command.exports(RIG)


def test_a_public_builder_takes_the_place_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cnb.PUBLIC_BUILDER, "docker.io/some/builder:1")
    publisher = images.Publisher(RIG.docker_host, RIG.registry, RIG.registry_tls)
    assert cnb_multi.reference(publisher, coming=True) == state.Cnb("docker.io/some/builder:1")
    with ThreadPoolExecutor() as pool:
        assert cnb.start(pool) is None
    cnb.publish(publisher)  # asks neither engine nor registry


@pytest.mark.live
def test_lifecycle_and_pack_are_of_the_pinned_versions(rig: state.Rig, ours: state.Cnb) -> None:
    options = ("--rm", "--network=none", "--env=CNB_PLATFORM_API=0.12")
    told = docker(rig, "run", *options, ours.builder, "/cnb/lifecycle/creator", "-version")
    assert told.strip() == cnb.LIFECYCLE_VERSION
    assert ours.pack is not None
    version = subprocess.run([ours.pack, "version"], capture_output=True, text=True, check=True).stdout
    assert version.strip() == cnb.PACK_VERSION


@pytest.mark.live
def test_the_same_files_give_the_same_image(rig: state.Rig, ours: state.Cnb, tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("six==1.16.0\n")
    name = f"{rig.registry}/cnb-{uuid.uuid4().hex[:8]}"
    digests = set()
    for number in (1, 2):
        done = create(rig, ours, tmp_path, f"{name}/{number}:latest")
        assert done.returncode == 0, done.stdout
        assert "packages into a new environment" in done.stdout
        digests.update(re.findall(r"\*\*\* Images \((sha256:[0-9a-f]+)\)", done.stdout))
    assert len(digests) == 1
    docker(rig, "pull", "--quiet", f"{name}/1:latest")
    command = "python -c 'import six; print(six.__version__)'"
    assert docker(rig, "run", "--rm", "--network=none", f"{name}/1:latest", command) == "1.16.0\n"
    docker(rig, "rmi", f"{name}/1:latest")


@pytest.mark.live
@pytest.mark.parametrize(("answer", "code"), [("100", 20), ("1", 21)])
def test_detection_fails_where_a_test_wants_it(
    rig: state.Rig, ours: state.Cnb, tmp_path: Path, answer: str, code: int
) -> None:
    (tmp_path / "requirements.txt").write_text("")
    variable = tmp_path / "platform" / "env" / "RIG_DETECT"
    variable.parent.mkdir(parents=True)
    variable.write_text(answer)
    options = ("--volume", f"{variable}:/platform/env/RIG_DETECT:ro")
    done = create(rig, ours, tmp_path, f"{rig.registry}/cnb-none:latest", *options)
    assert done.returncode == code, done.stdout


@pytest.fixture
def ours(rig: state.Rig) -> state.Cnb:
    if rig.cnb is None or rig.cnb.pack is None:
        pytest.skip("the rig's own builder image is not there: python3 -m tests.rig up --with cnb")
    return rig.cnb


def docker(rig: state.Rig, *arguments: str) -> str:
    argv = ["docker", "--host", rig.docker_host, *arguments]
    return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=300).stdout


def create(
    rig: state.Rig, ours: state.Cnb, app: Path, image: str, *options: str
) -> subprocess.CompletedProcess[str]:
    """Run the lifecycle as a platform does."""
    app.chmod(0o755)  # buildpacks run as another user
    argv = ["docker", "--host", rig.docker_host, "run", "--rm", "--user=root", "--network=host"]
    argv += ["--env=CNB_PLATFORM_API=0.12", "--env=CNB_NO_COLOR=true", "--volume", f"{app}:/workspace"]
    argv += [*options, ours.builder, "/cnb/lifecycle/creator", "-app=/workspace", "-run=/cnb/run.toml"]
    argv += [f"-run-image={ours.run}", image]
    return subprocess.run(
        argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=300
    )
