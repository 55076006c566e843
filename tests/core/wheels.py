"""Tiny wheels, written by hand, for tests that need something really installed."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path


def write_wheel(
    folder: Path,
    name: str,
    version: str = "1.0",
    *,
    files: Mapping[str, str],
    entry_points: Mapping[str, str] | None = None,
) -> Path:
    """A pure wheel with those files and those entry points in the group ``imagesmith``."""
    stem = f"{name.replace('-', '_')}-{version}"
    info = f"{stem}.dist-info"
    members = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    if entry_points:
        lines = "".join(f"{key} = {value}\n" for key, value in entry_points.items())
        members[f"{info}/entry_points.txt"] = f"[imagesmith]\n{lines}"
    record = "".join(f"{member},,\n" for member in [*members, f"{info}/RECORD"])
    path = folder / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for member, text in {**members, f"{info}/RECORD": record}.items():
            wheel.writestr(member, text)
    return path


def install(target: Path, *wheels: Path) -> None:
    """Install into a folder, as pip's ``--target`` does; the network is not asked."""
    argv = [
        sys.executable,
        "-m",
        "uv",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--target",
        str(target),
    ]
    subprocess.run([*argv, *map(str, wheels)], check=True, capture_output=True)
