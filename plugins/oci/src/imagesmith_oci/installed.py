"""What a conda environment has of Python packages already: those are kept, as pip would keep them.

uv installs nothing here, so it cannot see them. It is told of each as a version that is wanted, and of a
wheel that holds nothing but the package's own metadata, so that no index has to know it.
"""

from __future__ import annotations

import re
import zipfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["FOLDER", "found_in", "write_stubs"]

FOLDER = "installed"
_WHEEL = "Wheel-Version: 1.0\nGenerator: imagesmith\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def found_in(environment: Path) -> dict[str, tuple[str, str]]:
    """Canonical name -> version and metadata of the packages in its python."""
    found = {}
    for metadata in sorted(environment.glob("lib/python3.*/site-packages/*.dist-info/METADATA")):
        text = metadata.read_text(encoding="utf-8", errors="replace")
        head = text.partition("\n\n")[0]
        name = re.search(r"^Name:\s*(\S+)", head, re.MULTILINE)
        version = re.search(r"^Version:\s*(\S+)", head, re.MULTILINE)
        if name and version:
            found[re.sub(r"[-_.]+", "-", name[1]).lower()] = (version[1], text)
    return found


def write_stubs(installed: Mapping[str, tuple[str, str]], folder: Path) -> None:
    """Write what uv is told: wheels, and a file of constraints."""
    folder.mkdir()
    for name, (version, text) in installed.items():
        stem = f"{name.replace('-', '_')}-{version}"
        with zipfile.ZipFile(folder / f"{stem}-py3-none-any.whl", "w") as archive:
            archive.writestr(f"{stem}.dist-info/METADATA", text)
            archive.writestr(f"{stem}.dist-info/WHEEL", _WHEEL)
            archive.writestr(f"{stem}.dist-info/RECORD", "")
    lines = [f"{name}=={version}\n" for name, (version, _) in sorted(installed.items())]
    (folder / "constraints.txt").write_text("".join(lines), encoding="utf-8")
