"""Build the image, run it, build it again: what ``make demo`` shows."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent


def show(argv: list[str]) -> str:
    """Run a command, show it and what it prints; return its stdout."""
    print(f"\n$ {' '.join(argv)}", flush=True)
    started = time.monotonic()
    done = subprocess.run(argv, cwd=HERE, stdout=subprocess.PIPE, text=True, check=False)
    print(done.stdout, end="")
    print(f"  ({time.monotonic() - started:.2f} s)", flush=True)
    if done.returncode:
        sys.exit(done.returncode)
    return done.stdout.strip()


def main() -> None:
    """Build, run inside, run outside, build again."""
    imagesmith = str(Path(sys.executable).parent / "imagesmith")
    docker = shutil.which("docker") or "docker"
    reference = show([imagesmith, "build", "image.py"])
    print("\nInside the image:")
    inside = show([docker, "run", "--rm", reference])
    print("\nOutside of it:")
    outside = show([sys.executable, "app.py"])
    print("\nThe same again (nothing to do):")
    again = show([imagesmith, "build", "--json", "image.py"])
    assert "is_container(): True" in inside, inside
    assert "is_container(): False" in outside, outside
    assert '"reused": true' in again, again
    print(f"\n{reference} was built, runs, and was reused the second time.")
    if host := os.environ.get("DOCKER_HOST"):
        print(f"(engine: {host})")


if __name__ == "__main__":
    main()
