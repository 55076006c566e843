"""Cut secret values out of text. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

__all__ = ["MASK", "Redactor"]

MASK = "***"

_SHORTEST_PART = 4
"""A shorter line of a secret of many lines (a lone brace) is no secret by itself."""


class Redactor:
    """Knows the secrets in the forms they take in a tool's output.

    As they are, percent-encoded (in a URL), escaped (in JSON); a value of several lines also line by line.
    """

    def __init__(self, secrets: Collection[str]) -> None:
        self._forms = tuple({form for secret in secrets if secret for form in _forms(secret)})
        self.longest = max(map(len, self._forms), default=0)

    def redact(self, text: str, *, limit: int | None = None) -> str:
        """``text`` with every secret masked; only the first ``limit`` characters of ``text`` are returned.

        A secret that begins before the limit and ends behind it is masked whole.
        """
        end = len(text) if limit is None else min(limit, len(text))
        parts: list[str] = []
        position = 0
        for start, stop in self._spans(text):
            if start >= end:
                break
            parts += [text[position:start], MASK]
            position = stop
        parts.append(text[position:end])
        return "".join(parts)

    def _spans(self, text: str) -> Iterator[tuple[int, int]]:
        """Where secrets stand, overlapping ones joined, in order."""
        found = sorted(span for form in self._forms for span in _occurrences(text, form))
        while found:
            start, stop = found[0]
            joined = 1
            while joined < len(found) and found[joined][0] < stop:
                stop = max(stop, found[joined][1])
                joined += 1
            found = found[joined:]
            yield start, stop


def _occurrences(text: str, form: str) -> Iterator[tuple[int, int]]:
    position = text.find(form)
    while position >= 0:
        yield position, position + len(form)
        position = text.find(form, position + 1)


def _forms(secret: str) -> Iterator[str]:
    import json  # noqa: PLC0415 - only where there is a secret
    from urllib.parse import quote  # noqa: PLC0415

    lines = [line.strip() for line in secret.splitlines()]
    parts = [line for line in lines if len(line) >= _SHORTEST_PART] if len(lines) > 1 else lines
    for value in (secret, *parts):
        if not value:
            continue
        yield value
        yield quote(value, safe="")
        yield json.dumps(value)[1:-1]
        yield json.dumps(value, ensure_ascii=False)[1:-1]
