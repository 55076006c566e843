from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
from pathlib import Path, PurePosixPath

import pytest

import imagesmith
from imagesmith import ImageSpec, SpecError
from imagesmith._fields import Role
from imagesmith.spec import declarations

FULL = {
    "name": "team/app",
    "python_version": "3.12.4",
    "builder": "mine",
    "source_root": "src",
    "env": {"A": " b 'c' \"d\" $E \\ \n ✓", "EMPTY": ""},
    "registry": "registry.example:5000/team",
    "packages": ["numpy==1.4.*", "pandas[excel]>=2; python_version<'3.13'"],
    "conda_packages": ["bioconda::samtools=1.19"],
    "conda_channels": ["bioconda", "nodefaults"],
    "requirements": "requirements.txt",
    "apt_packages": ["git", "libc6:arm64", "curl=7.88.1-10+deb12u5", "nginx/bookworm-backports"],
    "base_image": "registry.example/python:3.12",
    "platform": ["linux/amd64", "linux/arm64/v8"],
    "pip_index": "https://user:secret@index.example/simple",
    "pip_extra_index_url": ["https://tok@a.example/simple"],
    "registry_config": "config.json",
    "entrypoint": ["python", "-m", "app"],
    "commands": ["echo 'a' | tee b"],
    "tag_format": "{spec_hash}-dev",
    "copy": ["data", "/somewhere/else/model.bin"],
    "build_env": {"CC": "gcc"},
    "pip_extra_args": ["--pre"],
    "pip_secret_mounts": [["~/.netrc", "/root/.netrc"]],
    "builder_options": {"list": [1, {"x": True}], "none": None},
    "labels": {"org.example.team": "a b"},
    "workdir": "/srv/app",
    "user": "1000:0",
    "root": "/project",
}


def problems(**fields: object) -> dict[str, str]:
    with pytest.raises(SpecError) as caught:
        ImageSpec(**fields)
    return {problem.path: str(problem) for problem in caught.value.problems}


def test_fields_stand_in_the_positional_order_of_the_reference_signature() -> None:
    expected = (  # noqa: SIM905 - three lines, not twenty
        "name python_version builder source_root env registry packages conda_packages conda_channels "
        "requirements apt_packages cuda cudnn base_image platform pip_index pip_extra_index_url "
        "registry_config entrypoint commands tag_format"
    ).split()
    parameters = list(inspect.signature(ImageSpec).parameters.values())
    assert [each.name for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD] == expected
    keyword_only = [each.name for each in parameters if each.kind is each.KEYWORD_ONLY]
    later = "copy build_env pip_extra_args pip_secret_mounts builder_options labels workdir user"
    assert keyword_only[:8] == later.split()


def test_every_field_is_declared_with_kind_role_and_doc() -> None:
    assert list(declarations()) == [each.name for each in dataclasses.fields(ImageSpec)]
    assert all(told.kind and told.doc.endswith(".") for told in declarations().values())
    roles = {role: {name for name, told in declarations().items() if told.role is role} for role in Role}
    assert roles[Role.TAG_ONLY] == {"builder_options"}
    assert roles[Role.NONE] == {
        "builder", "registry", "registry_config", "tag_format", "pip_secret_mounts", "root",
    }  # fmt: skip


def test_holds_what_was_declared_immutably() -> None:
    spec = ImageSpec(**FULL)
    assert spec.packages == tuple(FULL["packages"])
    assert dict(spec.env) == FULL["env"]
    assert spec.platforms == ("linux/amd64", "linux/arm64/v8")
    assert spec.builder_options == {"list": (1, {"x": True}), "none": None}
    assert spec.pip_secret_mounts == (("~/.netrc", "/root/.netrc"),)
    assert spec.workdir_or_default == "/srv/app"


def test_defaults() -> None:
    spec = ImageSpec()
    assert (spec.name, spec.platform, spec.platforms) == ("imagesmith", "linux/amd64", ("linux/amd64",))
    assert (spec.packages, dict(spec.env), spec.entrypoint, spec.python_version) == ((), {}, None, None)
    assert spec.workdir_or_default == "/workspace"


