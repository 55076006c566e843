"""What a whole `imagesmith build` costs when the image is published already, and what that is made of.

    make rig && make bench     # or: python bench/noop_build.py, with the rig's environment

Needs the rig: the image is published in its plain registry first. Prints seconds of wall time, and the
imports that cost most.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.rig import state

RUNS = 15
SPEC = """
from imagesmith import ImageSpec
image = ImageSpec(
    name="noop", registry="{registry}/bench", python_version="3.11", packages=["six"], source_root="src"
)
"""
PARTS = (
    "imagesmith.cli",
    "imagesmith.sources",
    "imagesmith.stores.registry",
    "imagesmith.pipeline",
    "pluggy",
)


def main() -> None:
    """Publish, then time."""
    rig = state.load()
    env = {
        **{key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"},
        "DOCKER_HOST": rig.docker_host,
        "IMAGESMITH_BASE_IMAGE": f"{rig.registry}/library/python:{{python_version}}",
    }
    script = str(Path(sys.executable).parent / "imagesmith")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "image.py").write_text(SPEC.format(registry=rig.registry))
        (folder / "src").mkdir()
        (folder / "src" / "app.py").write_text("print('hello')\n")

        def run(*argv: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(argv, cwd=folder, env=env, capture_output=True, text=True, check=True)

        run(script, "build", "image.py")
        seconds = {
            "python -c pass": [sys.executable, "-c", "pass"],
            "imagesmith build": [script, "build", "image.py"],
        }
        for what, argv in seconds.items():
            times = []
            for _ in range(RUNS):
                started = time.perf_counter()
                run(*argv)
                times.append(time.perf_counter() - started)
            print(f"{what:18} median {statistics.median(times):.3f} s   min {min(times):.3f} s")
        traced = run(sys.executable, "-X", "importtime", script, "build", "image.py").stderr
    print("imports, cumulative ms:")
    for part in PARTS:
        if found := re.search(rf"\|\s+(\d+) \|\s+{re.escape(part)}$", traced, re.MULTILINE):
            print(f"  {part:28} {int(found[1]) / 1000:6.1f}")


if __name__ == "__main__":
    main()
