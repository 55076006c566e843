"""What buildx prints with ``--progress=rawjson``, as events.

Each status is one JSON document on stderr: on one line, or (before buildx 0.14) spread over several. What is
no part of a document is an error message of the client.
"""

from __future__ import annotations

import base64
import json
import re
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from imagesmith import Reporter, StepDone, StepLog, StepStarted

if TYPE_CHECKING:
    from imagesmith.runner import Redactor
    from imagesmith_docker.render import Step

__all__ = ["Progress"]

TAIL = 30
_QUIET = ("[internal] ", "[context ", "importing cache", "resolving provenance")
"""Steps of the engine's own, of which people hear only when one fails or takes its time."""
_SLOW = 1.0
"""seconds"""
_SENT = {
    "[context imagesmith-conda]": "conda files, sent to the builder",
    "[context imagesmith-tools]": "uv, sent to the builder",
    "[internal] load build context": "files, sent to the builder",
}
_BASE = re.compile(r"\[[^\]]*\] FROM |docker-image://")


@dataclass(slots=True)
class _Vertex:
    """One step as the engine sees it."""

    number: str
    name: str
    known: Step | None
    cached: bool = False
    """once said; what is said later, while layers of it are fetched, does not take it back"""
    ended: bool = False
    rest: str = ""
    """what it printed without a line end yet"""
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=TAIL))


class Progress:
    """Follows one build. ``line`` takes each line of output."""

    def __init__(self, steps: Sequence[Step], report: Reporter, redactor: Redactor) -> None:
        self._steps = tuple(steps)
        self._report = report
        self._redactor = redactor
        self._vertices: dict[str, _Vertex] = {}
        self._buffer: list[str] = []
        self._failed: _Vertex | None = None
        self.error = ""
        """of the step that failed"""
        self.said: list[str] = []
        """what the client printed beside the documents"""

    @property
    def step(self) -> str | None:
        """The name of the step that failed."""
        if self._failed is None:
            return None
        return self._failed.known.name if self._failed.known else self._failed.name

    @property
    def tail(self) -> tuple[str, ...]:
        """The last lines that the failed step printed."""
        return tuple(self._failed.tail) if self._failed else ()

    def line(self, text: str, stream: str) -> None:
        """One line of output."""
        if stream != "stderr":
            return
        if not self._buffer and not text.startswith("{"):
            if text.strip():
                self.said.append(text)
            return
        self._buffer.append(text)
        if not text.endswith("}") or text[:1] == " ":
            return
        try:
            document = json.loads("\n".join(self._buffer))
        except ValueError:
            return  # a brace inside of a document
        self._buffer.clear()
        if isinstance(document, Mapping):
            self._status(document)

    def _status(self, status: Mapping[str, object]) -> None:
        for part in _objects(status, "statuses"):
            known = self._vertices.get(str(part.get("vertex")))
            elapsed = _seconds({**part, "completed": part.get("timestamp")})
            if known is None or known.ended or part.get("completed"):
                continue
            if elapsed is not None and elapsed > _SLOW:
                self._start(known)
        for vertex in _objects(status, "vertexes"):
            self._vertex(vertex)
        for log in _objects(status, "logs"):
            if (known := self._vertices.get(str(log.get("vertex")))) is not None:
                self._log(known, base64.b64decode(str(log.get("data") or "")).decode(errors="replace"))

    def _vertex(self, told: Mapping[str, object]) -> None:
        digest, name = str(told.get("digest")), str(told.get("name") or "")
        vertex = self._vertices.get(digest)
        if vertex is None:
            known = next((step for step in self._steps if step.key in name), None)
            vertex = self._vertices[digest] = _Vertex("", self._shown(name), known)
        if told.get("started") and not name.startswith(_QUIET):
            self._start(vertex)
        vertex.cached = vertex.cached or bool(told.get("cached"))
        if not told.get("completed") or vertex.ended:
            return
        error = self._redactor.redact(str(told.get("error") or ""))
        if error.endswith("context canceled") and self._failed is not None:
            return  # a step beside the one that failed
        self._log(vertex, "\n" if vertex.rest else "")
        if error:
            self._failed, self.error = vertex, error
        if (
            vertex.number
        ):  # what is quiet may end more than once: when it was looked for, and when it was sent
            vertex.ended = True
            self._report(
                StepDone(
                    vertex.number,
                    None if vertex.cached else _seconds(told),
                    cached=vertex.cached,
                    error=error.partition("\n")[0][:200] or None,
                )
            )

    def _shown(self, name: str) -> str:
        sent = next((shown for start, shown in _SENT.items() if name.startswith(start)), None)
        return sent or ("base image" if _BASE.match(name) else self._redactor.redact(name))

    def _start(self, vertex: _Vertex) -> None:
        """Report that it began, once."""
        if not vertex.number:
            vertex.number = str(sum(1 for each in self._vertices.values() if each.number) + 1)
            self._report(StepStarted(vertex.number, vertex.known.name if vertex.known else vertex.name))

    def _log(self, vertex: _Vertex, text: str) -> None:
        *lines, vertex.rest = (vertex.rest + text).split("\n")
        for raw in lines:
            line = self._redactor.redact(raw.rstrip("\r").rpartition("\r")[2])
            vertex.tail.append(line)
            if vertex.number:
                self._report(StepLog(vertex.number, line))


def _objects(status: Mapping[str, object], key: str) -> list[Mapping[str, object]]:
    value = status.get(key)
    return [each for each in value if isinstance(each, Mapping)] if isinstance(value, list) else []


def _seconds(told: Mapping[str, object]) -> float | None:
    try:
        began, ended = (
            datetime.fromisoformat(re.sub(r"Z$", "", str(told[key]))[:26]) for key in ("started", "completed")
        )
    except (KeyError, ValueError):
        return None
    return (ended - began).total_seconds()
