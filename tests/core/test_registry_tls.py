"""TLS to a registry with an authority of its own."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from imagesmith.errors import RegistryUnreachable, UsageError
from imagesmith.stores.credentials import RegistryAccess
from imagesmith.stores.registry import RegistryStore, open_repository
from tests.core import fake_registry as fakes
from tests.core.fake_registry import FakeRegistry

OPENSSL = shutil.which("openssl")
pytestmark = pytest.mark.skipif(OPENSSL is None, reason="no openssl to make certificates with")


@dataclass(frozen=True)
class Certificates:
    ca: Path
    cert: Path
    key: Path

    def context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.cert, self.key)
        return context


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    folder = tmp_path_factory.mktemp("tls")

    def openssl(*arguments: str) -> None:
        subprocess.run([str(OPENSSL), *arguments], check=True, cwd=folder, capture_output=True)

    new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    constraints = ("-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign")
    openssl("req", "-x509", *new, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=test", *constraints)
    openssl("req", *new, "-keyout", "key.pem", "-out", "request.pem", "-subj", "/CN=leaf")
    (folder / "names").write_text(
        "subjectAltName=IP:127.0.0.1\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"
    )
    signing = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "names")
    openssl("x509", "-req", "-in", "request.pem", "-out", "cert.pem", *signing)
    return Certificates(folder / "ca.pem", folder / "cert.pem", folder / "key.pem")


@pytest.fixture
def fake(certificates: Certificates) -> Iterator[FakeRegistry]:
    with fakes.running(tls=certificates.context()) as registry:
        registry.add_image("me/app", "1")
        yield registry


def test_an_authority_in_registry_config(
    fake: FakeRegistry, certificates: Certificates, tmp_path: Path
) -> None:
    config = tmp_path / "registries.json"
    config.write_text(json.dumps({"registries": [{"name": fake.host, "ca": str(certificates.ca)}]}))
    with open_repository(f"{fake.host}/me/app", {}, config) as store:
        assert store.exists("1") is True
        assert len(fake.requests) == 1
        image = store.read("1")
        assert image is not None
        store.publish(store.write_config(image, {**image.config, "config": {}}).digest, "2")


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"])
def test_an_authority_in_the_environment(
    fake: FakeRegistry, certificates: Certificates, variable: str
) -> None:
    env = {variable: str(certificates.ca)}
    with RegistryStore(f"{fake.host}/me/app", env=env) as store:  # on loopback TLS is found out
        assert store.exists("1") is True
        assert store.exists("2") is False


def test_an_unknown_authority(fake: FakeRegistry) -> None:
    with pytest.raises(RegistryUnreachable, match="certificate is not trusted") as caught:
        RegistryStore(f"{fake.host}/me/app").exists("1")
    assert "registry_config" in str(caught.value)


def test_a_registry_without_tls_where_tls_is_wanted(certificates: Certificates) -> None:
    with fakes.running() as plain:
        access = RegistryAccess(ca=certificates.ca)
        with pytest.raises(RegistryUnreachable, match="does not speak TLS"):
            RegistryStore(f"{plain.host}/me/app", access, sleep=lambda _: None).exists("1")


def test_a_client_certificate(certificates: Certificates) -> None:
    context = certificates.context()
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(certificates.ca)
    with fakes.running(tls=context) as fake:
        fake.add_image("me/app", "1")
        access = RegistryAccess(ca=certificates.ca, cert=certificates.cert, key=certificates.key)
        with RegistryStore(f"{fake.host}/me/app", access) as store:
            assert store.exists("1") is True
        with pytest.raises(RegistryUnreachable):
            RegistryStore(
                f"{fake.host}/me/app", RegistryAccess(ca=certificates.ca), sleep=lambda _: None
            ).exists("1")


def test_certificates_that_cannot_be_loaded(
    fake: FakeRegistry, certificates: Certificates, tmp_path: Path
) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_text("")
    for access, env, named in (
        (RegistryAccess(ca=empty), {}, str(empty)),
        (RegistryAccess(ca=certificates.ca, cert=empty, key=empty), {}, str(empty)),
        (RegistryAccess(), {"SSL_CERT_FILE": str(tmp_path / "absent")}, "SSL_CERT_FILE"),
    ):
        with pytest.raises(UsageError, match="cannot load") as caught:
            RegistryStore(f"{fake.host}/me/app", access, env).exists("1")
        assert named in str(caught.value)


def test_threads_that_begin_at_once_agree_on_tls(fake: FakeRegistry, certificates: Certificates) -> None:
    """On this machine plain HTTP is tried first, and one answer decides for all."""
    from concurrent.futures import ThreadPoolExecutor

    env = {"SSL_CERT_FILE": str(certificates.ca)}
    for _ in range(5):
        with RegistryStore(f"{fake.host}/me/app", env=env) as store, ThreadPoolExecutor(8) as pool:
            assert all(pool.map(store.exists, ["1"] * 16))


def test_a_tls_connection_that_is_broken_off_is_tried_again(
    fake: FakeRegistry, certificates: Certificates
) -> None:
    def cut(handler: BaseHTTPRequestHandler) -> None:
        handler.connection.shutdown(socket.SHUT_RDWR)
        handler.close_connection = True

    access = RegistryAccess(ca=certificates.ca)
    with RegistryStore(f"{fake.host}/me/app", access, sleep=lambda seconds: None) as store:
        fake.fail("HEAD", *[cut] * 3)
        assert store.exists("1") is True
        fake.fail("HEAD", *[cut] * 4)
        with pytest.raises(RegistryUnreachable, match=r"broke the (TLS )?connection off"):
            store.exists("1")
