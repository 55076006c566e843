"""An ordinary user of this machine, for what has to work without being root."""

from __future__ import annotations

import os
import pwd
import shutil
from dataclasses import dataclass
from pathlib import Path

from .console import RigError, run
from .packages import install
from .state import lock

NAME = "imagesmith-rig"
SUBIDS = 65536


@dataclass(frozen=True, slots=True)
class User:
    """Who it is, and a folder of its own."""

    name: str
    uid: int
    gid: int
    home: Path


def ordinary() -> User:
    """Return the user, made when it is not there; it is lent 65536 ids beside its own.

    Raises:
        RigError: only root can make it.
    """
    with lock("user.lock"):  # two tests may ask at the same time
        return _made()


def _made() -> User:
    try:
        entry = pwd.getpwnam(NAME)
    except KeyError:
        if os.geteuid() != 0:
            raise RigError(f"there is no user {NAME}, and only root can make one") from None
        run(["useradd", "--create-home", "--shell", "/usr/sbin/nologin", NAME])
        entry = pwd.getpwnam(NAME)
    if os.geteuid() == 0:
        if shutil.which("newuidmap") is None:
            install(["uidmap"])
        _lend_ids()
    return User(NAME, entry.pw_uid, entry.pw_gid, Path(entry.pw_dir))


def _lend_ids() -> None:
    for kind in ("uid", "gid"):
        file = Path(f"/etc/sub{kind}")
        lent = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        if any(line.startswith(f"{NAME}:") for line in lent):
            continue
        first = max([100_000, *(int(start) + int(count) for _, start, count in (x.split(":") for x in lent))])
        run(["usermod", f"--add-sub{kind}s", f"{first}-{first + SUBIDS - 1}", NAME])
