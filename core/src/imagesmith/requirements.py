"""Requirements files and packages: everything they reach, as one set of files to install from.

What is staged is flat and self-contained: ``imagesmith.txt`` is the file to install, its folder is the
installer's working directory, and every path in it is relative to that folder.
"""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from imagesmith import _requirement_lines as grammar
from imagesmith._frozen import FrozenMap
from imagesmith._urls import strip_credentials
from imagesmith.errors import SourceError
from imagesmith.identity import portable_argument
from imagesmith.locks import is_lock, read_lock
from imagesmith.pip_arguments import Named, named_files, without_staged
from imagesmith.walker import Forest, folder_of, shown

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from imagesmith.spec import ImageSpec

__all__ = ["ENTRY_FILE", "Closure", "close"]

ENTRY_FILE: Final = "imagesmith.txt"
_FOLDER: Final = "requirements"
_UNREAD: Final = (
    (r"pdm\.lock", "pdm export --prod --format requirements --output requirements.txt"),
    (r"Pipfile\.lock", "pipenv requirements > requirements.txt"),
    (r"pyproject\.toml", "uv pip compile {name} --output-file requirements.txt"),
)


@dataclass(frozen=True, slots=True, repr=False)
class Closure:
    """All that ``requirements`` and ``packages`` reach, but the files that were added to the forest."""

    texts: Mapping[str, str]
    """name -> text of each requirements file, with the credentials that stand in it"""
    names: frozenset[str]
    """canonical names of the packages asked for, as far as the requirements tell them"""
    notes: tuple[str, ...]
    bases: Mapping[str, str] = field(default_factory=FrozenMap)
    """name -> what the digest of that text is made of, where it is not the text itself (lock files)"""
    arguments: frozenset[Named] = frozenset()
    """what ``pip_extra_args`` name, and the texts instead"""


def close(spec: ImageSpec, root: str, forest: Forest) -> Closure | None:
    """Follow the spec's requirements; local files and folders are added to ``forest``.

    None when the spec asks for no package. Raises SourceError with file and line.
    """
    if spec.requirements is None and not spec.packages:
        return None
    walk = _Walk(root, forest)
    top = []
    if spec.requirements is not None:
        path = os.path.normpath(os.path.join(root, spec.requirements))  # noqa: PTH118
        locked = is_lock(path)
        top.append(f"-r {walk.lock(path, spec) if locked else walk.file(path, 'requirements', ())}")
    for package in sorted(set(spec.packages)):
        where = f"packages[{spec.packages.index(package)}]"
        try:
            found = list(grammar.lines(package))
        except grammar.MalformedError as error:
            raise _malformed(where, str(error).partition(": ")[2]) from error
        top += [walk.line(line, where, (root,), ()) for line in found]
        if walk.hashed is not None and "--hash" not in {name for line in found for name, _ in line.options}:
            raise _without_hash(where, package, walk.hashed)
    arguments = [each for each in named_files(spec) if _is_of_this_machine(each[1])]
    for option, path in arguments:
        line = grammar.Line(0, "", (("-c" if option == "--constraint" else option, path),))
        top.append(walk.line(line, "pip_extra_args", (root,), ()))
    walk.texts[ENTRY_FILE] = entry = "".join(f"{line}\n" for line in top)
    if in_image := _paths_of_the_image(spec, arguments):
        walk.bases[ENTRY_FILE] = entry + in_image
    return Closure(walk.texts, frozenset(walk.names), tuple(walk.notes), walk.bases, frozenset(arguments))


def _paths_of_the_image(spec: ImageSpec, staged: Collection[Named]) -> str:
    """The arguments of which the id says too little: the folders of their paths, which nobody hashes."""
    told = map(strip_credentials, without_staged(spec, staged))
    return "".join(f"# {word}\n" for word in told if portable_argument(word) != word)


def _is_of_this_machine(path: str) -> bool:
    """Whether it is no path of the image: those are absolute, and absent here."""
    return not os.path.isabs(path) or os.path.exists(path)  # noqa: PTH110, PTH117


