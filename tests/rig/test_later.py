"""The part of the rig that comes after the rest."""

from __future__ import annotations

import dataclasses
import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.rig import arm64, bases, later, processes, state
from tests.rig.test_rig import RIG

COMING = dataclasses.replace(
    RIG,
    images=dataclasses.replace(RIG.images, multi="multi"),
    cnb=state.Cnb("builder", multi="builder-multi"),
)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(state, "answers", lambda address: True)
    folder = state.cache()
    folder.mkdir()
    return folder


def begin(code: str) -> None:
    processes.start(later.NAME, [sys.executable, "-c", code], ready=lambda: True)


def test_whoever_reads_a_name_waits_for_the_image(cache: Path) -> None:
    begin(f"import time, pathlib; time.sleep(0.7); pathlib.Path({str(cache / 'later.done')!r}).touch()")
    assert not (cache / "later.done").exists()
    assert COMING.images.python311_multi == "multi"
    assert (cache / "later.done").exists()
    assert COMING.cnb is not None
    assert COMING.cnb.builder_multi == "builder-multi"


def test_a_rig_without_that_part_waits_for_nothing(cache: Path) -> None:
    assert RIG.images.python311_multi is None
    assert state.Cnb("builder").builder_multi is None


def test_a_failure_is_told_to_whoever_waits(cache: Path) -> None:
    begin("raise SystemExit('no such mirror')")
    with pytest.raises(state.RigDownError, match=r"(?s)no images for arm64.*no such mirror"):
        _ = COMING.images.python311_multi
    with pytest.raises(state.RigDownError, match="no such mirror"):
        later.wait()


def test_the_file_of_the_state_names_them_without_waiting(cache: Path) -> None:
    told = json.loads(COMING.to_json())
    assert (told["images"]["python311_multi"], told["cnb"]["builder_multi"]) == ("multi", "builder-multi")
    assert state.Rig.from_json(COMING.to_json()) == COMING


def test_what_needs_the_engine_comes_when_the_rest_is_up(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    monkeypatch.setattr(bases, "tar", lambda root: made.append(root.name))
    monkeypatch.setattr(arm64, "publish", lambda publisher: made.append(publisher.host))
    with state.lock():  # held by ``up`` until it has saved the state
        thread = threading.Thread(target=later.work, args=[["arm64"]])
        thread.start()
        thread.join(0.3)
        assert (made, thread.is_alive()) == (["bookworm-arm64"], True)
        state.save(RIG)
    thread.join(10)
    assert made == ["bookworm-arm64", RIG.docker_host]
    later.wait()


def test_where_the_rest_does_not_come_up_it_fails(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bases, "tar", lambda root: None)
    with pytest.raises(state.RigDownError, match="not up"):
        later.work(["arm64"])
    assert not (cache / "later.done").exists()


def test_its_end_is_that_of_what_it_started(cache: Path) -> None:
    marker = f"rig-{cache.parent.name}-{id(cache)}"
    sleeper = [sys.executable, "-c", "import time; time.sleep(60)", marker]
    begin(f"import subprocess; subprocess.run({sleeper!r})")

    def there() -> list[str]:
        found = []
        for file in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = file.read_bytes().split(b"\0")
            except OSError:
                continue
            found += [file.parent.name] if marker.encode() in words else []
        return found

    until(lambda: bool(there()))
    later.stop()
    until(lambda: not there())
    assert not processes.alive(later.NAME)


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)
