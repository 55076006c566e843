from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from imagesmith import ImageSpec
from imagesmith._urls import strip_credentials
from imagesmith.container import RUNTIME_MODULES
from imagesmith.identity import content_tag, describe, spec_id
from tests.core.golden.make_identity import BASE, DIGESTS, SPECS, spec_of, vector

GOLDEN = json.loads(Path(__file__).with_name("golden").joinpath("identity.json").read_text(encoding="utf-8"))
PACKAGE = Path(sys.modules["imagesmith"].__file__ or "").parent


def tag(spec: ImageSpec, **changes: Any) -> str:
    return content_tag(spec, **{"digests": DIGESTS, "default_base": BASE, **changes})


# Forever the same


@pytest.mark.parametrize("name", SPECS)
def test_golden_vectors(name: str) -> None:
    assert vector(GOLDEN[name]["spec"]) == GOLDEN[name]


def test_golden_vectors_cover_every_field() -> None:
    from imagesmith.spec import declarations

    assert set(GOLDEN) == set(SPECS)
    assert {field for each in GOLDEN.values() for field in each["spec"]} == set(declarations())


def _interpreters() -> dict[str, str]:
    """Version -> program, of this interpreter and all others that are found and start."""
    found = {f"3.{sys.version_info.minor}": sys.executable}
    siblings = sorted(Path(sys.base_prefix).parent.glob("*/bin/python3.1?"))
    names = [f"python3.{minor}" for minor in range(11, 16)]
    for program in [*(shutil.which(name) for name in names), *map(str, siblings)]:
        if program is None:
            continue
        asked = subprocess.run(
            [program, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        version = asked.stdout.strip()
        if asked.returncode == 0 and tuple(map(int, version.split("."))) >= (3, 11):
            found.setdefault(version, program)
    return found


CHILD = """
import copy, json, pickle, sys
from imagesmith import ImageSpec
def spec_of(fields):
    base = fields.get("base_image")
    return ImageSpec(**{**fields, "base_image": spec_of(base) if isinstance(base, dict) else base})
with open(sys.argv[1], encoding="utf-8") as file:
    golden = json.load(file)
spec = ImageSpec(env={"A": "1"}).with_packages("a").replace(name="x")
assert pickle.loads(pickle.dumps(copy.deepcopy(spec))) == spec
try:
    spec.name = "y"
except AttributeError as error:
    assert "replace(name=" in str(error)
print(json.dumps({name: spec_of(each["spec"]).id for name, each in golden.items()}))
"""


def test_same_id_with_the_runtime_files_alone_anywhere_and_in_every_python(tmp_path: Path) -> None:
    """Other cwd, HOME, absolute path, hash seed, locale, process and interpreter; no other module present."""
    runtime = tmp_path / "a path with ünï" / "imagesmith"
    runtime.mkdir(parents=True)
    for name in RUNTIME_MODULES:
        shutil.copy(PACKAGE / name, runtime / name)
    golden = tmp_path / "golden.json"
    golden.write_text(json.dumps(GOLDEN), encoding="utf-8")
    expected = {name: each["id"] for name, each in GOLDEN.items()}
    programs = _interpreters()
    if len(programs) == 1:
        print("only one interpreter is installed here, no other version is compared")
    for seed, program in enumerate(programs.values()):
        env = {
            "PYTHONPATH": str(runtime.parent), "HOME": str(tmp_path), "PYTHONHASHSEED": str(seed),
            "LC_ALL": "C", "PYTHONDONTWRITEBYTECODE": "1", "IMAGESMITH_BASE_IMAGE": "other:1",
        }  # fmt: skip
        done = subprocess.run(
            [program, "-S", "-c", CHILD, str(golden)],
            cwd=tmp_path, env=env, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{program}: {done.stderr}"
        assert json.loads(done.stdout) == expected, program


def test_a_whole_imagesmith_behind_the_runtime_files_stays_importable(tmp_path: Path) -> None:
    runtime = tmp_path / "imagesmith"
    runtime.mkdir()
    for name in RUNTIME_MODULES:
        shutil.copy(PACKAGE / name, runtime / name)
    code = "import imagesmith, imagesmith.loading; print(imagesmith.__file__, imagesmith.loading.__file__)"
    path = os.pathsep.join([str(tmp_path), str(PACKAGE.parent)])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [str(runtime / "__init__.py"), str(PACKAGE / "loading.py")]


def test_a_name_outside_the_runtime_files_says_what_to_do(tmp_path: Path) -> None:
    runtime = tmp_path / "imagesmith"
    runtime.mkdir()
    for name in RUNTIME_MODULES:
        shutil.copy(PACKAGE / name, runtime / name)
    done = subprocess.run(
        [sys.executable, "-S", "-c", "from imagesmith import build"],
        env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "ImportError: imagesmith.build is not in the part of imagesmith that images carry" in done.stderr


# What is equal and what is not


SHORT = st.text(alphabet="ab ,:=\"'[]{}\\$é✓", min_size=1, max_size=4).filter(str.strip)
WORD = st.text(alphabet="ab=,[]{}:", min_size=1, max_size=3)
KEY = st.text(alphabet="AB:'\"", min_size=1, max_size=2)
FIELDS = {
    "packages": st.lists(WORD | st.sampled_from(["/x/a", "/y/a", "/y/a[b]", "a @ file:///x/a"]), max_size=3),
    "conda_packages": st.lists(WORD, max_size=3),
    "conda_channels": st.lists(WORD, max_size=3),
    "pip_extra_index_url": st.lists(WORD, max_size=3),
    "pip_extra_args": st.lists(WORD | st.sampled_from(["-c", "/x/a", "/y/a", "-c=/x/a"]), max_size=3),
    "pip_index": st.none() | WORD,
    "apt_packages": st.lists(st.sampled_from(["aa", "ab", "aab", "ba"]), max_size=3),
    "commands": st.lists(SHORT, max_size=3),
    "entrypoint": st.none() | st.lists(SHORT, max_size=3),
    "copy": st.lists(st.sampled_from(["a", "b", "a/b", "ab", "/x/a", "/y/a", "/a", "./a", "a/"]), max_size=3),
    "env": st.dictionaries(KEY, SHORT, max_size=3),
    "build_env": st.dictionaries(KEY, SHORT, max_size=3),
    "labels": st.dictionaries(KEY, SHORT, max_size=3),
    "name": st.sampled_from(["a", "b", "a/b", "ab"]),
    "python_version": st.none() | st.sampled_from(["3.1", "3.11", "3.11.1"]),
    "source_root": st.none() | st.sampled_from([".", "a", "./a", "a/b", "/a", "/b", "C:/x"]),
    "requirements": st.none() | st.sampled_from(["a", "./a", "a/b", "/x/a", "/y/a", "/b"]),
    "base_image": st.none() | st.sampled_from(["a", "b", "a:b"]).map(str) | st.just("a").map(ImageSpec),
    "platform": st.none() | st.sampled_from(["linux/amd64", ["linux/arm64", "linux/amd64"], ["linux/amd64"]]),
    "workdir": st.none() | st.sampled_from(["/a", "/a/b"]),
    "user": st.none() | st.sampled_from(["a", "a:b", "b"]),
}  # fmt: skip
LOCATION = {
    "registry": st.none() | st.sampled_from(["a", "b:1/c"]),
    "builder": st.none() | st.sampled_from(["a", "b"]),
    "tag_format": st.none() | st.just("{spec_hash}-x"),
    "registry_config": st.none() | st.just("c.json"),
    "root": st.none() | st.just("/r"),
    "pip_secret_mounts": st.just([("a", "/b")]) | st.none(),
    "builder_options": st.dictionaries(KEY, SHORT, max_size=2),
}
UNORDERED = {"packages", "conda_packages", "apt_packages"}


def meaning(fields: dict[str, Any]) -> dict[str, Any]:
    """What a declaration says, by the rules as the documentation has them; written without the encoder."""

    def path(text: str) -> tuple[bool, str]:
        absolute = text.startswith("/")
        return absolute, text.rpartition("/")[2] if absolute else text.removeprefix("./").rstrip("/")

    told: dict[str, Any] = {"name": "imagesmith", "platform": frozenset({"linux/amd64"})}
    for name, value in fields.items():
        if value is None or (name != "entrypoint" and not value):
            continue
        if name in UNORDERED:
            told[name] = frozenset(each.replace("/x/", "/").replace("/y/", "/") for each in value)
        elif name == "pip_extra_args":
            told[name] = tuple(each.replace("/x/", "/").replace("/y/", "/") for each in value)
        elif name == "platform":
            told[name] = frozenset([value] if isinstance(value, str) else value)
        elif name == "copy":
            told[name] = frozenset(path(each) for each in value)
        elif name == "requirements":
            told[name] = path(value)
        elif name == "source_root":
            told[name] = "absolute" if value.startswith(("/", "C:/")) else (value.removeprefix("./"),)
        elif isinstance(value, dict):
            told[name] = frozenset(value.items())
        else:
            told[name] = tuple(value) if isinstance(value, list) else value
    return told


@st.composite
def neighbours(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, Any]]:
    """Two declarations that differ little: values changed, moved to another field, reordered or repeated."""
    first = draw(st.fixed_dictionaries({}, optional=FIELDS))
    second = {name: list(value) if isinstance(value, list) else value for name, value in first.items()}
    for name in draw(st.lists(st.sampled_from(sorted(FIELDS)), max_size=2)):
        second[name] = draw(FIELDS[name])
    lists = sorted(name for name, value in second.items() if isinstance(value, list) and name != "platform")
    for name in draw(st.lists(st.sampled_from(lists), max_size=2)) if lists else []:
        second[name] = draw(st.permutations(second[name])) + second[name][: draw(st.integers(0, 1))]
    moved = draw(
        st.sampled_from(["", "env build_env", "labels env", "packages conda_packages", "commands entrypoint"])
    )
    if moved:
        one, other = moved.split()
        second[one], second[other] = second.get(other), second.get(one)
    return first, second


@settings(max_examples=100, deadline=None)
@given(neighbours())
@example(({"packages": ["ab", "c"]}, {"packages": ["a", "bc"]}))
@example(({"packages": ["git"]}, {"apt_packages": ["git"]}))
@example(({"packages": ["git"]}, {"commands": ["git"]}))
@example(({"commands": ["/git"]}, {"workdir": "/git"}))
@example(({"env": {"A": "1 B=2"}}, {"env": {"A": "1", "B": "2"}}))
@example(({"base_image": "a", "python_version": "3.1"}, {"base_image": "a"}))
@example(({"base_image": "a", "platform": "linux/arm64"}, {"base_image": "a"}))
@example(({"copy": ["d1/f.txt"]}, {"copy": ["d2/f.txt"]}))
@example(({"copy": ["a/bc/f"]}, {"copy": ["ab/c/f"]}))
@example(({"entrypoint": []}, {}))
@example(({"entrypoint": ["a b"]}, {"entrypoint": ["a", "b"]}))
@example(({"commands": ["a", "b"]}, {"commands": ["b", "a"]}))
@example(({"conda_channels": ["a", "b"]}, {"conda_channels": ["b", "a"]}))
@example(({"pip_extra_index_url": ["a", "b"]}, {"pip_extra_index_url": ["b", "a"]}))
@example(({"pip_extra_args": ["a", "b"]}, {"pip_extra_args": ["b", "a"]}))
@example(({"entrypoint": ["a", "b"]}, {"entrypoint": ["b", "a"]}))
@example(({"copy": ["./a", "b"]}, {"copy": ["b", "a/", "a"]}))
@example(({"copy": ["/x/a"]}, {"copy": ["/y/a"]}))
@example(({"packages": ["/x/a.whl"]}, {"packages": ["/y/a.whl"]}))
@example(({"packages": ["a @ file:///x/a.whl"]}, {"packages": ["a @ file:///y/a.whl"]}))
@example(({"packages": ["/x/a[b] ; os_name=='/x/'"]}, {"packages": ["/y/a[b] ; os_name=='/x/'"]}))
@example(({"packages": ["/x/a"]}, {"packages": ["a"]}))
@example(({"pip_extra_args": ["-c", "/x/c.txt"]}, {"pip_extra_args": ["-c", "/y/c.txt"]}))
@example(({"pip_extra_args": ["--find-links=/x/w"]}, {"pip_extra_args": ["--find-links=/y/w"]}))
@example(({"copy": ["/x/a"]}, {"copy": ["a"]}))
@example(({"packages": ["a", "b", "a"]}, {"packages": ["b", "a"]}))
@example(({"base_image": "a"}, {"base_image": ImageSpec("a")}))
def test_two_specs_share_an_id_exactly_when_they_mean_the_same(
    pair: tuple[dict[str, Any], dict[str, Any]],
) -> None:
    first, second = (ImageSpec(**fields) for fields in pair)
    same = meaning(pair[0]) == meaning(pair[1])
    assert (first.id == second.id) is same
    base = {"base_tag": "t" if isinstance(first.base_image, ImageSpec) else None}
    if (first.base_image is None) is (second.base_image is None):
        base_of_second = {"base_tag": "t" if isinstance(second.base_image, ImageSpec) else None}
        assert (tag(first, **base) == tag(second, **base_of_second)) is same


@pytest.mark.parametrize(
    "named",
    [
        lambda url: ImageSpec(conda_channels=[url]),
        lambda url: ImageSpec(pip_index=url),
        lambda url: ImageSpec(pip_extra_index_url=[url]),
    ],
)
def test_folders_of_a_machine_tell_contents_apart_and_stand_in_no_label(
    named: Callable[[str], ImageSpec],
) -> None:
    one, other = named("file:///home/me/x"), named("file:///srv/x")
    assert one.id == other.id
    assert tag(one) != tag(other)
    assert "/home/me" not in repr(describe(one))


@settings(max_examples=60, deadline=None)
@given(st.fixed_dictionaries({}, optional=FIELDS), st.fixed_dictionaries({}, optional=LOCATION))
def test_location_transport_and_builder_do_not_enter_the_id(
    fields: dict[str, Any], more: dict[str, Any]
) -> None:
    plain, located = ImageSpec(**fields), ImageSpec(**fields, **more)
    assert plain.id == located.id
    given_tag = "t" if isinstance(plain.base_image, ImageSpec) else None
    tags = [tag(each, base_tag=given_tag).removesuffix("-x") for each in (plain, located)]
    assert (tags[0] == tags[1]) is (not more.get("builder_options"))


@pytest.mark.parametrize(
    "options",
    [
        ({"a": 1}, {"a": True}),
        ({"a": "1"}, {"a": 1}),
        ({"a": None}, {}),
        ({"a": ["b"]}, {"a": "b"}),
        ({"a": []}, {"a": {}}),
    ],
)
def test_builder_options_enter_the_tag_as_declared(options: tuple[dict[str, Any], dict[str, Any]]) -> None:
    one, other = (ImageSpec(builder_options=each) for each in options)
    assert one.id == other.id
    assert tag(one) != tag(other)


def test_what_enters_the_tag_beside_the_id() -> None:
    spec = ImageSpec()
    assert tag(spec) == tag(spec, digests=dict(reversed(DIGESTS.items())))
    assert tag(spec) != tag(spec, digests={})
    assert tag(spec) != tag(spec, digests={**DIGESTS, "source/app.py": "sha256:" + "3" * 64})
    assert tag(spec) != tag(spec, digests={"source/b.py" if "app" in k else k: v for k, v in DIGESTS.items()})
    assert tag(spec) != tag(spec, default_base="other:1")
    named = ImageSpec(base_image="a:1")
    assert tag(named) == tag(named, default_base="other:1")
    derived = ImageSpec(base_image=ImageSpec("base"))
    assert tag(derived, base_tag="t1") != tag(derived, base_tag="t2")


def test_images_that_share_a_tag_share_the_marker() -> None:
    """An image is reused by its tag; is_container() compares the id: equal tags must mean equal ids."""
    assert tag(ImageSpec()) != tag(ImageSpec(python_version="3.12"))
    assert tag(ImageSpec()) != tag(ImageSpec(workdir="/workspace"))


def test_tag_format_wraps_the_hash() -> None:
    assert tag(ImageSpec(tag_format="v1-{spec_hash}_x")) == f"v1-{tag(ImageSpec())}_x"


def test_credentials_do_not_enter() -> None:
    def spec(login: str, token: str) -> ImageSpec:
        return ImageSpec(
            packages=[f"x @ git+https://{login}host/x.git@v1"], pip_index=f"https://{login}i/simple",
            pip_extra_index_url=[f"https://{login}e/simple"], conda_channels=[f"https://{login}c{token}/main"],
            pip_extra_args=[f"--find-links=https://{login}f/x"], builder_options={"x": [f"https://{login}o"]},
        )  # fmt: skip

    with_them, without = spec("user:token@", "/t/tk-1234"), spec("", "")
    assert with_them.id == spec("other@", "/t/x").id == without.id
    assert tag(with_them) == tag(without)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://user:pass@host/simple", "https://host/simple"),
        ("https://token@host", "https://host"),
        ("https://:@host", "https://host"),
        ("HTTPS://u:p@host", "HTTPS://host"),
        ("https://u:p@ss@host/x", "https://host/x"),
        ("https://user:to/ken+=@host/x", "https://host/x"),
        ("git+https://u:t@host/x.git@v1#egg=x", "git+https://host/x.git@v1#egg=x"),
        ("git+https://host:8443/x.git@v1", "git+https://host:8443/x.git@v1"),
        ("git+ssh://git@host/x.git", "git+ssh://git@host/x.git"),
        ("git+ssh://git:pw@host/x.git", "git+ssh://git@host/x.git"),
        ("x @ https://a:b@h/w.whl ; python_version<'3'", "x @ https://h/w.whl ; python_version<'3'"),
        ("https://h/a https://u@h/b", "https://h/a https://h/b"),
        ("https://conda.example/t/tk-123/main", "https://conda.example/main"),
        ("https://u:p@conda.example/t/tk-123", "https://conda.example"),
        ("https://h/x?token=abc&a=b", "https://h/x?token=&a=b"),
        ("https://h/x?X-Amz-Signature=abc", "https://h/x?X-Amz-Signature="),
        ("mail me@example.org", "mail me@example.org"),
        ("/t/a/b", "/t/a/b"),
        ("", ""),
    ],
)
def test_strip_credentials(text: str, expected: str) -> None:
    assert strip_credentials(text) == expected


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            ["https://", "ssh://", "git+", "u", ":", "@", "/t/", "/", "?", "token=", "&", " ", "'"]
        ),
        max_size=12,
    ).map("".join)
)
def test_stripping_twice_changes_nothing_more(text: str) -> None:
    once = strip_credentials(text)
    assert strip_credentials(once) == once


