"""Whether the text of a field can mean something: a function per grammar, ``None`` or the reason why not."""

from __future__ import annotations

import posixpath
import re

TYPE_CHECKING = False  # typing is not imported at run time: it costs 2 ms
if TYPE_CHECKING:
    from typing import Final

_ARCHITECTURES: Final = (
    "386", "amd64", "arm", "arm64", "loong64", "mips64le", "ppc64le", "riscv64", "s390x",
)  # fmt: skip
_ARCHITECTURE_ALIASES: Final = {
    "x86_64": "amd64",
    "x64": "amd64",
    "aarch64": "arm64",
    "armhf": "arm",
    "i386": "386",
}
_PATH_COMPONENT: Final = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_HOST: Final = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:]+\])(?::[0-9]{1,5})?"
_REFERENCE: Final = (
    rf"(?:{_HOST}/)?{_PATH_COMPONENT}(?:/{_PATH_COMPONENT})*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@sha256:[0-9a-f]{64})?"
)
MARKER: Final = "IMAGESMITH_ID"
"""The variable that tells a process which spec its image was built from."""


def is_absolute(path: str) -> bool:
    """Whether a path is absolute on any operating system (the id must not depend on this one)."""
    return path.startswith(("/", "\\")) or re.match(r"[A-Za-z]:[/\\]", path) is not None


def single_line(text: str) -> str | None:
    """Text that could end or escape the line it is written on."""
    if "\n" in text or "\r" in text:
        return "holds a line break"
    return None


def word(text: str) -> str | None:
    """One word: no white space, not mistaken for an option."""
    if re.search(r"\s", text):
        return f"{text!r} holds white space"
    if text.startswith("-"):
        return f"{text!r} starts with '-'"
    return None


def name(text: str) -> str | None:
    """A repository name, without registry and tag."""
    if text != text.lower():
        return f"{text!r} holds upper case, which image names cannot; write {text.lower()!r}"
    if re.fullmatch(rf"{_PATH_COMPONENT}(?:/{_PATH_COMPONENT})*", text) is None:
        return (
            f"{text!r} is no image name: lower-case letters and digits, "
            "separated by '.', '_', '-' or '/' (registry and tag have fields of their own)"
        )
    return None


def registry(text: str) -> str | None:
    """``account``, ``host``, ``host:port``, or any of them with a path."""
    if re.search(r"[<>{}$]", text):
        return f"{text!r} is a placeholder; put the registry's real name there, or leave it out"
    if "://" in text:
        return f"{text!r} is a URL; write {text.split('://', 1)[1].rstrip('/')!r}"
    if text.endswith("/"):
        return f"{text!r} ends in '/'; write {text.rstrip('/')!r}"
    if text != text.lower():
        return f"{text!r} holds upper case, which image names cannot; write {text.lower()!r}"
    host, _, path = text.partition("/")
    last = path.rpartition("/")[2] if path else ""
    if "@" in text or ":" in last or (not path and re.fullmatch(r"[^:\]]+:[^:]*[^0-9:][^:]*", host)):
        return f"{text!r} holds a tag or a digest; the tag is made from the spec (see tag_format)"
    if re.fullmatch(rf"{_HOST}(?:/{_PATH_COMPONENT})*", text) is None and name(text) is not None:
        return f"{text!r} is no registry: account, host, host:port, or one of these with a path"
    return None


def image_reference(text: str) -> str | None:
    """``[host[:port]/]path[:tag][@digest]``."""
    if re.search(r"[<>{}$\s]", text):
        return f"{text!r} is no image reference (a placeholder?)"
    if re.fullmatch(_REFERENCE, text) is None:
        hint = ": the repository is lower case" if re.fullmatch(_REFERENCE, text.lower()) else ""
        return f"{text!r} is no image reference, [host[:port]/]path[:tag][@sha256:…]{hint}"
    return None


def python_version(text: str) -> str | None:
    """A minor or patch version."""
    if re.fullmatch(r"[0-9]+\.[0-9]+(?:\.[0-9]+)?", text) is None:
        return f"{text!r} is no minor or patch version, such as '3.12' or '3.12.4'"
    return None


def dotted_numbers(text: str) -> str | None:
    """A version of CUDA or cuDNN."""
    if re.fullmatch(r"[0-9]+(?:\.[0-9]+){0,3}", text) is None:
        return f"{text!r} is no version, such as '12' or '12.4.1'"
    return None


