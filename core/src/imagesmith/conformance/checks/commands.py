"""Commands that work. Those that fail are in ``faults``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imagesmith.builder import Feature
from imagesmith.conformance._catalogue import Tier, check
from imagesmith.conformance.images import ENV, changed, rich, upper

if TYPE_CHECKING:
    from imagesmith.conformance.subject import Subject

F = Feature


@check("commands.order", Tier.LIVE, F.COMMANDS)
def order(subject: Subject) -> None:
    """All commands run, each once, in their order."""
    have = rich(subject).text("order")
    assert have == "one\ntwo\nthree\n", f"they ran as {have.split()}"


@check("commands.shell", Tier.LIVE, F.COMMANDS, F.ENV)
def shell(subject: Subject) -> None:
    """Commands are shell: quotes, pipes, comments, several lines."""
    image = rich(subject)
    value = ENV["CONFORMANCE_QUOTES"]
    want = {"from command": value, "count": str(len(value.encode())), "tr": "it'S", "loop": "a\nb"}
    for path, text in want.items():
        have = image.text(path)
        assert have.strip("\n ") == text, f"the command that writes {path!r} wrote {have!r}, not {text!r}"


@check("commands.place", Tier.LIVE, F.COMMANDS)
def place(subject: Subject) -> None:
    """Commands run in the work directory, as root."""
    have = rich(subject).text("place").split()
    assert have == ["/workspace", "0"], f"they run in {have[0]} as uid {have[-1]}"


@check("commands.root", Tier.LIVE, F.COMMANDS, F.USER)
def root(subject: Subject) -> None:
    """Commands run as root whatever the final user, the spec's or the base's."""
    for image in (changed(subject), upper(subject)) if subject.has(F.BASE_IMAGE) else (changed(subject),):
        have = image.text("uid").strip()
        assert have == "0", f"in {image.spec.name} they run as uid {have}"