def test_none_is_unset_in_every_field() -> None:
    assert ImageSpec(**dict.fromkeys(declarations())) == ImageSpec()
    assert ImageSpec(entrypoint=[]).entrypoint == ()


def test_the_caller_keeps_no_handle_on_the_state() -> None:
    packages, env, options = ["a"], {"A": "1"}, {"x": ["y"]}
    spec = ImageSpec(packages=packages, env=env, builder_options=options)
    packages.append("b")
    env["B"] = "2"
    options["x"].append("z")
    assert (spec.packages, dict(spec.env), spec.builder_options["x"]) == (("a",), {"A": "1"}, ("y",))


def test_paths_may_be_pathlike() -> None:
    spec = ImageSpec(
        source_root=Path("src"),
        requirements=PurePosixPath("r.txt"),
        copy=[Path("a"), "b"],
        registry_config=Path("c.json"),
        pip_secret_mounts=[(Path("f"), "/m")],
    )
    assert (spec.source_root, spec.requirements, spec.copy) == ("src", "r.txt", ("a", "b"))
    assert (spec.registry_config, spec.pip_secret_mounts) == ("c.json", (("f", "/m"),))


@pytest.mark.parametrize("copied", [pickle.loads, copy.copy, copy.deepcopy])
def test_pickles_copies_and_hashes(copied) -> None:
    spec = ImageSpec(**FULL)
    twin = copied(pickle.dumps(spec)) if copied is pickle.loads else copied(spec)
    assert twin == spec
    assert hash(twin) == hash(spec)
    assert twin.id == spec.id
    with pytest.raises(dataclasses.FrozenInstanceError):
        twin.name = "x"
    assert twin != spec.replace(name="other")


def test_assignment_names_the_ways_to_a_new_spec() -> None:
    spec = ImageSpec()
    with pytest.raises(dataclasses.FrozenInstanceError, match=r"replace\(env=…\) or with_env\(…\)"):
        spec.env = {}  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError, match=r"replace\(name=…\)$"):
        spec.name = "x"  # type: ignore[misc]


def test_all_problems_are_reported_at_once() -> None:
    found = problems(
        pacakges=["numpy"], python_version=3.1, packages=["ok", 3], env={"A": 1}, name="App", platform="amd64"
    )
    assert found["pacakges"] == "pacakges: unknown field; did you mean 'packages'?"
    assert "quote it (3.10 is the number 3.1)" in found["python_version"]
    assert found["packages[1]"] == 'packages[1]: expected text, got int (3); quote it: "3"'
    assert 'quote it: "1"' in found["env['A']"]
    assert "write 'app'" in found["name"]
    assert "did you mean 'linux/amd64'?" in found["platform"]
    assert len(found) == 6


@pytest.mark.parametrize(
    "field",
    ["packages", "apt_packages", "conda_packages", "conda_channels", "commands", "entrypoint", "copy",
     "pip_extra_index_url", "pip_secret_mounts"],
)  # fmt: skip
def test_a_string_is_no_list(field: str) -> None:
    found = problems(**{field: "git"})
    assert "expected a list, got str ('git'); write ['git']" in found[field]


