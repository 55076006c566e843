"""Builder plugins: their names from metadata alone, one imported when it is asked for.

The name of an entry point in the group ``imagesmith`` is the name of a builder. So listing imports
nothing, a broken plugin that nobody asks for costs nothing, and one that is asked for says what is wrong
with it.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from imagesmith.builder import BuilderEntry
from imagesmith.errors import (
    ApiMismatch,
    BrokenPlugin,
    DuplicateBuilder,
    ImagesmithError,
    PluginError,
    UnknownBuilder,
    UsageError,
)
from imagesmith.hookspecs import PROJECT

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from imagesmith._entry_points import Point
    from imagesmith.builder import Builder, Environment

__all__ = [
    "DEFAULT_BUILDER",
    "DEPRECATED_APIS",
    "SUPPORTED_APIS",
    "Blocked",
    "Broken",
    "Loaded",
    "PluginRecord",
    "Plugins",
    "choose",
]

DEFAULT_BUILDER = "envd"
"""The builder taken when nothing names one. The only builder's name in the core."""

SUPPORTED_APIS: frozenset[int] = frozenset({1})
"""Versions of the plugin API that this imagesmith speaks."""
DEPRECATED_APIS: frozenset[int] = frozenset()
"""Those among them that a later imagesmith will not speak."""

_HOOK = "imagesmith_builder"
_CONTRACT = ("name", "version", "features", "refusals", "ready", "plan", "build")


@dataclass(frozen=True, slots=True)
class Loaded:
    """A plugin that keeps the contract."""

    name: str
    distribution: str
    version: str
    entry: BuilderEntry


@dataclass(frozen=True, slots=True)
class Broken:
    """A plugin that cannot be used; ``error`` says why and what to do."""

    name: str
    distribution: str
    version: str
    error: PluginError


@dataclass(frozen=True, slots=True)
class Blocked:
    """A plugin that was told not to be used; it was not imported."""

    name: str
    distribution: str
    version: str


PluginRecord: TypeAlias = Loaded | Broken | Blocked


@dataclass(frozen=True, slots=True)
class _Claim:
    """A distribution says that it has the builder of that name."""

    name: str
    source: Point | BuilderEntry
    distribution: str = field(default="(given by hand)")
    version: str = "-"

    def __str__(self) -> str:
        return f"{self.distribution} {self.version}"


