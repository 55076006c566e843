"""What only the docker builder does: publishing by buildx, on the engine and on a BuildKit without one."""

from __future__ import annotations

import json
import os
import select
import socket
import ssl
import subprocess
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from imagesmith import (
    BuilderNotReady,
    BuildFailed,
    BuildResult,
    FeatureUnsupported,
    ImageSpec,
    StepDone,
    StepStarted,
)
from imagesmith.stores.registry import open_repository
from tests.live.conftest import Build, Engine
from tests.live.index import private_index, wheel
from tests.live.test_publish_live import image_bytes, layers, login_file
from tests.rig.state import Rig

pytestmark = pytest.mark.live
RUN = uuid.uuid4().hex[:8]
NOWHERE = "unix:///nonexistent"


@pytest.fixture(scope="module")
def make(make: Build) -> Build:
    """Build by this builder. An ``environment`` of this module's own would not do: the ``make`` of the
    session is made once, for whichever module comes first."""

    def run(spec: ImageSpec, **options: Any) -> BuildResult:
        return make(spec, builder="docker", **options)

    return run


@pytest.fixture(scope="module")
def remote(environment: dict[str, str], rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A BuildKit over TCP."""
    return farm(environment, tmp_path_factory.mktemp("buildx"), rig.buildkit.tcp)


def farm(environment: dict[str, str], folder: Path, address: str, *options: str) -> dict[str, str]:
    """Variables of a user whose builder is a BuildKit there; there is no engine."""
    env = {**environment, "BUILDX_CONFIG": str(folder)}
    driver = [word for option in options for word in ("--driver-opt", option)]
    argv = ["docker", "buildx", "create", "--name", "farm", "--driver", "remote", *driver, address]
    subprocess.run(argv, env=env, check=True, capture_output=True)
    return {"BUILDX_CONFIG": str(folder), "BUILDX_BUILDER": "farm", "DOCKER_HOST": NOWHERE}


def started(events: list[object]) -> list[str]:
    return [event.name for event in events if isinstance(event, StepStarted)]


def anew(events: list[object]) -> list[str]:
    """The names of the steps that ran, rather than being found in the engine's cache."""
    names = {event.id: event.name for event in events if isinstance(event, StepStarted)}
    return [names[event.id] for event in events if isinstance(event, StepDone) and not event.cached]


def media_types(reference: str, environment: dict[str, str]) -> list[str]:
    repository, _, tag = reference.rpartition(":")
    with open_repository(repository, environment) as store:
        image = store.read(tag)
    assert image is not None
    assert image.manifest is not None
    found = image.manifest["layers"]
    assert isinstance(found, list)
    return [layer["mediaType"].rpartition(".")[2] for layer in found]


def test_pushed_with_zstd_and_nothing_is_left_in_the_engine(
    make: Build, engine: Engine, rig: Rig, environment: dict[str, str]
) -> None:
    spec = ImageSpec(
        name="pushed",
        registry=f"{rig.registry}/docker-{RUN}",
        python_version="3.11",
        packages=["six", f"idna!=0.{int(RUN, 16)}"],  # layers that no other build has exported as gzip
        env={"A": "one two\nthree"},
        entrypoint=["python", "-c", "import os, six; print(repr(os.environ['A']))"],
    )
    first = make(spec)
    repository = first.reference.rpartition(":")[0]
    assert engine.tags(repository) == set()
    assert media_types(first.reference, environment)[-1] == "tar+zstd"
    assert engine.run(first.reference) == "'one two\\nthree'\n"
    events: list[object] = []
    other = make(spec.with_env({"A": "$2"}), report=events.append)
    assert layers(other.reference, environment) == layers(first.reference, environment)
    assert engine.run(other.reference) == "'$2'\n"
    assert started(events) == []

    old = make(spec.replace(builder_options={"compression": "gzip"}))
    assert media_types(old.reference, environment)[-1] == "tar+gzip"


def test_a_builder_without_any_engine(
    make: Build, engine: Engine, rig: Rig, remote: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "app.py").write_text("import idna; print('from afar')\n")
    spec = ImageSpec(
        name="afar",
        registry=f"{rig.registry}/docker-{RUN}",
        python_version="3.11",
        packages=["idna"],
        source_root=tmp_path,
        commands=["echo $A > command.txt"],
        env={"A": "b"},
        entrypoint=["python", "app.py"],
    )
    result = make(spec, variables=remote)
    assert engine.run(result.reference) == "from afar\n"
    out = engine.run(result.reference, "command.txt", options=("--entrypoint", "cat"))
    assert out == "b\n"


def test_pushed_to_a_registry_with_tls_and_login_from_afar(
    make: Build, rig: Rig, remote: dict[str, str], tmp_path: Path
) -> None:
    spec = ImageSpec(
        name="private",
        registry=f"{rig.registry_tls.address}/docker-{RUN}",
        registry_config=login_file(tmp_path, rig),
        base_image=f"{rig.registry_tls.address}/library/python:3.11",
        packages=["six"],
    )
    assert make(spec).digest.startswith("sha256:")
    assert make(spec.replace(name="private2"), variables=remote).digest.startswith("sha256:")


def test_a_base_in_the_engine_is_nothing_for_a_builder_elsewhere(
    make: Build, rig: Rig, remote: dict[str, str], environment: dict[str, str]
) -> None:
    lower = ImageSpec(name="lower-docker", python_version="3.11")
    upper = ImageSpec(name="upper-docker", base_image=lower, registry=f"{rig.registry}/docker-{RUN}")
    variables = {**remote, "DOCKER_HOST": environment["DOCKER_HOST"]}
    with pytest.raises(FeatureUnsupported, match=r"the builder farm \(remote\) cannot see"):
        make(upper, variables=variables)


def test_built_afar_for_the_local_engine(
    make: Build, engine: Engine, remote: dict[str, str], environment: dict[str, str]
) -> None:
    spec = ImageSpec(name="loaded", python_version="3.11", env={"A": "\n"}, entrypoint=[])
    result = make(spec, variables={**remote, "DOCKER_HOST": environment["DOCKER_HOST"]})
    assert engine.env(result.reference)["A"] == "\n"


def test_classic_image_store(make: Build, rig: Rig, tmp_path: Path) -> None:
    if rig.docker_host_classic is None:
        pytest.skip("this machine has no second engine with the classic image store")
    (tmp_path / "x").write_text("x\n")
    classic = Engine(rig.docker_host_classic)
    spec = ImageSpec(
        name="docker-classic",
        python_version="3.11",
        env={"A": "x\ny"},
        packages=["six"],
        source_root=tmp_path,
    )
    variables = {"DOCKER_HOST": rig.docker_host_classic}
    result = make(spec, variables=variables)
    try:
        assert classic.env(result.reference)["A"] == "x\ny"
        assert classic.run(result.reference, "python", "-c", "import six; print(open('x').read())") == "x\n\n"
    finally:
        classic("rmi", "--force", result.reference)
    pushed = make(spec.replace(registry=f"{rig.registry}/docker-{RUN}"), variables=variables)
    assert classic.tags(pushed.reference.rpartition(":")[0]) == set()


def test_what_an_edit_runs_again(make: Build, engine: Engine, tmp_path: Path) -> None:
    app = tmp_path / "app.py"
    app.write_text(f"print('{RUN}')\n")
    spec = ImageSpec(
        name="edited",
        python_version="3.11",
        source_root=tmp_path,
        packages=[f"six!=0.{int(RUN, 16)}"],  # never in the engine's cache yet
        entrypoint=["python", "app.py"],
    )
    assert engine.run(make(spec).reference) == f"{RUN}\n"

    def changed(spec: ImageSpec) -> tuple[str, list[str]]:
        """What the image says, and the steps that ran for it."""
        events: list[object] = []
        reference = make(spec, force=True, report=events.append).reference
        return engine.run(reference), [name.partition(":")[0] for name in anew(events) if ":" in name]

    assert changed(spec) == (f"{RUN}\n", ["files"])
    app.write_text(f"print('{RUN[::-1]}')\n")  # of the same size
    assert changed(spec) == (f"{RUN[::-1]}\n", ["files"])
    assert changed(spec.with_env({"NEW": "value"})) == (f"{RUN[::-1]}\n", ["files"])
    with_command = spec.replace(commands=["true"])
    assert changed(with_command)[1][-2:] == ["files", "command"]
    app.write_text(f"print('{RUN}')\n")
    assert changed(with_command) == (f"{RUN}\n", ["files", "command"])
    app.write_text(f"print('{RUN[::-1]}')\n")
    more = spec.replace(packages=[*spec.packages, "idna"])
    assert changed(more) == (f"{RUN[::-1]}\n", ["packages", "work directory", "files"])


def test_credentials_and_secret_files_are_found_nowhere(
    make: Build, engine: Engine, rig: Rig, remote: dict[str, str], tmp_path: Path
) -> None:
    secret = f"hunter2{RUN}"
    token = tmp_path / "token"
    token.write_text(f"file-{secret}\n")
    local = tmp_path / "localpkg-1.0-py3-none-any.whl"
    local.write_bytes(wheel("localpkg"))
    requirements = tmp_path / "requirements.txt"
    with private_index("privatepkg", f"me:{secret}") as host:
        requirements.write_text(
            f"--extra-index-url http://me:{secret}@{host}/simple\nprivatepkg==1.0  # from the private index\n"
        )
        spec = ImageSpec(
            name="secretive",
            python_version="3.11",
            registry=f"{rig.registry}/docker-{RUN}",
            packages=[str(local)],
            requirements=requirements,
            pip_index=f"http://me:{secret}@{host}/simple",
            pip_extra_args=["--no-deps"],
            pip_secret_mounts=[(token, "/run/deep/er/token")],
            entrypoint=["python", "-c", "import privatepkg, localpkg; print(privatepkg.VERSION)"],
        )
        events: list[object] = []
        result = make(spec, variables=remote, report=events.append)
    assert engine.run(result.reference) == "1.0\n"
    assert "deep" not in engine.run(result.reference, "/run", options=("--entrypoint", "ls")).split()
    data = image_bytes(engine, result.reference, tmp_path)
    assert b"privatepkg" in data
    assert result.log is not None
    places = {
        "image": data,
        "log": result.log.read_bytes(),
        "events": repr(events).encode(),
        "reference": result.reference.encode(),
        "history": engine("history", "--no-trunc", result.reference).encode(),
    }
    assert {name for name, place in places.items() if secret.encode() in place} == set()
    with open_repository(result.reference.rpartition(":")[0], {}, None) as store:
        staged = store.read("imagesmith-staging")
    assert staged is not None
    assert secret not in json.dumps(dict(staged.config))
    usage = subprocess.run(
        ["docker", "buildx", "du", "--verbose"], env={**os.environ, **remote}, capture_output=True, check=True
    )
    assert secret.encode() not in usage.stdout


def test_the_secret_is_there_while_packages_are_installed(
    make: Build, engine: Engine, tmp_path: Path
) -> None:
    config = tmp_path / "pip.conf"
    with private_index("privatepkg", None) as host:
        config.write_text(f"[global]\nindex-url = http://{host}/simple\n")
        spec = ImageSpec(
            name="configured",
            python_version="3.11",
            packages=["privatepkg"],
            pip_secret_mounts=[(config, "/root/.config/pip/pip.conf")],
            builder_options={"network": "host"},
        )
        result: BuildResult = make(spec)
    assert engine.run(result.reference, "python", "-c", "import privatepkg; print('ok')") == "ok\n"
    assert (
        engine.run(result.reference, "sh", "-c", "ls -A /root/.config 2>/dev/null || echo none") == "none\n"
    )


def test_pip_installs_where_uv_cannot(make: Build, engine: Engine) -> None:
    events: list[object] = []
    spec = ImageSpec(
        name="bypip", python_version="3.11", packages=["six"], pip_extra_args=["--no-warn-script-location"]
    )
    result = make(spec, report=events.append)
    assert any("by pip: an argument" in name for name in started(events))
    assert engine.run(result.reference, "python", "-c", "import six; print('ok')") == "ok\n"


def test_unknown_options_are_refused_with_a_suggestion(make: Build) -> None:
    spec = ImageSpec(name="unknown", python_version="3.11", builder_options={"bilder": "x", "sbom": True})
    with pytest.raises(FeatureUnsupported, match="did you mean 'builder'") as caught:
        make(spec)
    assert set(caught.value.fields) == {"builder_options['bilder']", "builder_options['sbom']"}


def test_two_platforms(make: Build, engine: Engine, rig: Rig) -> None:
    if rig.images.python311_multi is None:
        pytest.skip("the rig has no arm64 (python3 -m tests.rig up --with arm64)")
    spec = ImageSpec(
        name="both",
        registry=f"{rig.registry}/docker-{RUN}",
        base_image=rig.images.python311_multi,
        platform=["linux/amd64", "linux/arm64"],
        packages=["six"],
        entrypoint=["python", "-c", "import platform, six; print(platform.machine())"],
    )
    result = make(spec)
    assert engine.run(result.reference, options=("--platform", "linux/arm64")) == "aarch64\n"
    assert engine.run(result.reference, options=("--platform", "linux/amd64")) == "x86_64\n"


@pytest.mark.parametrize("where", ["engine", "afar"])
def test_an_image_layout(
    make: Build, engine: Engine, remote: dict[str, str], tmp_path: Path, where: str
) -> None:
    spec = ImageSpec(name="layout", python_version="3.11", packages=["six"], env={"A": "b\nc"})
    folder = tmp_path / "layout"
    result = make(spec, output=folder, variables=remote if where == "afar" else {})
    index = json.loads((folder / "index.json").read_text())
    assert [entry["digest"] for entry in index["manifests"]] == [result.digest]
    archive = tmp_path / "image.tar"
    subprocess.run(["tar", "-cf", archive, "-C", folder, "."], check=True)
    engine("load", "--quiet", "--input", str(archive))
    try:
        code = "import six, os; print(repr(os.environ['A']))"
        assert engine.run(result.digest, "python", "-c", code) == "'b\\nc'\n"
    finally:
        engine("rmi", "--force", result.digest)


def test_an_engine_that_cannot_write_a_layout_says_so(make: Build, rig: Rig, tmp_path: Path) -> None:
    if rig.docker_host_classic is None:
        pytest.skip("this machine has no second engine with the classic image store")
    with pytest.raises(BuilderNotReady, match="cannot give an image layout") as caught:
        make(
            ImageSpec(name="layout2", python_version="3.11"),
            output=tmp_path / "layout",
            variables={"DOCKER_HOST": rig.docker_host_classic},
        )
    assert "containerd image store" in (caught.value.hint or "")
    assert not (tmp_path / "layout").exists()


def certificates(folder: Path) -> tuple[Path, Path]:
    """An authority, and a certificate of it for 127.0.0.1 with its key."""
    key = ["-newkey", "rsa:2048", "-nodes", "-days", "2"]
    ca = ["-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=test authority"]
    (folder / "san").write_text("subjectAltName=IP:127.0.0.1\n")
    for argv in (
        ["req", "-x509", *key, *ca],
        ["req", *key, "-keyout", "index.key", "-out", "index.csr", "-subj", "/CN=127.0.0.1"],
        ["x509", "-req", "-in", "index.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
         "-days", "2", "-extfile", "san", "-out", "index.pem"],
    ):  # fmt: skip
        subprocess.run(["openssl", *argv], cwd=folder, check=True, capture_output=True)
    both = folder / "both.pem"
    both.write_text((folder / "index.pem").read_text() + (folder / "index.key").read_text())
    return folder / "ca.pem", both


def test_a_proxy_and_certificates_of_the_machine_reach_the_installer_and_nothing_else(
    make: Build, engine: Engine, tmp_path: Path
) -> None:
    ca, certificate = certificates(tmp_path)
    machine = {"IMAGESMITH_DOCKER_NETWORK": "host"}
    with private_index("tlspkg", None, certificate) as secure, private_index("proxypkg", None) as proxy:
        tls = ImageSpec(
            name="own-ca",
            python_version="3.11",
            packages=["tlspkg"],
            pip_index=f"https://{secure}/simple",
            build_env={"RUN": RUN},
        )
        with pytest.raises(BuildFailed, match="does not trust the server's certificate"):
            make(tls, variables=machine)
        first = make(tls, variables={**machine, "IMAGESMITH_DOCKER_CA": str(ca)})
        proxied = ImageSpec(
            name="proxied",
            python_version="3.11",
            packages=["proxypkg"],
            pip_index="http://index.invalid/simple",
        )
        second = make(proxied, variables={**machine, "HTTP_PROXY": f"http://me:hunter2@{proxy}"}, force=True)
    assert make(proxied).reference == second.reference, "nor do they enter the tag"
    for result, package in ((first, "tlspkg"), (second, "proxypkg")):
        assert engine.run(result.reference, "python", "-c", f"import {package}; print('ok')") == "ok\n"
        said = engine("history", "--no-trunc", result.reference) + json.dumps(engine.config(result.reference))
        assert "hunter2" not in said
        assert "ca.pem" not in said
        assert (
            engine.run(result.reference, "sh", "-c", "ls /run/imagesmith 2>/dev/null || echo none")
            == "none\n"
        )


@contextmanager
def behind_tls(address: str, certificate: Path, authority: Path) -> Iterator[str]:
    """``tcp://`` address with TLS before it, for clients with a certificate of that authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.load_verify_locations(authority)
    context.verify_mode = ssl.CERT_REQUIRED
    context.set_alpn_protocols(["h2"])
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    stop = threading.Event()

    def pump(secure: ssl.SSLSocket) -> None:
        with secure, socket.create_connection((host, int(port))) as plain:
            secure.setblocking(False)
            while not stop.is_set():
                waiting = [secure] if secure.pending() else select.select([secure, plain], [], [], 0.2)[0]
                for source in waiting:
                    try:
                        data = source.recv(65536)
                    except ssl.SSLWantReadError:
                        continue
                    except OSError:
                        return
                    if not data:
                        return
                    if source is secure:
                        plain.sendall(data)
                    else:
                        secure.settimeout(30)
                        secure.sendall(data)
                        secure.setblocking(False)

    def accept(server: socket.socket) -> None:
        while not stop.is_set():
            try:
                connection, _ = server.accept()
                secure = context.wrap_socket(connection, server_side=True)
            except OSError:  # nobody, or one without a certificate
                continue
            threading.Thread(target=pump, args=(secure,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        thread = threading.Thread(target=accept, args=(server,), daemon=True)
        thread.start()
        try:
            yield f"tcp://127.0.0.1:{server.getsockname()[1]}"
        finally:
            stop.set()
            thread.join()


def test_a_builder_over_tls_with_a_certificate_of_the_client(
    make: Build, engine: Engine, rig: Rig, environment: dict[str, str], tmp_path: Path
) -> None:
    ca, certificate = certificates(tmp_path)
    spec = ImageSpec(
        name="secure", registry=f"{rig.registry}/docker-{RUN}", python_version="3.11", packages=["six"]
    )
    with behind_tls(rig.buildkit.tcp, certificate, ca) as address:
        options = (f"cacert={ca}", f"cert={certificate}", f"key={tmp_path / 'index.key'}")
        (tmp_path / "with").mkdir()
        result = make(spec, variables=farm(environment, tmp_path / "with", address, *options))
        assert engine.run(result.reference, "python", "-c", "import six; print('ok')") == "ok\n"
        (tmp_path / "without").mkdir()
        with pytest.raises(BuilderNotReady, match="does not answer"):
            make(spec, force=True, variables=farm(environment, tmp_path / "without", address, f"cacert={ca}"))
