"""apt and commands with no engine: real apt in a real namespace, and real engines that run the result."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import uuid
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from imagesmith.stores._documents import MANIFEST, encode
from imagesmith.stores.registry import open_repository
from imagesmith_oci.inside.capture import capture
from imagesmith_oci.inside.layers import _in_own_root
from tests.live import namespace
from tests.live.conftest import Engine
from tests.rig import user
from tests.rig.state import Rig

pytestmark = pytest.mark.live

Who = Literal["root", "user"]
ROOT = Path(__file__).parents[2]
WORKSPACE = [
    {"name": "workspace", "kind": "folder", "mode": 0o775},
    {"name": "workspace/app.py", "text": "print('hello')\n"},
]
CAPABILITY = "security.capability"
RAW = "0100000200200000000000000000000000000000"  # may open raw sockets
COMMANDS = (
    "test -f app.py && echo made > made.txt",
    'printf "%s" "$SAID" > /etc/said; printf "%s" "${BUILD_ONLY:-}" > /etc/build-only',
    "useradd --create-home --uid 4321 app && chown app:app made.txt && chmod 4755 made.txt",
    "rm /etc/issue && cd /usr/share/git-core && rm -r templates && mkdir templates && echo > templates/new",
    "ln -s /etc/said /etc/linked && ln /etc/said /etc/hard && mkfifo /etc/fifo",
    "rm -r /srv && ln -s /opt /srv",
    "cp /usr/bin/true /opt/raw",
    f'python3 -c \'import os; os.setxattr("/opt/raw", "{CAPABILITY}", bytes.fromhex("{RAW}"))\'',
    "python3 -c 'import compileall; compileall.compile_file(\"app.py\")'",
    "(sleep 31337 &) ; echo left one behind",
    "! pgrep sleep 2>/dev/null; test ! -e /proc/1/root/work",
)


@dataclass(frozen=True)
class Person:
    """Whoever builds: an environment, and how a program is started as them."""

    who: Who
    folder: Path
    python: str
    uid: int
    gid: int

    def start(self, job: dict[str, Any], *wrap: str, umask: str = "022") -> subprocess.Popen[str]:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "WANTED_UMASK": umask,
            "PYTHONPATH": os.pathsep.join(
                [str(ROOT), str(ROOT / "core/src"), str(ROOT / "plugins/oci/src"), site_packages()]
            ),
            **{key: value for key, value in os.environ.items() if key.lower().endswith("_proxy")},
        }
        drop = {} if self.who == "root" else {"user": self.uid, "group": self.gid, "extra_groups": []}
        process = subprocess.Popen(
            [*wrap, self.python, "-m", "tests.live.namespace"],
            env=environment,
            cwd=self.folder,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            **drop,  # type: ignore[call-overload]
        )
        assert process.stdin
        job = {"cache": str(self.folder / "cache"), "folder": str(self.folder), **job}
        process.stdin.write(json.dumps(job))
        process.stdin.close()
        process.stdin = None
        return process

    def __call__(self, job: dict[str, Any], *wrap: str, umask: str = "022") -> list[dict[str, Any]]:
        out, err = self.start(job, *wrap, umask=umask).communicate(timeout=500)
        assert not err, err
        return [json.loads(line) for line in out.splitlines()]

    def left(self) -> list[str]:
        """What belongs to no build any more."""
        return [str(path) for path in self.folder.glob("cache/userns/*/work/*")]


def site_packages() -> str:
    return next(entry for entry in sys.path if entry.endswith("site-packages"))


@contextlib.contextmanager
def person(who: Who) -> Iterator[Person]:
    """root, or the rig's ordinary user with a folder and a python that they can reach."""
    if os.geteuid() != 0:
        pytest.skip("only root can act as two users")
    if who == "root":
        ordinary = user.User("root", 0, 0, Path(tempfile.gettempdir()))
        python = sys.executable
    else:
        ordinary = user.ordinary()
        python = f"/usr/bin/python3.{sys.version_info.minor}"
    folder = Path(tempfile.mkdtemp(prefix="userns-", dir=ordinary.home))
    os.chown(folder, ordinary.uid, ordinary.gid)
    try:
        yield Person(who, folder, python, ordinary.uid, ordinary.gid)
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="module", params=["root", "user"])
def someone(request: pytest.FixtureRequest) -> Iterator[Person]:
    with person(request.param) as found:
        yield found


@pytest.fixture(scope="module")
def ordinary() -> Iterator[Person]:
    with person("user") as found:
        yield found


