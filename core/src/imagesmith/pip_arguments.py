"""What an installer is told beside the requirements. Credentials never stand in its arguments. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from imagesmith._frozen import FrozenMap
from imagesmith._urls import strip_credentials
from imagesmith.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from imagesmith.spec import ImageSpec

__all__ = ["install_arguments", "overruled", "pip_conf"]

_SETTINGS: Final = {
    "-i": "index-url", "--index-url": "index-url", "--extra-index-url": "extra-index-url",
    "-f": "find-links", "--find-links": "find-links",
}  # fmt: skip
"""An option whose value is an address -> the setting of a ``pip.conf`` that says the same."""


class _Told(NamedTuple):
    arguments: tuple[str, ...]
    settings: Mapping[str, tuple[str, ...]]
    """Setting -> all its values, where one of them holds credentials."""


def install_arguments(spec: ImageSpec) -> tuple[str, ...]:
    """pip's arguments for the spec's indexes and ``pip_extra_args``; what has credentials is not among them.

    That stands in the secret ``pip.conf``.

    Raises:
        UsageError: credentials where pip's settings have no place for them.
    """
    return _told(spec).arguments


def pip_conf(spec: ImageSpec, known: Mapping[str, str] = FrozenMap()) -> str | None:
    """A ``pip.conf`` with the addresses of packages, where one has credentials, else None. A secret.

    ``known``: variables of the install steps. Those of pip would win over the file, so what is given several
    times is taken from them into it: see ``overruled``.

    Raises:
        UsageError: as ``install_arguments``.
    """
    settings = _told(spec).settings
    if not settings:
        return None
    lines = ["[global]"]
    for name, values in settings.items():
        if name == "index-url":
            lines.append(f"{name} = {values[-1]}")
        else:
            lines += [
                f"{name} =",
                *(f"    {url}" for url in (*known.get(_variable(name), "").split(), *values)),
            ]
    return "".join(f"{line}\n" for line in lines)


def overruled(spec: ImageSpec) -> tuple[str, ...]:
    """The variables of pip that say what ``pip.conf`` says; pip takes an empty one for none."""
    return tuple(_variable(name) for name in _told(spec).settings)


def _variable(setting: str) -> str:
    return f"PIP_{setting.replace('-', '_').upper()}"


def _told(spec: ImageSpec) -> _Told:
    main = [f"--index-url={spec.pip_index}"] if spec.pip_index else []
    extra = [f"--extra-index-url={url}" for url in spec.pip_extra_index_url]
    found: dict[str, list[str]] = {}
    rest: list[tuple[str, tuple[str, ...]]] = []
    words = iter([*main, *extra, *spec.pip_extra_args])
    for word in words:
        name, equals, value = word.partition("=")
        setting = _SETTINGS.get(name)
        given = value if equals or setting is None else next(words, None)
        if setting is None or given is None:
            _refuse_credentials(word)
            rest.append(("", (word,)))
        else:
            found.setdefault(setting, []).append(given)
            rest.append((setting, (f"--{setting}", given)))
    hidden = {
        name: tuple(values)
        for name, values in found.items()
        if any(strip_credentials(url) != url for url in values)
    }
    seen = (word for setting, words in rest if setting not in hidden for word in words)
    return _Told(tuple(seen), FrozenMap(hidden))


def _refuse_credentials(word: str) -> None:
    if (cut := strip_credentials(word)) != word:
        raise UsageError(
            f"pip_extra_args: the credentials in {cut!r} would be seen in the build",
            hint="say indexes by --index-url, --extra-index-url or --find-links, packages in packages; "
            "a proxy is taken from this machine's variables",
        )
