"""A request as a Dockerfile and the scripts it runs. Pure text.

The Dockerfile makes files, nothing else: ENV, ENTRYPOINT, LABEL and the rest of the configuration are the
core's, which writes one for every image anyway (marker, labels, plain history). So no value of ``env``
stands in a layer's key, and none has to be quoted. There is no ``# syntax=`` line (it would pull an image)
and no heredoc: each step is a script of its own, mounted for the time it runs, and part of its key.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from imagesmith import BuildRequest, CondaTree, Contribution, conda_check, scripts
from imagesmith.files_layer import can_be_apart
from imagesmith_docker import pip_settings
from imagesmith_docker.installer import MOUNT, SETTINGS, Installer, contribution, installer, needs_environment
from imagesmith_docker.options import Options
from imagesmith_docker.quoting import exec_form, place

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "CA_ID",
    "CONDA",
    "CONTEXT",
    "CONTEXTS",
    "RUNTIME",
    "TOOLS",
    "Rendered",
    "Step",
    "leaves_files",
    "render",
    "secret_id",
    "secret_targets",
]

CONTEXT = "imagesmith"
"""The named build context that holds the scripts; the main one is what the core staged."""
CONDA = "imagesmith-conda"
"""The one that holds a conda environment."""
TOOLS = "imagesmith-tools"
"""The one that holds uv."""
CONTEXTS = f"{MOUNT}/contexts"
"""Below it stand the folders and images of the option ``build_contexts``, to be read only."""
RUNTIME = "/opt/imagesmith"
CA_ID = "ca"
"""A secret only in that nothing of it stays: an image believes its base's certificates."""
_CA = f"{MOUNT}/secrets/ca.pem"
_CERTIFICATES = ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO")


@dataclass(frozen=True, slots=True)
class Step:
    """One instruction: a key to know it again by in buildx's output, and its name for people."""

    key: str
    name: str
    line: str


@dataclass(frozen=True, slots=True)
class Rendered:
    """The Dockerfile, the scripts (by path below the build folder), and the steps in order."""

    dockerfile: str
    scripts: Mapping[str, str]
    steps: tuple[Step, ...]
    contributed: Contribution

    @property
    def lends_tools(self) -> bool:
        """Whether the context of that name is needed."""
        return f"from={TOOLS}," in self.dockerfile


def leaves_files(request: BuildRequest, options: Options) -> bool:
    """Whether the files of the work directory may be left to the core, so that an edit starts no build.

    Not where they have to be in what the engine writes (for attestations, and for times and layers of a kind
    that only it makes), nor where every step shall run anew.
    """
    plain = options.source_date_epoch is None and options.compression in (None, "zstd", "gzip")
    return plain and not options.attests and not options.no_cache and can_be_apart(request)


def render(request: BuildRequest, options: Options | None = None, *, apart: bool | None = None) -> Rendered:
    """The whole build as text. ``apart``: without the files; unset: where they may be left to the core."""
    options = options or Options()
    apart = leaves_files(request, options) if apart is None else apart
    contributed = contribution(request)
    page = _Page(options)
    _apt(page, request)
    if request.conda is not None:
        _conda(page, request.conda)
    elif needs_environment(request):
        _python(page, request)
    if request.staged.has_requirements:
        _packages(page, request, installer(request))
    _files(page, request, apart=apart)
    _commands(page, request, options, scripts.for_commands(request, contributed))
    page.settle("install.sh", scripts.for_installs(request, contributed, page.machine))
    head = _remarks(options)
    head += ["# The files of the work directory are another layer, which imagesmith adds."] if apart else []
    head += [f"FROM {request.base.pinned}", "USER 0:0", "WORKDIR /"]
    lines = [*head, *(step.line for step in page.steps)]
    return Rendered("\n".join(lines) + "\n", page.files, tuple(page.steps), contributed)