@pytest.fixture(scope="module")
def job(rig: Rig) -> dict[str, Any]:
    return {
        "task": "run",
        "image": rig.images.python311,
        "apt": ["git", "openssh-client", "gcc", "libc6-dev"],
        "commands": COMMANDS,
        "env": {"SAID": "a 'b' \"c\"\n$HOME é"},
        "build_env": {"BUILD_ONLY": "yes"},
        "layers": [WORKSPACE],
    }


@pytest.fixture(scope="module")
def made(job: dict[str, Any]) -> Iterator[dict[Who, list[dict[str, Any]]]]:
    """The layers as root and as an ordinary user with another umask, each with a cache of their own."""
    with contextlib.ExitStack() as stack:
        yield {
            "root": answer(stack.enter_context(person("root"))(job), "layers"),
            "user": answer(stack.enter_context(person("user"))(job, umask="077"), "layers"),
        }


def answer(said: list[dict[str, Any]], key: str) -> Any:
    assert key in said[-1], said[-30:]
    return said[-1][key]


Push = Callable[[str, str, list[dict[str, Any]]], str]


@pytest.fixture(scope="module")
def push(rig: Rig) -> Iterator[Push]:
    """Put layers on a base into a repository of this test's own; the reference."""
    pushed: list[tuple[str, str]] = []

    def run(base: str, platform: str, layers: list[dict[str, Any]]) -> str:
        source, image = namespace.find(base, platform)
        name = f"{rig.registry}/test/userns-{uuid.uuid4().hex[:12]}"
        with source, open_repository(name, {"PATH": os.defpath}) as store:
            entries = list(image.manifest["layers"])
            ids = list(image.config["rootfs"]["diff_ids"])
            for entry in entries:
                assert store.mount_blob(entry["digest"], source.repository)
            for layer in layers:
                plain = Path(layer["tar"]).read_bytes()
                data = gzip.compress(plain, 1, mtime=0)
                entries.append(
                    {
                        "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
                        "digest": store.put_blob(data),
                        "size": len(data),
                    }
                )
                ids.append(f"sha256:{hashlib.sha256(plain).hexdigest()}")
            config = {**image.config, "rootfs": {"type": "layers", "diff_ids": ids}, "history": []}
            raw = encode(config)
            document = {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": {
                    "mediaType": "application/vnd.oci.image.config.v1+json",
                    "digest": store.put_blob(raw),
                    "size": len(raw),
                },
                "layers": entries,
            }
            digest = store.put_manifest(encode(document), MANIFEST)
            store.publish(digest, "1")
        pushed.append((name, digest))
        return f"{name}:1"

    yield run
    for name, digest in pushed:
        with open_repository(name, {"PATH": os.defpath}) as store:
            store._origin.delete_manifest(digest)
        for host in filter(None, (rig.docker_host, rig.docker_host_classic)):
            Engine(host)("rmi", "--force", f"{name}:1", check=False)


def test_this_host_can(someone: Person, rig: Rig) -> None:
    begun = time.monotonic()
    (found,) = someone({"task": "available"})
    assert found["ok"], found
    assert ("ordinary user" in found["details"][0]) == (someone.who == "user")
    assert time.monotonic() - begun < 10
    if rig.images.python311_multi:
        (found,) = someone({"task": "available", "platform": "linux/arm64"})
        assert found["ok"], found
    assert someone.left() == []


def test_two_users_two_umasks_one_digest(made: dict[Who, list[dict[str, Any]]]) -> None:
    root, ordinary = made["root"], made["user"]
    differing = [
        (path, mine, theirs)
        for first, second in zip(root, ordinary, strict=True)
        for path, mine, theirs in differences(first["tar"], second["tar"])
    ]
    assert differing == []
    assert [layer.get("diff_id") for layer in root] == [layer.get("diff_id") for layer in ordinary]
    for layer in root[1:]:
        assert layer["diff_id"] == f"sha256:{hashlib.sha256(Path(layer['tar']).read_bytes()).hexdigest()}"
        assert layer["size"] == Path(layer["tar"]).stat().st_size


def differences(first: str, second: str) -> Iterator[tuple[str, Any, Any]]:
    with tarfile.open(first) as one, tarfile.open(second) as two:
        mine, theirs = contents(one), contents(two)
    for name in sorted({*mine, *theirs}):
        if mine.get(name) != theirs.get(name):
            yield name, mine.get(name), theirs.get(name)


