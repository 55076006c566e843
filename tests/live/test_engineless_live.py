"""A builder that needs no engine, on the real registries and engines: what it leaves is finished and run."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import socket
import subprocess
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagesmith import BuildResult, ImageSpec, Message, RegistryUnreachable, build, exists
from imagesmith.builder import Feature, Support
from imagesmith.plugins import Plugins
from imagesmith.settings import Settings, load_settings
from imagesmith.stores._connection import Connections
from imagesmith.stores.local import LocalStore
from imagesmith.stores.registry import RegistryStore, open_repository
from tests.live.engines import KINDS, Engine, open_engine
from tests.live.layering import Layering, entry
from tests.live.test_publish_live import login_file
from tests.rig.state import Rig

pytestmark = pytest.mark.live

CODE = "from pathlib import Path\nprint('says', Path('text').read_text())\n"
NO_ENGINE = {"DOCKER_HOST": "unix:///nonexistent/docker.sock"}


class Bench:
    """A project of its own, and what it takes to build it."""

    def __init__(self, rig: Rig, folder: Path) -> None:
        self.rig = rig
        self.folder = folder
        self.name = f"engineless-{uuid.uuid4().hex[:10]}"
        env = {
            "HOME": str(folder),
            "PATH": os.defpath,
            "IMAGESMITH_CACHE_DIR": str(folder / "cache"),
            "IMAGESMITH_BUILDER": "layering",
            **NO_ENGINE,
        }
        self.settings: Settings = load_settings(folder, env)
        (folder / "layers").mkdir()
        (folder / "src").mkdir()
        (folder / "src" / "app.py").write_text(CODE)
        (folder / "src" / "own").write_text(self.name)  # engines have seen no layer of it
        self.builder = Layering(env, folder / "layers")
        self.said: list[object] = []
        self.write("first")

    def write(self, text: str) -> None:
        (self.folder / "src" / "text").write_text(text)

    def spec(self, **fields: object) -> ImageSpec:
        given = {
            "name": self.name,
            "base_image": self.rig.images.python311,
            "source_root": self.folder / "src",
            "entrypoint": ["python3", "app.py"],
            "env": {"A": "a b\n$c"},
            **fields,
        }
        return ImageSpec(**given)  # type: ignore[arg-type]

    def build(self, spec: ImageSpec, *, env: dict[str, str] | None = None, **options: object) -> BuildResult:
        settings = load_settings(self.folder, {**self.settings.env, **(env or {})})
        plugins = Plugins(discover=False, entries=[entry(self.builder)])
        return build(spec, settings=settings, plugins=plugins, report=self.said.append, **options)  # type: ignore[arg-type]


@pytest.fixture
def bench(rig: Rig, tmp_path: Path) -> Bench:
    return Bench(rig, tmp_path)


@pytest.fixture(params=KINDS)
def each(request: pytest.FixtureRequest, rig: Rig) -> Iterator[Engine]:
    with open_engine(rig, request.param) as opened:
        yield opened


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is sent to registries, one line each."""
    log: list[str] = []
    send = Connections.send

    def noted(self: Connections, method: str, url: str, *rest: object, **more: object) -> object:
        log.append(f"{method} {url.partition('/v2/')[2].partition('?')[0]}")
        return send(self, method, url, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Connections, "send", noted)
    return log


