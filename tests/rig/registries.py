"""Two registries on loopback: plain HTTP, and TLS with a user and a password."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
from pathlib import Path
from typing import Any

from . import processes
from .console import run
from .state import Settings, TlsRegistry, cache

PLAIN = "registry"
TLS = "registry-tls"
USER = "rig"
MANIFEST_TYPES = (
    "application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json, "
    "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"
)


def start_plain(settings: Settings) -> str:
    """Return ``host:port`` of the plain one."""
    port = settings.registry_port
    if not processes.alive(PLAIN):
        _start(PLAIN, port, {}, {})
    return f"127.0.0.1:{port}"


def start_tls(settings: Settings) -> TlsRegistry:
    """Return the one that asks for a certificate and a password."""
    port = settings.registry_tls_port
    folder = cache() / "tls"
    authority = _certificates(folder)
    registry = TlsRegistry(f"127.0.0.1:{port}", str(authority), USER, settings.password)
    if not processes.alive(TLS):
        passwords = folder / "htpasswd"
        passwords.write_text(
            run(["htpasswd", "-niB", USER], stdin=settings.password).strip() + "\n", encoding="utf-8"
        )
        passwords.chmod(0o600)
        certificate = {"certificate": str(folder / "server.pem"), "key": str(folder / "server.key")}
        _start(
            TLS, port, {"tls": certificate}, {"htpasswd": {"realm": "rig", "path": str(passwords)}}, authority
        )
    return registry


def stop() -> None:
    """End both."""
    processes.stop(PLAIN)
    processes.stop(TLS)


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


def _start(
    name: str, port: int, http_settings: dict[str, Any], auth: dict[str, Any], authority: Path | None = None
) -> None:
    folder = cache() / name
    folder.mkdir(parents=True, exist_ok=True)
    configuration: dict[str, Any] = {
        "version": "0.1",
        "log": {"level": "info", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(folder)}, "delete": {"enabled": True}},
        "http": {"addr": f"127.0.0.1:{port}", **http_settings},
    }
    if auth:
        configuration["auth"] = auth
    file = cache() / f"{name}.json"  # JSON is YAML
    file.write_text(json.dumps(configuration, indent=2) + "\n", encoding="utf-8")
    processes.start(
        name, ["docker-registry", "serve", file], ready=lambda: _answers(port, authority), seconds=20
    )


def _answers(port: int, authority: Path | None) -> bool:
    """Tell whether a registry answers (401 is an answer)."""
    if authority:
        context = ssl.create_default_context(cafile=str(authority))
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            "127.0.0.1", port, timeout=5, context=context
        )
    else:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/v2/")
        return connection.getresponse().status in {200, 401}
    except OSError:
        return False
    finally:
        connection.close()


def _certificates(folder: Path) -> Path:
    """Return the authority's file; it and a certificate for 127.0.0.1 and localhost are made once."""
    authority = folder / "ca.pem"
    if (folder / "server.pem").exists():
        return authority
    folder.mkdir(parents=True, exist_ok=True)
    extensions = folder / "server.ext"
    extensions.write_text(
        "subjectAltName=IP:127.0.0.1,DNS:localhost\nbasicConstraints=critical,CA:FALSE\n"
        "keyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth\n",
        encoding="utf-8",
    )
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    signer, server, request = folder / "ca.key", folder / "server.key", folder / "server.csr"
    usage = ["-subj", "/CN=imagesmith rig", "-addext", "keyUsage=critical,keyCertSign,cRLSign"]
    run(["openssl", "req", "-x509", *key, "-keyout", signer, "-out", authority, "-days", "3650", *usage])
    run(["openssl", "req", "-new", *key, "-keyout", server, "-out", request, "-subj", "/CN=localhost"])
    signing: list[str | Path] = [
        "-CA",
        authority,
        "-CAkey",
        signer,
        "-CAcreateserial",
        "-days",
        "3650",
        "-extfile",
        extensions,
    ]
    run(["openssl", "x509", "-req", "-in", request, *signing, "-out", folder / "server.pem"])
    return authority
