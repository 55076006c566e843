from __future__ import annotations

import sys
from pathlib import Path

import pytest

from imagesmith import ImageSpec, SpecFileError, UsageError, load

TOML = """
name = "app"
packages = ["numpy", "pandas"]
python_version = "3.12"
platform = ["linux/amd64", "linux/arm64"]
pip_secret_mounts = [["f", "/m"]]
[env]
A = "two words"
[builder_options]
cache = true
[base_image]
name = "base"
apt_packages = ["git"]
"""
YAML = """
name: app
packages: [numpy, pandas]
python_version: "3.12"
platform: [linux/amd64, linux/arm64]
pip_secret_mounts: [[f, /m]]
env: {A: two words}
builder_options: {cache: true}
base_image: {name: base, apt_packages: [git]}
"""
JSON = """
{"name": "app", "packages": ["numpy", "pandas"], "python_version": "3.12",
 "platform": ["linux/amd64", "linux/arm64"], "pip_secret_mounts": [["f", "/m"]], "env": {"A": "two words"},
 "builder_options": {"cache": true}, "base_image": {"name": "base", "apt_packages": ["git"]}}
"""
EXPECTED = ImageSpec(
    "app",
    "3.12",
    packages=["numpy", "pandas"],
    platform=["linux/amd64", "linux/arm64"],
    pip_secret_mounts=[("f", "/m")],
    env={"A": "two words"},
    builder_options={"cache": True},
    base_image=ImageSpec("base", apt_packages=["git"]),
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory of its own; modules loaded from it are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    path = list(sys.path)
    yield tmp_path  # type: ignore[misc]
    assert sys.path == path
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(("ending", "text"), [("toml", TOML), ("yaml", YAML), ("yml", YAML), ("json", JSON)])
def test_the_same_spec_from_every_kind_of_file(ending: str, text: str, folder: Path) -> None:
    written(folder / "sub" / f"spec.{ending}", text)
    spec = load(f"sub/spec.{ending}")
    root = str(folder / "sub")
    base = EXPECTED.base_image
    assert isinstance(base, ImageSpec)
    assert spec == EXPECTED.replace(root=root, base_image=base.replace(root=root))
    assert spec.id == EXPECTED.id
    assert load(folder / "sub" / f"spec.{ending}") == spec


@pytest.mark.parametrize(("name", "text"), [("a.toml", ""), ("a.yaml", "# nothing\n"), ("a.json", " \n")])
def test_an_empty_file_is_a_spec_of_defaults(name: str, text: str, folder: Path) -> None:
    written(folder / name, text)
    assert load(name) == ImageSpec(root=str(folder))


def test_all_problems_of_a_file_with_their_key_paths(folder: Path) -> None:
    written(
        folder / "spec.yaml",
        "pacakges: [numpy]\npython_version: 3.10\npackages: [1]\nenv: {A: no}\nroot: /x\n"
        "base_image: {nme: x, python_version: 3.10, base_image: {name: X}}\n",
    )
    with pytest.raises(SpecFileError) as caught:
        load("spec.yaml")
    assert caught.value.file == "spec.yaml"
    found = {problem.path: str(problem) for problem in caught.value.problems}
    assert set(found) == {
        "pacakges", "python_version", "packages[0]", "env['A']", "root",
        "base_image.nme", "base_image.python_version", "base_image.base_image.name",
    }  # fmt: skip
    assert "did you mean 'packages'?" in found["pacakges"]
    assert "did you mean 'name'?" in found["base_image.nme"]
    assert "quote it (3.10 is the number 3.1)" in found["python_version"]
    assert str(caught.value).startswith("spec.yaml: 8 problems")


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("a.toml", "name = ", "not valid TOML"),
        ("a.toml", "name = 'a'\nname = 'b'", "not valid TOML"),
        ("a.json", "{", "not valid JSON"),
        ("a.json", "[]", "holds a list"),
        ("a.json", '{"name": "a", "name": "b"}', "'name' stands twice"),
        ("a.yaml", "a: [", "not valid YAML"),
        ("a.yaml", "name: a\nname: b", "'name' stands twice"),
        ("a.yaml", "1: a", "expected text as key"),
        ("a.yaml", "!!python/object/apply:os.system ['true']", "not valid YAML"),
        ("a.yaml", "just text", "holds a str"),
    ],
)
def test_a_file_that_cannot_be_read_as_one(name: str, text: str, reason: str, folder: Path) -> None:
    written(folder / name, text)
    with pytest.raises(SpecFileError, match=reason) as caught:
        load(name)
    assert caught.value.file == name


