"""What an installer is told beside the requirements. Pure.

Credentials never stand in its arguments, and neither do files of this machine, which a build does not see.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from imagesmith._frozen import FrozenMap
from imagesmith._urls import strip_credentials
from imagesmith.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from imagesmith.builder import BuildRequest
    from imagesmith.spec import ImageSpec

__all__ = [
    "Named",
    "install_arguments",
    "named_files",
    "overruled",
    "pip_conf",
    "without_staged",
]

Named: TypeAlias = tuple[str, str]
"""An option of pip and the path that it names."""

_SETTINGS: Final = {
    "-i": "index-url", "--index-url": "index-url", "--extra-index-url": "extra-index-url",
    "-f": "find-links", "--find-links": "find-links", "-c": "constraint", "--constraint": "constraint",
}  # fmt: skip
"""An option whose value is an address or a path -> the setting of a ``pip.conf`` that says the same."""
_OF_FILES: Final = ("constraint", "find-links")


class _Told(NamedTuple):
    arguments: tuple[str, ...]
    settings: Mapping[str, tuple[str, ...]]
    """Setting -> all its values, where one of them holds credentials."""


def install_arguments(request: BuildRequest) -> tuple[str, ...]:
    """pip's arguments for the spec's indexes and ``pip_extra_args``, which a build may show.

    What has credentials is not among them and stands in the secret ``pip.conf``; of files that are staged,
    ``imagesmith.txt`` speaks.

    Raises:
        UsageError: credentials where pip's settings have no place for them.
    """
    return _told(request.spec, request.staged.arguments).arguments


def named_files(spec: ImageSpec) -> tuple[Named, ...]:
    """The constraints and folders of packages that ``pip_extra_args`` name by a path."""
    told = _parsed(spec.pip_extra_args)
    return tuple(each.named for each in told if each.setting in _OF_FILES and "://" not in each.words[-1])


def without_staged(spec: ImageSpec, staged: Collection[Named]) -> tuple[str, ...]:
    """The words of ``pip_extra_args`` but for what is staged; they may hold credentials."""
    return tuple(word for each in _others(spec, staged) for word in each.words)


def pip_conf(
    spec: ImageSpec, staged: Collection[Named] = (), known: Mapping[str, str] = FrozenMap()
) -> str | None:
    """A ``pip.conf`` with the addresses of packages, where one has credentials, else None. A secret.

    Args:
        spec: names them.
        staged: those of ``named_files`` that are.
        known: variables of the install steps. Those of pip would win over the file, so what is given several
            times is taken from them into it: see ``overruled``.

    Raises:
        UsageError: as ``install_arguments``.
    """
    settings = _told(spec, staged).settings
    if not settings:
        return None
    lines = ["[global]"]
    for name, values in settings.items():
        if name == "index-url":
            lines.append(f"{name} = {values[-1]}")
        else:
            more = known.get(_variable(name), "").split()
            lines += [f"{name} =", *(f"    {url}" for url in (*more, *values))]
    return "".join(f"{line}\n" for line in lines)


def overruled(request: BuildRequest) -> tuple[str, ...]:
    """The variables of pip that say what ``pip.conf`` says; pip takes an empty one for none."""
    return tuple(_variable(name) for name in _told(request.spec, request.staged.arguments).settings)


def _variable(setting: str) -> str:
    return f"PIP_{setting.replace('-', '_').upper()}"


class _Argument(NamedTuple):
    setting: str
    """What it says, where that is known; else empty."""
    words: tuple[str, ...]

    @property
    def named(self) -> Named:
        return self.words[0], self.words[-1]


def _parsed(words: Iterable[str]) -> Iterator[_Argument]:
    waiting = iter(words)
    for word in waiting:
        name, equals, value = word.partition("=")
        setting = _SETTINGS.get(name, "")
        given = value if equals or not setting else next(waiting, None)
        yield _Argument(setting, (f"--{setting}", given)) if setting and given else _Argument("", (word,))


def _others(spec: ImageSpec, staged: Collection[Named]) -> list[_Argument]:
    return [each for each in _parsed(spec.pip_extra_args) if each.named not in staged]


def _told(spec: ImageSpec, staged: Collection[Named]) -> _Told:
    main = [f"--index-url={spec.pip_index}"] if spec.pip_index else []
    extra = [f"--extra-index-url={url}" for url in spec.pip_extra_index_url]
    told = [*_parsed([*main, *extra]), *_others(spec, staged)]
    found: dict[str, list[str]] = {}
    for each in told:
        if each.setting:
            found.setdefault(each.setting, []).append(each.words[-1])
        else:
            _refuse_credentials(*each.words)
    hidden = {
        name: tuple(values)
        for name, values in found.items()
        if any(strip_credentials(url) != url for url in values)
    }
    seen = (word for each in told if each.setting not in hidden for word in each.words)
    return _Told(tuple(seen), FrozenMap(hidden))


def _refuse_credentials(word: str) -> None:
    if (cut := strip_credentials(word)) != word:
        raise UsageError(
            f"pip_extra_args: the credentials in {cut!r} would be seen in the build",
            hint="say indexes by --index-url, --extra-index-url or --find-links, packages in packages; "
            "a proxy is taken from this machine's variables",
        )
