"""The contract between the core and a builder.

A builder makes a file system: it turns a plan into an image whose files are right and leaves it in a
store under a digest. The core makes the configuration (env, entrypoint, labels, marker …), checks it
and publishes the tag. Everything here is a value or a protocol; nothing does I/O.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import TYPE_CHECKING, ClassVar, Protocol

from imagesmith._frozen import FrozenMap
from imagesmith.destination import Destination, LayoutFolder, LocalEngine, RegistryRepository

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from imagesmith.events import Reporter
    from imagesmith.runner import Runner
    from imagesmith.sources import Staged
    from imagesmith.spec import ImageSpec
    from imagesmith.stores import StoredImage
    from imagesmith.stores.shared import Registries

__all__ = [
    "PLUGIN_API",
    "BaseImage",
    "BuildPlan",
    "BuildRequest",
    "Builder",
    "BuilderEntry",
    "Built",
    "ChoosesBase",
    "Command",
    "CondaPackage",
    "CondaTree",
    "Contribution",
    "Destination",
    "Environment",
    "Feature",
    "LayoutFolder",
    "LocalEngine",
    "PythonPackage",
    "Readiness",
    "ReadsInPlace",
    "RegistryRepository",
    "Secret",
    "Support",
]

PLUGIN_API = 1
"""The version of this contract. A plugin states the one it was written for."""


class Feature(StrEnum):
    """What a spec can ask of a builder: the spec's own field names, and three that are not fields."""

    APT_PACKAGES = "apt_packages"
    BASE_IMAGE = "base_image"
    BUILD_ENV = "build_env"
    BUILDER_OPTIONS = "builder_options"
    COMMANDS = "commands"
    CONDA_CHANNELS = "conda_channels"
    CONDA_PACKAGES = "conda_packages"
    COPY = "copy"
    CUDA = "cuda"
    CUDNN = "cudnn"
    ENTRYPOINT = "entrypoint"
    ENV = "env"
    LABELS = "labels"
    PACKAGES = "packages"
    PIP_EXTRA_ARGS = "pip_extra_args"
    PIP_EXTRA_INDEX_URL = "pip_extra_index_url"
    PIP_INDEX = "pip_index"
    PIP_SECRET_MOUNTS = "pip_secret_mounts"  # noqa: S105 - a field's name
    PLATFORM = "platform"
    PYTHON_VERSION = "python_version"
    REGISTRY = "registry"
    REGISTRY_CONFIG = "registry_config"
    REQUIREMENTS = "requirements"
    SOURCE_ROOT = "source_root"
    USER = "user"
    WORKDIR = "workdir"
    # not fields of the spec:
    LOCAL_ENGINE = "local-engine"
    """leaves an image in the local engine when no registry is set"""
    MULTI_PLATFORM = "multi-platform"
    """can be asked for one platform after the other, foreign ones included"""
    OCI_LAYOUT = "oci-layout"
    """leaves an image in an OCI layout folder"""


class Support(Enum):
    """Whether a builder can honour a feature. One not listed in its table is IMPOSSIBLE."""

    FULL = "full"
    NOT_YET = "not yet"
    IMPOSSIBLE = "impossible"


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether a builder can build on this machine now: ``ok``, what was found, and what to do if not."""

    ok: bool
    details: tuple[str, ...] = ()
    problem: str | None = None
    hint: str | None = None


@dataclass(frozen=True, slots=True)
class BaseImage:
    """The base, resolved once. ``digest`` is None and ``config`` empty where nothing was asked (render)."""

    reference: str
    """as the spec or the settings name it, with the implicit parts written out"""
    digest: str | None = None
    """of the manifest for the request's platform: ``sha256:…``"""
    config: Mapping[str, object] = field(default_factory=FrozenMap)
    """the OCI image configuration document (``architecture``, ``config``, ``rootfs`` …)"""
    local: bool = False
    """True when it was found in the local engine, not in a registry"""
    manifest: Mapping[str, object] = field(default_factory=FrozenMap)
    """the image manifest document that ``digest`` names (``layers`` …); empty where no store showed it"""

    @property
    def pinned(self) -> str:
        """``repository@digest`` where the digest is known, else the reference."""
        if self.digest is None or self.local:
            return self.reference
        head, _, last = self.reference.split("@", 1)[0].rpartition("/")
        repository = last.split(":", 1)[0]
        return f"{head}/{repository}@{self.digest}" if head else f"{repository}@{self.digest}"


