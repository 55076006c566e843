"""``uv.lock``: its format is uv's own, so uv exports it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Final

from imagesmith._urls import strip_credentials
from imagesmith.errors import SourceError
from imagesmith.locks.pins import Locked, Pin, check_python, editable_note, read_text

if TYPE_CHECKING:
    from pathlib import Path

    from imagesmith.spec import ImageSpec

__all__ = ["find_uv", "read_uv"]

_EXPORT: Final = "uv export --frozen --no-dev --no-emit-project --output-file requirements.txt"
_ARGUMENTS: Final = (
    "export", "--frozen", "--offline", "--no-dev", "--no-emit-project", "--no-config", "--no-cache",
    "--no-progress", "--color", "never",
)  # fmt: skip
_SECONDS: Final = 60
"""it takes some hundredths"""
_KEPT: Final = ("HOME", "PATH", "TMPDIR")
"""of the environment: uv's own variables could choose another project, python or index"""


def read_uv(file: Path, text: str, shown: str, spec: ImageSpec) -> Locked:
    """The project's dependencies and default groups, without ``dev``. Raises SourceError.

    The ``pyproject.toml`` beside the lock file decides what that is.
    """
    project = file.with_name("pyproject.toml")
    if not project.is_file():
        raise SourceError(
            f"{shown}: there is no pyproject.toml beside it, which says what of it is wanted",
            hint="keep the two together",
        )
    requires = re.search(r'^requires-python = "([^"]*)"$', text, re.MULTILINE)
    check_python(requires[1] if requires else None, shown, spec)
    basis = f"{text}\0{read_text(project, shown)}"
    exported = _export(file.parent, shown)
    editable = re.compile(r"^-e (?=(\S+))", re.MULTILINE)
    notes = [editable_note(path, shown) for path in editable.findall(exported)]
    text_lines = editable.sub("", exported).replace(" \\\n", "").splitlines()
    split = [re.split(r" +--hash=", line) for line in text_lines if not re.match(r"\s*#", line)]
    pins = [Pin(requirement, tuple(hashes)) for requirement, *hashes in split]
    return Locked(tuple(pins), basis, tuple(notes))


def find_uv() -> str | None:
    """The uv binary of the PyPI package ``uv``, else the one on PATH."""
    try:
        from uv import find_uv_bin  # noqa: PLC0415 - a package that may be absent

        return find_uv_bin()
    except (ImportError, FileNotFoundError):
        return shutil.which("uv")


def _export(folder: Path, shown: str) -> str:
    """The lock file as requirements."""
    uv = find_uv()
    if uv is None:
        raise SourceError(
            f"{shown}: only uv reads it, and there is no uv here",
            hint=f"pip install uv, or export it where uv is and name that file: {_EXPORT}",
        )
    environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
    try:
        done = subprocess.run(
            [uv, *_ARGUMENTS],
            cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=_SECONDS,
            check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SourceError(
            f"{shown}: {uv} cannot export it: {error}", hint=f"see what this does in its folder: {_EXPORT}"
        ) from error
    if done.returncode:
        said = strip_credentials(done.stderr.decode(errors="replace")).strip().removeprefix("error: ")
        raise SourceError(
            f"{shown}: {uv} cannot export it: {said}",
            hint="use the version of uv that wrote it, or lock again (uv lock) with this one",
        )
    return done.stdout.decode()
