"""What is run for ``apt_packages`` and ``commands``, as values. Pure; the shell is the same as elsewhere."""

from __future__ import annotations

import hashlib
import json
import shlex
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from imagesmith import base_environment, scripts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from imagesmith import BuildRequest, Contribution

__all__ = ["TIME", "Step", "apt_steps", "command_steps", "key_of"]

TIME = 315_619_200
"""1980-01-02, as in all layers: what becomes of the time of day."""
FORMAT = 1
"""Another one where the same steps would leave other files than before."""
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PROXIES = ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy")


@dataclass(frozen=True, slots=True)
class Step:
    """A script, run as root over an image by another one, which gives it its environment."""

    id: str
    """unique within one build"""
    name: str
    """as a person would say it"""
    script: str
    """for ``/bin/sh -eu``"""
    runner: str
    """for ``/bin/sh``: runs the script, whose path is its argument"""
    env: tuple[tuple[str, str], ...]
    """what ``runner`` sees: all of it"""
    caches: tuple[tuple[str, str], ...] = ()
    """name and mount point of folders that stay between builds and never enter the image"""
    hidden: tuple[str, ...] = ()
    """files of the image that are seen empty for as long as it runs"""
    place: tuple[tuple[str, str], ...] = field(default=(), compare=False)
    """variables of this machine (proxies) under those of ``env``; they decide nothing"""


def apt_steps(request: BuildRequest, contributed: Contribution, env: Mapping[str, str]) -> tuple[Step, ...]:
    """One step that installs ``apt_packages`` from the base's own sources, or none.

    ``env``: the environment of this machine, for its proxies.
    """
    packages = sorted(set(request.spec.apt_packages))
    if not packages:
        return ()
    script = (
        "export DEBIAN_FRONTEND=noninteractive\n"
        "apt-get update\n"
        f"apt-get install -y --no-install-recommends -- {shlex.join(packages)}\n"
        # they hold the time of day
        "rm -rf /var/log/apt/*.log* /var/log/dpkg.log /var/log/alternatives.log "
        "/var/cache/ldconfig/aux-cache\n"
    )
    architecture = request.platform.replace("/", "-")
    return (
        Step(
            id="apt",
            name=f"apt: {' '.join(packages)}",
            script=script,
            # what writes a time (font caches, the age of passwords) takes that of the files in the layer
            runner=scripts.for_installs(request, contributed, {"SOURCE_DATE_EPOCH": str(TIME)}),
            env=_base(request),
            caches=(
                (f"apt-{architecture}", "/var/cache/apt"),
                (f"apt-lists-{architecture}", "/var/lib/apt/lists"),
            ),
            # it makes apt throw away what it downloaded
            hidden=("/etc/apt/apt.conf.d/docker-clean",),
            place=tuple(sorted(_proxies(env).items())),
        ),
    )


def command_steps(request: BuildRequest, contributed: Contribution) -> tuple[Step, ...]:
    """One step for each of the spec's ``commands``."""
    runner = scripts.for_commands(request, contributed)
    return tuple(
        Step(
            id=f"command-{number:03d}",
            name=f"command: {command}",
            script=f"{command}\n",
            runner=runner,
            env=_base(request),
        )
        for number, command in enumerate(request.spec.commands)
    )


def key_of(steps: Sequence[Step]) -> str:
    """The same for steps that do the same; in hexadecimal digits."""
    said = [{**asdict(step), "place": None} for step in steps]
    return hashlib.sha256(json.dumps([FORMAT, said], sort_keys=True).encode()).hexdigest()


def _base(request: BuildRequest) -> tuple[tuple[str, str], ...]:
    known = {"PATH": _PATH, "HOME": "/root", **base_environment(request.base.config)}
    return tuple(sorted(known.items()))


def _proxies(env: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in env.items() if key.lower() in _PROXIES and value}
