"""What the docker builder's options do on real engines: caches, contexts, attestations, times."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from imagesmith import (
    BuilderNotReady,
    BuildFailed,
    BuildResult,
    Environment,
    ImageSpec,
    StepDone,
    StepStarted,
)
from imagesmith.runner import SubprocessRunner
from imagesmith.stores.registry import RegistryStore, open_repository
from imagesmith_docker.builder import DockerBuilder
from tests.live.conftest import Build, Engine, script
from tests.live.index import private_index, wheel
from tests.live.test_docker_live import anew, farm
from tests.rig.buildkit import binary, configuration
from tests.rig.state import Buildkit, Rig, answers, uses_public_images

pytestmark = pytest.mark.live
RUN = uuid.uuid4().hex[:8]
ONCE = f"six!=0.{int(RUN, 16)}"
"""in no cache yet"""


@pytest.fixture(scope="module")
def make(make: Build) -> Build:
    """Build by this builder, whatever stands under the tag."""

    def run(spec: ImageSpec, **options: Any) -> BuildResult:
        return make(spec, builder="docker", **{"force": True, **options})

    return run


@pytest.fixture(scope="module")
def remote(environment: dict[str, str], rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A BuildKit over TCP."""
    return farm(environment, tmp_path_factory.mktemp("buildx"), rig.buildkit.tcp)


def ready(variables: dict[str, str], cache: Path) -> Any:
    return DockerBuilder(Environment(SubprocessRunner(), variables, cache)).ready()


def test_what_each_engine_can_do_is_found_out(
    environment: dict[str, str], remote: dict[str, str], rig: Rig, tmp_path: Path
) -> None:
    assert ready(environment, tmp_path).details[-1] == "it can build all that may be asked"
    assert ready({**environment, **remote}, tmp_path).details[-1] == "it can build all that may be asked"
    if rig.docker_host_classic is None:
        pytest.skip("this machine has no second engine with the classic image store")
    found = ready({**environment, "DOCKER_HOST": rig.docker_host_classic}, tmp_path)
    assert found.ok
    assert "all but image layouts, attestations" in found.details[-1]


