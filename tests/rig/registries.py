"""Two registries on loopback: plain HTTP, and TLS with a user and a password."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import processes
from .console import run
from .state import Settings, TlsRegistry, cache

PLAIN = "registry"
TLS = "registry-tls"
USER = "rig"
PASSWORDS = "htpasswd"  # file beside the certificates
MANIFEST_TYPES = (
    "application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json, "
    "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"
)


def start_plain(settings: Settings) -> str:
    """Return ``host:port`` of the plain one."""
    address = plain_address(settings)
    if not processes.alive(PLAIN):
        _start(PLAIN, configuration(address, cache() / PLAIN), lambda: answers(address))
    return address


def start_tls(settings: Settings) -> TlsRegistry:
    """Return the one that asks for a certificate and a password."""
    registry = tls_registry(settings)
    folder = certificates()
    if not processes.alive(TLS):
        line = run(["htpasswd", "-niB", USER], stdin=registry.password)
        write_passwords(line)
        text = configuration(registry.address, cache() / TLS, folder)
        _start(TLS, text, lambda: answers(registry.address, registry.ca))
    return registry


def stop() -> None:
    """End both."""
    processes.stop(PLAIN)
    processes.stop(TLS)


def plain_address(settings: Settings) -> str:
    """Return ``host:port``."""
    return f"127.0.0.1:{settings.registry_port}"


def tls_registry(settings: Settings) -> TlsRegistry:
    """Return what clients of the TLS registry need."""
    address = f"127.0.0.1:{settings.registry_tls_port}"
    return TlsRegistry(address, str(cache() / "tls" / "ca.pem"), USER, settings.password)


def configuration(address: str, storage: Path, secured: Path | None = None) -> str:
    """Return the configuration file's text; ``secured``: the folder of the certificate and the passwords."""
    values: dict[str, Any] = {
        "version": "0.1",
        "log": {"level": "info", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(storage)}, "delete": {"enabled": True}},
        "http": {"addr": address},
    }
    if secured:
        values["http"]["tls"] = {
            "certificate": str(secured / "server.pem"),
            "key": str(secured / "server.key"),
        }
        values["auth"] = {"htpasswd": {"realm": "rig", "path": str(secured / PASSWORDS)}}
    return json.dumps(values, indent=2) + "\n"  # JSON is YAML


def write_passwords(line: str) -> None:
    """Keep the line that ``htpasswd`` made."""
    (cache() / "tls" / PASSWORDS).write_text(line.strip() + "\n", encoding="utf-8")


def docker_config(registry: TlsRegistry) -> Path:
    """Return a folder with a docker ``config.json`` of our own that logs in to the TLS registry."""
    folder = cache() / "docker-config"
    folder.mkdir(parents=True, exist_ok=True)
    token = base64.b64encode(f"{registry.username}:{registry.password}".encode()).decode()
    file = folder / "config.json"
    file.touch(mode=0o600)
    file.write_text(json.dumps({"auths": {registry.address: {"auth": token}}}), encoding="utf-8")
    return folder


def has(address: str, repository: str, tag: str) -> bool:
    """Tell whether the plain registry has that tag."""
    connection = http.client.HTTPConnection(address, timeout=10)
    try:
        connection.request("HEAD", f"/v2/{repository}/manifests/{tag}", headers={"Accept": MANIFEST_TYPES})
        return connection.getresponse().status == 200
    finally:
        connection.close()


def answers(address: str, authority: str | None = None) -> bool:
    """Tell whether a registry answers there (401 is an answer), over TLS if an authority is named."""
    if authority:
        context = ssl.create_default_context(cafile=authority)
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            address, timeout=5, context=context
        )
    else:
        connection = http.client.HTTPConnection(address, timeout=5)
    try:
        connection.request("GET", "/v2/")
        return connection.getresponse().status in {200, 401}
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def certificates() -> Path:
    """Return a folder with an authority and a certificate for 127.0.0.1 and localhost, made once."""
    folder = cache() / "tls"
    if (folder / "server.pem").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    authority, signer, extensions = folder / "ca.pem", folder / "ca.key", folder / "server.ext"
    server, request = folder / "server.key", folder / "server.csr"
    extensions.write_text(
        "subjectAltName=IP:127.0.0.1,DNS:localhost\nbasicConstraints=critical,CA:FALSE\n"
        "keyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth\n",
        encoding="utf-8",
    )
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    usage = ["-subj", "/CN=imagesmith rig", "-addext", "keyUsage=critical,keyCertSign,cRLSign"]
    run(["openssl", "req", "-x509", *key, "-keyout", signer, "-out", authority, "-days", "3650", *usage])
    run(["openssl", "req", "-new", *key, "-keyout", server, "-out", request, "-subj", "/CN=localhost"])
    signing: list[str | Path] = [
        "-CA",
        authority,
        "-CAkey",
        signer,
        "-CAcreateserial",
        "-extfile",
        extensions,
    ]
    run(["openssl", "x509", "-req", "-in", request, *signing, "-days", "3650", "-out", folder / "server.pem"])
    return folder


def _start(name: str, text: str, ready: Callable[[], bool]) -> None:
    (cache() / name).mkdir(parents=True, exist_ok=True)
    file = cache() / f"{name}.json"
    file.write_text(text, encoding="utf-8")
    processes.start(name, ["docker-registry", "serve", file], ready=ready, seconds=20)
