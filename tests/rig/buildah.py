"""buildah, for the example of a foreign builder: it has no daemon, so it is only installed."""

from __future__ import annotations

import shutil
from pathlib import Path

from .state import uses_public_images

PACKAGES = ("buildah",)


def missing() -> str | None:
    """Return why it cannot be used here, or None."""
    if shutil.which("buildah"):
        return None
    how = "install it (apt-get install buildah)" if uses_public_images() else "python3 -m tests.rig up"
    return f"buildah is not on PATH: {how}"


def storage(folder: Path) -> dict[str, str]:
    """Return the variables that keep all it stores in ``folder``, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "storage.conf"
    places = f'graphroot = "{folder / "graph"}"\nrunroot = "{folder / "run"}"\n'
    file.write_text(f'[storage]\ndriver = "overlay"\n{places}', encoding="utf-8")
    return {"CONTAINERS_STORAGE_CONF": str(file)}
