"""Where the image goes, and when."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imagesmith.builder import Feature
from imagesmith.conformance import forked
from imagesmith.conformance._catalogue import Tier, check
from imagesmith.conformance.images import rich
from imagesmith.existence import exists
from imagesmith.pipeline import BuildResult
from imagesmith.settings import load_settings
from imagesmith.stores.registry import open_repository

if TYPE_CHECKING:
    from imagesmith.conformance.subject import Subject
    from imagesmith.conformance.workshop import Image, Workshop
    from imagesmith.events import Event
    from imagesmith.spec import ImageSpec

F = Feature
_SECONDS_OF_OTHERS = 180.0
"""in which containers end that somebody else ran on the engine"""


@check("publish.result", Tier.LIVE)
def result(subject: Subject) -> None:
    """The result names what stands there: reference, digest, builder; it was built, and its log exists."""
    image = rich(subject)
    made = image.result
    want = subject.workshop().reference(image.spec)
    assert made.reference == want, f"the reference is {made.reference}, not {want}"
    assert made.builder == f"{subject.name} {subject.builder.version}", f"the builder is {made.builder!r}"
    assert not made.reused, "it says reused of what was built"
    assert made.log is not None and made.log.is_file(), "there is no log"  # noqa: PT018
    if not image.spec.registry:
        have = subject.workshop().engine.inspect(image.name)["Id"]
        assert have == made.digest, f"the digest is {made.digest}, but {have} stands there"


@check("publish.reuse", Tier.LIVE)
def reuse(subject: Subject) -> None:
    """The same spec again is reused: the builder is not asked, the digest is the same."""
    image, workshop = rich(subject), subject.workshop()
    before = workshop.builds
    again = workshop.made(image.spec)
    assert again.result.reused, "it was built again"
    assert workshop.builds == before, "the builder was asked to build"
    assert again.result.digest == image.result.digest, "the digest is another one"


@check("publish.force", Tier.LIVE)
def force(subject: Subject) -> None:
    """``force`` builds again."""
    workshop = subject.workshop()
    spec = workshop.spec("forced", env={"CONFORMANCE": "x"})
    first = workshop.made(spec)
    before = workshop.builds
    second = workshop.made(spec, force=True)
    assert not second.result.reused, "it was reused"
    assert workshop.builds == before + 1, "the builder was not asked to build"
    assert second.name == first.name, "the tag is another one"


@check("publish.clean", Tier.LIVE, F.LOCAL_ENGINE)
def clean(subject: Subject) -> None:
    """A build leaves its image under its tag and no other name, and no container."""
    workshop = subject.workshop()
    before = workshop.engine.containers()
    spec = workshop.spec("clean", env={"CONFORMANCE": "clean"}, commands=["true"])
    image = workshop.made(spec)
    names = workshop.published(spec)
    assert names == {image.name}, f"these names stand in the engine: {', '.join(sorted(names))}"
    deadline = time.monotonic() + _SECONDS_OF_OTHERS
    left = workshop.engine.containers().items() - before.items()
    while left and time.monotonic() < deadline:  # a builder's stay, those of others on this engine end
        time.sleep(0.3)
        there = workshop.engine.containers()
        left = {(each, name) for each, name in left if each in there}
    assert not left, (
        f"containers are left, {_SECONDS_OF_OTHERS:.0f} seconds after the build during which they appeared:"
        f" {', '.join(sorted(name for _, name in left))}"
    )


@check("publish.last", Tier.LIVE, F.LOCAL_ENGINE, F.COMMANDS)
def last(subject: Subject) -> None:
    """While a build runs, nothing stands under its tag."""
    workshop = subject.workshop()
    spec = workshop.spec("last", commands=["echo conformance-last"])
    seen: list[str] = []
    tag = workshop.reference(spec)

    def look(event: Event) -> None:
        if "publishing" not in repr(event) and tag in workshop.published(spec):
            seen.append(type(event).__name__)

    workshop.made(spec, report=look)
    assert not seen, f"the tag stood there before the image was finished (at a {seen[0] if seen else ''})"


@check("publish.once", Tier.LIVE)
def once(subject: Subject) -> None:
    """Two builds of one spec at the same time: one builds, the other waits and reuses."""
    workshop = subject.workshop()
    spec = subject.supported(workshop.spec("once", env={"CONFORMANCE": "once"}, commands=["sleep 1"]))
    before, results, errors = workshop.builds, list[BuildResult](), list[BaseException]()

    def build() -> None:
        try:
            results.append(workshop.build(spec))
        except BaseException as error:  # noqa: BLE001 - told below
            errors.append(error)

    threads = [threading.Thread(target=build) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, f"one of them failed: {type(errors[0]).__name__}: {errors[0]}"
    assert sorted(each.reused for each in results) == [False, True], "both were built"
    assert workshop.builds == before + 1, "the builder was asked twice"
    assert results[0].digest == results[1].digest, "they name different digests"


@check("publish.processes", Tier.LIVE)
def processes(subject: Subject) -> None:
    """Two processes that build one spec at the same time: one builds, the other waits and reuses."""
    workshop = subject.workshop()
    spec = subject.supported(
        workshop.spec("processes", env={"CONFORMANCE": "processes"}, commands=["sleep 1"])
    )

    def build() -> dict[str, Any]:
        before = workshop.builds
        made = workshop.build(spec)
        return {"reused": made.reused, "digest": made.digest, "builds": workshop.builds - before}

    told = forked.run(2, build)
    errors = [each["error"] for each in told if "error" in each]
    assert not errors, f"one of them failed: {errors[0]}"
    assert sorted(each["reused"] for each in told) == [False, True], "both were built"
    assert sum(each["builds"] for each in told) == 1, "the builder was asked twice"
    assert told[0]["digest"] == told[1]["digest"], "they name different digests"


def _pushed(subject: Subject) -> Image:
    workshop = subject.workshop()
    registry = workshop.setting("REGISTRY")

    def make() -> Image:
        spec = workshop.spec(
            "pushed", registry=registry, packages=None, env={"CONFORMANCE": "one\ntwo"}, workdir="/pushed"
        )
        return workshop.made(spec)

    made: Image = workshop.once("pushed", make)
    return made


def _manifest(workshop: Workshop, spec: ImageSpec, reference: str) -> dict[str, Any]:
    repository, _, tag = reference.rpartition(":")
    with open_repository(repository, workshop.env, spec.registry_config) as store:
        image = store.read(tag)
    assert image is not None, f"nothing stands under {reference}"
    assert image.manifest is not None, f"{reference} has no manifest"
    return {"digest": image.digest, "layers": image.manifest["layers"]}


@check("registry.push", Tier.LIVE, F.REGISTRY)
def push(subject: Subject) -> None:
    """With a registry the image is pushed there under its tag and digest, and runs when it is pulled."""
    workshop, image = subject.workshop(), _pushed(subject)
    found = _manifest(workshop, image.spec, image.name)
    assert found["digest"] == image.result.digest, (
        f"{found['digest']} stands there, not {image.result.digest}"
    )
    out = image.run(
        ["-c", "import os; print(repr(os.environ['CONFORMANCE']), os.getcwd())"], entrypoint=["python"]
    )
    assert out == "'one\\ntwo' /pushed\n", f"a container of it says {out!r}"


@check("registry.no-engine", Tier.LIVE, F.REGISTRY)
def without_engine(subject: Subject) -> None:
    """Whether a pushed image exists is asked of its registry alone; it is reused without an engine."""
    workshop, image = subject.workshop(), _pushed(subject)
    nowhere = {"DOCKER_HOST": "unix:///nonexistent/engine.sock"}
    settings = load_settings(workshop.folder, {**workshop.env, **nowhere})
    assert exists(image.spec, settings=settings).found is True, "exists() does not find it"
    again = workshop.build(image.spec, variables=nowhere)
    assert again.reused, "it was not reused"


@check("registry.env-moves-nothing", Tier.LIVE, F.REGISTRY, F.ENV)
def moves_nothing(subject: Subject) -> None:
    """Another env of a pushed image is another configuration over the very layers that stand there."""
    workshop, image = subject.workshop(), _pushed(subject)
    first = _manifest(workshop, image.spec, image.name)
    spec = image.spec.with_env({"CONFORMANCE": "other"})
    second = _manifest(workshop, spec, workshop.build(spec).reference)
    assert second["digest"] != first["digest"], "another env gives the same digest"
    assert second["layers"] == first["layers"], "another env gives other layers"


@check("registry.private", Tier.LIVE, F.REGISTRY, F.REGISTRY_CONFIG)
def private(subject: Subject) -> None:
    """With a login from registry_config the image is pushed to a registry that wants one."""
    workshop = subject.workshop()
    spec = workshop.spec(
        "private-registry",
        registry=workshop.setting("PRIVATE_REGISTRY"),
        registry_config=workshop.setting("PRIVATE_CONFIG"),
        env={"CONFORMANCE": "x"},
    )
    try:
        made = workshop.build(spec)
    except Exception as error:
        raise AssertionError(f"the build failed: {type(error).__name__}: {error}") from error
    found = _manifest(workshop, spec, made.reference)
    assert found["digest"] == made.digest, f"{found['digest']} stands there, not {made.digest}"


@check("registry.refused", Tier.LIVE, F.REGISTRY, F.REGISTRY_CONFIG)
def refused(subject: Subject) -> None:
    """A login that is refused is an error with a hint that does not show the password."""
    workshop = subject.workshop()
    registry = workshop.setting("PRIVATE_REGISTRY")
    host = registry.partition("/")[0]
    file = workshop.path("login") / "registries.json"
    known = json.loads(Path(workshop.setting("PRIVATE_CONFIG")).read_text(encoding="utf-8"))
    known["auths"] = {host: {"username": "conformance", "password": "hunter2-wrong"}}
    file.write_text(json.dumps(known), encoding="utf-8")
    spec = workshop.spec("refused", registry=registry, registry_config=file)
    error = workshop.failed(spec, on_unknown="build").error
    assert error.hint, f"no hint: {error}"
    assert "hunter2-wrong" not in str(error), "the error shows the password"


@check("platform.several", Tier.LIVE, F.REGISTRY, F.MULTI_PLATFORM, F.PLATFORM)
def several(subject: Subject) -> None:
    """Several platforms stand under one tag, each with its own image."""
    workshop = subject.workshop()
    platforms = ("linux/amd64", "linux/arm64")
    spec = workshop.spec(
        "several",
        registry=workshop.setting("REGISTRY"),
        base_image=workshop.setting("MULTI_BASE"),
        platform=platforms,
        commands=["uname -m > machine"],
    )
    try:
        made = workshop.build(spec)
    except Exception as error:
        raise AssertionError(f"the build failed: {type(error).__name__}: {error}") from error
    assert made.platforms == platforms, f"the result says {made.platforms}"
    repository, _, tag = made.reference.rpartition(":")
    with open_repository(repository, workshop.env, None) as store:
        assert store.platforms(tag) == platforms, f"under the tag stand {store.platforms(tag)}"
        images = [store.read(tag, platform) for platform in platforms]
    found = [image.config["rootfs"] for image in images if image is not None]
    assert len(found) == 2, "one of them cannot be read"
    assert found[0] != found[1], "both have the same layers"
