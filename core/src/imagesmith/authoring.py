"""What a builder asks the core for beside its request: the same answers for every builder. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from imagesmith.base import base_environment
from imagesmith.configuration import DEFAULT_PATH, environment, expand

if TYPE_CHECKING:
    from imagesmith.builder import BuildRequest, Contribution

__all__ = ["command_environment", "final_user", "install_environment", "redactions"]

_SHORTEST = 6
"""A shorter value stands in too much of what a tool prints to be cut from it."""


def command_environment(request: BuildRequest, contribution: Contribution) -> dict[str, str]:
    """All that the spec's ``commands`` see: the image's environment and ``build_env``, never the marker."""
    return environment(request.base.config, request.spec, contribution, marker=False, build_env=True)


def install_environment(request: BuildRequest, contribution: Contribution) -> dict[str, str]:
    """What install steps see beside the base's environment: PATH and ``build_env``, not the spec's env."""
    base = base_environment(request.base.config)
    known = {**base, "PATH": ":".join((*contribution.path, base.get("PATH") or DEFAULT_PATH))}
    declared = request.spec.build_env.items()
    return {"PATH": known["PATH"], **{key: expand(value, key, known.get(key)) for key, value in declared}}


def final_user(request: BuildRequest) -> str:
    """The user of the finished image, as the configuration writes it; ``0`` where nothing names one."""
    config = request.base.config.get("config")
    base_user = config.get("User") if isinstance(config, Mapping) else None
    return request.spec.user or str(base_user or "0")


def redactions(request: BuildRequest) -> tuple[str, ...]:
    """What a tool must not be seen to print: secrets, and the values of ``env`` and ``build_env``."""
    values = [*request.spec.env.values(), *request.spec.build_env.values()]
    values += [secret.reveal().decode(errors="replace").strip() for secret in request.secrets.values()]
    return tuple(value for value in values if len(value) >= _SHORTEST)