@pytest.fixture(scope="module")
def another(
    environment: dict[str, str], rig: Rig, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """A second BuildKit of the same version, which knows nothing yet."""
    if uses_public_images():
        pytest.skip("the rig's buildkitd is a container here: there is no program to start a second one")
    folder = tmp_path_factory.mktemp("buildkitd")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    address = Buildkit(f"tcp://127.0.0.1:{port}", f"unix://{folder}/socket")
    file = script(
        folder, "buildkitd.toml", configuration(folder / "root", address, rig.registry, rig.registry_tls)
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([binary(), "--config", file], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 30
        while not answers(address.tcp):
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, "no answer"
            time.sleep(0.05)
        (folder / "buildx").mkdir()
        yield farm(environment, folder / "buildx", address.tcp)
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.parametrize("kind", ["registry", "local"])
def test_one_engine_takes_its_layers_from_what_another_exported(
    make: Build, rig: Rig, remote: dict[str, str], another: dict[str, str], tmp_path: Path, kind: str
) -> None:
    """Engines of one version: BuildKit 0.13 and 0.25 have other keys for steps with mounts."""
    spec = ImageSpec(
        name=f"cached-{kind}",
        registry=f"{rig.registry}/docker-{RUN}",
        python_version="3.11",
        packages=[ONCE, f"idna!=0.{int(RUN, 16)}.{len(kind)}"],
        commands=[f"echo {RUN}{kind} > made.txt"],
    )
    place = f"ref={rig.registry}/docker-{RUN}/cache" if kind == "registry" else f"src={tmp_path}/cache"
    events: list[object] = []
    to = f"type={kind},{place.replace('src=', 'dest=')},mode=max"
    first = make(spec, variables={**remote, "IMAGESMITH_DOCKER_CACHE_TO": to}, report=events.append)
    assert "packages: 2 requirements" in anew(events)
    events.clear()
    variables = {**another, "IMAGESMITH_DOCKER_CACHE_FROM": f"type={kind},{place}"}
    second = make(spec, variables=variables, report=events.append)
    assert [name for name in anew(events) if ":" in name] == []
    done = [event for event in events if isinstance(event, StepDone)]
    assert [event for event in done if event.cached], done
    assert first.reference == second.reference, "settings of the machine enter no tag"


def test_a_network_that_is_none(make: Build) -> None:
    spec = ImageSpec(
        name="offline", python_version="3.11", packages=[ONCE], builder_options={"network": "none"}
    )
    with pytest.raises(BuildFailed) as caught:
        make(spec)
    assert "no network" in (caught.value.hint or ""), str(caught.value)


def test_contexts_are_read_by_packages_and_commands_and_do_not_stay(
    make: Build, engine: Engine, rig: Rig, tmp_path: Path
) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    (wheels / "contextpkg-1.0-py3-none-any.whl").write_bytes(wheel("contextpkg"))
    spec = ImageSpec(
        name="contexts",
        python_version="3.11",
        packages=["contextpkg"],
        pip_extra_args=["--find-links", "/run/imagesmith/contexts/wheels", "--no-index"],
        commands=[
            "head -n 1 /run/imagesmith/contexts/other/etc/os-release > os.txt",
            "if touch /run/imagesmith/contexts/wheels/x 2>/dev/null; then exit 1; fi",
        ],
        builder_options={"build_contexts": {"other": rig.images.debian}},
    )
    result = make(spec, variables={"IMAGESMITH_DOCKER_BUILD_CONTEXTS": f"wheels={wheels}"})
    out = engine.run(result.reference, "sh", "-c", "cat os.txt; python -c 'import contextpkg'; ls -A /run")
    assert "Debian" in out
    assert "imagesmith" not in out


def attested(store: RegistryStore, reference: str) -> dict[str, Any]:
    """Statements by the kind of their predicate; each must be about the image that stands beside it."""
    index = store.document(reference.rpartition(":")[2])
    assert index is not None
    image, *others = index["manifests"]  # type: ignore[misc]
    found = {}
    for entry in others:
        assert entry["annotations"]["vnd.docker.reference.digest"] == image["digest"]
        manifest = store.document(entry["digest"])
        assert manifest is not None
        for layer in manifest["layers"]:  # type: ignore[attr-defined]
            statement = json.loads(store.get_blob(layer["digest"]))
            repository, _, tag = reference.rpartition(":")
            (subject,) = statement["subject"]
            assert subject["digest"] == {"sha256": image["digest"].removeprefix("sha256:")}
            assert subject["name"].startswith(f"pkg:docker/{repository.replace(':', '%3A')}@{tag}?")
            found[statement["predicateType"].partition("/v")[0]] = statement["predicate"]
    return found


@pytest.mark.parametrize("where", ["engine", "afar"])
def test_provenance_is_about_the_finished_image(
    make: Build, engine: Engine, rig: Rig, remote: dict[str, str], where: str
) -> None:
    variables = remote if where == "afar" else {}
    spec = ImageSpec(
        name=f"attested-{where}",
        registry=f"{rig.registry}/docker-{RUN}",
        python_version="3.11",
        packages=["six"],
        env={"A": "value-of-env"},
        build_env={"B": "value-of-build-env"},
        entrypoint=["python", "-c", "import six; print('ok')"],
        builder_options={"provenance": "max"},
    )
    result = make(spec, variables=variables)
    assert engine.run(result.reference) == "ok\n"
    with open_repository(result.reference.rpartition(":")[0], {}) as store:
        found = attested(store, result.reference)
        assert store.digest(result.reference.rpartition(":")[2]) == result.digest
        assert store.platforms(result.digest) == ("linux/amd64",)
    provenance = found["https://slsa.dev/provenance"]
    assert "library/python" in provenance["materials"][0]["uri"]
    assert "value-of" not in json.dumps(provenance)
    # an independent reader finds them too
    argv = ["docker", "buildx", "imagetools", "inspect", result.reference, "--format", "{{json .Provenance}}"]
    env = {**os.environ, "DOCKER_HOST": engine.host}
    told = subprocess.run(argv, env=env, capture_output=True, check=True).stdout
    assert json.loads(told)["SLSA"]["materials"] == provenance["materials"]
    # an edit of the configuration alone has them as well, about its own image
    other = make(spec.with_env({"A": "other"}), variables=variables, force=False)
    with open_repository(other.reference.rpartition(":")[0], {}) as store:
        assert attested(store, other.reference)


def test_two_platforms_are_attested_each(make: Build, rig: Rig) -> None:
    if rig.images.python311_multi is None:
        pytest.skip("the rig has no arm64 (python3 -m tests.rig up --with arm64)")
    spec = ImageSpec(
        name="both-attested",
        registry=f"{rig.registry}/docker-{RUN}",
        base_image=rig.images.python311_multi,
        platform=["linux/amd64", "linux/arm64"],
        builder_options={"provenance": True},
    )
    result = make(spec)
    with open_repository(result.reference.rpartition(":")[0], {}) as store:
        index = store.document(result.digest)
        assert index is not None
        entries: Any = index["manifests"]
        assert store.platforms(result.digest) == ("linux/amd64", "linux/arm64")
    about = [each["annotations"]["vnd.docker.reference.digest"] for each in entries[2:]]
    assert about == [each["digest"] for each in entries[:2]]


SCANNER = """\
#!/bin/sh
cat > "$BUILDKIT_SCAN_DESTINATION/own.spdx.json" <<END
{"_type": "https://in-toto.io/Statement/v0.1", "predicateType": "https://spdx.dev/Document",
 "predicate": {"seen": "$(ls "$BUILDKIT_SCAN_SOURCE" | tr "\\n" " ")"}}
END
"""


def test_a_list_of_contents_by_a_scanner_of_ones_own(
    make: Build, engine: Engine, rig: Rig, remote: dict[str, str], tmp_path: Path
) -> None:
    scanner = f"{rig.registry}/docker-{RUN}/scanner:1"
    scan = script(tmp_path, "scan", SCANNER)
    scan.chmod(0o755)
    (tmp_path / "Dockerfile").write_text(f'FROM {rig.images.debian}\nCOPY scan /scan\nENTRYPOINT ["/scan"]\n')
    engine("buildx", "build", "--quiet", "--provenance=false", "--push", "--tag", scanner, str(tmp_path))
    spec = ImageSpec(
        name="listed",
        registry=f"{rig.registry}/docker-{RUN}",
        python_version="3.11",
        builder_options={"sbom": scanner, "provenance": "min"},
    )
    result = make(spec, variables=remote)
    with open_repository(result.reference.rpartition(":")[0], {}) as store:
        found = attested(store, result.reference)
    assert set(found) == {"https://slsa.dev/provenance", "https://spdx.dev/Document"}
    assert "opt" in found["https://spdx.dev/Document"]["seen"].split()


def test_attestations_in_a_layout(make: Build, tmp_path: Path) -> None:
    spec = ImageSpec(name="attested-layout", python_version="3.11", builder_options={"provenance": True})
    folder = tmp_path / "layout"
    result = make(spec, output=folder)
    blobs = folder / "blobs" / "sha256"
    index = json.loads((blobs / result.digest.removeprefix("sha256:")).read_text())
    image, attestation = index["manifests"]
    assert attestation["annotations"]["vnd.docker.reference.digest"] == image["digest"]


def test_attestations_are_refused_by_an_engine_that_writes_none(make: Build, rig: Rig) -> None:
    if rig.docker_host_classic is None:
        pytest.skip("this machine has no second engine with the classic image store")
    spec = ImageSpec(
        name="unattested",
        registry=f"{rig.registry}/docker-{RUN}",
        python_version="3.11",
        builder_options={"provenance": True},
    )
    with pytest.raises(BuilderNotReady, match="cannot give builder_options"):
        make(spec, variables={"DOCKER_HOST": rig.docker_host_classic})


PLACES = {
    "registry": {},
    "registry-afar": {"remote": True},
    "engine": {"local": True},
    "engine-afar": {"local": True, "remote": True},
    "layout": {"layout": True},
}


@pytest.mark.parametrize("where", PLACES)
def test_the_same_again_without_a_cache_has_the_same_digest(
    make: Build, rig: Rig, remote: dict[str, str], environment: dict[str, str], tmp_path: Path, where: str
) -> None:
    place = PLACES[where]
    source = tmp_path / "source"
    source.mkdir()
    spec = ImageSpec(
        name=f"again-{where}",
        registry=None if place.get("local") or place.get("layout") else f"{rig.registry}/docker-{RUN}",
        python_version="3.11",
        source_root=source,
        packages=["six", "idna"],
        commands=["echo made > made.txt", "python -c 'import six, idna, colorsys'"],
        builder_options={"no_cache": True},
    )
    variables = {"SOURCE_DATE_EPOCH": "1000000000"}
    if place.get("remote"):
        variables |= {**remote, "DOCKER_HOST": environment["DOCKER_HOST"]}
    digests = []
    for number in range(2):
        (source / "app.py").write_text("print('the same')\n")
        more = {"output": tmp_path / f"layout{number}"} if place.get("layout") else {}
        events: list[object] = []
        digests.append(make(spec, variables=variables, report=events.append, **more).digest)
        assert "packages: 2 requirements" in anew(events)
        time.sleep(1.1 - number)  # another second of the clock
    assert digests[0] == digests[1]


@pytest.mark.parametrize(
    "more",
    [
        {"apt_packages": ["hello"]},
        {"pip_extra_args": ["--no-warn-script-location"]},  # pip itself, which compiles
        {"pip_extra_args": ["--compile-bytecode"]},  # uv, asked to
        {"base_image": "debian"},  # a virtual environment
    ],
    ids=["apt", "pip", "bytecode", "environment"],
)
def test_all_ways_to_install_write_the_same_bytes_again(
    make: Build, rig: Rig, remote: dict[str, str], engine: Engine, more: dict[str, Any]
) -> None:
    base = {"base_image": rig.images.debian} if "base_image" in more else {"python_version": "3.11"}
    spec = ImageSpec(
        name="bytes",
        registry=f"{rig.registry}/docker-{RUN}",
        packages=["six"],
        builder_options={"no_cache": True, "source_date_epoch": 1000000000},
        **{**more, **base},
    )
    first, second = make(spec, variables=remote), make(spec, variables=remote)
    assert first.digest == second.digest
    code = "import six, os; print(int(os.stat(six.__file__).st_mtime))"
    assert engine.run(second.reference, "python", "-c", code) == "1000000000\n"


def test_an_engine_that_cannot_set_times_says_so(make: Build, rig: Rig) -> None:
    if rig.docker_host_classic is None:
        pytest.skip("this machine has no second engine with the classic image store")
    events: list[object] = []
    spec = ImageSpec(
        name="untimed",
        registry=f"{rig.registry}/docker-{RUN}",
        python_version="3.11",
        builder_options={"source_date_epoch": 7},
    )
    make(spec, variables={"DOCKER_HOST": rig.docker_host_classic}, report=events.append)
    assert "cannot set the times in layers" in repr(events)


def test_steps_have_seconds_and_say_whether_they_were_cached(make: Build) -> None:
    spec = ImageSpec(name="timed", python_version="3.11", commands=[f"sleep 0.3; echo {RUN}; echo two >&2"])
    events: list[Any] = []
    make(spec, report=events.append)
    name = next(event.id for event in events if isinstance(event, StepStarted) and "sleep" in event.name)
    (done,) = [event for event in events if isinstance(event, StepDone) and event.id == name]
    assert not done.cached
    assert 0.3 <= done.seconds < 30
    events.clear()
    make(spec, report=events.append)
    cached = {event.cached for event in events if isinstance(event, StepDone)}
    assert True in cached


def test_the_last_thirty_lines_of_what_failed(make: Build) -> None:
    spec = ImageSpec(
        name="failing",
        python_version="3.11",
        commands=[f"for i in $(seq 100); do echo line $i {RUN}; done; exit 7"],
    )
    with pytest.raises(BuildFailed, match="exit code 7") as caught:
        make(spec)
    assert caught.value.returncode == 7
    assert caught.value.tail == tuple(f"line {number} {RUN}" for number in range(71, 101))


@pytest.mark.parametrize("extra", [[], ["--no-warn-script-location"]], ids=["uv", "pip"])
def test_an_index_that_nobody_serves(make: Build, extra: list[str]) -> None:
    spec = ImageSpec(
        name="unserved",
        python_version="3.11",
        packages=["six"],
        pip_index="http://127.0.0.1:1/simple",
        pip_extra_args=extra,
        build_env={"UV_HTTP_RETRIES": "0", "PIP_RETRIES": "1"},
    )
    with pytest.raises(BuildFailed) as caught:
        make(spec)
    assert "check the index, the mirror or the proxy" in (caught.value.hint or ""), str(caught.value)


def test_words_for_the_steps(make: Build, engine: Engine) -> None:
    spec = ImageSpec(
        name="worded",
        python_version="3.11",
        commands=[
            "grep 10.9.8.7 /etc/hosts > told",
            "ulimit -n >> told",
            "df -k /dev/shm | tail -n 1 >> told",
        ],
        builder_options={
            "add_host": "index.internal:10.9.8.7",
            "ulimit": ["nofile=777:777"],
            "shm_size": "96m",
        },
    )
    told = engine.run(make(spec).reference, "cat", "told").splitlines()
    assert told[0].split() == ["10.9.8.7", "index.internal"]
    assert told[1] == "777"
    assert told[2].split()[1] == str(96 * 1024)


def test_a_context_of_the_docker_client(make: Build, rig: Rig, tmp_path: Path) -> None:
    if rig.docker_host_classic is None:
        pytest.skip("this machine has no second engine")
    env = {**os.environ, "DOCKER_CONFIG": str(tmp_path)}
    argv = ["docker", "context", "create", "elsewhere", "--docker", f"host={rig.docker_host_classic}"]
    subprocess.run(argv, env=env, check=True, capture_output=True)
    spec = ImageSpec(name=f"in-context-{RUN}", python_version="3.11")
    variables = {"DOCKER_CONFIG": str(tmp_path), "DOCKER_CONTEXT": "elsewhere", "DOCKER_HOST": ""}
    result = make(spec, variables=variables)
    elsewhere = Engine(rig.docker_host_classic)
    assert elsewhere.tags(spec.name) == {result.reference}
    elsewhere("rmi", "--force", result.reference)


def test_secrets_are_in_no_exported_cache_and_in_no_attestation(
    make: Build, engine: Engine, rig: Rig, remote: dict[str, str], tmp_path: Path
) -> None:
    secret = f"hunter2{RUN}"
    token = script(tmp_path, "token", f"file-{secret}\n")
    to = f"type=local,dest={tmp_path}/cache,mode=max,compression=uncompressed,force-compression=true"
    with private_index("privatepkg", f"me:{secret}") as host:
        spec = ImageSpec(
            name="noted",
            python_version="3.11",
            registry=f"{rig.registry}/docker-{RUN}",
            packages=["privatepkg"],
            pip_index=f"http://me:{secret}@{host}/simple",
            pip_secret_mounts=[(token, "/run/deep/er/token")],
            build_env={"RUN": RUN},
            builder_options={"provenance": "max"},
        )
        result = make(spec, variables={**remote, "IMAGESMITH_DOCKER_CACHE_TO": to})
    assert engine.run(result.reference, "python", "-c", "import privatepkg; print('ok')") == "ok\n"
    with open_repository(result.reference.rpartition(":")[0], {}) as store:
        assert secret not in json.dumps(attested(store, result.reference))
    blobs = [file.read_bytes() for file in (tmp_path / "cache" / "blobs").rglob("*") if file.is_file()]
    assert any(b"privatepkg" in blob for blob in blobs), "the layers are there"
    assert not [blob for blob in blobs if secret.encode() in blob]
