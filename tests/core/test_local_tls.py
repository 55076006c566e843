"""An engine behind TLS that asks for a client certificate: found by variables and by a docker context."""

from __future__ import annotations

import hashlib
import json
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from imagesmith.errors import EngineError
from imagesmith.stores.local import LocalStore, connect

OPENSSL = shutil.which("openssl")
pytestmark = pytest.mark.skipif(OPENSSL is None, reason="no openssl to make certificates with")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One self-signed certificate for both sides, named as Docker names them."""
    folder = tmp_path_factory.mktemp("certificates")
    new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=test")
    names = (
        "-addext",
        "subjectAltName=IP:127.0.0.1",
        "-addext",
        "keyUsage=critical,digitalSignature,keyCertSign",
    )
    argv = [str(OPENSSL), "req", "-x509", *new, *names, "-keyout", "key.pem", "-out", "cert.pem"]
    subprocess.run(argv, check=True, cwd=folder, capture_output=True)
    shutil.copy(folder / "cert.pem", folder / "ca.pem")
    return folder


class Engine(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        answers = {
            "version": {"ApiVersion": "1.45", "Version": "99.0"},
            "info": {"DriverStatus": [["Backing Filesystem", "extfs"]]},
        }
        body = json.dumps(answers[self.path.rpartition("/")[2]]).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """A client without a certificate is no news."""


@pytest.fixture(scope="module")
def address(certificates: Path) -> Iterator[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "cert.pem", certificates / "key.pem")
    context.load_verify_locations(certificates / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    server = Server(("127.0.0.1", 0), Engine)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"tcp://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def version(env: dict[str, str]) -> str:
    store = LocalStore(connect(env))
    try:
        return store.version()
    finally:
        store.close()


@pytest.mark.parametrize("how", ["DOCKER_TLS_VERIFY", "DOCKER_TLS"])
def test_by_variables(address: str, certificates: Path, how: str) -> None:
    env = {"DOCKER_HOST": address, how: "1", "DOCKER_CERT_PATH": str(certificates)}
    if how == "DOCKER_TLS":  # encrypted, but whoever answers is believed
        with pytest.warns(match="Unverified HTTPS request"):
            assert version(env) == "99.0 (classic image store)"
    else:
        assert version(env) == "99.0 (classic image store)"


def test_by_a_context(address: str, certificates: Path, tmp_path: Path) -> None:
    key = hashlib.sha256(b"far").hexdigest()
    meta = tmp_path / "contexts" / "meta" / key
    meta.mkdir(parents=True)
    docker = {"Host": address, "SkipTLSVerify": False}
    (meta / "meta.json").write_text(json.dumps({"Name": "far", "Endpoints": {"docker": docker}}))
    shutil.copytree(certificates, tmp_path / "contexts" / "tls" / key / "docker")
    (tmp_path / "config.json").write_text('{"currentContext": "far"}')
    assert version({"DOCKER_CONFIG": str(tmp_path)}) == "99.0 (classic image store)"


def test_without_certificates_the_engine_is_not_believed(address: str, tmp_path: Path) -> None:
    for env in ({}, {"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(tmp_path)}):
        with pytest.raises(EngineError, match="gives no sensible answer"):
            connect({"DOCKER_HOST": address, **env})
