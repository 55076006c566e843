"""Identity of a declaration (id) and of a content (tag), and what a label may say of a spec.

Both are SHA-256 over canonical JSON: keys sorted, no floats, unset fields absent. So a field that is added
to ImageSpec later changes no id that exists. The values of today are fixed by golden vectors in the tests.
"""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
import re

from imagesmith._checks import is_absolute
from imagesmith._fields import Role
from imagesmith._urls import strip_credentials
from imagesmith.spec import DEFAULT_PYTHON, ImageSpec, declarations

TYPE_CHECKING = False  # typing is not imported at run time: it costs 2 ms
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any, Final

__all__ = ["SCHEMA", "canonical_json", "content_tag", "describe", "portable_argument", "spec_id", "tag_of"]

SCHEMA: Final = 1
"""Version of the encoding; another one gives every spec another id."""

_BASE32: Final = "abcdefghijklmnopqrstuvwxyz234567"
_ABSOLUTE: Final = {"absolute": True}
_FILE_URL: Final = r"\bfile:(?://(?:localhost)?)?(/[^\s;#\[]*)"


def spec_id(spec: ImageSpec) -> str:
    """Identity of the declaration, 26 characters [a-z2-7]. Pure: reads neither files nor environment."""
    fields = _declared(spec, Role.IDENTITY)
    if isinstance(spec.base_image, ImageSpec):
        fields["base_image"] = {"id": spec_id(spec.base_image)}
    return _hash({"schema": SCHEMA, "what": "id", "fields": fields})


def content_tag(
    spec: ImageSpec, *, digests: Mapping[str, str], default_base: str, base_tag: str | None = None
) -> str:
    """The tag of the image: the id, every default made explicit, and the digests of all files in it.

    ``digests``: path in the image's context -> digest of what stands there. ``default_base``: the
    reference that stands for an unset ``base_image``. ``base_tag``: the tag of a base that is an
    ImageSpec; unset, the base is asked for it, which reads files; all else is pure.
    """
    if isinstance(spec.base_image, ImageSpec):
        base: object = {"tag": base_tag or spec.base_image.tag}
    else:
        base = spec.base_image or default_base
    asked_python = spec.python_version or (DEFAULT_PYTHON if spec.base_image is None else None)
    content = {
        "base": base,
        "builder_options": _declared(spec, Role.TAG_ONLY),
        "files": dict(digests),
        "id": spec_id(spec),
        "platforms": sorted(spec.platforms),
        "python": asked_python,
        "workdir": spec.workdir_or_default,
        **_addresses_of_this_machine(spec),
    }
    hashed = _hash({"schema": SCHEMA, "what": "tag", "content": content})
    return (spec.tag_format or "{spec_hash}").replace("{spec_hash}", hashed)


def tag_of(spec: ImageSpec) -> str:
    """The tag of a spec as its files and the settings of this machine stand now. Raises SourceError."""
    from importlib import import_module  # noqa: PLC0415 - two modules above this one, not in the image
    from pathlib import Path  # noqa: PLC0415

    settings = import_module("imagesmith.settings").load_settings(Path.cwd(), dict(os.environ))
    digests = import_module("imagesmith.sources").digests(spec)
    return content_tag(spec, digests=digests, default_base=settings.default_base(spec))


def describe(spec: ImageSpec) -> dict[str, Any]:
    """What is declared, as plain data: no credentials, no values of variables, no path of this machine."""
    fields = _declared(spec, Role.IDENTITY) | _declared(spec, Role.TAG_ONLY)
    for name in ("env", "build_env"):
        if name in fields:
            fields[name] = sorted(fields[name])
    if isinstance(spec.base_image, ImageSpec):
        fields["base_image"] = describe(spec.base_image)
    return {name: _each_text(value, strip_credentials) for name, value in fields.items()}


