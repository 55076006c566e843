"""One rich spec, built by each builder on the Docker engine: what a program sees in the running container."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from imagesmith import BuildResult, ImageSpec
from tests.live.conftest import Build, Engine
from tests.rig.state import Rig

pytestmark = pytest.mark.live

ENV = {
    "SPACES": "  two  words ",
    "QUOTES": 'it\'s "quoted" `id` $(id)',
    "NEWLINES": "one\ntwo\r\n\tthree\n",
    "DOLLAR": "$HOME ${HOME} $$ ${HOME:-x}",
    "BACKSLASH": "a\\b\\\\n\\",
    "EMOJI": "🚀 é \xa0",
    "EMPTY": "",
    "LANG": "de_DE.UTF-8",
    "PATH": "/workspace/bin:$PATH",
}
COMMANDS = (
    "printf '%s' \"$QUOTES\" > 'from command' && cat 'from command' | wc -c > count # a comment",
    "echo 'it'\"'\"'s' | tr s S > tr.txt",
    'env > "env of command"; echo $BUILD_ONLY > build_only.txt; pwd > pwd.txt; id -u > uid.txt',
)
BIN = "#!/bin/sh\necho tool\n"


@pytest.fixture(scope="module", params=["envd", "docker"])
def builder(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def make(make: Build, builder: str) -> Build:
    """Build by this builder, also where another one's image stands under the tag."""

    def run(spec: ImageSpec, **options: Any) -> BuildResult:
        return make(spec, builder=builder, **{"force": True, **options})

    return run


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rich")
    files = {
        "app.py": (
            "from image import image\nimport sys\n"
            "with image.imports():\n    import humanize\n"
            "print(image.is_container(), humanize.intword(1000000), sys.argv[1:])\n"
        ),
        "with space/file name.txt": "spaces\n",
        "with space/ünï'\"$x.txt": "odd\n",
        "-dash": "dash\n",
        "new\nline": "newline\n",
        "ignored.log": "no\n",
        "__pycache__/x.pyc": "no\n",
        ".imagesmithignore": "*.log\n",
    }
    for name, text in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    tool = folder / "bin" / "tool"
    tool.parent.mkdir()
    tool.write_text(BIN)
    tool.chmod(0o700)
    (folder / "link").symlink_to("app.py")
    (folder / "dangling").symlink_to("/nowhere/at all")
    (folder / "empty").mkdir()
    lines = "# a comment\n-r more/base.txt\nidna>=3  # inline\nsix==1.16.0\n"
    (folder / "requirements.txt").write_text(lines)
    (folder / "more").mkdir()
    (folder / "more" / "base.txt").write_text("iniconfig\n-c constraints.txt\n")
    (folder / "more" / "constraints.txt").write_text("iniconfig==2.0.0\n")
    (folder / "image.py").write_text(
        "from pathlib import Path\nfrom imagesmith import ImageSpec\n"
        f"ENV = {ENV!r}\nCOMMANDS = {COMMANDS!r}\n"
        "image = ImageSpec(name='rich', python_version='3.11', source_root=Path(__file__).parent, env=ENV,\n"
        "    packages=['humanize>=4.9', 'tomli>=2; python_version < \"3.11\"',\n"
        "        'idna[all]>=3 ; os_name==\\'posix\\''],\n"
        "    requirements=str(Path(__file__).parent / 'requirements.txt'), apt_packages=['hello'],\n"
        "    build_env={'BUILD_ONLY': 'b c'}, commands=COMMANDS, labels={'who': \"it's me\"},\n"
        "    entrypoint=['python', 'app.py', 'a b', '$HOME'])\n"
    )
    return folder


@pytest.fixture(scope="module")
def spec(project: Path) -> ImageSpec:
    from imagesmith import load

    return load(f"{project / 'image.py'}:image")


@pytest.fixture(scope="module")
def rich(make: Build, spec: ImageSpec) -> BuildResult:
    return make(spec)


@pytest.fixture(scope="module")
def inside(rich: BuildResult, engine: Engine) -> dict[str, Any]:
    source = (Path(__file__).parent / "probe.py").read_text()
    options = ("--interactive", "--entrypoint", "python")
    argv = ("run", "--rm", *options, rich.reference, "-", "--tree", "--packages")
    names = ("humanize", "idna", "six", "iniconfig", "tomli")
    report: dict[str, Any] = json.loads(engine(*argv, *names, stdin=source))
    return report


def test_the_container_knows_it_is_the_image(rich: BuildResult, engine: Engine, spec: ImageSpec) -> None:
    assert engine.run(rich.reference) == "True 1.0 million ['a b', '$HOME']\n"
    assert not spec.is_container()