@pytest.mark.parametrize(
    ("fields", "path", "reason"),
    [
        ({"name": "a:b"}, "name", "no image name"),
        ({"name": ""}, "name", "is empty"),
        ({"python_version": "3"}, "python_version", "minor or patch"),
        ({"python_version": "3.12.x"}, "python_version", "minor or patch"),
        ({"registry": "Registry.example/Team"}, "registry", "write 'registry.example/team'"),
        ({"registry": "registry.example/team/app:v1"}, "registry", "tag"),
        ({"registry": "someone:v1"}, "registry", "tag"),
        ({"registry": "registry.example/app@sha256:" + "a" * 64}, "registry", "digest"),
        ({"registry": "<your_registry>"}, "registry", "placeholder"),
        ({"registry": "https://registry.example/x"}, "registry", "write 'registry.example/x'"),
        ({"registry": "registry.example/x/"}, "registry", "write 'registry.example/x'"),
        ({"registry": "a//b"}, "registry", "no registry"),
        ({"base_image": "<base>"}, "base_image", "placeholder"),
        ({"base_image": "Python:3.12"}, "base_image", "lower case"),
        ({"base_image": "a b"}, "base_image", "no image reference"),
        ({"base_image": 3}, "base_image", "expected text"),
        ({"packages": ["-r requirements.txt"]}, "packages[0]", "use pip_extra_args or requirements"),
        ({"packages": ["a\nb"]}, "packages[0]", "line break"),
        ({"packages": ["a\0b"]}, "packages[0]", "NUL"),
        ({"packages": ["a", " "]}, "packages[1]", "is empty"),
        ({"packages": ["# numpy"]}, "packages[0]", "comment"),
        ({"packages": ["numpy\\"]}, "packages[0]", "continued"),
        ({"packages": [b"a"]}, "packages[0]", "expected text, got bytes"),
        ({"packages": {"a": "b"}}, "packages", "expected a list, got dict"),
        ({"apt_packages": ["git; rm -rf /"]}, "apt_packages[0]", "no Debian package"),
        ({"apt_packages": ["Git"]}, "apt_packages[0]", "no Debian package"),
        ({"apt_packages": ["-y"]}, "apt_packages[0]", "no Debian package"),
        ({"conda_packages": ["-c x"]}, "conda_packages[0]", "option"),
        ({"conda_channels": ["a b"]}, "conda_channels[0]", "white space"),
        ({"pip_index": "--x"}, "pip_index", "starts with '-'"),
        ({"env": {"": "x"}}, "env['']", "no name of a variable"),
        ({"env": {"A=B": "x"}}, "env['A=B']", "no name of a variable"),
        ({"env": {"A B": "x"}}, "env['A B']", "no name of a variable"),
        ({"env": {"A": "x\0"}}, "env['A']", "NUL"),
        ({"env": {"A": None}}, "env['A']", "expected text"),
        ({"env": {1: "x"}}, "env[1]", "expected text as key"),
        ({"env": ["A=1"]}, "env", "expected a mapping"),
        ({"env": {"A": True}}, "env['A']", "quote it"),
        ({"env": {"A": "\udc80"}}, "env['A']", "UTF-8"),
        ({"env": {"IMAGESMITH_ID": "x"}}, "env['IMAGESMITH_ID']", "set by imagesmith itself"),
        ({"build_env": {"IMAGESMITH_ID": "x"}}, "build_env['IMAGESMITH_ID']", "set by imagesmith itself"),
        ({"labels": {"": "x"}}, "labels['']", "no key of a label"),
        ({"labels": {"io.imagesmith.id": "x"}}, "labels['io.imagesmith.id']", "set by imagesmith itself"),
        ({"user": "a b"}, "user", "no user"),
        ({"user": "a:b:c"}, "user", "no user"),
        ({"workdir": "srv"}, "workdir", "write '/srv'"),
        ({"workdir": "/"}, "workdir", "cannot be the work directory"),
        ({"workdir": "//srv/../x/"}, "workdir", "write '/x'"),
        ({"platform": "linux/x86_64"}, "platform", "did you mean 'linux/amd64'?"),
        ({"platform": "linux/amd46"}, "platform", "did you mean 'linux/amd64'?"),
        ({"platform": "linux/amd64,linux/arm64"}, "platform", "write a list"),
        ({"platform": ["linux/amd64", "linux/amd64"]}, "platform[1]", "named twice"),
        ({"platform": []}, "platform", "empty list"),
        ({"platform": 1}, "platform", "expected text"),
        ({"commands": ["ok", "  "]}, "commands[1]", "is empty"),
        ({"copy": ["../x"]}, "copy[0]", "leaves the root"),
        ({"copy": ["a/../../x"]}, "copy[0]", "leaves the root"),
        ({"copy": ["/"]}, "copy[0]", "names no file"),
        ({"source_root": ""}, "source_root", "is empty"),
        ({"source_root": 1}, "source_root", "expected a path"),
        ({"cuda": "12.4", "base_image": "a"}, "cuda", "beside base_image"),
        ({"cudnn": "9"}, "cudnn", "without cuda"),
        ({"cuda": 12.4}, "cuda", "quote it"),
        ({"cuda": "twelve"}, "cuda", "no version"),
        ({"tag_format": "dev"}, "tag_format", "{spec_hash}"),
        ({"tag_format": "{spec_hash}/x"}, "tag_format", "no valid tag"),
        ({"tag_format": "{spec_hash}-{x}"}, "tag_format", "brace"),
        ({"tag_format": "-{spec_hash}"}, "tag_format", "no valid tag"),
        ({"pip_secret_mounts": [("a",)]}, "pip_secret_mounts[0]", "expected a pair"),
        ({"pip_secret_mounts": ["ab"]}, "pip_secret_mounts[0]", "expected a pair"),
        ({"pip_secret_mounts": [("a", "b")]}, "pip_secret_mounts[0][1]", "not absolute"),
        ({"pip_extra_args": "--a 'b"}, "pip_extra_args", "cannot be split"),
        ({"pip_extra_args": ["a\nb"]}, "pip_extra_args[0]", "line break"),
        ({"builder_options": {"a": 1.5}}, "builder_options['a']", "a whole number"),
        ({"builder_options": {"a": {"b": [object]}}}, "builder_options['a']['b'][0]", "a whole number"),
        ({"builder_options": {1: "a"}}, "builder_options[1]", "expected text as key"),
        ({"builder_options": "a"}, "builder_options", "expected a mapping"),
    ],
)
def test_refused_with_the_reason(fields: dict[str, object], path: str, reason: str) -> None:
    found = problems(**fields)
    assert list(found) == [path]
    assert reason in found[path]


