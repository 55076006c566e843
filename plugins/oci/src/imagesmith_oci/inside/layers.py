"""Unpacked layers, kept between builds under the hash of their archive."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import time
from pathlib import Path

from imagesmith_oci.inside import linux
from imagesmith_oci.inside.unpack import LayerError, unpack

__all__ = ["Layers", "folder_name"]

_UNUSED_SECONDS = 14 * 24 * 3600
_WRITTEN_SECONDS = 120
"""By then the kernel has brought to the disk what was written."""
_BEGINNING_SECONDS = 60
"""So long a build may take between making its folder and locking it."""


def folder_name(diff_id: str) -> str:
    """What a layer's folder is called."""
    return diff_id.replace(":", "-")


class Layers:
    """A folder: ``layers`` has what is kept, ``work`` what belongs to a build that runs.

    Nothing here waits for the disk. So a layer that may not have been written when the machine went down
    is thrown away: it has no file ``written``, and another boot's mark.
    """

    def __init__(self, cache: str) -> None:
        self._layers = Path(cache, "layers")
        self._work = Path(cache, "work")

    def unpack(self, tar: str, place: str, own: str) -> None:
        """Unpack a plain tar; into ``place``, or under its name among what is kept if that is relative."""
        draft = f"{own}/unpacked"
        os.mkdir(draft)
        os.mkdir(f"{draft}/files", 0o755)
        _in_own_root(tar, f"{draft}/files")
        os.unlink(tar)
        if os.path.isabs(place):
            os.makedirs(os.path.dirname(place), 0o700, exist_ok=True)
            os.rename(draft, place)
        else:
            self._keep(draft, place)

    def take_over(self, folder: str, diff_id: str) -> None:
        """Keep the upper folder of an overlay as the unpacked form of the layer made from it."""
        draft = f"{folder}-kept"
        os.mkdir(draft)
        os.rename(folder, f"{draft}/files")
        self._keep(draft, folder_name(diff_id))

    def find(self, diff_id: str) -> str | None:
        """The folder with a layer's files, if it is kept."""
        folder = self._layers / folder_name(diff_id)
        try:
            (folder / "used").touch()
            if not (folder / "written").exists() and _read(folder / "boot") != _boot():
                return None
        except OSError:
            return None
        return str(folder / "files")

    def sweep(self) -> None:
        """Remove what builds that were killed left, and layers nobody wants."""
        for folder in self._work.iterdir():
            if not _in_use(folder):
                shutil.rmtree(folder, ignore_errors=True)
        boot = _boot()
        now = time.time()
        for folder in self._layers.iterdir():
            with contextlib.suppress(OSError):
                age = now - (folder / "used").stat().st_mtime
                if not (folder / "written").exists():
                    if _read(folder / "boot") != boot:
                        self._remove(folder)
                        continue
                    if age > _WRITTEN_SECONDS:
                        (folder / "written").touch()
                if age > _UNUSED_SECONDS:
                    self._remove(folder)

    def _keep(self, draft: str, name: str) -> None:
        Path(draft, "boot").write_text(_boot(), encoding="ascii")
        Path(draft, "used").touch()
        try:
            os.rename(draft, self._layers / name)
        except OSError:  # another build was faster
            if not (self._layers / name).exists():
                raise
            shutil.rmtree(draft)

    def _remove(self, folder: Path) -> None:
        gone = self._work / f"old-{folder.name}-{os.getpid()}"
        os.rename(folder, gone)
        shutil.rmtree(gone, ignore_errors=True)


def _boot() -> str:
    return _read(Path("/proc/sys/kernel/random/boot_id"))


def _read(file: Path) -> str:
    return file.read_text(encoding="ascii").strip()


def _in_use(folder: Path) -> bool:
    """Whether the build that made it still holds its lock."""
    try:
        lock = os.open(folder / "lock", os.O_RDWR)
    except FileNotFoundError:
        with contextlib.suppress(OSError):
            return time.time() - folder.stat().st_mtime < _BEGINNING_SECONDS
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def _in_own_root(tar: str, folder: str) -> None:
    """Unpack in a child that cannot leave the folder, whatever links the layer has."""
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        text = "it could not be read"
        try:
            os.close(told)
            linux.die_with_parent(signal.SIGKILL)
            with open(tar, "rb") as stream:
                os.chroot(folder)
                os.chdir("/")
                unpack(stream)
            text = ""
        except LayerError as error:
            text = str(error)
        except OSError as error:
            text = f"it cannot be unpacked: {error}"
        finally:
            os.write(tell, text.encode(errors="replace"))
            os._exit(0)
    os.close(tell)
    try:
        text = b"".join(iter(lambda: os.read(told, 65536), b"")).decode()
    finally:
        os.close(told)
        os.waitpid(child, 0)
    if text:
        raise LayerError(text)
