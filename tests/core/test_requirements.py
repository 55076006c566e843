"""Requirements files and packages: followed, staged, checked."""

from __future__ import annotations

import codecs
import itertools
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagesmith import ImageSpec, install_arguments, sources
from imagesmith.errors import SourceError
from imagesmith.identity import describe
from imagesmith.testing import request_for
from tests.core.wheels import write_wheel


def put(root: Path, name: str, text: str = "six\n") -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def spec(root: Path, **fields: object) -> ImageSpec:
    return ImageSpec(root=str(root), **fields)  # type: ignore[arg-type]


def texts(root: Path, **fields: object) -> dict[str, str]:
    found = sources.listed(spec(root, **fields)).texts
    return {name.removeprefix("requirements/"): text for name, text in found.items()}


def project(root: Path, name: str, package: str = "localproject") -> None:
    put(root, f"{name}/pyproject.toml", PYPROJECT.format(name=package))
    put(root, f"{name}/{package}.py", "here = True\n")


PYPROJECT = """[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "{name}"
version = "1.0"
[tool.setuptools]
py-modules = ["{name}"]
"""


def test_the_closure_is_followed_and_renamed(tmp_path: Path) -> None:
    put(
        tmp_path,
        "req/main.txt",
        "# a comment\n\nrequests[socks] >= 2, <3 ; python_version > '3.7'  # why\n"
        "-r base.txt\n--requirement=../shared/dev.txt\n-cpins.txt\n--constraint pins.txt\n",
    )
    put(tmp_path, "req/base.txt", "numpy==1.4.*\n-r ../shared/dev.txt\n")
    put(tmp_path, "shared/dev.txt", "pytest\n")
    put(tmp_path, "req/pins.txt", "six==1.16.0\n")
    assert texts(tmp_path, requirements="req/main.txt", packages=["zlib-ng", "attrs"]) == {
        "imagesmith.txt": "-r 00-main.txt\nattrs\nzlib-ng\n",
        "00-main.txt": "requests[socks] >= 2, <3 ; python_version > '3.7'\n-r 01-base.txt\n-r 02-dev.txt\n"
        "-c 03-pins.txt\n-c 03-pins.txt\n",
        "01-base.txt": "numpy==1.4.*\n-r 02-dev.txt\n",
        "02-dev.txt": "pytest\n",
        "03-pins.txt": "six==1.16.0\n",
    }


def test_packages_alone_are_sorted_into_one_file(tmp_path: Path) -> None:
    one = spec(tmp_path, packages=["six", "numpy>=1", "attrs"])
    other = spec(tmp_path, packages=["attrs", "six", "numpy>=1", "six"])
    assert texts(tmp_path, packages=one.packages) == {"imagesmith.txt": "attrs\nnumpy>=1\nsix\n"}
    assert sources.digests(one) == sources.digests(other)


def test_continued_lines_hashes_and_options(tmp_path: Path) -> None:
    put(
        tmp_path,
        "r.txt",
        "six==1.16.0 \\\n    --hash=sha256:aa \\\n    --hash sha256:bb\n"
        "idna \\\n# a comment ends the line\nattrs\n"
        "--no-index\n--pre\n--only-binary :all:\n--trusted-host=h\n-i https://a/simple --extra-index-url https://b\n"
        "--find-links https://c/links\n--require-hashes\n--prefer-binary\n--no-binary=numpy\n"
        "numpy --config-settings editable_mode=strict -C 'a=b c'",
    )
    assert texts(tmp_path, requirements="r.txt")["00-r.txt"].splitlines() == [
        "six==1.16.0 --hash=sha256:aa --hash=sha256:bb",
        "idna",
        "attrs",
        "--no-index",
        "--pre",
        "--only-binary :all:",
        "--trusted-host h",
        "--index-url https://a/simple --extra-index-url https://b",
        "--find-links https://c/links",
        "--require-hashes",
        "--prefer-binary",
        "--no-binary numpy",
        "numpy --config-settings=editable_mode=strict --config-settings='a=b c'",
    ]


