"""``ImageSpec``: what an image is made of, as one immutable value.

Standard library only: programs import this inside the image it describes. Whatever needs files, settings
or the network stands in modules above this one, which are reached by name when they are needed.
"""

# ruff: noqa: RUF009 - the defaults come from declare(), whose values are immutable
from __future__ import annotations

import copy as copying
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from importlib import import_module

from imagesmith import _checks as checks
from imagesmith._fields import (
    Declaration,
    Kind,
    Problems,
    Role,
    declare,
    file_path,
    many,
    mapping,
    naming_unknown_fields,
    one_or_many,
    pairs,
    plain_data,
    refuse_assignment,
    shell_words,
    text,
    unknown_fields,
)
from imagesmith._frozen import FrozenMap
from imagesmith._urls import strip_credentials
from imagesmith.errors import Problem, SpecError

TYPE_CHECKING = False  # typing is not imported at run time: it costs 2 ms
if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from typing import Any, Final, Self

    from imagesmith._fields import (
        AnyPath,
        Arguments,
        Map,
        OptionalTexts,
        Options,
        Path,
        PathPairs,
        Paths,
        Texts,
    )

__all__ = ["DEFAULT_PLATFORM", "DEFAULT_PYTHON", "DEFAULT_WORKDIR", "ImageSpec", "declarations"]

DEFAULT_PLATFORM: Final = "linux/amd64"
DEFAULT_PYTHON: Final = "3.12"
"""The python of an image whose spec names neither a python nor a base image."""
DEFAULT_WORKDIR: Final = "/workspace"


def _base_image() -> Kind:
    reference = text(checks.image_reference)

    def normalise(value: object, path: str, problems: Problems) -> object:
        return value if isinstance(value, ImageSpec) else reference.normalise(value, path, problems)

    return Kind("image reference or ImageSpec", normalise)


_LINES = many(text(checks.single_line))
_WORDS = many(text(checks.word))
_MAP: Final[FrozenMap[str, str]] = FrozenMap()