class Secret:
    """A value that must be seen nowhere: not in repr, plan, event, log, label or layer."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        self._value = value

    def reveal(self) -> bytes:
        """The value itself; for the engine's ears only."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(…)"


@dataclass(frozen=True, slots=True)
class Contribution:
    """What a builder's file system needs in the configuration, beside what the spec says."""

    path: tuple[str, ...] = ()
    """folders that stand first on PATH, such as ``/opt/venv/bin``"""
    env: Mapping[str, str] = field(default_factory=FrozenMap)
    """variables under the spec's own (which win)"""
    labels: Mapping[str, str] = field(default_factory=FrozenMap)
    """labels under the spec's own, such as those by which a tool knows its image again"""


@dataclass(frozen=True, slots=True)
class PythonPackage:
    """One distribution in the image that the spec's requirements led to."""

    name: str
    version: str
    file: str
    """the wheel's name"""
    sha256: str
    """of the wheel, in hexadecimal digits"""
    url: str = ""
    """where it was taken from, without credentials; empty for what the spec's own files brought"""


@dataclass(frozen=True, slots=True)
class CondaPackage:
    """One package of a solved conda environment."""

    name: str
    version: str
    build: str
    url: str
    """where it was taken from, without credentials"""
    sha256: str
    """of the package file, in hexadecimal digits; empty where the channel does not say"""
    size: int
    """of the package file, in bytes; 0 where the channel does not say"""


@dataclass(frozen=True, slots=True)
class CondaTree:
    """A conda environment as plain files, for ``PREFIX`` in the image: a builder only copies it.

    Its python is the image's python. Nothing of it may be edited in place: most files are hard links.
    """

    PREFIX: ClassVar[str] = "/opt/conda"

    specs: tuple[str, ...]
    """what was asked for"""
    channels: tuple[str, ...]
    """addresses in their order, without credentials"""
    packages: tuple[CondaPackage, ...] = ()
    """what was found; empty where nothing was asked (render)"""
    folder: Path | None = None
    """where the files lie when ``build`` is called; files 0644 or 0755, times decided by the content"""

    @property
    def python(self) -> str | None:
        """The version of its python; None where nothing was asked."""
        return next((package.version for package in self.packages if package.name == "python"), None)

    @property
    def contribution(self) -> Contribution:
        """What the image's configuration needs for it."""
        env = {"PYTHON_VERSION": self.python} if self.python else {}
        return Contribution((f"{self.PREFIX}/bin",), FrozenMap(env))


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """All that a builder is told. One platform: the core loops and writes the index."""

    spec: ImageSpec
    platform: str
    """``os/arch[/variant]``"""
    base: BaseImage
    destination: Destination
    staged: Staged
    """the files that enter the image, laid out in a folder of the core's (or only listed, for render)"""
    secrets: Mapping[str, Secret] = field(default_factory=FrozenMap)
    """by the names that ``staged`` and the spec's ``pip_secret_mounts`` use"""
    options: Mapping[str, object] = field(default_factory=FrozenMap)
    """the machine's settings for this builder (``IMAGESMITH_<BUILDER>_<OPTION>``, project configuration)"""
    conda: CondaTree | None = None
    """the environment that brings the image's python and the spec's conda packages; None: neither is needed
    (or the builder does not say that it can copy one, by ``Feature.CONDA_PACKAGES``)"""
    ask_again: bool = False
    """True in the second of two tries: the registry lacked a blob that the first one named, so what a builder
    remembers of what stands there must be asked for again"""


