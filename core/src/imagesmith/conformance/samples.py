"""Sample values: a project on disk, a base that exists nowhere, a spec for every field. Makes wheels."""

from __future__ import annotations

import base64
import hashlib
import io
import tarfile
import zipfile
from typing import TYPE_CHECKING

from imagesmith._frozen import FrozenMap
from imagesmith.builder import Feature
from imagesmith.spec import ImageSpec

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["BASE", "FIELDS", "REFERENCE", "SECRET", "everything", "project", "sdist", "wheel"]

REFERENCE = "registry.invalid/library/python:3.11"
BASE: Mapping[str, object] = FrozenMap(
    {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Env": ["PATH=/usr/local/bin:/usr/bin:/bin", "PYTHON_VERSION=3.11.7"], "Cmd": ["python3"]},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + "1" * 64]},
    }
)
SECRET = "hunter2-conformance"  # noqa: S105 - a sample

FIELDS: Mapping[Feature, Mapping[str, object]] = FrozenMap(
    {
        Feature.APT_PACKAGES: {"apt_packages": ["conformance-apt"]},
        Feature.BASE_IMAGE: {"base_image": "registry.invalid/another/base:1"},
        Feature.BUILD_ENV: {"build_env": {"CONFORMANCE": "x"}},
        Feature.BUILDER_OPTIONS: {"builder_options": {"conformance": "x"}},
        Feature.COMMANDS: {"commands": ["echo conformance"]},
        Feature.CONDA_CHANNELS: {"conda_channels": ["conformance"], "conda_packages": ["conformance"]},
        Feature.CONDA_PACKAGES: {"conda_packages": ["conformance"]},
        Feature.COPY: {"copy": ["data"]},
        Feature.CUDA: {"cuda": "12.4"},
        Feature.CUDNN: {"cuda": "12.4", "cudnn": "9"},
        Feature.ENTRYPOINT: {"entrypoint": ["python"]},
        Feature.ENV: {"env": {"CONFORMANCE": "x"}},
        Feature.LABELS: {"labels": {"conformance": "x"}},
        Feature.PACKAGES: {"packages": ["conformance"]},
        Feature.PIP_EXTRA_ARGS: {"packages": ["conformance"], "pip_extra_args": ["--no-deps"]},
        Feature.PIP_EXTRA_INDEX_URL: {
            "packages": ["conformance"], "pip_extra_index_url": ["http://index.invalid/simple"]},
        Feature.PIP_INDEX: {"packages": ["conformance"], "pip_index": "http://index.invalid/simple"},
        Feature.PIP_SECRET_MOUNTS: {
            "packages": ["conformance"], "pip_secret_mounts": [("token", "/run/token")]},
        Feature.PLATFORM: {"platform": "linux/arm64"},
        Feature.PYTHON_VERSION: {"python_version": "3.11"},
        Feature.REGISTRY_CONFIG: {"registry_config": "registries.json"},
        Feature.REQUIREMENTS: {"requirements": "requirements.txt"},
        Feature.SOURCE_ROOT: {"source_root": "app"},
        Feature.USER: {"user": "1234"},
        Feature.WORKDIR: {"workdir": "/srv/conformance"},
    }
)  # fmt: skip
"""Feature -> the fields that ask for it, and what they stand on."""


def everything(**more: object) -> ImageSpec:
    """A spec with all fields that exclude each other least; relative paths are those of ``project``."""
    fields: dict[str, object] = {
        "name": "conformance",
        "python_version": "3.11",
        "source_root": "app",
        "env": {"CONFORMANCE_A": "a b", "CONFORMANCE_B": "$c 'd' \"e\"\n"},
        "packages": ["conformance-b", "conformance-a>=1"],
        "requirements": "requirements.txt",
        "apt_packages": ["conformance-two", "conformance-one"],
        "pip_index": f"http://me:{SECRET}@index.invalid/simple",
        "pip_extra_index_url": ["http://one.invalid/simple", "http://two.invalid/simple"],
        "pip_extra_args": ["--no-deps", "--pre"],
        "pip_secret_mounts": [("token", "/run/conformance/token")],
        "entrypoint": ["python", "app.py"],
        "commands": ["echo conformance-first", "echo conformance-second | cat"],
        "copy": ["data"],
        "build_env": {"CONFORMANCE_C": "c d", "CONFORMANCE_D": "e"},
        "labels": {"conformance.a": "a", "conformance.b": "b"},
        "workdir": "/srv/conformance",
        "user": "1234:0",
    }
    return ImageSpec(**{**fields, **more})  # type: ignore[arg-type]