@dataclass(frozen=True, slots=True, repr=False)
class ImageSpec:
    """One container image, declared. Immutable, hashable, picklable; may be subclassed.

    Unset is ``None`` or nothing in it (for ``entrypoint`` an empty list is a value of its own). Lists are
    held as tuples, mappings as immutable ones. Raises SpecError with all problems at once.
    """

    name: str = declare(text(checks.name), "Image name, without registry and tag.", default="imagesmith")
    python_version: str | None = declare(
        text(checks.python_version), "Minor or patch version of Python; unset: the base image's own."
    )
    builder: str | None = declare(text(checks.word), "Name of the builder plugin.", role=Role.NONE)
    source_root: Path = declare(file_path(), "Folder whose files land in the work directory.")
    env: Map = declare(
        mapping(checks.environment_key), "Environment of the image and of the commands.", default=_MAP
    )
    registry: str | None = declare(
        text(checks.registry, blank_is_unset=True),
        "Registry to publish to: account, host, host:port, with or without a path; unset: local engine.",
        role=Role.NONE,
    )
    packages: Texts = declare(
        many(text(checks.package)), "Python packages, as pip takes them.", default=(), urls=True
    )
    conda_packages: Texts = declare(
        many(text(checks.conda_package)), "Conda packages, as match specifications.", default=(), urls=True
    )
    conda_channels: Texts = declare(
        _WORDS, "Conda channels, in order; conda-forge follows them.", default=(), ordered=True, urls=True
    )
    requirements: Path = declare(file_path(), "A requirements file; what it refers to comes along.")
    apt_packages: Texts = declare(many(text(checks.apt_package)), "Debian packages.", default=())
    cuda: str | None = declare(text(checks.dotted_numbers), "CUDA version; not beside base_image.")
    cudnn: str | None = declare(text(checks.dotted_numbers), "cuDNN version; needs cuda.")
    base_image: str | ImageSpec | None = declare(
        _base_image(), "What the image starts from: a reference, or another ImageSpec, built first."
    )
    platform: str | Sequence[str] = declare(
        one_or_many(text(checks.platform), many(text(checks.platform), distinct=True)),
        "Target platforms, os/arch[/variant].",
        default=DEFAULT_PLATFORM,
    )
    pip_index: str | None = declare(text(checks.word), "URL of the package index.", urls=True)
    pip_extra_index_url: Texts = declare(
        _WORDS, "URLs of further package indexes, in order.", default=(), ordered=True, urls=True
    )
    registry_config: Path = declare(
        file_path(), "JSON file with registry settings and credentials.", role=Role.NONE
    )
    entrypoint: OptionalTexts = declare(
        many(text()), "Program and arguments; unset: the base image's; empty: none.", ordered=True
    )
    commands: Texts = declare(
        many(text()), "Shell commands run at the end of the build, in order.", default=(), ordered=True
    )
    tag_format: str | None = declare(
        text(checks.tag_format), "Pattern of the tag, around {spec_hash}.", role=Role.NONE
    )
    _: KW_ONLY
    copy: Paths = declare(
        many(file_path(checks.copied_path)),
        "Files and folders that land in the work directory; absolute ones at their last component.",
        default=(),
    )
    build_env: Map = declare(
        mapping(checks.environment_key), "Environment of the build alone, not in the image.", default=_MAP
    )
    pip_extra_args: Arguments = declare(
        shell_words(_LINES), "Further arguments of the installer.", default=(), ordered=True, urls=True
    )
    pip_secret_mounts: PathPairs = declare(
        pairs(file_path(), file_path(checks.mount_path)),
        "Pairs (file, path where it is mounted) while packages are installed; never in the image.",
        role=Role.NONE,
        default=(),
    )
    builder_options: Options = declare(
        plain_data(), "Options of the builder, as plain data.", role=Role.TAG_ONLY, default=_MAP, urls=True
    )
    labels: Map = declare(mapping(checks.label_key), "Labels of the image.", default=_MAP)
    workdir: str | None = declare(
        text(checks.workdir), f"Absolute work directory in the image; unset: {DEFAULT_WORKDIR}."
    )
    user: str | None = declare(
        text(checks.user), "User of the image, name|uid[:group|gid]; unset: the base's."
    )
    root: Path = declare(
        file_path(), "Folder that relative paths start from; unset: the working directory.", role=Role.NONE
    )

    def __post_init__(self) -> None:
        """Normalise and check every field; raise all problems at once."""
        problems: Problems = []
        for name, told in _TABLE.items():
            value = getattr(self, name)
            held = told.default if value is None else told.normalise(value, name, problems)
            object.__setattr__(self, name, held)
        if self.cuda is not None and self.base_image is not None:
            problems.append(Problem("cuda", "beside base_image: each decides what the image starts from"))
        if self.cudnn is not None and self.cuda is None:
            problems.append(Problem("cudnn", "without cuda: a cuDNN is made for one CUDA version"))
        if problems:
            raise SpecError(problems, where=type(self).__name__)

    def __repr__(self) -> str:
        shown = []
        for name, told in _TABLE.items():
            value = getattr(self, name)
            if value != told.default:
                hidden = dict.fromkeys(value, "…") if name in ("env", "build_env") else value
                shown.append(f"{name}={strip_credentials(repr(hidden))}")
        return f"{type(self).__name__}({', '.join(shown)})"

    def __getstate__(self) -> object:
        return object.__getstate__(self)

    def __setstate__(self, state: Sequence[Mapping[str, object] | None]) -> None:
        for part in state:
            for name, value in (part or {}).items():
                object.__setattr__(self, name, value)

    # Making new specs

    def replace(self, **changes: Any) -> Self:
        """A copy with these fields set; it is of the same class and is checked again."""
        problems = unknown_fields(changes, _fields_of(type(self)))
        changed = copying.copy(self)
        for name in changes.keys() - {problem.path for problem in problems}:
            object.__setattr__(changed, name, changes[name])
        try:
            changed.__post_init__()
        except SpecError as error:
            problems += error.problems
        if problems:
            raise SpecError(problems, where=type(self).__name__)
        return changed

    @classmethod
    def from_env(cls, *, pinned_packages: Sequence[str] = (), **fields: Any) -> Self:
        """A spec of this environment: its minor version of python, these packages as installed.

        The packages' own dependencies are not pinned. A package that is not installed is a SpecError;
        inside an image (of whatever spec) it is named without a version instead: the program that
        declares it must be able to start there, and as the spec's own image holds the package, the id
        then differs from that image's, so that ``is_container()`` is rightly False.
        """
        pinned = _ask("container", "pin", pinned_packages)
        version = _ask("container", "running_python")
        packages = fields.pop("packages", None) or ()
        if not isinstance(packages, str):
            packages = (*packages, *pinned)
        return cls(**{"python_version": version, **fields, "packages": packages})

    def _extended(self, name: str, more: object, *, single: type | tuple[type, ...] = str) -> Self:
        held = getattr(self, name)
        if isinstance(more, single):
            return self.replace(**{name: (*held, more)})
        if isinstance(more, Iterable) and not isinstance(more, Mapping):
            more = sorted(more) if isinstance(more, (set, frozenset)) else more
            return self.replace(**{name: (*held, *more)})
        return self if more is None else self.replace(**{name: more})

    def _merged(self, name: str, more: object) -> Self:
        if isinstance(more, Mapping):
            more = {**getattr(self, name), **more}
        return self if more is None else self.replace(**{name: more})

    def with_packages(self, packages: str | Sequence[str]) -> Self:
        """A copy with these Python packages added."""
        return self._extended("packages", packages)

    def with_apt_packages(self, apt_packages: str | Sequence[str]) -> Self:
        """A copy with these Debian packages added."""
        return self._extended("apt_packages", apt_packages)

    def with_conda_packages(self, conda_packages: str | Sequence[str]) -> Self:
        """A copy with these conda packages added."""
        return self._extended("conda_packages", conda_packages)

    def with_conda_channels(self, conda_channels: str | Sequence[str]) -> Self:
        """A copy with these conda channels added, after those it has."""
        return self._extended("conda_channels", conda_channels)

    def with_pip_extra_index_url(self, pip_extra_index_url: str | Sequence[str]) -> Self:
        """A copy with these package indexes added, after those it has."""
        return self._extended("pip_extra_index_url", pip_extra_index_url)

    def with_pip_extra_args(self, pip_extra_args: str | Sequence[str]) -> Self:
        """A copy with these arguments of the installer added; one string is split as a shell would."""
        if isinstance(pip_extra_args, str):
            pip_extra_args = type(self)(pip_extra_args=pip_extra_args).pip_extra_args
        return self._extended("pip_extra_args", pip_extra_args)

    def with_pip_secret_mounts(
        self, pip_secret_mounts: tuple[AnyPath, AnyPath] | Sequence[Sequence[AnyPath]]
    ) -> Self:
        """A copy with one pair (file, mount path), or a list of pairs, added."""
        if isinstance(pip_secret_mounts, tuple) and all(
            isinstance(part, (str, os.PathLike)) for part in pip_secret_mounts
        ):
            pip_secret_mounts = [pip_secret_mounts]
        return self._extended("pip_secret_mounts", pip_secret_mounts)

    def with_commands(self, commands: str | Sequence[str]) -> Self:
        """A copy with these commands added, after those it has."""
        return self._extended("commands", commands)

    def with_copy(self, copy: AnyPath | Sequence[AnyPath]) -> Self:
        """A copy that takes these files and folders into the image as well."""
        return self._extended("copy", copy, single=(str, os.PathLike))

    def with_entrypoint(self, entrypoint: str | Sequence[str]) -> Self:
        """A copy with this entrypoint instead; one string is a program without arguments."""
        return self.replace(entrypoint=[entrypoint] if isinstance(entrypoint, str) else entrypoint)

    def with_env(self, env: Mapping[str, str]) -> Self:
        """A copy with these variables set as well."""
        return self._merged("env", env)

    def with_build_env(self, build_env: Mapping[str, str]) -> Self:
        """A copy with these variables of the build set as well."""
        return self._merged("build_env", build_env)

    def with_builder_options(self, builder_options: Mapping[str, object]) -> Self:
        """A copy with these options of the builder set as well."""
        return self._merged("builder_options", builder_options)

    def with_labels(self, labels: Mapping[str, str]) -> Self:
        """A copy with these labels set as well."""
        return self._merged("labels", labels)

    # Asking a spec

    @property
    def id(self) -> str:
        """Identity of the declaration: the same on every machine and inside the image; reads nothing."""
        return str(_ask("identity", "spec_id", self))

    @property
    def tag(self) -> str:
        """Identity of the content: reads the files that enter the image. Raises SourceError."""
        return str(_ask("identity", "tag_of", self))

    def image_name(self) -> str:
        """``registry/name:tag``, or ``name:tag`` without a registry. Raises SourceError."""
        repository = f"{self.registry}/{self.name}" if self.registry else self.name
        return f"{repository}:{self.tag}"

    def exist(self) -> bool | None:
        """Whether the image is published (without a registry: in the local engine); None: cannot tell."""
        existence = _ask("pipeline", "exists", self)
        found: bool | None = existence.found
        if found is None:
            import logging  # noqa: PLC0415 - not free, and rare

            logging.getLogger("imagesmith").warning(
                "cannot tell whether %s exists: %s", existence.reference, existence.cause
            )
        return found

    def is_container(self) -> bool:
        """True only in a process whose image was built from this spec."""
        return bool(_ask("container", "is_container", self))

    def imports(self) -> AbstractContextManager[None]:
        """``with spec.imports():`` imports for real inside; elsewhere a missing module is no error."""
        guard: AbstractContextManager[None] = _ask("container", "imports", self)
        return guard

    @property
    def platforms(self) -> tuple[str, ...]:
        """The target platforms as a tuple."""
        return (self.platform,) if isinstance(self.platform, str) else tuple(self.platform)

    @property
    def workdir_or_default(self) -> str:
        """The work directory in the image."""
        return self.workdir or DEFAULT_WORKDIR

    def to_dict(self) -> dict[str, Any]:
        """What is declared, as plain data fit for a label: no credentials, no values of variables."""
        described: dict[str, Any] = _ask("identity", "describe", self)
        return described


def declarations() -> Mapping[str, Declaration]:
    """The field table: name -> declaration, in the order of the fields."""
    return _TABLE


_TABLE: Final = FrozenMap(
    {name: each.metadata["imagesmith"] for name, each in ImageSpec.__dataclass_fields__.items()}
)


def _fields_of(cls: type[ImageSpec]) -> Sequence[str]:
    return [name for name, each in cls.__dataclass_fields__.items() if each.init]


def _ask(module: str, function: str, *arguments: object) -> Any:
    """Call a function of a module above this one; importing those here would turn the arrows round."""
    return getattr(import_module(f"imagesmith.{module}"), function)(*arguments)


if not TYPE_CHECKING:  # a frozen dataclass generates these two, so they are set once it is made
    ImageSpec.__init__ = naming_unknown_fields(ImageSpec.__init__)
    ImageSpec.__setattr__ = refuse_assignment
