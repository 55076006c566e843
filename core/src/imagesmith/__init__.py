"""imagesmith: one Python ``ImageSpec``, any builder, the same image.

Importing this costs little and loads the standard library only: programs do it inside the image they
describe. Everything but ImageSpec is imported when it is first used.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module

from imagesmith._version import __version__
from imagesmith.spec import ImageSpec

TYPE_CHECKING = False  # typing is not imported at run time: it costs 2 ms
if TYPE_CHECKING:
    from typing import Final

    from imagesmith.authoring import command_environment, final_user, install_environment, redactions
    from imagesmith.base import base_environment, python_mismatch, stated_python
    from imagesmith.builder import (
        PLUGIN_API,
        BaseImage,
        Builder,
        BuilderEntry,
        BuildPlan,
        BuildRequest,
        Built,
        ChoosesBase,
        Command,
        CondaPackage,
        CondaTree,
        Contribution,
        Destination,
        Environment,
        Feature,
        LayoutFolder,
        LocalEngine,
        PythonPackage,
        Readiness,
        RegistryRepository,
        Secret,
        Support,
    )
    from imagesmith.conda_script import conda_check
    from imagesmith.engine import RegistryFacts
    from imagesmith.errors import (
        ApiMismatch,
        AuthenticationFailed,
        BaseImageError,
        BlobUnknown,
        BrokenPlugin,
        BuilderError,
        BuilderNotReady,
        BuildFailed,
        ChannelError,
        CondaError,
        CondaUnsolvable,
        DuplicateBuilder,
        EngineError,
        ExistenceUnknown,
        FeatureUnsupported,
        ImagesmithError,
        InvalidReference,
        LayoutError,
        PluginError,
        Problem,
        RegistryError,
        RegistryUnreachable,
        SourceError,
        SpecError,
        SpecFileError,
        StoreError,
        UnknownBuilder,
        UsageError,
        VerificationFailed,
    )
    from imagesmith.events import Event, Message, Phase, Reporter, StepDone, StepLog, StepStarted, silent
    from imagesmith.hookspecs import hookimpl
    from imagesmith.loading import load
    from imagesmith.pip_arguments import install_arguments
    from imagesmith.pipeline import BuildResult, Existence, build, exists, render
    from imagesmith.runner import Completed, Runner, SubprocessRunner, ToolMissing, ToolTimeout

__all__ = [
    "PLUGIN_API",
    "ApiMismatch",
    "AuthenticationFailed",
    "BaseImage",
    "BaseImageError",
    "BlobUnknown",
    "BrokenPlugin",
    "BuildFailed",
    "BuildPlan",
    "BuildRequest",
    "BuildResult",
    "Builder",
    "BuilderEntry",
    "BuilderError",
    "BuilderNotReady",
    "Built",
    "ChannelError",
    "ChoosesBase",
    "Command",
    "Completed",
    "CondaError",
    "CondaPackage",
    "CondaTree",
    "CondaUnsolvable",
    "Contribution",
    "Destination",
    "DuplicateBuilder",
    "EngineError",
    "Environment",
    "Event",
    "Existence",
    "ExistenceUnknown",
    "Feature",
    "FeatureUnsupported",
    "ImageSpec",
    "ImagesmithError",
    "InvalidReference",
    "LayoutError",
    "LayoutFolder",
    "LocalEngine",
    "Message",
    "Phase",
    "PluginError",
    "Problem",
    "PythonPackage",
    "Readiness",
    "RegistryError",
    "RegistryFacts",
    "RegistryRepository",
    "RegistryUnreachable",
    "Reporter",
    "Runner",
    "Secret",
    "SourceError",
    "SpecError",
    "SpecFileError",
    "StepDone",
    "StepLog",
    "StepStarted",
    "StoreError",
    "SubprocessRunner",
    "Support",
    "ToolMissing",
    "ToolTimeout",
    "UnknownBuilder",
    "UsageError",
    "VerificationFailed",
    "__version__",
    "base_environment",
    "build",
    "command_environment",
    "conda_check",
    "exists",
    "final_user",
    "hookimpl",
    "install_arguments",
    "install_environment",
    "load",
    "python_mismatch",
    "redactions",
    "render",
    "silent",
    "stated_python",
]

_HOMES: Final = {
    "authoring": "command_environment final_user install_environment redactions",
    "base": "base_environment python_mismatch stated_python",
    "builder": "PLUGIN_API BaseImage BuildPlan BuildRequest Builder BuilderEntry Built ChoosesBase Command "
    "CondaPackage CondaTree Contribution Destination Environment Feature LayoutFolder LocalEngine "
    "PythonPackage Readiness RegistryRepository Secret Support",
    "conda_script": "conda_check",
    "engine": "RegistryFacts",
    "events": "Event Message Phase Reporter StepDone StepLog StepStarted silent",
    "hookspecs": "hookimpl",
    "loading": "load",
    "pip_arguments": "install_arguments",
    "pipeline": "BuildResult Existence build exists render",
    "runner": "Completed Runner SubprocessRunner ToolMissing ToolTimeout",
}
"""Module -> the public names that come from it; those not named here are in ``errors``."""


def _home(name: str) -> str:
    return next((module for module, names in _HOMES.items() if name in names.split()), "errors")


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'imagesmith' has no attribute {name!r}")
    module = f"imagesmith.{_home(name)}"
    try:
        value: object = getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise ImportError(
            f"imagesmith.{name} is not in the part of imagesmith that images carry; import it where it is "
            "used, or add 'imagesmith' to the packages of the spec"
        ) from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


if not os.path.exists(os.path.join(__path__[0], "loading.py")):  # noqa: PTH110, PTH118 - pathlib costs 5 ms
    # The few modules that images carry stand first on the path; a whole imagesmith may stand behind them.
    __path__ += [os.path.join(entry, "imagesmith") for entry in sys.path]  # noqa: PTH118
