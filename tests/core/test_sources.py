"""What enters the image: collected, hashed, staged."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagesmith import ImageSpec, sources
from imagesmith.errors import SourceError

HELLO = "file:5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"


def write(root: Path, **files: str) -> None:
    for name, text in files.items():
        put(root, name.replace("__", "/"), text)


def put(root: Path, name: str, text: str = "hello\n") -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def spec(root: Path, **fields: object) -> ImageSpec:
    return ImageSpec(root=str(root), **fields)  # type: ignore[arg-type]


def files(root: Path, **fields: object) -> tuple[str, ...]:
    return sources.listed(spec(root, **fields)).files


def test_source_root_lands_in_the_work_directory(tmp_path: Path) -> None:
    put(tmp_path, "app/a.py")
    put(tmp_path, "app/pkg/b.py")
    put(tmp_path, "elsewhere.py")
    assert files(tmp_path, source_root="app") == ("a.py", "pkg/b.py")
    assert dict(sources.digests(spec(tmp_path, source_root="app"))) == {
        "source": "dir", "source/a.py": HELLO, "source/pkg": "dir", "source/pkg/b.py": HELLO,
    }  # fmt: skip


def test_relative_paths_start_from_the_working_directory_without_a_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, "app/a.py")
    monkeypatch.chdir(tmp_path)
    assert sources.listed(ImageSpec(source_root="app")).files == ("a.py",)
    assert sources.digests(ImageSpec(source_root="app")) == sources.digests(spec(tmp_path, source_root="app"))


def test_nothing_is_asked_for_and_nothing_enters(tmp_path: Path) -> None:
    assert dict(sources.digests(spec(tmp_path))) == {}
    staged = sources.stage(spec(tmp_path), tmp_path / "staged")
    assert not staged.has_source
    assert not staged.has_requirements
    assert sorted(path.name for path in (tmp_path / "staged").iterdir()) == ["runtime"]


def test_copied_paths_keep_their_place_and_absolute_ones_their_name(tmp_path: Path) -> None:
    put(tmp_path, "data/x/deep.csv")
    put(tmp_path, "conf/a.toml")
    far = put(tmp_path / "far", "away/b.toml")
    put(tmp_path / "far", "tree/c")
    inner = tmp_path / "inner"
    shutil.copytree(tmp_path / "data", inner / "data")
    shutil.copytree(tmp_path / "conf", inner / "conf")
    found = files(inner, copy=["data", "conf/a.toml", str(far), tmp_path / "far" / "tree"])
    assert found == ("b.toml", "conf/a.toml", "data/x/deep.csv", "tree/c")
    assert files(inner, copy=["."]) == ("conf/a.toml", "data/x/deep.csv")


def test_copy_follows_the_ignore_rules_of_the_root_it_lies_in(tmp_path: Path) -> None:
    for name in ("a.csv", "b.tmp", "__pycache__/c.pyc"):
        put(tmp_path, f"data/{name}")
        put(tmp_path, f"app/{name}")
    (tmp_path / ".imagesmithignore").write_text("/data/*.tmp\n")
    assert files(tmp_path, copy=["data", "app"]) == ("app/a.csv", "app/b.tmp", "data/a.csv")
    (tmp_path / "app" / ".imagesmithignore").write_text("*.csv\n")
    assert files(tmp_path, source_root="app", copy=["data"]) == ("b.tmp", "data/a.csv")
    with pytest.raises(SourceError, match=r"copy\[0\]: .*b\.tmp is left out.*'/data/\*\.tmp' in"):
        files(tmp_path, copy=["data/b.tmp"])
    with pytest.raises(SourceError, match=r"'data/__pycache__' is ignored by a built-in rule"):
        files(tmp_path, copy=["data/__pycache__/c.pyc"])


def test_copy_of_an_exception_in_a_folder_docker_ignores(tmp_path: Path) -> None:
    put(tmp_path, "build/a")
    put(tmp_path, "build/keep")
    (tmp_path / ".dockerignore").write_text("build\n!build/keep\n")
    assert files(tmp_path, copy=["build"]) == ("build/keep",)
    assert files(tmp_path, copy=["build/keep"]) == ("build/keep",)


def test_one_target_from_two_sources(tmp_path: Path) -> None:
    put(tmp_path, "app/conf/a")
    put(tmp_path, "conf/a")
    assert files(tmp_path, source_root="app", copy=["conf"]) == ("conf/a",)
    put(tmp_path, "conf/a", "other")
    with pytest.raises(SourceError) as raised:
        files(tmp_path, source_root="app", copy=["conf"])
    assert str(tmp_path / "app/conf/a") in str(raised.value)
    assert f"{tmp_path}/conf/a" in str(raised.value)
    put(tmp_path, "conf/a").chmod(0o755)
    with pytest.raises(SourceError, match="two different things"):
        files(tmp_path, source_root="app", copy=["conf"])


def test_a_file_where_a_folder_is_needed(tmp_path: Path) -> None:
    put(tmp_path, "app/conf")
    put(tmp_path, "conf/a")
    with pytest.raises(SourceError, match="two different things would land at source/conf"):
        files(tmp_path, source_root="app", copy=["conf/a"])


def test_links_stay_links_and_are_hashed_by_what_they_say(tmp_path: Path) -> None:
    app = put(tmp_path, "app/real").parent
    (app / "link").symlink_to("real")
    (app / "dangling").symlink_to("nowhere/at all")
    (app / "absolute").symlink_to("/etc/hostname")
    (app / "loop").symlink_to("loop")
    (app / "up").symlink_to("..")
    staged = sources.stage(spec(tmp_path, source_root="app"), tmp_path / "staged")
    assert staged.files == ("absolute", "dangling", "link", "loop", "real", "up")
    told = {
        path.name: str(path.readlink())
        for path in (tmp_path / "staged/source").iterdir()
        if path.is_symlink()
    }
    assert told == {
        "absolute": "/etc/hostname", "dangling": "nowhere/at all", "link": "real", "loop": "loop", "up": "..",
    }  # fmt: skip
    before = dict(staged.digests)
    (app / "link").unlink()
    (app / "link").symlink_to("dangling")
    after = sources.digests(spec(tmp_path, source_root="app"))
    assert {name for name in before if before[name] != after[name]} == {"source/link"}
    (app / "link").unlink()
    (app / "link").write_text("dangling")
    assert sources.digests(spec(tmp_path, source_root="app"))["source/link"] != after["source/link"]


def test_links_that_are_named_are_followed(tmp_path: Path) -> None:
    put(tmp_path, "real/a")
    (tmp_path / "app").symlink_to("real")
    (tmp_path / "one").symlink_to("real/a")
    assert files(tmp_path, source_root="app") == ("a",)
    assert files(tmp_path, copy=["one", "app"]) == ("app/a", "one")
    assert sources.digests(spec(tmp_path, copy=["one"]))["source/one"] == HELLO
    (tmp_path / "gone").symlink_to("nowhere")
    with pytest.raises(SourceError, match=r"source_root: .*gone is a link to nothing"):
        files(tmp_path, source_root="gone")


ODD = [
    "a b",
    "q'uo\"te",
    "new\nline",
    "-rf",
    "$HOME",
    "`x`",
    "ünïcode-☃",
    "back\\slash",
    "*",
    ".hidden",
    "tab\t",
]


def test_odd_names_and_empty_folders(tmp_path: Path) -> None:
    for name in ODD:
        put(tmp_path, f"app/{name}/{name}")
    (tmp_path / "app/empty/inner").mkdir(parents=True)
    staged = sources.stage(spec(tmp_path, source_root="app"), tmp_path / "staged")
    assert set(staged.files) == {f"{name}/{name}" for name in ODD} | {"empty/inner/"}
    for name in ODD:
        assert (tmp_path / "staged/source" / name / name).read_text() == "hello\n"
    assert (tmp_path / "staged/source/empty/inner").is_dir()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names themselves")
def test_names_that_are_not_utf8_are_refused_by_name(tmp_path: Path) -> None:
    folder = put(tmp_path, "app/ok").parent
    (Path(os.fsdecode(os.fsencode(folder) + b"/b\xffd"))).write_text("")
    (Path(os.fsdecode(os.fsencode(folder) + b"/f\xffd"))).mkdir()
    with pytest.raises(SourceError) as raised:
        files(tmp_path, source_root="app")
    assert "2 files cannot enter the image" in str(raised.value)
    assert r"b\udcffd" in str(raised.value)
    str(raised.value).encode()
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "link").symlink_to(os.fsdecode(b"\xff"))
    with pytest.raises(SourceError, match=r"app/link: .*what it links to is not UTF-8"):
        sources.digests(spec(tmp_path, source_root="app"))


def test_sockets_and_pipes_are_refused_by_name_and_never_opened(tmp_path: Path) -> None:
    put(tmp_path, "app/a")
    os.mkfifo(tmp_path / "app/pipe")
    with tempfile.TemporaryDirectory() as short, socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"{short}/s")
        Path(short, "s").rename(tmp_path / "app/socket")
    with pytest.raises(SourceError) as raised:
        files(tmp_path, source_root="app")
    assert str(raised.value).splitlines() == [
        "2 files cannot enter the image:",
        f"  {tmp_path}/app/pipe: neither a file nor a folder (a socket, pipe or device)",
        f"  {tmp_path}/app/socket: neither a file nor a folder (a socket, pipe or device)",
        "  hint: mend or remove them, or name them in .imagesmithignore",
    ]
    (tmp_path / "app/.imagesmithignore").write_text("pipe\nsocket\n")
    assert files(tmp_path, source_root="app") == ("a",)
    with pytest.raises(SourceError, match="pipe: neither a file nor a folder"):
        files(tmp_path / "elsewhere", copy=[str(tmp_path / "app/pipe")])


def test_a_file_that_becomes_a_pipe_or_a_link_does_not_hang(tmp_path: Path) -> None:
    path = put(tmp_path, "app/a")
    listing = sources.collect(spec(tmp_path, source_root="app"))
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(SourceError, match=r"app/a: .*no regular file any more"):
        sources.stage(spec(tmp_path, source_root="app"), tmp_path / "staged", listing)
    path.unlink()
    path.symlink_to("/etc/hostname")
    with pytest.raises(SourceError, match="app/a: cannot be read"):
        sources.stage(spec(tmp_path, source_root="app"), tmp_path / "again", listing)


def test_many_refused_files_are_named_up_to_twenty(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    for number in range(25):
        os.mkfifo(tmp_path / f"app/p{number:02}")
    with pytest.raises(SourceError) as raised:
        files(tmp_path, source_root="app")
    text = str(raised.value)
    assert text.startswith("25 files cannot enter")
    assert "/p19:" in text
    assert "/p20:" not in text
    assert "… and 5 more" in text


@contextlib.contextmanager
def without_privileges() -> Iterator[None]:
    """Root may read everything; for this test it must not."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_unreadable_files_and_folders_are_refused_by_name() -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        root.chmod(0o755)
        put(root, "secret").chmod(0)
        put(root, "open")
        (root / "locked").mkdir(mode=0)
        told = ImageSpec(source_root=name)
        with without_privileges(), pytest.raises(SourceError) as raised:
            sources.digests(told)
        (root / "locked").chmod(0o755)
        assert f"{name}/locked: cannot be read: Permission denied" in str(raised.value)
        with without_privileges(), pytest.raises(SourceError) as raised:
            sources.digests(told)
        head = f"1 file cannot enter the image:\n  {name}/secret: cannot be read: Permission denied"
        assert str(raised.value).startswith(head)