@pytest.mark.parametrize(
    "fields",
    [
        {"registry": "someone"},
        {"registry": "localhost:30000"},
        {"registry": "localhost:30000/x"},
        {"registry": "[::1]:5000/x"},
        {"registry": "123.dkr.ecr.us-east-1.amazonaws.com/a/b/c_d"},
        {"registry": "europe-docker.pkg.dev/my-project/repo"},
        {"packages": ["git+https://github.com/a/b@main#subdirectory=c", "pkg @ https://x/y.whl", "./w.whl"]},
        {"packages": ["x[a,b]==1.4.*; sys_platform == 'linux'"]},
        {"conda_packages": ["numpy=1.26", "conda-forge::python>=3.11,<3.12"]},
        {"python_version": "3.9"},
        {"builder": "anything_there-is"},
        {"user": "app:staff"},
        {"user": "1000"},
        {"base_image": "ubuntu"},
        {"base_image": "localhost:5000/a/b:V1@sha256:" + "0" * 64},
        {"base_image": "ghcr.io/owner/Image".lower()},
        {"cuda": "12.4.1", "cudnn": "9"},
        {"platform": "linux/arm/v7"},
        {"copy": [".", "a/../b", "/x/y"]},
        {"source_root": "../lib"},
        {"entrypoint": []},
        {"commands": ["set -x\necho 'two lines'"]},
        {"env": {"PATH": "/opt/x/bin:$PATH", "ünï": "✓\n"}},
    ],
)
def test_taken_as_people_write_it(fields: dict[str, object]) -> None:
    ImageSpec(**fields)


def test_an_empty_registry_is_none() -> None:
    assert ImageSpec(registry="").registry is None
    assert ImageSpec(registry="").id == ImageSpec().id


def test_installer_arguments_may_be_one_string() -> None:
    assert ImageSpec(pip_extra_args="--pre --find-links 'a b'") == ImageSpec(
        pip_extra_args=["--pre", "--find-links", "a b"]
    )


