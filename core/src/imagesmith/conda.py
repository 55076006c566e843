"""A conda environment for an image: what is asked for, solved, and laid out as plain files on the host.

No conda tool is needed, here or in the image: py-rattler (extra ``conda``) solves for the image's platform
and writes the files as they must be at ``/opt/conda``. Builders only copy them.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from imagesmith import conda_channels
from imagesmith._urls import strip_credentials
from imagesmith.base import has_folder_on_path, stated_python
from imagesmith.builder import CondaPackage, CondaTree
from imagesmith.errors import BaseImageError, CondaError, ImagesmithError, Problem, SpecError
from imagesmith.events import Message, StepDone, StepLog, StepStarted
from imagesmith.spec import DEFAULT_PYTHON

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from imagesmith.builder import BaseImage
    from imagesmith.conda_rattler import Question
    from imagesmith.events import Reporter
    from imagesmith.settings import Settings
    from imagesmith.spec import ImageSpec

__all__ = ["Asked", "Lock", "asked", "describe", "lay_out", "placed", "solve", "subdir"]

GLIBC = "2.28"
"""what packages may need of the base: Debian 10, RHEL 8, Ubuntu 18.10 and newer have it"""
_LINUX = "4.18"
_SUBDIRS = {
    "linux/386": ("linux-32", "x86"),
    "linux/amd64": ("linux-64", "x86_64"),
    "linux/arm/v6": ("linux-armv6l", "armv6l"),
    "linux/arm/v7": ("linux-armv7l", "armv7l"),
    "linux/arm64": ("linux-aarch64", "aarch64"),
    "linux/arm64/v8": ("linux-aarch64", "aarch64"),
    "linux/ppc64le": ("linux-ppc64le", "ppc64le"),
    "linux/riscv64": ("linux-riscv64", "riscv64"),
    "linux/s390x": ("linux-s390x", "s390x"),
}
"""platform -> conda's name of it, and the archspec of its plainest machine"""


