"""What the machine or the project says, not the spec: ``[tool.imagesmith]`` and ``IMAGESMITH_*``.

    [tool.imagesmith]
    base-image = "registry.example/python:{python_version}"   # IMAGESMITH_BASE_IMAGE
    cuda-repository = "registry.example/nvidia/cuda"          # IMAGESMITH_CUDA_REPOSITORY
    builder = "envd"                                          # IMAGESMITH_BUILDER
    own-staging = true                                        # IMAGESMITH_OWN_STAGING
    conda-forge = "https://mirror.example/conda-forge"        # IMAGESMITH_CONDA_FORGE
    [tool.imagesmith.envd]                                    # IMAGESMITH_ENVD_ADDRESS
    address = "tcp://127.0.0.1:1234"

The environment wins over the file. Nothing here enters an id; the default base enters the tag.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from imagesmith._frozen import FrozenMap
from imagesmith.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from imagesmith.spec import ImageSpec

__all__ = ["DEFAULT_BASE_IMAGE", "Settings", "load_settings"]

DEFAULT_BASE_IMAGE = "docker.io/library/python:{python_version}-slim"
"""An official python image of the requested version."""

_PREFIX = "IMAGESMITH_"
_OWN = frozenset(
    {"IMAGESMITH_BASE_IMAGE", "IMAGESMITH_BUILDER", "IMAGESMITH_ID", "IMAGESMITH_DEBUG",
     "IMAGESMITH_PROGRESS", "IMAGESMITH_RIG", "IMAGESMITH_OWN_STAGING",
     "IMAGESMITH_CUDA_REPOSITORY",
     "IMAGESMITH_CONDA_FORGE", "IMAGESMITH_BLOCKED_BUILDERS", "IMAGESMITH_CACHE_DIR", "IMAGESMITH_ON_UNKNOWN"}
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Settings:
    """The machine's and the project's settings, as read once."""

    base_image: str | None = None
    """template of the default base; ``{python_version}`` stands for the spec's"""
    cuda_repository: str | None = None
    """where the images that ``cuda`` stands for are, instead of the public place"""
    builder_env: str | None = None
    builder_project: str | None = None
    options: Mapping[str, Mapping[str, object]] = field(default_factory=FrozenMap)
    """by builder name, then by option name (``_`` for ``-``)"""
    blocked: tuple[str, ...] = ()
    own_staging: bool = False
    """give each build a staging tag of its own: for registries that refuse to overwrite a tag"""
    conda_forge: str | None = None
    """the address that the channel name ``conda-forge`` stands for; may hold credentials"""
    file: Path | None = None
    env: Mapping[str, str] = field(default_factory=FrozenMap)
    """the environment they were read from"""

    def default_base(self, spec: ImageSpec) -> str:
        """The reference that an unset ``base_image`` stands for."""
        from imagesmith.spec import DEFAULT_PYTHON  # noqa: PLC0415

        if spec.cuda is not None:
            from imagesmith.cuda import REPOSITORY, cuda_image  # noqa: PLC0415

            return cuda_image(spec.cuda, spec.cudnn, self.cuda_repository or REPOSITORY)
        template = self.base_image or DEFAULT_BASE_IMAGE
        return template.replace("{python_version}", spec.python_version or DEFAULT_PYTHON)

    def cache_dir(self) -> Path:
        """Where locks, logs and the builders' own caches lie."""
        if given := self.env.get("IMAGESMITH_CACHE_DIR"):
            return Path(given)
        base = self.env.get("XDG_CACHE_HOME") or str(Path(self.env.get("HOME") or Path.home()) / ".cache")
        return Path(base) / "imagesmith"

    def documents(self) -> Path:
        """Where manifests and configurations lie that were read from registries."""
        return self.cache_dir() / "documents"


def load_settings(cwd: Path, env: Mapping[str, str]) -> Settings:
    """Read the nearest ``pyproject.toml`` at or above ``cwd`` that has ``[tool.imagesmith]``, then ``env``.

    Raises:
        UsageError: the table holds something that is no setting.
    """
    file, table = _project_table(cwd)
    options: dict[str, dict[str, object]] = {}
    known = {
        "base-image": str,
        "cuda-repository": str,
        "builder": str,
        "own-staging": bool,
        "conda-forge": str,
    }
    for key, value in table.items():
        if isinstance(value, dict):
            options[key] = {name.replace("-", "_"): item for name, item in value.items()}
        elif key not in known:
            from difflib import get_close_matches  # noqa: PLC0415 - only for a mistake

            near = get_close_matches(key, known, n=1)
            hint = (
                f"did you mean '{near[0]}'?"
                if near
                else f"known: {', '.join(known)}, and a table per builder"
            )
            raise UsageError(f"{file}: [tool.imagesmith] has no setting '{key}'", hint=hint)
        elif not isinstance(value, known[key]):
            raise UsageError(
                f"{file}: tool.imagesmith.{key}: expected {known[key].__name__}, got {type(value).__name__}"
            )
    for key, text in env.items():
        if key.startswith(_PREFIX) and key not in _OWN:
            builder, _, option = key.removeprefix(_PREFIX).lower().partition("_")
            if builder and option:
                options.setdefault(builder, {})[option] = text
    blocked = tuple(
        part for part in env.get("IMAGESMITH_BLOCKED_BUILDERS", "").replace(",", " ").split() if part
    )
    return Settings(
        base_image=env.get("IMAGESMITH_BASE_IMAGE") or _text(table.get("base-image")),
        cuda_repository=env.get("IMAGESMITH_CUDA_REPOSITORY") or _text(table.get("cuda-repository")),
        builder_env=env.get("IMAGESMITH_BUILDER") or None,
        builder_project=_text(table.get("builder")),
        options=FrozenMap({name: FrozenMap(values) for name, values in options.items()}),
        blocked=blocked,
        own_staging=env.get("IMAGESMITH_OWN_STAGING", "") not in ("", "0")
        or table.get("own-staging") is True,
        conda_forge=env.get("IMAGESMITH_CONDA_FORGE") or _text(table.get("conda-forge")),
        file=file,
        env=FrozenMap(env),
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _project_table(cwd: Path) -> tuple[Path | None, dict[str, object]]:
    for folder in (cwd, *cwd.parents):
        file = folder / "pyproject.toml"
        if not file.is_file():
            continue
        text = file.read_text(encoding="utf-8", errors="replace")
        if "tool.imagesmith" not in text:
            continue
        import tomllib  # noqa: PLC0415

        try:
            table = tomllib.loads(text).get("tool", {}).get("imagesmith")
        except tomllib.TOMLDecodeError as error:
            raise UsageError(f"{file}: not valid TOML: {error}") from error
        if isinstance(table, dict):
            return file, table
    return None, {}
