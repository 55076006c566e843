"""The files that enter an image: listed, hashed, and staged into a folder for the builder.

``digests`` and ``stage`` see the same listing, and what ``stage`` reports are digests of what it wrote.
Neither depends on where the files lie on this machine, on their times or on a umask.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, NamedTuple

from imagesmith import _contents as contents
from imagesmith._frozen import FrozenMap
from imagesmith._urls import strip_credentials
from imagesmith.builder import Secret
from imagesmith.errors import SourceError
from imagesmith.pip_arguments import Named, pip_conf
from imagesmith.requirements import Closure, close
from imagesmith.runtime_files import stage_runtime, wants_runtime
from imagesmith.walker import Entry, Forest, Refusals, folder_of, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from imagesmith.spec import ImageSpec

__all__ = [
    "Listing",
    "Staged",
    "check_unchanged",
    "collect",
    "copy_in",
    "digests",
    "listed",
    "stage",
    "unwritable",
]

_SOURCE: Final = "source"
_REQUIREMENTS: Final = "requirements"
_NAMED_CHANGES: Final = 20
"""changed files that an error names before it only counts"""


@dataclass(frozen=True, slots=True)
class Listing:
    """What enters the image, before any of it is read: targets are relative to the staging folder."""

    entries: tuple[Entry, ...]
    """files, links and folders below ``source/`` and ``requirements/``"""
    requirements: Closure | None = None


@dataclass(frozen=True, slots=True)
class Staged:
    """What a builder gets to see of the files. Names are relative to ``folder``."""

    folder: Path | None = None
    """holds ``source/``, ``requirements/`` and ``runtime/``, each only if needed; None: only listed"""
    digests: Mapping[str, str] = field(default_factory=FrozenMap)
    """name -> digest of what stands there, as ``digests`` gives them; empty when only listed"""
    files: tuple[str, ...] = ()
    """what lands in the work directory, relative to it; an empty folder ends in ``/``"""
    has_source: bool = False
    has_requirements: bool = False
    """whether there is a ``requirements/imagesmith.txt`` to install, in ``texts`` or ``secrets``"""
    has_runtime: bool = False
    texts: Mapping[str, str] = field(default_factory=FrozenMap)
    """the requirements files, ``requirements/…``, without the credentials that some of them hold"""
    binaries: tuple[str, ...] = ()
    """the other files of ``requirements/``: wheels, source distributions, files of local projects"""
    secrets: Mapping[str, Secret] = field(default_factory=FrozenMap)
    """what must be seen nowhere and stands not in ``folder``: the real text of requirements files with
    credentials (by the same name), ``pip.conf``, and ``pip_secret_mounts[i]``"""
    arguments: frozenset[Named] = frozenset()
    """options of ``pip_extra_args`` whose files are staged; ``imagesmith.txt`` names them instead"""
    notes: tuple[str, ...] = ()
    """what a person should know, such as an editable install that will not be one"""
    origins: Mapping[str, str] = field(default_factory=FrozenMap)
    """name -> where it lies, for all that lands in the work directory; to be read with ``read``"""

    @property
    def source_digests(self) -> Mapping[str, str]:
        """Those of ``digests`` that are of what lands in the work directory."""
        start = f"{_SOURCE}/"
        return FrozenMap({name: each for name, each in self.digests.items() if name.startswith(start)})

    def copied(self) -> Staged:
        """The same, of which all lies in ``folder``."""
        return replace(
            self, origins=FrozenMap({name: f"{self.folder}/{name}" for name in self.source_digests})
        )

    def read(self, name: str, take: Callable[[BinaryIO, int, bool], object]) -> None:
        """Give ``take`` a file of ``origins``: the stream, its size, whether it is executable.

        Raises:
            SourceError: it cannot be read, or is not what ``digests`` says any more.
        """
        try:
            found = contents.hand_over(self.origins[name], take)
        except contents.ReadError as error:
            refusals = Refusals()
            refusals.add_error(self.origins[name], error.cause)
            refusals.raise_if_any()
        else:
            if found != self.digests[name]:
                raise _changed([name])

    def link(self, name: str) -> str:
        """Where a link of ``origins`` leads; raises as ``read`` does."""
        try:
            text, found = contents.read_link(self.origins[name])
        except contents.ReadError:
            found = ""
        if found != self.digests[name]:
            raise _changed([name])
        return text


class _Taken(NamedTuple):
    """A field that names files: what it names, the ignore file that was asked, how many files came."""

    where: str
    path: str
    ignore_file: str | None
    files: int


def collect(spec: ImageSpec) -> Listing:
    """List what enters the image. Reads requirements files and ignore files, no other content.

    Relative paths start from ``spec.root``, else from the working directory. Raises SourceError.
    """
    root = os.path.abspath(spec.root or os.curdir)  # noqa: PTH100 - links stay as they are written
    forest = Forest()
    roots = [root]
    taken: list[_Taken] = []
    if spec.source_root is not None:
        top = os.path.normpath(os.path.join(root, spec.source_root))  # noqa: PTH118
        if not os.path.isdir(_existing(top, "source_root")):  # noqa: PTH112
            raise SourceError(
                f"source_root: {shown(top)} is a file", hint="name its folder, or use copy for single files"
            )
        roots.insert(0, top)
        rules = forest.rules(top)
        taken.append(_Taken("source_root", top, rules.file, forest.add_tree(top, _SOURCE, rules)))
    for number, path in enumerate(spec.copy):
        taken.append(_copy(forest, roots, path, f"copy[{number}]"))
    requirements = close(spec, root, forest)
    entries = forest.entries()
    for where, path, file, files in taken:
        if not files:
            raise SourceError(
                f"{where}: nothing to copy in {shown(path)}",
                hint=f"it is empty, or all in it is ignored by {shown(file)}"
                if file
                else "it is empty, or holds only what is never copied (.git, __pycache__, caches)",
            )
    return Listing(entries, requirements)


def digests(spec: ImageSpec) -> Mapping[str, str]:
    """Path in the image's context -> digest of what stands there; credentials do not enter.

    A digest is ``KIND:SHA256`` (``file``, ``exec`` for an executable one, ``link``) or ``dir``.
    Raises SourceError for what is missing or cannot be read.
    """
    listing = collect(spec)
    refusals = Refusals()
    found = _text_digests(listing.requirements)
    for target, kind, origin in listing.entries:
        try:
            found[target] = contents.digest(kind, origin)
        except contents.ReadError as error:
            refusals.add_error(origin, error.cause)
    refusals.raise_if_any()
    return FrozenMap(found)


def listed(spec: ImageSpec) -> Staged:
    """What ``stage`` would give, without a folder, digests, and the values of secret files."""
    listing = collect(spec)
    values = {name: Secret(b"") for name in _secret_files(spec)}
    return _staged(spec, listing, None, FrozenMap(), values)


def stage(
    spec: ImageSpec,
    folder: Path,
    listing: Listing | None = None,
    *,
    in_place: Mapping[str, str] | None = None,
) -> Staged:
    """Copy what is listed into ``folder`` (made if absent), hashing what is written.

    Files become 0644 or 0755, folders 0755, times are all the same. Raises SourceError.

    ``in_place``: leave what lands in the work directory where it lies, and believe these digests of it: to be
    read with ``Staged.read``, or to be copied by ``copy_in``, where what changed meanwhile is an error.
    """
    listing = listing or collect(spec)
    values = {name: Secret(_read_secret(path, name)) for name, path in _secret_files(spec).items()}
    found = _text_digests(listing.requirements)
    refusals = Refusals()
    origins: dict[str, str] = {}
    try:
        contents.make_folder(folder)
        for target, kind, origin in listing.entries:
            try:
                if in_place is not None and target.startswith(f"{_SOURCE}/"):
                    found[target] = in_place.get(target) or contents.digest(kind, origin)
                    origins[target] = origin
                else:
                    found[target] = contents.copy(kind, origin, folder / target)
            except contents.ReadError as error:
                refusals.add_error(origin, error.cause)
        staged = _staged(spec, listing, folder, FrozenMap(found), values)
        for name, text in staged.texts.items():
            contents.make_folder(folder / _REQUIREMENTS)
            if name not in staged.secrets:
                contents.write(folder / name, text)
        if staged.has_runtime:
            stage_runtime(folder)
        contents.settle_folders(folder)
    except OSError as error:
        raise unwritable(folder, error) from error
    refusals.raise_if_any()
    return staged.copied() if in_place is None else replace(staged, origins=FrozenMap(origins))


def copy_in(staged: Staged) -> None:
    """Copy what ``stage`` left where it lies into the folder. ``Staged.copied`` is of the copies.

    Raises:
        SourceError: it cannot be read or written, or is not what it was.
    """
    if staged.folder is None:
        raise ValueError("these files are only listed")
    refusals, changed = Refusals(), []
    try:
        for name, origin in staged.origins.items():
            known = staged.digests[name]
            try:
                if contents.copy(known.partition(":")[0], origin, staged.folder / name) != known:
                    changed.append(name)
            except contents.ReadError as error:
                refusals.add_error(origin, error.cause)
        contents.settle_folders(staged.folder)
    except OSError as error:
        raise unwritable(staged.folder, error) from error
    refusals.raise_if_any()
    if changed:
        raise _changed(changed)


def unwritable(folder: Path, error: OSError) -> SourceError:
    """The error for a folder of ours that takes no files."""
    return SourceError(
        f"cannot write to {folder}: {error.strerror}",
        hint="make room there, or set TMPDIR to a folder on another file system",
    )


def check_unchanged(before: Mapping[str, str], staged: Staged) -> None:
    """Raise SourceError when what was staged is not what ``digests`` saw before."""
    after = staged.digests
    changed = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
    if changed:
        raise _changed(changed)


def _changed(changed: list[str]) -> SourceError:
    names = [shown(name) for name in changed[:_NAMED_CHANGES]]
    if len(changed) > _NAMED_CHANGES:
        names.append(f"… and {len(changed) - _NAMED_CHANGES} more")
    return SourceError(
        f"changed between hashing and staging: {', '.join(names)}",
        hint="build again when nothing writes there; files that keep changing belong in .imagesmithignore",
    )


def _existing(path: str, where: str) -> str:
    if not os.path.lexists(path):
        raise SourceError(
            f"{where}: {shown(path)} does not exist",
            hint="relative paths start from the spec file's folder, in Python from the working directory",
        )
    if not os.path.exists(path):  # noqa: PTH110
        raise SourceError(f"{where}: {shown(path)} is a link to nothing", hint="mend the link")
    return path


def _copy(forest: Forest, roots: list[str], named: str, where: str) -> _Taken:
    """One item of ``copy``: relative paths land where they are, absolute ones at their last component."""
    normal = os.path.normpath(named)
    path = os.path.normpath(os.path.join(roots[-1], normal))  # noqa: PTH118
    landing = os.path.basename(normal) if os.path.isabs(normal) else normal  # noqa: PTH117, PTH119
    target = _SOURCE if landing == os.curdir else f"{_SOURCE}/{landing}"
    is_folder = os.path.isdir(_existing(path, where))  # noqa: PTH112
    root, inner = folder_of(roots, path) or (path, "")
    if not is_folder and not inner:
        forest.add_file(path, target)
        return _Taken(where, path, None, 1)
    rules = forest.rules(root)
    ignored, inside = rules.trace(inner, folder=is_folder)
    if ignored:
        raise SourceError(
            f"{where}: {shown(path)} is left out, for {ignored}",
            hint="add an exception to the ignore file, a pattern that starts with '!'",
        )
    if not is_folder:
        forest.add_file(path, target)
        return _Taken(where, path, rules.file, 1)
    return _Taken(where, path, rules.file, forest.add_tree(path, target, rules, inner, inside=inside))


def _text_digests(requirements: Closure | None) -> dict[str, str]:
    if requirements is None:
        return {}
    hashed = {**requirements.texts, **requirements.bases}
    return {
        f"{_REQUIREMENTS}/{name}": "file:" + hashlib.sha256(strip_credentials(text).encode()).hexdigest()
        for name, text in hashed.items()
    }


def _staged(
    spec: ImageSpec,
    listing: Listing,
    folder: Path | None,
    found: Mapping[str, str],
    values: Mapping[str, Secret],
) -> Staged:
    closure = listing.requirements
    real = {f"{_REQUIREMENTS}/{name}": text for name, text in closure.texts.items()} if closure else {}
    texts = {name: strip_credentials(text) for name, text in real.items()}
    secrets = {name: Secret(text.encode()) for name, text in real.items() if text != texts[name]}
    arguments = closure.arguments if closure else frozenset[Named]()
    if (conf := pip_conf(spec, arguments)) is not None:
        secrets["pip.conf"] = Secret(conf.encode())
    files = _landed(listing.entries)
    return Staged(
        folder=folder,
        digests=found,
        files=files,
        has_source=bool(files),
        has_requirements=closure is not None,
        has_runtime=wants_runtime(closure),
        texts=FrozenMap(texts),
        binaries=tuple(
            target
            for target, kind, _ in listing.entries
            if kind != "dir" and target.startswith(f"{_REQUIREMENTS}/")
        ),
        secrets=FrozenMap({**secrets, **values}),
        arguments=arguments,
        notes=closure.notes if closure else (),
    )


def _landed(entries: tuple[Entry, ...]) -> tuple[str, ...]:
    """The files and links of ``source/``, and its empty folders, relative to the work directory."""
    start = f"{_SOURCE}/"
    inner = [entry for entry in entries if entry.target.startswith(start)]
    full = {entry.target.rpartition("/")[0] for entry in inner}
    return tuple(
        entry.target.removeprefix(start) + ("/" if entry.kind == "dir" else "")
        for entry in inner
        if entry.kind != "dir" or entry.target not in full
    )


def _secret_files(spec: ImageSpec) -> dict[str, str]:
    root = spec.root or os.curdir
    return {
        f"pip_secret_mounts[{number}]": os.path.join(root, path)  # noqa: PTH118
        for number, (path, _) in enumerate(spec.pip_secret_mounts)
    }


def _read_secret(path: str, where: str) -> bytes:
    try:
        return Path(_existing(path, where)).read_bytes()
    except OSError as error:
        raise SourceError(
            f"{where}: {shown(path)} cannot be read: {error.strerror}",
            hint="name a file that this user may read",
        ) from error
