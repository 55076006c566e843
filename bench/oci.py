"""The oci builder beside the docker one, hand-written Dockerfiles through buildx, and buildah.

    make rig-all && .venv/bin/python bench/oci.py [--rounds N] [--large MEGABYTES] [--only PART ...]

Whole processes, in turns in one run, each pushed to the rig's registry. Every cold build starts after
``docker builder prune -af``: run it alone. Writes bench/RESULTS_OCI.md from what it measured, and for the
parts that it was told to leave out from what an earlier run left in bench/results_oci.json.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from support.contest import (
    HAND,
    PACKAGES,
    Builds,
    Project,
    by_hand,
    docker,
    lent_uv,
    ours,
    run,
    write_dockerfile,
)
from support.slow_proxy import slow_proxy
from tests.rig import state

PARTS = ("turns", "delayed", "platforms", "large")
CASES = ("cold", "nothing changed", "one source edit", "one package added")
PLATFORMS = "two platforms"
LARGE = "large packages"
KEPT = HERE / "results_oci.json"
DELAY = 0.05
WHEEL = b"Wheel-Version: 1.0\nGenerator: bench\nRoot-Is-Purelib: true\nTag: py3-none-any\n"

Found = dict[str, dict[str, list[float]]]


def change(project: Project, case: str) -> None:
    match case:
        case "one source edit":
            project.edit()
        case "one package added":
            project.packages = [*project.packages, "attrs"]


def buildah(name: str, folder: Path, uv_folder: Path) -> Builds | None:
    """With the same Dockerfile, less what buildah does not have; its cache does not see bound files."""
    if shutil.which("buildah") is None:
        print("buildah is not installed: left out")
        return None
    storage = ["buildah", "--root", str(folder / "root"), "--runroot", str(folder / "runroot")]
    storage += ["--storage-driver", "overlay"]

    def build(project: Project) -> str:
        write_dockerfile(project, name, HAND, "")
        file = project.folder / "Dockerfile"
        listed = hashlib.sha256((project.folder / "requirements.txt").read_bytes()).hexdigest()
        text = file.read_text().replace("UV_LINK_MODE", f"LIST={listed} UV_LINK_MODE")
        file.write_text(text.replace("--link ", "").replace("source=uv,", "source=/uv,"))
        argv = [*storage, "build", "-q", "--layers", "--isolation", "chroot", "--tls-verify=false"]
        run([*argv, "--build-context", f"uv={uv_folder}", "-t", name, "."], project.folder)
        run([*storage, "push", "-q", "--tls-verify=false", name], project.folder)
        return name

    return build


BY = ("imagesmith oci", "imagesmith docker", "buildx, default gzip", "buildx, zstd", "buildah")
chosen_ones: list[str] = list(BY)


def contestants(
    number: int, folder: Path, registry: str, base: str, uv_folder: Path
) -> Iterator[tuple[str, Builds]]:
    """Those that were asked for."""
    for who, builds in everyone(number, folder, registry, base, uv_folder):
        if who in chosen_ones:
            yield who, builds


def everyone(
    number: int, folder: Path, registry: str, base: str, uv_folder: Path
) -> Iterator[tuple[str, Builds]]:
    env = {
        **os.environ,
        "IMAGESMITH_BASE_IMAGE": base,
        "IMAGESMITH_CACHE_DIR": str(folder / f"cache-{number}"),
        "UV_CACHE_DIR": str(folder / f"uv-cache-{number}"),
    }
    run_name = f"bench-{os.getpid()}-{number}"
    place = f"{registry}/{run_name}"
    yield "imagesmith oci", ours("oci", "oci", env, place)
    yield "imagesmith docker", ours("docker", "docker", env, place)
    push = "type=image,push=true,oci-mediatypes=true"
    yield "buildx, default gzip", by_hand(f"{place}/gzip:1", HAND, "", uv_folder, "type=image,push=true")
    yield "buildx, zstd", by_hand(f"{place}/zstd:1", HAND, "", uv_folder, f"{push},compression=zstd")
    if other := buildah(f"{place}/buildah:1", folder / f"buildah-{number}", uv_folder):
        yield "buildah", other


def wheels(folder: Path, megabytes: int) -> list[str]:
    """Wheels of 50 MB each, in that folder: half of what they hold can be squeezed out."""
    folder.mkdir()
    names = []
    for number in range(megabytes // 50):
        name = f"large{number}"
        path = folder / f"{name}-1.0-py3-none-any.whl"
        info = f"{name}-1.0.dist-info"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as wheel:
            held = {
                f"{name}/__init__.py": b"",
                f"{name}/data.bin": os.urandom(25_000_000).hex().encode(),
                f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n".encode(),
                f"{info}/WHEEL": WHEEL,
            }
            record = ""
            for file, data in held.items():
                wheel.writestr(file, data)
                digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
                record += f"{file},sha256={digest},{len(data)}\n"
            wheel.writestr(f"{info}/RECORD", f"{record}{info}/RECORD,,\n")
        names.append(path.name)
    return names


def timed(builds: Builds, project: Project) -> float:
    started = time.perf_counter()
    builds(project)
    return time.perf_counter() - started


def peak_megabytes(project: Project, env: Mapping[str, str]) -> float:
    """Of the builder's process itself, which starts uv and nothing larger; from an empty cache.

    Not ``ru_maxrss``: that of a new process begins at what its parent had.
    """
    script = "import sys; from imagesmith.cli import main; "
    script += "sys.argv[1:] = ['build', 'spec.json', '--builder', 'oci', '--progress', 'quiet', '--force']\n"
    script += "failed = main()\n"
    script += "peak = next(line for line in open('/proc/self/status') if line.startswith('VmHWM'))\n"
    script += "print(failed, peak.split()[1], file=sys.stderr)"
    argv = [sys.executable, "-c", script]
    done = subprocess.run(argv, cwd=project.folder, env=env, capture_output=True, text=True, check=True)
    failed, peak = done.stderr.split()[-2:]
    if failed != "0":
        raise SystemExit(done.stderr)
    return int(peak) / 1024


def table(cases: tuple[str, ...], found: Mapping[str, Mapping[str, list[float]]], form: str = ".2f") -> str:
    lines = [f"| | {' | '.join(cases)} |", "|---" * (len(cases) + 1) + "|"]
    for who, cells in found.items():
        shown = [format(statistics.median(cells[case]), form) if case in cells else "-" for case in cases]
        lines.append(f"| {who} | {' | '.join(shown)} |")
    return "\n".join(lines) + "\n"


def rounds(count: int, folder: Path, uv_folder: Path, *, prune: bool) -> Found:
    seconds: Found = {}
    rig = state.load()
    for number in range(count):
        for who, builds in contestants(number, folder, rig.registry, rig.images.python311, uv_folder):
            project = Project(folder / "project", rig.images.python311, apt=())
            project.fresh()
            if prune:
                docker("builder", "prune", "-af")
            for case in CASES:
                change(project, case)
                note(seconds, who, case, timed(builds, project))
    return seconds


def slowly(folder: Path, uv_folder: Path) -> tuple[Found, Found]:
    """One round through a proxy: seconds and requests."""
    seconds: Found = {}
    requests: Found = {}
    rig = state.load()
    with slow_proxy(rig.registry, DELAY) as proxy:
        base = rig.images.python311.replace(rig.registry, proxy.address)
        for who, builds in contestants(1000, folder, proxy.address, base, uv_folder):
            project = Project(folder / "project", base, apt=())
            project.fresh()
            for case in CASES:
                change(project, case)
                before = proxy.requests
                note(seconds, who, case, timed(builds, project))
                requests.setdefault(who, {})[case] = [proxy.requests - before]
    return seconds, requests


def once(
    number: int, case: str, folder: Path, uv_folder: Path, base: str, *, megabytes: int = 0, prune: bool
) -> tuple[Found, float | None]:
    """Two platforms, or large packages: once by each, cold; and the memory that the oci builder took."""
    seconds: Found = {}
    peak = None
    rig = state.load()
    names = wheels(folder / "wheels", megabytes) if megabytes else []
    for who, builds in contestants(number, folder, rig.registry, base, uv_folder):
        project = Project(folder / "project", base, apt=())
        project.fresh()
        if case == PLATFORMS and who == "buildah":
            continue
        if case == PLATFORMS:
            project.platforms = ("linux/amd64", "linux/arm64")
        for name in names:
            (project.folder / "large" / name).hardlink_to(folder / "wheels" / name)
        if names:
            project.packages = [f"./large/{name}" for name in names]
        if prune:
            docker("builder", "prune", "-af")
        note(seconds, who, case, timed(builds, project))
        if megabytes and who == "imagesmith oci":
            cache = folder / "cache-peak"
            env = {**os.environ, "IMAGESMITH_BASE_IMAGE": base, "IMAGESMITH_CACHE_DIR": str(cache)}
            peak = peak_megabytes(project, env)
            print(f"{who:22} {case:18} {peak:7.0f} MB", flush=True)
            shutil.rmtree(cache)
    return seconds, peak


def note(seconds: Found, who: str, case: str, taken: float) -> None:
    seconds.setdefault(who, {}).setdefault(case, []).append(taken)
    print(f"{who:22} {case:18} {taken:7.2f} s", flush=True)


def measured(chosen: argparse.Namespace) -> Iterator[dict[str, object]]:
    """The parts that were asked for, each with what belongs to it, by the names they are kept under."""
    prune, rig = not chosen.keep_cache, state.load()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        uv_folder = lent_uv(folder / "uv")
        if "turns" in chosen.only:
            turns = rounds(chosen.rounds, folder, uv_folder, prune=prune)
            yield {"turns": turns, "rounds": chosen.rounds}
        if "delayed" in chosen.only:
            seconds, requests = slowly(folder, uv_folder)
            yield {"delayed": seconds, "requests": requests}
        base = rig.images.python311_multi
        if "platforms" in chosen.only and base is None:
            print("the rig has no base for two platforms: make rig-all", flush=True)
        elif "platforms" in chosen.only and base is not None:
            yield {"platforms": once(2000, PLATFORMS, folder, uv_folder, base, prune=prune)[0]}
        if "large" in chosen.only:
            base = rig.images.python311
            given = {"megabytes": chosen.large, "prune": prune}
            seconds, peak = once(3000, LARGE, folder, uv_folder, base, **given)
            yield {"large": seconds, "megabytes": chosen.large, "peak": peak}


def text_of(kept: Mapping[str, Any]) -> str:
    text = (
        "# The oci builder beside others\n\n"
        "Made by `bench/oci.py`: whole processes in turns, pushed to a registry on loopback;\n"
        f"{', '.join(PACKAGES)}; 200 source files. "
    )
    if "turns" in kept:
        text += f"Seconds, medians of {kept['rounds']} rounds:\n\n{table(CASES, kept['turns'])}"
    if "delayed" in kept:
        text += (
            f"\nThrough a proxy that adds {DELAY * 1000:.0f} ms to every request, one round, seconds:\n\n"
            f"{table(CASES, kept['delayed'])}\nand requests:\n\n{table(CASES, kept['requests'], '.0f')}"
        )
    single: Found = {}
    for part in ("platforms", "large"):
        for who, cells in kept.get(part, {}).items():
            single.setdefault(who, {}).update(cells)
    if single:
        text += (
            f"\nTwo platforms (by hand with pip), and {kept.get('megabytes', 'no')} MB of packages, "
            f"cold, once, seconds:\n\n{table((PLATFORMS, LARGE), single)}"
        )
    if "peak" in kept:
        text += f"\nPeak memory of the oci builder with the large packages: {kept['peak']:.0f} MB.\n"
    return text


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--large", type=int, default=1000, help="megabytes of packages")
    options.add_argument("--keep-cache", action="store_true", help="cold builds then find downloads")
    options.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART")
    options.add_argument("--by", nargs="+", choices=BY, default=BY, metavar="NAME", help=", ".join(BY))
    options.add_argument("--dry", action="store_true", help="print, and write no file")
    chosen = options.parse_args()
    chosen_ones[:] = chosen.by
    kept: dict[str, Any] = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    started = time.monotonic()
    for found in measured(chosen):
        kept |= found
        print(f"-- {', '.join(found)} after {time.monotonic() - started:.0f} s", flush=True)
        if not chosen.dry:  # after each part: what comes later may fail
            KEPT.write_text(json.dumps(kept, indent=1) + "\n")
            (HERE / "RESULTS_OCI.md").write_text(text_of(kept))
    print(text_of(kept))


if __name__ == "__main__":
    main()