@pytest.mark.parametrize(
    ("make", "fields", "message"),
    [
        (lambda _: None, {"source_root": "app"}, "source_root: .*app does not exist"),
        (lambda _: None, {"copy": ["app"]}, r"copy\[0\]: .*app does not exist"),
        (lambda root: put(root, "app"), {"source_root": "app"}, "source_root: .*app is a file"),
        (
            lambda root: (root / "app").mkdir(),
            {"source_root": "app"},
            "source_root: nothing to copy in .*app",
        ),
        (lambda root: (root / "app").mkdir(), {"copy": ["app"]}, r"copy\[0\]: nothing to copy in .*app"),
        (
            lambda root: put(root, "app/.git/HEAD"),
            {"source_root": "app"},
            "(?s)nothing to copy.*never copied",
        ),
        (
            lambda root: put(root, "app/.imagesmithignore", "*"),
            {"source_root": "app"},
            "(?s)nothing.*ignored by",
        ),
    ],
)
def test_missing_and_empty_sources_are_errors(
    tmp_path: Path, make: Callable[[Path], object], fields: dict[str, object], message: str
) -> None:
    make(tmp_path)
    with pytest.raises(SourceError, match=message) as raised:
        files(tmp_path, **fields)
    assert raised.value.hint


def test_staged_modes_and_times_do_not_depend_on_the_origin(tmp_path: Path) -> None:
    put(tmp_path, "app/sub/plain").chmod(0o600)
    put(tmp_path, "app/sub/run").chmod(0o4711)
    put(tmp_path, "app/group").chmod(0o654)
    (tmp_path / "app/link").symlink_to("group")
    (tmp_path / "app/sub").chmod(0o700)
    put(tmp_path, "r.txt", "six\n")
    old = os.umask(0o077)
    try:
        told = spec(tmp_path, source_root="app", requirements="r.txt")
        staged = sources.stage(told, tmp_path / "deep/staged")
    finally:
        os.umask(old)
    folder = tmp_path / "deep/staged"
    modes = {str(path.relative_to(folder)): stat.S_IMODE(path.lstat().st_mode) for path in folder.rglob("*")}
    assert modes.pop("source/link") == 0o777
    assert {name for name, mode in modes.items() if mode == 0o755} == {
        "source", "source/sub", "source/sub/run", "requirements", "runtime", "runtime/imagesmith",
    }  # fmt: skip
    assert {mode for mode in modes.values() if mode != 0o755} == {0o644}
    assert {int(path.lstat().st_mtime) for path in folder.rglob("*")} == {315_619_200}
    assert staged.folder == folder
    assert staged.digests["source/sub/run"].startswith("exec:")


