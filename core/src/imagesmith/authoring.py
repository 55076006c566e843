"""What a builder asks the core for beside its request: the same answers for every builder. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from imagesmith._frozen import FrozenMap
from imagesmith._urls import credentials, strip_credentials
from imagesmith.base import base_environment
from imagesmith.builder import Secret
from imagesmith.configuration import DEFAULT_PATH, environment, expand
from imagesmith.pip_arguments import overruled, pip_conf

if TYPE_CHECKING:
    from imagesmith.builder import BaseImage, BuildRequest, Contribution
    from imagesmith.sources import Staged
    from imagesmith.spec import ImageSpec

__all__ = ["command_environment", "final_user", "install_environment", "redactions"]

_SHORTEST = 6
"""A shorter value stands in too much of what a tool prints to be cut from it."""


def command_environment(request: BuildRequest, contribution: Contribution) -> dict[str, str]:
    """All that the spec's ``commands`` see: the image's environment and ``build_env``, never the marker."""
    return environment(request.base.config, request.spec, contribution, marker=False, build_env=True)


def install_environment(request: BuildRequest, contribution: Contribution) -> dict[str, str]:
    """What install steps see beside the base's environment: PATH and ``build_env``, not the spec's env.

    Variables of pip that would win over what the secret ``pip.conf`` says are empty.
    """
    base = base_environment(request.base.config)
    path = {"PATH": ":".join((*contribution.path, base.get("PATH") or DEFAULT_PATH))}
    told = {**path, **_declared(request.spec, {**base, **path})}
    known = {**base, **told}
    return {**told, **{name: "" for name in overruled(request) if known.get(name)}}


def secrets_over(base: BaseImage, spec: ImageSpec, staged: Staged) -> Mapping[str, Secret]:
    """Those of what is staged; in ``pip.conf`` also what variables of the base and ``build_env`` say."""
    known = base_environment(base.config)
    conf = pip_conf(spec, staged.arguments, {**known, **_declared(spec, known)})
    more = {} if conf is None else {"pip.conf": Secret(conf.encode())}
    return FrozenMap({**staged.secrets, **more})


def pip_conf_shown(request: BuildRequest) -> str:
    """What the secret ``pip.conf`` says, credentials aside; empty without one."""
    secret = request.secrets.get("pip.conf")
    return strip_credentials(secret.reveal().decode(errors="replace")) if secret else ""


def _declared(spec: ImageSpec, known: Mapping[str, str]) -> dict[str, str]:
    return {key: expand(value, key, known.get(key)) for key, value in spec.build_env.items()}


def final_user(request: BuildRequest) -> str:
    """The user of the finished image, as the configuration writes it; ``0`` where nothing names one."""
    config = request.base.config.get("config")
    base_user = config.get("User") if isinstance(config, Mapping) else None
    return request.spec.user or str(base_user or "0")


def redactions(request: BuildRequest) -> tuple[str, ...]:
    """What a tool must not be seen to print: secrets, logins in them, values of ``env`` and ``build_env``."""
    texts = [secret.reveal().decode(errors="replace").strip() for secret in request.secrets.values()]
    values = [*request.spec.env.values(), *request.spec.build_env.values(), *texts]
    values += [each for text in texts for each in credentials(text)]
    return tuple(value for value in values if len(value) >= _SHORTEST)
