"""``env``, ``build_env``, PATH, the marker: who sees what."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from imagesmith.builder import Feature
from imagesmith.conformance import images
from imagesmith.conformance._catalogue import Tier, check
from imagesmith.conformance.images import ENV, PACKAGED, plain, rich, upper
from imagesmith.existence import exists

if TYPE_CHECKING:
    from collections.abc import Mapping

    from imagesmith.conformance.subject import Subject

F = Feature
MARKER = "IMAGESMITH_ID"
_PLAIN = {key: value for key, value in ENV.items() if key != "PATH"}


def _same(have: Mapping[str, str], want: Mapping[str, str], where: str) -> None:
    wrong = [
        f"{key} is {have.get(key)!r}, not {value!r}" for key, value in want.items() if have.get(key) != value
    ]
    assert not wrong, f"{where}: {'; '.join(wrong)}"


@check("env.configured", Tier.LIVE, F.ENV)
def configured(subject: Subject) -> None:
    """Every variable stands byte for byte in the image's configuration."""
    _same(rich(subject).env, _PLAIN, "in the configuration")


@check("env.visible", Tier.LIVE, F.ENV)
def visible(subject: Subject) -> None:
    """A program in a container sees every variable byte for byte, the entrypoint overridden."""
    _same(rich(subject).inside["env"], _PLAIN, "in a container")


@check("env.over-base", Tier.LIVE, F.ENV, F.BASE_IMAGE)
def over_base(subject: Subject) -> None:
    """A variable wins over the base's, and the base's others stay."""
    _same(upper(subject).env, {"CONFORMANCE_X": "upper", "CONFORMANCE_LOWER": "kept"}, "in the configuration")


@check("env.path", Tier.LIVE, F.ENV)
def path(subject: Subject) -> None:
    """``$PATH`` in PATH stands for the path without it: the builder's folders, then the base's."""
    without, given = plain(subject).env["PATH"], rich(subject).env["PATH"]
    assert given == f"/workspace/bin:{without}", f"PATH is {given!r}; without the entry it is {without!r}"


@check("env.pythonpath", Tier.LIVE)
def pythonpath(subject: Subject) -> None:
    """The work directory stands first on PYTHONPATH."""
    have = rich(subject).inside["env"].get("PYTHONPATH", "")
    assert have.split(":")[0] == "/workspace", f"PYTHONPATH is {have!r}"


def _seen_by_commands(subject: Subject) -> dict[str, str]:
    found: dict[str, str] = json.loads(rich(subject).text("env.json"))
    return found


@check("env.commands", Tier.LIVE, F.ENV, F.COMMANDS)
def commands(subject: Subject) -> None:
    """Commands see every variable byte for byte, and the final PATH and PYTHONPATH."""
    final = rich(subject).env
    want = {**_PLAIN, "PATH": final["PATH"], "PYTHONPATH": final["PYTHONPATH"]}
    _same(_seen_by_commands(subject), want, "in the commands")


@check("env.not-at-install", Tier.LIVE, F.ENV, *PACKAGED)
def not_at_install(subject: Subject) -> None:
    """Install steps do not see env."""
    seen = rich(subject).install["env"]
    told = [key for key in _PLAIN if key in seen and key != "CONFORMANCE_BOTH"]
    assert not told, f"the install step sees {', '.join(told)}"


@check("build-env.install", Tier.LIVE, F.BUILD_ENV, *PACKAGED)
def build_env_install(subject: Subject) -> None:
    """Install steps see build_env, byte for byte."""
    _same(rich(subject).install["env"], images.BUILD_ENV, "in the install step")


@check("build-env.commands", Tier.LIVE, F.BUILD_ENV, F.COMMANDS, F.ENV)
def build_env_commands(subject: Subject) -> None:
    """Commands see build_env; where env names the same key, they see env's."""
    want = {"CONFORMANCE_BUILD": images.BUILD_ENV["CONFORMANCE_BUILD"], "CONFORMANCE_BOTH": "env"}
    _same(_seen_by_commands(subject), want, "in the commands")


@check("build-env.gone", Tier.LIVE, F.BUILD_ENV)
def build_env_gone(subject: Subject) -> None:
    """build_env is not in the image: neither in its configuration nor in a container."""
    image = rich(subject)
    for where, env in (("configuration", image.env), ("environment of a container", image.inside["env"])):
        assert "CONFORMANCE_BUILD" not in env, f"CONFORMANCE_BUILD is in the {where}"


@check("env.no-rebuild", Tier.LIVE, F.ENV)
def no_rebuild(subject: Subject) -> None:
    """Without commands, another env is another configuration over the same layers."""
    workshop, first = subject.workshop(), plain(subject)
    other = workshop.made(first.spec.with_env({"CONFORMANCE": "other"}))
    assert other.name != first.name, "another env gives the same tag"
    assert other.env.get("CONFORMANCE") == "other", "the other env is not in the configuration"
    same = workshop.engine.layers(other.name) == workshop.engine.layers(first.name)
    assert same, "another env gives other layers"


@check("marker.configured", Tier.LIVE)
def marker(subject: Subject) -> None:
    """The marker IMAGESMITH_ID in the configuration is the spec's id, that of the base's spec is gone."""
    for image in (rich(subject), upper(subject)) if subject.has(F.BASE_IMAGE) else (rich(subject),):
        have = image.env.get(MARKER)
        assert have == image.spec.id, (
            f"{MARKER} of {image.spec.name} is {have!r}, the id is {image.spec.id!r}"
        )


@check("marker.commands", Tier.LIVE, F.COMMANDS)
def marker_commands(subject: Subject) -> None:
    """Commands never see the marker: the image is not finished yet."""
    assert MARKER not in _seen_by_commands(subject), f"the commands see {MARKER}"


@check("marker.own-code", Tier.LIVE, F.SOURCE_ROOT, F.ENTRYPOINT, *PACKAGED)
def own_code(subject: Subject) -> None:
    """The spec's own code runs in the image, knows that it does, and only there; its imports are real."""
    image = rich(subject)
    out = image.run()
    assert out == "True 1.0 ['a b', '$HOME']\n", f"the program of the image says {out!r}"
    other = image.run(["-c", "from image import image; print(image.is_container())"], entrypoint=["python"],
                      env={MARKER: "another"})  # fmt: skip
    assert other == "False\n", f"with another marker, is_container() says {other!r}"
    assert not image.spec.is_container(), "is_container() is True on the machine that built it"


@check("publish.exists", Tier.LIVE)
def there(subject: Subject) -> None:
    """exists() is True of what was built and False of what was not."""
    image, settings = rich(subject), subject.workshop().settings
    assert exists(image.spec, settings=settings).found is True, "exists() does not find what was built"
    absent = image.spec.replace(name=subject.workshop().name_of("absent"))
    assert exists(absent, settings=settings).found is False, "exists() finds what was never built"
