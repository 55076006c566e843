"""Secrets are found nowhere."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from imagesmith.conformance._catalogue import Tier, check
from imagesmith.conformance.images import INDEXED, PASSWORD, private

if TYPE_CHECKING:
    from imagesmith.conformance.subject import Subject


@check("secrets.layers", Tier.LIVE, *INDEXED)
def layers(subject: Subject) -> None:
    """No secret stands in a layer, not even in a file that a later layer removes, nor in the config."""
    image, workshop = private(subject), subject.workshop()
    rootfs = workshop.base.config.get("rootfs")
    below = len(rootfs.get("diff_ids") or ()) if isinstance(rootfs, dict) else 0
    found = private_package = False
    for data in workshop.engine.added(image.name, below):
        found = found or PASSWORD.encode() in data
        private_package = private_package or b"conformance_private" in data
    assert private_package, "the layers cannot be searched: the installed package is not found in them"
    assert not found, "a secret stands in a layer or in the configuration"


@check("secrets.told", Tier.LIVE, *INDEXED)
def told(subject: Subject) -> None:
    """No secret stands in a label, in the history, in the log, in an event, or in the reference."""
    image = private(subject)
    log = image.result.log
    places = {
        "a label": json.dumps(image.labels),
        "the history": image.history(),
        "the log": log.read_text(encoding="utf-8", errors="replace") if log else "",
        "an event": repr(image.events),
        "the reference": image.name,
        "the spec's repr": repr(image.spec),
    }
    found = [place for place, text in places.items() if PASSWORD in text]
    assert not found, f"a secret stands in {', '.join(found)}"


@check("secrets.other-login", Tier.LIVE, *INDEXED)
def other_login(subject: Subject) -> None:
    """The same spec with another login is the same image: it is reused."""
    image, workshop = private(subject), subject.workshop()
    other = str(image.spec.pip_index).replace(f"me:{PASSWORD}", "you:other")
    again = workshop.build(image.spec.replace(pip_index=other))
    assert again.reused, "another login in the index's URL builds another image"
