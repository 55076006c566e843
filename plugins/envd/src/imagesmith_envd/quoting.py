"""The two languages a value passes through on its way into envd.

``starlark`` is the outer one. Inside ``run(commands=[...])`` envd puts the text between single quotes
of a ``bash -c '…'`` and splits it with a shell lexer: ``in_run`` makes it arrive there byte for byte.
"""

from __future__ import annotations

_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def starlark(text: str) -> str:
    """A Starlark string literal. Control characters as ``\\xNN``; the rest of Unicode as it is.

    Not JSON (its surrogate pairs are refused) and not ``repr`` (nor is its ``\\xa0``).
    """
    return '"' + "".join(_ESCAPES.get(char) or _plain(char) for char in text) + '"'


def _plain(char: str) -> str:
    return f"\\x{ord(char):02x}" if ord(char) < 0x20 or ord(char) == 0x7F else char


def in_run(script: str) -> str:
    """A script as one item of ``run(commands=[…])``."""
    return script.replace("'", "'\\''")