PASSING = [
    "six",
    "six==1.4.*",
    "six===1.4",
    "six~=1.4; python_version < '3' and extra == 'x'",
    "Requests[socks,security]>=2",
    "pip @ https://h/pip.zip#sha1=da9234ee9982d4bbb3c72346a6de940a148ea686",
    "x @ git+https://h/x.git@v1#subdirectory=pkg/x",
    "x[a]@git+ssh://git@h/x.git",
    "git+https://h/x.git@main#egg=x&subdirectory=pkg",
    "https://h/x-1.0-py3-none-any.whl#sha256=aa",
    "https://h/x-1.0.zip ; python_version > '3'",
]


@pytest.mark.parametrize("line", PASSING)
def test_lines_that_pass_as_they_are(tmp_path: Path, line: str) -> None:
    put(tmp_path, "r.txt", f"{line}\n")
    assert texts(tmp_path, requirements="r.txt")["00-r.txt"] == f"{line}\n"
    assert texts(tmp_path, packages=[line])["imagesmith.txt"] == f"{line}\n"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("six=1.0", r"r\.txt:2: 'six=1\.0' is no requirement"),
        ("six >= ", r"r\.txt:2: 'six >=' is no requirement"),
        ("two words", r"r\.txt:2: 'two words' is no requirement"),
        ("six; python_versio > '3'", r"r\.txt:2: .*is no requirement"),
        ("--frobnicate", r"r\.txt:2: '--frobnicate' is no option of a requirements file"),
        ("-r", r"r\.txt:2: -r without its value"),
        ("six --pre", r"r\.txt:2: .*--pre stands on a line of its own"),
        ("six -r x.txt", r"r\.txt:2: .*-r stands on a line of its own"),
        ("six -e .", r"r\.txt:2: .*-e stands on a line of its own"),
        ("--hash=sha256:aa", r"r\.txt:2: .*--hash belongs behind a requirement"),
        ("-i 'unclosed", r"r\.txt:2: .*quotation"),
        ("-r gone.txt", r"r\.txt:2: gone\.txt cannot be read: No such file"),
        ("-c sub", r"r\.txt:2: sub cannot be read: Is a directory"),
        ("-r https://h/r.txt", r"r\.txt:2: https://h/r\.txt lies elsewhere"),
        ("./gone.whl", r"r\.txt:2: \./gone\.whl does not exist \(looked for .*gone\.whl\)"),
        ("gone-1.0.tar.gz", r"r\.txt:2: gone-1\.0\.tar\.gz does not exist"),
        ("./sub", r"r\.txt:2: \./sub holds neither pyproject\.toml nor setup\.py"),
        ("./r.txt", r"r\.txt:2: \./r\.txt is neither a wheel"),
        ("./x.whl", r"r\.txt:2: Invalid wheel filename"),
        ("-e ./x.whl", r"r\.txt:2: -e \./x\.whl is no folder"),
        ("-e ../outside", r"r\.txt:2: the project \.\./outside lies outside of .*root"),
        ("../outside", r"r\.txt:2: the project \.\./outside lies outside of .*root"),
        ("-f ./gone", r"r\.txt:2: \./gone does not exist"),
        ("-f ./r.txt", r"r\.txt:2: \./r\.txt: Not a directory"),
        ("-f ./sub", r"r\.txt:2: no distribution in \./sub"),
        ("-i file:///simple", r"r\.txt:2: 'file:///simple' is an index on this machine"),
        ("x @ file://host/x.whl", r"r\.txt:2: .*another machine \(host\)"),
    ],
)
def test_lines_that_are_refused_with_file_line_and_reason(tmp_path: Path, line: str, message: str) -> None:
    root = tmp_path / "root"
    put(root, "r.txt", f"attrs\n{line}\nidna\n")
    put(root, "sub/readme")
    put(root, "x.whl")
    project(tmp_path, "outside")
    with pytest.raises(SourceError, match=message) as raised:
        texts(root, requirements="r.txt")
    assert raised.value.hint


