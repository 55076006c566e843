"""The image configuration that was asked for, and how another one differs from it. Pure.

It is worked out once, here, for all builders: the base's configuration, what the builder's file system
needs, what the spec says. Values follow the OCI image configuration (``Env`` as ``KEY=value`` and so on).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from imagesmith._checks import MARKER
from imagesmith.base import base_environment

if TYPE_CHECKING:
    from imagesmith.builder import BaseImage, Contribution
    from imagesmith.spec import ImageSpec

__all__ = [
    "DEFAULT_PATH",
    "RUNTIME_FOLDER",
    "differences",
    "document",
    "environment",
    "expand",
    "final_user",
    "search_path",
    "wanted",
]

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""What engines take where the configuration has no PATH."""
RUNTIME_FOLDER = "/opt/imagesmith"
EPOCH = "1970-01-01T00:00:00Z"

OWN_LABELS = "io.imagesmith."
BASE_NAME = "org.opencontainers.image.base.name"
BASE_DIGEST = "org.opencontainers.image.base.digest"

# What a Dockerfile's image takes over from its base, beside what ``wanted`` sets. OnBuild is not among
# them: its triggers belong to builds FROM the base, and this image is one already.
_INHERITED = ("ExposedPorts", "Volumes", "Healthcheck", "StopSignal", "StopTimeout", "Shell")
_PLAIN = (*_INHERITED, "Entrypoint", "Cmd", "WorkingDir", "User", "OnBuild")
_PLATFORM = ("architecture", "os", "variant", "os.version", "os.features")


def expand(value: str, key: str, base_value: str | None) -> str:
    """``$KEY`` and ``${KEY}`` in the value of KEY itself stand for the base's value; all else is literal."""
    name = re.escape(key)
    return re.sub(rf"\$(?:\{{{name}\}}|{name}(?![A-Za-z0-9_]))", lambda _: base_value or "", value)


def environment(
    base_config: Mapping[str, object],
    spec: ImageSpec,
    contribution: Contribution,
    *,
    marker: bool,
    build_env: bool,
) -> dict[str, str]:
    """The environment of the image, or (no marker, with ``build_env``) that of the build's commands.

    ``base_config`` is the base's OCI image configuration document. Keys stand in the base's order, new
    ones sorted behind them, so that equal specs give equal bytes.
    """
    base = base_environment(base_config)
    base.pop(MARKER, None)
    env = {**base, **contribution.env}
    env["PATH"] = _first_in(contribution.path, env.get("PATH") or DEFAULT_PATH)
    env["PYTHONPATH"] = _first_in((spec.workdir_or_default, RUNTIME_FOLDER), env.get("PYTHONPATH", ""))
    known = {**base, "PATH": env["PATH"]}
    layers = (spec.build_env, spec.env) if build_env else (spec.env,)
    for declared in layers:
        env.update({key: expand(value, key, known.get(key)) for key, value in declared.items()})
    if marker:
        env[MARKER] = spec.id
    new = sorted(key for key in env if key not in base)
    return {key: env[key] for key in (*base, *new)}


def search_path(base_config: Mapping[str, object], folders: Sequence[str] = ()) -> str:
    """PATH with these folders first, then the base's own or the engine's default."""
    return _first_in(folders, base_environment(base_config).get("PATH") or DEFAULT_PATH)


def final_user(base_config: Mapping[str, object], spec: ImageSpec) -> str:
    """``name|uid[:group|gid]`` of the finished image: the spec's, else the base's; empty is root."""
    return str(_object(base_config, "config").get("User") or "") if spec.user is None else spec.user


def _first_in(folders: Sequence[str], search_path: str) -> str:
    """``folders`` before ``search_path``, less those that already stand first in it."""
    first = list(dict.fromkeys(folders))
    rest = search_path.split(":") if search_path else []
    shared = next(n for n in range(len(first), -1, -1) if rest[:n] == first[len(first) - n :])
    return ":".join(first[: len(first) - shared] + rest)


def wanted(
    base: BaseImage,
    spec: ImageSpec,
    contribution: Contribution,
    *,
    tag: str,
    builder: str,
    version: str,
) -> dict[str, object]:
    """The complete ``config`` object of the finished image.

    ``builder`` is ``NAME VERSION``, ``version`` imagesmith's own. Empty fields are left out.
    """
    from_base = _object(base.config, "config")
    env = environment(base.config, spec, contribution, marker=True, build_env=False)
    config: dict[str, object] = {name: from_base.get(name) for name in _INHERITED}
    config["Env"] = [f"{key}={value}" for key, value in env.items()]
    if spec.entrypoint is None:
        config["Entrypoint"], config["Cmd"] = from_base.get("Entrypoint"), from_base.get("Cmd")
    else:
        config["Entrypoint"] = list(spec.entrypoint)
    config["WorkingDir"] = spec.workdir_or_default
    config["User"] = final_user(base.config, spec)
    config["Labels"] = _labels(base, spec, contribution, tag=tag, builder=builder, version=version)
    return {name: value for name, value in config.items() if value}


