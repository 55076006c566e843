"""The map from CUDA versions to public images."""

from pathlib import Path

import pytest

from imagesmith import ImageSpec, UsageError
from imagesmith.cuda import cuda_image
from imagesmith.settings import load_settings


@pytest.mark.parametrize(
    ("cuda", "cudnn", "tag"),
    [
        ("12.4", None, "12.4.1-runtime-ubuntu22.04"),
        ("12.4.1", "9", "12.4.1-cudnn-runtime-ubuntu22.04"),
        ("12.3", "9.0", "12.3.2-cudnn9-runtime-ubuntu22.04"),
        ("11.8", "8", "11.8.0-cudnn8-runtime-ubuntu22.04"),
        ("12.2.0", None, "12.2.0-runtime-ubuntu22.04"),
    ],
)
def test_known_versions(cuda: str, cudnn: str | None, tag: str) -> None:
    assert cuda_image(cuda, cudnn) == f"docker.io/nvidia/cuda:{tag}"


def test_an_unknown_version_says_which_are_known() -> None:
    with pytest.raises(UsageError, match=r"no public image is known with CUDA 9\.1; known: 11\.8"):
        cuda_image("9.1", None)


def test_a_cudnn_that_the_images_do_not_carry() -> None:
    with pytest.raises(UsageError, match=r"CUDA 12\.4 carry cuDNN 9, the spec asks for 8") as caught:
        cuda_image("12.4", "8")
    assert "cudnn='9'" in str(caught.value)


def test_it_is_the_default_base(tmp_path: Path) -> None:
    spec = ImageSpec(cuda="12.4", cudnn="9")
    settings = load_settings(tmp_path, {"IMAGESMITH_BASE_IMAGE": "other/base:1"})
    assert settings.default_base(spec) == "docker.io/nvidia/cuda:12.4.1-cudnn-runtime-ubuntu22.04"
    mirrored = load_settings(tmp_path, {"IMAGESMITH_CUDA_REPOSITORY": "r.example/mirror/cuda"})
    assert mirrored.default_base(spec) == "r.example/mirror/cuda:12.4.1-cudnn-runtime-ubuntu22.04"
