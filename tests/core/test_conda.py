"""Conda environments: decided purely, solved and laid out from a channel made here."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("rattler", reason="the extra 'conda' is not installed")

from imagesmith import (
    BaseImage,
    BaseImageError,
    ChannelError,
    CondaError,
    CondaPackage,
    CondaTree,
    CondaUnsolvable,
    ImageSpec,
    Message,
    SpecError,
    StepDone,
    StepLog,
    StepStarted,
    conda_check,
    silent,
)
from imagesmith import conda_channels as channels
from imagesmith.base import python_source
from imagesmith.conda import Lock, asked, describe, lay_out, placed, solve
from imagesmith.settings import Settings, load_settings
from tests.live import channel
from tests.live.channel import PLACEHOLDER, Package

PUBLIC = "https://conda.anaconda.org"


def base(*env: str) -> BaseImage:
    return BaseImage("docker.io/library/x:1", config={"config": {"Env": list(env)}})


SILENT = base("PATH=/bin")

# which python


@pytest.mark.parametrize(
    ("fields", "env", "want"),
    [
        ({}, ["PYTHON_VERSION=3.12.1"], "base"),
        ({"python_version": "3.12"}, ["PYTHON_VERSION=3.12.1"], "base"),
        ({"python_version": "3.11"}, ["PYTHON_VERSION=3.12.1"], "conda"),
        ({"python_version": "3.12.4"}, ["PYTHON_VERSION=3.12.1"], "conda"),
        ({"conda_packages": ["x"]}, ["PYTHON_VERSION=3.12.1"], "conda"),
        ({"python_version": "3.11"}, [], "venv"),
        ({"conda_packages": ["x"]}, [], "conda"),
        ({}, [], "venv"),
    ],
)
def test_which_python(fields: dict[str, Any], env: list[str], want: str) -> None:
    assert python_source(ImageSpec(**fields), base(*env)) == want


@pytest.mark.parametrize(
    ("fields", "env", "want"),
    [
        ({"python_version": "3.11"}, [], ["python 3.11.*"]),
        ({"python_version": "3.11.7"}, [], ["python ==3.11.7"]),
        ({"conda_packages": ["x"]}, ["PYTHON_VERSION=3.9.1"], ["x", "python ==3.9.1"]),
        ({"conda_packages": ["x=1.0=py_0"]}, [], ["x=1.0=py_0", "python 3.12.*"]),
        ({"conda_packages": ["python=3.9"]}, ["PYTHON_VERSION=3.12.1"], ["python=3.9"]),
        ({"conda_packages": ["python"]}, [], ["python"]),
        ({"conda_packages": ["python=3.9"], "python_version": "3.9"}, [], ["python=3.9", "python 3.9.*"]),
        ({"conda_packages": ["python-dateutil"]}, [], ["python-dateutil", "python 3.12.*"]),
        ({"conda_packages": ["x"], "packages": ["six"]}, [], ["x", "python 3.12.*", "pip"]),
        ({"conda_packages": ["conda-forge::x>1"]}, [], [f"{PUBLIC}/conda-forge::x>1", "python 3.12.*"]),
    ],
)
def test_what_is_asked_for(fields: dict[str, Any], env: list[str], want: list[str]) -> None:
    assert list(describe(ImageSpec(**fields), base(*env), Settings()).specs) == want


# channels


@pytest.mark.parametrize(
    ("names", "want"),
    [
        ([], [f"{PUBLIC}/conda-forge"]),
        (["bioconda"], [f"{PUBLIC}/bioconda", f"{PUBLIC}/conda-forge"]),
        (["conda-forge", "nvidia/label/x"], [f"{PUBLIC}/conda-forge", f"{PUBLIC}/nvidia/label/x"]),
        (["bioconda", "nodefaults"], [f"{PUBLIC}/bioconda"]),
        (
            ["defaults", "nodefaults"],
            ["https://repo.anaconda.com/pkgs/main", "https://repo.anaconda.com/pkgs/r"],
        ),
        (["https://u:p@h.example/c/", "nodefaults"], ["https://h.example/c"]),
        (["https://h.example/t/TOKEN/c", "nodefaults"], ["https://h.example/c"]),
        (["./here", "/a b", "nodefaults"], ["file:///root/of/here", "file:///a%20b"]),
        (["file:///x", "file:///x/", "nodefaults"], ["file:///x"]),
    ],
)
def test_channels_in_their_order(names: list[str], want: list[str]) -> None:
    assert [each.url for each in channels.channels(names, "/root/of", None)] == want


def test_a_mirror_of_conda_forge_keeps_its_name_in_the_image() -> None:
    found = channels.channel("conda-forge", "/", "https://u:p@mirror.example/forge")
    assert (found.url, found.shown) == ("https://mirror.example/forge", f"{PUBLIC}/conda-forge")
    assert found.login == ("u", "p")


word = st.text(st.characters(min_codepoint=33, max_codepoint=0x17F, exclude_categories=("Cs",)), min_size=8)


@given(word, word)
@settings(max_examples=60)
def test_credentials_are_in_nothing_that_is_shown(user: str, password: str) -> None:
    from urllib.parse import quote

    for url in (
        f"https://{quote(user, safe='')}:{quote(password, safe='')}@h.example/c",
        f"https://h.example/t/{quote(password, safe='')}/c",
    ):
        found = channels.channel(url, "/", None)
        assert (found.url, found.shown) == ("https://h.example/c", "https://h.example/c")
        assert quote(password, safe="") not in repr(found)
        assert found.login == (user, password) or found.secret_url == url


def test_no_channel_at_all() -> None:
    with pytest.raises(SpecError, match="no channel is left"):
        asked(ImageSpec(conda_packages=["x"], conda_channels=["nodefaults"]), SILENT, Settings())


# solving and laying out

HELLO = b"#!" + PLACEHOLDER.encode() + b"/bin/sh\necho " + PLACEHOLDER.encode() + b"\n"
STAND_IN = Package("python", "3.12.4", {"bin/python3.12": b"\x7fELF", "bin/python": "python3.12"})
NEWER = Package("needs-new", depends=("__glibc >=2.99",))
PACKAGES = (
    STAND_IN,
    Package("python", "3.11.2", {"bin/python3.11": b"\x7fELF", "bin/python": "python3.11"}),
    channel.module("greet", depends=("python", "hello")),
    Package("hello", files={"bin/hello": HELLO, "lib/empty": b"", "lib/link": "../bin/hello"},
            placeholders={"bin/hello": (PLACEHOLDER, "text")}),
    Package("old-enough", depends=("__glibc >=2.17", "__linux", "__unix", "__archspec 1 x86_64")),
    NEWER,
    Package("on-gpu", depends=("__cuda >=12.2",)),
    Package("scripted", files={"bin/.scripted-post-link.sh": b"touch /tmp/never\n"}),
    Package("foreign", subdir="linux-aarch64"),
)  # fmt: skip


@pytest.fixture(scope="module")
def forge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return channel.make(tmp_path_factory.mktemp("conda-forge"), *PACKAGES)


@pytest.fixture
def here(forge: Path, tmp_path: Path) -> Settings:
    env = {"IMAGESMITH_CACHE_DIR": str(tmp_path / "cache"), "IMAGESMITH_CONDA_FORGE": f"file://{forge}"}
    return load_settings(tmp_path, env)


def found(
    spec: ImageSpec, settings: Settings, platform: str = "linux/amd64", said: list[Any] | None = None
) -> Lock:
    return solve(spec, platform, SILENT, settings, (said if said is not None else []).append)


def names(lock: Lock) -> dict[str, str]:
    return {package.name: package.version for package in lock.tree.packages}


GREET = ImageSpec(conda_packages=["greet"])


def test_dependencies_and_a_python_are_found(here: Settings) -> None:
    said: list[Any] = []
    lock = found(GREET, here, said=said)
    assert names(lock) == {"greet": "1.0", "hello": "1.0", "python": "3.12.4"}
    assert lock.tree.python == "3.12.4"
    assert lock.tree.contribution.path == ("/opt/conda/bin",)
    assert lock.tree.contribution.env == {"PYTHON_VERSION": "3.12.4"}
    hello = lock.tree.packages[1]
    file = Path(hello.url.removeprefix("file://"))
    assert hello.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert hello.size == file.stat().st_size
    assert names(found(GREET.replace(python_version="3.11"), here))["python"] == "3.11.2"
    kinds = [type(event) for event in said]
    assert kinds[0] is StepStarted
    assert kinds[-1] is StepDone
    assert StepLog in kinds


def test_what_the_target_has_not_what_this_machine_has(here: Settings) -> None:
    assert "old-enough" in names(found(ImageSpec(conda_packages=["old-enough"]), here))
    with pytest.raises(CondaUnsolvable, match="older version") as caught:
        found(ImageSpec(conda_packages=["needs-new"]), here)
    assert "__glibc >=2.99" in caught.value.message
    gpu = ImageSpec(conda_packages=["on-gpu"])
    with pytest.raises(CondaUnsolvable, match="__cuda"):
        found(gpu, here)
    with pytest.raises(CondaUnsolvable, match="__cuda"):
        found(gpu.replace(cuda="12.1"), here)
    assert "on-gpu" in names(found(gpu.replace(cuda="12.4"), here))


def test_another_platform(forge: Path, here: Settings) -> None:
    spec = ImageSpec(conda_packages=["foreign", "python"])
    with pytest.raises(CondaUnsolvable, match="linux-64 holds foreign"):
        found(spec, here)
    with pytest.raises(CondaUnsolvable, match="No candidates were found for python") as caught:
        found(spec, here, "linux/arm64")
    assert "foreign *" not in caught.value.message
    with pytest.raises(CondaError, match="no packages for linux/mips64le"):
        found(spec, here, "linux/mips64le")


def test_the_first_channel_wins_and_one_can_be_named(here: Settings, tmp_path: Path) -> None:
    own = channel.make(tmp_path / "own", channel.tool("hello", "0.1"))
    spec = ImageSpec(conda_packages=["hello"], conda_channels=[f"file://{own}"])
    assert names(found(spec, here))["hello"] == "0.1"
    assert names(found(spec.replace(conda_packages=["conda-forge::hello"]), here))["hello"] == "1.0"
    elsewhere = ImageSpec(conda_packages=[f"file://{own}::hello"])
    assert names(found(elsewhere, here))["hello"] == "0.1"
    rooted = spec.replace(conda_channels=["./own"], root=tmp_path)
    assert names(found(rooted, here))["hello"] == "0.1"


def test_unsolvable_says_what_and_where(here: Settings, forge: Path) -> None:
    said: list[Any] = []
    with pytest.raises(CondaUnsolvable) as caught:
        found(ImageSpec(conda_packages=["hello>=2", "python=3.11"], python_version="3.11"), here, said=said)
    assert said[-1].error == "no conda environment for linux-64 holds hello>=2, python=3.11, python 3.11.*"
    error = caught.value
    assert "No candidates were found for hello >=2" in error.message
    assert f"channels: file://{forge}" in error.message
    assert "add the channel that has it" in str(error.hint)
    with pytest.raises(CondaUnsolvable, match="loosen"):
        found(ImageSpec(conda_packages=["python=3.11"], python_version="3.12"), here)


@pytest.mark.parametrize("text", ["hello;rm -rf /", "hello[version='", "hello >=", "$(id)", "`id`"])
def test_what_is_no_conda_package_names_its_field(here: Settings, text: str) -> None:
    with pytest.raises(SpecError) as caught:
        found(ImageSpec(conda_packages=["greet", text]), here)
    assert [problem.path for problem in caught.value.problems] == ["conda_packages[1]"]


def test_a_channel_that_is_not_there(here: Settings, tmp_path: Path) -> None:
    with pytest.raises(ChannelError, match=f"there is no conda channel file://{tmp_path}/nowhere"):
        found(GREET.replace(conda_channels=[f"file://{tmp_path}/nowhere"]), here)


def test_a_channel_that_does_not_answer(here: Settings) -> None:
    with pytest.raises(ChannelError, match=r"does not answer.*refused") as caught:
        found(GREET.replace(conda_channels=["http://us:hunter2@127.0.0.1:9/channel"]), here)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_login_and_a_token(forge: Path, here: Settings, tmp_path: Path) -> None:
    only = ["nodefaults"]
    with channel.serve(forge, login="us:pa:ss%w") as address:
        with pytest.raises(ChannelError, match="401"):
            found(GREET.replace(conda_channels=[f"http://us:wrong@{address}/channel", *only]), here)
        lock = found(GREET.replace(conda_channels=[f"http://us:pa%3Ass%25w@{address}/channel", *only]), here)
        lay_out(placed(lock, tmp_path / "one"), silent)
    with channel.serve(forge, token="T0KEN") as address:
        spec = GREET.replace(conda_packages=[f"http://{address}/t/T0KEN/channel::greet"], conda_channels=only)
        lock = found(spec, here)
        lay_out(placed(lock, tmp_path / "two"), silent)
    assert "T0KEN" not in repr(lock)
    assert {each.url for each in lock.tree.packages} >= {
        f"http://{address}/channel/linux-64/hello-1.0-0.tar.bz2"
    }
    for file in tmp_path.rglob("*"):
        if file.is_file():
            data = file.read_bytes()
            assert not [text for text in (b"T0KEN", b"pa%3A", b"pa:ss", b"dXM6cGE6c3Mldw") if text in data], (
                file
            )


def test_a_server_whose_304_lacks_its_headers(forge: Path, here: Settings) -> None:
    handler = partial(SimpleHTTPRequestHandler, directory=str(forge))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        spec = GREET.replace(conda_channels=[f"http://127.0.0.1:{server.server_address[1]}", "nodefaults"])
        assert names(found(spec, here)) == names(found(spec, here))
        server.shutdown()


def test_a_base_with_an_environment_of_its_own_is_refused(here: Settings) -> None:
    own = base("PATH=/opt/conda/bin:/bin")
    with pytest.raises(BaseImageError, match="of its own at /opt/conda"):
        solve(GREET, "linux/amd64", own, here, silent)


def test_without_the_extra(here: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rattler", None)
    with pytest.raises(CondaError, match=r"pip install 'imagesmith\[conda\]'"):
        found(GREET, here)


def test_in_a_program_that_has_a_loop(here: Settings) -> None:
    async def main() -> Lock:
        return found(GREET, here)

    assert names(asyncio.run(main()))["greet"] == "1.0"


def listing(top: Path) -> dict[str, Any]:
    """Everything about a tree that an image would show."""
    seen: dict[str, Any] = {}
    for path in sorted(top.rglob("*")):
        info = path.lstat()
        what: Any = (
            str(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else "folder"
        )
        mode = None if path.is_symlink() else oct(info.st_mode)
        seen[str(path.relative_to(top))] = (what, mode, info.st_mtime_ns)
    return seen


def elsewhere(settings: Settings, forge: str, cache: Path) -> Settings:
    return replace(settings, conda_forge=forge, env={**settings.env, "IMAGESMITH_CACHE_DIR": str(cache)})


def test_the_same_tree_on_two_machines(forge: Path, here: Settings, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "deeper" / "two"
    two.parent.mkdir()
    lay_out(placed(found(GREET, here), one), silent)
    old = os.umask(0o077)
    try:
        with channel.serve(forge, login="us:er") as address:
            there = elsewhere(here, f"http://us:er@{address}/channel", tmp_path / "other-cache")
            lay_out(placed(found(GREET, there), two), silent)
    finally:
        os.umask(old)
    assert listing(one) == listing(two)
    seen = listing(one)
    assert set(seen) == {
        "bin", "bin/greet", "bin/hello", "bin/python", "bin/python3.12", "conda-meta", "conda-meta/history",
        "conda-meta/greet-1.0-py_0.json", "conda-meta/hello-1.0-0.json", "conda-meta/python-3.12.4-0.json",
        "lib", "lib/empty", "lib/link", "lib/python3.12", "lib/python3.12/site-packages",
        "lib/python3.12/site-packages/greet.py",
    }  # fmt: skip
    assert seen["bin/hello"][0] == b"#!/opt/conda/bin/sh\necho /opt/conda\n"
    assert {mode for _, mode, _ in seen.values()} == {"0o100644", "0o100755", "0o40755", None}
    texts = b"".join(what for what, _, _ in seen.values() if isinstance(what, bytes))
    for text in (str(tmp_path), str(forge), "127.0.0.1", "us:er"):
        assert text.encode() not in texts
    assert b"https://conda.anaconda.org/conda-forge/linux-64/hello-1.0-0.tar.bz2" in texts


def inodes(top: Path) -> dict[int, bytes]:
    return {file.stat().st_ino: file.read_bytes() for file in top.rglob("*") if file.is_file()}


def test_links_to_the_cache_are_kept_and_their_content_with_them(here: Settings, tmp_path: Path) -> None:
    lock = found(GREET, here)
    lay_out(placed(lock, tmp_path / "one"), silent)
    cached = inodes(tmp_path / "cache")
    lay_out(placed(lock, tmp_path / "two"), silent)
    assert inodes(tmp_path / "cache") == cached
    module = tmp_path / "two" / "lib/python3.12/site-packages/greet.py"
    assert module.stat().st_ino in cached
    assert listing(tmp_path / "one") == listing(tmp_path / "two")


def test_times_keep_their_seconds_and_tell_contents_apart(here: Settings, tmp_path: Path) -> None:
    trees = []
    for number, version in enumerate(("1", "2")):
        own = channel.make(tmp_path / f"own{number}", channel.module("equal", version, ()))
        spec = ImageSpec(conda_packages=["equal"], conda_channels=[f"file://{own}"])
        lay_out(placed(found(spec, here), tmp_path / version), silent)
        trees.append((tmp_path / version / "lib/python3.12/site-packages/equal.py").stat())
    one, two = trees
    assert one.st_size == two.st_size
    assert int(one.st_mtime) == int(two.st_mtime) == 1_600_000_000, "compiled modules rely on it"
    assert one.st_mtime_ns != two.st_mtime_ns


def test_link_scripts_are_not_run_and_said(here: Settings, tmp_path: Path) -> None:
    said: list[Any] = []
    lay_out(placed(found(ImageSpec(conda_packages=["scripted"]), here), tmp_path / "tree"), said.append)
    warnings = [event.text for event in said if isinstance(event, Message)]
    assert warnings == ["conda: link scripts are not run, and there are some in: scripted"]
    assert not Path("/tmp/never").exists()


@pytest.fixture
def own(tmp_path: Path) -> Path:
    return channel.make(tmp_path / "own", channel.tool("mine"))


def test_a_package_that_is_not_what_was_solved_for(here: Settings, own: Path, tmp_path: Path) -> None:
    lock = found(ImageSpec(conda_packages=["mine"], conda_channels=[f"file://{own}"]), here)
    other = channel.tool("mine")
    channel.write(own, replace(other, files={"bin/mine": b"#!/bin/sh\necho evil\n"}, placeholders={}))
    with pytest.raises(CondaError, match="hashes differ"):
        lay_out(placed(lock, tmp_path / "tree"), silent)
    (own / "linux-64" / "mine-1.0-0.tar.bz2").unlink()
    with pytest.raises(CondaError, match="cannot be read: No such file"):
        lay_out(placed(lock, tmp_path / "tree"), silent)


def test_a_download_that_is_not_what_was_solved_for(here: Settings, own: Path, tmp_path: Path) -> None:
    with channel.serve(own) as address:
        spec = ImageSpec(conda_packages=["mine"], conda_channels=[f"http://{address}/channel"])
        lock = found(spec, here)
        evil = replace(channel.tool("mine"), files={"bin/mine": b"#!/bin/sh\necho evil\n"}, placeholders={})
        channel.write(own, evil)
        with pytest.raises(CondaError, match="hash mismatch"):
            lay_out(placed(lock, tmp_path / "tree"), silent)


def test_a_reporter_that_fails_ends_it(here: Settings, tmp_path: Path) -> None:
    def stop(event: object) -> None:
        if isinstance(event, StepLog):
            raise KeyboardInterrupt

    with channel.serve(Path(str(here.conda_forge).removeprefix("file://"))) as address:
        there = elsewhere(here, f"http://{address}/channel", tmp_path / "cold")
        lock = found(GREET, there)
        with pytest.raises(KeyboardInterrupt):
            lay_out(placed(lock, tmp_path / "tree"), stop)


# the check in the image


def checked(tree: CondaTree, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run it as if the folder were the environment's place."""
    script = conda_check(tree).replace(tree.PREFIX, str(folder))
    return subprocess.run(["sh", "-eu", "-c", script], capture_output=True, text=True, check=False)


