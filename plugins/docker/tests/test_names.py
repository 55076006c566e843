"""Names in the engine: the same for one repository, never two builds under one."""

from __future__ import annotations

from pathlib import Path

from imagesmith_docker.names import lent


def test_a_repository_keeps_its_name_and_builds_at_once_have_their_own(tmp_path: Path) -> None:
    with lent(tmp_path, "r:5000/x", "linux/amd64") as first:
        with lent(tmp_path, "r:5000/x", "linux/amd64") as second:
            pass
        with (
            lent(tmp_path, "r:5000/x", "linux/arm64") as foreign,
            lent(tmp_path, "r:5000/y", "linux/amd64") as y,
        ):
            assert len({first, second, foreign, y}) == 4
    with lent(tmp_path, "r:5000/x", "linux/amd64") as again:
        assert again == first


def test_two_caches_share_no_name(tmp_path: Path) -> None:
    with (
        lent(tmp_path / "a", "r/x", "linux/amd64") as one,
        lent(tmp_path / "b", "r/x", "linux/amd64") as other,
    ):
        assert one != other
