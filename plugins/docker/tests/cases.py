"""Requests to render."""

from __future__ import annotations

from typing import Any

from imagesmith import BaseImage, BuildRequest, ImageSpec, LocalEngine
from imagesmith.sources import Staged

DIGEST = "sha256:" + "0" * 64
PYTHON = {
    "config": {"Env": ["PATH=/usr/local/bin:/usr/bin:/bin", "PYTHON_VERSION=3.11.2"], "User": "app:app"}
}
DEBIAN: dict[str, Any] = {"config": {}}


def request(spec: ImageSpec, staged: Staged | None = None, config: dict[str, Any] = PYTHON) -> BuildRequest:
    staged = staged or Staged(has_runtime=True)
    return BuildRequest(
        spec=spec,
        platform="linux/amd64",
        base=BaseImage("docker.io/library/python:3.11-slim", DIGEST, config),
        destination=LocalEngine("x:staging"),
        staged=staged,
        secrets=staged.secrets,
    )


def requirements(*lines: str, **more: Any) -> Staged:
    text = "".join(f"{line}\n" for line in lines)
    texts = {"requirements/imagesmith.txt": text}
    return Staged(has_requirements=True, has_runtime=True, texts=texts, **more)