def test_packages_are_refused_with_their_place(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"packages\[1\]: 'numpy = 1' is no requirement"):
        texts(tmp_path, packages=["six", "numpy = 1"])


def test_circles_are_shown(tmp_path: Path) -> None:
    put(tmp_path, "a.txt", "-r sub/b.txt\n")
    put(tmp_path, "sub/b.txt", "six\n-r ../a.txt\n")
    with pytest.raises(SourceError, match=r"sub/b\.txt:2: a circle .*: a\.txt -> sub/b\.txt -> a\.txt"):
        texts(tmp_path, requirements="a.txt")
    put(tmp_path, "self.txt", "-c self.txt\n")
    with pytest.raises(SourceError, match=r"self\.txt:1: a circle .*: self\.txt -> self\.txt"):
        texts(tmp_path, requirements="self.txt")


def test_missing_requirements(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"requirements: gone\.txt cannot be read: No such file"):
        texts(tmp_path, requirements="gone.txt")


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("pdm.lock", "pdm export --prod --format requirements --output requirements.txt"),
        ("pyproject.toml", "uv pip compile pyproject.toml --output-file requirements.txt"),
    ],
)
def test_other_files_are_refused_with_the_command_that_exports_them(
    tmp_path: Path, name: str, command: str
) -> None:
    put(tmp_path, name, "")
    with pytest.raises(SourceError, match="not a file of requirements") as raised:
        texts(tmp_path, requirements=name)
    assert raised.value.hint is not None
    assert raised.value.hint.endswith(command)


@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (b"", "utf-8"),
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
        (codecs.BOM_UTF32_LE, "utf-32-le"),
    ],
)
def test_byte_order_marks_and_line_ends(tmp_path: Path, mark: bytes, encoding: str) -> None:
    (tmp_path / "r.txt").write_bytes(mark + "six\r\nidna # ☃\r\n".encode(encoding))
    assert texts(tmp_path, requirements="r.txt")["00-r.txt"] == "six\nidna\n"


def test_other_encodings_are_refused(tmp_path: Path) -> None:
    (tmp_path / "r.txt").write_bytes(b"six\n# caf\xe9\n")
    with pytest.raises(SourceError, match=r"(?s)r\.txt: byte 9 is not UTF-8.*save the file as UTF-8"):
        texts(tmp_path, requirements="r.txt")


def test_local_distributions_are_staged_under_their_own_name(tmp_path: Path) -> None:
    (tmp_path / "dist").mkdir()
    wheel = write_wheel(tmp_path / "dist", "local-one", files={"local_one.py": ""})
    put(tmp_path, "dist/other-1.0.tar.gz", "not really")
    put(
        tmp_path,
        "req/r.txt",
        f"./dist/other-1.0.tar.gz\nlocal-one[x] @ {wheel.as_uri()} ; python_version > '3'\n",
    )
    told = spec(tmp_path, requirements="req/r.txt", packages=[f"dist/{wheel.name}[x]"])
    staged = sources.stage(told, tmp_path / "staged")
    assert staged.texts == {
        "requirements/imagesmith.txt": f"-r 00-r.txt\n./{wheel.name}[x]\n",
        "requirements/00-r.txt": f'./other-1.0.tar.gz\n./{wheel.name}[x] ; python_version > "3"\n',
    }
    assert staged.binaries == (f"requirements/{wheel.name}", "requirements/other-1.0.tar.gz")
    assert (tmp_path / "staged/requirements" / wheel.name).read_bytes() == wheel.read_bytes()
    before = sources.digests(told)
    put(tmp_path, "dist/other-1.0.tar.gz", "changed")
    assert before != sources.digests(told)


def test_two_wheels_of_one_name(tmp_path: Path) -> None:
    for folder, text in (("a", ""), ("b", ""), ("c", "other = 1\n")):
        (tmp_path / folder).mkdir()
        write_wheel(tmp_path / folder, "local-one", files={"local_one.py": text})
    name = "local_one-1.0-py3-none-any.whl"
    shutil.copy(tmp_path / "a" / name, tmp_path / "b" / name)
    assert texts(tmp_path, packages=[f"a/{name}", f"b/{name}"])["imagesmith.txt"] == f"./{name}\n./{name}\n"
    with pytest.raises(SourceError, match=rf"requirements/{name}: .*/a/{name}.* and .*/c/{name}"):
        texts(tmp_path, packages=[f"a/{name}", f"c/{name}"])