def test_the_check_in_the_image(tmp_path: Path) -> None:
    own = ".".join(map(str, sys.version_info[:3]))
    tree = CondaTree((), (), (CondaPackage("python", own, "0", "", "", 0),))
    (tmp_path / "bin").mkdir()
    (tmp_path / "conda-meta").mkdir()
    (tmp_path / "conda-meta/python.json").touch()
    python = tmp_path / "bin/python"
    assert "does not run in the base image" in checked(tree, tmp_path).stderr
    python.symlink_to(sys.executable)
    done = checked(tree, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    other = CondaTree((), (), (CondaPackage("python", "3.1.4", "0", "", "", 0),))
    assert f"is {own}, not 3.1.4" in checked(other, tmp_path).stderr
    (tmp_path / "conda-meta/theirs.json").touch()
    done = checked(tree, tmp_path)
    assert done.returncode == 1
    assert "an environment of its own" in done.stderr


def test_where_conda_forge_is_comes_from_the_machine(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(
        '[tool.imagesmith]\nconda-forge = "https://mirror.example/forge"\n'
    )
    assert load_settings(tmp_path, {}).conda_forge == "https://mirror.example/forge"
    assert load_settings(tmp_path, {"IMAGESMITH_CONDA_FORGE": "file:///x"}).conda_forge == "file:///x"
