"""Image references: the distribution grammar, and the parts that Docker Hub's names leave out."""

from __future__ import annotations

import re
from dataclasses import dataclass

from imagesmith.errors import InvalidReference

__all__ = ["DOCKER_HUB", "Reference", "parse", "repository_for"]

DOCKER_HUB = "docker.io"
_HUB_OWNER = "library"
_HUB_ALIAS = "index.docker.io"

_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_HOST = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:]+\])(?::[0-9]{{1,5}})?")
_COMPONENT = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
_IMAGE_ID = re.compile(r"[0-9a-f]{64}")
_MAX_NAME = 255
_MAX_TAG = 128


@dataclass(frozen=True, slots=True)
class Reference:
    """A registry host, a repository in it, and a tag, a digest, both or neither."""

    registry: str
    """``host[:port]``; ``docker.io`` for Docker Hub"""
    repository: str
    """the path in the registry, implicit parts written out: ``library/python``"""
    tag: str | None = None
    digest: str | None = None

    @property
    def repository_reference(self) -> str:
        """``host[:port]/path``, without tag and digest."""
        return f"{self.registry}/{self.repository}"

    @property
    def familiar(self) -> str:
        """As people write it: without ``docker.io/`` and ``library/``, where that reads back the same."""
        owner, _, name = self.repository.partition("/")
        if self.registry != DOCKER_HUB or _names_host(owner):
            return str(self)
        bare = owner == _HUB_OWNER and "/" not in name and not _IMAGE_ID.fullmatch(name)
        return (name if bare else self.repository) + self._suffix()

    def __str__(self) -> str:
        return self.repository_reference + self._suffix()

    def _suffix(self) -> str:
        tag = f":{self.tag}" if self.tag is not None else ""
        return tag + (f"@{self.digest}" if self.digest is not None else "")


def parse(text: str) -> Reference:
    """Read ``[host[:port]/]path[:tag][@digest]``.

    Raises:
        InvalidReference: it is no image reference; the message says which part is wrong.
    """
    if "://" in text:
        raise _invalid(text, "a reference has no URL scheme", f"write {text.split('://', 1)[1]!r}")
    if any(mark in text for mark in "<>{}$"):
        raise _invalid(text, "it looks like a placeholder", "put the real name in its place")
    name, at, digest = text.partition("@")
    if at and not _DIGEST.fullmatch(digest):
        raise _invalid(text, f"{digest!r} is no digest", "a digest is sha256: and 64 lower-case hex digits")
    head, slash, last = name.rpartition("/")
    last, colon, tag = last.partition(":")
    if colon:
        _check_tag(tag, text)
    registry, repository = _split_host(head + slash + last)
    if not _HOST.fullmatch(registry):
        raise _invalid(text, f"{registry!r} is no registry host", "a host is name[:port], the port a number")
    for component in repository.split("/"):
        _check_component(component, text)
    if _IMAGE_ID.fullmatch(text):
        raise _invalid(text, "64 hex digits are an image id, not a name", f"write sha256:{text} for a digest")
    if len(registry) + 1 + len(repository) > _MAX_NAME:
        raise _invalid(text, f"the name is longer than {_MAX_NAME} characters", "choose a shorter one")
    return Reference(registry, repository, tag if colon else None, digest if at else None)


def repository_for(registry: str | None, name: str) -> str:
    """The repository that a spec's ``registry`` and ``name`` mean.

    A bare account (``someone``) is one on Docker Hub; everything else starts with a host. Without a
    registry it is the name alone, as the local engine knows it.

    Raises:
        InvalidReference: they make no repository; also for a tag in either.
    """
    base = (registry or "").rstrip("/")
    first, _, rest = base.partition("/")
    if base != base.lower():
        raise _invalid(base, "it has upper-case letters", f"write {base.lower()!r}")
    if "@" in base or (":" in rest and "://" not in base):
        raise _invalid(base, "a registry has no tag", "imagesmith makes the tag; tag_format can wrap it")
    prefix = "" if not base else f"{base}/" if _names_host(first) else f"{DOCKER_HUB}/{base}/"
    reference = parse(prefix + name)
    if reference.tag or reference.digest:
        raise _invalid(name, "a name has no tag", "imagesmith makes the tag; tag_format can wrap it")
    return reference.repository_reference if base else reference.familiar


def _names_host(component: str) -> bool:
    return "." in component or ":" in component or component == "localhost"


def _split_host(name: str) -> tuple[str, str]:
    first, slash, rest = name.partition("/")
    if not slash or not _names_host(first):
        registry, path = DOCKER_HUB, name
    else:
        registry, path = (DOCKER_HUB if first == _HUB_ALIAS else first), rest
    if registry == DOCKER_HUB and "/" not in path:
        path = f"{_HUB_OWNER}/{path}"
    return registry, path


def _check_component(component: str, text: str) -> None:
    if _COMPONENT.fullmatch(component):
        return
    if not component:
        raise _invalid(text, "a part of the name is empty", "parts are joined by single slashes")
    if component != component.lower() and _COMPONENT.fullmatch(component.lower()):
        raise _invalid(text, f"{component!r} has upper-case letters", f"write {component.lower()!r}")
    if ":" in component:
        raise _invalid(
            text, f"{component!r} has a colon in the middle of the name", "a tag stands at the end"
        )
    raise _invalid(
        text,
        f"{component!r} is no part of a name",
        "parts are lower-case letters and digits, with single '.', '_', '__' or '-' between them",
    )


def _check_tag(tag: str, text: str) -> None:
    if _TAG.fullmatch(tag):
        return
    what = f"the tag has {len(tag)} characters" if len(tag) > _MAX_TAG else f"{tag!r} is no tag"
    raise _invalid(
        text,
        what,
        f"a tag is up to {_MAX_TAG} letters, digits, '_', '.' and '-', and starts with none of '.-'",
    )


def _invalid(text: str, why: str, hint: str) -> InvalidReference:
    shown = text if len(text) <= 120 else text[:117] + "…"
    return InvalidReference(f"{shown!r} is no image reference: {why}", hint=hint)
