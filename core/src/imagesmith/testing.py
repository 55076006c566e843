"""Stand-ins for the parts that reach outside: for our own tests and for those of builders."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from imagesmith._redaction import Redactor
from imagesmith.authoring import (
    command_environment,
    final_user,
    install_environment,
    redactions,
    secrets_over,
)
from imagesmith.builder import (
    BaseImage,
    BuildPlan,
    BuildRequest,
    Built,
    Command,
    Contribution,
    Feature,
    LocalEngine,
    Readiness,
    Support,
)
from imagesmith.errors import BuilderNotReady, BuildFailed, StoreError
from imagesmith.events import StepLog
from imagesmith.pip_arguments import install_arguments
from imagesmith.runner import Completed, ToolMissing
from imagesmith.settings import Settings
from imagesmith.sources import listed
from imagesmith.stores import StoredImage
from imagesmith.stores._documents import (
    CONFIG,
    MANIFEST,
    children,
    descriptor,
    digest_of,
    encode,
    index_over,
    is_index,
    reconfigured,
    same_platform,
)

if TYPE_CHECKING:
    from imagesmith.builder import Environment
    from imagesmith.events import Reporter
    from imagesmith.runner import OnLine
    from imagesmith.spec import ImageSpec

__all__ = ["Call", "FakeBuilder", "MemoryStore", "RecordingRunner", "request_for"]

JSON = Mapping[str, object]


class MemoryStore:
    """A store in memory, with the semantics of a registry. ``tags`` maps each tag to its digest."""

    def __init__(self) -> None:
        self.tags: dict[str, str] = {}
        self._documents: dict[str, JSON] = {}

    def add(self, config: JSON) -> str:
        """An image of this OCI configuration document, as a builder would leave one. Returns its digest."""
        rootfs = config.get("rootfs")
        layers = rootfs.get("diff_ids", ()) if isinstance(rootfs, Mapping) else ()
        data = encode(config)
        self._put(config)
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": descriptor(CONFIG, data),
            "layers": [
                {"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer, "size": 1}
                for layer in layers
            ],
        }
        return self._put(manifest)

    def resolve(self, ref: str) -> str | None:
        """See Store."""
        digest = self.tags.get(ref, ref)
        return digest if digest in self._documents else None

    def platforms(self, ref: str) -> tuple[str, ...]:
        """See Store."""
        return tuple(image.platform for image in self._images(ref))

    def read(self, ref: str, platform: str | None = None) -> StoredImage | None:
        """See Store."""
        images = self._images(ref)
        if platform is not None:
            images = [image for image in images if same_platform(image.platform, platform)]
        return images[0] if images else None

    def write_config(self, image: StoredImage, config: JSON) -> StoredImage:
        """See Store."""
        if image.manifest is None:
            raise StoreError(f"{image.digest} comes from another store")
        self._put(config)
        digest = self._put(reconfigured(image.manifest, encode(config)))
        return self._images(digest)[0]

    def write_index(self, images: Sequence[StoredImage]) -> str:
        """See Store."""
        for image in images:
            self._get(image.digest)
        return self._put(index_over(images))

    def publish(self, digest: str, tag: str) -> None:
        """See Store."""
        self._get(digest)
        self.tags[tag] = digest

    def discard(self, ref: str) -> None:
        """See Store."""
        self.tags.pop(ref, None)

    def close(self) -> None:
        """See Store."""

    def _put(self, document: JSON) -> str:
        digest = digest_of(encode(document))
        self._documents[digest] = document
        return digest

    def _get(self, digest: str) -> JSON:
        try:
            return self._documents[digest]
        except KeyError as error:
            raise StoreError(f"there is no {digest}") from error

    def _images(self, ref: str) -> list[StoredImage]:
        digest = self.tags.get(ref, ref)
        if digest not in self._documents:
            return []
        document = self._get(digest)
        if is_index(document):
            return [image for _, child in children(document) for image in self._images(str(child["digest"]))]
        config = document["config"]
        if not isinstance(config, Mapping):
            raise StoreError(f"{digest} names no configuration")
        size = len(encode(document))
        return [StoredImage(digest, self._get(str(config["digest"])), document, MANIFEST, size)]


@dataclass(frozen=True, slots=True)
class Call:
    """One process that a ``RecordingRunner`` was asked to start."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: Path
    redact: tuple[str, ...]


class RecordingRunner:
    """A runner that starts nothing: it notes each call, says these lines, and ends as it is told.

    Args:
        returncode: how each process ends.
        lines: what each process prints; the secrets it was told to redact are cut, as in real life.
        raises: raised instead, after the lines.
    """

    def __init__(
        self, *, returncode: int = 0, lines: Iterable[str] = (), raises: BaseException | None = None
    ) -> None:
        self.calls: list[Call] = []
        self._returncode = returncode
        self._lines = tuple(lines)
        self._raises = raises

    def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        on_line: OnLine,
        redact: Collection[str] = (),
        timeout: float | None = None,  # noqa: ARG002 - the protocol's
        line_limit: int = 0,  # noqa: ARG002 - the protocol's
    ) -> Completed:
        """See ``imagesmith.runner.Runner``."""
        self.calls.append(Call(tuple(argv), dict(env), cwd, tuple(redact)))
        redactor = Redactor(redact)
        lines = tuple(redactor.redact(line) for line in self._lines)
        for line in lines:
            on_line(line, "stdout")
        if self._raises is not None:
            raise self._raises
        return Completed(self._returncode, lines, 0.0)


