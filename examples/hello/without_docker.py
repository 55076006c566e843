"""The same example by the oci builder: no Docker and no daemon; what ``make demo BUILDER=oci`` shows.

Started by root with a user's name, everything is done as that user.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
BUILD = """
import json, sys
from pathlib import Path
from imagesmith import build
from image import image

told = sys.argv[1]
layout = Path(told) if "/" in told and ":" not in told else None
spec = image if layout else image.replace(registry=told)
result = build(spec, builder="oci", output=layout, force=layout is not None)
print(json.dumps({"reference": result.reference, "digest": result.digest, "reused": result.reused}))
"""


def as_user(name: str, folder: Path) -> tuple[list[str], str, dict[str, str]]:
    """How to start a program as that user, a python it may run, and its environment."""
    who = pwd.getpwnam(name)
    for each in (folder, *(folder / inner for inner in ("home", "project"))):
        each.mkdir(exist_ok=True)
        os.chown(each, who.pw_uid, who.pw_gid)
    python = "/usr/bin/python3"
    uv = str(Path(sys.executable).parent / "uv")
    argv = [uv, "pip", "install", "--quiet", "--no-sources", "--target", str(folder / "libraries")]
    subprocess.run([*argv, "--python", python, str(ROOT / "core"), str(ROOT / "plugins/oci")], check=True)
    start = ["setpriv", "--reuid", name, "--regid", str(who.pw_gid), "--clear-groups"]
    return start, python, {"HOME": str(folder / "home"), "PYTHONPATH": str(folder / "libraries")}


def show(what: str, start: list[str], python: str, env: dict[str, str], cwd: Path, target: str) -> str:
    """Build to a registry or a layout, and show what came of it; returns the digest."""
    print(f"\n{what}", flush=True)
    began = time.monotonic()
    argv = [*start, python, "-c", BUILD, target]
    done = subprocess.run(argv, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    told = json.loads(done.stdout)
    print(f"  {told['reference']}\n  {told['digest']}{' (reused)' if told['reused'] else ''}")
    print(f"  ({time.monotonic() - began:.2f} s)", flush=True)
    return str(told["digest"])


def main(user: str | None) -> None:
    """Push, push again, write a layout; run it where there is an engine to run it with."""
    rig = json.loads(Path(os.environ["IMAGESMITH_RIG"]).read_text())
    folder = Path(tempfile.mkdtemp(prefix="imagesmith-demo-"))
    folder.chmod(0o755)
    try:
        start, python, own = as_user(user, folder) if user else ([], sys.executable, {})
        kept = {key: value for key, value in os.environ.items() if not key.startswith("DOCKER_")}
        env = {**kept, **own, "DOCKER_HOST": "unix:///nonexistent/docker.sock"}
        project = shutil.copytree(HERE, folder / "project", dirs_exist_ok=True)
        who = f"as the user {user}, " if user else ""
        registry = f"{rig['registry']}/demo"
        digest = show(f"Built {who}with no engine, and pushed:", start, python, env, project, registry)
        again = show("The same again (nothing to do):", start, python, env, project, registry)
        layout = show("As an OCI layout:", start, python, env, project, str(folder / "home" / "layout"))
        assert digest == again == layout, "three times the same image, and the digests differ"
        print("\nRun by the rig's engine:")
        docker = shutil.which("docker") or "docker"
        argv = [docker, "--host", rig["docker_host"], "run", "--rm", f"{registry}/hello@{digest}"]
        print(subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True).stdout)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if user:  # what its steps made belongs to ids that it was lent
            subprocess.run(["rm", "-rf", str(folder)], check=False)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 and os.geteuid() == 0 else None)
