"""What is decided outside the namespace: steps, ids, reasons, and what the process says."""

from __future__ import annotations

import contextlib
import errno
import functools
import gzip
import hashlib
import io
import json
import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import zstandard

from imagesmith import (
    BaseImage,
    BaseImageError,
    BuilderNotReady,
    BuildFailed,
    BuildRequest,
    Completed,
    Contribution,
    Environment,
    Event,
    ImageSpec,
    RegistryRepository,
    RegistryUnreachable,
    StepDone,
    StepLog,
    StepStarted,
    ToolMissing,
)
from imagesmith.sources import Staged
from imagesmith_oci import userns, userns_ids
from imagesmith_oci.userns import Lower, apt_steps, available, command_steps, key_of, run_steps
from imagesmith_oci.userns_ids import Ids, IdsMissing, find_ids, lent_ranges, parse_map
from imagesmith_oci.userns_stream import plain
from imagesmith_oci.userns_why import Failure, explain


def request(spec: ImageSpec) -> BuildRequest:
    base = BaseImage("base:1", config={"config": {"Env": ["PATH=/opt/py/bin:/bin", "LANG=C.UTF-8"]}})
    return BuildRequest(spec, "linux/arm64", base, RegistryRepository("r:5000/x"), Staged())


# steps


def test_apt() -> None:
    spec = ImageSpec(apt_packages=["git", "curl", "git"], build_env={"MIRROR": "near"}, env={"NEVER": "seen"})
    (step,) = apt_steps(
        request(spec), Contribution(), {"https_proxy": "http://p:1", "NO_PROXY": "", "X": "y"}
    )
    assert step.name == "apt: curl git"
    assert "install -y --no-install-recommends -- curl git\n" in step.script
    assert "MIRROR=near" in step.runner
    assert "SOURCE_DATE_EPOCH=315619200" in step.runner
    assert "NEVER" not in step.runner
    assert dict(step.env) == {"PATH": "/opt/py/bin:/bin", "LANG": "C.UTF-8", "HOME": "/root"}
    assert dict(step.place) == {"https_proxy": "http://p:1"}
    assert dict(step.caches)["apt-linux-arm64"] == "/var/cache/apt"
    assert apt_steps(request(ImageSpec()), Contribution(), {}) == ()


def test_commands() -> None:
    spec = ImageSpec(commands=["echo a", "echo b"], env={"A": "x y"}, build_env={"B": "z"}, workdir="/srv")
    first, second = command_steps(request(spec), Contribution(("/opt/venv/bin",)))
    assert (first.id, first.script, second.script) == ("command-000", "echo a\n", "echo b\n")
    assert first.runner.startswith("cd /srv\nexec env -i ")
    assert "'A=x y'" in first.runner
    assert "B=z" in first.runner
    assert "PATH=/opt/venv/bin:/opt/py/bin:/bin" in first.runner
    assert "IMAGESMITH_ID" not in first.runner


def test_a_key_says_what_steps_do() -> None:
    def key(spec: ImageSpec, env: Mapping[str, str] | None = None) -> str:
        steps = apt_steps(request(spec), Contribution(), env or {})
        return key_of([*steps, *command_steps(request(spec), Contribution())])

    spec = ImageSpec(apt_packages=["git"], commands=["true"])
    assert key(spec) == key(spec, {"http_proxy": "http://elsewhere"})
    others = [
        spec.replace(commands=["false"]),
        spec.replace(env={"A": "b"}),
        spec.replace(build_env={"A": "b"}),
        spec.replace(apt_packages=["git", "curl"]),
    ]
    assert len({key(spec), *map(key, others)}) == 5


# ids


def test_lent_ranges() -> None:
    text = "# x\nann:100000:65536\nbob:1:2\n1000:300000:10\nann:broken\n\n"
    assert lent_ranges(text, ("ann", "1000")) == ((100_000, 65_536), (300_000, 10))
    assert parse_map("         0       1000          1\n         1     100000      65536\n") == (
        (0, 1000, 1),
        (1, 100_000, 65_536),
    )


def test_root_takes_ids_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert find_ids({}, sees_mounts=True) == Ids("root")
    same = find_ids({}, sees_mounts=False)
    assert same.kind == "same"
    assert all(inner == outer for inner, outer, _ in (*same.uids, *same.gids))
    assert same.place == "root"


