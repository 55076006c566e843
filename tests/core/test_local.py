"""The local engine: where it is, what is sent to it, and what its answers mean. No engine needed."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import socket
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagesmith.errors import AuthenticationFailed, EngineError, RegistryError, RegistryUnreachable
from imagesmith.stores import _archive, _manifests
from imagesmith.stores._documents import descriptor, digest_of, encode, same_platform
from imagesmith.stores.local import _registry_error, connect, endpoint


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / ".docker").mkdir()
    return tmp_path


def make_context(home: Path, name: str, host: str, *, skip: bool = False, tls: bool = False) -> None:
    key = hashlib.sha256(name.encode()).hexdigest()
    folder = home / ".docker" / "contexts"
    (folder / "meta" / key).mkdir(parents=True)
    docker = {"Host": host, "SkipTLSVerify": skip}
    (folder / "meta" / key / "meta.json").write_text(
        json.dumps({"Name": name, "Endpoints": {"docker": docker}})
    )
    if tls:
        (folder / "tls" / key / "docker").mkdir(parents=True)


def use_context(home: Path, name: str) -> None:
    (home / ".docker" / "config.json").write_text(json.dumps({"currentContext": name}))


def test_without_anything_it_is_the_default_socket(home: Path) -> None:
    assert endpoint({}).address == "unix:///var/run/docker.sock"
    assert endpoint({"HOME": str(home)}).source == "the default"


def test_host_wins_over_context_over_the_current_one(home: Path) -> None:
    make_context(home, "named", "unix:///named.sock")
    make_context(home, "current", "unix:///current.sock")
    use_context(home, "current")
    env = {"HOME": str(home)}
    assert str(endpoint(env)) == "unix:///current.sock (docker context current)"
    assert endpoint({**env, "DOCKER_CONTEXT": "named"}).address == "unix:///named.sock"
    assert endpoint({**env, "DOCKER_CONTEXT": "default"}).source == "the default"
    both = endpoint({**env, "DOCKER_CONTEXT": "named", "DOCKER_HOST": "unix:///host.sock"})
    assert (both.address, both.source) == ("unix:///host.sock", "DOCKER_HOST")
    elsewhere = {"HOME": "/nowhere", "DOCKER_CONFIG": str(home / ".docker")}
    assert endpoint(elsewhere).address == "unix:///current.sock"


def test_certificates_come_from_the_variables_or_from_the_context(home: Path) -> None:
    env = {"HOME": str(home), "DOCKER_HOST": "tcp://h:2376"}
    assert endpoint(env).certificates is None
    verified = endpoint({**env, "DOCKER_TLS_VERIFY": "1"})
    assert (verified.certificates, verified.verify) == (home / ".docker", True)
    unverified = endpoint({**env, "DOCKER_TLS": "1", "DOCKER_CERT_PATH": "/certs"})
    assert (unverified.certificates, unverified.verify) == (Path("/certs"), False)
    make_context(home, "far", "tcp://far:2376", skip=True, tls=True)
    far = endpoint({"HOME": str(home), "DOCKER_CONTEXT": "far"})
    assert far.certificates is not None
    assert far.certificates.is_dir()
    assert not far.verify


def test_an_unknown_context_and_a_broken_configuration(home: Path) -> None:
    with pytest.raises(EngineError, match="no docker context 'gone', which DOCKER_CONTEXT names"):
        endpoint({"HOME": str(home), "DOCKER_CONTEXT": "gone"})
    use_context(home, "gone")
    with pytest.raises(EngineError, match=r"which .*config\.json names"):
        endpoint({"HOME": str(home)})
    (home / ".docker" / "config.json").write_text("{")
    with pytest.raises(EngineError, match=r"cannot read .*config\.json"):
        endpoint({"HOME": str(home)})


def test_no_socket(tmp_path: Path) -> None:
    with pytest.raises(
        EngineError, match=r"no Docker engine at unix://.*none\.sock \(DOCKER_HOST\).*\n.*start Docker"
    ):
        connect({"DOCKER_HOST": f"unix://{tmp_path}/none.sock"})


def test_nothing_listens(tmp_path: Path) -> None:
    dead = tmp_path / "dead.sock"
    with socket.socket(socket.AF_UNIX) as once:
        once.bind(str(dead))
    with pytest.raises(EngineError, match="does not answer: Connection refused"):
        connect({"DOCKER_HOST": f"unix://{dead}"})
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(
        EngineError, match=rf"tcp://127\.0\.0\.1:{port} \(DOCKER_HOST\) does not answer: Conn"
    ):
        connect({"DOCKER_HOST": f"tcp://127.0.0.1:{port}"})


def test_a_socket_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shut = tmp_path / "shut.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(shut))
        server.listen()
        shut.chmod(0)
        if os.geteuid() == 0:  # root may use any socket
            monkeypatch.setattr(socket.socket, "connect", _denied)
        with pytest.raises(EngineError, match=r"permission denied\n.*group docker"):
            connect({"DOCKER_HOST": f"unix://{shut}"})


def _denied(*_: object) -> None:
    raise PermissionError(errno.EACCES, "Permission denied")


def test_something_else_listens() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        thread = threading.Thread(target=_hang_up, args=(server,))
        thread.start()
        with pytest.raises(EngineError, match="gives no sensible answer"):
            connect({"DOCKER_HOST": f"tcp://127.0.0.1:{server.getsockname()[1]}"})
        thread.join()


def _hang_up(server: socket.socket) -> None:
    server.accept()[0].close()  # whether anyone is there
    with server.accept()[0] as connection:
        connection.recv(1024)
        connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")


@pytest.mark.parametrize("host", ["ssh://user@host", "fd://", "nonsense://x", "tcp://h:port", "nowhere"])
def test_addresses_that_cannot_be_spoken_to(host: str) -> None:
    with pytest.raises(EngineError, match=host) as raised:
        connect({"DOCKER_HOST": host})
    assert raised.value.hint


# archives


def members(archive: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        return {
            member.name: (opened.extractfile(member) or pytest.fail("no file")).read() for member in opened
        }


def test_the_classic_archive_names_layers_and_holds_none() -> None:
    config = encode({"config": {}})
    inside = members(_archive.classic_archive(config, 2))
    (entry,) = json.loads(inside.pop("manifest.json"))
    assert inside == {entry["Config"]: config}
    assert entry == {
        "Config": f"{digest_of(config)[7:]}.json",
        "RepoTags": None,
        "Layers": ["0/layer.tar", "1/layer.tar"],
    }


def test_the_layout_archive_holds_manifest_and_configuration_alone() -> None:
    config = encode({"config": {}})
    manifest = encode({"mediaType": "docker's own", "config": descriptor("c", config), "layers": []})
    inside = members(_archive.layout_archive(manifest, config))
    assert json.loads(inside["index.json"])["manifests"] == [descriptor("docker's own", manifest)]
    assert inside[f"blobs/sha256/{digest_of(manifest)[7:]}"] == manifest
    assert inside[f"blobs/sha256/{digest_of(config)[7:]}"] == config
    assert len(inside) == 4


def saved(blobs: list[bytes], chunk: int) -> Iterator[bytes]:
    """As the engine sends an image: blobs in the order of their digests, then the index."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for data in sorted(blobs, key=digest_of):
            member = tarfile.TarInfo(f"blobs/sha256/{digest_of(data)[7:]}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    whole = target.getvalue()
    return (whole[start : start + chunk] for start in range(0, len(whole), chunk))


@pytest.mark.parametrize("chunk", [1, 511, 10_000_000])
def test_the_manifest_is_found_in_what_the_engine_saves(chunk: int) -> None:
    config, layer = encode({"os": "linux"}), b"{ no document, though it begins like one"
    manifest = encode({"config": descriptor("c", config), "layers": [descriptor("l", layer)]})
    blobs = [config, manifest, b"\x1f\x8b" + b"layer" * 2000]
    assert _manifests.find_manifest(saved(blobs, chunk), digest_of(manifest), "linux/amd64") == manifest
    assert _manifests.find_manifest(saved(blobs, chunk), digest_of(b"another"), "linux/amd64") is None


def test_the_platform_is_found_under_an_index() -> None:
    manifests = [encode({"config": {}, "layers": [], "n": n}) for n in range(2)]
    entries = [
        {**descriptor("m", data), "platform": {"os": "linux", "architecture": name}}
        for data, name in zip(manifests, ("amd64", "arm64"), strict=True)
    ]
    index = encode({"manifests": entries})
    found = _manifests.find_manifest(saved([*manifests, index], 4096), digest_of(index), "linux/arm64")
    assert found == manifests[1]


def test_reading_stops_where_the_manifest_stood() -> None:
    manifest = min((encode({"layers": [], "n": n}) for n in range(50)), key=digest_of)
    layers = [bytes([n]) * 100_000 for n in range(20)]
    after = sum(digest_of(layer) > digest_of(manifest) for layer in layers)
    assert after > 10, "or the test shows nothing"
    stream = saved([manifest, *layers], 10_000)
    assert _manifests.find_manifest(stream, digest_of(manifest), "linux/amd64") is not None
    assert sum(map(len, stream)) > (after - 2) * 100_000


def test_two_spellings_of_a_platform() -> None:
    assert same_platform("linux/arm64", "linux/arm64/v8")
    assert same_platform("linux/arm", "linux/arm/v7")
    assert same_platform("linux/amd64/v1", "linux/amd64")
    assert not same_platform("linux/arm/v6", "linux/arm")
    assert not same_platform("linux/amd64", "linux/arm64")


# a push's errors


def test_what_a_push_answers_says_where_to_look() -> None:
    name = "127.0.0.1:5000/a:b"
    anonymous = _registry_error("push", name, "no basic auth credentials", False)
    assert isinstance(anonymous, AuthenticationFailed)
    assert "no login was given" in anonymous.message
    assert anonymous.hint == "docker login 127.0.0.1:5000"
    refused = _registry_error("push", name, "unauthorized: authentication required", True)
    assert "the login is refused" in refused.message
    gone = _registry_error("push", name, "dial tcp 127.0.0.1:5000: connect: connection refused", False)
    assert isinstance(gone, RegistryUnreachable)
    other = _registry_error("push", name, "manifest blob unknown", False)
    assert type(other) is RegistryError
    absent = _registry_error("push", name, "tag does not exist: 127.0.0.1:5000/a:b", False)
    assert isinstance(absent, EngineError)