def test_files_of_one_size_have_different_times_but_the_same_second(tmp_path: Path) -> None:
    put(tmp_path, "app/one", "1\n")
    put(tmp_path, "app/two", "2\n")
    put(tmp_path, "app/also_one", "1\n")
    sources.stage(spec(tmp_path, source_root="app"), tmp_path / "staged")
    times = {
        name: (tmp_path / "staged/source" / name).stat().st_mtime_ns for name in ("one", "two", "also_one")
    }
    assert times["one"] == times["also_one"]
    assert times["one"] != times["two"]
    assert {time // 10**9 for time in times.values()} == {315_619_200}


def test_staging_hashes_what_it_wrote(tmp_path: Path) -> None:
    for number, size in enumerate((0, 1, 1 << 20, (1 << 20) + 1, 3 << 20)):
        (tmp_path / "app").mkdir(exist_ok=True)
        (tmp_path / f"app/f{number}").write_bytes(os.urandom(size))
    put(tmp_path, "r.txt", "six\n")
    told = spec(tmp_path, source_root="app", requirements="r.txt")
    before = sources.digests(told)
    staged = sources.stage(told, tmp_path / "staged")
    assert staged.digests == before
    sources.check_unchanged(before, staged)
    again = sources.digests(spec(tmp_path / "staged", source_root="source"))
    inner = {name: value for name, value in before.items() if name.startswith("source")}
    assert inner == dict(again)


def test_listed_equals_staged_but_for_folder_and_digests(tmp_path: Path) -> None:
    put(tmp_path, "app/a")
    put(tmp_path, "r.txt", "six\n--index-url https://u:p@h/simple\n")
    told = spec(
        tmp_path, source_root="app", requirements="r.txt", pip_secret_mounts=[("nowhere", "/root/.netrc")]
    )
    listed = sources.listed(told)
    put(tmp_path, "nowhere")
    staged = sources.stage(told, tmp_path / "staged")
    assert listed.folder is None
    assert dict(listed.digests) == {}
    for name in ("files", "has_source", "has_requirements", "has_runtime", "texts", "binaries", "notes"):
        assert getattr(listed, name) == getattr(staged, name)
    assert set(listed.secrets) == set(staged.secrets)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda root: put(root, "app/a", "other"), "source/a"),
        (lambda root: (root / "app/a").chmod(0o755), "source/a"),
        (lambda root: put(root, "app/new"), "source/new"),
        (lambda root: (root / "app/a").unlink(), "source/a"),
        (lambda root: put(root, "r.txt", "six==1\n"), "requirements/00-r.txt"),
    ],
)
def test_changes_between_hashing_and_staging_are_named(
    tmp_path: Path, change: Callable[[Path], object], name: str
) -> None:
    put(tmp_path, "app/a")
    put(tmp_path, "app/b")
    put(tmp_path, "r.txt", "six\n")
    told = spec(tmp_path, source_root="app", requirements="r.txt")
    before = sources.digests(told)
    change(tmp_path)
    staged = sources.stage(told, tmp_path / "staged")
    with pytest.raises(SourceError, match=f"changed between hashing and staging: {name}\n"):
        sources.check_unchanged(before, staged)


