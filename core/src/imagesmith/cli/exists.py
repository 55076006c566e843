"""``imagesmith exists``."""

from __future__ import annotations

import click

from imagesmith.cli import options
from imagesmith.cli.targets import load, settings
from imagesmith.cli.terminal import answer, answer_json, say

__all__ = ["command"]

_WORDS = {True: "found", False: "absent", None: "unknown"}
_CODES = {True: 0, False: 1, None: 3}


@click.command(
    "exists",
    short_help="Tell whether the image stands under its tag.",
    epilog="Example: imagesmith exists app.py:image || imagesmith build app.py:image",
)
@options.target
@options.as_json
@options.debug
def command(target: str, *, as_json: bool) -> int:
    """Tell whether the image stands under its tag, in the spec's registry or in the local engine.

    Prints found, absent or unknown; the exit code is 0, 1 or 3. The cause of unknown is on stderr.
    """
    spec = load(target)
    from imagesmith.pipeline import exists  # noqa: PLC0415

    result = exists(spec, settings=settings())
    if as_json:
        answer_json(
            {
                "reference": result.reference,
                "found": result.found,
                "digest": result.digest,
                "cause": result.cause,
            }
        )
    else:
        answer(_WORDS[result.found])
    if result.cause:
        say(f"cannot tell whether {result.reference} exists: {result.cause}")
    return _CODES[result.found]
