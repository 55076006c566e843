"""Containers, with an engine that is played: what is made goes, whatever happens."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import pytest
from docker.errors import APIError, NotFound

from imagesmith import BuildFailed, EngineError, Event
from imagesmith.runner import Redactor
from imagesmith_buildpacks.archive import of_texts
from imagesmith_buildpacks.containers import Container, Engine, Volume
from imagesmith_buildpacks.steps import Step, derive


class Client:
    """As the docker SDK's, as far as it is used."""

    timeout = 60

    def __init__(self, chunks: list[bytes] | None = None, code: int = 0) -> None:
        self.chunks = chunks or []
        self.code = code
        self.made: list[dict[str, Any]] = []
        self.removed: list[str] = []
        self.volumes_removed: list[str] = []
        self.put: list[tuple[str, bytes]] = []
        self.committed: list[str] = []
        self.archive = b""

    def create_host_config(self, **told: Any) -> dict[str, Any]:
        return told

    def create_container(self, image: str, **told: Any) -> dict[str, str]:
        self.made.append({"image": image, **told})
        return {"Id": f"c{len(self.made)}"}

    def remove_container(self, name: str, *, v: bool, force: bool) -> None:
        assert v
        assert force
        self.removed.append(name)

    def remove_volume(self, name: str, *, force: bool) -> None:
        self.volumes_removed.append(name)

    def put_archive(self, name: str, path: str, data: Any) -> None:
        self.put.append((path, data if isinstance(data, bytes) else data.read()))

    def start(self, name: str) -> None:
        pass

    def logs(self, name: str, **told: Any) -> list[bytes]:
        return self.chunks

    def wait(self, name: str) -> dict[str, int]:
        return {"StatusCode": self.code}

    def commit(self, name: str, **told: Any) -> dict[str, str]:
        self.committed.append(f"{told['repository']}:{told['tag']}")
        return {"Id": "sha256:1"}

    def get_archive(self, name: str, path: str) -> tuple[list[bytes], object]:
        if not self.archive:
            raise NotFound("no such path")  # type: ignore[no-untyped-call]
        return [self.archive[:700], self.archive[700:]], None


def engine(client: Client) -> Engine:
    return Engine(client)  # type: ignore[arg-type]


def test_lines_are_whole_however_they_come() -> None:
    client = Client([b"one\ntw", b"o \xc3", b"\xa9\nlast"], 3)
    said: list[str] = []
    assert Container(client, "c").follow(said.append) == 3
    assert said == ["one", "two \u00e9", "last"]
    assert client.timeout == 60


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt()])
def test_a_container_goes_whatever_happens(error: BaseException) -> None:
    client = Client()
    with (
        pytest.raises(type(error)),
        engine(client).container("i", ["a", "b"], volumes=[Volume("/v"), Volume("/s", "/s", bind=True)]),
    ):
        raise error
    assert client.removed == ["c1"]
    made = client.made[0]
    assert (made["entrypoint"], made["command"], made["user"]) == (["a"], ["b"], "0:0")
    kinds = [(mount["Target"], mount["Type"]) for mount in made["host_config"]["mounts"]]
    assert kinds == [("/v", "volume"), ("/s", "bind")]


def test_what_is_fetched_and_copied(tmp_path: Path) -> None:
    client = Client()
    container = Container(client, "c")
    assert container.fetch("/x/top") is None
    client.archive = of_texts({"top/a": "1", "top/b/c": "2"})
    assert container.fetch("/x/top") == {"top/": b"", "top/a": b"1", "top/b/": b"", "top/b/c": b"2"}
    container.copy("/x/top", tmp_path)
    assert (tmp_path / "a").read_text() == "1"
    assert (tmp_path / "b" / "c").read_text() == "2"


def test_an_archive_that_would_leave_its_folder_is_not_unpacked(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo("top/../../outside")
        archive.addfile(entry, io.BytesIO())
    client = Client()
    client.archive = buffer.getvalue()
    with pytest.raises(tarfile.OutsideDestinationError):
        Container(client, "c").copy("/x/top", tmp_path / "inner")
    assert not (tmp_path / "outside").exists()


def test_the_engines_refusal_says_what_was_tried() -> None:
    client = Client()

    def refuse(*_: Any) -> None:
        raise APIError("no space left on device")  # type: ignore[no-untyped-call]

    client.start = refuse  # type: ignore[method-assign,assignment]
    with pytest.raises(EngineError, match="cannot start a container") as caught:
        Container(client, "c").start()
    assert "full" in str(caught.value.hint)


def test_a_step_that_fails_is_named_and_nothing_is_made_of_it() -> None:
    events: list[Event] = []
    client = Client(code=7)
    steps = [Step("one", "1.sh", "by.sh"), Step("two", "2.sh", "by.sh")]

    def logs(name: str, **told: Any) -> list[bytes]:
        scripts = client.put[0][1]
        with tarfile.open(fileobj=io.BytesIO(scripts)) as archive:
            file = archive.extractfile("all.sh")
            assert file is not None
            marks = [line.split("'")[1] for line in file.read().decode().splitlines() if "echo" in line]
        return [f"{marks[0]}\nfine\n{marks[1]}\nthe reason\n".encode()]

    client.logs = logs  # type: ignore[method-assign]
    with pytest.raises(BuildFailed) as caught:
        derive(engine(client), "i", "n:t", steps, {"by.sh": ""}, events.append, Redactor(()))
    assert (caught.value.step, caught.value.returncode, caught.value.tail) == ("two", 7, ("the reason",))
    assert not client.committed
    assert client.removed == ["c1", "c2"]
    assert len(client.volumes_removed) == 1
    assert "imagesmith-step" not in repr(events)


def test_without_steps_nothing_is_started() -> None:
    client = Client()
    client.start = None  # type: ignore[method-assign,assignment]
    derive(engine(client), "i", "r/n:t", [], {}, lambda _: None, Redactor(()))
    assert client.committed == ["r/n:t"]
    assert not client.volumes_removed