def test_an_edit_in_the_registry_is_seven_requests(bench: Bench, requests: list[str], rig: Rig) -> None:
    registry = f"{rig.registry}/test"
    first = bench.build(bench.spec(registry=registry))
    with open_engine(rig, "containerd") as engine:
        assert engine.docker("run", "--rm", first.reference) == "says first\n"
        engine.keep_track(first.reference)
    requests.clear()
    assert bench.build(bench.spec(registry=registry)).reused
    assert len(requests) == 1
    bench.write("second")
    requests.clear()
    second = bench.build(bench.spec(registry=registry))
    ours = f"test/{bench.name}"
    tag = second.reference.rpartition(":")[2]
    sent = [line for line in requests if "mount" not in line]
    layers = [line for line in sent if line.startswith("POST")]
    base = rig.images.python311.partition("/")[2].replace(":", "/manifests/")
    assert sent[:2] == [f"GET {ours}/manifests/{tag}", f"HEAD {base}"]
    assert sent[-1] == f"PUT {ours}/manifests/{tag}"
    assert [line.split()[0] for line in sent[-3:]] == ["POST", "PUT", "PUT"], "configuration and manifest"
    assert len(sent) == 7 + len(layers) - 2, (
        "and one for each of the base's layers, which this builder mounts"
    )
    assert len([line for line in sent if "/manifests/" in line and line.startswith("PUT")]) == 1
    with open_engine(rig, "containerd") as engine:
        assert engine.docker("run", "--rm", second.reference) == "says second\n"
        engine.keep_track(second.reference)
        shown = engine.inspect(second.reference)
    config = shown["Config"]
    assert isinstance(config, dict)
    assert "A=a b\n$c" in config["Env"]
    with open_repository(f"{rig.registry}/{ours}", {}) as store:
        assert not store.exists("imagesmith-staging")
        assert store.resolve(tag) == second.digest
        assert store.read(second.digest), "by its digest too, though it was written under the tag alone"


def test_over_tls_with_a_login(bench: Bench, rig: Rig, tmp_path: Path, requests: list[str]) -> None:
    spec = bench.spec(
        registry=f"{rig.registry_tls.address}/test", registry_config=str(login_file(tmp_path, rig))
    )
    result = bench.build(spec)
    assert [line for line in requests if line.startswith("PUT") and "/manifests/" in line] == [
        f"PUT test/{bench.name}/manifests/{result.reference.rpartition(':')[2]}"
    ]
    assert bench.build(spec).reused
    bench.write("second")
    again = bench.build(spec)
    assert again.digest != result.digest
    assert exists(spec, settings=bench.settings).digest == again.digest


def test_a_layer_that_the_registry_lost_is_pushed_again(bench: Bench, rig: Rig) -> None:
    spec = bench.spec(registry=f"{rig.registry}/test")
    first = bench.build(spec)
    (layer,) = bench.builder.known

    def lose(store: RegistryStore) -> None:
        """As a clean-up does between the look and the write."""
        if not bench.builder.built[-1].ask_again:
            done = store._origin.transport.exchange(
                "DELETE", f"/v2/test/{bench.name}/blobs/{layer}", scopes=()
            )
            assert done.status == 202

    bench.builder.meanwhile = lose
    again = bench.build(spec, force=True)
    assert again.digest == first.digest
    assert [request.ask_again for request in bench.builder.built] == [False, False, True]
    warnings = [event.text for event in bench.said if isinstance(event, Message) and event.level == "warning"]
    assert [text for text in warnings if "MANIFEST_BLOB_UNKNOWN" in text]
    with open_repository(again.reference.rpartition(":")[0], {}) as store:
        assert store.has_blob(layer)


class Cutting:
    """A proxy before a registry that breaks the first uploads off after so many bytes."""

    def __init__(self, address: str, cuts: int) -> None:
        host, _, port = address.partition(":")
        self._to = (host, int(port))
        self.cuts = cuts
        self.made = 0
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._server.getsockname()[1]}"
        self._sockets: list[socket.socket] = [self._server]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def close(self) -> None:
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for each in self._sockets:
            each.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._server.accept()
                server = socket.create_connection(self._to)
                self._sockets += [client, server]
                for source, target in ((client, server), (server, client)):
                    argv = (source, target, source is client)
                    self._threads.append(threading.Thread(target=self._pump, args=argv, daemon=True))
                    self._threads[-1].start()

    def _pump(self, source: socket.socket, target: socket.socket, up: bool) -> None:
        passed = 0
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                passed += len(data)
                if up and passed > 300_000 and self.made < self.cuts:
                    self.made += 1
                    break
                target.sendall(data)
        for each in (source, target):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_uploads_that_are_broken_off(
    bench: Bench, rig: Rig, monkeypatch: pytest.MonkeyPatch, secure: bool
) -> None:
    monkeypatch.setattr("imagesmith.stores._http._backoff", lambda attempt: 0.01)
    (bench.folder / "src" / "noise").write_bytes(os.urandom(2_000_000))
    proxy = Cutting(rig.registry_tls.address if secure else rig.registry, cuts=2)
    try:
        known = dataclasses.replace(
            rig, registry_tls=dataclasses.replace(rig.registry_tls, address=proxy.address)
        )
        config = str(login_file(bench.folder, known)) if secure else None
        spec = bench.spec(registry=f"{proxy.address}/test", registry_config=config)
        result = bench.build(spec)
        assert proxy.made == 2
        assert bench.build(spec).digest == result.digest
        (bench.folder / "src" / "noise").write_bytes(os.urandom(2_000_000))
        proxy.made, proxy.cuts = 0, 1000
        with pytest.raises(
            RegistryUnreachable, match=r"broke the (TLS )?connection off.*uploading a blob"
        ) as caught:
            bench.build(spec)
        assert caught.value.hint
        assert proxy.made == 4
        assert exists(spec, settings=bench.settings).found is False, "nothing published"
    finally:
        proxy.close()


