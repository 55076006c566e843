"""Optional: a two-platform base, and this machine's kernel taught to run linux/arm64 by emulation."""

from __future__ import annotations

import hashlib
import platform
from pathlib import Path

from . import bases, images, packages
from .console import RigError, part, run

PACKAGES = ("qemu-user-static", "binfmt-support", "arch-test")
BINFMT = Path("/proc/sys/fs/binfmt_misc")
HANDLER = BINFMT / "qemu-aarch64"
DEBIAN, PYTHON, MULTI = "debian:bookworm-arm64", "python:3.11-arm64", "python:3.11-multi"


def install() -> None:
    """Make arm64 programs run here.

    Raises:
        RigError: the kernel cannot be told.
    """
    if platform.machine() != "x86_64":
        raise RigError("the arm64 part is for x86_64 machines; run without --with arm64")
    if not (BINFMT / "register").exists():
        run(["mount", "-t", "binfmt_misc", "binfmt_misc", BINFMT])
    packages.install(PACKAGES)
    if not HANDLER.exists():
        run(["update-binfmts", "--enable", "qemu-aarch64"])
    if not HANDLER.exists():
        raise RigError(
            f"no {HANDLER} after update-binfmts: this kernel takes no handlers for other architectures"
        )


def publish(publisher: images.Publisher) -> None:
    """Make the base for both platforms, in the plain registry; the amd64 one must be there."""
    key = _key()
    if publisher.done(MULTI, key):
        return
    with part(f"image {MULTI}"):
        base, python = publisher.reference(DEBIAN), publisher.reference(PYTHON)
        bases.debian_image(bases.BOOKWORM_ARM64, base, publisher.host)
        bases.python_image(bases.BOOKWORM_ARM64, base, python, publisher.host)
        publisher.push(PYTHON, key)
        sources = [publisher.reference(images.PYTHON311), python]
        argv = ["docker", "buildx", "imagetools", "create", "--tag", publisher.reference(MULTI), *sources]
        run(argv, env={"DOCKER_HOST": publisher.host, "BUILDX_BUILDER": ""})
        publisher.remember(MULTI, key)


def done(publisher: images.Publisher) -> bool:
    """Tell whether the two-platform base is there and its arm64 side runs."""
    return HANDLER.exists() and publisher.done(MULTI, _key())


def _key() -> str:
    both = bases.key(bases.BOOKWORM) + bases.key(bases.BOOKWORM_ARM64)
    return hashlib.sha256(both.encode()).hexdigest()[:16]
