"""Shell that does the same work in every image, whichever builder runs it. Pure text for ``/bin/sh -eu``."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from imagesmith.authoring import command_environment, final_user, install_environment, pip_conf_shown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from imagesmith.builder import BuildRequest, Contribution

__all__ = [
    "NOT_BARE",
    "VENV",
    "bare_work_directory",
    "for_commands",
    "for_installs",
    "pip_settings",
    "secret_files",
    "virtual_environment",
    "work_directory",
]

VENV = "/opt/venv"
"""The virtual environment on a base that does not state its python."""

NOT_BARE = "imagesmith: the work directory is not bare"


def for_installs(
    request: BuildRequest, contribution: Contribution, machine: Mapping[str, str] | None = None
) -> str:
    """Runs the script that it is given as an argument with what install steps see beside the base's.

    ``machine``: variables of the place where it is built, which those of the spec win over.
    """
    env = {**(machine or {}), **install_environment(request, contribution)}
    return f'exec env {_pairs(env)} /bin/sh -eu "$1" </dev/null\n'


def pip_settings(request: BuildRequest, file: str) -> str:
    """Tells pip of the secret ``pip.conf``, which stands at ``file`` in the build; nothing without it.

    What it says is named, credentials aside: a cache that sees the script alone is to tell two apart.
    """
    said = "".join(f"# {line}\n" for line in pip_conf_shown(request).splitlines())
    return f"{said}export PIP_CONFIG_FILE={shlex.quote(file)}\n" if said else ""


def secret_files(request: BuildRequest, put: str, source: str, at_the_end: str = "") -> str:
    """Each of ``pip_secret_mounts`` at its place until the shell ends; what stood there comes back.

    Args:
        request: names the places.
        put: the command that does it: with ``ln -s`` no secret is ever in a file of the image.
        source: where they are, by their number for ``{}``.
        at_the_end: is run before they go, a whole number of lines.
    """
    before, after = [], []
    for number, (_, target) in enumerate(request.spec.pip_secret_mounts):
        path, saved = shlex.quote(target), f"/tmp/imagesmith-saved-{number}"  # noqa: S108 - in the image
        folder, secret = shlex.quote(target.rpartition("/")[0] or "/"), shlex.quote(source.format(number))
        before += [
            f"d={folder}; made_{number}=",
            f'while [ ! -d "$d" ]; do made_{number}="$made_{number}$d\n"; d=$(dirname "$d"); done',
            f"mkdir -p {folder}",
            f"if [ -e {path} ]; then mv {path} {saved}; fi",
            f"{put} {secret} {path}",
        ]
        after += [
            f"  rm -f {path}",
            f"  if [ -e {saved} ]; then mv {saved} {path}; fi",
            f'  printf %s "$made_{number}" | while IFS= read -r d; do rmdir "$d" || true; done',
        ]
    lines = ["restore() {", *(f"  {line}" for line in at_the_end.splitlines()), *after, "}"]
    return "\n".join([*lines, "trap restore EXIT", *before, ""])


def for_commands(request: BuildRequest, contribution: Contribution) -> str:
    """Runs the script that it is given as an argument with exactly what the spec's commands see."""
    env = {"HOME": "/root", **command_environment(request, contribution)}
    workdir = shlex.quote(request.spec.workdir_or_default)
    return f'cd {workdir}\nexec env -i {_pairs(env)} /bin/sh -eu "$1" </dev/null\n'


def virtual_environment(wanted: str | None, *, needed: bool) -> str:
    """Makes VENV from the base's python and checks that it is the wanted one.

    ``needed``: whether the lack of any python fails.
    """
    absent = (
        'echo "imagesmith: the base image has no python3: choose a base that has one" >&2\n    exit 1'
        if needed
        else "exit 0"
    )
    script = f"""if [ ! -x {VENV}/bin/python ]; then
  py=$(command -v python3 || command -v python || true)
  if [ -z "$py" ]; then
    {absent}
  fi
  if "$py" -c "import ensurepip" 2>/dev/null; then
    "$py" -m venv --system-site-packages {VENV}
  else
    "$py" -m venv --system-site-packages --without-pip {VENV}
  fi
fi
"""
    if wanted is None:
        return script
    return f"""{script}have=$({VENV}/bin/python -c "import platform; print(platform.python_version())")
case "$have" in
  {wanted}|{wanted}.*) ;;
  *) echo "imagesmith: the base image carries python $have, the spec asks for {wanted}" >&2; exit 1;;
esac
"""


def work_directory(request: BuildRequest) -> str:
    """Makes the work directory, of the final user and writable for group 0; what stands in it stays."""
    workdir = shlex.quote(request.spec.workdir_or_default)
    user = shlex.quote(final_user(request).partition(":")[0])
    return f"mkdir -p {workdir}\nchown {user}:0 {workdir}\nchmod 0775 {workdir}\n"


def bare_work_directory(request: BuildRequest) -> str:
    """As ``work_directory``, but fails with NOT_BARE where a layer over it could not tell all of the folder.

    See ``Built.lacks_files``: nothing stands in it, and what leads to it are folders as ``mkdir`` makes them.
    """
    workdir = request.spec.workdir_or_default
    parts = workdir.strip("/").split("/")
    above = [shlex.quote("/" + "/".join(parts[:count])) for count in range(1, len(parts))]
    usual = "".join(f' && [ ! -L {each} ] && [ "$(stat -c %u:%g:%a {each})" = 0:0:755 ]' for each in above)
    bare = f'[ ! -L {shlex.quote(workdir)} ] && [ -z "$(ls -A {shlex.quote(workdir)})" ]{usual}'
    return f"{work_directory(request)}if {bare}; then exit 0; fi\necho '{NOT_BARE}' >&2\nexit 1\n"


def _pairs(env: dict[str, str]) -> str:
    return " ".join(shlex.quote(f"{key}={value}") for key, value in sorted(env.items()))