class FakeBuilder:
    """A builder that makes no image: it writes a recipe and hands it to the tool ``fake-tool``.

    It keeps the whole contract as far as it can be kept without an engine, honours every feature, and is
    easily broken: override ``steps``.
    """

    name = "fake"
    version = "1.0"
    features: Mapping[Feature, Support] = MappingProxyType(dict.fromkeys(Feature, Support.FULL))

    def __init__(self, environment: Environment) -> None:
        self.environment = environment

    def ready(self) -> Readiness:
        """Whether the tool starts."""
        try:
            self.environment.runner.run(
                ["fake-tool", "--version"],
                env=self.environment.env,
                cwd=Path("/"),
                on_line=lambda _line, _stream: None,
            )
        except (ToolMissing, OSError) as error:
            return Readiness(False, problem=str(error), hint="there is no fake-tool to install")
        return Readiness(True, ("fake-tool",))

    def refusals(self, request: BuildRequest) -> Mapping[str, str]:  # noqa: ARG002 - the protocol's
        """Nothing."""
        return {}

    def steps(self, request: BuildRequest) -> list[list[object]]:
        """The recipe: what is done, in the canonical order, as plain data."""
        spec, staged = request.spec, request.staged
        done: list[list[object]] = [["from", request.base.pinned, request.platform]]
        done += [["cuda", spec.cuda, spec.cudnn]] if spec.cuda else []
        done += [["apt", *sorted(set(spec.apt_packages))]] if spec.apt_packages else []
        done += [["python", spec.python_version]] if spec.python_version else []
        if request.conda is not None:
            done.append(["conda", list(request.conda.specs), list(request.conda.channels)])
        if staged.has_requirements:
            options = list(install_arguments(request))
            mounts = [target for _, target in spec.pip_secret_mounts]
            env = install_environment(request, _contribution(request))
            done.append(["install", dict(staged.texts), list(staged.binaries), options, mounts, env])
        user = final_user(request)
        done.append(["files", spec.workdir_or_default, user, staged.has_source, staged.has_runtime])
        if spec.commands:
            done.append(["environment", command_environment(request, _contribution(request))])
            done += [["command", command] for command in spec.commands]
        if spec.builder_options:
            done.append(["options", _plain(spec.builder_options)])
        return done

    def plan(self, request: BuildRequest) -> BuildPlan:
        """One file, one command."""
        steps = self.steps(request)
        where = str(getattr(request.destination, "reference", "layout"))
        return BuildPlan(
            builder=self.name,
            request=request,
            files={"recipe.json": json.dumps(steps, indent=1, sort_keys=True)},
            commands=(Command(("fake-tool", "build", "…/recipe.json", "--to", where)),),
            contributed=_contribution(request),
            steps=tuple(str(step[0]) for step in steps),
        )

    def build(self, plan: BuildPlan, report: Reporter) -> Built:
        """Write the files, run the tool."""
        request = plan.request
        if request.staged.folder is None:
            raise ValueError("this plan was made for showing: its files are only listed")
        with tempfile.TemporaryDirectory(prefix="fake-", dir=request.staged.folder.parent) as name:
            for path, text in plan.files.items():
                (Path(name) / path).write_text(text, encoding="utf-8")
            argv = [word.replace("…", name) for word in plan.commands[0].argv]
            try:
                done = self.environment.runner.run(
                    argv,
                    env=self.environment.env,
                    cwd=Path(name),
                    on_line=lambda line, _stream: report(StepLog("1", line)),
                    redact=redactions(request),
                )
            except ToolMissing as error:
                raise BuilderNotReady(
                    str(error), builder=self.name, hint="there is no fake-tool to install"
                ) from error
        if done.returncode != 0:
            raise BuildFailed(
                "fake-tool failed", builder=self.name, returncode=done.returncode, tail=done.tail
            )
        digest = "sha256:" + hashlib.sha256(plan.files["recipe.json"].encode()).hexdigest()
        return Built(request.destination, digest, plan.contributed)


def request_for(spec: ImageSpec, **changes: object) -> BuildRequest:
    """A request as ``imagesmith render`` makes it: the base is not resolved, the files are only listed.

    ``changes`` are fields of the request that shall be otherwise. Raises SourceError for files that lack.
    """
    staged = listed(spec)
    request = BuildRequest(
        spec=spec,
        platform=spec.platforms[0],
        base=BaseImage(str(spec.base_image or Settings().default_base(spec))),
        destination=LocalEngine(f"{spec.name}:imagesmith-staging"),
        staged=staged,
    )
    changed: BuildRequest = replace(request, **changes)  # type: ignore[arg-type]
    secrets = changes.get("secrets") or secrets_over(changed.base, spec, changed.staged)
    return replace(changed, secrets=secrets)  # type: ignore[arg-type]


def _contribution(request: BuildRequest) -> Contribution:
    return request.conda.contribution if request.conda else Contribution()


def _plain(value: object) -> object:
    """Mappings and sequences as ``dict`` and ``list``."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
