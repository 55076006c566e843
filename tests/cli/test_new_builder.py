"""``imagesmith new-builder``: names, folders, and what it says. That what it writes works: tests/docs."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from imagesmith import UsageError, settings, skeleton
from imagesmith.cli import main


def test_it_writes_a_distribution_and_says_what_comes_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["new-builder", "mine"]) == 0
    out, err = capsys.readouterr()
    folder = Path("imagesmith-mine")
    assert sorted(out.split()) == sorted(str(path) for path in folder.rglob("*") if path.is_file())
    assert "pip install -e '.[test]'" in err
    assert "imagesmith conformance mine --tier plan" in err
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["name"] == "imagesmith-mine"
    assert project["entry-points"]["imagesmith"] == {"mine": "imagesmith_mine"}
    assert all("@" not in path.read_text().replace("@pytest", "").replace("@hookimpl", "")
               for path in folder.rglob("*") if path.is_file())  # fmt: skip


def test_what_stands_there_is_not_touched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "there").mkdir()
    assert main(["new-builder", "mine", "--path", str(tmp_path / "there")]) == 2
    assert "is there already; nothing was written" in capsys.readouterr().err
    assert not list((tmp_path / "there").iterdir())
    assert main(["new-builder", "mine", "--path", str(tmp_path / "absent" / "mine")]) == 2
    assert "is no folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("imagesmith-mine", "did you mean 'mine'?"),
        ("imagesmith_mine", "did you mean 'mine'?"),
        ("Mine", "did you mean 'mine'?"),
        ("my-builder", "did you mean 'mybuilder'?"),
        ("my_builder", "did you mean 'mybuilder'?"),
        ("1st", "did you mean 'st'?"),
        ("imagesmith", "imagesmith-NAME"),
        ("", "such as: mine"),
        ("..", "such as: mine"),
        ("é", "such as: mine"),
        ("a" * 41, f"did you mean '{'a' * 40}'?"),
        ("base", "choose another word"),
        ("envd", "choose another name"),
    ],
)
def test_a_name_that_cannot_be_gets_a_reason_and_a_guess(name: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        skeleton.check_name(name, installed=["envd"])
    assert hint in str(caught.value.hint)
    assert f"'{name}'" in caught.value.message


def test_no_name_takes_a_variable_of_imagesmith() -> None:
    for variable in (*settings._OWN, "IMAGESMITH_CONFORMANCE_REGISTRY"):
        word = variable.removeprefix("IMAGESMITH_").partition("_")[0].lower()
        with pytest.raises(UsageError):
            skeleton.check_name(word)