def platform(text: str) -> str | None:
    """``os/arch[/variant]``."""
    if "," in text:
        return f"{text!r} holds several platforms; write a list"
    parts = text.split("/")
    system, arch = ("linux", parts[0]) if len(parts) == 1 else (parts[0], parts[1])
    known = _ARCHITECTURE_ALIASES.get(arch, arch)
    if not 2 <= len(parts) <= 3 or known != arch or not re.fullmatch(r"[a-z0-9._/]+", text):
        wanted = "/".join([system, known, *parts[2:3]])
        guess = f"; did you mean {wanted!r}?" if known in _ARCHITECTURES else ""
        return f"{text!r} is no platform, os/arch[/variant]{guess}"
    if arch not in _ARCHITECTURES:
        close = nearest(arch, _ARCHITECTURES)
        guess = f"; did you mean {system + '/' + close!r}?" if close else ""
        return f"{text!r}: unknown architecture {arch!r}, known are {', '.join(_ARCHITECTURES)}{guess}"
    return None


def package(text: str) -> str | None:
    """One line of a requirements file that names one package."""
    stripped = text.strip()
    if stripped.startswith("-"):
        return f"{text!r} is an option of pip, not a package; use pip_extra_args or requirements"
    if stripped.startswith("#") or stripped.endswith("\\"):
        return f"{text!r} would be read as a comment or a continued line, not as a package"
    return single_line(text)


def conda_package(text: str) -> str | None:
    """A conda match specification."""
    if text.strip().startswith("-"):
        return f"{text!r} starts with '-': an option, not a package"
    return single_line(text)


def apt_package(text: str) -> str | None:
    """``name[:arch][=version][/suite]``; what stands there is part of a command line."""
    pattern = r"[a-z0-9][a-z0-9+.-]+(?::[a-z0-9-]+)?(?:=[A-Za-z0-9.+~:-]+)?(?:/[A-Za-z0-9.+~-]+)?"
    if re.fullmatch(pattern, text) is None:
        return f"{text!r} is no Debian package, name[:arch][=version][/suite]"
    return None


def environment_key(text: str) -> str | None:
    """The name of an environment variable."""
    if not text or "=" in text or re.search(r"\s", text):
        return f"{text!r} is no name of a variable: not empty, no '=', no white space"
    if text == MARKER:
        return f"{text} is set by imagesmith itself, it tells a process which image it runs in"
    return None


def label_key(text: str) -> str | None:
    """The key of a label; imagesmith's own are reserved."""
    if not text or re.search(r"\s", text):
        return f"{text!r} is no key of a label: not empty, no white space"
    if text == "io.imagesmith" or text.startswith("io.imagesmith."):
        return f"{text!r}: labels under io.imagesmith are set by imagesmith itself"
    return None


def user(text: str) -> str | None:
    """``name|uid[:group|gid]``."""
    part = r"(?:[A-Za-z_][A-Za-z0-9_.-]*\$?|[0-9]+)"
    if re.fullmatch(rf"{part}(?::{part})?", text) is None:
        return f"{text!r} is no user, name or uid, optionally with ':' and a group or gid"
    return None


def workdir(text: str) -> str | None:
    """An absolute path in the image, in its shortest form."""
    if not text.startswith("/"):
        return f"{text!r} is not absolute; write {posixpath.normpath('/' + text)!r}"
    if text.strip("/") == "":
        return "'/' cannot be the work directory: files would land among the system's own"
    normal = "/" + posixpath.normpath(text).lstrip("/")
    if text != normal:
        return f"{text!r} is not in its shortest form; write {normal!r}"
    return single_line(text)


def mount_path(text: str) -> str | None:
    """Where a secret is mounted during the build."""
    return (
        None
        if text.startswith("/")
        else f"{text!r} is not absolute: a path in the build, such as '/etc/pip.conf'"
    )


def copied_path(text: str) -> str | None:
    """A path that stays in the root; an absolute one lands at its last component."""
    normal = posixpath.normpath(text.replace("\\", "/"))
    if is_absolute(text):
        return f"{text!r} names no file or folder" if normal.rpartition("/")[2] in ("", "..") else None
    if normal == ".." or normal.startswith("../"):
        return f"{text!r} leaves the root with '..' and has no place in the work directory; make it absolute"
    return None


def tag_format(text: str) -> str | None:
    """A pattern around ``{spec_hash}`` that gives a valid tag."""
    rest = text.replace("{spec_hash}", "")
    if "{spec_hash}" not in text:
        return f"{text!r} holds no {{spec_hash}}, so all contents would share one tag"
    if "{" in rest or "}" in rest:
        return f"{text!r} holds a brace that is not {{spec_hash}}"
    if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", text.replace("{spec_hash}", "a" * 26)) is None:
        return f"{text!r} gives no valid tag: at most 128 of A-Z a-z 0-9 _ . -, the first neither '.' nor '-'"
    return None


def nearest(text: str, known: tuple[str, ...] | list[str]) -> str | None:
    """The known name that ``text`` probably means, None when none is near."""
    from difflib import get_close_matches  # noqa: PLC0415 - only on the way to an error

    return next(iter(get_close_matches(text, known, n=1, cutoff=0.6)), None)
