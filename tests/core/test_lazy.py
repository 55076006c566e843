"""What importing imagesmith costs: only the standard library, and only the light part of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import imagesmith
from imagesmith.container import RUNTIME_MODULES

PACKAGE = Path(imagesmith.__file__ or "").parent
CODE = """
import json, sys
before = set(sys.modules)
from imagesmith import ImageSpec
spec = ImageSpec("app", packages=["numpy"], env={"A": "1"}, base_image=ImageSpec("base"))
spec.with_commands("true").id
assert spec.is_container() is False
with spec.imports():
    import no_such_module_here
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def loaded() -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", CODE], env={"IMAGESMITH_ID": "x"}, capture_output=True, text=True, check=True
    )
    modules: list[str] = json.loads(done.stdout)
    return modules


def test_a_spec_loads_the_light_part_of_the_standard_library_and_the_runtime_files() -> None:
    modules = loaded()
    own = {name.partition(".")[2] or "__init__" for name in modules if name.startswith("imagesmith")}
    assert {f"{name}.py" for name in own} == set(RUNTIME_MODULES) - {"py.typed"}
    foreign = [name for name in modules if not name.startswith("imagesmith")]
    assert [name for name in foreign if name.partition(".")[0] not in sys.stdlib_module_names] == []
    heavy = (
        "asyncio concurrent difflib importlib.metadata logging pathlib pickle shlex socket subprocess "
        "tempfile tomllib typing urllib.parse"
    )
    assert set(heavy.split()) & set(foreign) == set()


def test_runtime_files_exist() -> None:
    assert [name for name in RUNTIME_MODULES if not (PACKAGE / name).is_file()] == []
    assert list(RUNTIME_MODULES) == sorted(RUNTIME_MODULES)


@pytest.mark.parametrize("name", imagesmith.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(imagesmith, name) is not None


def test_no_module_is_called_what_a_public_name_is() -> None:
    """Once imported, it would stand in the name's place."""
    modules = {path.stem for path in PACKAGE.glob("*.py")} | {
        path.parent.name for path in PACKAGE.glob("*/__init__.py")
    }
    assert modules & set(imagesmith.__all__) == set()


def test_public_names_are_listed_once_and_typed_as_they_are_found() -> None:
    assert len(set(imagesmith.__all__)) == len(imagesmith.__all__)
    assert set(imagesmith.__all__) <= set(dir(imagesmith))
    source = (PACKAGE / "__init__.py").read_text(encoding="utf-8")
    checked = source.partition("if TYPE_CHECKING:")[2].partition("__all__")[0]
    unlisted = [name for name in imagesmith.__all__ if name not in checked.replace(",", " ").split()]
    assert unlisted == ["ImageSpec", "__version__"]


def test_every_error_is_public() -> None:
    from imagesmith import errors

    assert set(errors.__all__) <= set(imagesmith.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'imagesmith' has no attribute 'no_such'"):
        imagesmith.no_such  # noqa: B018
