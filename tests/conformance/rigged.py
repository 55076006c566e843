"""The live tier's environment on the rig."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.rig import state


def environment(folder: Path) -> dict[str, str]:
    """That of a user who works on the rig; where none is up, one without an engine (in CI a failure)."""
    clean = {
        key: value for key, value in os.environ.items() if not key.startswith(("IMAGESMITH_", "DOCKER_"))
    }
    clean["DOCKER_CONFIG"] = str(folder)
    try:
        rig = state.load()
    except state.RigDownError as error:
        if os.environ.get("CI"):
            pytest.fail(str(error))
        return {**clean, "DOCKER_HOST": f"unix://{folder}/the-rig-is-not-up.sock"}
    tls = rig.registry_tls
    login = folder / "registries.json"
    auths = {tls.address: {"username": tls.username, "password": tls.password}}
    login.write_text(json.dumps({"auths": auths, "registries": [{"name": tls.address, "ca": tls.ca}]}))
    several = {"IMAGESMITH_CONFORMANCE_MULTI_BASE": rig.images.python311_multi or ""}
    return {
        **clean,
        "DOCKER_HOST": rig.docker_host,
        "IMAGESMITH_BASE_IMAGE": f"{rig.registry}/library/python:{{python_version}}",
        "IMAGESMITH_CONFORMANCE_REGISTRY": f"{rig.registry}/conformance",
        "IMAGESMITH_CONFORMANCE_PRIVATE_REGISTRY": f"{tls.address}/conformance",
        "IMAGESMITH_CONFORMANCE_PRIVATE_CONFIG": str(login),
        **several,
    }
