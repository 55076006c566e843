"""The files of an image as shell steps, the same for every builder that can run a shell as root.

A builder shows the folder that ``lay_out`` fills at MOUNT while each step runs, and has nothing to know of
apt, pip, conda or secret files. Every script names the digests of what it reads, so a cache that sees the
scripts alone never takes an old result for a new one.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from imagesmith import scripts
from imagesmith._frozen import FrozenMap
from imagesmith._version import __version__
from imagesmith.base import stated_python
from imagesmith.builder import Contribution, Feature
from imagesmith.conda_script import conda_check
from imagesmith.pip_arguments import install_arguments

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from imagesmith.builder import BuildRequest, CondaTree

__all__ = ["FEATURES", "MOUNT", "RUNTIME", "Recipe", "Step", "Steps", "lay_out", "recipe"]

FEATURES = frozenset(
    {Feature.APT_PACKAGES, Feature.BASE_IMAGE, Feature.BUILD_ENV, Feature.COMMANDS, Feature.CONDA_CHANNELS,
     Feature.CONDA_PACKAGES, Feature.COPY, Feature.CUDA, Feature.CUDNN, Feature.ENTRYPOINT, Feature.ENV,
     Feature.LABELS, Feature.PACKAGES, Feature.PIP_EXTRA_ARGS, Feature.PIP_EXTRA_INDEX_URL,
     Feature.PIP_INDEX, Feature.PIP_SECRET_MOUNTS, Feature.PYTHON_VERSION, Feature.REQUIREMENTS,
     Feature.SOURCE_ROOT, Feature.USER, Feature.WORKDIR}
)  # fmt: skip
"""What a builder that runs the steps can do, with the core's own work. Platforms and places are its own."""
MOUNT = "/run/imagesmith"
"""Where the steps find what they read. Nothing below it belongs to the image."""
RUNTIME = "/opt/imagesmith"
"""Where the core looks for its own modules in the image."""
_REQUIREMENTS = "/tmp/imagesmith-requirements"  # noqa: S108 - in the image that is built
_CLEAN_UP = f"cd /\nrm -rf {_REQUIREMENTS}\n"
_NO_PIP = "imagesmith: the base image has no pip: add apt_packages python3-venv, or choose another base"


@dataclass(frozen=True, slots=True)
class Step:
    """One process, run as root in the image that is built; a status other than 0 ends the build."""

    name: str
    """for people"""
    argv: tuple[str, ...]


Steps: TypeAlias = tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Recipe:
    """The steps in their order, and the scripts that they run."""

    environment: Steps
    """apt, python, packages: what ``key`` decides, so their result may be kept under it"""
    content: Steps
    """files and commands"""
    files: Mapping[str, str]
    """the scripts, by path below MOUNT; no secret stands in them"""
    key: str
    """40 hexadecimal digits: of the base, the platform, and all that ``environment`` runs and reads"""
    contributed: Contribution = field(default_factory=Contribution)

    @property
    def steps(self) -> Steps:
        """All of them."""
        return self.environment + self.content


def recipe(request: BuildRequest) -> Recipe:
    """What makes the image's files out of its base. Pure."""
    contributed = _contributed(request)
    files: dict[str, str] = {}

    def step(key: str, name: str, script: str, by: str = "install") -> Step:
        files[f"{key}.sh"] = script
        return Step(name, ("/bin/sh", f"{MOUNT}/{by}.sh", f"{MOUNT}/{key}.sh"))

    umask = "umask 022\n"
    files["install.sh"] = umask + scripts.for_installs(request, contributed)
    environment = tuple(step(*told) for told in _environment(request, contributed))
    decided = [request.base.reference, request.base.digest, request.platform, files]
    key = _digest(json.dumps(decided, sort_keys=True))[:40]
    if request.spec.commands:
        files["command.sh"] = umask + scripts.for_commands(request, contributed)
    place = request.spec.workdir_or_default
    commands = enumerate(request.spec.commands)
    content = (
        step("files", f"files: {place}", _files(request)),
        *(step(f"command-{n:03d}", f"command: {text}", f"{text}\n", "command") for n, text in commands),
    )
    return Recipe(environment, content, FrozenMap(files), key, contributed)


def lay_out(request: BuildRequest, files: Mapping[str, str], folder: Path) -> tuple[tuple[Path, str], ...]:
    """Write the scripts and the secrets into ``folder``, which only the user should be able to read.

    Args:
        request: one that can be built; for ``render`` nothing is staged.
        files: ``Recipe.files``.
        folder: one that is there, on this machine; the caller removes it.

    Returns:
        What to show to the steps: (a folder of this machine, its absolute path in the image), outer ones
        first. To be read only.
    """
    secrets = {f"secrets/{name}": secret.reveal() for name, secret in request.secrets.items()}
    for name, data in {**{name: text.encode() for name, text in files.items()}, **secrets}.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    inner = {"staged": request.staged.folder, "conda": request.conda.folder if request.conda else None}
    shown = {name: path for name, path in inner.items() if path is not None}
    for name in shown:
        (folder / name).mkdir()
    return (folder, MOUNT), *((path, f"{MOUNT}/{name}") for name, path in shown.items())