class Plugins:
    """The builders of this process.

    Args:
        discover: look for installed plugins; False leaves only ``entries`` (for tests and embedders).
        blocked: names that must not be used; their plugins are never imported.
        entries: builders given by hand, beside the installed ones.
    """

    def __init__(
        self, *, discover: bool = True, blocked: Collection[str] = (), entries: Iterable[BuilderEntry] = ()
    ) -> None:
        self._discover = discover
        self._blocked = frozenset(blocked)
        self._entries = tuple(entries)
        self._known: dict[str, list[_Claim]] | None = None
        self._loaded: dict[str, BuilderEntry] = {}

    def names(self) -> tuple[str, ...]:
        """The names of the builders that may be used, sorted. Imports no plugin."""
        return tuple(name for name in self._claims() if name not in self._blocked)

    def load(self, name: str) -> BuilderEntry:
        """Import that plugin, and no other.

        Raises:
            UnknownBuilder: nothing installed has that name, or it is blocked.
            DuplicateBuilder: two distributions claim it.
            BrokenPlugin: it does not import, or breaks the contract.
            ApiMismatch: it was written for another version of the plugin API.
        """
        if name in self._loaded:
            return self._loaded[name]
        claims = self._claims().get(name, [])
        if name in self._blocked:
            raise UnknownBuilder(
                f"the builder '{name}' is blocked", hint="take it out of IMAGESMITH_BLOCKED_BUILDERS"
            )
        if not claims:
            raise _unknown(name, self.names())
        entry = _entry(_only(claims))
        self._loaded[name] = entry
        return entry

    def make(self, name: str, environment: Environment) -> Builder:
        """Its builder, given what it may touch.

        Raises:
            PluginError: as ``load``, or what its factory made is no builder.
        """
        entry = self.load(name)
        claim = self._claims()[name][0]
        try:
            made = entry.factory(environment)
            lacking = [each for each in _CONTRACT if getattr(made, each, None) is None]
            table = made.features if not lacking else None
        except ImagesmithError:
            raise
        except (Exception, SystemExit) as error:
            raise _broken(claim, f"its builder cannot be made: {type(error).__name__}: {error}") from error
        if lacking:
            raise _broken(claim, f"its factory made {_described(made)} without {', '.join(lacking)}")
        if not isinstance(table, Mapping):
            raise _broken(claim, f"its feature table is {_described(table)}, not a mapping")
        return made

    def survey(self) -> tuple[PluginRecord, ...]:
        """A record of every plugin there is, by name. Imports them all, and never raises for them."""
        return tuple(self._record(claim) for claims in self._claims().values() for claim in claims)

    def _record(self, claim: _Claim) -> PluginRecord:
        if claim.name in self._blocked:
            return Blocked(claim.name, claim.distribution, claim.version)
        try:
            entry = self.load(claim.name)
        except PluginError as error:
            return Broken(claim.name, claim.distribution, claim.version, error)
        return Loaded(claim.name, claim.distribution, claim.version, entry)

    def _claims(self) -> dict[str, list[_Claim]]:
        if self._known is None:
            found = [_Claim(entry.name, entry) for entry in self._entries]
            if self._discover:
                found += _installed()
            known: dict[str, list[_Claim]] = {}
            for claim in sorted(found, key=lambda claim: (claim.name, claim.distribution)):
                known.setdefault(claim.name, []).append(claim)
            self._known = known
        return self._known


def choose(
    argument: str | None,
    spec_builder: str | None,
    env: str | None,
    project: str | None,
    installed: Collection[str],
) -> str:
    """The name of the builder to use. Pure.

    The order: the argument, the spec, ``IMAGESMITH_BUILDER``, the project's configuration, the default
    one where it is installed, the only one that is installed.

    Raises:
        PluginError: none is installed.
        UsageError: several are, without the default one, and nothing names one of them.
    """
    if named := argument or spec_builder or env or project:
        return named
    if DEFAULT_BUILDER in installed:
        return DEFAULT_BUILDER
    if len(installed) == 1:
        return next(iter(installed))
    if not installed:
        raise PluginError(
            "no builder is installed, or IMAGESMITH_BLOCKED_BUILDERS blocks all that are",
            hint=f"pip install imagesmith-{DEFAULT_BUILDER} (the default one)",
        )
    raise UsageError(
        f"several builders are installed, and nothing says which one to use: {', '.join(sorted(installed))}",
        hint="name one: --builder, builder= in the spec, IMAGESMITH_BUILDER, or builder in [tool.imagesmith]",
    )


def _installed() -> list[_Claim]:
    from imagesmith._entry_points import entry_points  # noqa: PLC0415

    return [
        _Claim(point.name, point, point.distribution or "an unknown distribution", point.version or "?")
        for point in entry_points(PROJECT)
    ]


def _only(claims: list[_Claim]) -> _Claim:
    if len(claims) > 1:
        name = claims[0].name
        raise DuplicateBuilder(
            f"{len(claims)} distributions claim the builder '{name}': {' and '.join(map(str, claims))}",
            hint="uninstall all but one of them",
        )
    return claims[0]


def _unknown(name: str, installed: Collection[str]) -> UnknownBuilder:
    from difflib import get_close_matches  # noqa: PLC0415

    near = get_close_matches(name, installed, n=1)
    listed = f"installed: {', '.join(installed)}" if installed else "none is installed"
    # a misspelt name gets no install command: a stranger may have taken it in the index
    hint = (
        f"did you mean '{near[0]}'?" if near else f"if there is such a builder: pip install imagesmith-{name}"
    )
    return UnknownBuilder(f"no builder is named '{name}'; {listed}", hint=hint)