def project(folder: Path) -> Path:
    """Write the files that the sample fields name."""
    for name, text in {
        "app/app.py": "print('conformance')\n",
        "data/more.txt": "more\n",
        "requirements.txt": "conformance-c==1.0\n",
        "token": f"{SECRET}-file\n",
        "registries.json": "{}",
    }.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return folder


def wheel(name: str, version: str = "1.0", files: Mapping[str, str] | None = None) -> bytes:
    """A pure wheel; without ``files`` it holds one module of its own name, with a VERSION."""
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    held = dict(files or {f"{module}.py": f"VERSION = {version!r}\n"})
    held[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    held[f"{info}/WHEEL"] = (
        "Wheel-Version: 1.0\nGenerator: imagesmith\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    )
    record = "".join(f"{path},sha256={_urlsafe(text)},{len(text.encode())}\n" for path, text in held.items())
    held[f"{info}/RECORD"] = record + f"{info}/RECORD,,\n"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path, text in held.items():
            archive.writestr(path, text)
    return buffer.getvalue()


def wheel_name(name: str, version: str = "1.0") -> str:
    """Its file name."""
    return f"{name.replace('-', '_')}-{version}-py3-none-any.whl"


def _urlsafe(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


_BACKEND = '''\
"""Builds this project's only wheel, and writes into it what the install step sees."""
import base64, hashlib, json, os, shutil, zipfile

def _digest(path):
    try:
        with open(path, "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()
    except OSError:
        return None

def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    seen = {
        "env": dict(os.environ), "uid": os.getuid(), "program": shutil.which(@PROGRAM@),
        "files": {path: os.path.lexists(path) for path in @PATHS@},
        "secrets": {path: _digest(path) for path in @SECRETS@},
    }
    name, info = "@MODULE@-1.0-py3-none-any.whl", "@MODULE@-1.0.dist-info"
    files = {
        "@MODULE@.py": "SEEN = %r\\n" % (seen,),
        info + "/METADATA": "Metadata-Version: 2.1\\nName: @NAME@\\nVersion: 1.0\\n",
        info + "/WHEEL": "Wheel-Version: 1.0\\nGenerator: x\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
    }
    record = ""
    for path, text in files.items():
        hashed = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        record += "%s,sha256=%s,%d\\n" % (path, hashed, len(text.encode()))
    files[info + "/RECORD"] = record + info + "/RECORD,,\\n"
    with zipfile.ZipFile(os.path.join(wheel_directory, name), "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return name
'''


def sdist(
    name: str,
    *,
    nonce: str = "",
    program: str = "sh",
    paths: tuple[str, ...] = (),
    secrets: tuple[str, ...] = (),
) -> bytes:
    """A source distribution whose module holds SEEN: what its own build saw in the install step.

    Its build needs no other package. ``program`` and ``paths`` are looked for, of ``secrets`` the digests
    are taken; ``nonce`` keeps an installer from taking what it built for another run.
    """
    module = name.replace("-", "_")
    backend = _BACKEND.replace("@PATHS@", repr(paths)).replace("@SECRETS@", repr(secrets))
    backend = backend.replace("@PROGRAM@", repr(program)) + f"# {nonce}\n"
    backend = backend.replace("@MODULE@", module).replace("@NAME@", name)
    files = {
        "pyproject.toml": (
            f'[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
            f'[project]\nname = "{name}"\nversion = "1.0"\n'
        ),
        "backend.py": backend,
        "PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
    }
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for path, text in files.items():
            entry = tarfile.TarInfo(f"{module}-1.0/{path}")
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
    return buffer.getvalue()
