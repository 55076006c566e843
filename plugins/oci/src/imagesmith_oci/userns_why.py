"""Why a namespace cannot be made here, and what to do: from what was tried to words. Pure."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["FACTS", "Availability", "Failure", "explain"]

FACTS: Mapping[str, str] = {
    "apparmor": "/proc/self/attr/current",
    "apparmor_restricts": "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
    "clone_allowed": "/proc/sys/kernel/unprivileged_userns_clone",
    "most_namespaces": "/proc/sys/user/max_user_namespaces",
    "release": "/proc/sys/kernel/osrelease",
    "status": "/proc/self/status",
}
"""Names of what ``explain`` wants to know, and the files with it; where one is absent, so is the fact."""

_REFUSED = (errno.EPERM, errno.EACCES)


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether ``apt_packages`` and ``commands`` can be run here; if not, why, and what to do."""

    ok: bool
    problem: str | None = None
    hint: str | None = None
    details: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Failure:
    """Where it failed (``user``, ``mounts``, ``ids``, ``root``, ``files``), the error number, its text."""

    step: str
    number: int
    text: str


def explain(failure: Failure, facts: Mapping[str, str], cache: str) -> Availability:
    """``cache``: the folder in which it was tried."""
    told = {name: text.strip("\0 \n") for name, text in facts.items()}
    problem, hint = _reason(failure, told, cache)
    return Availability(False, problem, hint)


def _reason(failure: Failure, facts: Mapping[str, str], cache: str) -> tuple[str, str]:
    refused = failure.number in _REFUSED
    status = _status(facts.get("status", ""))
    profile = facts.get("apparmor", "")
    if failure.step == "ids":
        return _ids(failure, status)
    if failure.step in ("mounts", "root") and refused and profile.endswith("(enforce)"):
        return (
            f"the AppArmor profile {profile.removesuffix(' (enforce)')} refuses to mount: {failure.text}",
            "run this outside the container, or the container with --security-opt apparmor=unconfined",
        )
    if failure.step in ("user", "mounts", "root") and refused and facts.get("apparmor_restricts", "0") != "0":
        return (
            (
                "AppArmor keeps user namespaces from ordinary programs "
                "(kernel.apparmor_restrict_unprivileged_userns = 1)"
            ),
            (
                "as root: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or load a profile with "
                "'userns,' for this Python"
            ),
        )
    if failure.step == "user":
        return _user(failure, facts, status)
    if failure.step == "mounts" and refused and status.get("Seccomp") == "2":
        return _SECCOMP
    if failure.step == "root" and "mount root" in failure.text:
        return (
            f"no overlay can be mounted over {cache} (Linux {facts.get('release', '')}): {failure.text}",
            (
                "it takes Linux 5.12 or newer and a file system such as ext4, xfs or btrfs, not a "
                "container's own: name a folder on one with IMAGESMITH_CACHE_DIR"
            ),
        )
    if failure.step == "files":
        return (
            f"nothing can be kept in the folder {cache}: {failure.text}",
            "name another one with IMAGESMITH_CACHE_DIR",
        )
    return (
        f"a root for the image cannot be made: {failure.text}",
        "run this on a host that lets namespaces be made, not in a restricted container",
    )


_SECCOMP = (
    "a seccomp filter refuses namespaces, as containers have one by default",
    "run this outside the container, or the container with --security-opt seccomp=unconfined",
)


def _user(failure: Failure, facts: Mapping[str, str], status: Mapping[str, str]) -> tuple[str, str]:
    if facts.get("most_namespaces", "") == "0" or failure.number == errno.ENOSPC:
        return (
            (
                f"user namespaces are turned off or used up (user.max_user_namespaces = "
                f"{facts.get('most_namespaces', '?')})"
            ),
            "as root: sysctl -w user.max_user_namespaces=15000",
        )
    if facts.get("clone_allowed", "1") == "0":
        return (
            "user namespaces are for root alone here (kernel.unprivileged_userns_clone = 0)",
            "as root: sysctl -w kernel.unprivileged_userns_clone=1",
        )
    if failure.number in _REFUSED and status.get("Seccomp") == "2":
        return _SECCOMP
    if failure.number in (errno.EINVAL, errno.ENOSYS):
        return "this kernel has no user namespaces", "run this on another host, or as root"
    return (
        f"this host lets no user namespace be made: {failure.text}",
        "is this inside a chroot or a sandbox? run it outside",
    )


def _ids(failure: Failure, status: Mapping[str, str]) -> tuple[str, str]:
    if status.get("NoNewPrivs") == "1":
        return (
            f"newuidmap may not use its rights here (no_new_privs): {failure.text}",
            "run this without no-new-privileges (a container: allowPrivilegeEscalation: true)",
        )
    return (
        f"the ids of an image cannot be mapped: {failure.text}",
        "see /etc/subuid and /etc/subgid, and that newuidmap has its setuid bit or file capabilities",
    )


def _status(text: str) -> dict[str, str]:
    rows = (line.partition(":") for line in text.splitlines())
    return {key: value.strip() for key, _, value in rows}