def test_projects_are_staged_and_installed_as_regular_packages(tmp_path: Path) -> None:
    project(tmp_path, "libs/one")
    project(tmp_path, ".", "rootproject")
    put(tmp_path, "libs/one/__pycache__/x.pyc")
    put(tmp_path, ".imagesmithignore", "/notes\n/r.txt\n")
    put(tmp_path, "notes/x")
    put(tmp_path, "r.txt", "-e libs/one[extra]\n--editable=.\n-e git+https://h/x.git#egg=x\n./libs/one\n")
    staged = sources.listed(spec(tmp_path, requirements="r.txt"))
    assert staged.texts["requirements/00-r.txt"] == (
        "./01-one[extra]\n./02-root\ngit+https://h/x.git#egg=x\n./01-one\n"
    )
    assert staged.notes == (
        "r.txt:1: -e libs/one[extra] is installed as a regular package",
        "r.txt:2: -e . is installed as a regular package",
        "r.txt:3: -e git+https://h/x.git#egg=x is installed as a regular package",
    )
    assert staged.binaries == (
        "requirements/01-one/localproject.py",
        "requirements/01-one/pyproject.toml",
        "requirements/02-root/libs/one/localproject.py",
        "requirements/02-root/libs/one/pyproject.toml",
        "requirements/02-root/pyproject.toml",
        "requirements/02-root/rootproject.py",
    )


def test_an_ignored_project_is_told_as_such(tmp_path: Path) -> None:
    project(tmp_path, "libs/one")
    put(tmp_path, ".imagesmithignore", "libs\n")
    with pytest.raises(
        SourceError, match=r"packages\[0\]: \./libs/one is left out, for 'libs' is ignored by"
    ):
        texts(tmp_path, packages=["./libs/one"])


