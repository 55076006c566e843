"""What the tests of the buildpacks builder share."""

from __future__ import annotations

import os
import subprocess
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from imagesmith import Event, ImageSpec, StepLog, StepStarted
from imagesmith.stores import StoredImage
from imagesmith.stores.registry import open_repository
from tests.rig.state import Rig

RUN = uuid.uuid4().hex[:8]
PACKAGES = ("humanize==4.9.0", "six==1.16.0")
LIFECYCLE = "io.buildpacks.lifecycle.metadata"
SAYS = "import humanize, os, six; print(six.__version__, os.environ['IMAGESMITH_ID'], os.environ['ASKED'])"


@dataclass
class Told:
    """What a build reports."""

    events: list[Event] = field(default_factory=list)

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    @property
    def lines(self) -> str:
        return "".join(f"{event.line}\n" for event in self.events if isinstance(event, StepLog))

    @property
    def steps(self) -> list[str]:
        return [event.name for event in self.events if isinstance(event, StepStarted)]


def spec_of(name: str, registry: str | None, **changes: Any) -> ImageSpec:
    return ImageSpec(
        **{
            "name": name,
            "registry": registry,
            "python_version": "3.11",
            "packages": PACKAGES,
            "env": {"ASKED": "it's $HOME"},
            **changes,
        }
    )


def stored(reference: str, environment: dict[str, str], config: Path | None = None) -> StoredImage:
    repository, _, tag = reference.rpartition(":")
    with open_repository(repository, environment, config) as store:
        image = store.read(tag, "linux/amd64")
    assert image is not None
    return image


def labels(image: StoredImage) -> dict[str, Any]:
    config: Any = image.config["config"]
    return dict(config["Labels"])


def layers(image: StoredImage) -> list[str]:
    assert image.manifest is not None
    entries: Any = image.manifest["layers"]
    return [entry["digest"] for entry in entries]


def pack(rig: Rig, folder: Path, *arguments: str | Path) -> str:
    """Run it; ``folder`` holds all that it keeps."""
    assert rig.cnb is not None
    assert rig.cnb.pack is not None
    env = {
        **os.environ,
        "DOCKER_HOST": rig.docker_host,
        "PACK_HOME": str(folder / "pack"),
        "DOCKER_CONFIG": str(folder / "docker"),
    }
    argv = [rig.cnb.pack, *map(str, arguments)]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