@dataclass(frozen=True, slots=True)
class Lock:
    """A solved environment: the public part, and what py-rattler needs to lay it out."""

    tree: CondaTree
    question: Question = field(repr=False)
    records: tuple[Any, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Asked:
    """The question, before the platform is known."""

    specs: Mapping[str, str]
    channels: tuple[conda_channels.Channel, ...]
    access: tuple[conda_channels.Channel, ...]
    """all that may need credentials"""


def subdir(platform: str) -> tuple[str, str]:
    """Conda's name of a platform, and its archspec. Raises CondaError where there is none."""
    try:
        return _SUBDIRS[platform]
    except KeyError:
        raise CondaError(
            f"conda has no packages for {platform}", hint=f"platforms it has: {', '.join(_SUBDIRS)}"
        ) from None


def asked(spec: ImageSpec, base: BaseImage, settings: Settings) -> Asked:
    """The match specifications by where they come from, and the channels that are asked for them.

    There is always a python: of the requested version, else that of the base, else the default one; and
    pip where packages are to be installed. Pure.

    Raises:
        SpecError: no channel is left to ask.
    """
    root = os.path.abspath(spec.root or os.curdir)  # noqa: PTH100 - links stay as they are written
    listed = list(conda_channels.channels(spec.conda_channels, root, settings.conda_forge))
    access = list(listed)
    specs: dict[str, str] = {}
    own_python = False
    for text in sorted(set(spec.conda_packages)):
        where = f"conda_packages[{spec.conda_packages.index(text)}]"
        name, rest = conda_channels.split_channel(text)
        if name is not None:
            named = conda_channels.channel(name, root, settings.conda_forge)
            access.append(named)
            if named.url not in {each.url for each in listed}:
                listed.append(named)
            text = f"{named.url}::{rest}"  # noqa: PLW2901
        elif "://" in text:
            access.append(conda_channels.channel(text, root, None))
            text = strip_credentials(text)  # noqa: PLW2901
        own_python = own_python or _names_python(rest)
        specs[where] = text
    if not listed:
        raise SpecError([Problem("conda_channels", "holds nothing but 'nodefaults': no channel is left")])
    if spec.python_version or not own_python:
        specs["python_version"] = _python(spec.python_version or stated_python(base) or DEFAULT_PYTHON)
    if spec.packages or spec.requirements:
        specs["packages"] = "pip"
    return Asked(specs, tuple(listed), tuple(access))


def describe(spec: ImageSpec, base: BaseImage, settings: Settings) -> CondaTree:
    """What would be solved for. Pure."""
    what = asked(spec, base, settings)
    return CondaTree(tuple(what.specs.values()), tuple(channel.url for channel in what.channels))


def solve(spec: ImageSpec, platform: str, base: BaseImage, settings: Settings, report: Reporter) -> Lock:
    """Find the packages of the environment.

    Raises:
        BaseImageError: the base has an environment where this one goes.
        SpecError: a match specification or a channel is wrong.
        CondaUnsolvable: no set of packages is what was asked for.
        ChannelError: a channel does not answer.
    """
    from imagesmith import conda_rattler  # noqa: PLC0415 - optional

    if has_folder_on_path(base, f"{CondaTree.PREFIX}/bin"):
        raise BaseImageError(
            f"the base {base.reference} has a conda environment of its own at {CondaTree.PREFIX}, "
            f"where {'conda_packages' if spec.conda_packages else 'the python'} of the spec would go",
            hint="choose a base without one; a base that is a spec: name all conda packages in one spec",
        )
    what = asked(spec, base, settings)
    name, machine = subdir(platform)
    virtual = {
        "__unix": ("0", "0"),
        "__linux": (_LINUX, "0"),
        "__glibc": (GLIBC, "0"),
        "__archspec": ("1", machine),
        **({"__cuda": (spec.cuda, "0")} if spec.cuda else {}),
    }
    cache = settings.cache_dir() / "conda"
    question = conda_rattler.Question(what.specs, what.channels, what.access, name, virtual, cache)
    shown = describe(spec, base, settings)
    with _step(report, f"conda-solve {platform}", f"conda: solve {', '.join(shown.specs)}") as say:
        say(f"channels: {', '.join(shown.channels)}")
        records = conda_rattler.solve(question)
        packages = tuple(sorted((_package(record) for record in records), key=lambda each: each.name))
        for each in packages:
            say(f"{each.name} {each.version} {each.build}")
    return Lock(replace(shown, packages=packages), question, tuple(records))


def placed(lock: Lock, folder: Path) -> Lock:
    """The same environment, to be laid out in that folder."""
    return replace(lock, tree=replace(lock.tree, folder=folder))


def lay_out(lock: Lock, report: Reporter) -> None:
    """Write the environment's files to its folder, the same bytes, modes and times on every machine.

    Raises:
        CondaError: a package cannot be fetched or written.
    """
    from imagesmith import conda_rattler, conda_tree  # noqa: PLC0415 - optional

    folder, question = lock.tree.folder, lock.question
    if folder is None:
        raise ValueError("this environment has no place yet")
    size = sum(package.size for package in lock.tree.packages)
    name = f"conda: {len(lock.tree.packages)} packages, {size / 1e6:.1f} MB"
    with _step(report, f"conda-files {question.subdir}", name) as say:
        try:
            conda_rattler.install(question, lock.records, folder, CondaTree.PREFIX, say)
            shown = {channel.url: channel.shown for channel in question.channels}
            conda_tree.settle(folder, CondaTree.PREFIX, shown)
        except OSError as error:
            raise CondaError(
                f"the conda environment cannot be written to {folder}: {error.strerror}",
                hint="make room there, or set TMPDIR to a folder on another file system",
            ) from error
    if scripts := conda_tree.link_scripts(folder):
        text = f"conda: link scripts are not run, and there are some in: {', '.join(scripts)}"
        report(Message(text, "warning"))


@contextlib.contextmanager
def _step(report: Reporter, step: str, name: str) -> Iterator[Callable[[str], None]]:
    """Report a step from its start to its end; yields what takes its lines."""
    started = time.monotonic()
    report(StepStarted(step, name))
    try:
        yield lambda line: report(StepLog(step, line))
    except ImagesmithError as error:
        report(StepDone(step, time.monotonic() - started, error=error.message.partition(":\n")[0]))
        raise
    report(StepDone(step, time.monotonic() - started))


def _python(version: str) -> str:
    return f"python =={version}" if version.count(".") > 1 else f"python {version}.*"


def _names_python(text: str) -> bool:
    """Whether a match specification without its channel asks for a version of python."""
    rest = text.strip().removeprefix("python")
    return rest != text.strip() and (not rest or rest[0] in " =<>!~[")


def _package(record: Any) -> CondaPackage:
    return CondaPackage(
        name=record.name.normalized,
        version=str(record.version),
        build=str(record.build),
        url=strip_credentials(str(record.url)),
        sha256=record.sha256.hex() if record.sha256 else "",
        size=record.size or 0,
    )