def _remarks(options: Options) -> list[str]:
    """They say which layers these are to whoever remembers builds by their text."""
    said = {
        "layers": options.compression,
        "provenance": options.provenance,
        "sbom": options.sbom,
        "times": options.source_date_epoch,
        **{f"context {each.name}": each.source for each in options.build_contexts if each.is_image},
    }
    return [f"# {what}: {value}" for what, value in said.items() if value is not None]


def secret_id(name: str) -> str:
    """The id under which buildx is given the secret of that name."""
    return "".join(char if char.isalnum() or char in "._-" else "-" for char in name).strip("-")


class _Page:
    """Steps and scripts as they come."""

    def __init__(self, options: Options) -> None:
        own_ca = options.ca is not None
        self.steps: list[Step] = []
        self.files: dict[str, str] = {}
        self.machine = dict.fromkeys(_CERTIFICATES, _CA) if own_ca else {}
        self.machine |= _steady(options)
        self.contexts = tuple(
            f"type=bind,from={each.name},target={CONTEXTS}/{each.name}" for each in options.build_contexts
        )
        self.certificates = (
            (f"type=secret,id={CA_ID},required=true,mode=0444,target={_CA}",) if own_ca else ()
        )

    def settle(self, name: str, text: str) -> None:
        """Write a script that several steps run by, where any does."""
        if any(f"/{name}" in step.line for step in self.steps):
            self.files[f"{CONTEXT}/{name}"] = text

    def run(self, key: str, name: str, script: str, *mounts: str, by: str = "install.sh") -> None:
        """A step that runs ``script`` by another one, which gives it its environment."""
        file = f"{key}.sh"
        self.files[f"{CONTEXT}/{file}"] = script
        own = (_bind(each, each, f"from={CONTEXT}") for each in (by, file))
        options = " \\\n    ".join(f"--mount={each}" for each in (*own, *mounts))
        argv = exec_form("/bin/sh", f"{MOUNT}/{by}", f"{MOUNT}/{file}")
        self.steps.append(Step(f"{MOUNT}/{file}", name, f"RUN {options} \\\n    {argv}"))

    def copy(self, name: str, source: str, target: str) -> None:
        """A step that copies what is in a folder of the main context into another."""
        line = f"COPY {exec_form(source, place(target) + '/')}"
        self.steps.append(Step(f"COPY [{source}, ", name, line))


def _bind(source: str, target: str, *more: str) -> str:
    return ",".join(("type=bind", *more, f"source={source}", f"target={MOUNT}/{target}"))


def _cache(request: BuildRequest, name: str, target: str, *, locked: bool) -> str:
    sharing = "locked" if locked else "shared"
    identity = f"imagesmith-{name}-{request.platform.replace('/', '-')}"
    return f"type=cache,id={identity},sharing={sharing},target={target}"


def _apt(page: _Page, request: BuildRequest) -> None:
    packages = sorted(set(request.spec.apt_packages))
    if not packages:
        return
    # What makes a base throw away what apt downloaded is hidden for the time of this step.
    page.files[f"{CONTEXT}/keep"] = "// downloaded packages stay in the build's cache\n"
    certificates = f"-o Acquire::https::CAInfo={_CA} " if page.certificates else ""
    script = (
        "export DEBIAN_FRONTEND=noninteractive\n"
        f"apt-get {certificates}update\n"
        f"apt-get {certificates}install -y --no-install-recommends -- {shlex.join(packages)}\n"
        # they hold the time of day
        "rm -rf /var/log/apt/*.log* /var/log/dpkg.log /var/log/alternatives.log "
        "/var/cache/ldconfig/aux-cache\n"
    )
    page.run(
        "apt",
        f"apt: {' '.join(packages)}",
        script,
        _cache(request, "apt", "/var/cache/apt", locked=True),
        _cache(request, "apt-lists", "/var/lib/apt/lists", locked=True),
        f"type=bind,from={CONTEXT},source=keep,target=/etc/apt/apt.conf.d/docker-clean",
        *page.certificates,
    )


