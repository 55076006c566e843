"""A request as a ``build.envd`` and the files beside it. Pure text.

envd is used for what it does reliably: ordered ``run`` groups, each one bash process, as root. Its own
package, copy, environment and entrypoint statements are not: values get lost or altered there without
a word. Env, entrypoint, labels and the rest of the configuration are the core's.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from imagesmith import (
    BuildRequest,
    CondaTree,
    Contribution,
    RegistryRepository,
    base_environment,
    conda_check,
    install_arguments,
    install_environment,
    scripts,
    stated_python,
)
from imagesmith.files_layer import can_be_apart
from imagesmith_envd.quoting import in_run, starlark

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

CONTEXT = "context"
"""Constant: the folder's name is part of envd's cache keys."""
MOUNT = f"/home/envd/{CONTEXT}"
CONDA = "conda"
"""the folder of the context that holds a conda environment"""
WORKDIR = "workdir"
"""the key of the step that only makes the work directory"""
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
"""of a variable that a shell can hold"""
_INLINE_LIMIT = 60_000
"""bytes of requirements text that may stand in the command itself; the kernel's limit is 128 KiB"""


@dataclass(frozen=True, slots=True)
class Step:
    """One ``run`` group: its name for people, its script, and whether it sees the context."""

    key: str
    """the script's first line, a comment: by it the step is known again in envd's output"""
    name: str
    script: str
    mounted: bool = False


@dataclass(frozen=True, slots=True)
class Rendered:
    """``build.envd``, the files of the context (by path below the build folder), and the steps in order."""

    build_envd: str
    files: Mapping[str, str]
    steps: tuple[Step, ...]
    contributed: Contribution


def render(request: BuildRequest, *, apart: bool | None = None) -> Rendered:
    """The whole build as text. ``apart``: without the files; unset: where they may be left to the core."""
    apart = can_be_apart(request) if apart is None else apart
    contributed = _contributed(request)
    command_files = _command_files(request, contributed)
    steps = (
        *_apt(request),
        *_conda(request, contributed),
        *_python(request),
        *_packages(request, contributed),
        _work_directory(request) if apart else _files(request),
        *_commands(request, command_files),
        # envd leaves its working folder in the image; only a group that does not mount it can remove it
        Step(
            "clean-up",
            "clean up",
            f"cd /\nrmdir {MOUNT} 2>/dev/null || true\nrmdir /home/envd 2>/dev/null || true",
        ),
    )
    lines = ["# syntax=v1", "", "", "def build():"]
    lines.append(f"    base(image={starlark(request.base.pinned)}, dev=False)")
    lines.append("    config.owner(uid=0, gid=0)")
    if request.conda:
        # by content: an edit elsewhere in the context does not copy it again. envd runs it before all else
        lines.append(f"    io.copy(source={starlark(CONDA)}, target={starlark(CondaTree.PREFIX)})")
    for step in steps:
        mount = ", mount_host=True" if step.mounted else ""
        script = in_run(f"# {step.key}\n{step.script}")
        lines.append(f"    run(commands=[{starlark(script)}]{mount})")
    return Rendered("\n".join(lines) + "\n", command_files, steps, contributed)


def _contributed(request: BuildRequest) -> Contribution:
    if request.conda:
        return request.conda.contribution
    return Contribution(path=(f"{scripts.VENV}/bin",)) if _needs_venv(request) else Contribution()


def _needs_venv(request: BuildRequest) -> bool:
    """A base that states its python is used as it is. Any other may have ``python3`` only, or an
    externally managed one: a virtual environment answers for both."""
    return request.conda is None and stated_python(request.base) is None


def _preamble(request: BuildRequest, contributed: Contribution) -> str:
    """What every install step sees: the base's variables (envd is not told them, see ``localbase``), the
    right PATH (envd's differs) and ``build_env``."""
    base = {
        key: value for key, value in base_environment(request.base.config).items() if _NAME.fullmatch(key)
    }
    exports = {**base, **install_environment(request, contributed)}
    return "".join(f"export {key}={shlex.quote(value)}\n" for key, value in sorted(exports.items()))


def _apt(request: BuildRequest) -> tuple[Step, ...]:
    packages = sorted(set(request.spec.apt_packages))
    if not packages:
        return ()
    script = (
        "export DEBIAN_FRONTEND=noninteractive\n"
        + _preamble(request, Contribution())
        + "apt-get update\n"
        + f"apt-get install -y --no-install-recommends -- {shlex.join(packages)}\n"
        + "rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/cache/apt/archives/*.deb"
    )
    return (Step("apt", f"apt: {' '.join(packages)}", script),)


def _conda(request: BuildRequest, contributed: Contribution) -> tuple[Step, ...]:
    if request.conda is None:
        return ()
    script = _preamble(request, contributed) + conda_check(request.conda)
    count = len(request.conda.packages)
    return (Step("conda", f"conda: {count} packages in {CondaTree.PREFIX}", script),)


