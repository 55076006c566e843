"""What uv is asked, and what it answers: the packages of an image, without installing any."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shutil
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from imagesmith import BuilderNotReady, BuildFailed, BuildRequest
from imagesmith_oci.arguments import Arguments, arguments_of
from imagesmith_oci.installed import FOLDER, write_stubs
from imagesmith_oci.lock import Lock, Package, UnusableError, read_pylock
from imagesmith_oci.machine import Machine, stripped
from imagesmith_oci.platforms import Libc, tags, uv_platform

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from imagesmith import Runner
    from imagesmith_oci.options import Options

__all__ = ["Question", "argv", "indexes", "question", "resolve", "uv_program", "uv_version"]

NAME = "oci"
_HASH = re.compile(r"--hash=[\"']?sha256:([0-9a-f]{64})")
_REQUIREMENT = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)")
_NO_WHEEL = re.compile(r"no usable wheels|no wheels with a matching|Wheels are required|no-build|only-binary")


@dataclass(frozen=True, slots=True)
class Question:
    """All that decides which packages are found; equal questions have equal answers."""

    request: BuildRequest
    options: Options
    arguments: Arguments
    machine: Machine
    python: str
    libc: Libc
    installed: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """canonical name -> version and metadata of what the image has already"""

    @property
    def platform(self) -> str:
        """uv's name for it."""
        found = uv_platform(self.request.platform, self.libc)
        if found is None:
            raise UnusableError(f"uv resolves nothing for {self.request.platform} with {self.libc}")
        return found

    @property
    def key(self) -> str:
        """Credentials do not enter."""
        staged, main, extra = self.request.staged, *indexes(self)
        told = {
            "texts": {name: stripped(text) for name, text in staged.texts.items()},
            "files": {name: staged.digests.get(name) for name in staged.binaries},
            "indexes": [stripped(main or ""), *map(stripped, extra)],
            "arguments": [stripped(word) for word in self.arguments.options],
            "hashes": self.arguments.require_hashes,
            "sdists": self.options.sdists,
            "machine": self.machine.basis,
            "for": [self.platform, self.python, str(self.libc)],
            "installed": sorted((name, version) for name, (version, _) in self.installed.items()),
            "uv": uv_version(),
        }
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:40]


def question(request: BuildRequest, options: Options, machine: Machine, python: str, libc: Libc) -> Question:
    """Of a request whose arguments are known to be good."""
    return Question(request, options, arguments_of(request), machine, python, libc)


def indexes(asked: Question) -> tuple[str | None, tuple[str, ...]]:
    """The index instead of the usual one, and further ones; may hold credentials."""
    main = asked.arguments.index or asked.machine.index
    return main, (*asked.machine.extra, *asked.arguments.extra)


def uv_program() -> str:
    """The program that the distribution ``uv`` brings. Raises BuilderNotReady where it does not."""
    try:
        from uv import find_uv_bin  # noqa: PLC0415

        return str(find_uv_bin())
    except (ImportError, FileNotFoundError) as error:
        raise BuilderNotReady(
            f"the program uv is not there: {error}", builder=NAME, hint="pip install --force-reinstall uv"
        ) from error


def uv_version() -> str:
    """The version of the distribution ``uv``; raises PackageNotFoundError where there is none."""
    from importlib.util import find_spec  # noqa: PLC0415

    home = find_spec("uv")
    if home is not None and home.origin is not None:
        beside = [path.name for path in Path(home.origin).parent.parent.glob("uv-*.dist-info")]
        if len(beside) == 1:
            return beside[0].removeprefix("uv-").removesuffix(".dist-info")
    from importlib.metadata import version  # noqa: PLC0415 - takes ten times as long

    return version("uv")


def argv(
    program: str, arguments: Arguments, sdists: tuple[str, ...], platform: str, python: str
) -> list[str]:
    """The resolution as a command; its working directory is that of the requirements. No secret is in it."""
    chosen = [] if "--index-strategy" in arguments.options else ["--index-strategy", "unsafe-best-match"]
    allowed = [word for name in sdists for word in ("--no-binary", name)]
    return [
        program, "pip", "compile", "imagesmith.txt",
        "--format", "pylock.toml", "--output-file", "../locked/pylock.toml",
        "--python-platform", platform, "--python-version", python,
        "--only-binary", ":all:", *allowed, "--no-sources", "--no-header", *chosen,
        *(stripped(word) for word in arguments.options),
    ]  # fmt: skip


