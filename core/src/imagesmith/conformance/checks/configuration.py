"""Entrypoint, labels, history, platform."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from imagesmith.builder import Feature
from imagesmith.conformance._catalogue import Tier, check
from imagesmith.conformance.images import BUILD_ENV, ENV, changed, plain, rich

if TYPE_CHECKING:
    from imagesmith.conformance.subject import Subject

F = Feature
_OWN = "io.imagesmith."


@check("entrypoint.list", Tier.LIVE, F.ENTRYPOINT)
def entrypoint(subject: Subject) -> None:
    """A list is the entrypoint, word for word, and clears the base's command."""
    image = rich(subject)
    have, want = image.config.get("Entrypoint"), list(image.spec.entrypoint or ())
    assert have == want, f"the entrypoint is {have}, not {want}"
    assert not image.config.get("Cmd"), f"the base's command is still there: {image.config['Cmd']}"


@check("entrypoint.empty", Tier.LIVE, F.ENTRYPOINT)
def empty(subject: Subject) -> None:
    """An empty list clears entrypoint and command."""
    config = changed(subject).config
    for key in ("Entrypoint", "Cmd"):
        assert not config.get(key), f"{key} is {config[key]}"


@check("entrypoint.kept", Tier.LIVE)
def kept(subject: Subject) -> None:
    """Where the spec says nothing, the base's entrypoint, command and user stay."""
    base = subject.workshop().base.config.get("config")
    assert isinstance(base, dict), "the base has no configuration"
    have = plain(subject).config
    for key in ("Entrypoint", "Cmd", "User"):
        ours, theirs = have.get(key) or None, base.get(key) or None
        assert ours == theirs, f"{key} is {ours!r}, the base's is {theirs!r}"


@check("labels.own", Tier.LIVE)
def labels(subject: Subject) -> None:
    """Labels tell id, tag, builder and version, the spec as JSON, and the base."""
    image = rich(subject)
    want = {
        "id": image.spec.id,
        "tag": image.name.rpartition(":")[2],
        "builder": f"{subject.name} {subject.builder.version}",
    }
    for key, value in want.items():
        have = image.labels.get(_OWN + key)
        assert have == value, f"the label {_OWN}{key} is {have!r}, not {value!r}"
    assert image.labels.get(f"{_OWN}version"), f"the label {_OWN}version is missing"
    told = json.loads(image.labels.get(f"{_OWN}spec", "null"))
    assert isinstance(told, dict), f"the label {_OWN}spec is no JSON object"
    assert told.get("name") == image.spec.name, f"the label {_OWN}spec is that of {told.get('name')!r}"
    base = image.labels.get("org.opencontainers.image.base.name")
    assert base, "the label org.opencontainers.image.base.name is missing"


@check("labels.user", Tier.LIVE, F.LABELS)
def user_labels(subject: Subject) -> None:
    """The user's labels stand there byte for byte, and nobody else's but the base's and the builder's."""
    image = rich(subject)
    for key, value in image.spec.labels.items():
        assert image.labels.get(key) == value, f"the label {key} is {image.labels.get(key)!r}, not {value!r}"
    config = subject.workshop().base.config.get("config")
    inherited = (config.get("Labels") or {}) if isinstance(config, dict) else {}
    strange = [
        key
        for key in image.labels
        if key not in image.spec.labels and key not in inherited
        and key not in subject.workshop().contributed_labels
        and not key.startswith((_OWN, "org.opencontainers.image.base."))
    ]  # fmt: skip
    assert not strange, f"nobody asked for the labels {', '.join(strange)}"


@check("history.plain", Tier.LIVE, F.ENV, F.BUILD_ENV)
def history(subject: Subject) -> None:
    """No value of env or build_env stands in the history, in the log, in an event or in a label."""
    image = rich(subject)
    log = image.result.log
    places = {
        "the history": image.history(),
        "the log": log.read_text(encoding="utf-8", errors="replace") if log else "",
        "an event": repr(image.events),
        "a label": json.dumps(image.labels, ensure_ascii=False),
        "the reference": image.name,
    }
    for value in (ENV["CONFORMANCE_SPACES"].strip(), "third line", BUILD_ENV["CONFORMANCE_BUILD"]):
        found = [place for place, text in places.items() if value in text]
        assert not found, f"the value {value!r} stands in {', '.join(found)}"


@check("platform.one", Tier.LIVE, F.PLATFORM)
def platform(subject: Subject) -> None:
    """The image is for the platform that was asked for, and the result says so."""
    image = plain(subject)
    found = subject.workshop().engine.inspect(image.name)
    have = f"{found['Os']}/{found['Architecture']}"
    assert have == image.spec.platforms[0], f"the image is for {have}"
    assert image.result.platforms == image.spec.platforms, f"the result says {image.result.platforms}"
