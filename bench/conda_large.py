"""What a large conda environment costs with the docker builder: time, memory, and copies on the way.

    make rig && python bench/conda_large.py [megabytes] [registry]

Dummy packages of random bytes (1000 files for each 200 MB) and a stand-in python are solved and laid out
from a channel made here, twice: with nothing known, and with full caches. They go to the rig's engine, or
(with a registry) to the builder in use and from there to that registry: ``BUILDX_BUILDER`` and what else the
environment says of builders counts. Needs ``zstd``, and room for four times the size.

"on disk" is what the cache of packages and the files laid out for the build take together, each inode
counted once. Files that were copied would count twice.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.live import channel
from tests.rig import state

from imagesmith import ImageSpec, Phase, StepDone, StepStarted, build
from imagesmith.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

EACH = 50 * 1000 * 1000
FILE = 200 * 1000
MEGA = 1000 * 1000


def main(megabytes: int = 2000, registry: str | None = None) -> None:
    """Make the channel, build twice, print."""
    with tempfile.TemporaryDirectory(prefix="conda-large-") as name:
        top = Path(name)
        names = make_channel(top / "channel", megabytes)
        size = sum(each.stat().st_size for each in (top / "channel").rglob("*.conda"))
        print(f"{len(names)} packages, {size / MEGA:.0f} MB in the channel")
        for title in ("nothing known", "the same again"):
            done = subprocess.run(
                [sys.executable, __file__, "--once", str(top), registry or "", *names],
                env={**os.environ, "TMPDIR": str(top)},
                stdout=subprocess.PIPE,
                check=True,
            )
            print(f"\n{title}")
            for what, value in json.loads(done.stdout).items():
                print(f"  {what:40} {value}")


def make_channel(folder: Path, megabytes: int) -> list[str]:
    """Random packages in the format that conda-forge has. Returns their names."""
    names = [f"large{number:03}" for number in range(max(1, megabytes * MEGA // EACH))]
    (folder / "linux-64").mkdir(parents=True)
    for name in names:
        files: dict[str, bytes | str] = {
            f"share/{name}/file{number:03}": os.urandom(FILE) for number in range(EACH // FILE)
        }
        write_conda(folder / "linux-64", channel.Package(name, files=files))
    channel.make(folder, channel.python())
    return names


def write_conda(folder: Path, package: channel.Package) -> None:
    """A ``.conda`` file: a ZIP of two archives that are compressed with zstd."""
    stem = f"{package.name}-{package.version}-{package.build}"
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        for path, data in {**package.files, **channel._info(package)}.items():
            file = scratch / "files" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data if isinstance(data, bytes) else data.encode())
        with zipfile.ZipFile(folder / f"{stem}.conda", "w", zipfile.ZIP_STORED) as archive:
            archive.writestr("metadata.json", json.dumps({"conda_pkg_format_version": 2}))
            for kind, parts in (("pkg", ["share"]), ("info", ["info"])):
                tar = scratch / f"{kind}-{stem}.tar.zst"
                argv = ["tar", "--zstd", "-cf", str(tar), "-C", str(scratch / "files"), *parts]
                subprocess.run(argv, check=True)
                archive.write(tar, tar.name)


def once(top: Path, registry: str, names: list[str]) -> None:
    """One build, in a process of its own: it prints what it cost."""
    rig = state.load()
    env = {
        **os.environ,
        "IMAGESMITH_BASE_IMAGE": f"{rig.registry}/library/debian:bookworm",
        "IMAGESMITH_CACHE_DIR": str(top / "cache"),
        "IMAGESMITH_CONDA_FORGE": f"file://{top / 'channel'}",
    }
    if not registry:
        env["DOCKER_HOST"] = rig.docker_host
    spec = ImageSpec(
        name=top.name.lower().replace("_", "x"),
        registry=registry or None,
        base_image=rig.images.debian,
        python_version=channel.RUNNING.rpartition(".")[0],
        conda_packages=names,
        commands=["test $(ls /opt/conda/share | wc -l) = " + str(len(names))],
    )
    seconds: dict[str, float] = {}
    steps: dict[str, str] = {}
    found: dict[str, object] = {}
    now, began = ["checking"], [time.monotonic()]

    def report(event: object) -> None:
        if isinstance(event, Phase):
            seconds[now[0]] = seconds.get(now[0], 0.0) + time.monotonic() - began[0]
            if event.name == "building":
                found["on disk, each inode once (MB)"] = round(sum(inodes(top).values()) / MEGA)
                found["laid out (MB)"] = round(sum(size for _, size in walk(top, "share")) / MEGA)
            now[0], began[0] = event.name, time.monotonic()
        elif isinstance(event, StepStarted):
            steps[event.id] = event.name
        elif isinstance(event, StepDone):
            told = "cached" if event.cached else f"{event.seconds:.1f}" if event.seconds else "-"
            found[f"  step: {steps[event.id][:30]}"] = told

    result = build(spec, builder="docker", settings=load_settings(top, env), report=report, force=True)
    seconds[now[0]] = time.monotonic() - began[0]
    told = {f"{phase} (s)": round(value, 1) for phase, value in seconds.items()}
    told["whole (s)"] = round(result.seconds, 1)
    told["most memory, this process (MB)"] = rss(resource.RUSAGE_SELF)
    told["most memory, docker or buildx (MB)"] = rss(resource.RUSAGE_CHILDREN)
    print(json.dumps({**told, **found}))
    if not registry:
        subprocess.run(["docker", "rmi", "-f", result.reference], env=env, stdout=sys.stderr, check=True)


def rss(who: int) -> int:
    """In MB; Linux counts in kB."""
    return round(resource.getrusage(who).ru_maxrss / 1000)


def walk(top: Path, part: str) -> Iterator[tuple[tuple[int, int], int]]:
    """Inode and size of each file of the dummy packages that was laid out for this build."""
    for path in top.glob(f"imagesmith-*/**/{part}/large*/*"):
        info = path.lstat()
        yield (info.st_dev, info.st_ino), info.st_size


def inodes(top: Path) -> dict[tuple[int, int], int]:
    """Of all that the dummy packages take: unpacked in the cache, and laid out for this build."""
    found = dict(walk(top, "share"))
    for path in (top / "cache").glob("**/share/large*/*"):
        info = path.lstat()
        found[(info.st_dev, info.st_ino)] = info.st_size
    return found


if __name__ == "__main__":
    if sys.argv[1:2] == ["--once"]:
        once(Path(sys.argv[2]), sys.argv[3], sys.argv[4:])
    elif shutil.which("zstd") is None:
        sys.exit("this needs the program zstd")
    else:
        main(*(int(word) for word in sys.argv[1:2]), *sys.argv[2:3])
