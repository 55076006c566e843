"""Which public base image has a CUDA version. Pure.

Source: the tag lists of NVIDIA's container images (``doc/supported-tags.md`` and ``unsupported-tags.md`` of
its repository ``container-images/cuda``). Up to CUDA 12.3 a tag names cuDNN's major version, from 12.4.1
on it says ``cudnn`` alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from imagesmith.errors import UsageError

__all__ = ["REPOSITORY", "cuda_image"]

REPOSITORY = "docker.io/nvidia/cuda"


@dataclass(frozen=True, slots=True)
class _Release:
    """The last patch version of a minor one, and the cuDNN that its images carry."""

    latest: str
    cudnn: int
    word: str
    system: str = "ubuntu22.04"


_RELEASES = {
    "11.8": _Release("11.8.0", 8, "cudnn8"),
    "12.0": _Release("12.0.1", 8, "cudnn8"),
    "12.1": _Release("12.1.1", 8, "cudnn8"),
    "12.2": _Release("12.2.2", 8, "cudnn8"),
    "12.3": _Release("12.3.2", 9, "cudnn9"),
    "12.4": _Release("12.4.1", 9, "cudnn"),
    "12.5": _Release("12.5.1", 9, "cudnn"),
    "12.6": _Release("12.6.3", 9, "cudnn"),
    "12.8": _Release("12.8.1", 9, "cudnn"),
    "12.9": _Release("12.9.1", 9, "cudnn"),
}


def cuda_image(cuda: str, cudnn: str | None, repository: str = REPOSITORY) -> str:
    """The reference of the runtime image with this CUDA (``12.4`` or ``12.4.1``) and, if asked for, cuDNN.

    Raises:
        UsageError: no public image is known for it, or none with that cuDNN.
    """
    minor = ".".join(cuda.split(".")[:2])
    release = _RELEASES.get(minor)
    if release is None:
        raise UsageError(
            f"no public image is known with CUDA {cuda}; known: {', '.join(_RELEASES)}",
            hint="name the image as base_image instead of cuda",
        )
    version = cuda if cuda.count(".") == 2 else release.latest
    if cudnn is None:
        return f"{repository}:{version}-runtime-{release.system}"
    if cudnn.split(".")[0] != str(release.cudnn):
        raise UsageError(
            f"the images of CUDA {minor} carry cuDNN {release.cudnn}, the spec asks for {cudnn}",
            hint=f"ask for cudnn='{release.cudnn}', or name the image as base_image",
        )
    return f"{repository}:{version}-{release.word}-runtime-{release.system}"
