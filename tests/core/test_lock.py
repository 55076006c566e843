"""One build at a time."""

import subprocess
import sys
import time
from pathlib import Path

from imagesmith.events import Message, silent
from imagesmith.lock import locked

HOLDER = """
import sys, time
from pathlib import Path
from imagesmith.lock import locked
with locked(Path(sys.argv[1]), "name", lambda event: None):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


def test_another_process_waits_and_says_so(tmp_path: Path) -> None:
    said: list[object] = []
    argv = [sys.executable, "-c", HOLDER, str(tmp_path), "1"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        started = time.monotonic()
        with locked(tmp_path, "name", said.append):
            assert time.monotonic() - started > 0.3
    assert [event for event in said if isinstance(event, Message) and "waiting" in event.text]
    assert list(tmp_path.iterdir()) == []


def test_other_names_do_not_wait(tmp_path: Path) -> None:
    with locked(tmp_path, "one", silent), locked(tmp_path, "two", silent):
        assert len(list(tmp_path.iterdir())) == 2
    assert list(tmp_path.iterdir()) == []


def test_a_killed_holder_leaves_no_lock(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", HOLDER, str(tmp_path), "60"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        holder.kill()
    started = time.monotonic()
    with locked(tmp_path, "name", silent):
        assert time.monotonic() - started < 5