def test_messages_and_repr_hold_no_credentials() -> None:
    found = problems(
        packages=["-i https://user:hunter2@index.example/simple"], pip_index="a https://hunter2@b"
    )
    assert "hunter2" not in str(found)
    assert "https://index.example/simple" in found["packages[0]"]
    spec = ImageSpec(
        pip_index="https://u:hunter2@x/simple", env={"KEY": "hunter2"}, build_env={"B": "hunter2"}
    )
    assert "hunter2" not in repr(spec)
    assert repr(spec) == ("ImageSpec(env={'KEY': '…'}, pip_index='https://x/simple', build_env={'B': '…'})")


ADDED = {
    "packages": (["a"], "b", ["b", "c"]),
    "apt_packages": (["aa"], "bb", ["bb", "cc"]),
    "conda_packages": (["a"], "b", ["b", "c"]),
    "conda_channels": (["a"], "b", ["b", "c"]),
    "pip_extra_index_url": (["https://a"], "https://b", ["https://b", "https://c"]),
    "pip_extra_args": (["--a"], "--b", ["--b", "--c"]),
    "commands": (["a"], "b", ["b", "c"]),
    "copy": (["a"], Path("b"), ["b", "c"]),
    "pip_secret_mounts": ([("a", "/a")], ("b", "/b"), [("b", "/b"), ("c", "/c")]),
}


@pytest.mark.parametrize("field", ADDED)
def test_with_adds_one_or_many_and_shares_nothing(field: str) -> None:
    before, one, many = ADDED[field]
    spec = ImageSpec(**{**FULL, field: before})
    method = getattr(spec, f"with_{field}")
    first = getattr(ImageSpec(**{field: before}), field)
    assert getattr(method(one), field) == (*first, getattr(ImageSpec(**{field: many}), field)[0])
    assert getattr(method(many), field) == (*first, *getattr(ImageSpec(**{field: many}), field))
    assert method(one).replace(**{field: before}) == spec
    assert spec == ImageSpec(**{**FULL, field: before})
    assert method([]) == spec


@pytest.mark.parametrize("field", ["env", "build_env", "labels", "builder_options"])
def test_with_merges_a_mapping(field: str) -> None:
    spec = ImageSpec(**{field: {"A": "1", "B": "2"}})
    changed = getattr(spec, f"with_{field}")({"B": "3", "C": "4"})
    assert dict(getattr(changed, field)) == {"A": "1", "B": "3", "C": "4"}
    assert dict(getattr(spec, field)) == {"A": "1", "B": "2"}
    with pytest.raises(SpecError, match="expected a mapping"):
        getattr(spec, f"with_{field}")("A=1")


def test_there_is_a_with_method_for_every_list_and_mapping() -> None:
    collected = {name for name, told in declarations().items() if told.kind.startswith(("list", "mapping"))}
    assert {f"with_{name}" for name in collected} == {
        name for name in dir(ImageSpec) if name.startswith("with_")
    }


def test_with_entrypoint_sets_it() -> None:
    spec = ImageSpec(entrypoint=["a"])
    assert spec.with_entrypoint(["b", "c"]).entrypoint == ("b", "c")
    assert spec.with_entrypoint("b").entrypoint == ("b",)
    assert spec.with_entrypoint([]).entrypoint == ()


def test_with_takes_sets_and_generators_without_losing_what_was_there() -> None:
    spec = ImageSpec(packages=["a"])
    assert spec.with_packages({"c", "b"}).packages == ("a", "b", "c")
    assert spec.with_packages(name for name in ["b"]).packages == ("a", "b")
    with pytest.raises(SpecError, match="expected a list"):
        spec.with_packages(3)


def test_replace_checks_again() -> None:
    spec = ImageSpec(packages=["a"])
    assert spec.replace(packages=None, name="other") == ImageSpec("other")
    with pytest.raises(SpecError) as caught:
        spec.replace(nme="x", python_version="three")
    assert {problem.path for problem in caught.value.problems} == {"nme", "python_version"}
    assert "did you mean 'name'?" in str(caught.value)


class Plain(ImageSpec):
    pass