def _labels(
    base: BaseImage, spec: ImageSpec, contribution: Contribution, *, tag: str, builder: str, version: str
) -> dict[str, str]:
    inherited = {
        key: str(value)
        for key, value in _object(_object(base.config, "config"), "Labels").items()
        if not key.startswith(OWN_LABELS) and key not in {BASE_NAME, BASE_DIGEST}
    }
    origin = {BASE_NAME: base.reference}
    if base.digest is not None and not base.local:  # the local engine's ids name nothing elsewhere
        origin[BASE_DIGEST] = base.digest
    own = {
        "id": spec.id,
        "tag": tag,
        "builder": builder,
        "version": version,
        "spec": json.dumps(spec.to_dict(), sort_keys=True, separators=(",", ":")),
    }
    prefixed = {OWN_LABELS + key: value for key, value in own.items()}
    return dict(sorted({**inherited, **contribution.labels, **origin, **spec.labels, **prefixed}.items()))


def document(
    built: Mapping[str, object],
    base: Mapping[str, object],
    config: Mapping[str, object],
    *,
    builder: str,
    created: str | None = None,
) -> dict[str, object]:
    """The whole OCI image configuration document around ``config``.

    Platform and layers are the built image's. The history is the base's and one plain entry for each
    layer on top: the command lines of a build can hold values that must not be seen, so none is kept.

    Args:
        built: the built image's document.
        base: the base's document; it may be empty.
        config: what ``wanted`` returned.
        builder: goes into the history.
        created: RFC 3339; unset: the base's own time. Never the clock: equal layers give an equal digest.
    """
    time = created or str(base.get("created") or EPOCH)
    layers = _layers(built)
    below = _layers(base)
    inherited: list[object] = []
    if below and layers[: len(below)] == below:
        inherited = _history(base, len(below)) or [_entry("imagesmith: base", time)] * len(below)
    added = len(layers) - (len(below) if inherited else 0)
    return {
        **{key: built[key] for key in _PLATFORM if built.get(key)},
        "created": time,
        "config": dict(config),
        "rootfs": {"type": "layers", "diff_ids": layers},
        "history": [*inherited, *([_entry(f"imagesmith: {builder}", time)] * added)],
    }


def _entry(created_by: str, created: str) -> dict[str, str]:
    return {"created": created, "created_by": created_by}


def _history(document: Mapping[str, object], layers: int) -> list[object]:
    """Its history; empty where it does not account for every layer."""
    entries = _list(document, "history")
    filled = [entry for entry in entries if not (isinstance(entry, Mapping) and entry.get("empty_layer"))]
    return entries if len(filled) == layers else []


def differences(have: Mapping[str, object], want: Mapping[str, object]) -> tuple[str, ...]:
    """Where the first configuration document is not the second, one line each; empty when nowhere.

    Values of env and labels, and history, are never shown. A history that ``have`` does not tell counts
    as equal.
    """
    found = [
        f"{key}: {have.get(key)!r} instead of {want.get(key)!r}"
        for key in ("os", "architecture", "variant")
        if (have.get(key) or "") != (want.get(key) or "")
    ]
    if _layers(have) != _layers(want):
        found.append(f"layers: {len(_layers(have))} other than the {len(_layers(want))} that were built")
    ours, theirs = _object(have, "config"), _object(want, "config")
    variables = [str(item) for item in _list(ours, "Env")]
    if len({item.partition("=")[0] for item in variables}) != len(variables):
        found.append("env: a key stands there twice")
    found += _map_differences("env", base_environment(have), base_environment(want))
    found += _map_differences("label", _object(ours, "Labels"), _object(theirs, "Labels"))
    found += [
        f"{name}: {ours.get(name)!r} instead of {theirs.get(name)!r}"
        for name in _PLAIN
        if (ours.get(name) or None) != (theirs.get(name) or None)
    ]
    if "history" in have and _created_by(have) != _created_by(want):
        found.append("history: not the plain one")
    return tuple(found)


def _map_differences(kind: str, have: Mapping[str, object], want: Mapping[str, object]) -> list[str]:
    found = [f"{kind} {key}: missing" for key in want if key not in have]
    found += [f"{kind} {key}: another value" for key in want if key in have and have[key] != want[key]]
    return found + [f"{kind} {key}: not wanted" for key in have if key not in want]


def _created_by(document: Mapping[str, object]) -> list[str]:
    entries = _list(document, "history")
    return [str(entry.get("created_by") or "") for entry in entries if isinstance(entry, Mapping)]


def _layers(document: Mapping[str, object]) -> list[object]:
    return _list(_object(document, "rootfs"), "diff_ids")


def _object(parent: Mapping[str, object], key: str) -> Mapping[str, object]:
    value = parent.get(key)
    return value if isinstance(value, Mapping) else {}


def _list(parent: Mapping[str, object], key: str) -> list[object]:
    value = parent.get(key)
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else []
