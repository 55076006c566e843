"""The one-page builder of docs/builder-authors.md builds a real image."""

from __future__ import annotations

from pathlib import Path

import pytest

from imagesmith import BuildFailed, ImageSpec
from imagesmith.plugins import Plugins
from tests.docs.examples import blocks
from tests.live.conftest import Build, Engine, discarded, engine, environment, images_made, make
from tests.rig.state import Rig

__all__ = ["discarded", "engine", "environment", "images_made", "make"]  # fixtures


@pytest.fixture
def plugins() -> Plugins:
    page = next(block for block in blocks("docs/builder-authors.md") if block.file == "tiny.py")
    names: dict[str, object] = {"__name__": "tiny"}
    exec(page.text, names)
    hook = names["imagesmith_builder"]
    assert callable(hook)
    return Plugins(discover=False, entries=[hook()])


@pytest.mark.live
def test_the_one_page_builder_works(
    make: Build, engine: Engine, rig: Rig, plugins: Plugins, tmp_path: Path
) -> None:
    (tmp_path / "app.py").write_text("import six, spec\nprint(spec.image.is_container(), six.__name__)\n")
    code = (
        "from imagesmith import ImageSpec\n"
        f"image = ImageSpec(name='imagesmith-tiny', base_image={rig.images.python311!r}, packages=['six'],\n"
        "    source_root='.', env={'A': \"it's $5\"}, entrypoint=['python', 'app.py'])\n"
    )
    (tmp_path / "spec.py").write_text(code)
    names: dict[str, ImageSpec] = {}
    exec(code, names)
    spec = names["image"].replace(root=tmp_path)
    result = make(spec, builder="tiny", plugins=plugins)
    assert result.builder == "tiny 1.0"
    assert engine.run(result.reference) == "True six\n"
    assert engine.env(result.reference)["A"] == "it's $5"


@pytest.mark.live
def test_its_failure_is_a_build_failure(make: Build, rig: Rig, plugins: Plugins) -> None:
    spec = ImageSpec(base_image=rig.images.python311, packages=["imagesmith-no-such-package"])
    with pytest.raises(BuildFailed, match="No matching distribution"):
        make(spec, builder="tiny", plugins=plugins)
