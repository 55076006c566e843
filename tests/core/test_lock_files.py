"""Lock files as requirements: what of them is installed, with what hashes, and what is refused."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.markers import Marker
from uv import find_uv_bin

from imagesmith import ImageSpec, sources
from imagesmith.errors import SourceError
from imagesmith.locks import is_lock, pins
from imagesmith.locks import uv as uv_reader
from tests.core.wheels import write_wheel

FILES = Path(__file__).parent / "lock_files"
"""as the tools wrote them (uv 0.13, pip 26.3, Poetry 2.5 and 1.8); addresses replaced, tables cut down"""
PYLOCK_UV, PYLOCK_PIP, POETRY, POETRY_SOURCES, POETRY_OLD = (
    (FILES / name).read_text()
    for name in ("pylock.uv.toml", "pylock.pip.toml", "poetry.lock", "poetry-sources.lock", "poetry-old.lock")
)
SIX = "sha256:8abb2f1d86890a2dfb989f9a77cfcfd3e47c2a354b01111771326f8aa26e0254"
SIX_SDIST = "sha256:1e61c37477a1626458e36f7b1d82aa5c9b094fa4802892072e49de9c60c4c926"
PROJECT = """\
[project]
name = "app"
version = "0.1"
requires-python = ">=3.10"
dependencies = ["alpha<2", "beta; python_version >= '3.11'", "windows-only; sys_platform == 'win32'"]
[project.optional-dependencies]
more = ["extra-one"]
[dependency-groups]
dev = ["devtool"]
docs = ["doctool"]
"""
HATCH = '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
WHEELS = (
    "alpha 1.0", "alpha 2.0", "beta 1.0", "windows-only 1.0", "extra-one 1.0", "devtool 1.0", "doctool 1.0",
)  # fmt: skip


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheels")
    for each in WHEELS:
        name, version = each.split()
        write_wheel(folder, name, version, files={f"{name.replace('-', '_')}.py": f"VERSION = {version!r}\n"})
    return folder


@pytest.fixture(scope="module")
def index(wheels: Path) -> Iterator[str]:
    """A package index on loopback that serves them."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            kind, _, name = self.path.strip("/").partition("/")
            if kind == "files":
                body = (wheels / name).read_bytes()
            else:
                found = sorted(wheels.glob(f"{name.replace('-', '_')}-*.whl"))
                body = "".join(
                    f'<a href="/files/{file.name}#sha256={sha256(file)}">{file.name}</a>' for file in found
                ).encode()
            self.send_response(200 if body else 404)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815 - the names that http.server calls

        def log_message(self, format: str, *arguments: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/simple"
    server.shutdown()
    server.server_close()


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def uv(folder: Path, *arguments: str) -> str:
    argv = [find_uv_bin(), *arguments, "--no-config", "--quiet", "--no-cache"]
    done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def locked(index: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that uv has locked. Not to be changed by a test: ``project`` is a copy."""
    folder = tmp_path_factory.mktemp("locked")
    (folder / "pyproject.toml").write_text(PROJECT)
    uv(folder, "lock", "--default-index", index)
    return folder


@pytest.fixture
def project(locked: Path, tmp_path: Path) -> Path:
    for name in ("pyproject.toml", "uv.lock"):
        (tmp_path / name).write_text((locked / name).read_text())
    return tmp_path


def spec(root: Path, **fields: object) -> ImageSpec:
    return ImageSpec(**{"name": "x", "python_version": "3.11", "root": str(root), **fields})  # type: ignore[arg-type]


def lines(root: Path, requirements: str, **fields: object) -> list[str]:
    """The requirements that a lock file becomes."""
    texts = sources.listed(spec(root, requirements=requirements, **fields)).texts
    (name,) = (name for name in texts if name != "requirements/imagesmith.txt" and "/00-" in name)
    assert f"-r {name.removeprefix('requirements/')}\n" in texts["requirements/imagesmith.txt"]
    return texts[name].splitlines()


def notes(root: Path, requirements: str) -> str:
    return "\n".join(sources.listed(spec(root, requirements=requirements)).notes)


def refused(root: Path, requirements: str, **fields: object) -> str:
    with pytest.raises(SourceError) as raised:
        sources.listed(spec(root, requirements=requirements, **fields))
    assert raised.value.hint
    return str(raised.value)


def put(root: Path, name: str, text: str) -> str:
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return name


def local_project(root: Path, name: str) -> None:
    put(root, "pyproject.toml", f'[project]\nname = "{name}"\nversion = "1"\n{HATCH}')
    put(root, f"{name}/__init__.py", "")


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("uv.lock", True), ("a/b/poetry.lock", True), ("pylock.toml", True), ("pylock.dev.toml", True),
        ("pylock.a.b.toml", False), ("my-uv.lock", False), ("uv.lock.txt", False), ("pyproject.toml", False),
    ],
)  # fmt: skip
def test_the_kind_is_told_by_the_name(name: str, *, is_one: bool) -> None:
    assert is_lock(name) is is_one


# uv.lock


def test_uv_lock_gives_pins_with_hashes_and_markers(project: Path, wheels: Path) -> None:
    assert lines(project, "uv.lock") == [
        f"alpha==1.0 --hash=sha256:{sha256(wheels / 'alpha-1.0-py3-none-any.whl')}",
        (
            "beta==1.0 ; python_full_version >= '3.11' "
            f"--hash=sha256:{sha256(wheels / 'beta-1.0-py3-none-any.whl')}"
        ),
        (
            "windows-only==1.0 ; sys_platform == 'win32' "
            f"--hash=sha256:{sha256(wheels / 'windows_only-1.0-py3-none-any.whl')}"
        ),
    ]


def test_uv_lock_asks_nothing_and_writes_nothing(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected, before = lines(project, "uv.lock"), sorted(project.rglob("*"))
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("UV_PROJECT", "/nowhere")
    monkeypatch.setenv("UV_LOCKED", "1")
    assert lines(project, "uv.lock") == expected
    assert sorted(project.rglob("*")) == before


def test_default_groups_of_the_project_are_installed(project: Path) -> None:
    put(project, "pyproject.toml", PROJECT + '[tool.uv]\ndefault-groups = ["dev", "docs"]\n')
    names = [line.partition("==")[0] for line in lines(project, "uv.lock")]
    assert names == ["alpha", "beta", "doctool", "windows-only"]


def test_tag_follows_the_lock_and_its_project(project: Path) -> None:
    def digests() -> dict[str, str]:
        return dict(sources.digests(spec(project, requirements="uv.lock")))

    first = digests()
    put(project, "other.txt", "nothing to do with it")
    assert digests() == first
    put(project, "uv.lock", (project / "uv.lock").read_text() + "# touched\n")
    second = digests()
    put(project, "pyproject.toml", PROJECT.replace("0.1", "0.2"))
    assert len({str(first), str(second), str(digests())}) == 3


def test_tag_does_not_follow_the_version_of_uv(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = sources.digests(spec(project, requirements="uv.lock"))
    monkeypatch.setattr(uv_reader, "_export", lambda folder, shown: "alpha==1.0\n")
    assert lines(project, "uv.lock") == ["alpha==1.0"]
    assert sources.digests(spec(project, requirements="uv.lock")) == first


def test_what_is_staged_has_the_digests_it_was_hashed_with(project: Path, tmp_path: Path) -> None:
    wanted = spec(project, requirements="uv.lock")
    staged = sources.stage(wanted, tmp_path / "staged")
    sources.check_unchanged(sources.digests(wanted), staged)
    text = (tmp_path / "staged/requirements/00-uv.lock.txt").read_text()
    assert text.splitlines() == lines(project, "uv.lock")


def test_without_uv_the_error_says_how_to_get_or_replace_it(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "uv", None)
    monkeypatch.setenv("PATH", "/nowhere")
    said = refused(project, "uv.lock")
    assert "only uv reads it, and there is no uv here" in said
    assert "pip install uv" in said
    assert "uv export --frozen --no-dev --no-emit-project --output-file requirements.txt" in said


def test_uv_on_path_will_do(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = lines(project, "uv.lock")
    monkeypatch.setitem(sys.modules, "uv", None)
    monkeypatch.setenv("PATH", str(Path(find_uv_bin()).parent))
    assert lines(project, "uv.lock") == expected


def test_uv_says_itself_that_it_is_too_old(project: Path) -> None:
    put(project, "uv.lock", (project / "uv.lock").read_text().replace("version = 1\n", "version = 9\n", 1))
    said = refused(project, "uv.lock")
    assert "unsupported schema version (v9" in said
    assert "the version of uv that wrote it" in said


def test_uv_lock_needs_its_project(project: Path) -> None:
    (project / "pyproject.toml").unlink()
    assert "no pyproject.toml beside it" in refused(project, "uv.lock")
    assert "cannot be read" in refused(project, "gone/uv.lock")


def test_members_and_folders_are_installed_from_their_files(index: str, tmp_path: Path) -> None:
    root = tmp_path / "app"
    local_project(root / "member", "member")
    local_project(root / "lib", "lib")
    local_project(tmp_path / "lib", "wrong")  # where a path from the spec's root would lead
    put(
        root,
        "pyproject.toml",
        '[project]\nname = "app"\nversion = "1"\nrequires-python = ">=3.10"\n'
        'dependencies = ["member", "lib; os_name == \'posix\'", "alpha"]\n'
        '[tool.uv.workspace]\nmembers = ["member"]\n'
        '[tool.uv.sources]\nmember = { workspace = true }\nlib = { path = "lib", editable = true }\n',
    )
    uv(root, "lock", "--default-index", index)
    assert sorted(lines(tmp_path, "app/uv.lock")) == [
        "./01-lib ; os_name == 'posix'", "./02-member", "alpha==2.0",
    ]  # fmt: skip
    staged = sources.listed(spec(tmp_path, requirements="app/uv.lock"))
    assert "requirements/01-lib/lib/__init__.py" in staged.binaries
    assert "requirements/02-member/member/__init__.py" in staged.binaries
    said = "\n".join(staged.notes)
    assert "app/uv.lock: ./member is installed as a regular package, not an editable one" in said
    assert "no hash is checked, for these have none: ./lib ; os_name == 'posix', ./member" in said
    # without hashes names beside it are allowed
    assert "beta" in sources.listed(spec(tmp_path, requirements="app/uv.lock", packages=["beta"])).texts[
        "requirements/imagesmith.txt"
    ]  # fmt: skip


# packages beside a lock file


@pytest.mark.parametrize("package", ["beta", "alpha", "alpha==1.0", "beta==1.0 ; os_name == 'nt'"])
def test_names_without_hash_beside_hashes_are_refused(project: Path, package: str) -> None:
    said = refused(project, "uv.lock", packages=[package])
    assert f"packages[0]: {package!r} has no hash, and beside uv.lock every package needs one" in said


def test_names_with_hash_beside_hashes_are_installed(project: Path) -> None:
    package = f"six==1.16.0 --hash={SIX}"
    texts = sources.listed(spec(project, requirements="uv.lock", packages=[package])).texts
    assert texts["requirements/imagesmith.txt"] == f"-r 00-uv.lock.txt\n{package}\n"


@pytest.mark.parametrize("tool", ["pip", "uv"])
def test_installers_take_it_and_agree_on_names_beside_it(
    project: Path, index: str, tmp_path: Path, tool: str, wheels: Path
) -> None:
    """What is refused here is what at least one of the installers refuses."""
    folder = tmp_path / "staged" / "requirements"
    sources.stage(spec(project, requirements="uv.lock"), folder.parent)
    python = sys.executable
    argv = {
        "pip": [python, "-m", "pip", "install", "--disable-pip-version-check", "--no-cache-dir"],
        "uv": [
            find_uv_bin(), "pip", "install", "--no-cache", "--no-config", "--require-hashes",
            "--python", python,
        ],
    }[tool]  # fmt: skip

    def installs(extra: str) -> list[str]:
        """The names of what is there afterwards."""
        (folder / "imagesmith.txt").write_text(f"-r 00-uv.lock.txt\n{extra}\n")
        with tempfile.TemporaryDirectory(dir=tmp_path) as target:
            options = ("--target", target, "--index-url", index, "-r", "imagesmith.txt")
            subprocess.run([*argv, *options], cwd=folder, capture_output=True, timeout=60, check=False)
            return sorted(file.stem for file in Path(target).glob("*.py"))

    devtool = sha256(wheels / "devtool-1.0-py3-none-any.whl")
    assert installs(f"devtool==1.0 --hash=sha256:{devtool}") == ["alpha", "beta", "devtool"]
    assert installs(f"devtool==1.0 --hash=sha256:{devtool[::-1]}") == [], "not the hash of the file"
    assert installs("devtool==1.0") == []
    assert bool(installs("alpha")) is (tool == "pip"), "only pip takes a bare name that is locked"


# pylock.toml


def test_pylock_of_uv(tmp_path: Path) -> None:
    put(tmp_path, "pylock.toml", PYLOCK_UV)
    assert lines(tmp_path, "pylock.toml") == [
        (
            'colorama==0.4.6 ; sys_platform == "win32" '
            "--hash=sha256:08695f5cb7ed6e0531a20572697297273c47b8cae5a63ffc6d6ed5c201be6e44 "
            "--hash=sha256:4f1d9991f5acc0ca119f9d443620b77f9d6b33703e51011c16baf57afb285fc6"
        ),
        (
            'humanize==4.16.0 ; python_full_version < "3.11" '
            "--hash=sha256:353eb2f34c09d098b2880eee8bef21832eae6d174f48c5762fff7e5fcb74d01d"
        ),
        (
            'humanize==4.17.0 ; python_full_version >= "3.11" '
            "--hash=sha256:02d0899527760efe18011944f882df4970943b4cdff7b5a0ba7fed43a576ef98"
        ),
        f"six==1.16.0 --hash={SIX_SDIST} --hash={SIX}",
    ]
    assert "the project itself (app) is not installed" in notes(tmp_path, "pylock.toml")


def test_pylock_of_pip_under_a_name_of_its_own(tmp_path: Path) -> None:
    put(tmp_path, "sub/pylock.prod.toml", PYLOCK_PIP)
    assert lines(tmp_path, "sub/pylock.prod.toml") == [f"six==1.16.0 --hash={SIX}"]
    # no installer may take it for a lock file of its own
    assert "requirements/00-pylock.prod.toml.txt" in sources.digests(
        spec(tmp_path, requirements="sub/pylock.prod.toml")
    )


def test_pylock_made_by_uv_from_its_own_lock_says_the_same(project: Path) -> None:
    put(project, "pylock.toml", uv(project, "export", "--frozen", "--format", "pylock.toml", "--no-dev"))
    same = [line.replace("'", '"') for line in lines(project, "uv.lock")]
    assert lines(project, "pylock.toml") == same


def pylock(*packages: str, head: str = "") -> str:
    tables = "".join(f"[[packages]]\n{each}\n" for each in packages) or "packages = []\n"
    return f'lock-version = "1.0"\ncreated-by = "test"\n{head}\n{tables}'


def package(name: str, marker: str = "") -> str:
    given = f"marker = {marker!r}\n" if marker else ""
    url = f"https://files.example/{name}-1-py3-none-any.whl"
    return (
        f'name = "{name}"\nversion = "1"\n{given}wheels = [{{url = "{url}", hashes = {{sha256 = "00"}}}}]\n'
    )


def test_pylock_takes_no_extras_and_the_default_groups(tmp_path: Path) -> None:
    text = pylock(
        package("a", '"more" in extras'),
        package("b", '"more" not in extras'),
        package("c", '"dev" in dependency_groups'),
        package("d", '"Default.Group" in dependency_groups'),
        package("e", '"dev" in dependency_groups or sys_platform == "linux"'),
        package("f", '"default-group" not in dependency_groups and os_name == "posix"'),
        head='extras = ["more"]\ndependency-groups = ["dev"]\ndefault-groups = ["default_group"]',
    )
    put(tmp_path, "pylock.toml", text)
    found = lines(tmp_path, "pylock.toml")
    assert [line.partition("==")[0] for line in found] == ["b", "d", "e", "f"]
    markers = {line[0]: line.partition(" ; ")[2].partition(" --")[0] for line in found}
    assert (markers["b"], markers["d"]) == ("", "")
    assert Marker(markers["e"]).evaluate({"sys_platform": "linux"})
    assert not Marker(markers["e"]).evaluate({"sys_platform": "win32"})
    assert not Marker(markers["f"]).evaluate({"os_name": "posix"})


def test_pylock_repositories_archives_and_folders(tmp_path: Path) -> None:
    write_wheel(tmp_path, "tiny", files={})
    local_project(tmp_path / "proj", "proj")
    commit = "79b4aec61bdaca60ca9f15e62ae04f61d9039215"
    vcs = f'{{type = "git", url = "https://forge.example/g", commit-id = "{commit}", subdirectory = "s"}}'
    archive = (
        '{url = "https://files.example/z.zip", subdirectory = "s", hashes = {sha512 = "11", sha256 = "00"}}'
    )
    hashed = [
        f'name = "z"\narchive = {archive}',
        'name = "tiny"\narchive = {path = "tiny-1.0-py3-none-any.whl", hashes = {sha256 = "22"}}',
    ]
    put(tmp_path, "pylock.toml", pylock(*hashed))
    assert lines(tmp_path, "pylock.toml") == [
        "z @ https://files.example/z.zip#subdirectory=s --hash=sha256:00 --hash=sha512:11",
        "./tiny-1.0-py3-none-any.whl --hash=sha256:22",
    ]
    bare = [
        f'name = "g"\nvcs = {vcs}',
        'name = "proj"\nmarker = "os_name == \'posix\'"\ndirectory = {path = "proj"}',
    ]
    put(tmp_path, "pylock.toml", pylock(*hashed, *bare))
    assert lines(tmp_path, "pylock.toml") == [
        "z @ https://files.example/z.zip#subdirectory=s",
        "./tiny-1.0-py3-none-any.whl",
        f"g @ git+https://forge.example/g@{commit}#subdirectory=s",
        './02-proj ; os_name == "posix"',
    ]
    assert "no hash is checked, for these have none: g @ git+https" in notes(tmp_path, "pylock.toml")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[", "pylock.toml: not valid TOML"),
        ('lock-version = "1.0"\n', "Missing required value in 'created-by'"),
        (pylock().replace('"1.0"', '"2.0"'), "pylock version 2.0 is not supported"),
        (pylock(head='requires-python = ">=3.12"'), "it is for python >=3.12, the image gets python 3.11"),
        (
            pylock(head="environments = [\"sys_platform == 'darwin'\", \"platform_machine == 'aarch64'\"]"),
            'no environment like the image\'s (linux/amd64, python 3.11): sys_platform == "darwin" | ',
        ),
        (
            pylock('name = "h"\nvcs = {type = "hg", url = "https://forge.example/h", commit-id = "1"}'),
            "h comes from a hg repository",
        ),
        (
            pylock('name = "h"\nvcs = {type = "git", path = "../h", commit-id = "1"}'),
            "h comes from a repository on this machine",
        ),
        (
            pylock('name = "h"\nvcs = {type = "git", url = "file:///h", commit-id = "1"}'),
            "is a repository on this machine, which a build does not see",
        ),
        (
            pylock(package("w").replace('url = "https://files.example/', 'path = "')),
            "the files of w lie on this machine (w-1-py3-none-any.whl)",
        ),
        (pylock('name = "p"\ndirectory = {path = "gone"}'), "pylock.toml: ./gone does not exist"),
        (pylock('name = "p"\ndirectory = {path = "../out"}'), "lies outside of"),
    ],
)
def test_pylock_refusals(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "out").mkdir()
    put(tmp_path, "root/pylock.toml", text)
    assert said in refused(tmp_path / "root", "pylock.toml")


def test_python_and_environment_are_checked_as_far_as_the_spec_says_them(tmp_path: Path) -> None:
    put(tmp_path, "pylock.toml", pylock(head='requires-python = ">=3.11.4"'))
    assert lines(tmp_path, "pylock.toml", python_version="3.11") == []
    assert "python 3.11.3" in refused(tmp_path, "pylock.toml", python_version="3.11.3")
    assert lines(tmp_path, "pylock.toml", python_version=None, base_image="own/base") == []
    put(tmp_path, "pylock.toml", pylock(head="environments = [\"platform_machine == 'aarch64'\"]"))
    assert lines(tmp_path, "pylock.toml", platform="linux/arm64") == []
    assert "linux/amd64" in refused(tmp_path, "pylock.toml", platform=["linux/arm64", "linux/amd64"])


# poetry.lock


def test_poetry_main_group_without_extras(tmp_path: Path) -> None:
    put(tmp_path, "poetry.lock", POETRY)
    assert lines(tmp_path, "poetry.lock") == [
        (
            'colorama==0.4.6 ; sys_platform == "win32" '
            "--hash=sha256:4f1d9991f5acc0ca119f9d443620b77f9d6b33703e51011c16baf57afb285fc6"
        ),
        f'six==1.16.0 ; python_version < "4" --hash={SIX_SDIST} --hash={SIX}',
    ]
    assert "it is for python >=3.10,<4, the image gets python 3.9" in refused(
        tmp_path, "poetry.lock", python_version="3.9"
    )


def test_poetry_sources(tmp_path: Path) -> None:
    put(tmp_path, "a/poetry.lock", POETRY_SOURCES)
    (tmp_path / "a/dist").mkdir()
    write_wheel(tmp_path / "a/dist", "tiny", files={})
    local_project(tmp_path / "a/sub/proj", "proj")
    assert lines(tmp_path, "a/poetry.lock") == [
        "gitp @ git+ssh://git@forge.example/who/gitp.git@79b4aec61bdaca60ca9f15e62ae04f61d9039215#subdirectory=sub",
        "./01-proj",
        "six @ https://files.example/six-1.16.0-py2.py3-none-any.whl",
        "./tiny-1.0-py3-none-any.whl",
    ]
    said = notes(tmp_path, "a/poetry.lock")
    assert "a/poetry.lock: sub/proj is installed as a regular package" in said
    assert "a/poetry.lock: no hash is checked, for these have none: gitp @ git+ssh" in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (POETRY_OLD, "its format (2.0) does not say which group a package belongs to"),
        (POETRY.replace('"2.1"', '"3.0"'), "its format (3.0) is newer"),
        (POETRY.replace('"legacy"', '"carrier pigeon"'), "a source of the kind 'carrier pigeon'"),
    ],
)
def test_poetry_refusals_name_the_export_command(tmp_path: Path, text: str, said: str) -> None:
    put(tmp_path, "poetry.lock", text)
    refusal = refused(tmp_path, "poetry.lock")
    assert said in refusal
    assert "poetry export --format requirements.txt --output requirements.txt" in refusal


def test_a_poetry_lock_that_was_cut(tmp_path: Path) -> None:
    put(tmp_path, "poetry.lock", POETRY.replace('version = "1.16.0"\n', ""))
    assert "poetry.lock: six has no version" in refused(tmp_path, "poetry.lock")
    put(tmp_path, "poetry.lock", POETRY.replace("sys_platform ==", "sys_platform is"))
    assert "poetry.lock: colorama: Expected marker operator" in refused(tmp_path, "poetry.lock")


# all of them


def test_a_lock_file_inside_another_file_is_refused(tmp_path: Path) -> None:
    put(tmp_path, "pylock.toml", PYLOCK_PIP)
    put(tmp_path, "r.txt", "six\n-r pylock.toml\n")
    said = refused(tmp_path, "r.txt")
    assert "r.txt:2: pylock.toml: a lock file is not included in another file" in said


def test_credentials_in_a_lock_file_become_a_secret(tmp_path: Path) -> None:
    archive = '{url = "https://me:hunter2@files.example/z.zip", hashes = {sha256 = "00"}}'
    put(tmp_path, "pylock.toml", pylock(f'name = "z"\narchive = {archive}'))
    staged = sources.listed(spec(tmp_path, requirements="pylock.toml"))
    assert "hunter2" not in str(staged.texts)
    assert b"hunter2" in staged.secrets["requirements/00-pylock.toml.txt"].reveal()
    before = sources.digests(spec(tmp_path, requirements="pylock.toml"))
    put(tmp_path, "pylock.toml", pylock(f'name = "z"\narchive = {archive}').replace("hunter2", "other"))
    assert sources.digests(spec(tmp_path, requirements="pylock.toml")) == before


def test_line_ends_do_not_count(tmp_path: Path) -> None:
    put(tmp_path, "pylock.toml", PYLOCK_PIP)
    before = sources.digests(spec(tmp_path, requirements="pylock.toml"))
    (tmp_path / "pylock.toml").write_bytes(PYLOCK_PIP.replace("\n", "\r\n").encode())
    assert sources.digests(spec(tmp_path, requirements="pylock.toml")) == before
    (tmp_path / "pylock.toml").write_bytes(b"\xff")
    assert "byte 0 is not UTF-8" in refused(tmp_path, "pylock.toml")


ATOMS = st.sampled_from([
    '"dev" in dependency_groups', '"dev" not in dependency_groups', '"x" in extras',
    'sys_platform == "linux"', 'python_version >= "3.12"', '"docs" in dependency_groups',
])  # fmt: skip
MARKERS = st.recursive(
    ATOMS,
    lambda part: st.builds("({} {} {})".format, part, st.sampled_from(["and", "or"]), part),
    max_leaves=6,
)


@given(
    marker=MARKERS, groups=st.sets(st.sampled_from(["dev", "docs"])), platform=st.sampled_from(["linux", "x"])
)
def test_a_marker_means_the_same_when_the_choice_is_made(
    marker: str, groups: set[str], platform: str
) -> None:
    system = {"sys_platform": platform, "python_version": "3.11"}
    chosen = {"extras": frozenset[str](), "dependency_groups": frozenset(groups)}
    expected = Marker(marker).evaluate({**system, **chosen}, context="lock_file")
    left = pins.marker_of("x", marker, "lock", groups)
    assert (left if isinstance(left, bool) else Marker(left).evaluate(system)) is expected