def _python(request: BuildRequest) -> tuple[Step, ...]:
    if not _needs_venv(request):
        return ()
    wanted = request.spec.python_version
    needed = wanted is not None or request.staged.has_requirements
    script = _preamble(request, Contribution()) + scripts.virtual_environment(wanted, needed=needed)
    return (Step("python", f"python{' ' + wanted if wanted else ''}: {scripts.VENV}", script),)


def _packages(request: BuildRequest, contributed: Contribution) -> tuple[Step, ...]:
    staged, spec = request.staged, request.spec
    if not staged.has_requirements:
        return ()
    files = {name.removeprefix("requirements/"): text for name, text in staged.texts.items()}
    size = sum(len(text.encode()) for text in files.values())
    mounted = bool(request.secrets) or bool(staged.binaries) or size > _INLINE_LIMIT
    python = f"{contributed.path[0]}/python" if contributed.path else "python"
    pip = [python, "-m", "pip", "install", "--no-cache-dir", "--disable-pip-version-check", "--no-input"]
    pip += ["--root-user-action=ignore", *install_arguments(request), "-r", "imagesmith.txt"]
    install = shlex.join(pip)
    script = _preamble(request, contributed)
    script += f"""if ! {python} -m pip --version >/dev/null 2>&1; then
  echo "imagesmith: the base image has no pip: add apt_packages python3-venv, or choose another base" >&2
  exit 1
fi
"""
    if mounted:
        script += scripts.pip_settings(request, f"{MOUNT}/secret/pip.conf")
        if request.spec.pip_secret_mounts:
            script += scripts.secret_files(request, "cp", f"{MOUNT}/secret/pip_secret_mounts-{{}}")
        script += f"cd {MOUNT}/requirements\n{install}"
    else:
        folder = "/tmp/imagesmith-requirements"  # noqa: S108 - in the image being built
        script += f"mkdir {folder}\ncd {folder}\n"
        for name in sorted(files):
            script += f"printf %s {shlex.quote(files[name])} > {shlex.quote(name)}\n"
        script += f"{install}\ncd /\nrm -rf {folder}"
    count = len(spec.packages) + (1 if spec.requirements else 0)
    return (Step("packages", f"packages: {count} requirement{'s' if count != 1 else ''}", script, mounted),)


def _files(request: BuildRequest) -> Step:
    """Source and copied files, the core's own modules, and the work directory."""
    workdir = shlex.quote(request.spec.workdir_or_default)
    lines = [f"mkdir -p {workdir}"]
    if request.staged.has_source:
        # a link of the base's that has a file's name is not written through
        copy = "cp -dR --remove-destination --preserve=mode,timestamps"
        lines.append(f"{copy} {MOUNT}/source/. {workdir}/")
    lines += [*_runtime(request), scripts.work_directory(request)]
    return Step("files", f"files: {request.spec.workdir_or_default}", "\n".join(lines), mounted=True)


def _work_directory(request: BuildRequest) -> Step:
    """The work directory without its files, and the core's own modules: the same for every project.

    The script is one for ``sh``, and may end it.
    """
    lines = [f"/bin/sh -euc {shlex.quote(scripts.bare_work_directory(request))}", *_runtime(request)]
    name = f"work directory: {request.spec.workdir_or_default}"
    return Step(WORKDIR, name, "\n".join(lines), mounted=request.staged.has_runtime)


def _runtime(request: BuildRequest) -> tuple[str, ...]:
    if not request.staged.has_runtime:
        return ()
    return (
        "mkdir -p /opt/imagesmith",
        f"cp -dR --preserve=mode,timestamps {MOUNT}/runtime/. /opt/imagesmith/",
    )


def _command_files(request: BuildRequest, contributed: Contribution) -> dict[str, str]:
    """Each command as a file, and one script that gives it exactly the environment it should see.

    In files, not in the command line: values would stand in logs and history there.
    """
    spec = request.spec
    if not spec.commands:
        return {}
    files = {f"{CONTEXT}/commands/run.sh": scripts.for_commands(request, contributed)}
    for number, command in enumerate(spec.commands):
        files[f"{CONTEXT}/commands/{number:03d}.sh"] = command + "\n"
    return files


def _commands(request: BuildRequest, files: Mapping[str, str]) -> tuple[Step, ...]:
    return tuple(
        Step(
            f"command-{number:03d}",
            f"command: {command}",
            f"/bin/sh {MOUNT}/commands/run.sh {MOUNT}/commands/{number:03d}.sh",
            mounted=True,
        )
        for number, command in enumerate(request.spec.commands)
        if files
    )


def build_argv(envd: str, folder: Path, address: str | None, request: BuildRequest, name: str) -> list[str]:
    """The command that builds what stands in ``folder``, on the engine or on the BuildKit at ``address``.

    ``name``: what the image is called in the engine."""
    argv = [envd, "build", "--path", str(folder / CONTEXT), "--from", f"{folder / 'build.envd'}:build"]
    argv += ["--platform", request.platform, "--force"]
    if address and isinstance(request.destination, RegistryRepository):
        return [*argv, "--output", f"type=image,name={request.destination.reference},push=true"]
    return [*argv, "--tag", name]
