"""A base that is a spec."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from imagesmith.builder import Feature
from imagesmith.conformance._catalogue import Skipped, Tier, check
from imagesmith.conformance.images import cuda, upper
from imagesmith.errors import FeatureUnsupported
from imagesmith.existence import exists
from imagesmith.stores.registry import open_repository

if TYPE_CHECKING:
    from imagesmith.conformance.subject import Subject

F = Feature


@check("base.spec", Tier.LIVE, F.BASE_IMAGE)
def built_first(subject: Subject) -> None:
    """A base that is a spec is built and published first, under its own tag, and stands below."""
    image, workshop = upper(subject), subject.workshop()
    base = image.spec.base_image
    assert not isinstance(base, str), "the sample has no spec for a base"
    assert base is not None, "the sample has no base"
    found = exists(base, settings=workshop.settings)
    assert found.found is True, "the base's own image was not published"
    if not base.registry:
        below = workshop.engine.layers(found.reference)
        same = workshop.engine.layers(image.name)[: len(below)] == below
        assert same, "the image does not stand on the layers of its base"


@check("base.kept", Tier.LIVE, F.BASE_IMAGE, F.USER, F.ENTRYPOINT, F.LABELS)
def kept(subject: Subject) -> None:
    """User, entrypoint and labels of the base stay where the spec names none; its work directory does not."""
    image = upper(subject)
    assert image.config.get("User") == "1234", f"the user is {image.config.get('User')!r}, the base's is 1234"
    assert image.run() == "of the base\n", "the base's entrypoint is not kept"
    assert image.labels.get("conformance.lower") == "kept", "the base's label is not kept"
    assert image.config["WorkingDir"] == "/workspace", f"the work directory is {image.config['WorkingDir']!r}"


@check("base.commands", Tier.LIVE, F.BASE_IMAGE, F.COMMANDS, F.ENV)
def commands(subject: Subject) -> None:
    """Commands see the base's environment under the spec's."""
    have = upper(subject).text("seen")
    assert have == "upper kept\n", f"they see {have!r}"


@check("base.cuda", Tier.LIVE, F.CUDA, F.CUDNN)
def cuda_base(subject: Subject) -> None:
    """CUDA and cuDNN by version stand for the image that has them, from where the machine says it is."""
    image = cuda(subject)
    told = image.labels.get("org.opencontainers.image.base.name", "")
    want = f"{subject.workshop().name_of('nvidia')}:12.4.1-cudnn-runtime-ubuntu22.04"
    assert told.endswith(f"/{want}"), f"the image stands on {told!r}, not on {want}"
    assert image.run(["-c", "print('ok')"], entrypoint=["python"]) == "ok\n", "its python does not run"


@check("base.volume", Tier.LIVE, F.BASE_IMAGE, F.SOURCE_ROOT, F.COMMANDS)
def volume(subject: Subject) -> None:
    """Files and what commands write stay where the base declares a volume; else that base is refused."""
    workshop = subject.workshop()
    base = f"{workshop.setting('REGISTRY')}/{workshop.name_of('volume-base')}"
    try:
        workshop.engine.copy(workshop.base.pinned, f"{base}:plain")
    except AssertionError as error:
        raise Skipped(f"no base with a volume can be made: {error}") from error
    with open_repository(base, workshop.env, None) as store:
        plain = store.read("plain")
        assert plain is not None, f"the engine pushed {base}:plain, but nothing stands there"
        inner = plain.config.get("config")
        config = {**(inner if isinstance(inner, Mapping) else {}), "Volumes": {"/workspace": {}}}
        store.publish(store.write_config(plain, {**plain.config, "config": config}).digest, "1")
    folder = workshop.path("volume")
    (folder / "file.txt").write_text("file\n", encoding="utf-8")
    spec = workshop.spec(
        "volume", base_image=f"{base}:1", source_root=folder, commands=["echo command > command.txt"]
    )
    try:
        image = workshop.made(spec)
    except AssertionError as error:
        refused = error.__cause__
        if isinstance(refused, FeatureUnsupported) and "base_image" in refused.fields:
            return
        raise
    lost = [path for path in ("file.txt", "command.txt") if path not in image.tree]
    assert not lost, f"lost, without a word: {', '.join(lost)}"
