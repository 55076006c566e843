"""``imagesmith doctor``: every answer it can give, with a registry that is a small server on loopback."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from imagesmith.builder import Builder, BuilderEntry, Environment, Readiness
from imagesmith.doctor import Check, doctor
from imagesmith.plugins import Plugins
from imagesmith.settings import Settings, load_settings
from imagesmith.spec import ImageSpec
from imagesmith.testing import FakeBuilder
from tests.cli.conftest import Run

NO_ENGINE = "tcp://127.0.0.1:1"


class _Registry(BaseHTTPRequestHandler):
    """Knows no image; wants a login where it is told to."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        wanted = getattr(self.server, "login", None)
        known = (
            self.headers.get("Authorization") == f"Basic {base64.b64encode(str(wanted).encode()).decode()}"
        )
        self.send_response(404 if wanted is None or known else 401)
        if wanted is not None and not known:
            self.send_header("WWW-Authenticate", 'Basic realm="test"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def registry() -> Iterator[Any]:
    server = HTTPServer(("127.0.0.1", 0), _Registry)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def _settings(folder: Path, **env: str) -> Settings:
    """Of a machine without an engine, and without Docker's configuration unless the test wrote one."""
    known = {"DOCKER_HOST": NO_ENGINE, "DOCKER_CONFIG": str(folder), "HOME": str(folder)}
    return load_settings(folder, {**known, **env})


def _by_name(checks: tuple[Check, ...]) -> dict[str, Check]:
    return {check.name.split(" for ")[0]: check for check in checks}


class _Ready(FakeBuilder):
    """What it answers is given."""

    def __init__(self, environment: Environment, readiness: Readiness) -> None:
        super().__init__(environment)
        self._readiness = readiness

    def ready(self) -> Readiness:
        return self._readiness


def _plugins(**builders: Readiness | None) -> Plugins:
    def entry(name: str, readiness: Readiness | None) -> BuilderEntry:
        def make(environment: Environment) -> Builder:
            if readiness is None:
                raise RuntimeError("no such colour")
            return _Ready(environment, readiness)

        return BuilderEntry(name, "", make)

    return Plugins(discover=False, entries=[entry(*pair) for pair in builders.items()])


def test_a_machine_without_anything(tmp_path: Path) -> None:
    checks = _by_name(doctor(_settings(tmp_path), plugins=Plugins(discover=False)))
    assert checks["engine"].status == "missing"
    assert "127.0.0.1:1" in checks["engine"].detail
    assert checks["engine"].hint
    assert checks["builders"].status == "missing"
    assert "pip install imagesmith-" in str(checks["builders"].hint)


@pytest.mark.parametrize(
    ("fields", "command"),
    [
        (None, "imagesmith build … --builder free"),
        ({"registry": "registry.example"}, "imagesmith build … --builder free"),
        ({}, "imagesmith build … --builder free --output image.tar"),
    ],
)
def test_without_an_engine_the_way_out_is_named(
    tmp_path: Path, fields: dict[str, str] | None, command: str
) -> None:
    plugins = Plugins(
        discover=False,
        entries=[
            BuilderEntry("bound", "", FakeBuilder),
            BuilderEntry("free", "", FakeBuilder, needs_engine=False),
        ],
    )
    spec = None if fields is None else ImageSpec(name="app", **fields)  # type: ignore[arg-type]
    engine = _by_name(doctor(_settings(tmp_path), spec, plugins=plugins))["engine"]
    assert str(engine.hint).endswith(f"; or build without an engine: {command}")
    assert "DOCKER_HOST" in str(engine.hint), "what to do about the engine comes first"
    assert "bound" not in str(engine.hint)


def test_without_an_engine_and_a_builder_that_needs_none(tmp_path: Path) -> None:
    engine = _by_name(doctor(_settings(tmp_path), plugins=_plugins(able=Readiness(ok=True))))["engine"]
    assert str(engine.hint).endswith("or install a builder that needs no engine (the guide lists them)")


def test_each_builder_says_whether_it_can_build_and_none_hides_another(tmp_path: Path) -> None:
    plugins = _plugins(
        able=Readiness(ok=True, details=("tool 1.2",)),
        crashing=None,
        unable=Readiness(ok=False, problem="tool is missing", hint="install tool"),
    )
    checks = doctor(_settings(tmp_path), plugins=plugins)
    found = {check.name: (check.status, check.detail, check.hint) for check in checks}
    assert found["builder able"][:2] == ("found", "(given by hand) -; tool 1.2")
    assert found["builder unable"] == ("missing", "tool is missing", "install tool")
    assert found["builder crashing"][0] == "missing"
    assert "RuntimeError: no such colour" in found["builder crashing"][1]


def test_the_default_base_image_and_where_it_is_from(tmp_path: Path) -> None:
    plain = _by_name(doctor(_settings(tmp_path)))["default base image"]
    assert "python:{python_version}" in plain.detail
    given = _by_name(doctor(_settings(tmp_path, IMAGESMITH_BASE_IMAGE="x/y:1")))["default base image"]
    assert given.detail == "x/y:1 (from IMAGESMITH_BASE_IMAGE)"
    (tmp_path / "pyproject.toml").write_text('[tool.imagesmith]\nbase-image = "a/b:2"\n', encoding="utf-8")
    written = _by_name(doctor(_settings(tmp_path)))["default base image"]
    assert written.detail == f"a/b:2 (from {tmp_path / 'pyproject.toml'})"


def test_a_registry_that_answers_without_a_login(tmp_path: Path, registry: Any) -> None:
    spec = ImageSpec(name="app", registry=f"127.0.0.1:{registry.server_port}")
    checks = _by_name(doctor(_settings(tmp_path), spec))
    address = f"127.0.0.1:{registry.server_port}"
    assert checks["credentials"].status == "unknown"
    assert f"docker login {address}" in str(checks["credentials"].hint)
    assert checks[f"registry {address}"].status == "found"


def _log_in(folder: Path, address: str, login: str) -> None:
    auths = {address: {"auth": base64.b64encode(login.encode()).decode()}}
    (folder / "config.json").write_text(json.dumps({"auths": auths}), encoding="utf-8")


def test_a_registry_that_takes_the_login(tmp_path: Path, registry: Any) -> None:
    registry.login = "me:secret"
    address = f"127.0.0.1:{registry.server_port}"
    _log_in(tmp_path, address, "me:secret")
    checks = doctor(_settings(tmp_path), ImageSpec(name="app", registry=address))
    found = _by_name(checks)
    assert found["credentials"].status == "found"
    assert "user me" in found["credentials"].detail
    assert found[f"registry {address}"].status == "found"
    assert "secret" not in str(checks)


def test_a_registry_that_refuses_the_login(tmp_path: Path, registry: Any) -> None:
    registry.login = "me:other"
    address = f"127.0.0.1:{registry.server_port}"
    _log_in(tmp_path, address, "me:secret")
    found = _by_name(doctor(_settings(tmp_path), ImageSpec(name="app", registry=address)))
    assert found[f"registry {address}"].status == "missing"
    assert found[f"registry {address}"].hint


def test_a_registry_that_does_not_answer(tmp_path: Path, registry: Any) -> None:
    registry.shutdown()
    registry.server_close()
    address = f"127.0.0.1:{registry.server_port}"
    found = _by_name(doctor(_settings(tmp_path), ImageSpec(name="app", registry=address)))
    assert found[f"registry {address}"].status == "missing"
    assert address in found[f"registry {address}"].detail


def test_docker_configuration_that_cannot_be_read_is_an_answer(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{", encoding="utf-8")
    found = _by_name(doctor(_settings(tmp_path), ImageSpec(name="app", registry="registry.example")))
    assert found["credentials"].status == "missing"
    assert "config.json" in found["credentials"].detail


def test_the_command_prints_what_it_found_and_what_to_do(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", NO_ENGINE)
    done = run("doctor", "app.py:image")
    assert done.code == 3
    assert done.out.startswith("missing")
    assert "hint: " in done.out
    answer = json.loads(run("doctor", "--json").out)
    assert answer[0]["name"] == "engine"
    assert answer[0]["status"] == "missing"


def test_the_command_is_content_where_nothing_is_missing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    checks = (Check("engine", "found", "1.0"), Check("credentials", "unknown", "none"))
    monkeypatch.setattr("imagesmith.doctor.doctor", lambda settings, spec: checks)
    done = run("doctor")
    assert done.code == 0
    assert done.out == "found    engine       1.0\nunknown  credentials  none\n"