def test_a_file_that_disappears_is_named(tmp_path: Path) -> None:
    path = put(tmp_path, "app/a")
    told = spec(tmp_path, source_root="app")
    listing = sources.collect(told)
    path.unlink()
    with pytest.raises(SourceError, match="app/a: disappeared while it was read"):
        sources.stage(told, tmp_path / "staged", listing)


def test_a_folder_that_cannot_be_written_is_told_as_that(tmp_path: Path) -> None:
    put(tmp_path, "app/a")
    occupied = put(tmp_path, "occupied")
    with pytest.raises(SourceError, match=r"cannot write to .*occupied"):
        sources.stage(spec(tmp_path, source_root="app"), occupied / "staged")


def test_secret_files_travel_as_secrets_only(tmp_path: Path) -> None:
    put(tmp_path, "netrc", "machine h login u password hunter2")
    told = spec(tmp_path, packages=["six"], pip_secret_mounts=[("netrc", "/root/.netrc")])
    staged = sources.stage(told, tmp_path / "staged")
    assert staged.secrets["pip_secret_mounts[0]"].reveal() == b"machine h login u password hunter2"
    assert "hunter2" not in repr(staged)
    assert not any(
        b"hunter2" in path.read_bytes() for path in (tmp_path / "staged").rglob("*") if path.is_file()
    )
    (tmp_path / "netrc").unlink()
    with pytest.raises(SourceError, match=r"pip_secret_mounts\[0\]: .*netrc does not exist"):
        sources.stage(told, tmp_path / "again")
    before = sources.digests(told)
    put(tmp_path, "netrc", "another")
    assert sources.digests(told) == before


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=6).filter(
    lambda name: name not in (".", "..") and not name.endswith(".pyc") and len(name.encode()) < 200
)
CONTENT = st.tuples(st.binary(max_size=20), st.booleans())


