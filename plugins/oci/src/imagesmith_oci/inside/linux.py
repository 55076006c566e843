"""The few system calls that Python 3.11 has no function for."""

from __future__ import annotations

import ctypes
import os
import struct
from typing import Final

__all__ = [
    "BIND",
    "MOVE",
    "NEWIPC",
    "NEWNS",
    "NEWPID",
    "NEWUSER",
    "NEWUTS",
    "NODEV",
    "NOEXEC",
    "NOSUID",
    "PRIVATE",
    "REC",
    "change_root",
    "die_with_parent",
    "drop_capabilities",
    "make_read_only",
    "mount",
    "set_hostname",
    "umount",
    "unshare",
]

NEWNS: Final = 0x00020000
NEWUTS: Final = 0x04000000
NEWIPC: Final = 0x08000000
NEWUSER: Final = 0x10000000
NEWPID: Final = 0x20000000

NOSUID: Final = 2
NODEV: Final = 4
NOEXEC: Final = 8
BIND: Final = 4096
MOVE: Final = 8192
REC: Final = 16384
PRIVATE: Final = 1 << 18

_DETACH = 2
_PR_SET_PDEATHSIG = 1
_PR_CAPBSET_DROP = 24
_MOUNT_SETATTR = 442  # the same number on every architecture
_AT_FDCWD, _AT_RECURSIVE = -100, 0x8000
_MOUNT_ATTRIBUTES = 1 | NOSUID | NODEV | NOEXEC
_PIVOT_ROOT = {
    "x86_64": 155,
    "aarch64": 41,
    "riscv64": 41,
    "loongarch64": 41,
    "i686": 217,
    "armv7l": 218,
    "ppc64le": 203,
    "s390x": 217,
}
_KEPT_CAPABILITIES = frozenset(
    # what container engines let a process have (chown … setfcap), without making devices
    (0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 29, 31)
)

_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)


def unshare(flags: int) -> None:
    """Leave namespaces for new ones."""
    _checked(_libc.unshare(ctypes.c_int(flags)), "unshare")


def mount(source: str, target: str, kind: str | None, flags: int = 0, data: str | None = None) -> None:
    """See mount(2); relative paths start at the working directory."""
    result = _libc.mount(
        os.fsencode(source),
        os.fsencode(target),
        kind.encode() if kind else None,
        ctypes.c_ulong(flags),
        os.fsencode(data) if data else None,
    )
    _checked(result, f"mount {target}")


def umount(target: str) -> None:
    """Take it out of sight at once, whoever still uses it."""
    _checked(_libc.umount2(os.fsencode(target), _DETACH), f"umount {target}")


def make_read_only(target: str) -> None:
    """A mount and all below it: no writing, no programs, no devices."""
    attributes = struct.pack("QQQQ", _MOUNT_ATTRIBUTES, 0, 0, 0)
    result = _libc.syscall(
        ctypes.c_long(_MOUNT_SETATTR),
        ctypes.c_int(_AT_FDCWD),
        os.fsencode(target),
        ctypes.c_uint(_AT_RECURSIVE),
        attributes,
        ctypes.c_size_t(len(attributes)),
    )
    _checked(result, f"mount_setattr {target}")


def change_root() -> bool:
    """The working directory, a mount, becomes the root.

    True when what was the root lies over it now, to be unmounted. False when it lies below, where nobody
    gets: containers that may mount are often refused the better way.
    """
    number = _PIVOT_ROOT.get(os.uname().machine)
    if number is not None and _libc.syscall(ctypes.c_long(number), b".", b".") == 0:
        return True
    mount(".", "/", None, MOVE)
    os.chroot(".")
    return False


def set_hostname(name: str) -> None:
    """Of the own UTS namespace."""
    raw = name.encode()
    _checked(_libc.sethostname(raw, ctypes.c_size_t(len(raw))), "sethostname")


def die_with_parent(signal: int) -> None:
    """Be sent this signal when the parent ends."""
    _checked(_libc.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal), 0, 0, 0), "prctl")


def drop_capabilities() -> None:
    """Whatever is started from here on may do no more than in a container."""
    for number in range(64):
        if number not in _KEPT_CAPABILITIES and _libc.prctl(
            _PR_CAPBSET_DROP, ctypes.c_ulong(number), 0, 0, 0
        ):
            if ctypes.get_errno() == 22:  # this kernel has no more
                return
            _checked(-1, "prctl")
