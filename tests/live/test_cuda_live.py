"""CUDA by version: the base is the public image's stand-in, its python is laid out."""

from __future__ import annotations

import pytest

pytest.importorskip("rattler", reason="the extra 'conda' is not installed")

from imagesmith import BaseImageError, ImageSpec
from tests.live import channel
from tests.live.conftest import Build, Engine
from tests.rig.state import Rig

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def variables(rig: Rig, engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An image without python under the name that the map gives, and a channel that has one."""
    repository = f"{rig.registry}/nvidia/cuda"
    stand_in = f"{repository}:12.4.1-cudnn-runtime-ubuntu22.04"
    engine("pull", rig.images.bare)
    engine("tag", rig.images.bare, stand_in)
    engine("push", stand_in)
    engine("rmi", stand_in)
    forge = channel.make(tmp_path_factory.mktemp("forge"), channel.python(), channel.pip())
    return {"IMAGESMITH_CUDA_REPOSITORY": repository, "IMAGESMITH_CONDA_FORGE": f"file://{forge}"}


def test_the_image_starts_from_the_one_that_cuda_stands_for(
    make: Build, engine: Engine, variables: dict[str, str], builder: str
) -> None:
    spec = ImageSpec(
        name="cuda",
        cuda="12.4",
        cudnn="9",
        python_version=channel.RUNNING.rpartition(".")[0],
        packages=["six"],
        entrypoint=["python", "-c", "import six, sys; print(sys.prefix)"],
    )
    result = make(spec, builder=builder, force=True, variables=variables)
    assert engine.run(result.reference) == "/opt/conda\n"
    labels = engine.config(result.reference)["Labels"]
    name = f"{variables['IMAGESMITH_CUDA_REPOSITORY']}:12.4.1-cudnn-runtime-ubuntu22.04"
    assert labels["org.opencontainers.image.base.name"] == name


def test_a_version_without_an_image_there(make: Build, variables: dict[str, str], builder: str) -> None:
    with pytest.raises(BaseImageError, match=r"nvidia/cuda:11\.8\.0-runtime-ubuntu22\.04"):
        make(ImageSpec(name="nocuda", cuda="11.8"), builder=builder, variables=variables)


@pytest.fixture(scope="module", params=["envd", "docker"])
def builder(request: pytest.FixtureRequest) -> str:
    return str(request.param)