@settings(max_examples=50, deadline=None)
@given(
    tree=st.dictionaries(st.tuples(NAMES.map("d{}".format), NAMES), CONTENT, min_size=1, max_size=6),
    order=st.randoms(use_true_random=False),
    umask=st.sampled_from([0o000, 0o022, 0o077]),
    time=st.integers(0, 2_000_000_000),
)
def test_digests_do_not_depend_on_the_machine(
    tree: dict[tuple[str, str], tuple[bytes, bool]], order: object, umask: int, time: int
) -> None:
    def build(root: Path, items: list[tuple[tuple[str, str], tuple[bytes, bool]]]) -> object:
        for (folder, name), (content, executable) in items:
            (root / "app" / folder).mkdir(parents=True, exist_ok=True)
            path = root / "app" / folder / name
            path.write_bytes(content)
            path.chmod(path.stat().st_mode | stat.S_IXUSR if executable else path.stat().st_mode)
            os.utime(path, (time, time))
        listing = sources.collect(spec(root, source_root="app"))
        return [(e.target, e.kind) for e in listing.entries], sources.digests(spec(root, source_root="app"))

    items = list(tree.items())
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        first = build(Path(one), items)
        order.shuffle(items)  # type: ignore[attr-defined]
        old = os.umask(umask)
        try:
            deep = Path(other) / "quite" / "elsewhere"
            second = build(deep, items)
        finally:
            os.umask(old)
        assert first == second