def contents(archive: tarfile.TarFile) -> dict[str, Any]:
    found = {}
    for entry in archive:
        stream = archive.extractfile(entry) if entry.isreg() else None
        data = hashlib.sha256(stream.read()).hexdigest() if stream else ""
        found[entry.name] = (entry.type, entry.mode, entry.uid, entry.gid, entry.mtime, entry.linkname, data)
    return found


def test_what_the_layers_hold(made: dict[Who, list[dict[str, Any]]]) -> None:
    _, apt, commands = made["user"]
    with tarfile.open(apt["tar"]) as archive:
        names = set(archive.getnames())
        agent = archive.getmember("usr/bin/ssh-agent")
    assert agent.mode & 0o2000
    assert agent.gid
    assert not {name for name in names if name.startswith(("var/cache/apt/", "var/lib/apt/lists/"))}
    assert not names & {
        "dev/null",
        "proc",
        "sys",
        "etc/resolv.conf",
        "etc/hosts",
        "etc/hostname",
        "bin",
        "lib",
    }
    assert not [name for name in names if name.endswith(".log")]
    with tarfile.open(commands["tar"]) as archive:
        found = {entry.name: entry for entry in archive}
    assert "etc/.wh.issue" in found
    assert "usr/share/git-core/templates/.wh..wh..opq" in found
    assert found["etc/said"].islnk() != found["etc/hard"].islnk()
    assert found["etc/fifo"].isfifo()
    assert found["srv"].issym()
    assert (found["workspace/made.txt"].uid, found["workspace/made.txt"].mode) == (4321, 0o4755)
    assert {entry.mtime for name, entry in found.items() if name.startswith("workspace/")} == {315_619_200}


def test_a_layer_unpacked_and_taken_again_is_the_same(
    made: dict[Who, list[dict[str, Any]]], tmp_path: Path
) -> None:
    for number, layer in enumerate(made["user"][1:]):
        folder = tmp_path / str(number)
        folder.mkdir()
        with warnings.catch_warnings():  # pytest may have threads, which newer pythons do not like at a fork
            warnings.simplefilter("ignore", DeprecationWarning)
            _in_own_root(layer["tar"], str(folder))
        with (tmp_path / "again.tar").open("wb") as file:
            again = capture(str(folder), [], file, start=time.time_ns(), time=315_619_200)
        assert list(differences(layer["tar"], file.name)) == []
        assert f"sha256:{again.sha256}" == layer["diff_id"]


@pytest.mark.parametrize("store", ["containerd", "classic"])
def test_it_runs_on_an_engine(
    rig: Rig, job: dict[str, Any], made: dict[Who, list[dict[str, Any]]], push: Push, store: str
) -> None:
    host = rig.docker_host if store == "containerd" else rig.docker_host_classic
    if host is None:
        pytest.skip("this rig has no engine with the classic store")
    image = push(job["image"], "linux/amd64", made["user"])
    script = r"""
set -eu
dpkg --audit
git --version
ssh -V 2>&1
echo 'int main(void){return 0;}' > /tmp/a.c && cc /tmp/a.c -o /tmp/a && /tmp/a && echo compiled
stat -c '%n %U:%G %a' /usr/bin/ssh-agent /workspace/made.txt /home/app /workspace /tmp
test ! -e /etc/issue && ls /usr/share/git-core/templates
readlink /etc/linked /srv; stat -c '%h' /etc/hard; test -p /etc/fifo
cat /etc/said; echo; cat /etc/build-only; echo
cat /workspace/made.txt
python3 - <<'END'
import importlib.util as u, pathlib
code = pathlib.Path(u.cache_from_source("/workspace/app.py")).read_bytes()
import os
print(os.getxattr("/opt/raw", "security.capability").hex())
print("fits", int.from_bytes(code[8:12], "little") == int(pathlib.Path("/workspace/app.py").stat().st_mtime))
END
"""
    out = Engine(host).run(image, "/bin/sh", "-c", script, options=("--entrypoint", ""))
    lines = out.splitlines()
    assert lines[0].startswith("git version"), out
    assert lines[1].startswith("OpenSSH"), out
    assert lines[2:] == [
        "compiled",
        "/usr/bin/ssh-agent root:_ssh 2755",
        "/workspace/made.txt app:app 4755",
        "/home/app app:app 755",
        "/workspace root:root 775",
        "/tmp root:root 1777",
        "new",
        "/etc/said",
        "/opt",
        "2",
        "a 'b' \"c\"",
        "$HOME é",
        "yes",
        "made",
        RAW,
        "fits True",
    ]