def _entry(claim: _Claim) -> BuilderEntry:
    """What the claim's plugin says, checked."""
    if isinstance(claim.source, BuilderEntry):
        entry: object = claim.source
    else:
        try:
            plugin = claim.source.load()
        except (Exception, SystemExit) as error:
            message = f"does not import: {type(error).__name__}: {error}"
            raise _broken(claim, message, f"pip install --force-reinstall {claim.distribution}") from error
        entry = _ask(claim, plugin)
    if not isinstance(entry, BuilderEntry):
        raise _broken(claim, f"{_HOOK}() returned {_described(entry)}, not a BuilderEntry")
    if entry.api not in SUPPORTED_APIS:
        spoken = ", ".join(map(str, sorted(SUPPORTED_APIS)))
        newer = isinstance(entry.api, int) and entry.api > max(SUPPORTED_APIS)
        raise ApiMismatch(
            f"the plugin '{claim.name}' ({claim}) is written for version {entry.api!r} of the plugin API; "
            f"this imagesmith speaks {spoken}",
            hint=f"pip install --upgrade {'imagesmith' if newer else claim.distribution}",
        )
    if entry.name != claim.name:
        raise _broken(claim, f"its entry point is named '{claim.name}', but its builder '{entry.name}'")
    if not callable(entry.factory):
        raise _broken(claim, f"its factory is {_described(entry.factory)}, which cannot be called")
    if entry.api in DEPRECATED_APIS:
        warnings.warn(
            f"the plugin '{claim.name}' ({claim}) speaks version {entry.api} of the plugin API, "
            "which a later imagesmith will not",
            FutureWarning,
            stacklevel=2,
        )
    return entry


def _ask(claim: _Claim, plugin: object) -> object:
    """Call the plugin's hook in a manager of its own, so that no other plugin has a part in it."""
    from pluggy import PluginManager, PluginValidationError  # noqa: PLC0415 - only where a plugin is used

    from imagesmith import hookspecs  # noqa: PLC0415

    manager = PluginManager(PROJECT)
    manager.add_hookspecs(hookspecs)
    try:
        manager.register(plugin, name=claim.name)
        manager.check_pending()
    except PluginValidationError as error:
        unknown = [hook.name for hook in manager.get_hookcallers(plugin) or () if not hook.has_spec()]
        if not unknown:
            raise _broken(claim, f"its hook does not fit: {error}") from error
        from difflib import get_close_matches  # noqa: PLC0415

        near = get_close_matches(unknown[0], [_HOOK], n=1)
        guess = f"; did you mean '{near[0]}'?" if near else f"; there is only '{_HOOK}'"
        raise _broken(claim, f"it implements a hook that does not exist: '{unknown[0]}'{guess}") from error
    if not manager.get_hookcallers(plugin):
        forgotten = callable(getattr(plugin, _HOOK, None))
        reason = f"{_HOOK} lacks its @hookimpl" if forgotten else f"it implements no hook '{_HOOK}'"
        raise _broken(claim, reason)
    try:
        return manager.hook.imagesmith_builder()
    except ImagesmithError as error:
        raise _broken(claim, f"{_HOOK}() said: {error.message}", error.hint) from error
    except (Exception, SystemExit) as error:
        raise _broken(claim, f"{_HOOK}() raised {type(error).__name__}: {error}") from error


def _broken(claim: _Claim, reason: str, hint: str | None = None) -> BrokenPlugin:
    return BrokenPlugin(
        f"the plugin '{claim.name}' ({claim}) is broken: {reason}",
        hint=hint
        or f"tell the makers of {claim.distribution}, or pip install --upgrade {claim.distribution}",
    )


def _described(value: object) -> str:
    if isinstance(value, type):
        return f"the class {value.__name__} (have you forgotten the parentheses?)"
    return f"{value!r}"[:80] if value is None else f"a {type(value).__name__}"
