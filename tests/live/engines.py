"""The rig's two engines as stores, and small images to finish."""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from imagesmith.stores.local import LocalStore, connect
from tests.rig import engine as rig_engine
from tests.rig.state import Rig

KINDS = ("containerd", "classic")


@dataclass
class Engine:
    """One engine; images made through it are removed at the end."""

    host: str
    store: LocalStore
    env: dict[str, str]
    made: list[str] = field(default_factory=list)

    def docker(self, *arguments: str) -> str:
        done = subprocess.run(
            ["docker", *arguments], env=self.env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def name(self) -> str:
        """A name of its own for an image."""
        made = f"imagesmith-test-{uuid.uuid4().hex[:12]}:latest"
        self.made.append(made)
        return made

    def image(self, folder: Path, dockerfile: str) -> str:
        """Build one."""
        (folder / "Dockerfile").write_text(dockerfile)
        name = self.name()
        self.docker("buildx", "build", "-q", "--provenance=false", "-t", name, str(folder))
        return name

    def keep_track(self, digest: str) -> str:
        self.made.append(digest)
        return digest

    def inspect(self, ref: str) -> dict[str, object]:
        found: dict[str, object] = json.loads(self.docker("image", "inspect", ref))[0]
        return found

    def alike(self, ref: str) -> set[str]:
        """The ids of all images that have the layers of this one; others come and go meanwhile."""
        argv = ["docker", "image", "inspect", *self.docker("images", "-aq", "--no-trunc").split()]
        done = subprocess.run(argv, env=self.env, capture_output=True, text=True, check=False)
        layers = self.inspect(ref)["RootFS"]
        return {image["Id"] for image in json.loads(done.stdout) if image["RootFS"] == layers}


@contextmanager
def open_engine(rig: Rig, kind: str) -> Iterator[Engine]:
    host = rig.docker_host if kind == "containerd" else rig.docker_host_classic
    if host is None:
        pytest.skip("no second engine here: the machine's own is used")
    env = {**os.environ, "DOCKER_HOST": host}
    engine = Engine(host, LocalStore(connect(env)), env)
    try:
        yield engine
    finally:
        names = [ref for ref in engine.made if not ref.startswith("sha256:")]
        rig_engine.remove(host, names)
        for digest in set(engine.made) - set(names):
            engine.store.discard(digest)
        engine.store.close()
