"""What the builder says before it builds."""

from __future__ import annotations

import json
from pathlib import Path
from types import MappingProxyType

import pytest

from imagesmith import BaseImage, BuildRequest, Environment, ImageSpec, RegistryRepository, sources
from imagesmith.sources import Staged
from imagesmith.testing import RecordingRunner
from imagesmith_oci.builder import OciBuilder

DIGEST = "sha256:" + "0" * 64
GOLDEN = Path(__file__).parent / "golden"


def builder(**options: object) -> OciBuilder:
    env = {"PATH": "/nowhere", "HOME": "/nonexistent"}
    return OciBuilder(
        Environment(RecordingRunner(), env, Path("/nonexistent/cache"), MappingProxyType(options))
    )


def request(spec: ImageSpec, platform: str = "linux/amd64", staged: Staged | None = None) -> BuildRequest:
    base = BaseImage("docker.io/library/python:3.11-slim", DIGEST, {"config": {}})
    staged = staged or sources.listed(spec)
    return BuildRequest(spec, platform, base, RegistryRepository("r.example/me/app"), staged, staged.secrets)


def test_a_plan_shows_what_will_be_done(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("x")
    spec = ImageSpec(
        name="app",
        python_version="3.11",
        packages=["numpy>=2"],
        apt_packages=["git"],
        source_root=".",
        commands=["echo hello"],
        pip_index="https://me:hidden@index.example/simple",
        user="1000",
    ).replace(root=tmp_path)
    plan = builder().plan(request(spec))
    shown = "".join(f"=== {name}\n{text}" for name, text in plan.files.items())
    shown += "=== commands\n" + "".join(f"{' '.join(each.argv)}\n" for each in plan.commands)
    shown += "=== steps\n" + "".join(f"{step}\n" for step in plan.steps)
    assert "hidden" not in shown
    assert shown == (GOLDEN / "plan.txt").read_text()
    assert json.loads(plan.files["layers.json"])["files"] == ["app.py"]
    assert plan.contributed.path == ("/opt/venv/bin",)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"builder_options": {"compression": "xz"}}, "builder_options['compression']"),
        ({"packages": ["x"], "pip_extra_args": ["--target", "/x"]}, "pip_extra_args"),
        ({"packages": ["x"], "platform": "linux/s390x"}, "platform"),
    ],
)
def test_what_cannot_be_done_is_refused_by_its_field(fields: dict[str, object], field: str) -> None:
    spec = ImageSpec(**fields)  # type: ignore[arg-type]
    assert list(builder().refusals(request(spec, spec.platforms[0]))) == [field]


def test_a_platform_without_packages_is_fine() -> None:
    assert not builder().refusals(request(ImageSpec(platform="linux/s390x"), "linux/s390x"))


def test_a_wrong_setting_of_the_machine_is_told_by_ready() -> None:
    found = builder(compression="xz").ready()
    assert not found.ok
    assert "IMAGESMITH_OCI_COMPRESSION" in str(found.problem)


def test_it_is_ready_and_says_with_what() -> None:
    found = builder().ready()
    assert found.ok
    assert found.details[0].startswith("uv ")
    assert found.details[1].startswith("apt packages and commands: ")