def _contributed(request: BuildRequest) -> Contribution:
    """A base that states its python is used as it is. Any other may have ``python3`` only, or an externally
    managed one: a virtual environment answers for both."""
    if request.conda is not None:
        return request.conda.contribution
    stated = stated_python(request.base) is not None
    return Contribution() if stated else Contribution(path=(f"{scripts.VENV}/bin",))


def _environment(request: BuildRequest, contributed: Contribution) -> Iterator[tuple[str, str, str]]:
    """Key, name and script of each step."""
    spec = request.spec
    if apt := sorted(set(spec.apt_packages)):
        yield "apt", f"apt: {' '.join(apt)}", _apt(apt)
    if request.conda is not None:
        count = len(request.conda.packages)
        yield "conda", f"conda: {count} packages in {request.conda.PREFIX}", _conda(request.conda)
    elif contributed.path:
        wanted = spec.python_version
        needed = wanted is not None or request.staged.has_requirements
        name = f"python{' ' + wanted if wanted else ''}: {scripts.VENV}"
        yield "python", name, scripts.virtual_environment(wanted, needed=needed)
    if request.staged.has_requirements:
        count = len(spec.packages) + (1 if spec.requirements else 0)
        name = f"packages: {count} requirement{'s' if count != 1 else ''}"
        yield "packages", name, _packages(request, contributed)


def _apt(packages: list[str]) -> str:
    return f"""export DEBIAN_FRONTEND=noninteractive
apt-get update
apt-get install -y --no-install-recommends -- {shlex.join(packages)}
rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/cache/apt/archives/*.deb
"""


def _conda(tree: CondaTree) -> str:
    found = "".join(f"# {each.name} {each.version} {each.build} {each.sha256}\n" for each in tree.packages)
    copy = f"cp -dR --preserve=mode,timestamps,links {MOUNT}/conda/. {tree.PREFIX}/\n"
    return f"{found}mkdir -p {tree.PREFIX}\n{copy}{conda_check(tree)}"


def _packages(request: BuildRequest, contributed: Contribution) -> str:
    """In a copy of the folder: the build of a local project writes beside its sources."""
    python = f"{contributed.path[0]}/python" if contributed.path else '"$(command -v python)"'
    pip = ["-m", "pip", "install", "--no-cache-dir", "--disable-pip-version-check", "--no-input"]
    pip += ["--root-user-action=ignore", *install_arguments(request), "-r", "imagesmith.txt"]
    lines = [f"# {name} {_digest(text)}" for name, text in sorted(request.staged.texts.items())]
    lines += _named(request, "requirements/")
    lines += [
        f"python={python}",
        'if ! "$python" -m pip --version >/dev/null 2>&1; then',
        f"  echo {shlex.quote(_NO_PIP)} >&2",
        "  exit 1",
        "fi",
        f"mkdir -p {_REQUIREMENTS}",
        scripts.secret_files(request, "ln -s", f"{MOUNT}/secrets/pip_secret_mounts[{{}}]", _CLEAN_UP),
        f"if [ -d {MOUNT}/staged/requirements ]; then",
        f"  cp -R {MOUNT}/staged/requirements/. {_REQUIREMENTS}/",
        "fi",
        f"cd {_REQUIREMENTS}",
    ]
    for name in sorted(request.secrets):
        if name.startswith("requirements/"):
            file = shlex.quote("./" + name.removeprefix("requirements/"))
            lines.append(f'mkdir -p "$(dirname {file})"')
            lines.append(f"ln -sf {shlex.quote(f'{MOUNT}/secrets/{name}')} {file}")
    settings = scripts.pip_settings(request, f"{MOUNT}/secrets/pip.conf")
    return "\n".join([*lines, f'{settings}"$python" {shlex.join(pip)}', ""])


def _files(request: BuildRequest) -> str:
    """The modes of what is staged are those that the umask leaves."""
    workdir = shlex.quote(request.spec.workdir_or_default)
    lines = [*_named(request, "source/"), f"mkdir -p {workdir}"]
    if request.staged.has_source:
        lines.append(f"cp -dR {MOUNT}/staged/source/. {workdir}/")
    if request.staged.has_runtime:
        lines += [
            f"# imagesmith {__version__}",
            f"mkdir -p {RUNTIME}",
            f"cp -dR {MOUNT}/staged/runtime/. {RUNTIME}/",
        ]
    return "\n".join([*lines, scripts.work_directory(request)])


def _named(request: BuildRequest, below: str) -> list[str]:
    """One comment for all staged files of a folder; none where they are only listed."""
    found = {name: each for name, each in request.staged.digests.items() if name.startswith(below)}
    return [f"# {below} {_digest(json.dumps(found, sort_keys=True))}"] if found else []


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