class Custom(ImageSpec):
    def __init__(self, extra: str, **fields: object) -> None:
        super().__init__(**fields)
        object.__setattr__(self, "extra", extra)


@dataclasses.dataclass(frozen=True, slots=True)
class Wider(ImageSpec):
    extra: str = ""


@pytest.mark.parametrize(
    "spec", [Plain(packages=["a"]), Custom("kept", packages=["a"]), Wider(packages=["a"], extra="kept")]
)
def test_subclasses_keep_class_and_state(spec: ImageSpec) -> None:
    changed = spec.with_packages("b").replace(name="x")
    again = pickle.loads(pickle.dumps(copy.deepcopy(changed)))
    assert type(again) is type(spec)
    assert again.packages == ("a", "b")
    assert getattr(again, "extra", "kept") == "kept"
    assert again.id == ImageSpec("x", packages=["a", "b"]).id
    with pytest.raises(SpecError, match=type(spec).__name__):
        spec.replace(name="X")


def test_from_env_pins_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys
    from importlib.metadata import version

    spec = ImageSpec.from_env(pinned_packages=["pytest", "hypothesis[cli]"], packages=["numpy"], name="x")
    assert spec.packages == (
        "numpy", f"pytest=={version('pytest')}", f"hypothesis[cli]=={version('hypothesis')}",
    )  # fmt: skip
    assert spec.python_version == f"{sys.version_info.major}.{sys.version_info.minor}"
    assert ImageSpec.from_env(python_version="3.9").python_version == "3.9"
    assert type(Plain.from_env()) is Plain


def test_from_env_refuses_what_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IMAGESMITH_ID", raising=False)
    with pytest.raises(SpecError) as caught:
        ImageSpec.from_env(pinned_packages=["no-such-package-here", "pytest>=1"])
    assert [problem.path for problem in caught.value.problems] == ["pinned_packages[0]", "pinned_packages[1]"]
    assert "is not installed here" in str(caught.value)
    with pytest.raises(SpecError, match="expected a list"):
        ImageSpec.from_env(pinned_packages="pytest")
    with pytest.raises(SpecError, match="expected a list"):
        ImageSpec.from_env(packages="numpy")


def test_from_env_inside_another_image_does_not_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGESMITH_ID", "of-another-spec")
    spec = ImageSpec.from_env(pinned_packages=["no-such-package-here"])
    assert spec.packages == ("no-such-package-here",)
    assert spec.is_container() is False


def test_exist_answers_and_logs_why_it_cannot(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from imagesmith.pipeline import Existence

    answers = iter(
        [Existence(True, None, "r"), Existence(False, None, "r"), Existence(None, "no answer", "r/i:t")]
    )
    monkeypatch.setattr("imagesmith.pipeline.exists", lambda spec: next(answers))
    assert [ImageSpec().exist() for _ in range(3)] == [True, False, None]
    assert caplog.messages == ["cannot tell whether r/i:t exists: no answer"]


def test_to_dict_is_fit_for_a_label() -> None:
    spec = ImageSpec(**{**FULL, "base_image": ImageSpec("base", env={"K": "hunter2"})}).replace(
        commands=["curl https://u:hunter2@x/y"], source_root="/home/someone/src"
    )
    told = spec.to_dict()
    assert told["env"] == ["A", "EMPTY"]
    assert told["build_env"] == ["CC"]
    assert told["base_image"] == {"name": "base", "env": ["K"], "platform": ["linux/amd64"]}
    assert told["pip_index"] == "https://index.example/simple"
    assert told["commands"] == ["curl https://x/y"]
    assert told["copy"] == ["/model.bin", "data"]
    assert told["builder_options"] == {"list": [1, {"x": True}], "none": None}
    assert not {"pip_secret_mounts", "registry", "registry_config", "root", "builder"} & set(told)
    assert not any(word in str(told) for word in ("hunter2", "secret", "someone", "somewhere"))


def test_public_names_are_those_of_the_package() -> None:
    assert imagesmith.ImageSpec is ImageSpec
