from __future__ import annotations

import pytest

from imagesmith import ImageSpec

SPEC = ImageSpec("app", packages=["numpy"])


def test_outside_any_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IMAGESMITH_ID", raising=False)
    assert SPEC.is_container() is False


@pytest.mark.parametrize(
    ("other", "inside"),
    [
        (SPEC, True),
        (SPEC.replace(registry="registry.example", builder="mine", tag_format="{spec_hash}-x"), True),
        (SPEC.replace(name="other"), False),
        (ImageSpec("derived", base_image=SPEC), False),
    ],
)
def test_inside_the_image_of(other: ImageSpec, inside: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGESMITH_ID", other.id)
    assert SPEC.is_container() is inside


def test_an_empty_marker_is_no_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGESMITH_ID", "")
    assert SPEC.is_container() is False


def test_imports_may_fail_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IMAGESMITH_ID", raising=False)
    after = False
    with SPEC.imports():
        import json as really_there

        import no_such_module_here  # noqa: F401

        after = True
    assert really_there.dumps([]) == "[]"
    assert not after
    with SPEC.imports():
        from json import no_such_name  # type: ignore[attr-defined] # noqa: F401


def test_imports_must_work_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGESMITH_ID", SPEC.id)
    with pytest.raises(ModuleNotFoundError, match="no_such_module_here"), SPEC.imports():
        import no_such_module_here  # noqa: F401


def test_other_errors_are_never_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IMAGESMITH_ID", raising=False)
    with pytest.raises(ZeroDivisionError), SPEC.imports():
        1 / 0  # noqa: B018
