"""The layers that an image needs beside what runs in it: conda, python, packages, modules, files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from imagesmith import BaseImageError, BuildRequest, Contribution, final_user, tarball
from imagesmith_oci import content
from imagesmith_oci.basefacts import Facts, place, user_id
from imagesmith_oci.groups import group, room
from imagesmith_oci.layers import key_of
from imagesmith_oci.packages import Packages, identity
from imagesmith_oci.prefix import RUNTIME, VENV, Prefix, Python, skeleton

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from imagesmith.tarball import TarWriter
    from imagesmith_oci.lock import Package

__all__ = ["Job", "Wanted", "python_of"]

_OTHERS = 8
"""layers that are no packages, at most"""


@dataclass(frozen=True, slots=True)
class Job:
    """A layer that is wanted: its name for people, its key, and what writes it."""

    name: str
    key: str
    fill: Callable[[TarWriter], None]
    below: tuple[str, ...] = ()
    want: Callable[[], None] | None = None
    """begins what takes time, where the layer is not known"""
    passing: bool = False
    """whether it changes with every edit"""


def python_of(
    request: BuildRequest, facts: Facts, planned: Contribution
) -> tuple[Python | None, Contribution]:
    """The image's python, and what the configuration needs for it.

    Raises:
        BaseImageError: the base has none, or not the one that is asked for.
    """
    wanted = request.spec.python_version
    if request.conda is not None:
        version = request.conda.python or wanted or ""
        return Python(f"{request.conda.PREFIX}/bin/python", version), request.conda.contribution
    python = facts.python
    if python is None:
        if wanted is None and not request.staged.has_requirements:
            return None, Contribution()
        raise BaseImageError(
            f"the base image {request.base.reference} has no python3",
            hint="choose a base that has one, or name a conda package: its python comes with it",
        )
    have, want = python.version.split("."), (wanted or "").split(".")
    if wanted and have[: len(want)] != want:
        raise BaseImageError(
            f"the base image {request.base.reference} carries python {python.version}, "
            f"the spec asks for {wanted}",
            hint="choose a base that has it, or name a conda package: its python comes with it",
        )
    return python, planned


class Wanted:
    """All jobs of one build, in the order of the layers."""

    def __init__(self, request: BuildRequest, facts: Facts, python: Python | None, base: int) -> None:
        self._request = request
        self._facts = facts
        self._python = python
        self._base = base
        """how many layers stand below"""

    def jobs(self, packages: Packages, *, anew: bool) -> list[Job]:
        """Raises as ``Packages.lock`` does, and BaseImageError for a base that cannot carry them."""
        jobs = list(self._conda())
        if self._request.conda is None and self._python is not None:
            jobs.append(_skeleton(self._python))
        if self._request.staged.has_requirements and self._python is not None:
            most = room(self._base, len(jobs) + _OTHERS)
            jobs += self._packages(packages, self._python, most, anew=anew)
        return [*jobs, *self._runtime(), self._files()]

    def _conda(self) -> Iterator[Job]:
        tree = self._request.conda
        if tree is None or tree.folder is None:
            return
        folder, top = tree.folder, tree.PREFIX.lstrip("/")
        parts = content.conda_parts(tree)
        few = room(self._base, _OTHERS) // 2
        for some in group({part: part.size for part in parts}, few):
            names = [part.name for part in some if part.name]
            own = [content.digests(folder, part.files) if not part.name else [] for part in some]
            key = key_of("conda", top, [part.identity for part in some], [part.files for part in some], own)

            def fill(tar: TarWriter, some: tuple[content.CondaPart, ...] = some) -> None:
                content.write_conda(tar, folder, top, some)

            count = f"{len(names)} package{'s' if len(names) != 1 else ''}"
            yield Job(f"conda: {count}: {_listed(names)}", key, fill, content.ways(top))

    def _packages(self, packages: Packages, python: Python, most: int, *, anew: bool) -> Iterator[Job]:
        if self._facts.libc is None:
            raise BaseImageError(
                f"the base image {self._request.base.reference} has no C library that wheels know",
                hint="choose a base with glibc or musl, or another builder",
            )
        lock = packages.lock(python.version, self._facts.libc, anew=anew)
        root = self._request.conda.PREFIX if self._request.conda else VENV
        prefix = Prefix(root, python.minor)
        compiled = packages.compiled_by(prefix)
        for some in group({package: package.size for package in lock.packages}, most):
            names = [f"{package.name} {package.version}" for package in some]
            key = key_of(
                "wheels", prefix.root, prefix.minor, [identity(package) for package in some], *compiled
            )

            def want(some: tuple[Package, ...] = some) -> None:
                packages.want(*some)

            fill = packages.fill(prefix, some)
            yield Job(f"packages: {_listed(names)}", key, fill, content.ways(root), want)

    def _runtime(self) -> Iterator[Job]:
        staged = self._request.staged
        if not staged.has_runtime or staged.folder is None:
            return
        runtime = staged.folder / "runtime"
        names = [inner for inner, entry in tarball.walk(runtime) if entry.is_file(follow_symlinks=False)]
        key = key_of("runtime", dict(zip(names, content.digests(runtime, names), strict=True)))

        def fill(tar: TarWriter) -> None:
            tarball.write_tree(tar, runtime, RUNTIME.lstrip("/"))

        yield Job("imagesmith's own modules", key, fill, content.ways(RUNTIME))

    def _files(self) -> Job:
        request, facts, staged = self._request, self._facts, self._request.staged
        workdir, user = request.spec.workdir_or_default, final_user(request)
        owner = user_id(facts, user)
        if owner is None:
            raise BaseImageError(
                f"the base image {request.base.reference} has no user {user.partition(':')[0]!r}",
                hint="name a user that it has, or a number",
            )
        digests = {name: value for name, value in staged.digests.items() if name.startswith("source/")}
        met = [sorted(facts.links.items()), sorted(facts.folders.items())]

        def fill(tar: TarWriter) -> None:
            content.write_files(tar, staged, workdir, owner, facts)

        key = key_of("files", workdir, owner, digests, met)
        below = content.ways(place(facts, workdir))
        return Job(f"files: {workdir}", key, fill, below, passing=True)


def _skeleton(python: Python) -> Job:
    files, links = skeleton(python)

    def fill(tar: TarWriter) -> None:
        for path, text in files.items():
            tar.data(path, text.encode())
        for path, target in links.items():
            tar.link(path, target)

    key = key_of("venv", files, links)
    return Job(f"python {python.version}: {VENV}", key, fill, content.ways(VENV))


def _listed(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