@settings(max_examples=100, deadline=None)
@given(
    st.text(alphabet="abcXYZ09:/+=%!-_~", min_size=1, max_size=12),
    st.sampled_from(["https://{}@h/x", "http://u:{}@h", "git+https://u:{}@h/r@v"]),
)
def test_no_part_of_a_login_survives(secret: str, url: str) -> None:
    marked = f"<{secret}>"
    assert marked not in strip_credentials(url.format(f"u:{marked}"))


def test_id_reads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **_: object) -> None:
        raise AssertionError(f"reads {arguments}")

    spec = spec_of(GOLDEN["paths"]["spec"])
    spec.id  # noqa: B018 - the modules are imported now
    monkeypatch.setattr("builtins.open", refuse)
    monkeypatch.setattr(os, "stat", refuse)
    monkeypatch.setattr(os, "environ", {})
    assert spec_id(spec) == GOLDEN["paths"]["id"]


def test_tag_and_image_name_read_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("IMAGESMITH_BASE_IMAGE", raising=False)
    source = tmp_path / "src" / "app.py"
    source.parent.mkdir()
    source.write_text("print(1)")
    spec = ImageSpec("app", source_root="src", registry="registry.example/team", tag_format="{spec_hash}-dev")
    first = spec.tag
    assert first == spec.tag
    assert spec.image_name() == f"registry.example/team/app:{first}"
    assert spec.replace(registry=None).image_name() == f"app:{first}"
    source.write_text("print(2)")
    assert spec.tag != first
    source.write_text("print(1)")
    assert spec.tag == first
    derived = ImageSpec("derived", base_image=spec)
    before = derived.tag
    source.write_text("print(2)")
    assert derived.tag != before
    monkeypatch.setenv("IMAGESMITH_BASE_IMAGE", "registry.example/python:3.12")
    source.write_text("print(1)")
    assert spec.tag != first