class _Walk:
    """Follows references from file to file and gives everything a flat name.

    Names are numbered in the order of the first reference, so they say nothing of this machine.
    """

    def __init__(self, root: str, forest: Forest) -> None:
        self.root = root
        self.forest = forest
        self.texts: dict[str, str] = {}
        self.names: set[str] = set()
        self.notes: list[str] = []
        self.bases: dict[str, str] = {}
        self.hashed: str | None = None
        """the lock file whose hashes will be checked"""
        self._given: dict[tuple[str, str], str] = {}
        """what it is used as, absolute path -> the name it got"""

    def file(self, path: str, where: str, chain: tuple[str, ...]) -> str:
        """The name of a requirements file, read and followed when it is new."""
        if path in chain:
            circle = " -> ".join(self._show(each) for each in (*chain[chain.index(path) :], path))
            raise SourceError(f"{where}: a circle of requirements files: {circle}", hint="break it up")
        if ("text", path) in self._given:
            return self._given["text", path]
        name = self._name("text", path)
        text = self._read(path, where)
        shown_path = self._show(path)
        # pip: from the working directory; people: from the file that names them
        starts = (self.root, os.path.dirname(path))  # noqa: PTH120
        try:
            out = [
                self.line(line, f"{shown_path}:{line.number}", starts, (*chain, path))
                for line in grammar.lines(text)
            ]
        except grammar.MalformedError as error:
            number, _, reason = str(error).partition(": ")
            raise _malformed(f"{shown_path}:{number}", reason) from error
        self.texts[name] = "".join(f"{line}\n" for line in out)
        return name

    def lock(self, path: str, spec: ImageSpec) -> str:
        """The name of the requirements that a lock file gives."""
        shown_path = self._show(path)
        name = self._name("text", path, ".txt")  # an installer would see a lock file in pylock.toml
        folder = os.path.dirname(path)  # noqa: PTH120
        locked = read_lock(path, shown_path, spec)
        bare = [pin.requirement for pin in locked.pins if not pin.hashes]
        out = []
        for pin in locked.pins:
            words = [self._requirement(pin.requirement, shown_path, (folder,))]
            # installers check the hashes of all or of none
            words += [] if bare else [f"--hash={value}" for value in pin.hashes]
            out.append(" ".join(words))
        self.notes += locked.notes
        if bare and len(bare) < len(locked.pins):
            names = ", ".join(strip_credentials(each) for each in bare)
            self.notes.append(f"{shown_path}: no hash is checked, for these have none: {names}")
        self.hashed = shown_path if locked.pins and not bare else None
        self.texts[name] = "".join(f"{line}\n" for line in out)
        self.bases[name] = locked.basis
        return name

    def line(self, line: grammar.Line, where: str, starts: tuple[str, ...], chain: tuple[str, ...]) -> str:
        """One line as it is staged. ``starts``: the folders that paths in it start from."""
        words = [self._requirement(line.requirement, where, starts)] if line.requirement else []
        for name, value in line.options:
            if value is None:
                words.append(name)
            elif name in ("-r", "-c"):
                if "://" in value and not value.startswith("file:"):
                    raise SourceError(
                        f"{where}: {strip_credentials(value)} lies elsewhere and may change at any time",
                        hint="download it, and name the file",
                    )
                path = os.path.normpath(os.path.join(starts[-1], _local_path(value, where)))  # noqa: PTH118
                words += [name, self.file(path, where, chain)]
            elif name == "-e":
                words.append(self._editable(value, where, starts))
            elif name == "--find-links":
                words += [name, self._links(value, where, starts)]
            elif name in ("--index-url", "--extra-index-url"):
                words += [name, _index(value, where)]
            elif name in ("--hash", "--config-settings", "--global-option"):
                words.append(f"{name}={shlex.quote(value)}")
            else:
                words += [name, shlex.quote(value)]
        return " ".join(words)

    def _requirement(self, text: str, where: str, starts: tuple[str, ...]) -> str:
        try:
            found = grammar.wanted(text)
        except grammar.MalformedError as error:
            raise _malformed(where, str(error)) from error
        if found.name is not None:
            self.names.add(_canonical(found.name))
        if re.match(r"(\S+ *@ *)?git\+file:", found.text):
            raise SourceError(
                f"{where}: {strip_credentials(found.text)} is a repository on this machine, "
                "which a build does not see",
                hint="name its folder as a path, or build a wheel of it",
            )
        if found.path is None:
            return found.text
        marker = f" ; {found.marker}" if found.marker else ""
        return f"./{self._local(found.path, where, starts)}{found.extras}{marker}"

    def _editable(self, text: str, where: str, starts: tuple[str, ...]) -> str:
        """Its folder is not there any more when the image runs, so it becomes a regular install."""
        self.notes.append(f"{where}: -e {strip_credentials(text)} is installed as a regular package")
        try:
            found = grammar.wanted(text if ":" in text or "/" in text else f"./{text}")
        except grammar.MalformedError as error:
            raise _malformed(where, str(error)) from error
        if found.path is not None and not os.path.isdir(self._find(found.path, where, starts)):  # noqa: PTH112
            raise SourceError(f"{where}: -e {text} is no folder", hint="leave out the -e")
        return self._requirement(found.text, where, starts)

    def _local(self, path: str, where: str, starts: tuple[str, ...]) -> str:
        """The name of a wheel, source distribution or project folder, added to the forest when it is new."""
        found = self._find(path, where, starts)
        if ("local", found) in self._given:
            return self._given["local", found]
        if os.path.isdir(found):  # noqa: PTH112
            return self._project(found, path, where)
        name = os.path.basename(found)  # noqa: PTH119
        if not name.lower().endswith(grammar.ARCHIVES):
            raise SourceError(
                f"{where}: {shown(path)} is neither a wheel, a source distribution, nor a project folder",
                hint="for a file of requirements write -r before it",
            )
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+!-]*", name):
            raise SourceError(f"{where}: {shown(name)} is no name of a distribution", hint="rename the file")
        if name.endswith(".whl"):
            # not at the top: it costs 12 ms, and few name a wheel
            from packaging.utils import InvalidWheelFilename, parse_wheel_filename  # noqa: PLC0415

            try:
                self.names.add(parse_wheel_filename(name)[0])
            except InvalidWheelFilename as error:
                raise SourceError(
                    f"{where}: {error}", hint="wheels keep the name they were built with"
                ) from error
        self.forest.add_file(found, f"{_FOLDER}/{name}")
        self._given["local", found] = name
        return name

    def _project(self, folder: str, path: str, where: str) -> str:
        place = folder_of([self.root], folder)
        if place is None:
            raise SourceError(
                f"{where}: the project {shown(path)} lies outside of {shown(self.root)}",
                hint="build a wheel of it (python -m build --wheel), and name that",
            )
        if not any(os.path.exists(f"{folder}/{name}") for name in ("pyproject.toml", "setup.py")):  # noqa: PTH110
            raise SourceError(
                f"{where}: {shown(path)} holds neither pyproject.toml nor setup.py",
                hint="to copy a folder without installing it, name it in copy or source_root",
            )
        name = self._name("local", folder)
        rules = self.forest.rules(self.root)
        ignored, inside = rules.trace(place[1], folder=True)
        if ignored:
            raise SourceError(
                f"{where}: {shown(path)} is left out, for {ignored}",
                hint="add an exception to the ignore file, a pattern that starts with '!'",
            )
        self.forest.add_tree(folder, f"{_FOLDER}/{name}", rules, place[1], inside=inside)
        return name

    def _links(self, value: str, where: str, starts: tuple[str, ...]) -> str:
        """A local folder of distributions, staged; a URL stays."""
        if "://" in value and not value.startswith("file:"):
            return value
        path = self._find(_local_path(value, where), where, starts)
        if ("links", path) in self._given:
            return f"./{self._given['links', path]}"
        try:
            names = sorted(os.listdir(path))  # noqa: PTH208
        except OSError as error:
            raise SourceError(
                f"{where}: {shown(value)}: {error.strerror}", hint="name a folder of wheels, or a URL"
            ) from error
        names = [name for name in names if name.lower().endswith(grammar.ARCHIVES)]
        if not names:
            raise SourceError(f"{where}: no distribution in {shown(value)}", hint="leave out --find-links")
        folder_name = self._name("links", path)
        for name in names:
            self.forest.add_file(f"{path}/{name}", f"{_FOLDER}/{folder_name}/{name}")
        return f"./{folder_name}"

    def _find(self, path: str, where: str, starts: tuple[str, ...]) -> str:
        """Paths start from the root (pip: the working directory), else from the file that names them."""
        tried = [os.path.normpath(os.path.join(start, path)) for start in starts]  # noqa: PTH118
        for each in tried:
            if os.path.exists(each):  # noqa: PTH110
                return each
        looked = " and ".join(map(shown, dict.fromkeys(tried)))
        raise SourceError(
            f"{where}: {shown(path)} does not exist (looked for {looked})",
            hint="relative paths start from the spec's root, or from the file that names them",
        )

    def _read(self, path: str, where: str) -> str:
        name = os.path.basename(path)  # noqa: PTH119
        if is_lock(path):
            raise SourceError(
                f"{where}: {self._show(path)}: a lock file is not included in another file",
                hint="name it itself as the spec's requirements",
            )
        for pattern, command in _UNREAD:
            if re.fullmatch(pattern, name):
                raise SourceError(
                    f"{where}: {self._show(path)}: it is not a file of requirements",
                    hint=f"export it and name that file: {command.format(name=name)}",
                )
        try:
            return grammar.decode(Path(path).read_bytes())
        except grammar.MalformedError as error:
            raise SourceError(f"{self._show(path)}: {error}", hint="save the file as UTF-8") from error
        except OSError as error:
            raise SourceError(
                f"{where}: {self._show(path)} cannot be read: {error.strerror}",
                hint="relative paths start from the spec's root; in a file, -r and -c from its own folder",
            ) from error

    def _name(self, use: str, path: str, end: str = "") -> str:
        """A flat name for ``path``; the root's own name is of this machine and stays out."""
        base = "root" if path == self.root else os.path.basename(path)  # noqa: PTH119
        plain = re.sub(r"[^A-Za-z0-9._-]+", "_", base)
        name = self._given[use, path] = f"{len(self._given):02}-{plain}{end}"
        return name

    def _show(self, path: str) -> str:
        place = folder_of([self.root], path)
        return shown(place[1] if place else path)


def _index(url: str, where: str) -> str:
    if "://" not in url or url.startswith("file:"):
        raise SourceError(
            f"{where}: {url!r} is an index on this machine, which a build does not see",
            hint="use --find-links for a folder of wheels",
        )
    return url


def _local_path(value: str, where: str) -> str:
    try:
        return grammar.local_path(value)
    except grammar.MalformedError as error:
        raise _malformed(where, str(error)) from error


def _without_hash(where: str, package: str, lock: str) -> SourceError:
    return SourceError(
        f"{where}: {strip_credentials(package)!r} has no hash, and beside {lock} every package needs one: "
        "installers check the hashes of all or of none",
        hint="add it to the project and lock again, or write NAME==VERSION --hash=sha256:…; "
        "what the lock file has already need not be named",
    )


def _malformed(where: str, reason: str) -> SourceError:
    return SourceError(
        f"{where}: {strip_credentials(reason)}",
        hint="a line is NAME[extra]>=1.0 ; marker, NAME @ URL, a path, or an option that pip allows in files",
    )


def _canonical(name: str) -> str:
    """The normal form of a project's name (packaging's ``canonicalize_name``, without its import)."""
    return re.sub(r"[-_.]+", "-", name).lower()
