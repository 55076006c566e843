"""Every error imagesmith raises on purpose.

ImagesmithError                      what went wrong, and (``hint``) what to do next
├── SpecError (ValueError)           a declaration is wrong; all its problems at once       exit 2
│   └── SpecFileError                the same, in a file
├── UsageError                       a target, option or setting is wrong                   exit 2
├── InvalidReference (ValueError)    text that is no image reference                        exit 2
├── SourceError                      files that should enter the image: missing, changed …  exit 2
├── BaseImageError                   the base image is absent or lacks what the spec asks   exit 1
├── CondaError                       a conda environment cannot be laid out                 exit 3
│   ├── ChannelError                 a channel is absent, does not answer or refuses
│   └── CondaUnsolvable              no set of packages is what was asked for               exit 1
├── PluginError                      a builder plugin cannot be used                        exit 3
│   ├── UnknownBuilder (LookupError) no installed plugin has that name                      exit 2
│   ├── DuplicateBuilder             two distributions claim one name
│   ├── BrokenPlugin                 it does not import, or breaks the contract
│   └── ApiMismatch                  written for another version of the plugin API
├── BuilderError                     a builder said no
│   ├── FeatureUnsupported           the builder cannot honour a field                      exit 2
│   ├── BuilderNotReady              its tool or engine is missing                          exit 3
│   └── BuildFailed                  a step failed                                          exit 1
├── StoreError                       a place where images live did not do its part          exit 3
│   ├── RegistryError                any answer of a registry that is not the wanted one
│   │   ├── AuthenticationFailed     401 and 403
│   │   ├── BlobUnknown              a manifest names a blob that the registry lacks
│   │   └── RegistryUnreachable      no answer at all
│   ├── EngineError                  the local engine
│   └── LayoutError                  an OCI layout folder
├── ExistenceUnknown                 whether the image exists cannot be told                exit 3
└── VerificationFailed               the finished image is not what was asked for           exit 1
"""

from __future__ import annotations

from dataclasses import dataclass

TYPE_CHECKING = False  # typing is not imported at run time: it costs 2 ms
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import ClassVar

__all__ = [
    "ApiMismatch",
    "AuthenticationFailed",
    "BaseImageError",
    "BlobUnknown",
    "BrokenPlugin",
    "BuildFailed",
    "BuilderError",
    "BuilderNotReady",
    "ChannelError",
    "CondaError",
    "CondaUnsolvable",
    "DuplicateBuilder",
    "EngineError",
    "ExistenceUnknown",
    "FeatureUnsupported",
    "ImagesmithError",
    "InvalidReference",
    "LayoutError",
    "PluginError",
    "Problem",
    "RegistryError",
    "RegistryUnreachable",
    "SourceError",
    "SpecError",
    "SpecFileError",
    "StoreError",
    "UnknownBuilder",
    "UsageError",
    "VerificationFailed",
]


class ImagesmithError(Exception):
    """What went wrong; ``hint`` says what to do next, ``exit_code`` what the command line returns."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  hint: {self.hint}" if self.hint else self.message


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a declaration: the field path (``packages[1]``), why, and what to do."""

    path: str
    message: str
    hint: str | None = None

    def __str__(self) -> str:
        text = f"{self.path}: {self.message}" if self.path else self.message
        return f"{text}; {self.hint}" if self.hint else text


class SpecError(ImagesmithError, ValueError):
    """A declaration is wrong. ``problems`` lists all that is wrong with it, not only the first."""

    exit_code = 2

    def __init__(self, problems: Iterable[Problem], *, where: str = "ImageSpec") -> None:
        self.problems = tuple(problems)
        self.where = where
        count = len(self.problems)
        head = f"{where}: {count} problem{'s' if count != 1 else ''}"
        super().__init__("\n".join([head, *(f"  {problem}" for problem in self.problems)]))