# the local engine


def test_in_the_local_engine_only_new_layers_are_sent(bench: Bench, each: Engine) -> None:
    env = {"DOCKER_HOST": each.host}
    bench.builder.env = {**bench.builder.env, **env}
    spec = bench.spec()
    first = bench.build(spec, env=env)
    each.made.append(first.reference)
    assert each.docker("run", "--rm", first.reference) == "says first\n"
    sent = list(bench.builder.sent)
    bench.write("second")
    second = bench.build(bench.spec(), env=env)
    each.made.append(second.reference)
    assert each.docker("run", "--rm", second.reference) == "says second\n"
    assert bench.builder.sent == sent, "the base's layers are there now"
    shown = each.inspect(second.reference)
    assert shown["Id"] == second.digest
    config = shown["Config"]
    assert isinstance(config, dict)
    assert "A=a b\n$c" in config["Env"]
    assert config["Entrypoint"] == ["python3", "app.py"]
    assert [name for name in shown["RepoTags"] if "staging" in name] == []  # type: ignore[attr-defined]
    assert bench.build(bench.spec(), env=env).reused
    other = bench.build(bench.spec(env={"A": "other"}), env=env)
    each.made.append(other.reference)
    assert len(bench.builder.built) == 2, "a change of env builds nothing"
    assert each.docker("run", "--rm", other.reference) == "says second\n"


def test_a_wrong_memory_of_the_engine_is_repaired(bench: Bench, each: Engine, rig: Rig) -> None:
    """A base of which the engine has nothing, and a layer that is thought to be there."""
    env = {"DOCKER_HOST": each.host}
    lower = bench.build(bench.spec(registry=f"{rig.registry}/test"))
    bench.builder.env = {**bench.builder.env, **env}
    bench.write("upper")
    spec = bench.spec(base_image=lower.reference)
    first = bench.build(spec, env=env)
    each.made.append(first.reference)
    assert each.docker("run", "--rm", first.reference) == "says upper\n"
    layers = len(bench.builder.sent)
    assert layers >= 2, "the base's layers were asked for"
    each.docker("rmi", first.reference)
    each.made.remove(first.reference)
    again = bench.build(spec, env=env)  # the builder's memory says that its layer is there
    each.made.append(again.reference)
    assert again.digest == first.digest
    assert each.docker("run", "--rm", again.reference) == "says upper\n"
    assert each.inspect(again.digest)["RepoTags"] == [again.reference]