def test_arm64(rig: Rig, ordinary: Person, push: Push) -> None:
    if not rig.images.python311_multi:
        pytest.skip("this rig has no arm64 base (up --with arm64)")
    base = rig.images.python311_multi
    job = {"task": "run", "image": base, "platform": "linux/arm64", "layers": [WORKSPACE]}
    said = ordinary({**job, "apt": ["jq"], "commands": ["uname -m > machine; jq -n 1+1 >> machine"]})
    image = push(base, "linux/arm64", answer(said, "layers"))
    out = Engine(rig.docker_host).run(
        image,
        "-c",
        "cat machine",
        options=("--platform", "linux/arm64", "--entrypoint", "sh", "-w", "/workspace"),
    )
    assert out == "aarch64\n2\n"


def test_a_command_that_fails(rig: Rig, someone: Person) -> None:
    said = someone(
        {
            "task": "run",
            "image": rig.images.python311,
            "layers": [WORKSPACE],
            "commands": [
                "echo fine",
                "echo; echo before; echo to stderr >&2; cat /nowhere; exit 9",
                "echo never",
            ],
        }
    )
    last = said[-1]
    assert (last["error"], last["returncode"]) == ("BuildFailed", 1)
    assert last["message"].endswith("failed with exit code 1")
    assert last["tail"] == ["", "before", "to stderr", "cat: /nowhere: No such file or directory"]
    assert {"line": "fine"} in said
    assert not any(each.get("started", "").endswith("never") for each in said)
    assert someone.left() == []


def test_a_package_that_there_is_none_of(rig: Rig, ordinary: Person) -> None:
    said = ordinary({"task": "run", "image": rig.images.python311, "apt": ["no-such-package"]})
    assert said[-1]["error"] == "BuildFailed"
    assert "no-such-package" in said[-1]["hint"]
    assert ordinary.left() == []


def test_nothing_changed(rig: Rig, ordinary: Person) -> None:
    job = {"task": "run", "image": rig.images.python311, "layers": [WORKSPACE]}
    said = ordinary({**job, "commands": ["mkdir /opt/x && rmdir /opt/x; ls -R /usr > /dev/null"]})
    assert answer(said, "layers")[-1]["entries"] == 0


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_it_is_ended(rig: Rig, someone: Person, how: signal.Signals) -> None:
    """Whatever ends the one who asked, nothing goes on, stays mounted or lies about."""
    seconds = str(30_000 + uuid.uuid4().int % 10_000)
    process = someone.start(
        {
            "task": "run",
            "image": rig.images.python311,
            "layers": [WORKSPACE],
            "commands": [f"setsid sleep {seconds} & echo ready; trap '' INT TERM; sleep {seconds}"],
        }
    )
    try:
        assert process.stdout
        assert any("ready" in line and "line" in line for line in process.stdout)
        wait_until(lambda: running(seconds) == 2)
        process.send_signal(how)
        process.communicate(timeout=60)
    finally:
        process.kill()
    wait_until(lambda: running(seconds) == 0)
    wait_until(lambda: someone.left() == [])
    assert str(someone.folder) not in Path("/proc/self/mountinfo").read_text()
    said = someone(
        {
            "task": "run",
            "image": rig.images.python311,
            "layers": [WORKSPACE],
            "commands": ["echo again"],
        }
    )
    assert {"line": "again"} in said


def running(seconds: str) -> int:
    count = 0
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            count += file.read_bytes() == f"sleep\0{seconds}\0".encode()
    return count


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_what_a_killed_process_left_is_swept(rig: Rig, ordinary: Person) -> None:
    ordinary({"task": "available"})
    (work,) = ordinary.folder.glob("cache/userns/*/work")
    stale, begun = work / "run-stale", work / "run-begun"
    for folder in (stale, begun):
        (folder / "own").mkdir(parents=True)
        for each in (folder, folder / "own"):
            os.chown(each, ordinary.uid, ordinary.gid)
    os.chown(folder / "own", 100_101, 100_101)
    (stale / "own" / "file").write_text("left")
    os.utime(stale, (0, 0))
    ordinary({"task": "available"})
    assert sorted(ordinary.left()) == [str(begun)]
    shutil.rmtree(begun)


