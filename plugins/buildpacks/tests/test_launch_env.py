"""What a launcher would set, worked out; and the record it is worked out from, made by the real script."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from imagesmith_buildpacks.extra_buildpacks import FINISH, own
from imagesmith_buildpacks.launch_env import Layer, contribution, launched
from imagesmith_buildpacks.record import read

BASE = {"PATH": "/usr/bin:/bin", "A": "base"}
GROUP = b'[[group]]\nid = "two/b"\nversion = "1"\n[[group]]\nid = "one/a"\nversion = "1"\n'


def layer(name: str = "x", *folders: str, env: dict[str, str] | None = None, **launch: str) -> Layer:
    return Layer(f"/layers/{name}", frozenset(folders), env or {}, launch)


@pytest.mark.parametrize(
    ("files", "value"),
    [
        ({"A.override": "new"}, "new"),
        ({"A": "new"}, "new"),
        ({"A.default": "new"}, "base"),
        ({"A.append": "new"}, "basenew"),
        ({"A.append": "new", "A.delim": ":"}, "base:new"),
        ({"A.prepend": "new", "A.delim": ":"}, "new:base"),
        ({"B.prepend": "new", "B.delim": ":"}, "base"),
        ({"A.unknown": "new"}, "base"),
    ],
)
def test_how_a_file_acts_is_in_its_name(files: dict[str, str], value: str) -> None:
    env = launched(BASE, [[layer(env=files)]])
    assert env["A"] == value
    if "B.prepend" in files:
        assert env["B"] == "new"


def test_later_buildpacks_and_layers_stand_further_in_front() -> None:
    env = launched(BASE, [[layer("a/2", "bin"), layer("a/1", "bin", "lib")], [layer("b/1", "bin")]])
    assert env["PATH"] == "/layers/b/1/bin:/layers/a/2/bin:/layers/a/1/bin:/usr/bin:/bin"
    assert env["LD_LIBRARY_PATH"] == "/layers/a/1/lib"


def test_env_launch_comes_after_env() -> None:
    assert launched(BASE, [[Layer("/l", env={"A.override": "1"}, env_launch={"A.append": "2"})]])["A"] == "12"


def test_a_contribution_is_what_changed() -> None:
    found = contribution(
        BASE, "/usr/bin:/bin", [[layer("a", "bin", env={"V.override": "/x"})]], {"CNB_APP_DIR": "/w"}
    )
    assert found.path == ("/layers/a/bin",)
    assert found.env == {"V": "/x", "CNB_APP_DIR": "/w"}
    nothing = contribution(BASE, "/usr/bin:/bin", [], {})
    assert (nothing.path, nothing.env) == ((), {})


def test_a_base_without_path() -> None:
    found = contribution({}, "/sbin:/bin", [[layer("a", "bin")]], {})
    assert found.path == ("/layers/a/bin",)


def test_a_path_that_a_buildpack_replaced() -> None:
    found = contribution(BASE, "/usr/bin:/bin", [[layer(env={"PATH.override": "/own:/bin"})]], {})
    assert found.path == ("/own",)


def fake_layers(root: Path) -> Path:
    """What two buildpacks leave: a launch layer with a python, and one for the build alone."""
    venv = root / "one_a" / "venv"
    for part in ("bin", "lib", "env", "env.launch/web"):
        (venv / part).mkdir(parents=True)
    (venv / "bin" / "python").symlink_to(sys.executable)
    (venv / "env" / "VIRTUAL_ENV.override").write_text("/layers/one_a/venv")
    (venv / "env.launch" / "B.default").write_text("two\nlines\n")
    (venv / "env.launch" / "web" / "C").write_text("of a process")
    (root / "one_a" / "venv.toml").write_text("[types]\nlaunch = true\n")
    (root / "one_a" / "launch.toml").write_text("")
    native = root / "two_b" / "native"
    (native / "lib").mkdir(parents=True)
    (native / "lib" / "libx.so.1").write_text("")
    (root / "two_b" / "native.toml").write_text("[types]\nlaunch = true\n")
    (root / "two_b" / "tools" / "bin").mkdir(parents=True)
    (root / "two_b" / "tools.toml").write_text("[types]\nbuild = true\n")
    return root


def finish(layers: Path, app: Path) -> subprocess.CompletedProcess[str]:
    mine = layers / "imagesmith_finish"
    mine.mkdir(exist_ok=True)
    app.mkdir(exist_ok=True)
    script = own(FINISH).folder / "bin" / "build"
    return subprocess.run(
        ["sh", str(script), str(mine), "/platform", "/plan"],
        cwd=app,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )


def recorded(layers: Path) -> dict[str, bytes]:
    """As an archive of the folder gives it."""
    top = layers / "imagesmith_finish" / "record"
    return {
        f"record/{path.relative_to(top)}" + ("/" if path.is_dir() else ""): b""
        if path.is_dir()
        else path.read_bytes()
        for path in top.rglob("*")
    }


def test_the_last_buildpack_records_layers_and_empties_the_application(tmp_path: Path) -> None:
    layers, app = fake_layers(tmp_path / "layers"), tmp_path / "app"
    (app / "folder").mkdir(parents=True)
    (app / ".hidden").write_text("")
    done = finish(layers, app)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not list(app.iterdir())
    found = read(recorded(layers), GROUP, "/layers")
    native, venv = found.buildpacks[0][0], found.buildpacks[1][0]
    assert (native.path, native.folders) == ("/layers/two_b/native", {"lib"})
    assert (venv.path, venv.folders) == ("/layers/one_a/venv", {"bin"})
    assert venv.env == {"VIRTUAL_ENV.override": "/layers/one_a/venv"}
    assert venv.env_launch == {"B.default": "two\nlines\n"}
    version = ".".join(map(str, sys.version_info[:3]))
    python = found.python(("/elsewhere", "/layers/one_a/venv/bin"))
    assert python is not None
    assert (python.version, python.program) == (version, os.path.realpath(sys.executable))
    assert found.python(("/elsewhere",)) is None


def test_what_is_not_there_any_more_keeps_its_record_or_is_told(tmp_path: Path) -> None:
    import shutil

    layers, app = fake_layers(tmp_path / "layers"), tmp_path / "app"
    assert finish(layers, app).returncode == 0
    shutil.rmtree(layers / "one_a" / "venv")  # taken over from an earlier image
    (layers / "two_b" / "native.toml").unlink()  # no more part of it
    assert finish(layers, app).returncode == 0
    (venv,) = (each for group in read(recorded(layers), GROUP, "/layers").buildpacks for each in group)
    assert venv.path == "/layers/one_a/venv"
    (layers / "one_a" / "venv.toml").write_text("[types]\nlaunch = true\n[metadata]\nof = 'elsewhere'\n")
    done = finish(layers, app)
    assert done.returncode == 7, "a record of another content was taken"
    shutil.rmtree(layers / "imagesmith_finish")
    done = finish(layers, app)
    assert done.returncode == 7
    assert done.stdout.startswith("imagesmith: nothing is known of the layer one_a/venv")


def test_a_group_that_cannot_be_read() -> None:
    with pytest.raises(ValueError, match="Invalid"):
        read({}, b"[", "/layers")
