"""Runs apt and commands over an image of the rig, as whoever starts it: a job in, lines of JSON out."""

from __future__ import annotations

import io
import json
import os
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from imagesmith import (
    BaseImage,
    BuildRequest,
    Contribution,
    Environment,
    Event,
    ImagesmithError,
    ImageSpec,
    RegistryRepository,
    StepLog,
    StepStarted,
    SubprocessRunner,
)
from imagesmith.sources import Staged
from imagesmith.stores.registry import RegistryStore, open_repository
from imagesmith_oci.inside.layers import Layers
from imagesmith_oci.userns import Lower, apt_steps, available, command_steps, run_steps


def main() -> None:
    os.umask(int(os.environ.get("WANTED_UMASK", "022"), 8))
    job = json.load(sys.stdin)
    cache = Path(job["cache"])
    cache.mkdir(exist_ok=True)
    environment = Environment(SubprocessRunner(), dict(os.environ), cache)
    if job["task"] == "available":
        found = available(environment, job.get("platform"))
        say(ok=found.ok, problem=found.problem, hint=found.hint, details=found.details)
        return
    try:
        say(layers=run(job, environment))
    except ImagesmithError as error:
        say(
            error=type(error).__name__,
            message=error.message,
            hint=error.hint,
            tail=list(getattr(error, "tail", ())),
            returncode=getattr(error, "returncode", None),
        )


def run(job: dict[str, Any], environment: Environment) -> list[dict[str, Any]]:
    """The layers that come on top of the base: those of the job, then what was installed and changed."""
    platform = job.get("platform", "linux/amd64")
    spec = ImageSpec(
        name="userns",
        apt_packages=job.get("apt", ()),
        commands=job.get("commands", ()),
        env=job.get("env", {}),
        build_env=job.get("build_env", {}),
    )
    lowers: list[Lower] = []
    base = BaseImage("scratch")
    if job.get("image"):
        store, image = find(job["image"], platform)
        layers: list[dict[str, Any]] = list((image.manifest or {})["layers"])  # type: ignore[call-overload]
        ids = image.config["rootfs"]["diff_ids"]  # type: ignore[index]
        lowers = [
            Lower(diff_id, opener(store, str(layer["digest"])))
            for diff_id, layer in zip(ids, layers, strict=True)
        ]
        base = BaseImage(job["image"], image.digest, image.config, manifest=image.manifest or {})
    request = BuildRequest(spec, platform, base, RegistryRepository("r:5000/x"), Staged())
    made = []
    for entries in job.get("layers", ()):
        tar = Path(job["folder"], f"given-{len(made)}.tar")
        tar.write_bytes(archive(entries))
        diff_id = f"sha256:{len(made)}{os.getpid()}"
        lowers.append(Lower(diff_id, lambda tar=tar: tar.open("rb"), keep=False))
        made.append({"tar": str(tar)})
    for name, steps in (
        ("apt", apt_steps(request, Contribution(), environment.env)),
        ("commands", command_steps(request, Contribution())),
    ):
        if not steps:
            continue
        tar = Path(job["folder"], f"{name}.tar")
        got = run_steps(environment, platform, lowers, steps, report, into=tar)
        made.append({"tar": str(tar), "diff_id": got.diff_id, "size": got.size, "entries": got.entries})
        assert got.entries == 0 or Layers(str(next((environment.cache_dir / "userns").iterdir()))).find(
            got.diff_id
        )
        lowers.append(Lower(got.diff_id, lambda tar=tar: tar.open("rb")))
    return made


def find(reference: str, platform: str) -> tuple[RegistryStore, Any]:
    repository, _, tag = reference.rpartition(":")
    store = open_repository(repository, {**os.environ, "DOCKER_HOST": "tcp://127.0.0.1:1"})
    image = store.read(tag, platform)
    assert image is not None
    return store, image


def opener(store: RegistryStore, digest: str) -> Callable[[], Any]:
    return lambda: store.open_blob(digest)


def archive(entries: list[dict[str, Any]]) -> bytes:
    """``name``, and what a TarInfo has; ``text`` for a file."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as file:
        for given in entries:
            entry = tarfile.TarInfo(given["name"])
            kinds = {"folder": tarfile.DIRTYPE, "link": tarfile.SYMTYPE, "hard": tarfile.LNKTYPE}
            entry.type = kinds.get(given.get("kind", ""), tarfile.REGTYPE)
            entry.mode = given.get("mode", 0o755 if entry.isdir() else 0o644)
            entry.uid, entry.gid = given.get("uid", 0), given.get("gid", 0)
            entry.linkname = given.get("to", "")
            entry.mtime = 315_619_200
            data = given.get("text", "").encode()
            entry.size = len(data)
            file.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def report(event: Event) -> None:
    if isinstance(event, StepStarted):
        say(started=event.name)
    elif isinstance(event, StepLog):
        say(line=event.line)


def say(**what: object) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    main()