class SpecFileError(SpecError):
    """A declaration in a file is wrong, or the file cannot be read as one."""

    def __init__(self, problems: Iterable[Problem], *, file: str) -> None:
        super().__init__(problems, where=file)
        self.file = file


class UsageError(ImagesmithError):
    """A target, an option or a setting is wrong."""

    exit_code = 2


class InvalidReference(ImagesmithError, ValueError):
    """Text that is no image reference."""

    exit_code = 2


class SourceError(ImagesmithError):
    """Files that should enter the image are missing, unreadable, or changed while they were read."""

    exit_code = 2


class BaseImageError(ImagesmithError):
    """The base image is absent, or lacks a platform or a python that the spec asks for."""


class CondaError(ImagesmithError):
    """A conda environment cannot be laid out on this machine."""

    exit_code = 3


class ChannelError(CondaError):
    """A conda channel is absent, does not answer or refuses."""


class CondaUnsolvable(CondaError):
    """The channels hold no set of packages that is what was asked for."""

    exit_code = 1


class PluginError(ImagesmithError):
    """A builder plugin cannot be used."""

    exit_code = 3


class UnknownBuilder(PluginError, LookupError):
    """No installed plugin has that name."""

    exit_code = 2


class DuplicateBuilder(PluginError):
    """Two distributions claim one builder name; neither is taken."""


class BrokenPlugin(PluginError):
    """A plugin does not import, or does not keep the contract."""


class ApiMismatch(PluginError):
    """A plugin was written for a version of the plugin API that this imagesmith does not speak."""


class BuilderError(ImagesmithError):
    """A builder said no."""

    def __init__(self, message: str, *, builder: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.builder = builder


class FeatureUnsupported(BuilderError):
    """The builder cannot honour these fields; ``fields`` maps each to the reason."""

    exit_code = 2

    def __init__(
        self, message: str, *, builder: str, fields: Mapping[str, str], hint: str | None = None
    ) -> None:
        super().__init__(message, builder=builder, hint=hint)
        self.fields = dict(fields)


class BuilderNotReady(BuilderError):
    """The builder's tool or engine is missing or does not answer."""

    exit_code = 3


class BuildFailed(BuilderError):
    """A step failed. ``tail`` holds the last lines it printed, ``log`` the path of the whole log."""

    def __init__(
        self,
        message: str,
        *,
        builder: str,
        step: str | None = None,
        returncode: int | None = None,
        tail: Iterable[str] = (),
        log: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, builder=builder, hint=hint)
        self.step = step
        self.returncode = returncode
        self.tail = tuple(tail)
        self.log = log

    def __str__(self) -> str:
        lines = [self.message]
        lines += [f"  | {line}" for line in self.tail]
        if self.log:
            lines.append(f"  log: {self.log}")
        if self.hint:
            lines.append(f"  hint: {self.hint}")
        return "\n".join(lines)


class StoreError(ImagesmithError):
    """A place where images live did not do its part."""

    exit_code = 3


class RegistryError(StoreError):
    """A registry's answer is not the wanted one.

    ``status`` is the HTTP status, ``code`` the registry's own word (``TAG_INVALID``); None without one.
    """

    def __init__(
        self,
        message: str,
        *,
        registry: str,
        status: int | None = None,
        code: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.registry = registry
        self.status = status
        self.code = code


class AuthenticationFailed(RegistryError):
    """The registry refuses the credentials, or wants some (401, 403)."""


class BlobUnknown(RegistryError):
    """A manifest or index names a blob or manifest that the registry does not have; it was not taken."""


class RegistryUnreachable(RegistryError):
    """No answer: refused, timed out, no such host, or TLS not trusted."""


class EngineError(StoreError):
    """The local engine is absent or refused."""


class LayoutError(StoreError):
    """An OCI layout folder is unreadable or not one."""


class ExistenceUnknown(ImagesmithError):
    """Whether the image exists cannot be told; the message holds the cause."""

    exit_code = 3


class VerificationFailed(ImagesmithError):
    """The finished image, read back, is not what was asked for; nothing was published."""
