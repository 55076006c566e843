"""The root of a step: an overlay over layers, and what a program expects beside files.

Everything is mounted after the root has changed, so that links in an image are followed inside it; what
comes from the host is named relative to the old root, the working directory.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from imagesmith_oci.inside import linux

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["SCRIPTS", "Root", "overlay"]

SCRIPTS = "/dev/imagesmith"
"""Where a step's scripts lie; in memory, seen by root alone."""

HOSTNAME = "imagesmith"
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_DEVICE_LINKS = {
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
    "ptmx": "pts/ptmx",
}
_READ_ONLY = ("bus", "fs", "irq", "sys", "sysrq-trigger")
_HIDDEN = ("kcore", "keys", "latency_stats", "sched_debug", "timer_list")
_QUIET = linux.NOSUID | linux.NODEV | linux.NOEXEC


def overlay(folder: str, lowers: Sequence[str]) -> None:
    """Mount ``folder/root`` over the folders ``lowers``, the topmost first; ``folder/upper`` takes changes.

    Many long paths do not fit into the options of a mount, so links with short names stand for them.
    """
    os.chdir(folder)
    for name in ("upper", "work", "root", "lower"):
        os.mkdir(name, 0o755)
    for number, lower in enumerate(lowers):
        os.symlink(lower, f"lower/{number}")
    below = ":".join(f"lower/{number}" for number in range(len(lowers)))
    # volatile: nothing waits for the disk, which the package manager asks for at every file
    options = f"lowerdir={below},upperdir=upper,workdir=work,userxattr,index=off,volatile"
    linux.mount("overlay", "root", "overlay", linux.NODEV, options)


class Root:
    """The new root. ``leave`` takes away what ``enter`` had to make in the image for its mounts."""

    def __init__(self) -> None:
        self._made: list[tuple[str, int]] = []
        self._mounted: list[str] = []
        self._old = -1
        self._covers = False

    def enter(self, folder: str, scripts: Mapping[str, str]) -> None:
        """Change into ``folder``, a mount. The working directory is then the host's root."""
        self._old = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        os.chdir(folder)
        self._covers = linux.change_root()
        os.fchdir(self._old)
        self._proc()
        self._dev()
        self._sys()
        self._scripts(scripts)
        texts = {"resolv.conf": "", "hosts": "127.0.0.1 localhost\n", "hostname": ""}
        for name in texts:
            with contextlib.suppress(OSError):
                texts[name] = Path("etc", name).read_text(encoding="utf-8", errors="surrogateescape")
        texts["hosts"] += f"127.0.0.1 {HOSTNAME}\n"
        texts["hostname"] = f"{HOSTNAME}\n"
        for name, text in texts.items():
            self.show_text(text, f"/etc/{name}")

    def close(self) -> None:
        """The host is out of reach from here on."""
        if self._covers:
            linux.umount(".")
        os.chdir("/")
        os.close(self._old)

    def bind(self, source: str, target: str) -> None:
        """A folder of the host's."""
        self._folder(target)
        self._mount(os.path.relpath(source, "/"), target, None, linux.BIND)

    def show_text(self, text: str, target: str) -> None:
        """A file with this text in place of what the image has; what is written to it is lost."""
        path = os.path.realpath(target)
        draft = f"{SCRIPTS}/{len(self._mounted)}"
        Path(draft).write_text(text, encoding="utf-8", errors="surrogateescape")
        os.chmod(draft, 0o644)
        self._file(path)
        self._mount(draft, path, None, linux.BIND)

    def leave(self) -> None:
        """Unmount, and remove the empty files and folders that were made to mount over."""
        for target in reversed(self._mounted):
            with contextlib.suppress(OSError):
                linux.umount(target)
        for path, inode in reversed(self._made):
            with contextlib.suppress(OSError):
                found = os.lstat(path)
                if found.st_ino != inode:
                    continue
                if stat.S_ISDIR(found.st_mode):
                    os.rmdir(path)
                elif found.st_size == 0:
                    os.unlink(path)

    def _mount(self, source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
        linux.mount(source, target, kind, flags, data)
        self._mounted.append(target)

    def _folder(self, path: str) -> None:
        if os.path.isdir(path):
            return
        self._folder(os.path.dirname(path))
        os.mkdir(path, 0o755)
        self._made.append((path, os.lstat(path).st_ino))

    def _file(self, path: str) -> None:
        self._folder(os.path.dirname(path))
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
            self._made.append((path, os.lstat(path).st_ino))

    def _proc(self) -> None:
        self._folder("/proc")
        try:
            self._mount("proc", "/proc", "proc", _QUIET)
        except PermissionError:  # parts of the host's are hidden, as in containers
            self._mount("proc", "/proc", None, linux.BIND | linux.REC)
            return
        for name in _READ_ONLY:
            with contextlib.suppress(OSError):
                linux.mount(f"/proc/{name}", f"/proc/{name}", None, linux.BIND | linux.REC)
                linux.make_read_only(f"/proc/{name}")
        for name in _HIDDEN:
            if os.path.exists(f"/proc/{name}"):
                with contextlib.suppress(OSError):
                    linux.mount("dev/null", f"/proc/{name}", None, linux.BIND)

    def _dev(self) -> None:
        self._folder("/dev")
        self._mount("tmpfs", "/dev", "tmpfs", linux.NOSUID, "mode=755,size=16m")
        for name in _DEVICES:
            if not os.path.exists(f"dev/{name}"):
                continue
            Path("/dev", name).touch()
            linux.mount(f"dev/{name}", f"/dev/{name}", None, linux.BIND)
        for name, target in _DEVICE_LINKS.items():
            os.symlink(target, f"/dev/{name}")
        os.mkdir("/dev/pts")
        linux.mount("devpts", "/dev/pts", "devpts", linux.NOSUID | linux.NOEXEC, "newinstance,ptmxmode=0666")
        os.mkdir("/dev/shm")
        linux.mount("tmpfs", "/dev/shm", "tmpfs", _QUIET, "mode=1777,size=64m")

    def _sys(self) -> None:
        self._folder("/sys")
        try:
            self._mount("sys", "/sys", None, linux.BIND)
        except OSError:  # what is mounted below it may not be uncovered
            self._mount("sys", "/sys", None, linux.BIND | linux.REC)
        linux.make_read_only("/sys")

    def _scripts(self, scripts: Mapping[str, str]) -> None:
        os.mkdir(SCRIPTS, 0o700)
        for name, text in scripts.items():
            Path(SCRIPTS, name).write_text(text, encoding="utf-8", errors="surrogateescape")
