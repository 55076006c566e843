"""``imagesmith rebase``: what is asked of the core, and what is answered."""

from __future__ import annotations

import json
from typing import Any

import pytest

from imagesmith import rebasing
from imagesmith.errors import BuilderError
from imagesmith.rebasing import RebaseResult
from tests.cli.conftest import Run

DIGEST = "sha256:" + "1" * 64


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    found: dict[str, Any] = {}

    def rebase(image: str, **options: Any) -> RebaseResult:
        found.update(options, image=image)
        if image.endswith(":other"):
            raise BuilderError("cannot", builder="x", hint="build it again")
        return RebaseResult(
            options["output"] or image, DIGEST, "base:1@sha256:2", ("linux/amd64",), True, 0.5
        )

    monkeypatch.setattr(rebasing, "rebase", rebase)
    return found


def test_the_answer_names_the_digest(run: Run, asked: dict[str, Any]) -> None:
    done = run("rebase", "r.example/app:1")
    assert (done.code, done.out) == (0, f"r.example/app:1@{DIGEST}\n")
    assert "rebased on base:1@sha256:2" in done.err
    assert asked["image"] == "r.example/app:1"
    assert (asked["run_image"], asked["output"], asked["force"]) == (None, None, False)


def test_options_reach_the_core(run: Run, asked: dict[str, Any]) -> None:
    argv = ["--run-image", "b:2", "--output", "r.example/app:2", "--force", "--registry-config", "c.json"]
    done = run("rebase", "r.example/app:1", *argv, "--json")
    assert json.loads(done.out) == {
        "reference": "r.example/app:2",
        "digest": DIGEST,
        "base": "base:1@sha256:2",
        "platforms": ["linux/amd64"],
        "changed": True,
        "seconds": 0.5,
    }
    assert (asked["run_image"], asked["force"], asked["registry_config"]) == ("b:2", True, "c.json")


def test_a_spec_means_its_image(run: Run, asked: dict[str, Any]) -> None:
    done = run("rebase", "app.py:image")
    assert done.code == 0
    assert asked["image"].startswith("app:")


def test_a_refusal_is_an_error_with_a_hint(run: Run, asked: dict[str, Any]) -> None:
    done = run("rebase", "r.example/app:other")
    assert (done.code, done.out) == (1, "")
    assert "build it again" in done.err
