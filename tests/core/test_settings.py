"""Settings of the project and the machine."""

from pathlib import Path

import pytest

from imagesmith import ImageSpec, UsageError
from imagesmith.settings import load_settings


def project(tmp_path: Path, text: str) -> Path:
    (tmp_path / "pyproject.toml").write_text(text)
    return tmp_path


def test_nothing_is_set(tmp_path: Path) -> None:
    settings = load_settings(tmp_path, {})
    assert settings.base_image is None
    assert settings.default_base(ImageSpec()) == "docker.io/library/python:3.12-slim"
    assert settings.default_base(ImageSpec(python_version="3.11.7")).endswith("/python:3.11.7-slim")


def test_project_is_found_from_a_folder_below(tmp_path: Path) -> None:
    project(tmp_path, '[tool.imagesmith]\nbuilder = "b"\nbase-image = "r.example/py:{python_version}"\n')
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    settings = load_settings(below, {})
    assert settings.builder_project == "b"
    assert settings.default_base(ImageSpec(python_version="3.13")) == "r.example/py:3.13"
    assert settings.file == tmp_path / "pyproject.toml"


def test_a_nearer_project_without_the_table_is_passed_over(tmp_path: Path) -> None:
    project(tmp_path, '[tool.imagesmith]\nbuilder = "b"\n')
    below = tmp_path / "inner"
    below.mkdir()
    project(below, "[project]\nname = 'x'\n")
    assert load_settings(below, {}).builder_project == "b"


def test_environment_wins(tmp_path: Path) -> None:
    text = (
        '[tool.imagesmith]\nbase-image = "a/b:1"\n'
        '[tool.imagesmith.envd]\naddress = "tcp://one:1"\nother-one = 3\n'
    )
    project(tmp_path, text)
    env = {
        "IMAGESMITH_BASE_IMAGE": "c/d:2",
        "IMAGESMITH_ENVD_ADDRESS": "tcp://two:2",
        "IMAGESMITH_BUILDER": "x",
    }
    settings = load_settings(tmp_path, env)
    assert settings.base_image == "c/d:2"
    assert settings.builder_env == "x"
    assert settings.options["envd"] == {"address": "tcp://two:2", "other_one": 3}


def test_own_variables_are_no_builder_options(tmp_path: Path) -> None:
    env = {"IMAGESMITH_ID": "x", "IMAGESMITH_CACHE_DIR": "/c", "IMAGESMITH_BLOCKED_BUILDERS": "a, b"}
    settings = load_settings(tmp_path, env)
    assert dict(settings.options) == {}
    assert settings.blocked == ("a", "b")
    assert settings.cache_dir() == Path("/c")


def test_a_typo_names_the_setting(tmp_path: Path) -> None:
    project(tmp_path, '[tool.imagesmith]\nbase_image = "a"\n')
    with pytest.raises(UsageError, match="no setting 'base_image'") as caught:
        load_settings(tmp_path, {})
    assert "did you mean 'base-image'?" in str(caught.value)


@pytest.mark.parametrize("text", ["[tool.imagesmith]\nbuilder = 3\n", "[tool.imagesmith\n"])
def test_what_is_no_setting_is_refused_with_the_file(tmp_path: Path, text: str) -> None:
    project(tmp_path, text)
    with pytest.raises(UsageError, match=r"pyproject\.toml"):
        load_settings(tmp_path, {})
