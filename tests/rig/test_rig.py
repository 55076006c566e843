"""The rig's own pure parts, and what a live test may count on."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.rig import __main__ as command
from tests.rig import engine, network, packages, processes, registries, state
from tests.rig.packages import Source

RIG = state.Rig(
    docker_host="unix:///var/run/docker.sock",
    docker_host_classic=None,
    registry="127.0.0.1:1",
    registry_tls=state.TlsRegistry("127.0.0.1:2", "/ca.pem", "rig", "it's secret"),
    images=state.Images("a", "b", "c", "d"),
    buildkit=state.Buildkit("tcp://127.0.0.1:3", "unix:///b.sock"),
)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return state.cache()


def test_deb822_sources_skip_comments_other_types_and_disabled_ones() -> None:
    text = """\
Types: deb deb-src
# a comment
URIs: http://one.invalid/debian
Suites: bookworm bookworm-updates
Components: main

Types: deb-src
URIs: http://two.invalid/debian
Suites: bookworm

Types: deb
URIs: http://three.invalid/debian
 http://four.invalid/debian
Suites: bookworm
Enabled: no

Types: deb
URIs:
 http://five.invalid/debian
Suites: trixie
"""
    assert packages.parse_deb822(text) == [
        Source("http://one.invalid/debian", "bookworm"),
        Source("http://one.invalid/debian", "bookworm-updates"),
        Source("http://five.invalid/debian", "trixie"),
    ]


def test_one_line_sources() -> None:
    text = (
        "# deb http://no.invalid/debian bookworm main\n"
        "deb-src http://no.invalid/debian bookworm main\n"
        "deb [signed-by=/k.gpg arch=amd64] http://one.invalid/debian bookworm main contrib\n"
        "deb http://two.invalid/debian bookworm-updates main\n"
    )
    assert packages.parse_one_line(text) == [
        Source("http://one.invalid/debian", "bookworm"),
        Source("http://two.invalid/debian", "bookworm-updates"),
    ]


def test_state_survives_the_file_and_is_private(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "answers", lambda address: True)
    state.save(RIG)
    assert state.load() == RIG
    assert state.state_path().stat().st_mode & 0o777 == 0o600
    state.forget()
    with pytest.raises(state.RigDownError, match=r"tests\.rig up"):
        state.load()


def test_a_rig_whose_machine_was_restarted_is_down(cache: Path) -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        unused = listening.getsockname()[1]
    state.save(RIG)
    text = state.state_path().read_text().replace("127.0.0.1:1", f"127.0.0.1:{unused}")
    state.state_path().write_text(text)
    with pytest.raises(state.RigDownError, match=f"nothing answers at .*127.0.0.1:{unused}"):
        state.load()


def test_exports_name_the_engine_only_where_it_is_not_the_usual_one() -> None:
    usual = command.exports(RIG)
    assert "DOCKER_HOST" not in usual
    assert "export IMAGESMITH_BASE_IMAGE='127.0.0.1:1/library/python:{python_version}'\n" in usual
    other = command.exports(dataclasses.replace(RIG, docker_host="unix:///other dir/d.sock"))
    shown = subprocess.run(
        ["/bin/sh", "-c", f'{other}printf %s "$DOCKER_HOST"'], capture_output=True, text=True, check=True
    )
    assert shown.stdout == "unix:///other dir/d.sock"


def test_a_process_is_ended_only_if_it_is_the_one_that_was_started(cache: Path) -> None:
    processes.start("sleeper", ["sleep", "60"], ready=lambda: True)
    number = json.loads((cache / "processes.json").read_text())["sleeper"]["pid"]
    records = json.loads((cache / "processes.json").read_text())
    records["stranger"] = {**records["sleeper"], "start": records["sleeper"]["start"] - 1}
    (cache / "processes.json").write_text(json.dumps(records))
    processes.stop("stranger")
    assert Path(f"/proc/{number}").exists()
    assert processes.alive("sleeper")
    processes.stop("sleeper")
    assert not processes.alive("sleeper")


def test_a_process_that_ends_at_once_shows_its_log(cache: Path) -> None:
    argv = [sys.executable, "-c", "import sys; sys.exit('no such port')"]
    with pytest.raises(Exception, match=r"(?s)broken ended with exit code 1.*no such port"):
        processes.start("broken", argv, ready=lambda: False)


def test_subnet_has_a_gateway() -> None:
    assert network.gateway("172.31.200.0/24") == "172.31.200.1/24"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes bridges")
def test_a_bridge_keeps_its_address_when_ports_come() -> None:
    def ip(*arguments: str) -> str:
        return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout

    bridge = network.free_bridge()
    ip("link", "add", bridge, "type", "bridge")
    try:
        network.keep_address(bridge, "172.31.199.0/24")
        port = ("address", "02:00:00:00:00:01", "master", bridge, "type", "veth", "peer", "name")
        ip("link", "add", f"{bridge}p", *port, f"{bridge}q")
        assert json.loads(ip("-json", "link", "show", bridge))[0]["address"] == "02:42:ac:1f:c7:01"
    finally:
        for link in (f"{bridge}p", bridge):
            subprocess.run(["ip", "link", "delete", link], check=False, capture_output=True)


@pytest.mark.live
def test_engines_keep_images_in_different_stores(rig: state.Rig) -> None:
    assert engine.has_containerd_store(rig.docker_host)
    if rig.docker_host_classic is None:
        pytest.skip("this machine's own engine is used, and there is no second one")
    assert not engine.has_containerd_store(rig.docker_host_classic)


@pytest.mark.live
def test_every_image_is_in_the_plain_registry(rig: state.Rig) -> None:
    images = rig.images
    for reference in (images.python311, images.python313, images.debian, images.bare):
        _, repository, tag = registries_parts(reference)
        assert registries.has(rig.registry, repository, tag), reference


@pytest.mark.live
def test_tls_registry_checks_both_sides(rig: state.Rig) -> None:
    url = f"https://{rig.registry_tls.address}/v2/"
    trusting = ssl.create_default_context(cafile=rig.registry_tls.ca)
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(url, context=trusting)
    with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
        urllib.request.urlopen(url)


@pytest.mark.live
def test_images_hold_what_they_promise(rig: state.Rig) -> None:
    assert run_in(rig, rig.images.python311, "python", "-V").startswith("Python 3.11")
    assert run_in(rig, rig.images.python313, "python", "-V").startswith("Python 3.13")
    assert (
        run_in(rig, rig.images.debian, "sh", "-c", "command -v python; command -v python3")
        == "/usr/bin/python3\n"
    )
    assert "EXTERNALLY-MANAGED" in run_in(rig, rig.images.debian, "sh", "-c", "ls /usr/lib/python3*")
    assert (
        run_in(rig, rig.images.bare, "sh", "-c", "command -v python3; command -v bash") == "/usr/bin/bash\n"
    )


def run_in(rig: state.Rig, image: str, *argv: str) -> str:
    full = ["docker", "--host", rig.docker_host, "run", "--rm", "--network=none", image, *argv]
    return subprocess.run(full, capture_output=True, text=True, check=True).stdout


def registries_parts(reference: str) -> tuple[str, str, str]:
    host, _, rest = reference.partition("/")
    repository, _, tag = rest.partition(":")
    return host, repository, tag