def test_find_links_folders_are_staged(tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    wheel = write_wheel(tmp_path / "wheels", "local-one", files={"local_one.py": ""})
    put(tmp_path, "wheels/readme")
    put(tmp_path, "r.txt", "--find-links ./wheels\n-f wheels\n--no-index\nlocal-one\n")
    staged = sources.listed(spec(tmp_path, requirements="r.txt"))
    expected = "--find-links ./01-wheels\n--find-links ./01-wheels\n--no-index\nlocal-one\n"
    assert staged.texts["requirements/00-r.txt"] == expected
    assert staged.binaries == (f"requirements/01-wheels/{wheel.name}",)


def test_what_is_staged_installs_from_its_own_folder(tmp_path: Path) -> None:
    """With a real installer and no index: paths, extras, markers, find-links, constraints and hashes."""
    for folder in ("dist", "wheels"):
        (tmp_path / folder).mkdir()
    write_wheel(tmp_path / "dist", "local-one", files={"local_one.py": "x = 1\n"})
    write_wheel(tmp_path / "wheels", "local-two", "1.0", files={"local_two.py": "x = 1\n"})
    write_wheel(tmp_path / "wheels", "local-two", "2.0", files={"local_two.py": "x = 2\n"})
    put(tmp_path, "req/main.txt", "--no-index\n-f ../wheels\n-r more.txt\n-c pins.txt\n")
    put(tmp_path, "req/more.txt", "./dist/local_one-1.0-py3-none-any.whl ; python_version > '3'\n")
    put(tmp_path, "req/pins.txt", "local-two<2\n")
    told = spec(tmp_path, requirements="req/main.txt", packages=["local-two", "absent; python_version < '3'"])
    sources.stage(told, tmp_path / "staged")
    for folder in ("dist", "wheels", "req"):
        shutil.rmtree(tmp_path / folder)
    uv = Path(sys.executable).with_name("uv")
    argv = [
        str(uv),
        "pip",
        "install",
        "--quiet",
        "--python",
        sys.executable,
        "--target",
        str(tmp_path / "site"),
    ]
    argv += ["-r", "imagesmith.txt"]
    done = subprocess.run(
        argv, cwd=tmp_path / "staged/requirements", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site/local_one.py").exists()
    assert (tmp_path / "site/local_two.py").read_text() == "x = 1\n"


CREDENTIALS = "https://user:hunter2@h/simple"


def test_requirements_with_credentials_are_secrets_and_do_not_enter_digests(tmp_path: Path) -> None:
    put(tmp_path, "r.txt", f"# {CREDENTIALS}\n--index-url {CREDENTIALS}\n-r plain.txt\n")
    put(tmp_path, "plain.txt", "six\n")
    told = spec(tmp_path, requirements="r.txt", packages=["x @ git+https://hunter2@h/x.git"])
    staged = sources.stage(told, tmp_path / "staged")
    assert set(staged.secrets) == {"requirements/00-r.txt", "requirements/imagesmith.txt"}
    assert staged.secrets["requirements/00-r.txt"].reveal().decode() == (
        f"--index-url {CREDENTIALS}\n-r 01-plain.txt\n"
    )
    assert staged.texts["requirements/imagesmith.txt"] == "-r 00-r.txt\nx @ git+https://h/x.git\n"
    written = [path.name for path in (tmp_path / "staged/requirements").iterdir()]
    assert written == ["01-plain.txt"]
    assert "hunter2" not in repr((staged, sources.collect(told), sources.digests(told)))
    before = sources.digests(told)
    put(tmp_path, "r.txt", "--index-url https://h/simple\n-r plain.txt\n")
    assert (
        sources.digests(spec(tmp_path, requirements="r.txt", packages=["x @ git+https://h/x.git"])) == before
    )


def test_credentials_are_not_in_messages(tmp_path: Path) -> None:
    put(tmp_path, "r.txt", f"six x {CREDENTIALS}\n")
    with pytest.raises(SourceError) as raised:
        texts(tmp_path, requirements="r.txt")
    assert "hunter2" not in str(raised.value)
    put(tmp_path, "r.txt", f"--frob={CREDENTIALS}\n")
    with pytest.raises(SourceError) as raised:
        texts(tmp_path, requirements="r.txt")
    assert "hunter2" not in str(raised.value)


def test_files_that_arguments_name_are_staged(tmp_path: Path) -> None:
    put(tmp_path, "constraints.txt", "six<2\n")
    (tmp_path / "wheels").mkdir()
    put(tmp_path, "wheels/six-1.0-py3-none-any.whl", "x")
    told = ["-c", "constraints.txt", f"--find-links={tmp_path}/wheels", "-f", "/in/the/image", "--pre"]
    asked = spec(tmp_path, packages=["six"], pip_extra_args=told)
    found = sources.listed(asked)
    assert found.texts["requirements/imagesmith.txt"] == (
        "six\n-c 00-constraints.txt\n--find-links ./01-wheels\n"
    )
    assert found.texts["requirements/00-constraints.txt"] == "six<2\n"
    assert found.binaries == ("requirements/01-wheels/six-1.0-py3-none-any.whl",)
    assert install_arguments(request_for(asked)) == ("--find-links", "/in/the/image", "--pre")
    before = sources.digests(asked)
    put(tmp_path, "constraints.txt", "six<3\n")
    assert sources.digests(asked) != before
    (tmp_path / "constraints.txt").unlink()
    with pytest.raises(SourceError, match=r"pip_extra_args: .*constraints\.txt"):
        sources.digests(asked)


def test_an_absolute_path_is_one_project_wherever_it_lies(tmp_path: Path) -> None:
    def told(folder: str) -> tuple[str, dict[str, str]]:
        put(tmp_path, f"{folder}/c.txt", "six<2\n")
        write_wheel(tmp_path / folder, "local-one", files={"local_one.py": ""})
        wheel = next((tmp_path / folder).glob("*.whl"))
        asked = ImageSpec(packages=[str(wheel)], pip_extra_args=["-c", f"{tmp_path}/{folder}/c.txt"])
        assert str(tmp_path) not in repr(describe(asked))
        return asked.id, dict(sources.digests(asked))

    assert told("here") == told("there")


def test_paths_of_the_image_tell_contents_apart() -> None:
    """The id knows them by their last component, and nothing is staged."""
    one, other = (ImageSpec(packages=["six"], pip_extra_args=[f"--cert=/in/{name}/ca.pem"]) for name in "ab")
    assert one.id == other.id
    assert sources.digests(one) != sources.digests(other)


def test_a_constraint_of_another_machine_stays_an_argument(tmp_path: Path) -> None:
    asked = spec(tmp_path, packages=["six"], pip_extra_args=["--constraint=https://h/constraints.txt"])
    assert install_arguments(request_for(asked)) == ("--constraint", "https://h/constraints.txt")
    assert sources.listed(asked).texts["requirements/imagesmith.txt"] == "six\n"


@pytest.mark.parametrize(
    ("fields", "runtime"),
    [
        ({}, True),
        ({"packages": ["six", "imagesmith-envd"]}, True),
        ({"packages": ["ImageSmith[yaml]>=0.1"]}, False),
        ({"packages": ["imagesmith @ git+https://h/x.git#subdirectory=core"]}, False),
        ({"packages": ["git+https://h/x.git#egg=imagesmith"]}, False),
        ({"packages": ["./dist/imagesmith-1.0-py3-none-any.whl"]}, False),
        ({"requirements": "r.txt"}, False),
    ],
)
def test_runtime_files_unless_packages_name_imagesmith(
    tmp_path: Path, fields: dict[str, object], *, runtime: bool
) -> None:
    (tmp_path / "dist").mkdir()
    write_wheel(tmp_path / "dist", "imagesmith", files={})
    put(tmp_path, "r.txt", "-r deeper.txt\n")
    put(tmp_path, "deeper.txt", "imagesmith==0.1\n")
    staged = sources.stage(spec(tmp_path, **fields), tmp_path / "staged")
    assert staged.has_runtime is runtime
    assert (tmp_path / "staged/runtime").exists() is runtime


def test_names_say_nothing_of_the_machine(tmp_path: Path) -> None:
    found = []
    for name in ("one", "another place"):
        root = tmp_path / name
        project(root, ".")
        put(root, "my reqs (1).txt", "-e .\n-r ünï.txt\n")
        put(root, "ünï.txt")
        found.append(sources.digests(spec(root, requirements="my reqs (1).txt")))
    assert found[0] == found[1]
    assert {name for name in found[0] if name.endswith(".txt")} == {
        "requirements/imagesmith.txt", "requirements/00-my_reqs_1_.txt", "requirements/02-_n_.txt",
        "requirements/01-root/my reqs (1).txt", "requirements/01-root/ünï.txt",
    }  # fmt: skip


LINES = st.sampled_from(["six", "idna>=2", "attrs ; python_version > '3'", "--pre", "-r b.txt", "-c c.txt"])
NOISE = st.sampled_from(["", "# note", "  ", "\t# x"])


@settings(max_examples=50, deadline=None)
@given(
    lines=st.lists(LINES, max_size=6),
    noise=st.lists(NOISE, min_size=7, max_size=7),
    end=st.sampled_from("\n\r"),
)
def test_comments_and_blank_lines_do_not_count(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], noise: list[str], end: str
) -> None:
    root = tmp_path_factory.mktemp("r")
    put(root, "b.txt")
    put(root, "c.txt", "six==1\n")
    (root / "r.txt").write_text("\n".join(lines))
    plain = sources.digests(spec(root, requirements="r.txt"))
    mixed = itertools.chain.from_iterable(itertools.zip_longest(noise, [f"  {line}  # x" for line in lines]))
    (root / "r.txt").write_bytes(f"\r{end}".join(line or "" for line in mixed).encode())
    assert sources.digests(spec(root, requirements="r.txt")) == plain