def test_env_is_byte_for_byte_inside_and_in_the_configuration(
    rich: BuildResult, engine: Engine, inside: dict[str, Any]
) -> None:
    path = "/workspace/bin:/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
    want = {**ENV, "PATH": path}
    assert {key: inside["env"].get(key) for key in want} == want
    assert {key: engine.env(rich.reference).get(key) for key in want} == want
    assert "BUILD_ONLY" not in inside["env"]
    assert inside["env"]["PYTHONPATH"] == "/workspace:/opt/imagesmith"


def test_packages_are_importable_and_the_requested_ones(inside: dict[str, Any]) -> None:
    found = inside["packages"]
    assert found["six"] == "1.16.0"
    assert found["iniconfig"] == "2.0.0"
    assert found["humanize"] is not None
    assert found["idna"] is not None
    assert found["tomli"] is None, "its marker is false here"
    assert inside["python"] == [3, 11]


def test_packages_as_a_random_user_and_read_only(rich: BuildResult, engine: Engine) -> None:
    options = ("--user", "12345:0", "--read-only", "--entrypoint", "python")
    assert engine.run(rich.reference, "-c", "import humanize; print('ok')", options=options) == "ok\n"


def test_a_random_user_of_group_0_may_write_where_it_stands(rich: BuildResult, engine: Engine) -> None:
    options = ("--user", "12345:0", "--entrypoint", "sh")
    assert engine.run(rich.reference, "-c", "echo ok > new && cat new", options=options) == "ok\n"


def test_source_files_arrive_as_they_should(inside: dict[str, Any]) -> None:
    tree = inside["tree"]
    assert tree["bin/tool"] == ["0o755", 0, 0, BIN]
    assert tree["with space/file name.txt"] == ["0o644", 0, 0, "spaces\n"]
    assert tree["with space/ünï'\"$x.txt"][3] == "odd\n"
    assert tree["-dash"][3] == "dash\n"
    assert tree["new\nline"][3] == "newline\n"
    assert tree["link"] == "-> app.py"
    assert tree["dangling"] == "-> /nowhere/at all"
    assert tree["empty"] == "dir"
    assert inside["cwd"] == "/workspace"
    assert inside["workdir"] == ["0o775", 0, 0]
    for name in ("ignored.log", "__pycache__", ".imagesmithignore"):
        assert name not in tree


def test_commands_ran_in_order_with_the_right_environment(inside: dict[str, Any]) -> None:
    tree = inside["tree"]
    assert tree["from command"][3] == ENV["QUOTES"]
    assert tree["count"][3].strip() == str(len(ENV["QUOTES"]))
    assert tree["tr.txt"][3] == "it'S\n"
    assert tree["build_only.txt"][3] == "b c\n"
    assert tree["pwd.txt"][3] == "/workspace\n"
    assert tree["uid.txt"][3] == "0\n"
    assert "IMAGESMITH_ID" not in tree["env of command"][3]
    assert "PYTHONPATH=/workspace:/opt/imagesmith\n" in tree["env of command"][3]


def test_apt_package_is_there(rich: BuildResult, engine: Engine) -> None:
    assert engine.run(rich.reference, options=("--entrypoint", "hello")) == "Hello, world!\n"


def test_configuration_is_exactly_what_was_asked_for(
    rich: BuildResult, engine: Engine, spec: ImageSpec
) -> None:
    config = engine.config(rich.reference)
    assert config["Entrypoint"] == ["python", "app.py", "a b", "$HOME"]
    assert not config["Cmd"]
    assert config["WorkingDir"] == "/workspace"
    labels = config["Labels"]
    assert labels["who"] == "it's me"
    assert labels["io.imagesmith.id"] == spec.id == engine.env(rich.reference)["IMAGESMITH_ID"]
    assert labels["io.imagesmith.tag"] == rich.reference.rpartition(":")[2]
    assert labels["io.imagesmith.builder"] == rich.builder
    assert not [key for key in labels if key.startswith("ai.tensorchord")]
    # envd's build left nothing behind
    assert engine.run(rich.reference, "/home", options=("--entrypoint", "ls")) == ""


def test_values_stand_in_no_label_history_or_log(rich: BuildResult, engine: Engine) -> None:
    history = engine("history", "--no-trunc", rich.reference)
    assert rich.log is not None
    log = rich.log.read_text()
    labels = json.dumps(engine.config(rich.reference)["Labels"], ensure_ascii=False)
    for value in ("two  words", "three", "de_DE.UTF-8"):
        for place in (history, log, labels, rich.reference):
            assert value not in place


def test_the_same_again_is_reused_without_work(make: Build, spec: ImageSpec, rich: BuildResult) -> None:
    events: list[object] = []
    again = make(spec, force=False, report=events.append)
    assert again.reused
    assert (again.reference, again.digest, again.builder) == (rich.reference, rich.digest, rich.builder)
    assert len(events) == 1, events


