"""The runner, with real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagesmith._redaction import MASK, Redactor
from imagesmith.runner import (
    LINE_CHARACTERS,
    TAIL_LINES,
    Completed,
    Stream,
    SubprocessRunner,
    ToolMissing,
    ToolTimeout,
)

ENV = {"PATH": os.environ["PATH"]}
Lines = list[tuple[str, Stream]]


def _script(code: str) -> list[str]:
    return [sys.executable, "-u", "-c", textwrap.dedent(code)]


def _run(
    code: str, tmp_path: Path, *, redact: tuple[str, ...] = (), grace: float = 5.0
) -> tuple[Completed, Lines]:
    lines: Lines = []
    done = SubprocessRunner(grace=grace).run(
        _script(code),
        env=ENV,
        cwd=tmp_path,
        on_line=lambda line, stream: lines.append((line, stream)),
        redact=redact,
        timeout=30,
    )
    return done, lines


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def _wait_for(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False


def test_lines_come_with_their_stream_and_the_end_is_told(tmp_path: Path) -> None:
    code = """
        import sys
        print("one"); print("two", file=sys.stderr); print("three", end=""); sys.exit(7)
    """
    done, lines = _run(code, tmp_path)
    assert sorted(lines) == [("one", "stdout"), ("three", "stdout"), ("two", "stderr")]
    assert done.returncode == 7
    assert sorted(done.tail) == ["one", "three", "two"]
    assert 0 < done.seconds < 30


def test_the_environment_is_complete_and_the_folder_is_the_given_one(tmp_path: Path) -> None:
    lines: Lines = []
    code = "import os; print(os.getcwd()); print(sorted(set(os.environ) - {'LC_CTYPE'}))"
    env = {"ONLY": "this"}
    SubprocessRunner().run(
        _script(code), env=env, cwd=tmp_path, on_line=lambda line, stream: lines.append((line, stream))
    )
    assert [line for line, _ in lines] == [str(tmp_path.resolve()), "['ONLY']"]


def test_arguments_are_never_read_by_a_shell(tmp_path: Path) -> None:
    lines: Lines = []
    awkward = ["a b", "$HOME", "`id`", "'\"", "*", "line\nbreak", "ü🙂", ""]
    argv = [sys.executable, "-c", "import sys, json; print(json.dumps(sys.argv[1:]))", *awkward]
    SubprocessRunner().run(
        argv, env=ENV, cwd=tmp_path, on_line=lambda line, stream: lines.append((line, stream))
    )
    assert json.loads(lines[0][0]) == awkward


def test_a_flood_on_both_streams_does_not_block(tmp_path: Path) -> None:
    code = """
        import sys
        for number in range(3000):
            print("o" * 200); print("e" * 200, file=sys.stderr)
        sys.stderr.write("x" * 1_000_000)
    """
    done, lines = _run(code, tmp_path)
    assert done.returncode == 0
    assert len(lines) == 6001
    assert len(done.tail) == TAIL_LINES


def test_a_reader_of_stdin_sees_its_end_and_does_not_wait(tmp_path: Path) -> None:
    done, lines = _run("import sys; print(repr(sys.stdin.read()))", tmp_path)
    assert lines == [("''", "stdout")]
    assert done.returncode == 0


def test_bytes_that_are_no_text_are_replaced(tmp_path: Path) -> None:
    code = r"""
        import os, time
        os.write(1, b"bad \xff\xfe byte\n")
        os.write(1, "split ü".encode()[:-1]); time.sleep(0.2); os.write(1, "ü".encode()[1:] + b" here\n")
    """
    _, lines = _run(code, tmp_path)
    assert [line for line, _ in lines] == ["bad \ufffd\ufffd byte", "split ü here"]


def test_a_carriage_return_overwrites_and_a_windows_line_end_is_a_line_end(tmp_path: Path) -> None:
    code = r"""
        import os, time
        os.write(1, b"10%\r50%\r100%\nplain\r\nlast\r"); time.sleep(0.2); os.write(1, b"\nend")
    """
    _, lines = _run(code, tmp_path)
    assert [line for line, _ in lines] == ["100%", "plain", "last", "end"]


def test_a_very_long_line_is_cut(tmp_path: Path) -> None:
    _, lines = _run("print('x' * 5_000_000); print('y')", tmp_path)
    assert lines[0][0].startswith("x" * LINE_CHARACTERS)
    assert len(lines[0][0]) < LINE_CHARACTERS + 20
    assert lines[1][0] == "y"


def test_an_endless_progress_line_costs_no_memory_and_shows_its_end(tmp_path: Path) -> None:
    code = r"""
        import sys
        for number in range(200_000):
            sys.stdout.write(f"\r{number} of many")
        print()
    """
    _, lines = _run(code, tmp_path)
    assert [line for line, _ in lines] == ["199999 of many"]


def test_secrets_are_cut_before_anything_sees_them(tmp_path: Path) -> None:
    secrets = ("p@ss/word", 'quo"te', "first line of a key\nsecond line of a key\n}")
    code = r"""
        import json, sys, urllib.parse
        print("plain p@ss/word end")
        print("https://me:" + urllib.parse.quote("p@ss/word", safe="") + "@host/", file=sys.stderr)
        print(json.dumps({"key": 'quo"te'}))
        print("first line of a key"); print("second line of a key"); print("}")
    """
    done, lines = _run(code, tmp_path, redact=(*secrets, ""))
    seen = "\n".join([*(line for line, _ in lines), *done.tail])
    for leak in ("p@ss", "p%40ss", "quo", "first line", "second line"):
        assert leak not in seen
    assert f"plain {MASK} end" in seen
    assert f"https://me:{MASK}@host/" in seen
    assert "\n}" in seen


def test_a_secret_across_the_cut_of_a_long_line_is_not_seen_in_part(tmp_path: Path) -> None:
    code = f"print('x' * {LINE_CHARACTERS - 5} + 'TOPSECRET' * 1000)"
    done, lines = _run(code, tmp_path, redact=("TOPSECRET",))
    assert "TOP" not in lines[0][0]
    assert lines[0][0].startswith("x" * (LINE_CHARACTERS - 5) + MASK)
    assert "SECRET" not in "".join(done.tail)


def test_a_secret_split_over_two_writes_is_cut(tmp_path: Path) -> None:
    code = 'import os, time; os.write(1, b"a TOPSE"); time.sleep(0.2); os.write(1, b"CRET b")'
    _, lines = _run(code, tmp_path, redact=("TOPSECRET",))
    assert lines == [(f"a {MASK} b", "stdout")]


TEXT = st.text(alphabet='abA%/" é', min_size=1, max_size=6)


@settings(max_examples=100, deadline=None)
@given(secrets=st.lists(TEXT, max_size=4), text=st.text(alphabet='abA%/" éxy', max_size=40))
def test_no_secret_is_left_in_a_redacted_text(secrets: list[str], text: str) -> None:
    cut = Redactor(secrets).redact(text)
    for secret in secrets:
        assert secret not in cut


@settings(max_examples=100, deadline=None)
@given(
    secrets=st.lists(TEXT, max_size=4),
    text=st.text(alphabet='abA%/" é', max_size=40),
    limit=st.integers(0, 45),
)
def test_a_limit_gives_the_beginning_of_the_redacted_text(secrets: list[str], text: str, limit: int) -> None:
    redactor = Redactor(secrets)
    assert redactor.redact(text).startswith(redactor.redact(text, limit=limit))


def test_a_missing_program_is_told_with_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(ToolMissing, match=r"no-such-tool.*not on PATH.*/nowhere") as caught:
        SubprocessRunner().run(["no-such-tool"], env={"PATH": "/nowhere"}, cwd=tmp_path, on_line=print)
    assert caught.value.tool == "no-such-tool"
    assert caught.value.exit_code == 3
    assert caught.value.hint


def test_a_missing_folder_is_not_taken_for_a_missing_program(tmp_path: Path) -> None:
    with pytest.raises(ToolMissing, match="there is no folder"):
        SubprocessRunner().run(_script("pass"), env=ENV, cwd=tmp_path / "gone", on_line=print)


def test_a_file_that_may_not_be_executed_is_told(tmp_path: Path) -> None:
    (tmp_path / "tool").write_text("x", encoding="utf-8")
    with pytest.raises(ToolMissing, match="may not be executed"):
        SubprocessRunner().run([str(tmp_path / "tool")], env=ENV, cwd=tmp_path, on_line=print)


def test_a_child_that_outlives_the_process_does_not_hold_the_runner(tmp_path: Path) -> None:
    code = """
        import subprocess
        child = subprocess.Popen(["sleep", "60"])
        print(child.pid)
    """
    started = time.monotonic()
    _, lines = _run(code, tmp_path)
    assert time.monotonic() - started < 10
    os.kill(int(lines[0][0]), signal.SIGKILL)


def test_a_process_that_closes_its_output_is_waited_for(tmp_path: Path) -> None:
    code = "import os, time; os.close(1); os.close(2); time.sleep(0.5); os._exit(4)"
    done, _ = _run(code, tmp_path)
    assert done.returncode == 4
    assert done.seconds > 0.5


@pytest.mark.parametrize("closed", [False, True])
def test_a_process_that_takes_too_long_is_ended(tmp_path: Path, closed: bool) -> None:
    code = "import os, time; print(os.getpid()); "
    code += "os.close(1); os.close(2); " if closed else ""
    lines: Lines = []
    with pytest.raises(ToolTimeout, match=r"did not end within 0\.5 seconds"):
        SubprocessRunner().run(
            _script(code + "time.sleep(60)"),
            env=ENV,
            cwd=tmp_path,
            on_line=lambda line, stream: lines.append((line, stream)),
            timeout=0.5,
        )
    assert not _alive(int(lines[0][0]))


FAMILY = """
    import os, signal, subprocess, sys, time
    {setup}
    code = "{child}import time; print('up', flush=True); time.sleep(60)"
    child = subprocess.Popen([sys.executable, "-c", code])
    print(os.getpid(), child.pid)
    time.sleep(60)