def test_an_ordinary_user_without_tools(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(IdsMissing, match="newuidmap and newgidmap are missing") as caught:
        find_ids({"PATH": str(tmp_path)}, sees_mounts=False)
    assert "uidmap" in caught.value.hint


def test_ranges_are_joined_up_to_what_an_image_needs() -> None:
    joined = userns_ids._ranges(1000, ((100_000, 1000), (200_000, 100_000)))
    assert joined == ((0, 1000, 1), (1, 100_000, 1000), (1001, 200_000, 64_535))
    assert sum(count for _, _, count in joined) == userns_ids.ENOUGH
    first = Ids("lent", joined, joined, ("a", "b"))
    assert first.place != replace(first, uids=((0, 1001, 1),)).place


# reasons

CASES: list[tuple[Failure, dict[str, str], str, str]] = [
    (Failure("user", errno.EPERM, "no"), {"status": "Seccomp:\t2\n"}, "seccomp", "seccomp=unconfined"),
    (Failure("mounts", errno.EPERM, "no"), {"status": "Seccomp:\t2\n"}, "seccomp", "seccomp=unconfined"),
    (Failure("mounts", errno.EACCES, "no"), {"apparmor_restricts": "1\n"}, "AppArmor", "sysctl"),
    (Failure("root", errno.EACCES, "mount root"), {"apparmor_restricts": "1\n"}, "AppArmor", "profile"),
    (
        Failure("mounts", errno.EACCES, "no"),
        {"apparmor": "docker-default (enforce)\n", "apparmor_restricts": "1\n"},
        "profile docker-default",
        "apparmor=unconfined",
    ),
    (Failure("user", errno.ENOSPC, "no"), {"most_namespaces": "0\n"}, "max_user_namespaces = 0", "sysctl"),
    (Failure("user", errno.EPERM, "no"), {"clone_allowed": "0\n"}, "unprivileged_userns_clone", "sysctl"),
    (Failure("user", errno.EINVAL, "no"), {}, "no user namespaces", "another host"),
    (Failure("user", errno.EPERM, "not so"), {}, "not so", "sandbox"),
    (Failure("ids", 0, "newuidmap: no"), {"status": "NoNewPrivs:\t1\n"}, "no_new_privs", "no-new-privileges"),
    (Failure("ids", 0, "newuidmap: no"), {"status": "NoNewPrivs:\t0\n"}, "newuidmap: no", "/etc/subuid"),
    (
        Failure("root", errno.EINVAL, "mount root: Invalid argument"),
        {"release": "5.4.0\n"},
        "over /the/cache (Linux 5.4.0)",
        "IMAGESMITH_CACHE_DIR",
    ),
    (Failure("files", errno.ENOSPC, "disk full"), {}, "disk full", "IMAGESMITH_CACHE_DIR"),
    (Failure("root", errno.EPERM, "mount /proc"), {}, "mount /proc", "host"),
]


@pytest.mark.parametrize(("failure", "facts", "problem", "hint"), CASES)
def test_why_not(failure: Failure, facts: dict[str, str], problem: str, hint: str) -> None:
    found = explain(failure, facts, "/the/cache")
    assert found.ok is False
    assert found.problem is not None
    assert found.hint is not None
    assert problem in found.problem
    assert hint in found.hint


# layers as they are stored


@pytest.mark.parametrize(
    "pack",
    [
        bytes,
        gzip.compress,
        lambda data: gzip.compress(data[:1000]) + gzip.compress(data[1000:]) + bytes(512),
        zstandard.compress,
        lambda data: zstandard.compress(data[:1000]) + zstandard.compress(data[1000:]),
        lambda data: b"\x50\x2a\x4d\x18\x04\0\0\0skip" + zstandard.compress(data),
    ],
)
@pytest.mark.parametrize("step", [1, 7, 1 << 20])
def test_all_ways_to_store_a_layer(pack: Callable[[bytes], bytes], step: int) -> None:
    data = bytes(range(256)) * 40
    stream = io.BytesIO(pack(data))
    read = stream.read
    stream.read = lambda size=-1: read(min(size, step))  # type: ignore[method-assign,misc,assignment]
    assert b"".join(plain(stream)) == data


def test_a_layer_cut_off() -> None:
    with pytest.raises(EOFError):
        list(plain(io.BytesIO(gzip.compress(os.urandom(9999))[:500])))
    with pytest.raises(zlib.error):
        list(plain(io.BytesIO(b"\x1f\x8b" + bytes(99))))
    assert list(plain(io.BytesIO(b""))) == []


# the process


@dataclass
class Talking:
    """A runner whose process says these lines; ``{token}`` is known only then."""

    lines: Sequence[str] = ()
    jobs: list[dict[str, Any]] = field(default_factory=list)
    missing: bool = False

    def run(self, argv: Sequence[str], **options: Any) -> Completed:
        if self.missing:
            raise ToolMissing("cannot start it", tool=argv[0])
        file = Path(argv[-1])
        assert file.stat().st_mode & 0o777 == 0o600
        job = json.loads(file.read_text())
        self.jobs.append(job)
        assert not options.get("redact"), "what the process says itself would be cut too"
        for line in self.lines:
            options["on_line"](line.replace("{token}", job["token"]), "stdout")
        return Completed(0, (), 0.0)


@pytest.fixture
def as_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(userns, "find_ids", lambda env, *, sees_mounts: Ids("root"))


def environment(runner: Talking, folder: Path) -> Environment:
    return Environment(runner, {"PATH": "/bin", "LD_PRELOAD": "x"}, folder)


def run(lines: Sequence[str], folder: Path, events: list[Event]) -> userns.Captured:
    steps = command_steps(request(ImageSpec(commands=["first", "second"])), Contribution())
    return run_steps(
        environment(Talking(lines), folder),
        "linux/arm64",
        [],
        steps,
        events.append,
        into=folder / "out.tar",
        redact=("status", "hunter2"),
    )


@pytest.mark.usefixtures("as_root")
def test_lines_become_events(tmp_path: Path) -> None:
    events: list[Event] = []
    lines = [
        '{token}{"phase": "mounted"}',
        "", '{token}{"step": 0}',
        "one", "", "", '{token}{"step": 0, "status": 0, "problem": "", "seconds": 1.5}',
        "", '{token}{"step": 1}',
        "no end", '{"step": 9}',
        "", '{token}{"step": 1, "status": 0, "problem": "", "seconds": 0.5}',
        "", '{token}{"done": true, "sha256": "ab", "size": 7, "entries": 2}',
    ]  # fmt: skip
    captured = run(["", *lines], tmp_path, events)
    assert (captured.diff_id, captured.size, captured.entries) == ("sha256:ab", 7, 2)
    assert events == [
        StepStarted("command-000", "command: first"),
        StepLog("command-000", "one"),
        StepLog("command-000", ""),
        StepDone("command-000", 1.5),
        StepStarted("command-001", "command: second"),
        StepLog("command-001", "no end"),
        StepLog("command-001", '{"step": 9}'),
        StepDone("command-001", 0.5),
    ]
    assert list((tmp_path / "userns/root/work").iterdir()) == []


@pytest.mark.usefixtures("as_root")
def test_a_step_that_fails(tmp_path: Path) -> None:
    lines = [
        "",
        '{token}{"step": 0}',
        "why: hunter2",
        "",
        '{token}{"step": 0, "status": 3, "problem": "", "seconds": 1}',
        "",
        '{token}{"done": false}',
    ]
    events: list[Event] = []
    with pytest.raises(BuildFailed, match="command: first failed with exit code 3") as caught:
        run(lines, tmp_path, events)
    assert (caught.value.returncode, caught.value.tail) == (3, ("why: ***",))
    assert StepLog("command-000", "why: ***") in events
    assert events[-1] == StepDone("command-000", 1, error="exit code 3")


@pytest.mark.usefixtures("as_root")
@pytest.mark.parametrize(("problem", "said"), [("foreign", "linux/arm64"), ("no shell", "/bin/sh")])
def test_a_step_that_cannot_start(tmp_path: Path, problem: str, said: str) -> None:
    line = json.dumps({"step": 0, "status": 127, "problem": problem, "seconds": 0})
    with pytest.raises(BuildFailed, match=said):
        run(["", '{token}{"step": 0}', "", "{token}" + line, "", '{token}{"done": false}'], tmp_path, [])


@pytest.mark.usefixtures("as_root")
def test_a_layer_that_cannot_be_unpacked(tmp_path: Path) -> None:
    runner = Talking(["", '{token}{"failed": "layer", "text": "bin/x belongs to 99999", "number": 0}'])
    lower = Lower("sha256:aa", lambda: io.BytesIO(b"tar"), keep=False)
    with pytest.raises(BuilderNotReady, match="bin/x belongs to 99999"):
        run_steps(environment(runner, tmp_path), "linux/amd64", [lower], [], [].append, into=tmp_path / "o")
    assert [job["task"] for job in runner.jobs] == ["unpack"]


@pytest.mark.usefixtures("as_root")
def test_equal_layers_are_one(tmp_path: Path) -> None:
    runner = Talking(["", '{token}{"done": true, "sha256": "ab", "size": 7, "entries": 2}'])
    lowers = [Lower(diff_id, lambda: io.BytesIO(b"tar"), keep=False) for diff_id in ("a", "b", "a")]
    run_steps(environment(runner, tmp_path), "linux/amd64", lowers, [], [].append, into=tmp_path / "o")
    unpacked, ran = runner.jobs
    assert [Path(layer["place"]).name for layer in unpacked["layers"]] == ["0", "1"]
    assert [Path(folder).parent.name for folder in ran["lowers"]] == ["1", "0"]  # the topmost first


@pytest.mark.usefixtures("as_root")
def test_a_layer_is_what_its_name_says(tmp_path: Path) -> None:
    """Else a base could bring what builds on other bases would take for theirs."""
    runner = Talking(["", '{token}{"done": true, "sha256": "ab", "size": 7, "entries": 2}'])
    digest = f"sha256:{hashlib.sha256(b'tar').hexdigest()}"

    def run(*lowers: Lower) -> userns.Captured:
        return run_steps(
            environment(runner, tmp_path), "linux/amd64", lowers, [], [].append, into=tmp_path / "o"
        )

    run(Lower(digest, lambda: io.BytesIO(gzip.compress(b"tar"))))
    for bad in (b"other", gzip.compress(b"tar")[:-3], b"\x28\xb5\x2f\xfdno zstd"):
        with pytest.raises(BaseImageError):
            run(Lower(digest, functools.partial(io.BytesIO, bad)))


@pytest.mark.usefixtures("as_root")
def test_a_connection_that_breaks(tmp_path: Path) -> None:
    tries: list[int] = []

    class Breaks(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            tries.append(1)
            if len(tries) < wanted:
                raise RegistryUnreachable("it broke", registry="r")
            return super().read(size)

    runner = Talking(["", '{token}{"done": true, "sha256": "ab", "size": 7, "entries": 2}'])
    lower = Lower("x", lambda: Breaks(b"tar tar"), keep=False)
    for wanted in (3, 4):
        tries.clear()
        with contextlib.nullcontext() if wanted == 3 else pytest.raises(RegistryUnreachable):
            run_steps(
                environment(runner, tmp_path), "linux/amd64", [lower], [], [].append, into=tmp_path / "o"
            )


@pytest.mark.usefixtures("as_root")
def test_a_process_that_says_nothing(tmp_path: Path) -> None:
    with pytest.raises(BuilderNotReady, match="ended without an answer: MemoryError"):
        run(["MemoryError"], tmp_path, [])


@pytest.mark.usefixtures("as_root")
def test_availability_never_raises(tmp_path: Path) -> None:
    assert available(environment(Talking(missing=True), tmp_path)).ok is False
    assert available(environment(Talking(["what"]), tmp_path)).ok is False
    assert available(environment(Talking(["", '{token}{"done": true}']), tmp_path)).ok is True
    blocked = tmp_path / "file"
    blocked.touch()
    assert available(environment(Talking(), blocked)).ok is False
    said = [
        "",
        '{token}{"step": 0}',
        "",
        '{token}{"step": 0, "status": 127, "problem": "foreign", "seconds": 0}',
        "",
        '{token}{"done": false}',
    ]
    found = available(environment(Talking(said), tmp_path), "linux/arm64")
    assert found.problem == "this host cannot run programs of linux/arm64"


def test_another_system(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    found = available(environment(Talking(), tmp_path))
    assert found.problem == "it takes Linux's namespaces, and this is darwin"