@settings(max_examples=50, deadline=None)
@given(
    trees=st.lists(
        st.dictionaries(st.sampled_from(["a", "b", "ab", "a/b", "b/a"]), CONTENT, min_size=1, max_size=3),
        min_size=2,
        max_size=2,
        unique_by=lambda tree: repr(sorted(tree.items())),
    )
)
def test_different_trees_have_different_digests(trees: list[dict[str, tuple[bytes, bool]]]) -> None:
    found = []
    for tree in trees:
        with tempfile.TemporaryDirectory() as name:
            for path, (content, executable) in tree.items():
                if any(other.startswith(f"{path}/") for other in tree):
                    return
                target = Path(name, "app", path)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
                target.chmod(0o755 if executable else 0o644)
            found.append(dict(sources.digests(spec(Path(name), source_root="app"))))
    assert found[0] != found[1]


RUNTIME = """
import json, sys
import imagesmith
from imagesmith import ImageSpec
spec = ImageSpec(packages=["six"])
answer = {"file": imagesmith.__file__, "id": spec.id, "inside": spec.is_container()}
try:
    from imagesmith.sources import digests
    answer["whole"] = sys.modules["imagesmith.sources"].__file__
except ImportError as error:
    answer["whole"] = None
print(json.dumps(answer))
"""


@pytest.mark.parametrize("whole", [True, False])
def test_runtime_files_run_alone_and_in_front_of_a_whole_imagesmith(tmp_path: Path, *, whole: bool) -> None:
    import json

    staged = sources.stage(spec(tmp_path), tmp_path / "staged")
    assert staged.has_runtime
    told = ImageSpec(packages=["six"])
    flags = [] if whole else ["-S"]
    env = {"PYTHONPATH": str(tmp_path / "staged/runtime"), "IMAGESMITH_ID": told.id, "PATH": os.defpath}
    argv = [sys.executable, *flags, "-B", "-c", RUNTIME]
    done = subprocess.run(argv, env=env, cwd=tmp_path, capture_output=True, text=True, check=True)
    answer = json.loads(done.stdout)
    assert answer["file"] == str(tmp_path / "staged/runtime/imagesmith/__init__.py")
    assert answer["id"] == told.id
    assert answer["inside"] is True
    assert answer["whole"] == (sources.__file__ if whole else None)


def test_runtime_files_do_not_enter_the_tag(tmp_path: Path) -> None:
    assert not any("runtime" in name for name in sources.stage(spec(tmp_path), tmp_path / "staged").digests)
