"""``python3 -m tests.rig up|down|status|env|state-path``."""

from __future__ import annotations

import argparse
import shlex
import sys

from . import later, on_debian, on_docker, state
from .console import RigError, part, say


def main() -> int:
    """Run one command; the answer is on stdout, progress and errors on stderr."""
    parser = argparse.ArgumentParser(prog="python3 -m tests.rig", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    start = commands.add_parser("up", help="start what does not run yet")
    start.add_argument("--with", dest="parts", action="append", default=[], choices=["arm64", "cnb"])
    start.add_argument(
        "--no-wait", action="store_true", help="be done before the arm64 part is: what reads of it will wait"
    )
    after = commands.add_parser(later.NAME)  # what ``up`` starts beside itself: no help, no use by hand
    after.add_argument("--with", dest="parts", action="append", default=[])
    commands.add_parser("down", help="end what the rig started; its cache stays")
    commands.add_parser("status", help="what runs, and where")
    commands.add_parser("env", help="shell lines that point tools at the rig")
    commands.add_parser("state-path", help="path of the JSON file that describes the rig")
    arguments = parser.parse_args()
    command = arguments.command
    where = on_docker if state.uses_public_images() else on_debian
    try:
        if command == "up":
            with state.lock(), part("all"):
                state.save(where.up(arguments.parts))
            if not arguments.no_wait and state.load().images.multi:
                later.wait()
        elif command == later.NAME:
            later.work(arguments.parts)
        elif command == "down":
            later.stop()  # it may hold the lock
            with state.lock():
                state.forget()
                where.down()
        elif command == "status":
            print(state.load().to_json(), end="")
        elif command == "env":
            print(exports(state.load()), end="")
        else:
            print(state.state_path())
    except (RigError, state.RigDownError) as error:
        say(str(error))
        return 1
    return 0


def exports(rig: state.Rig) -> str:
    """Return lines for ``eval``."""
    values = {
        "IMAGESMITH_RIG": str(state.state_path()),
        "IMAGESMITH_BASE_IMAGE": f"{rig.registry}/library/python:{{python_version}}",
    }
    if rig.cnb:
        values["IMAGESMITH_BUILDPACKS_BUILDER"] = rig.cnb.builder
    if rig.docker_host != "unix:///var/run/docker.sock":
        values["DOCKER_HOST"] = rig.docker_host
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in values.items())


if __name__ == "__main__":
    sys.exit(main())
