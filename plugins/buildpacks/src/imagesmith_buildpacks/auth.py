"""Registry logins, in the form that a lifecycle reads. A secret: it goes into the container's environment."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from imagesmith import RegistryFacts

__all__ = ["registry_auth"]

_HUB = "index.docker.io"
"""What lifecycles call Docker Hub."""


def registry_auth(facts: Iterable[RegistryFacts]) -> str:
    """The value of ``CNB_REGISTRY_AUTH`` for these registries; those without a login are left out."""
    told: dict[str, str] = {}
    for each in facts:
        login = each.login
        if login is None:
            continue
        host = _HUB if each.host == "docker.io" else each.host
        if login.token:
            told[host] = f"X-Identity {login.token}"
        else:
            pair = f"{login.username or ''}:{login.password or ''}"
            told[host] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    return json.dumps(told, sort_keys=True)
