"""What the command line does to the process that it is, and to no other."""

import gc
import subprocess
import sys

from imagesmith.cli import main

CODE = """
import gc, sys
from imagesmith.cli import main
sys.argv = ["imagesmith", "--version"]
print(main(), gc.get_threshold()[0] > 10_000, gc.get_freeze_count() > 1000)
"""


def test_a_caller_keeps_its_collector_of_garbage() -> None:
    before = gc.get_threshold(), gc.get_freeze_count()
    assert main(["--version"]) == 0
    assert (gc.get_threshold(), gc.get_freeze_count()) == before


def test_a_process_of_its_own_ends_sooner() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 True True"