def canonical_json(value: object) -> str:
    """One text for one value: keys sorted, no white space, ASCII only."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _declared(spec: ImageSpec, role: Role) -> dict[str, Any]:
    """The set fields of that role in their canonical form: what the order rules make equal is equal."""
    found: dict[str, Any] = {}
    for name, told in declarations().items():
        value = getattr(spec, name)
        if told.role is role and value is not None and (value or name == "entrypoint"):
            value = _each_text(value, strip_credentials) if told.urls else value
            value = _CANONICAL.get(name, _as_is)(value)
            found[name] = (
                sorted(set(value)) if isinstance(value, tuple) and not told.ordered else _plain(value)
            )
    return found


def _addresses_of_this_machine(spec: ImageSpec) -> dict[str, object]:
    """Indexes and channels that are folders: of what stands there nobody takes a digest."""
    found = {}
    for name in ("conda_channels", "pip_extra_index_url", "pip_index"):
        value = _each_text(getattr(spec, name), strip_credentials)
        if value and _CANONICAL[name](value) != value:
            found[name] = _plain(value)
    return {"addresses": found} if found else {}


def _source_root(path: str) -> object:
    return _ABSOLUTE if is_absolute(path) else posixpath.normpath(path)


def _portable_path(path: str) -> str:
    """The last component of an absolute path: the folders before it differ inside the image."""
    if is_absolute(path):
        return "/" + path.replace("\\", "/").rstrip("/").rpartition("/")[2]
    return posixpath.normpath(path)


def _portable_paths(paths: Iterable[str]) -> tuple[str, ...]:
    return tuple(_portable_path(path) for path in paths)


def _portable_requirements(items: Iterable[str]) -> tuple[str, ...]:
    return tuple(_portable_requirement(item) for item in items)


def _portable_requirement(text: str) -> str:
    """A wheel or a project by its last component: the content enters the tag, the folder is a machine's."""
    if is_absolute(text):
        path, rest = re.fullmatch(r"([^\[;]*)(.*)", text, re.DOTALL).groups()  # type: ignore[union-attr]
        return _portable_path(path.rstrip()) + rest
    return re.sub(_FILE_URL, lambda found: f"file://{_portable_path(found[1])}", text)


def portable_argument(word: str) -> str:
    """A word of a command line, without the folders of the path that it names."""
    name, equals, value = word.partition("=") if word.startswith("-") else ("", "", word)
    return f"{name}{equals}{_portable_requirement(value)}"


def _portable_arguments(words: Iterable[str]) -> tuple[str, ...]:
    return tuple(portable_argument(word) for word in words)


def _platforms(platform: str | Iterable[str]) -> tuple[str, ...]:
    return (platform,) if isinstance(platform, str) else tuple(platform)


def _as_is(value: Any) -> Any:
    return value


_CANONICAL: Final[Mapping[str, Callable[[Any], Any]]] = {
    "conda_channels": _portable_requirements,
    "copy": _portable_paths,
    "packages": _portable_requirements,
    "pip_extra_args": _portable_arguments,
    "pip_extra_index_url": _portable_requirements,
    "pip_index": _portable_requirement,
    "platform": _platforms,
    "requirements": _portable_path,
    "source_root": _source_root,
}


def _each_text(value: object, change: Callable[[str], str]) -> Any:
    """The same data with every text in it (keys aside) changed."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, (tuple, list)):
        return type(value)(_each_text(each, change) for each in value)
    if hasattr(value, "items"):
        return {name: _each_text(each, change) for name, each in value.items()}
    return value


def _plain(value: object) -> Any:
    if isinstance(value, (tuple, list)):
        return [_plain(each) for each in value]
    if hasattr(value, "items"):
        return {name: _plain(each) for name, each in value.items()}
    return value


def _hash(value: object) -> str:
    digest = hashlib.sha256(canonical_json(value).encode("ascii")).digest()
    bits = int.from_bytes(digest, "big") >> (256 - 26 * 5)
    return "".join(_BASE32[bits >> shift & 31] for shift in range(25 * 5, -1, -5))