def test_layers_below(rig: Rig, someone: Person) -> None:
    """Marks of removed files and of hidden folders, links over each other, and owners."""
    first = [
        {"name": "a", "kind": "folder"},
        {"name": "a/gone", "text": "1"},
        {"name": "a/stays", "text": "2"},
        {"name": "b", "kind": "folder", "mode": 0o700, "uid": 1234, "gid": 99},
        {"name": "b/hidden", "text": "3"},
        {"name": "c", "kind": "folder"},
        {"name": "c/old", "text": "4"},
        {"name": "workspace", "kind": "folder"},
        {"name": "set", "text": "x", "mode": 0o6755, "uid": 65535, "gid": 65534},
    ]
    second = [
        {"name": "a/.wh.gone"},
        {"name": "b", "kind": "folder", "mode": 0o700, "uid": 1234, "gid": 99},
        {"name": "b/.wh..wh..opq"},
        {"name": "b/new", "text": "5"},
        {"name": ".wh.c"},
        {"name": "c", "kind": "folder"},
        {"name": "c/other", "text": "6"},
        {"name": "c/hard", "kind": "hard", "to": "c/other"},
    ]
    script = "find /a /b /c | sort; stat -c '%u:%g %a' /b /set; stat -c %h /c/hard"
    said = someone(
        {"task": "run", "image": rig.images.python311, "layers": [first, second], "commands": [script]}
    )
    lines = [each["line"] for each in said if "line" in each]
    assert lines == [
        "/a",
        "/a/stays",
        "/b",
        "/b/new",
        "/c",
        "/c/hard",
        "/c/other",
        "1234:99 700",
        "65535:65534 6755",
        "2",
    ]


def test_a_layer_with_a_way_out(rig: Rig, someone: Person) -> None:
    """Links in a layer lead nowhere on this machine."""
    target = someone.folder / "target"
    target.mkdir(exist_ok=True)
    os.chown(target, someone.uid, someone.gid)
    layer = [
        {"name": "out", "kind": "link", "to": str(target)},
        {"name": f"../../{target}/evil", "text": "x"},
        {"name": "out/evil", "text": "x"},
        *WORKSPACE,
    ]
    said = someone(
        {"task": "run", "image": rig.images.python311, "layers": [layer], "commands": ["ls /out/evil"]}
    )
    assert {"line": "/out/evil"} in said
    assert list(target.iterdir()) == []


def test_the_host_is_out_of_reach(rig: Rig, someone: Person) -> None:
    """A command is root over the image's files and nothing else."""
    host = someone.folder / "host"
    host.write_text("x")
    script = f"""
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
tried = {{
    "see": lambda: os.stat("{host}"),
    "device": lambda: os.mknod("/disk", 0o60600, os.makedev(254, 0)),
    "hostname": lambda: open("/proc/sys/kernel/hostname", "w"),
    "sys": lambda: open("/sys/kernel/uevent_helper", "w"),
    "kernel": lambda: open("/proc/sysrq-trigger", "w"),
    "mount": lambda: libc.mount(b"x", b"/mnt", b"tmpfs", 0, None) and os.stat("/failed"),
}}
for name, function in tried.items():
    try:
        function()
    except OSError:
        continue
    print("could", name)
print(len([name for name in os.listdir("/proc") if name.isdigit()]) < 6)
"""
    layer = [*WORKSPACE, {"name": "workspace/try.py", "text": script}]
    said = someone(
        {"task": "run", "image": rig.images.python311, "layers": [layer], "commands": ["python3 try.py"]}
    )
    assert [each["line"] for each in said if "line" in each] == ["True"]


def test_an_image_without_a_shell(ordinary: Person) -> None:
    said = ordinary({"task": "run", "layers": [WORKSPACE], "commands": ["true"]})
    assert said[-1]["error"] == "BuildFailed"
    assert "no shell" in said[-1]["message"]


def test_a_host_that_lends_no_ids(ordinary: Person) -> None:
    nobody = Person("user", ordinary.folder / "nobody", ordinary.python, 65534, 65534)
    nobody.folder.mkdir()
    for folder in (nobody.folder, ordinary.folder):
        os.chown(folder, nobody.uid, nobody.gid)
    ordinary.folder.parent.chmod(0o755)
    try:
        (found,) = nobody({"task": "available"})
    finally:
        os.chown(ordinary.folder, ordinary.uid, ordinary.gid)
    assert found["ok"] is False
    assert found["problem"].startswith("/etc/subuid lends nobody no ids")
    assert "usermod --add-subuids" in found["hint"]


def test_no_new_privileges(ordinary: Person) -> None:
    (found,) = ordinary({"task": "available"}, "setpriv", "--no-new-privs")
    assert found["ok"] is False
    assert "no_new_privs" in found["problem"]