def _conda(page: _Page, tree: CondaTree) -> None:
    """The environment as a layer of its own, which a change of what lies below does not copy again."""
    line = f"COPY --link --from={CONDA} {exec_form('/', tree.PREFIX + '/')}"
    page.steps.append(Step(f"COPY --link --from={CONDA} ", f"conda files: {tree.PREFIX}", line))
    page.run("conda", f"conda: {len(tree.packages)} packages in {tree.PREFIX}", conda_check(tree))


def _python(page: _Page, request: BuildRequest) -> None:
    wanted = request.spec.python_version
    needed = wanted is not None or request.staged.has_requirements
    name = f"python{' ' + wanted if wanted else ''}: {scripts.VENV}"
    page.run("python", name, scripts.virtual_environment(wanted, needed=needed))


def _packages(page: _Page, request: BuildRequest, chosen: Installer) -> None:
    spec = request.spec
    mounts = [_bind("requirements", "requirements", "rw"), *page.certificates, *page.contexts]
    mounts.append(_cache(request, "pip", f"{MOUNT}/cache/pip", locked=False))
    if chosen.uv:
        mounts.append(_cache(request, "uv", f"{MOUNT}/cache/uv", locked=False))
        mounts.append(f"type=bind,from={TOOLS},target={MOUNT}/tools")
        mounts.append(_bind(SETTINGS, SETTINGS, f"from={CONTEXT}"))
        mounts.append(f"type=tmpfs,target={MOUNT}/settings")
        page.files[f"{CONTEXT}/{SETTINGS}"] = Path(pip_settings.__file__).read_text(encoding="utf-8")
    for name, target in secret_targets(request).items():
        mounts.append(f"type=secret,id={secret_id(name)},required=true,target={target}")
    count = len(spec.packages) + (1 if spec.requirements else 0)
    by = f" by pip: {chosen.reason}" if chosen.reason else ""
    name = f"packages: {count} requirement{'s' if count != 1 else ''}{by}"
    page.run("packages", name, chosen.script, *mounts)


def secret_targets(request: BuildRequest) -> dict[str, str]:
    """Name -> where it is mounted while packages are installed."""
    targets = {}
    for name in request.secrets:
        if name.startswith("requirements/"):
            targets[name] = f"{MOUNT}/{name}"
        elif name == "pip.conf":
            targets[name] = f"{MOUNT}/secrets/pip.conf"
    for number, (_, target) in enumerate(request.spec.pip_secret_mounts):
        targets[f"pip_secret_mounts[{number}]"] = target
    return targets


def _files(page: _Page, request: BuildRequest, *, apart: bool) -> None:
    """The work directory, source and copied files, and the core's own modules.

    The folder comes first and is then only copied into: so an edit of a file starts no process, and the
    folder keeps its owner. (``COPY --link`` would bring a folder of its own over it.)
    """
    workdir = request.spec.workdir_or_default
    script = scripts.bare_work_directory(request) if apart else scripts.work_directory(request)
    page.run("workdir", f"work directory: {workdir}", script)
    if request.staged.has_runtime:
        page.copy("imagesmith's own modules", "runtime/", RUNTIME)
    if request.staged.has_source and not apart:
        page.copy(f"files: {workdir}", "source/", workdir)


def _steady(options: Options) -> dict[str, str]:
    """Lets what runs in a step write the same bytes at any time of day."""
    if options.source_date_epoch is None:
        return {}
    epoch = str(options.source_date_epoch)
    # Byte code holds the time of its source, unless it is made to hold a hash: by pip and uv, which see the
    # first and the last variable. What python writes on import never does.
    return {
        "SOURCE_DATE_EPOCH": epoch,
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYC_INVALIDATION_MODE": "CHECKED_HASH",
    }


def _commands(page: _Page, request: BuildRequest, options: Options, runner: str) -> None:
    steady = "".join(f'export {key}="${{{key}-{value}}}"\n' for key, value in _steady(options).items())
    for number, command in enumerate(request.spec.commands):
        name, script = f"command: {command}", f"{steady}{command}\n"
        page.run(f"command-{number:03d}", name, script, *page.contexts, by="command.sh")
    page.settle("command.sh", runner)
