"""``apt_packages`` and ``commands`` with no engine: real apt and a real shell over the base's own files.

The layers below lie unpacked in the cache, an overlay takes what changes, and that becomes a layer. All of
it is done by a process in a namespace (``inside``), as root of this host or as an ordinary user who was
lent ids. When it ends, however it ends, nothing stays mounted.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, Protocol

from imagesmith import BaseImageError, BuilderNotReady, BuildFailed, ImagesmithError, RegistryUnreachable
from imagesmith.hints import hint_for
from imagesmith_oci.userns_ids import IdsMissing, find_ids
from imagesmith_oci.userns_process import Space
from imagesmith_oci.userns_steps import TIME, Step, apt_steps, command_steps, key_of
from imagesmith_oci.userns_why import FACTS, Availability, Failure, explain

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from imagesmith import Environment, Reporter
    from imagesmith_oci.userns_process import Outcome

__all__ = [
    "Availability",
    "Captured",
    "Lower",
    "Readable",
    "Step",
    "apt_steps",
    "available",
    "command_steps",
    "key_of",
    "run_steps",
]

_SYS_ADMIN = 21
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
_BATCH_BYTES = 256 << 20
_TRIES = 3
_DAMAGED = "the base image is damaged, or made wrongly: use another one"


class Readable(Protocol):
    """A stream of bytes."""

    def read(self, size: int, /) -> bytes:
        """Up to ``size`` bytes; none at the end."""


@dataclass(frozen=True, slots=True)
class Lower:
    """A layer below: opened only where its unpacked form is not kept from an earlier build."""

    diff_id: str
    open: Callable[[], AbstractContextManager[Readable]]
    """the layer as it is stored: a tar, or one compressed with gzip or zstd"""
    keep: bool = True
    """False: its unpacked form goes with this build"""


@dataclass(frozen=True, slots=True)
class Captured:
    """What steps changed, as a plain tar. ``entries`` is 0 where they changed nothing."""

    tar: Path
    diff_id: str
    size: int
    """of the tar, in bytes"""
    entries: int


def available(environment: Environment, platform: str | None = None) -> Availability:
    """Whether this host lets it be done, found by doing it with a tiny image; takes 0.1 s, never raises.

    ``platform``: also whether programs of that platform run here.
    """
    try:
        return _available(environment, platform)
    except (ImagesmithError, OSError) as error:
        return Availability(False, f"it could not be tried: {error}", "see imagesmith doctor")


def _available(environment: Environment, platform: str | None) -> Availability:
    if sys.platform != "linux":
        return Availability(
            False,
            f"it takes Linux's namespaces, and this is {sys.platform}",
            "use another builder for these",
        )
    own = _MACHINES.get(os.uname().machine, os.uname().machine)
    architecture = platform.split("/")[1] if platform else own
    try:
        space = _space(environment)
    except IdsMissing as error:
        return Availability(False, str(error), error.hint)
    with space.work() as folder:
        outcome = space.do(folder, "probe", architecture=architecture)
    if outcome.failure:
        return explain(outcome.failure, _facts(), str(environment.cache_dir))
    if outcome.problem:
        return Availability(False, *_cannot_start(outcome.problem, platform or own))
    if not outcome.answer["done"]:
        return Availability(False, f"a program in it ended with {outcome.status}", "see imagesmith doctor")
    how = {
        "root": "as root, in namespaces for mounts and processes",
        "same": "as root, in a user namespace",
        "lent": "as an ordinary user, in a user namespace with ids from /etc/subuid",
    }
    return Availability(True, details=(how[space.ids.kind],))


def run_steps(
    environment: Environment,
    platform: str,
    lowers: Sequence[Lower],
    steps: Sequence[Step],
    report: Reporter,
    *,
    into: Path,
    redact: Collection[str] = (),
) -> Captured:
    """Run steps over layers and write what they changed to the file ``into``.

    Args:
        environment: its cache keeps unpacked layers and what apt downloads.
        platform: of the layers.
        lowers: the layers below, the lowest first.
        steps: run one after the other; the first that fails ends it.
        report: hears of each step and of each line that it prints.
        into: a new file.
        redact: is cut from these lines.

    Raises:
        BuildFailed: a step failed.
        BaseImageError: a layer below is not what it should be.
        BuilderNotReady: this host does not let it be done.
        RegistryUnreachable, RegistryError: a layer below cannot be fetched.
    """
    try:
        space = _space(environment)
    except IdsMissing as error:
        raise BuilderNotReady(str(error), builder="oci", hint=error.hint) from error
    # an overlay takes no folder twice; the uppermost of equal layers says all that the others say
    distinct = list({lower.diff_id: lower for lower in reversed(lowers)}.values())[::-1]
    with space.work() as folder:
        found = _Unpacking(space, folder).folders(distinct)
        outcome = space.do(
            folder,
            "run",
            steps=steps,
            report=report,
            redact=redact,
            lowers=list(reversed(found)),
            into=str(into.absolute()),
            time=TIME,
        )
    if outcome.step is not None:
        _failed(outcome, steps[outcome.step], platform)
    if outcome.failure or not outcome.answer.get("done"):
        _not_ready(outcome, space)
    answer = outcome.answer
    return Captured(into, f"sha256:{answer['sha256']}", answer["size"], answer["entries"])


class _Unpacking:
    """Brings layers from where they are stored into folders."""

    def __init__(self, space: Space, folder: Path) -> None:
        from imagesmith_oci.inside.layers import Layers, folder_name  # noqa: PLC0415

        self._space = space
        self._folder = folder
        self._kept = Layers(str(space.cache))
        self._name = folder_name
        self._waiting: list[dict[str, str]] = []
        self._bytes = 0

    def folders(self, lowers: Sequence[Lower]) -> list[str]:
        """One for each layer."""
        paths = []
        for number, lower in enumerate(lowers):
            path = self._kept.find(lower.diff_id) if lower.keep else None
            paths.append(path or self._fetch(number, lower))
        self._unpack()
        return paths

    def _fetch(self, number: int, lower: Lower) -> str:
        tar = self._folder / f"{number}.tar"
        for left in reversed(range(_TRIES)):
            try:
                size = _copy(lower, tar)
                break
            except RegistryUnreachable:
                if not left:
                    raise
        self._bytes += size
        name = self._name(lower.diff_id)
        place = name if lower.keep else str(self._folder / "layers" / str(number))
        self._waiting.append({"tar": str(tar), "place": place})
        if self._bytes > _BATCH_BYTES:
            self._unpack()
        kept = self._space.cache / "layers" / name
        return str((kept if lower.keep else Path(place)) / "files")

    def _unpack(self) -> None:
        if not self._waiting:
            return
        outcome = self._space.do(self._folder, "unpack", layers=self._waiting)
        if outcome.failure:
            _not_ready(outcome, self._space)
        self._waiting, self._bytes = [], 0


def _copy(lower: Lower, tar: Path) -> int:
    """The plain layer as a file; its size. What is kept must be what its name says: other images use it."""
    from imagesmith_oci.userns_stream import DAMAGED, plain  # noqa: PLC0415 - loads zstandard

    digest, size = hashlib.sha256(), 0
    try:
        with lower.open() as stream, tar.open("wb") as target:
            for data in plain(stream):
                target.write(data)
                digest.update(data)
                size += len(data)
    except DAMAGED as error:
        raise BaseImageError(f"the layer {lower.diff_id} cannot be read: {error}", hint=_DAMAGED) from error
    if lower.keep and lower.diff_id != f"sha256:{digest.hexdigest()}":
        raise BaseImageError(
            f"a layer is not what the image's configuration says: sha256:{digest.hexdigest()} "
            f"instead of {lower.diff_id}",
            hint=_DAMAGED,
        )
    return size


def _space(environment: Environment) -> Space:
    return Space(environment, find_ids(environment.env, sees_mounts=_may_mount()))


def _may_mount() -> bool:
    for line in _read("/proc/self/status").splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> _SYS_ADMIN & 1)
    return False


def _facts() -> dict[str, str]:
    return {name: text for name, path in FACTS.items() if (text := _read(path))}


def _read(path: str) -> str:
    with contextlib.suppress(OSError):
        return Path(path).read_text(encoding="utf-8", errors="replace")
    return ""


def _cannot_start(problem: str, platform: str) -> tuple[str, str]:
    if problem == "foreign":
        return (
            f"this host cannot run programs of {platform}",
            "install QEMU's binfmt handlers (Debian: qemu-user-static and binfmt-support)",
        )
    if problem == "no shell":
        return (
            "the base image has no shell, /bin/sh (or not its interpreter)",
            "choose a base with a shell, or ask for neither apt_packages nor commands",
        )
    return f"no program can be started in it: {problem}", "see imagesmith doctor"


def _failed(outcome: Outcome, step: Step, platform: str) -> NoReturn:
    if outcome.problem:
        problem, hint = _cannot_start(outcome.problem, platform)
        raise BuildFailed(f"{step.name}: {problem}", builder="oci", step=step.name, hint=hint)
    raise BuildFailed(
        f"{step.name} failed with exit code {outcome.status}",
        builder="oci",
        step=step.name,
        returncode=outcome.status,
        tail=outcome.tail,
        hint=hint_for("\n".join(outcome.tail)),
    )


def _not_ready(outcome: Outcome, space: Space) -> NoReturn:
    failure = outcome.failure or Failure("root", 0, "; ".join(outcome.tail) or "no reason was given")
    if failure.step == "layer":
        raise BuilderNotReady(
            f"a layer of the image cannot be unpacked here: {failure.text}",
            builder="oci",
            hint="is the base image damaged? else lend this user more ids, or use another builder",
        )
    found = explain(failure, _facts(), str(space.environment.cache_dir))
    raise BuilderNotReady(
        f"apt packages and commands cannot be run here: {found.problem}", builder="oci", hint=found.hint
    )
