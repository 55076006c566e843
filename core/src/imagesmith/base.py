"""What a base image's configuration says about its python. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from imagesmith.builder import BaseImage
    from imagesmith.spec import ImageSpec

__all__ = [
    "RUNTIME_FLOOR",
    "PythonSource",
    "base_environment",
    "has_folder_on_path",
    "python_fits",
    "python_mismatch",
    "python_source",
    "runs_imagesmith",
    "stated_python",
]

RUNTIME_FLOOR = (3, 11)
"""The oldest python that imports imagesmith."""


def base_environment(config: Mapping[str, object]) -> dict[str, str]:
    """The environment in an OCI image configuration document."""
    inner = config.get("config")
    env = inner.get("Env") if isinstance(inner, Mapping) else None
    pairs = (str(item).partition("=") for item in env or ())
    return {key: value for key, _, value in pairs}


def stated_python(base: BaseImage) -> str | None:
    """The python version that the base says it carries (official images do, in PYTHON_VERSION)."""
    return base_environment(base.config).get("PYTHON_VERSION") or None


def python_fits(version: str, wanted: str) -> bool:
    """Whether ``3.11.7`` is what ``3.11`` or ``3.11.7`` asks for."""
    have, want = version.split("."), wanted.split(".")
    return have[: len(want)] == want


def python_mismatch(base: BaseImage, wanted: str | None) -> str | None:
    """Why the base's python is not the wanted one, where its configuration says so; else None."""
    stated = stated_python(base)
    if wanted is None or stated is None or python_fits(stated, wanted):
        return None
    return f"the base {base.reference} carries python {stated}, the spec asks for {wanted}"


PythonSource: TypeAlias = Literal["base", "conda", "venv"]


def python_source(spec: ImageSpec, base: BaseImage) -> PythonSource:
    """Which python an image gets, for all builders.

    ``base``: the base's own, which is stated and fits. ``conda``: one that is laid out, for the conda
    packages or because the stated one is another than asked for. ``venv``: a virtual environment over the
    base's, checked in the build, where the base does not say.
    """
    if spec.conda_packages or python_mismatch(base, spec.python_version):
        return "conda"
    if stated_python(base) is not None:
        return "base"
    return "conda" if spec.cuda else "venv"  # the public images with CUDA have no python


def has_folder_on_path(base: BaseImage, folder: str) -> bool:
    """Whether the base's PATH names the folder."""
    return folder in base_environment(base.config).get("PATH", "").split(":")


def runs_imagesmith(version: str | None) -> bool:
    """Whether a python of that version imports imagesmith; True where nothing is known of it."""
    if version is None:
        return True
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
    return len(numbers) < 2 or numbers >= RUNTIME_FLOOR