def test_an_engine_that_refuses_leaves_nothing(
    bench: Bench, each: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = {"DOCKER_HOST": each.host}
    bench.builder.env = {**bench.builder.env, **env}

    discard = LocalStore.discard

    def lost(descriptor: object) -> Path:
        raise OSError("the cache is gone")

    bench.builder._fetch = lost  # type: ignore[method-assign]
    bench.builder.features = {**bench.builder.features, Feature.REGISTRY: Support.IMPOSSIBLE}
    tried: list[str] = []
    monkeypatch.setattr(LocalStore, "discard", lambda store, ref: (tried.append(ref), discard(store, ref)))
    bench.write(uuid.uuid4().hex)
    spec = bench.spec()
    bench.builder.known = _Everything()
    with pytest.raises(OSError, match="the cache is gone"):
        bench.build(spec, env=env)
    assert tried[0].startswith("sha256:")
    assert each.store.read(tried[0]) is None, "what could not be unpacked does not stay"
    assert exists(spec, settings=load_settings(bench.folder, {**bench.settings.env, **env})).found is False


class _Everything(set[str]):
    """A memory that is sure of everything."""

    def __contains__(self, key: object) -> bool:
        return True


# one file


def test_one_file_loads_into_each_engine(bench: Bench, each: Engine, tmp_path: Path) -> None:
    file = tmp_path / "image.tar"
    result = bench.build(bench.spec(), output=file)
    tag = result.reference.rpartition(":")[2]
    loaded = each.docker("load", "--input", str(file))
    name = f"{bench.name}:{tag}"
    each.made.append(name)
    assert name in loaded
    assert each.docker("run", "--rm", name) == "says first\n"
    config = each.inspect(name)["Config"]
    assert isinstance(config, dict)
    assert "A=a b\n$c" in config["Env"]


def test_one_file_of_two_platforms_runs_here(bench: Bench, each: Engine, rig: Rig, tmp_path: Path) -> None:
    if rig.images.python311_multi is None:
        pytest.skip("the rig has no arm64 base (python -m tests.rig up --with arm64)")
    file = tmp_path / "image.tar"
    platforms = ["linux/amd64", "linux/arm64"]
    result = bench.build(bench.spec(base_image=rig.images.python311_multi, platform=platforms), output=file)
    name = f"{bench.name}:{result.reference.rpartition(':')[2]}"
    each.docker("load", "--input", str(file))
    each.made.append(name)
    assert each.docker("run", "--rm", "--platform", "linux/amd64", name) == "says first\n"
    if each.store.containerd:
        arm = ["run", "--rm", "--platform", "linux/arm64", "--entrypoint", "uname", name, "-m"]
        assert each.docker(*arm) == "aarch64\n"


def test_one_file_by_the_docker_builder(
    environment: dict[str, str], each: Engine, rig: Rig, tmp_path: Path
) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "app.py").write_text("print('made by docker')\n")
    spec = ImageSpec(
        f"engineless-{uuid.uuid4().hex[:10]}",
        base_image=rig.images.python311,
        source_root=tmp_path / "src",
        entrypoint=["python3", "app.py"],
    )
    settings = load_settings(tmp_path, environment)
    result = build(spec, builder="docker", output=tmp_path / "image.tar", settings=settings)
    name = f"{spec.name}:{result.reference.rpartition(':')[2]}"
    assert name in each.docker("load", "--input", str(tmp_path / "image.tar"))
    each.made.append(name)
    assert each.docker("run", "--rm", name) == "made by docker\n"


@pytest.mark.parametrize("transport", ["oci-archive", "docker-archive"])
def test_one_file_for_podmans_family(bench: Bench, tmp_path: Path, transport: str) -> None:
    """Podman, buildah and skopeo read images by one library; buildah is what the rig has of them."""
    buildah = shutil.which("buildah")
    if buildah is None or os.geteuid() != 0:
        pytest.skip("buildah is not installed, or this is not root")
    file = tmp_path / "image.tar"
    result = bench.build(bench.spec(), output=file)
    store = ["--root", str(tmp_path / "root"), "--runroot", str(tmp_path / "run"), "--storage-driver", "vfs"]
    tag = result.reference.rpartition(":")[2]
    image = f"oci-archive:{file}:{tag}" if transport == "oci-archive" else f"docker-archive:{file}"

    def run(*arguments: str) -> str:
        done = subprocess.run([buildah, *store, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    container = run("from", image)
    try:
        shown = json.loads(run("inspect", "--type", "container", container))
        assert "A=a b\n$c" in shown["OCIv1"]["config"]["Env"]
        argv = ["run", "--isolation", "chroot", container, "python3", "app.py"]
        assert run(*argv) == "says first"
    finally:
        run("rm", container)
        run("rmi", "--all", "--force")
