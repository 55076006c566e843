"""The tests themselves: workers that run side by side must find the same ones."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def collected(hash_seed: int) -> list[str]:
    """The names of all tests, as a process of its own finds them."""
    variables = {name: value for name, value in os.environ.items() if "PYTEST" not in name}
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"]
    found = subprocess.run(
        command,
        cwd=ROOT,
        env={**variables, "PYTHONHASHSEED": str(hash_seed)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return [line for line in found.stdout.splitlines() if "::" in line]


def test_two_processes_find_the_same_tests() -> None:
    """A name that holds the time, an address or an order of a set fails a whole run, now and then."""
    once, again = collected(1), collected(2)  # more than a second apart: all is imported between
    assert once == again
    assert f"{Path(__file__).relative_to(ROOT)}::{test_two_processes_find_the_same_tests.__name__}" in once