def test_force_builds_again_from_the_engines_cache(make: Build, spec: ImageSpec, rich: BuildResult) -> None:
    from imagesmith import StepDone

    events: list[object] = []
    forced = make(spec, report=events.append)
    assert not forced.reused
    assert [event for event in events if isinstance(event, StepDone)], "no step was run"
    if not forced.builder.startswith("envd "):  # whose image states the time
        assert forced.digest == rich.digest
    assert len([event for event in events if isinstance(event, StepDone) and event.cached]) >= 7


def test_an_edit_installs_nothing_again_however_many_variables_the_base_has(
    make: Build, engine: Engine, rig: Rig, tmp_path: Path
) -> None:
    """envd puts what it knows of a base's variables into its cache keys in random order."""
    from imagesmith import StepDone, StepStarted

    base = f"{rig.registry}/imagesmith-test/many:1"
    variables = "".join(f"ENV V{number}=it\\'s{number}\n" for number in range(9))
    dockerfile = f"FROM {rig.images.python311}\n{variables}"
    engine("build", "-q", "-t", base, "-", stdin=dockerfile)
    engine("push", "-q", base)
    source = tmp_path / "src"
    source.mkdir()
    for number in range(4):
        (source / "file").write_text(f"{number}")
        events: list[object] = []
        result = make(
            ImageSpec(
                name="edited",
                base_image=base,
                packages=["six"],
                source_root=source,
                build_env={"CHECK": "1"},
            ),
            report=events.append,
        )
        steps = {event.id: event.name for event in events if isinstance(event, StepStarted)}
        ran = {steps[each.id] for each in events if isinstance(each, StepDone) and not each.cached}
        packages = {name for name in steps.values() if name.startswith("packages")}
        assert len(packages) == 1
        assert number == 0 or not packages & ran
    assert engine.run(result.reference, "sh", "-c", "echo $V8; cat file") == "it's8\n3"


def test_requirements_with_hashes(make: Build, engine: Engine, tmp_path: Path) -> None:
    file = tmp_path / "locked.txt"
    digest = "8abb2f1d86890a2dfb989f9a77cfcfd3e47c2a354b01111771326f8aa26e0254"
    file.write_text(f"six==1.16.0 \\\n    --hash=sha256:{digest}\n")
    result = make(ImageSpec(name="hashed", python_version="3.11", requirements=file))
    assert engine.run(result.reference, "python", "-c", "import six; print(six.__version__)") == "1.16.0\n"


def test_a_base_with_only_python3_gets_a_python(make: Build, engine: Engine, rig: Rig) -> None:
    spec = ImageSpec(name="onlypython3", base_image=rig.images.debian, packages=["six"])
    result = make(spec)
    code = "import six, sys; print(sys.prefix)"
    assert engine.run(result.reference, "python", "-c", code) == "/opt/venv\n"


def test_base_configuration_is_kept_where_the_spec_is_silent(make: Build, engine: Engine, rig: Rig) -> None:
    base = engine.config(rig.images.python311)
    result = make(ImageSpec(name="silent", python_version="3.11"))
    config = engine.config(result.reference)
    assert (config["Entrypoint"], config["Cmd"]) == (base["Entrypoint"], base["Cmd"])
    assert config["User"] == base["User"]


def test_empty_entrypoint_clears_both(make: Build, engine: Engine) -> None:
    config = engine.config(make(ImageSpec(name="cleared", python_version="3.11", entrypoint=[])).reference)
    assert not config["Entrypoint"]
    assert not config["Cmd"]


def test_base_that_is_a_spec_is_built_first(make: Build, engine: Engine) -> None:
    lower = ImageSpec(
        name="lower", python_version="3.11", packages=["six"], env={"LOW": "er"}, workdir="/low", user="1234"
    )
    upper = ImageSpec(name="upper", base_image=lower, packages=["idna"], env={"UP": "per"})
    result = make(upper)
    code = "import six, idna, os; print(os.environ['LOW'], os.environ['UP'], os.getuid(), os.getcwd())"
    assert engine.run(result.reference, "python", "-c", code) == "er per 1234 /workspace\n"
    assert engine.env(result.reference)["IMAGESMITH_ID"] == upper.id


def test_user_owns_the_work_directory(make: Build, engine: Engine) -> None:
    spec = ImageSpec(name="usered", python_version="3.13", user="nobody", workdir="/srv/app")
    result = make(spec)
    out = engine.run(result.reference, "sh", "-c", "id -un; stat -c '%U %g %a' .; touch x && echo ok")
    assert out == "nobody\nnobody 0 775\nok\n"
    assert engine.run(result.reference, "python", "-V").startswith("Python 3.13")