def test_a_file_that_is_not_text(folder: Path) -> None:
    (folder / "a.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(SpecFileError, match="not UTF-8"):
        load("a.toml")


def test_yaml_without_pyyaml_says_what_to_install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    written(folder / "a.yaml", "name: a")
    with pytest.raises(UsageError, match=r"pip install 'imagesmith\[yaml\]'"):
        load("a.yaml")


def test_python_targets(folder: Path) -> None:
    written(
        folder / "app.py",
        "import helper\nfrom imagesmith import ImageSpec\nimage = ImageSpec(helper.NAME)\n"
        "other = ImageSpec('other')\nclass Box: inner = other\n",
    )
    written(folder / "helper.py", "NAME = 'app'")
    for target in ("app.py:image", str(folder / "app.py") + ":image", "app:image"):
        spec = load(target)
        assert (spec, spec.root) == (ImageSpec("app"), None)
    assert load("app.py:Box.inner").name == "other"
    with pytest.raises(UsageError, match=r"several specs\n  hint: name one: app.py:image, app.py:other"):
        load("app.py")
    with pytest.raises(UsageError, match=r"did you mean app\.py:image"):
        load("app.py:imag")
    with pytest.raises(UsageError, match="is no ImageSpec, but of type str"):
        load("app.py:__name__")


def test_the_attribute_may_be_left_out_where_there_is_one_spec(folder: Path) -> None:
    written(folder / "pkg" / "__init__.py", "")
    written(folder / "pkg" / "names.py", "NAME = 'x'")
    written(
        folder / "pkg" / "mod.py",
        "from imagesmith import ImageSpec\nfrom .names import NAME\nimage = ImageSpec(NAME)\nalias = image\n",
    )
    assert load("pkg/mod.py") is load("pkg.mod") is load("pkg.mod:alias")
    written(folder / "none.py", "x = 1")
    with pytest.raises(UsageError, match="holds no ImageSpec"):
        load("none.py")


def test_the_code_runs_once_and_as_a_module(folder: Path) -> None:
    written(
        folder / "once.py",
        "from pathlib import Path\nfrom imagesmith import ImageSpec\n"
        "with Path('runs').open('a') as f: f.write(__name__ + ' ')\na, b = ImageSpec('a'), ImageSpec('b')\n",
    )
    assert [load("once.py:a").name, load("once.py:b").name] == ["a", "b"]
    assert (folder / "runs").read_text() == "once "


def test_a_file_named_like_a_library_does_not_replace_it(folder: Path) -> None:
    import json

    written(folder / "json.py", "from imagesmith import ImageSpec\nimage = ImageSpec('a')\n")
    written(folder / "my-image.py", "from imagesmith import ImageSpec\nimage = ImageSpec('b')\n")
    assert [load("json.py").name, load("json.py").name, load("my-image.py").name] == ["a", "a", "b"]
    assert sys.modules["json"] is json


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x = 1\nraise RuntimeError('boom')\n", "line 2: RuntimeError: boom"),
        ("\n\ndef f():\n    1 / 0\nf()\n", "line 5: ZeroDivisionError"),
        ("x = (\n", "line 1: "),
        (
            "import no_such_module_here\n",
            "line 1: ModuleNotFoundError: No module named 'no_such_module_here'",
        ),
        ("import json\njson.loads('{')\n", "line 2: JSONDecodeError"),
        ("raise SystemExit(3)\n", "line 1: SystemExit: 3"),
    ],
)
@pytest.mark.parametrize("target", ["bad.py", "bad"])
def test_an_error_in_the_users_code_names_file_and_line(
    text: str, expected: str, target: str, folder: Path
) -> None:
    written(folder / "bad.py", text)
    with pytest.raises(UsageError) as caught:
        load(target)
    assert f"{folder / 'bad.py'}, {expected}" in str(caught.value)
    assert caught.value.__cause__ is not None
    assert "bad" not in sys.modules
    if "no_such_module" in text:
        assert "with spec.imports():" in str(caught.value)


def test_a_wrong_declaration_in_python_code_keeps_all_its_problems(folder: Path) -> None:
    written(
        folder / "wrong.py", "from imagesmith import ImageSpec\nimage = ImageSpec(name='X', pakages=[])\n"
    )
    with pytest.raises(SpecFileError) as caught:
        load("wrong.py")
    assert caught.value.file == f"{folder / 'wrong.py'}, line 2"
    assert [problem.path for problem in caught.value.problems] == ["pakages", "name"]


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("spce.toml", "no such file: spce.toml\n  hint: did you mean 'spec.toml'?"),
        ("app.py:", "is no target"),
        ("not a target", "is no target"),
        ("", "is no target"),
        ("gone/app.py:x", "no such file: gone/app.py"),
        ("dir.toml", "dir.toml is not a file"),
        ("no_such_package_here.module:x", "no module named 'no_such_package_here'"),
    ],
)
def test_a_target_that_is_none(target: str, expected: str, folder: Path) -> None:
    written(folder / "spec.toml", "")
    (folder / "dir.toml").mkdir()
    with pytest.raises(UsageError) as caught:
        load(target)
    assert expected in str(caught.value)
    assert caught.value.hint