"""


class _Stop(Exception):
    pass


def _stop_when_up(code: str, tmp_path: Path, grace: float) -> tuple[list[int], float]:
    """Raise from ``on_line`` when the family is up; its pids, and the seconds its end took."""
    pids: list[int] = []
    seen: set[str] = set()
    started = 0.0

    def on_line(line: str, stream: Stream) -> None:
        nonlocal started
        seen.add(line)
        if line[:1].isdigit():
            pids.extend(map(int, line.split()))
        if pids and "up" in seen:
            started = time.monotonic()
            raise _Stop

    with pytest.raises(_Stop):
        SubprocessRunner(grace=grace).run(_script(code), env=ENV, cwd=tmp_path, on_line=on_line)
    return pids, time.monotonic() - started


def test_an_error_in_the_listener_ends_the_process_and_its_children(tmp_path: Path) -> None:
    pids, seconds = _stop_when_up(FAMILY.format(setup="", child=""), tmp_path, grace=5)
    assert len(pids) == 2
    assert not any(map(_alive, pids))
    assert seconds < 3


@pytest.mark.parametrize("ignored", [("SIGINT",), ("SIGINT", "SIGTERM")], ids=["int", "int+term"])
def test_those_that_ignore_the_signal_get_a_harder_one(tmp_path: Path, ignored: tuple[str, ...]) -> None:
    ignoring = "; ".join(f"signal.signal(signal.{name}, signal.SIG_IGN)" for name in ignored)
    code = FAMILY.format(setup=ignoring, child=f"import signal; {ignoring}; ")
    pids, seconds = _stop_when_up(code, tmp_path, grace=0.5)
    assert not any(map(_alive, pids))
    assert seconds >= 0.5


def test_a_process_that_cleans_up_on_interrupt_is_given_the_time(tmp_path: Path) -> None:
    clean = """
        import sys, time
        try:
            print("up", flush=True)
            print(1 << 30, flush=True)
            time.sleep(60)
        except KeyboardInterrupt:
            sys.stdout.write("x" * 1_000_000)  # a full pipe must not hold it either
            sys.stdout.flush()
            time.sleep(0.3)
            open("cleaned", "w").close()
    """
    _stop_when_up(clean, tmp_path, grace=5)
    assert (tmp_path / "cleaned").exists()


DRIVER = """
    import os, sys
    from pathlib import Path
    from imagesmith.runner import SubprocessRunner
    code = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    def on_line(line, stream): print(line, flush=True)
    try:
        argv = [sys.executable, "-c", code]
        SubprocessRunner().run(argv, env=dict(os.environ), cwd=Path("."), on_line=on_line)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""


@pytest.fixture
def driver() -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(_script(DRIVER), stdout=subprocess.PIPE, text=True, start_new_session=True)
    yield process
    process.kill()
    process.communicate()


def test_ctrl_c_ends_the_process_and_is_raised_again(driver: subprocess.Popen[str]) -> None:
    assert driver.stdout is not None
    pid = int(driver.stdout.readline())
    driver.send_signal(signal.SIGINT)
    assert driver.stdout.readline() == "interrupted\n"
    assert driver.wait(10) == 0
    assert not _alive(pid)


def test_it_works_in_a_thread_that_is_not_the_main_one(tmp_path: Path) -> None:
    results: list[Completed] = []
    thread = threading.Thread(target=lambda: results.append(_run("print('hi')", tmp_path)[0]))
    thread.start()
    thread.join()
    assert results[0].tail == ("hi",)


def test_no_file_descriptor_is_left_open(tmp_path: Path) -> None:
    _run("print(1)", tmp_path)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        _run("print(1)", tmp_path)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