def resolve(
    asked: Question,
    runner: Runner,
    env: Mapping[str, str],
    scratch: Path,
    say: Callable[[str], None],
    redact: tuple[str, ...],
    *,
    refresh: bool = False,
) -> Lock:
    """Ask uv. ``scratch`` is a new folder of the build's own; the requirements are laid out in it.

    ``refresh``: believe nothing of what it keeps of the indexes.

    Raises:
        BuildFailed: it finds no answer, or one that is not good for this image.
    """
    lay_out_requirements(asked.request, scratch)
    (scratch / "locked").mkdir()
    if asked.installed:
        write_stubs(asked.installed, scratch / FOLDER)
    command = argv(uv_program(), asked.arguments, asked.options.sdists, asked.platform, asked.python)
    if asked.installed:
        command += ["--find-links", f"../{FOLDER}", "--constraints", f"../{FOLDER}/constraints.txt"]
    main, extra = indexes(asked)
    own = {"UV_DEFAULT_INDEX": main} if main else {}
    if extra:
        own["UV_INDEX"] = " ".join([*extra, *env.get("UV_INDEX", "").split()])
    done = runner.run(
        [*command, "--python", sys.executable, *(["--refresh"] if refresh else [])],
        env={**env, **own},
        cwd=scratch / "requirements",
        on_line=lambda line, stream: say(line) if stream == "stderr" else None,
        redact=redact,
    )
    if done.returncode:
        text = "\n".join(done.tail)
        raise BuildFailed(
            "the packages cannot be resolved" + _first(done.tail),
            builder=NAME,
            step="packages",
            returncode=done.returncode,
            tail=done.tail[-20:],
            hint=_hint(text, asked),
        )
    try:
        text = (scratch / "locked" / "pylock.toml").read_text(encoding="utf-8")
        allowed = hashes(asked.request.staged.texts)
        lock = read_pylock(text, tags(asked.python, asked.request.platform, asked.libc), allowed)
        kept = {name: version for name, (version, _) in asked.installed.items()}
        found = (each for each in lock.packages if kept.get(each.name) != each.version)
        lock = replace(lock, packages=tuple(_elsewhere(each, scratch / "locked") for each in found))
        _check_hashes(lock, allowed, required=asked.arguments.require_hashes or bool(allowed))
    except (OSError, ValueError, UnusableError) as error:
        raise BuildFailed(
            f"the packages cannot be laid out: {error}",
            builder=NAME,
            step="packages",
            hint="choose a version that has a wheel for this image, or another builder",
        ) from error
    return lock


def _elsewhere(package: Package, folder: Path) -> Package:
    """A file of this machine that was not staged (``--find-links``) by its address."""
    if not package.path.startswith(("..", "/")):
        return package
    return replace(package, path="", url=(folder / package.path).resolve().as_uri())


def lay_out_requirements(request: BuildRequest, scratch: Path) -> None:
    """Copy what was staged, with the credentials that files of requirements hold; none else may read it."""
    folder = scratch / "requirements"
    folder.mkdir()
    scratch.chmod(0o700)
    staged = request.staged
    if staged.folder is not None:
        for name in staged.binaries:
            target = scratch / name
            target.parent.mkdir(parents=True, exist_ok=True)
            _lay_out(staged.folder / name, target)
    for name, text in staged.texts.items():
        secret = request.secrets.get(name)
        target = scratch / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(secret.reveal() if secret else text.encode())


def _lay_out(file: Path, target: Path) -> None:
    """A wheel need not be there twice: nobody writes to one. A project's build may write to its files."""
    if file.suffix == ".whl" and not file.is_symlink():
        with contextlib.suppress(OSError):  # another file system
            target.hardlink_to(file)
            return
    shutil.copy2(file, target, follow_symlinks=False)


def hashes(texts: Mapping[str, str]) -> dict[str, frozenset[str]]:
    """Canonical name -> the digests that the lines of requirements allow."""
    found: dict[str, frozenset[str]] = {}
    for text in texts.values():
        for line in text.splitlines():
            name, digests = _REQUIREMENT.match(line), _HASH.findall(line)
            if name and digests:
                plain = re.sub(r"[-_.]+", "-", name[1]).lower()
                found[plain] = found.get(plain, frozenset()) | frozenset(digests)
    return found


def _check_hashes(lock: Lock, allowed: Mapping[str, frozenset[str]], *, required: bool) -> None:
    """As installers do: where one package is asked for by its hash, all have to be."""
    if not required:
        return
    for package in lock.packages:
        if package.path and not package.sha256:
            continue
        if package.name not in allowed:
            raise UnusableError(f"{package.name} has no hash in the requirements, and others have")
        if package.sha256 not in allowed[package.name]:
            raise UnusableError(f"{package.file or package.name} has none of the hashes that were asked for")


def _first(tail: tuple[str, ...]) -> str:
    for line in tail:
        plain = line.strip(" ×╰─▶│")
        if plain.startswith(("error:", "No solution", "Failed", "Because")):
            return f": {plain.removeprefix('error:').strip()}"
    return ""


def _hint(text: str, asked: Question) -> str:
    if any(f"{name}=={version}" in text for name, (version, _) in asked.installed.items()):
        return "what the conda environment has is kept: name another version of it in conda_packages"
    if _NO_WHEEL.search(text):
        return (
            "nothing is compiled here: choose a version with wheels, build a wheel and name its file, or use "
            "another builder; of a pure Python package a wheel is made where builder_options says "
            "{'sdists': ['NAME']}"
        )
    return "check the names, the versions and the index"