@pytest.mark.parametrize("uid", ["0", "1000"])
def test_in_a_container(rig: Rig, ordinary: Person, uid: str) -> None:
    """As containers are by default, they refuse it: the answer names what does."""
    mounts = [str(ROOT), site_packages()]
    options = [f"--volume={path}:{path}:ro" for path in mounts]
    paths = [*mounts, str(ROOT / "core/src"), str(ROOT / "plugins/oci/src")]
    out = Engine(rig.docker_host)(
        "run", "--rm", "--interactive", "--user", uid, "--entrypoint", "", "--network", "none", *options,
        "--env", f"PYTHONPATH={os.pathsep.join(reversed(paths))}", rig.images.python311,
        "python3", "-m", "tests.live.namespace",
        stdin=json.dumps({"task": "available", "cache": "/tmp/cache"}),
    )  # fmt: skip
    found = json.loads(out)
    assert found["ok"] is False
    if uid == "0":
        assert "seccomp" in found["problem"]
        assert "seccomp=unconfined" in found["hint"]
    else:
        assert "newuidmap" in found["problem"]


@pytest.mark.parametrize(
    "allowed", ["--security-opt=seccomp=unconfined", "--cap-add=SYS_ADMIN", "--privileged"]
)
def test_in_a_container_that_lets_it(rig: Rig, allowed: str) -> None:
    """With a folder that is no container's own; without one, the answer asks for it."""
    mounts = [str(ROOT), site_packages()]
    paths = [*mounts, str(ROOT / "core/src"), str(ROOT / "plugins/oci/src")]
    job = {
        "task": "run",
        "folder": "/kept",
        "layers": [WORKSPACE],
        "image": rig.images.python311,
        "commands": ["id -u > who; useradd app; su app -s /bin/sh -c 'echo as an app'"],
    }
    found = []
    with person("root") as somebody:
        for cache, task in (("/kept/cache", "run"), ("/own", "available")):
            out = Engine(rig.docker_host)(
                "run", "--rm", "--interactive", "--entrypoint", "", "--network", "host", allowed,
                *(f"--volume={path}:{path}:ro" for path in mounts), f"--volume={somebody.folder}:/kept",
                "--env", f"PYTHONPATH={os.pathsep.join(reversed(paths))}", rig.images.python311,
                "python3", "-m", "tests.live.namespace",
                stdin=json.dumps({**job, "cache": cache, "task": task}),
            )  # fmt: skip
            found.append([json.loads(line) for line in out.splitlines()])
    assert {"line": "as an app"} in found[0]
    assert "layers" in found[0][-1]
    assert found[1][-1]["ok"] is False
    assert "no overlay can be mounted over /own" in found[1][-1]["problem"]
    assert "IMAGESMITH_CACHE_DIR" in found[1][-1]["hint"]


def test_a_host_without_user_namespaces(ordinary: Person) -> None:
    """A namespace of its own plays such a host."""
    script = 'echo 0 > /proc/sys/user/max_user_namespaces; exec setpriv --bounding-set=-sys_admin "$@"'
    wrap = ("unshare", "--user", "--map-root-user", "sh", "-c", script, "sh")
    (found,) = ordinary({"task": "available"}, *wrap)
    assert found["ok"] is False
    assert "max_user_namespaces = 0" in found["problem"]


def test_two_at_once(rig: Rig) -> None:
    """Neither disturbs what the other unpacks and downloads, with nothing there yet."""
    with person("user") as somebody:
        other = somebody.folder / "other"
        other.mkdir()
        os.chown(other, somebody.uid, somebody.gid)
        job = {"task": "run", "image": rig.images.python311, "apt": ["jq"]}
        started = [somebody.start(job), somebody.start({**job, "folder": str(other)})]
        ended = [process.communicate(timeout=500) for process in started]
        assert [err for _, err in ended] == ["", ""]
        first, second = (
            answer([json.loads(line) for line in out.splitlines()], "layers") for out, _ in ended
        )
        assert first[0]["diff_id"] == second[0]["diff_id"]
        assert somebody.left() == []


def test_an_id_that_was_not_lent(rig: Rig, ordinary: Person) -> None:
    layer = [*WORKSPACE, {"name": "far", "text": "x", "uid": 100_000}]
    said = ordinary(
        {"task": "run", "image": rig.images.python311, "layers": [layer], "commands": ["echo never"]}
    )
    assert said[-1]["error"] == "BuilderNotReady"
    assert "far belongs to 100000:0, and these ids were not lent" in said[-1]["message"]
    assert ordinary.left() == []
