"""Whether this host lets apt and commands be run; kept where it does, for to try it takes 0.1 s."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from imagesmith import Environment

__all__ = ["steps_here"]

_DECIDE = (
    "/proc/sys/kernel/osrelease",
    "/proc/sys/kernel/random/boot_id",
    "/proc/sys/kernel/unprivileged_userns_clone",
    "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
    "/proc/sys/user/max_user_namespaces",
    "/etc/subuid",
    "/etc/subgid",
)
"""what an answer stands and falls with, beside the user and its capabilities"""


def steps_here(environment: Environment) -> str:
    """One line for people; never raises."""
    file = environment.cache_dir / "steps.json"
    state = [os.geteuid(), environment.env.get("PATH", ""), _capabilities(), *map(_read, _DECIDE)]
    with contextlib.suppress(OSError, ValueError, TypeError):
        told = json.loads(file.read_text(encoding="utf-8"))
        if told["state"] == state:
            return str(told["line"])
    from imagesmith_oci.userns import available  # noqa: PLC0415 - seldom needed

    found = available(environment)
    if not found.ok:
        hint = f" ({found.hint})" if found.hint else ""
        return f"apt packages and commands: not on this machine: {found.problem}{hint}"
    line = f"apt packages and commands: {', '.join(found.details)}"
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"state": state, "line": line}), encoding="utf-8")
    return line


def _capabilities() -> str:
    return next((line for line in _read("/proc/self/status").splitlines() if line.startswith("CapEff:")), "")


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
