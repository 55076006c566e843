"""The oci builder on the rig: one digest whoever builds, odd wheels, other platforms, no privilege."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from plugins.oci.tests.ocisamples import wheel

from imagesmith import BuilderNotReady, BuildFailed, BuildResult, ImageSpec
from tests.live.conftest import Build, Engine
from tests.rig import user
from tests.rig.state import Rig

pytestmark = pytest.mark.live

ROOT = Path(__file__).parents[2]
OWN = ("core", "plugins/oci")
LONG = "long_" * 30
SOURCE = """
from imagesmith import ImageSpec

image = ImageSpec(name="same", python_version="3.11", packages=["markupsafe==3.0.2", "humanize==4.9.0"],
                  source_root=".", registry={registry!r}, builder_options={options!r},
                  entrypoint=["python", "app.py"])
"""
APP = """
import sys
import humanize, markupsafe._speedups
from image import image
print(image.is_container(), humanize.intword(10**6), sys.prefix)
"""


@pytest.fixture(scope="session")
def oci(make: Build) -> Build:
    def run(spec: ImageSpec, **options: object) -> object:
        return make(spec, builder="oci", **options)

    return run  # type: ignore[return-value]


# who builds


@dataclass(frozen=True)
class Installed:
    """imagesmith with the oci builder, for one python; a folder that every user may read."""

    python: str
    libraries: Path

    def argv(self, *words: str) -> list[str]:
        return [self.python, "-c", "from imagesmith.cli import main; main()", *words]


def install(python: str, folder: Path, more: tuple[str, ...] = ()) -> Installed:
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert uv is not None
    argv = [uv, "pip", "install", "--quiet", "--no-sources", "--target", str(folder), "--python", python]
    subprocess.run([*argv, *(str(ROOT / each) for each in OWN), *more], check=True)
    return Installed(python, folder)


@pytest.fixture(scope="module")
def public() -> Iterator[Path]:
    """A folder that every user may enter; pytest's own are private, and made so by each run again."""
    folder = Path(tempfile.mkdtemp(prefix="imagesmith-live-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def system(public: Path) -> Installed:
    if not Path("/usr/bin/python3.11").exists():
        pytest.skip("there is no /usr/bin/python3.11, which an ordinary user could run")
    return install("/usr/bin/python3.11", public / "system")


def project(folder: Path, rig: Rig, *, umask: int, age: int, **options: str) -> Path:
    """The same files, as somebody else would have them."""
    folder.mkdir(parents=True)
    registry = f"{rig.registry}/oci-same"
    for name, text in {
        "image.py": SOURCE.format(registry=registry, options=options),
        "app.py": APP,
        "deep/er/tool": "#!/bin/sh\n",
        "ünï cödé": "x",
    }.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod((0o777 if name.endswith("tool") else 0o666) & ~umask)
        os.utime(file, (age, age))
    (folder / "link").symlink_to("app.py")
    for each in (folder, folder / "deep", folder / "deep" / "er"):
        each.chmod(0o777 & ~umask)
    return folder


def built(argv: list[str], cwd: Path, env: Mapping[str, str], *before: str) -> str:
    """The digest."""
    words = ["build", "--json", "--force", "--builder", "oci", "image.py"]
    done = subprocess.run(
        [*before, *argv, *words], cwd=cwd, env=dict(env), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    digest: str = json.loads(done.stdout)["digest"]
    return digest


def as_user(who: user.User, group: int | None = None) -> tuple[str, ...]:
    """How to start a program as that user, with one more group."""
    groups = ("--clear-groups",) if group is None else ("--groups", str(group))
    return ("setpriv", "--reuid", str(who.uid), "--regid", str(who.gid), *groups)


def environment_of(home: Path, rig: Rig, libraries: Path, **more: str) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if key.startswith(("PIP_", "UV_", "SSL_"))}
    return {
        **kept,
        "HOME": str(home),
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(libraries),
        "IMAGESMITH_BASE_IMAGE": f"{rig.registry}/library/python:{{python_version}}",
        "DOCKER_HOST": "unix:///nonexistent/docker.sock",
        **more,
    }


@pytest.mark.parametrize("compression", ["zstd", "gzip"])
def test_one_digest_whoever_builds_it(
    compression: str, system: Installed, public: Path, rig: Rig, engine: Engine, tmp_path: Path
) -> None:
    """Two users, two umasks, two folders, two ages, two time zones, two Pythons, caches cold and warm."""
    here = public / compression
    first = project(here / "one" / "project", rig, umask=0o022, age=1_700_000_000, compression=compression)
    own = environment_of(here / "one", rig, system.libraries)
    digests = {"root": built(system.argv(), first, own), "root, warm": built(system.argv(), first, own)}

    other = here / "two"
    second = project(
        other / "some where" / "else", rig, umask=0o077, age=1_000_000_000, compression=compression
    )
    who = user.ordinary()
    for each in (other, *other.rglob("*")):
        os.chown(each, who.uid, who.gid, follow_symlinks=False)
    theirs = environment_of(other, rig, system.libraries, TZ="America/Los_Angeles", LANG="C")
    drop = (*as_user(who), "sh", "-c", 'umask 077; exec "$@"', "sh")
    digests["an ordinary user"] = built(system.argv(), second, theirs, *drop)

    if newer := _newer_python():
        later = install(newer, public / f"newer-{compression}")
        third = environment_of(here / "three", rig, later.libraries)
        digests["another Python"] = built(later.argv(), first, third)
    else:
        print("no Python 3.12 or newer is here: not compared")
    assert len(set(digests.values())) == 1, digests
    shown = engine.run(f"{rig.registry}/oci-same/same@{digests['root']}")
    assert shown == "True 1.0 million /opt/venv\n"


def _newer_python() -> str | None:
    for name in ("3.13", "3.14", "3.12"):
        uv = shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
        found = sorted(Path("~/.pyenv/versions").expanduser().glob(f"{name}.*/bin/python"))
        if found:
            return str(found[-1])
        done = subprocess.run([str(uv), "python", "find", name], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return done.stdout.strip()
    return None


CATALOGUE = """
import contextlib, json, os
from dataclasses import replace
from imagesmith import Feature
from imagesmith.conformance import check_builder
from imagesmith_oci.builder import FEATURES, OciBuilder

class WithoutEngine(OciBuilder):
    features = {key: value for key, value in FEATURES.items() if key != Feature.LOCAL_ENGINE}

    def __init__(self, environment):
        nowhere = {**environment.env, "DOCKER_HOST": "unix:///nonexistent/docker.sock"}
        super().__init__(replace(environment, env=nowhere))

told = []
with contextlib.suppress(PermissionError):  # unpacked layers belong to ids that the user was lent
    check_builder(WithoutEngine, watch=told.append)
print(json.dumps([os.getuid(), [[each.status, each.check.id, each.message] for each in told]]))
"""


def test_the_whole_catalogue_as_an_ordinary_user(public: Path, rig: Rig) -> None:
    """Built with no engine in reach, run by the rig's."""
    if not rig.docker_host.startswith("unix://") or not Path("/usr/bin/python3.11").exists():
        pytest.skip("an ordinary user cannot reach the rig's engine, or has no python here")
    who, socket = user.ordinary(), Path(rig.docker_host.removeprefix("unix://"))
    libraries = install("/usr/bin/python3.11", public / "catalogue", ("docker>=7", "hypothesis", "pytest"))
    home = public / "ordinary"
    (home / "tmp").mkdir(parents=True)
    for each in (home, home / "tmp"):
        os.chown(each, who.uid, who.gid)
    env = environment_of(home, rig, libraries.libraries, TMPDIR=str(home / "tmp"))
    env |= {
        "DOCKER_HOST": rig.docker_host,
        "IMAGESMITH_CONFORMANCE_REGISTRY": f"{rig.registry}/conformance",
        "IMAGESMITH_CONFORMANCE_MULTI_BASE": rig.images.python311_multi or "",
    }
    start = as_user(who, socket.stat().st_gid)
    argv = [*start, libraries.python, "-c", CATALOGUE]
    done = subprocess.run(argv, cwd=home, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    uid, told = json.loads(done.stdout.splitlines()[-1])
    assert uid == who.uid
    failed = {name: message for status, name, message in told if status not in {"passed", "skipped"}}
    assert set(failed) == {"apt.before-packages", "secrets.mounted", "packages.before-files"}, failed
    assert "uid" in failed["packages.before-files"], "source is made a wheel by whoever builds"
    assert sum(status == "passed" for status, *_ in told) > 80


def test_it_builds_in_a_container_without_any_privilege(
    system: Installed, public: Path, rig: Rig, engine: Engine
) -> None:
    """uid 1000, no capability, a read-only root, no new privileges; then the image runs."""
    folder = public / "contained"
    work = project(folder / "project", rig, umask=0o022, age=1_600_000_000)
    options = [
        "--network", "host", "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges",
        "--user", "1000:1000", "--tmpfs", "/tmp:mode=1777", "--workdir", "/project", "--env", "HOME=/tmp",
        "--volume", f"{work}:/project:ro", "--volume", f"{system.libraries}:/libraries:ro",
        "--env", "PYTHONPATH=/libraries",
        "--env", f"IMAGESMITH_BASE_IMAGE={rig.registry}/library/python:{{python_version}}",
    ]  # fmt: skip
    told = engine(
        "run", "--rm", *options, rig.images.python311, "/usr/bin/python3.11", "-c",
        "from imagesmith.cli import main; main()",
        "build", "--json", "--force", "--builder", "oci", "image.py",
    )  # fmt: skip
    inside = json.loads(told)["digest"]
    outside = built(system.argv(), work, environment_of(folder / "home", rig, system.libraries))
    assert inside == outside
    assert engine.run(f"{rig.registry}/oci-same/same@{inside}").startswith("True 1.0 million")


# what is built


def test_an_image_for_arm64_is_built_without_emulation_and_runs(oci: Build, rig: Rig, engine: Engine) -> None:
    if rig.images.python311_multi is None:
        pytest.skip("the rig has no base for two platforms: bring it up with --with arm64")
    spec = ImageSpec(
        name="both",
        registry=f"{rig.registry}/oci",
        base_image=rig.images.python311_multi,
        platform=["linux/amd64", "linux/arm64"],
        packages=["markupsafe==3.0.2"],
        entrypoint=[
            "python", "-c",
            "import platform, markupsafe._speedups as s; print(platform.machine(), s.__file__)",
        ],
    )  # fmt: skip
    result = oci(spec, force=True)
    for platform, machine in (("linux/amd64", "x86_64"), ("linux/arm64", "aarch64")):
        out = engine.run(result.reference, options=("--platform", platform, "--pull", "always"))
        assert out.startswith(f"{machine} /opt/venv/lib/python3.11/site-packages/markupsafe/_speedups")
        assert f"{machine}-linux-gnu" in out


def test_odd_wheels_are_what_an_installer_makes_of_them(
    oci: Build, rig: Rig, engine: Engine, tmp_path: Path
) -> None:
    odd = wheel(
        "odd",
        {
            "odd/__init__.py": (
                "import importlib.resources as r\nTEXT = (r.files(__name__) / 'dätä.txt').read_text()\n"
            ),
            "odd/dätä.txt": "ünï",
            f"odd/{LONG}/{LONG}.py": "X = 1\n",
            "odd-1.0.data/data/share/odd/manual.txt": "read me\n",
            "odd-1.0.data/scripts/odd-args": (
                "#!python -Es\nimport sys; print(sys.flags.ignore_environment)\n"
            ),
            "odd-1.0.data/scripts/odd-shell": "#!/bin/sh\necho shell\n",
            "odd-1.0.dist-info/entry_points.txt": "[console_scripts]\nodd-entry = odd.cli:Main.run\n",
            "odd/cli.py": "class Main:\n    @staticmethod\n    def run():\n        print('entry')\n",
            "odd.pth": "import sys; sys.odd_was_here = True\n",
            "names/one.py": "N = 1\n",
            "both.py": "WHO = 'odd'\n",
        },
    )
    other = wheel("other", {"names/two.py": "N = 2\n", "both.py": "WHO = 'other'\n"})
    for name, data in (("odd", odd), ("other", other)):
        (tmp_path / f"{name}-1.0-py3-none-any.whl").write_bytes(data)
    spec = ImageSpec(
        name="odd",
        python_version="3.11",
        registry=f"{rig.registry}/oci",
        packages=["./odd-1.0-py3-none-any.whl", "./other-1.0-py3-none-any.whl"],
        pip_extra_args=["--no-index"],
    ).replace(root=tmp_path)
    program = (
        "import sys, odd, both, names.one, names.two, importlib.metadata as m, importlib;"
        f"deep = importlib.import_module('odd.{LONG}.{LONG}');"
        "missing = [f for f in m.files('odd') if not f.locate().exists()];"
        "print(odd.TEXT, deep.X, both.WHO, names.two.N, sys.odd_was_here, missing, m.version('other'))"
    )
    image = oci(spec, force=True).reference
    assert engine.run(image, "python", "-c", program) == "ünï 1 other 2 True [] 1.0\n"
    shell = "odd-args && odd-shell && odd-entry && cd /opt/venv && cat share/odd/manual.txt"
    shell += " && head -1 bin/odd-args"
    out = engine.run(image, "sh", "-c", shell)
    assert out == "1\nshell\nentry\nread me\n#!/opt/venv/bin/python -Es\n"


def test_byte_code_is_used_and_the_same_twice(oci: Build, rig: Rig, engine: Engine, tmp_path: Path) -> None:
    spec = ImageSpec(
        name="compiled",
        python_version="3.11",
        registry=f"{rig.registry}/oci",
        packages=["humanize==4.9.0", "markupsafe==3.0.2"],
        builder_options={"byte_code": True},
    )
    if sys.version_info[:2] != (3, 11) and shutil.which("python3.11") is None:
        with pytest.raises(BuilderNotReady, match=r"python 3\.11"):
            oci(spec, force=True)
        return
    one = oci(spec, force=True)
    two = oci(spec, force=True, variables={"IMAGESMITH_CACHE_DIR": str(tmp_path), "PYTHONHASHSEED": "7"})
    assert one.digest == two.digest
    site = "/opt/venv/lib/python3.11/site-packages"

    def run(result: BuildResult, command: str) -> str:
        return engine.run(result.reference, "sh", "-c", command, options=("--network", "none"))

    out = run(one, "python -v -c 'import humanize, markupsafe' 2>&1")
    for module in ("humanize/__init__.py", "humanize/number.py", "markupsafe/__init__.py"):
        folder, name = module.split("/")
        compiled = f"{site}/{folder}/__pycache__/{name.removesuffix('.py')}.cpython-311.pyc"
        assert f"# {compiled} matches {site}/{module}" in out
    assert "wrote '/opt/venv" not in out, "something was compiled in the container"
    plain = oci(spec.replace(builder_options={}), force=True)
    assert run(plain, "find /opt/venv -name '*.pyc'") == ""
    edited = oci(spec.with_commands(f"echo 'NAME = 7' >> {site}/humanize/number.py"), force=True)
    out = run(edited, "python -c 'import humanize.number; print(humanize.number.NAME)'")
    assert out == "7\n", "byte code hides an edit"


def test_a_wheel_of_forty_thousand_files(oci: Build, rig: Rig, engine: Engine, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number in range(40_000):
            archive.writestr(f"many/p{number % 200}/m{number}.py", f"N = {number}\n")
        info = "many-1.0.dist-info"
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: many\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    (tmp_path / "many-1.0-py3-none-any.whl").write_bytes(buffer.getvalue())
    spec = ImageSpec(
        name="many",
        python_version="3.11",
        registry=f"{rig.registry}/oci",
        packages=["./many-1.0-py3-none-any.whl"],
        pip_extra_args=["--no-index"],
    ).replace(root=tmp_path)
    program = (
        "import pathlib, many.p199.m39999 as m; root = pathlib.Path(m.__file__).parents[1];"
        "print(m.N, sum(1 for _ in root.rglob('*.py')))"
    )
    image = oci(spec, force=True).reference
    assert engine.run(image, "python", "-B", "-c", program) == "39999 40000\n"


def test_a_base_that_has_python3_only_and_one_that_has_none(oci: Build, rig: Rig, engine: Engine) -> None:
    told = {"registry": f"{rig.registry}/oci", "packages": ["humanize==4.9.0"]}
    spec = ImageSpec(name="debian", base_image=rig.images.debian, python_version="3.11", **told)
    image = oci(spec, force=True).reference
    assert engine.run(image, "python", "-c", "import humanize, sys; print(sys.prefix)") == "/opt/venv\n"
    bare = ImageSpec(name="bare", base_image=rig.images.bare, **told)
    with pytest.raises(Exception, match="has no python3"):
        oci(bare, force=True)
    wrong = spec.replace(name="wrong", python_version="3.12")
    with pytest.raises(Exception, match=r"carries python 3\.11\.2, the spec asks for 3\.12"):
        oci(wrong, force=True)


def test_source_that_is_pure_is_made_a_wheel_and_compiled_source_is_refused(
    oci: Build, rig: Rig, engine: Engine, tmp_path: Path
) -> None:
    told = {"registry": f"{rig.registry}/oci", "python_version": "3.11"}
    with pytest.raises(BuildFailed, match="docopt") as caught:
        oci(ImageSpec(name="source", packages=["docopt==0.6.2"], **told), force=True)
    assert "sdists" in str(caught.value.hint)
    spec = ImageSpec(
        name="source", packages=["docopt==0.6.2"], builder_options={"sdists": ["docopt"]}, **told
    )
    image = oci(spec, force=True).reference
    assert engine.run(image, "python", "-c", "import docopt; print(docopt.__version__)") == "0.6.2\n"
    folder = tmp_path / "compiled"
    folder.mkdir()
    (folder / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["setuptools"]\n[project]\nname="fast"\nversion="1"\n'
    )
    (folder / "setup.py").write_text(
        "from setuptools import setup, Extension\n"
        "setup(ext_modules=[Extension('fast', ['fast.c'], optional=False)], py_modules=[])\n"
    )
    (folder / "fast.c").write_text(
        '#include <Python.h>\nstatic struct PyModuleDef d = {PyModuleDef_HEAD_INIT, "fast"};\n'
        "PyMODINIT_FUNC PyInit_fast(void) { return PyModule_Create(&d); }\n"
    )
    with pytest.raises(BuildFailed, match="fast") as refused:
        oci(ImageSpec(name="compiled", packages=["./compiled"], **told).replace(root=tmp_path), force=True)
    assert "another builder" in str(refused.value.hint) or "wheel of fast" in str(refused.value.hint)


def test_apt_and_commands_without_an_engine(oci: Build, rig: Rig, engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("print('app')\n")
    spec = ImageSpec(
        name="steps",
        registry=f"{rig.registry}/oci",
        python_version="3.11",
        apt_packages=["hello"],
        packages=["humanize==4.9.0"],
        source_root=tmp_path,
        commands=[
            "python -c 'import humanize; print(humanize.__version__)' > version.txt",
            "useradd -m someone",
        ],
        env={"GREETING": "it's"},
    )
    try:
        image = oci(spec, force=True, variables={"DOCKER_HOST": "unix:///nonexistent.sock"}).reference
    except BuilderNotReady as error:
        pytest.skip(f"this machine lets no commands be run: {error}")
    out = engine.run(image, "sh", "-c", "hello; cat version.txt; id -un someone; ls -A /var/lib/apt/lists")
    assert out.splitlines()[:3] == ["Hello, world!", "4.9.0", "someone"]
