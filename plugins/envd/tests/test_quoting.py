"""What envd's two lexers make of our text: read back by an independent Starlark and by a shell lexer."""

import shlex
import subprocess

import pytest
import starlark
from hypothesis import given, settings
from hypothesis import strategies as st

from imagesmith_envd import quoting

# no NUL: no argument of a process can hold one
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)))


def evaluate(literal: str) -> str:
    module = starlark.Module()
    value = starlark.eval(module, starlark.parse("build.envd", literal), starlark.Globals.standard())
    assert isinstance(value, str)
    return value


@given(texts)
@settings(max_examples=200)
def test_starlark_reads_back_the_same_text(text: str) -> None:
    assert evaluate(quoting.starlark(text)) == text


@given(texts)
@settings(max_examples=200)
def test_a_script_reaches_bash_byte_for_byte(text: str) -> None:
    # envd builds: bash -c 'set -euo pipefail\n<script>' and splits it with a shell lexer
    line = f"bash -c 'set -euo pipefail\n{quoting.in_run(text)}'"
    assert shlex.split(line) == ["bash", "-c", f"set -euo pipefail\n{text}"]


@pytest.mark.parametrize(
    "text", ["a 'b' \"c\"", "$(touch /x)`id`", "tab\tnew\nline\\", "🚀\xa0é", "%s # no comment"]
)
def test_bash_prints_what_was_quoted(text: str) -> None:
    script = evaluate(quoting.starlark(quoting.in_run(f"printf %s {shlex.quote(text)}")))
    argv = shlex.split(f"bash -c '{script}'")
    assert subprocess.run(argv, capture_output=True, check=True).stdout.decode() == text