@dataclass(frozen=True, slots=True)
class Command:
    """A process the build will start. No secret stands in it; ``…`` marks what is known only then."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=FrozenMap)


@dataclass(frozen=True, slots=True)
class BuildPlan:
    """What a build would do, as a value: same request, same plan. ``render`` prints it."""

    builder: str
    request: BuildRequest
    files: Mapping[str, str]
    """text files the builder writes, by path relative to its build folder"""
    commands: tuple[Command, ...]
    contributed: Contribution = field(default_factory=Contribution)
    steps: tuple[str, ...] = ()
    """names of the steps, in order, as a person would say them"""
    files_apart: bool = False
    """True: what is staged as ``source/`` is no part of this plan, and nothing in it depends on these files
    (so no commands follow): the core may put them over the result. See ``Built.lacks_files``"""


@dataclass(frozen=True, slots=True)
class Built:
    """Where the built file system stands: in ``store`` (the request's destination) under ``digest``.

    In the local engine ``digest`` is the image id; elsewhere that of the manifest. A builder that pushes
    layers itself need write neither configuration nor manifest: ``digest`` is "" then, and ``image`` says
    which layers there are.
    """

    store: Destination
    digest: str
    contributed: Contribution = field(default_factory=Contribution)
    image: StoredImage | None = None
    """the image itself, where its blobs stand in the store but no manifest was written: the core writes
    configuration and manifest in one. Wanted of ``config``: ``os``, ``architecture``, ``variant`` and
    ``rootfs``; of ``manifest``: ``schemaVersion``, ``mediaType``, ``layers``"""
    packages: tuple[PythonPackage, ...] = ()
    """what was resolved and put into the image, where the builder knows it"""
    lacks_files: bool = False
    """True, only where the plan has its ``files_apart``: the work directory is empty, no link leads to it,
    and it belongs to the final user, group 0, mode 0775. The core adds the files as a layer of their own, and
    after an edit puts another one in its place without asking the builder. False: the files are in place"""


class Builder(Protocol):
    """A name, a feature table and three methods."""

    @property
    def name(self) -> str:
        """The entry point's name."""

    @property
    def version(self) -> str:
        """The distribution's version; it goes into the label ``io.imagesmith.builder``."""

    @property
    def features(self) -> Mapping[Feature, Support]:
        """A feature not listed is IMPOSSIBLE."""

    def refusals(self, request: BuildRequest) -> Mapping[str, str]:
        """Field name -> reason, for what the table cannot say (this value, with that base). Pure."""

    def ready(self) -> Readiness:
        """Whether this machine can build now. Never raises."""

    def plan(self, request: BuildRequest) -> BuildPlan:
        """What will be done. Pure: no network, clock, environment or writes."""

    def build(self, plan: BuildPlan, report: Reporter) -> Built:
        """Do it. Raises BuildFailed or BuilderNotReady; leaves nothing behind but the image."""


class ChoosesBase(Protocol):
    """A builder that can stand on few bases only says which one an unset ``base_image`` stands for."""

    def default_base(self, spec: ImageSpec, configured: str | None, *, ask: bool) -> str | None:
        """A reference; None: the usual default.

        Args:
            spec: one without ``base_image`` and ``cuda``.
            configured: what the machine's settings name.
            ask: whether engine and network may be asked; for showing a plan they may not, and words will do.

        Raises:
            ImagesmithError: it cannot be told.
        """


class ReadsInPlace(Protocol):
    """A builder that reads the files of the work directory once, and by ``Staged.read``: they are not copied
    for it, and one that changes meanwhile is an error."""

    @property
    def reads_in_place(self) -> bool:
        """True; see ``Staged.origins``."""


@dataclass(frozen=True, slots=True)
class Environment:
    """Everything of the machine that a builder may touch, injected."""

    runner: Runner
    env: Mapping[str, str]
    cache_dir: Path
    """a folder of the builder's own under the user's cache; it may not exist yet"""
    options: Mapping[str, object] = field(default_factory=FrozenMap)
    """the machine's settings for this builder"""
    registries: Registries | None = None
    """connections and logins that the core uses for this build, for builders that open repositories"""


@dataclass(frozen=True, slots=True)
class BuilderEntry:
    """What a plugin's hook returns: how to make its builder. ``name`` equals the entry point's name."""

    name: str
    summary: str
    factory: Callable[[Environment], Builder]
    api: int = PLUGIN_API
    needs_engine: bool = True
    """False: it builds where no Docker engine answers, and is named there as a way out"""
