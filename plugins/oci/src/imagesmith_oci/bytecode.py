"""Byte code of the packages, where it is asked for: made here by a python of the same minor version.

It is valid by the time of its source, as usual: that time is the same in every layer. So what changes a
module later is seen, and a tool that changes times costs the gain, never the right answer.
"""

from __future__ import annotations

import json
import shutil
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from imagesmith import BuilderNotReady, BuildFailed
from imagesmith.tarball import MTIME

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from imagesmith import Runner

__all__ = ["Compiler", "find_python", "module_target"]

NAME = "oci"
_WHO = (
    "import sys; print('%d.%d.%d' % sys.version_info[:3], sys.version_info[3], sys.implementation.cache_tag)"
)
_QUIET = ("-I", "-S", "-B", "-X", "utf8", "-W", "ignore")


def module_target(path: str, tag: str) -> str:
    """Where python looks for the byte code of a module."""
    head, _, last = path.rpartition("/")
    return f"{head}/__pycache__/{last.removesuffix('.py')}.{tag}.pyc"


@dataclass(frozen=True, slots=True)
class _Python:
    program: str
    version: str
    tag: str


def find_python(minor: str, runner: Runner, env: Mapping[str, str], cwd: Path) -> _Python:
    """A released CPython of that minor version: the one that runs this, else by name in PATH.

    Raises:
        BuilderNotReady: this machine has none.
    """
    tag = f"cpython-{minor.replace('.', '')}"
    named = shutil.which(f"python{minor}", path=env.get("PATH", ""))
    for program in filter(None, (sys.executable, named)):
        own = program == sys.executable
        if own and sys.implementation.cache_tag != tag:
            continue
        done = runner.run([program, *_QUIET, "-c", _WHO], env=env, cwd=cwd, on_line=_unsaid)
        told = (done.tail[-1] if done.tail else "").split()
        if not done.returncode and told[1:] == ["final", tag]:
            return _Python(program, told[0], tag)
    raise BuilderNotReady(
        f"byte code for python {minor} cannot be made on this machine: it has no CPython {minor}",
        builder=NAME,
        hint=f"install python{minor}, or leave out the option byte_code",
    )


class Compiler:
    """For one build; several threads may use it."""

    def __init__(self, minor: str, runner: Runner, env: Mapping[str, str], scratch: Path) -> None:
        """Raises BuilderNotReady where this machine has no such python."""
        self._runner = runner
        self._env = {key: env[key] for key in ("PATH", "LD_LIBRARY_PATH") if key in env}
        self._env["PYTHONHASHSEED"] = "0"
        self._scratch = scratch
        self._python = find_python(minor, runner, self._env, scratch)
        self._count = 0
        self._counting = threading.Lock()

    @property
    def tag(self) -> str:
        """``cpython-311``."""
        return self._python.tag

    @property
    def basis(self) -> list[object]:
        """All that decides the bytes, beside the modules."""
        return [self._python.version, self._python.tag, MTIME]

    def compile(self, wheel: Path, modules: Sequence[tuple[str, str]]) -> Path:
        """An archive with the byte code of these members, by their names; what is no python is not in it.

        Args:
            wheel: the wheel.
            modules: members, and what each is called in the image.

        Raises:
            BuildFailed: the process fails.
        """
        with self._counting:
            self._count += 1
            stem = self._scratch / f"byte-code-{self._count}"
        into, task = stem.with_suffix(".zip"), stem.with_suffix(".json")
        told = {"wheel": str(wheel), "into": str(into), "modules": modules, "time": MTIME}
        task.write_text(json.dumps(told), encoding="utf-8")
        argv = [self._python.program, *_QUIET, str(Path(__file__).with_name("compiling.py")), str(task)]
        done = self._runner.run(argv, env=self._env, cwd=self._scratch, on_line=_unsaid)
        if done.returncode:
            raise BuildFailed(
                f"{wheel.name}: its byte code cannot be made",
                builder=NAME,
                step="packages",
                returncode=done.returncode,
                tail=done.tail[-20:],
                hint="leave out the option byte_code",
            )
        return into


def _unsaid(line: str, stream: str) -> None:
    """Of this nobody wants to read more than what is kept for an error."""
