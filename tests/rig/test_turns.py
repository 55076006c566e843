"""Who runs beside whom."""

from __future__ import annotations

import threading
from pathlib import Path

from tests.turns import turn

LONG, SHORT = 10.0, 0.2


def hold(folder: Path, *, alone: bool) -> tuple[threading.Event, threading.Event, threading.Thread]:
    """Somebody else takes a turn: set once it is theirs; to be set for its end."""
    theirs, over = threading.Event(), threading.Event()

    def take() -> None:
        with turn(folder, alone=alone):
            theirs.set()
            over.wait(LONG)

    thread = threading.Thread(target=take)
    thread.start()
    return theirs, over, thread


def test_those_who_need_not_be_alone_are_together(tmp_path: Path) -> None:
    theirs, over, thread = hold(tmp_path, alone=False)
    with turn(tmp_path, alone=False):
        assert theirs.wait(LONG)
    over.set()
    thread.join()


def test_who_is_alone_waits_for_others_and_they_wait_in_turn(tmp_path: Path) -> None:
    with turn(tmp_path, alone=False):
        alone, alone_over, first = hold(tmp_path, alone=True)
        assert not alone.wait(SHORT), "not alone: this one is still there"
        late, late_over, second = hold(tmp_path, alone=False)
        assert not late.wait(SHORT), "whoever comes later does not overtake"
    assert alone.wait(LONG)
    assert not late.wait(SHORT), "it is alone"
    alone_over.set()
    assert late.wait(LONG)
    late_over.set()
    first.join()
    second.join()
