"""Names in the engine: the same for one repository, never two builds under one."""

from __future__ import annotations

from pathlib import Path

from imagesmith import BaseImage, BuildRequest, ImageSpec, LocalEngine, RegistryRepository
from imagesmith.engine import lent_name, planned_name
from imagesmith.sources import Staged


def request(repository: str, platform: str = "linux/amd64") -> BuildRequest:
    return BuildRequest(ImageSpec(), platform, BaseImage("b:1"), RegistryRepository(repository), Staged())


def test_a_repository_keeps_its_name_and_builds_at_once_have_their_own(tmp_path: Path) -> None:
    x, foreign, y = request("r:5000/x"), request("r:5000/x", "linux/arm64"), request("r:5000/y")
    with (
        lent_name(x, tmp_path) as first,
        lent_name(x, tmp_path) as second,
        lent_name(foreign, tmp_path) as third,
        lent_name(y, tmp_path) as fourth,
    ):
        assert len({first, second, third, fourth}) == 4
    with lent_name(x, tmp_path) as again:
        assert again == first


def test_two_caches_share_no_name(tmp_path: Path) -> None:
    x = request("r/x")
    with lent_name(x, tmp_path / "a") as one, lent_name(x, tmp_path / "b") as other:
        assert one != other
    assert planned_name(x) not in (one, other)


def test_an_image_for_the_engine_has_the_name_that_was_asked_for(tmp_path: Path) -> None:
    local = BuildRequest(
        ImageSpec(), "linux/amd64", BaseImage("b:1"), LocalEngine("x:imagesmith-staging-1"), Staged()
    )
    with lent_name(local, tmp_path) as name:
        assert name == planned_name(local) == "x:imagesmith-staging-1"
    assert not list(tmp_path.iterdir())
