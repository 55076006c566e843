"""buildx's raw JSON, as events; both of its shapes."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from imagesmith import BuilderNotReady, BuildFailed, StepDone, StepLog, StepStarted
from imagesmith.runner import Redactor
from imagesmith_docker.failures import explain
from imagesmith_docker.progress import Progress
from imagesmith_docker.render import Step

STEP = Step("/run/imagesmith/apt.sh", "apt: git", "")
NAME = '[2/3] RUN --mount=type=bind ["/bin/sh", "/run/imagesmith/install.sh", "/run/imagesmith/apt.sh"]'
BEGAN, ENDED = "2026-01-01T00:00:00.5Z", "2026-01-01T00:00:02.123456789Z"


def vertex(digest: str, name: str, **more: Any) -> dict[str, Any]:
    return {"digest": digest, "name": name, "started": BEGAN, **more}


def log(digest: str, data: bytes) -> dict[str, Any]:
    return {"vertex": digest, "stream": 1, "data": base64.b64encode(data).decode(), "timestamp": ENDED}


def follow(
    *statuses: dict[str, Any], indent: int | None, secrets: tuple[str, ...] = ()
) -> tuple[Progress, list[Any]]:
    events: list[Any] = []
    progress = Progress([STEP], events.append, Redactor(secrets))
    for status in statuses:
        for line in json.dumps(status, indent=indent).splitlines():
            progress.line(line, "stderr")
    return progress, events


@pytest.mark.parametrize("indent", [None, 2])
def test_a_step_from_start_to_end(indent: int | None) -> None:
    _, events = follow(
        {
            "vertexes": [
                vertex("a", "[internal] load build definition", completed=ENDED),
                {"digest": "b", "name": NAME},
            ]
        },
        {
            "vertexes": [vertex("b", NAME)],
            "logs": [log("b", b"one\r\ntw"), log("b", b"o hunter2 \xff\nprogress\rthree")],
        },
        {
            "vertexes": [
                vertex("b", NAME, completed=ENDED),
                vertex("c", "[3/3] COPY x", completed=ENDED, cached=True),
            ]
        },
        indent=indent,
        secrets=("hunter2",),
    )
    assert events == [
        StepStarted("1", "apt: git"),
        StepLog("1", "one"),
        StepLog("1", "two *** \ufffd"),
        StepLog("1", "three"),
        StepDone("1", 1.623456),
        StepStarted("2", "[3/3] COPY x"),
        StepDone("2", None, cached=True),
    ]


def failed(*statuses: dict[str, Any], said: tuple[str, ...] = ()) -> BuildFailed | BuilderNotReady:
    progress, _ = follow(*statuses, indent=2)
    for line in said:
        progress.line(line, "stderr")
    error = explain(progress, 1)
    assert isinstance(error, (BuildFailed, BuilderNotReady))
    return error


def test_a_failing_step_is_told_with_its_last_lines_and_a_hint() -> None:
    lines = b"".join(b"line %d\n" % number for number in range(40)) + b"E: Unable to locate package git\n"
    error = 'process "/bin/sh x" did not complete successfully: exit code: 100'
    found = failed(
        {"vertexes": [vertex("b", NAME)], "logs": [log("b", lines)]},
        {"vertexes": [vertex("b", NAME, completed=ENDED, error=error)]},
        {"vertexes": [vertex("c", "[1/3] COPY y", completed=ENDED, error="context canceled")]},
        said=("ERROR: failed to solve: " + error,),
    )
    assert isinstance(found, BuildFailed)
    assert found.message == "apt: git failed with exit code 100"
    assert found.returncode == 100
    assert len(found.tail) == 30
    assert found.tail[-1].endswith("package git")
    assert "check its name" in (found.hint or "")


def test_an_engine_that_goes_away() -> None:
    found = failed(said=("ERROR: Cannot connect to the Docker daemon at unix:///x. Is it running?",))
    assert isinstance(found, BuilderNotReady)
    found = failed(
        {"vertexes": [vertex("b", NAME)]},
        said=("ERROR: failed to receive status: rpc error: unexpected EOF",),
    )
    assert isinstance(found, BuilderNotReady)


def test_an_engine_that_is_too_old() -> None:
    found = failed(
        said=("ERROR: failed to solve: unsupported frontend capability moby.buildkit.frontend.contexts",)
    )
    assert "too old" in found.message
    assert "Docker Engine 23" in (found.hint or "")


def test_a_failure_that_is_no_steps() -> None:
    found = failed(
        said=(
            "WARNING: x",
            "ERROR: failed to solve: failed to push r/x: 500",
        )
    )
    assert found.message == "docker buildx failed: failed to push r/x: 500"


def test_a_step_whose_cached_layers_are_fetched_stays_cached() -> None:
    """As BuildKit tells of a step found in a cache of another place."""
    _, events = follow(
        {"vertexes": [vertex("b", NAME, cached=True)]},
        {"vertexes": [vertex("b", NAME)]},
        {"vertexes": [vertex("b", NAME, completed=ENDED)]},
        {"vertexes": [vertex("b", NAME, completed=ENDED, cached=True)]},
        indent=None,
    )
    (done,) = [event for event in events if isinstance(event, StepDone)]
    assert done.cached
    assert done.seconds is None


def test_what_is_sent_is_told_where_it_takes_its_time() -> None:
    name = "[context imagesmith-conda] load from client"

    def sent(seconds: int, **more: Any) -> dict[str, Any]:
        part = {"id": "transferring", "vertex": "a", "started": BEGAN, "current": 5}
        return {**part, "timestamp": f"2026-01-01T00:00:0{seconds}.5Z", **more}

    _, quick = follow(
        {"vertexes": [vertex("a", name)], "statuses": [sent(1)]},
        {"vertexes": [vertex("a", name, completed=ENDED)], "statuses": [sent(5, completed=ENDED)]},
        indent=None,
    )
    assert quick == []
    _, slow = follow(
        {"vertexes": [vertex("a", name, completed=BEGAN)]},  # it was looked for
        {"vertexes": [vertex("a", name)], "statuses": [sent(2)]},
        {"statuses": [sent(2)]},
        {"statuses": [sent(3)]},
        {"vertexes": [vertex("a", name, completed=ENDED)]},
        indent=None,
    )
    assert slow == [
        StepStarted("1", "conda files, sent to the builder"),
        StepDone("1", 1.623456, cached=False),
    ]
