"""The pipeline's own decisions and faults, with a builder in memory and a registry on loopback."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from imagesmith import (
    BaseImageError,
    BuilderEntry,
    BuilderNotReady,
    BuildFailed,
    BuildPlan,
    BuildRequest,
    BuildResult,
    Built,
    CondaUnsolvable,
    ExistenceUnknown,
    Feature,
    FeatureUnsupported,
    ImagesmithError,
    ImageSpec,
    Message,
    Phase,
    Readiness,
    RegistryRepository,
    Reporter,
    SourceError,
    StepStarted,
    Support,
    UsageError,
    VerificationFailed,
    build,
    exists,
    render,
)
from imagesmith.plugins import Plugins
from imagesmith.settings import Settings, load_settings
from imagesmith.stores.registry import open_repository
from tests.core.fake_registry import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, FakeRegistry, error, running, sha


@dataclass
class Pushing:
    """A builder that pushes one layer and a useless configuration."""

    env: Mapping[str, str]
    name: str = "pushing"
    version: str = "1.0"
    features: Mapping[Feature, Support] = field(default_factory=lambda: dict.fromkeys(Feature, Support.FULL))
    readiness: Readiness = field(default_factory=lambda: Readiness(True))
    reasons: Mapping[str, str] = field(default_factory=dict)
    meanwhile: Callable[[BuildRequest], None] = lambda request: None
    built: list[BuildPlan] = field(default_factory=list)

    def ready(self) -> Readiness:
        return self.readiness

    def refusals(self, request: BuildRequest) -> Mapping[str, str]:
        return self.reasons

    def plan(self, request: BuildRequest) -> BuildPlan:
        files = {"commands": "\n".join(request.spec.commands)}
        return BuildPlan(self.name, request, files, commands=())

    def build(self, plan: BuildPlan, report: Reporter) -> Built:
        self.built.append(plan)
        request = plan.request
        self.meanwhile(request)
        destination = request.destination
        assert isinstance(destination, RegistryRepository)
        system, machine = request.platform.split("/")
        layer = f"layer for {request.platform} of {sorted(request.staged.digests.items())}".encode()
        config = {
            "os": system,
            "architecture": machine,
            "config": {"Env": ["LEAK=yes"], "Labels": {"leak": "yes"}, "Cmd": ["leak"]},
            "rootfs": {"type": "layers", "diff_ids": [sha(layer)]},
        }
        raw = json.dumps(config).encode()
        with open_repository(destination.repository, self.env, None) as store:
            store.put_blob(layer)
            store.put_blob(raw)
            manifest = {
                "schemaVersion": 2,
                "mediaType": OCI_MANIFEST,
                "config": {"mediaType": OCI_CONFIG, "digest": sha(raw), "size": len(raw)},
                "layers": [{"mediaType": OCI_LAYER, "digest": sha(layer), "size": len(layer)}],
            }
            digest = store.put_manifest(json.dumps(manifest).encode(), OCI_MANIFEST)
            store.publish(digest, destination.staging_tag)
        return Built(destination, digest)


@dataclass
class Bench:
    """A registry with a base, a builder, and settings that know both."""

    registry: FakeRegistry
    builder: Pushing
    settings: Settings
    plugins: Plugins
    said: list[object] = field(default_factory=list)

    def spec(self, **fields: object) -> ImageSpec:
        return ImageSpec(**{"name": "app", "registry": f"{self.registry.host}/me", **fields})  # type: ignore[arg-type]

    def build(self, spec: ImageSpec, **options: object) -> BuildResult:
        return build(
            spec,
            settings=self.settings,
            plugins=self.plugins,
            report=self.said.append,
            **options,  # type: ignore[arg-type]
        )

    def tags(self) -> set[str]:
        return {ref for name, ref in self.registry.manifests if name == "me/app" and ":" not in ref}

    def config(self, result: BuildResult) -> Mapping[str, object]:
        repository, _, tag = result.reference.rpartition(":")
        with open_repository(repository, {}, None) as store:
            image = store.read(tag)
        assert image is not None
        inner = image.config["config"]
        assert isinstance(inner, dict)
        return inner


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with running() as registry:
        registry.add_image("base", "one", env="PYTHON_VERSION=3.12.1")
        env = {
            "HOME": str(tmp_path),
            "IMAGESMITH_CACHE_DIR": str(tmp_path / "cache"),
            "IMAGESMITH_BASE_IMAGE": f"{registry.host}/base:one",
            "IMAGESMITH_BUILDER": "pushing",
        }
        builder = Pushing(env)
        entry = BuilderEntry("pushing", "for tests", lambda environment: builder)
        plugins = Plugins(discover=False, entries=[entry])
        yield Bench(registry, builder, load_settings(tmp_path, env), plugins)


def test_what_is_published_is_finished_and_last(bench: Bench) -> None:
    result = bench.build(bench.spec(env={"A": "b"}, labels={"l": "m"}))
    tag = result.reference.rpartition(":")[2]
    assert bench.tags() == {"imagesmith-staging", tag}
    config = bench.config(result)
    assert "LEAK=yes" not in config["Env"]  # type: ignore[operator]
    assert "A=b" in config["Env"]  # type: ignore[operator]
    assert "leak" not in config["Labels"]  # type: ignore[operator]
    assert config.get("Cmd") is None
    puts = [line for line in bench.registry.log() if line.startswith("PUT") and "/manifests/" in line]
    assert puts[-1].endswith(f"/manifests/{tag}")
    assert result.builder == "pushing 1.0"
    assert not result.reused


def test_again_is_reused_and_force_builds(bench: Bench) -> None:
    first = bench.build(bench.spec())
    again = bench.build(bench.spec())
    assert again.reused
    assert (again.digest, again.builder) == (first.digest, first.builder)
    assert len(bench.builder.built) == 1
    assert not bench.build(bench.spec(), force=True).reused
    assert len(bench.builder.built) == 2


def test_a_change_of_configuration_alone_builds_nothing(bench: Bench) -> None:
    first = bench.build(bench.spec(env={"A": "1"}))
    other = bench.build(bench.spec(env={"A": "2"}, entrypoint=["x"]))
    assert other.digest != first.digest
    assert len(bench.builder.built) == 1
    assert bench.config(other)["Entrypoint"] == ["x"]
    bench.build(bench.spec(env={"A": "2"}, commands=["true"]))
    assert len(bench.builder.built) == 2, "a change of the plan has to build"


def test_another_index_is_another_file_system_also_where_it_is_a_secret(bench: Bench) -> None:
    def asking(url: str) -> BuildResult:
        return bench.build(bench.spec(packages=["six"], pip_index=url))

    first = asking("https://u:one@a.example/simple")
    assert asking("https://u:two@a.example/simple").digest == first.digest, "another login is the same image"
    assert len(bench.builder.built) == 1
    asking("https://u:one@b.example/simple")
    assert len(bench.builder.built) == 2


def test_a_remembered_file_system_that_is_gone_is_built_again(bench: Bench) -> None:
    bench.build(bench.spec(env={"A": "1"}))
    for key in [key for key in bench.registry.manifests if key[0] == "me/app"]:
        del bench.registry.manifests[key]
    assert not bench.build(bench.spec(env={"A": "2"})).reused
    assert len(bench.builder.built) == 2


def test_several_platforms_become_one_index(bench: Bench) -> None:
    one = bench.registry.add_image("base", env="A=1")
    two = bench.registry.add_image("base", platform="linux/arm64", env="A=1")
    entries = [
        {
            "mediaType": OCI_MANIFEST,
            "digest": digest,
            "size": 1,
            "platform": {"os": "linux", "architecture": arch},
        }
        for digest, arch in ((one, "amd64"), (two, "arm64"))
    ]
    index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": entries}
    bench.registry.add_manifest("base", str(index["mediaType"]), index, "both")
    platforms = ["linux/amd64", "linux/arm64"]
    result = bench.build(bench.spec(base_image=f"{bench.registry.host}/base:both", platform=platforms))
    assert [plan.request.platform for plan in bench.builder.built] == platforms
    repository, _, tag = result.reference.rpartition(":")
    with open_repository(repository, {}, None) as store:
        assert set(store.platforms(tag)) == set(platforms)


def nothing_published(bench: Bench) -> bool:
    return bench.tags() <= {"imagesmith-staging"}


def test_files_that_change_meanwhile_fail_the_build(bench: Bench, tmp_path: Path) -> None:
    source = tmp_path / "src"
    source.mkdir()
    (source / "a.py").write_text("1")
    real = bench.settings.default_base

    class Changing(Settings):
        def default_base(self, spec: ImageSpec) -> str:
            (source / "a.py").write_text("2")  # after hashing, before staging
            return real(spec)

    bench.settings = Changing(**{name: getattr(bench.settings, name) for name in Settings.__slots__})
    with pytest.raises(SourceError, match=r"a\.py"):
        bench.build(bench.spec(source_root=source))
    assert nothing_published(bench)
    assert bench.builder.built == []


def test_a_store_that_alters_what_was_written_publishes_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    from imagesmith.stores.registry import RegistryStore

    write = RegistryStore.write_config

    def altering(self: RegistryStore, image: object, config: Mapping[str, object]) -> object:
        inner = {**config["config"], "User": "someone"}  # type: ignore[dict-item]
        return write(self, image, {**config, "config": inner})  # type: ignore[arg-type]

    monkeypatch.setattr(RegistryStore, "write_config", altering)
    with pytest.raises(VerificationFailed, match="User"):
        bench.build(bench.spec())
    assert nothing_published(bench)


def test_a_failing_build_names_its_log_and_publishes_nothing(bench: Bench) -> None:
    def fail(request: BuildRequest) -> None:
        raise BuildFailed("it broke", builder="pushing", tail=["why"])

    bench.builder.meanwhile = fail
    with pytest.raises(BuildFailed) as caught:
        bench.build(bench.spec())
    assert caught.value.log is not None
    assert "building linux/amd64" in Path(caught.value.log).read_text()
    assert nothing_published(bench)


def test_a_registry_that_fails_at_the_last_step_publishes_nothing(bench: Bench) -> None:
    tag = exists(bench.spec(), settings=bench.settings).reference.rpartition(":")[2]
    bench.registry.fail(f"PUT /v2/me/app/manifests/{tag}", *([error(403, "DENIED")] * 3))
    with pytest.raises(ImagesmithError, match=r"(?i)denied|403"):
        bench.build(bench.spec())
    assert nothing_published(bench)


def test_unknown_existence_is_an_error_unless_said_otherwise(bench: Bench) -> None:
    def break_it() -> None:
        bench.registry.fail("(HEAD|GET) /v2/me/app/manifests/", error(403, "DENIED"))

    break_it()
    with pytest.raises(ExistenceUnknown, match="--on-unknown"):
        bench.build(bench.spec())
    break_it()
    assumed = bench.build(bench.spec(), on_unknown="assume")
    assert assumed.reused
    assert assumed.digest == ""
    break_it()
    assert exists(bench.spec(), settings=bench.settings).found is None
    assert bench.builder.built == []
    break_it()
    assert not bench.build(bench.spec(), on_unknown="build").reused


def test_refusals_come_before_any_work(bench: Bench) -> None:
    bench.builder.reasons = {"user": "not on a Tuesday"}
    with pytest.raises(FeatureUnsupported, match="not on a Tuesday"):
        bench.build(bench.spec())
    bench.builder.features = {**bench.builder.features, Feature.ENV: Support.NOT_YET}
    with pytest.raises(FeatureUnsupported, match="'env': not yet supported"):
        bench.build(bench.spec(env={"A": "b"}))
    assert bench.builder.built == []


def test_a_builder_that_is_not_ready_says_what_to_do(bench: Bench) -> None:
    bench.builder.readiness = Readiness(False, problem="no tool", hint="install the tool")
    with pytest.raises(BuilderNotReady, match="install the tool"):
        bench.build(bench.spec())


def test_a_base_without_the_platform_is_refused(bench: Bench) -> None:
    with pytest.raises(BaseImageError, match="has no linux/arm64; it has linux/amd64"):
        bench.build(bench.spec(platform="linux/arm64"))
    assert bench.builder.built == []


def test_an_old_python_gets_a_warning_and_no_runtime(bench: Bench) -> None:
    bench.registry.add_image("base", "old", env="PYTHON_VERSION=3.9.1")
    bench.build(bench.spec(base_image=f"{bench.registry.host}/base:old"))
    warnings = [event.text for event in bench.said if isinstance(event, Message) and event.level == "warning"]
    assert warnings == ["the image's python 3.9.1 is older than 3.11: it cannot import imagesmith"]
    assert not bench.builder.built[0].request.staged.has_runtime


def test_a_registry_that_keeps_tags_gets_a_staging_tag_per_build(bench: Bench, tmp_path: Path) -> None:
    bench.settings = load_settings(tmp_path, {**bench.settings.env, "IMAGESMITH_OWN_STAGING": "1"})
    result = bench.build(bench.spec())
    destination = bench.builder.built[0].request.destination
    assert isinstance(destination, RegistryRepository)
    assert destination.staging_tag.startswith("imagesmith-staging-")
    assert result.reference.rpartition(":")[2] in bench.tags()
    assert "imagesmith-staging" not in bench.tags()


def test_push_needs_a_registry(bench: Bench) -> None:
    with pytest.raises(UsageError, match="names no registry"):
        bench.build(ImageSpec(), push=True)


def test_render_asks_nobody(bench: Bench) -> None:
    (plan,) = render(bench.spec(commands=["x"]), settings=bench.settings, plugins=bench.plugins)
    assert plan.files == {"commands": "x"}
    assert plan.request.base.digest is None
    assert bench.registry.log() == []
    assert render(bench.spec(commands=["x"]), settings=bench.settings, plugins=bench.plugins) == (plan,)


def test_base_that_is_a_spec_is_built_first(bench: Bench) -> None:
    lower = bench.spec(name="lower", env={"L": "1"})
    result = bench.build(bench.spec(base_image=lower, env={"U": "2"}))
    assert [plan.request.spec.name for plan in bench.builder.built] == ["lower", "app"]
    env = bench.config(result)["Env"]
    assert isinstance(env, list)
    assert {"L=1", "U=2"} <= set(env)
    assert bench.builder.built[1].request.base.reference.startswith(f"{bench.registry.host}/me/lower:")


def forge(bench: Bench, folder: Path) -> str:
    """A channel with what its name says, known as conda-forge from now on."""
    pytest.importorskip("rattler", reason="the extra 'conda' is not installed")
    from tests.live import channel

    python = channel.Package("python", "3.11.9", {"bin/python": b"\x7fELF"})
    address = f"file://{channel.make(folder / 'forge', python, channel.tool('tool'))}"
    bench.settings = load_settings(folder, {**bench.settings.env, "IMAGESMITH_CONDA_FORGE": address})
    return address


def test_a_conda_environment_is_laid_out_for_the_builder(bench: Bench, tmp_path: Path) -> None:
    address = forge(bench, tmp_path)
    seen: list[str] = []

    def look(request: BuildRequest) -> None:
        assert request.conda is not None
        assert request.conda.folder is not None
        seen.append((request.conda.folder / "bin/tool").read_text())

    bench.builder.meanwhile = look
    spec = bench.spec(conda_packages=["tool"], python_version="3.11")
    result = bench.build(spec)
    assert seen == ["#!/bin/sh\necho tool 1.0 in /opt/conda\n"]
    assert [(each.name, each.version) for each in result.conda] == [("python", "3.11.9"), ("tool", "1.0")]
    conda = bench.builder.built[0].request.conda
    assert conda is not None
    assert conda.channels == (address,)
    phases = [event.name for event in bench.said if isinstance(event, Phase)]
    assert phases.index("solving") < phases.index("staging")
    (shown,) = render(spec, settings=bench.settings, plugins=bench.plugins)
    assert shown.request.conda is not None
    assert (shown.request.conda.specs, shown.request.conda.folder) == (("tool", "python 3.11.*"), None)


def test_a_conda_environment_that_is_known_is_not_laid_out_again(bench: Bench, tmp_path: Path) -> None:
    forge(bench, tmp_path)
    spec = bench.spec(conda_packages=["tool"], python_version="3.11")
    bench.build(spec)
    bench.said.clear()
    other = bench.build(spec.with_env({"A": "b"}))
    assert len(bench.builder.built) == 1
    assert not [event for event in bench.said if isinstance(event, StepStarted) and "files" in event.id]
    assert [each.name for each in other.conda] == ["python", "tool"]
    bench.build(spec, force=True)
    assert len(bench.builder.built) == 2


def test_another_python_than_the_bases_is_laid_out(bench: Bench, tmp_path: Path) -> None:
    forge(bench, tmp_path)
    result = bench.build(bench.spec(python_version="3.11"))
    assert [each.version for each in result.conda] == ["3.11.9"]
    texts = [event.text for event in bench.said if isinstance(event, Message)]
    assert any(
        "carries python 3.12.1, the spec asks for 3.11: another python is laid out" in text for text in texts
    )
    assert bench.build(bench.spec(python_version="3.12")).conda == (), "the base says 3.12.1"


def test_a_builder_that_cannot_copy_an_environment_is_not_given_one(bench: Bench, tmp_path: Path) -> None:
    forge(bench, tmp_path)
    bench.builder.features = {**bench.builder.features, Feature.CONDA_PACKAGES: Support.IMPOSSIBLE}
    assert bench.build(bench.spec(python_version="3.11")).conda == ()
    assert bench.builder.built[0].request.conda is None
    with pytest.raises(FeatureUnsupported, match="conda_packages"):
        bench.build(bench.spec(conda_packages=["tool"]))


def test_what_cannot_be_solved_is_said_before_any_build(bench: Bench, tmp_path: Path) -> None:
    forge(bench, tmp_path)
    with pytest.raises(CondaUnsolvable, match="No candidates were found for nosuch"):
        bench.build(bench.spec(conda_packages=["nosuch"], python_version="3.11"))
    assert bench.builder.built == []
    assert bench.tags() == set()
