"""Requests to render, and the labels of builder images as their makers publish them, shortened."""

from __future__ import annotations

import json
from typing import Any

from imagesmith import BaseImage, BuildRequest, ImageSpec, LocalEngine
from imagesmith.sources import Staged

DIGEST = "sha256:" + "0" * 64
PYTHON = {
    "os": "linux",
    "architecture": "amd64",
    "config": {"Env": ["PATH=/usr/local/bin:/usr/bin:/bin", "PYTHON_VERSION=3.11.2"], "User": "app:app"},
}


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


def builder_config(
    buildpacks: dict[str, str],
    order: list[list[dict[str, Any]]],
    *,
    images: list[dict[str, Any]] | None = None,
    lifecycle: str = "0.20.5",
    platform: tuple[str, ...] = ("0.7", "0.12", "0.13", "0.14"),
    user: tuple[str, str] | None = ("1002", "1000"),
    labels: dict[str, str] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """The configuration document of a builder image."""
    metadata = {
        "buildpacks": [{"id": name, "version": version} for name, version in buildpacks.items()],
        "images": images or [],
        "lifecycle": {"version": lifecycle, "apis": {"platform": {"supported": list(platform)}}},
        **more,
    }
    env = [f"CNB_USER_ID={user[0]}", f"CNB_GROUP_ID={user[1]}"] if user else []
    return {
        "os": "linux",
        "architecture": "amd64",
        "config": {
            "Env": ["PATH=/bin", *env],
            "Labels": {
                "io.buildpacks.builder.metadata": json.dumps(metadata),
                "io.buildpacks.buildpack.order": json.dumps([{"group": group} for group in order]),
                **(labels or {}),
            },
        },
    }


def entry(name: str, *, optional: bool = False) -> dict[str, Any]:
    return {"id": name, "optional": True} if optional else {"id": name}


PAKETO = builder_config(
    {
        "paketo-buildpacks/java": "18.8.0",
        "paketo-buildpacks/python": "2.29.2",
        "paketo-buildpacks/ca-certificates": "3.10.4",
        "paketo-buildpacks/procfile": "5.11.2",
    },
    [
        [entry("paketo-buildpacks/java")],
        [entry("paketo-buildpacks/python")],
        [entry("paketo-buildpacks/procfile")],
    ],
    images=[
        {
            "image": "index.docker.io/paketobuildpacks/run-jammy-base:latest",
            "mirrors": ["gcr.io/paketo-buildpacks/run:base-jammy"],
        }
    ],
    labels={"io.buildpacks.base.distro.name": "ubuntu", "io.buildpacks.base.distro.version": "22.04"},
)
HEROKU = builder_config(
    {
        "heroku/nodejs": "5.0.0",
        "heroku/python": "6.5.6",
        "heroku/procfile": "4.2.1",
        "heroku/deb-packages": "0.3.0",
    },
    [
        [
            entry("heroku/deb-packages", optional=True),
            entry("heroku/python"),
            entry("heroku/procfile", optional=True),
        ],
        [entry("heroku/nodejs")],
    ],
    images=[{"image": "docker.io/heroku/heroku:24", "mirrors": ["public.ecr.aws/heroku/heroku:24"]}],
)
GOOGLE = builder_config(
    {
        "google.python.runtime": "0.9.1",
        "google.python.pip": "0.9.2",
        "google.config.entrypoint": "0.9.0",
        "google.utils.label-image": "0.0.2",
        "google.go.runtime": "0.9.1",
    },
    [
        [
            entry("google.python.runtime"),
            entry("google.python.pip", optional=True),
            entry("google.config.entrypoint"),
        ]
    ],
    stack={"runImage": {"image": "gcr.io/buildpacks/google-22/run"}},
    lifecycle="0.21.14",
    user=("33", "33"),
)
OWN = builder_config(
    {"me/tools": "1", "me/python": "2"}, [[entry("me/tools", optional=True), entry("me/python")]]
)
