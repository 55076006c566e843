"""What envd cannot do with a value that it could do otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest

from imagesmith import BaseImage, BuildRequest, Environment, ImageSpec, LocalEngine, SubprocessRunner
from imagesmith.sources import Staged
from imagesmith_envd.builder import EnvdBuilder


@pytest.mark.parametrize(
    ("workdir", "refused"),
    [
        ("/home/envd/context", True),
        ("/home/envd/context/app", True),
        ("/home/envd/contexts", False),
        ("/home/envd", False),
        (None, False),
    ],
)
def test_a_work_directory_that_envd_hides_is_refused(
    tmp_path: Path, workdir: str | None, refused: bool
) -> None:
    builder = EnvdBuilder(Environment(SubprocessRunner(), {}, tmp_path))
    request = BuildRequest(
        ImageSpec(workdir=workdir), "linux/amd64", BaseImage("base"), LocalEngine("x:y"), Staged()
    )
    assert ("workdir" in builder.refusals(request)) is refused
