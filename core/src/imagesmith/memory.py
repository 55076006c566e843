"""Which file system a plan led to, remembered on this machine.

A change of env, entrypoint, labels or the like leaves the plan and the staged files as they were: then the
files of the earlier image are right, and only its configuration has to be made anew. Where the core itself
added the files of the work directory, an edit of these needs nothing but another such layer. What is
remembered is asked of the store again before it is used.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from imagesmith._frozen import FrozenMap
from imagesmith.authoring import final_user, pip_conf_shown
from imagesmith.builder import Contribution

if TYPE_CHECKING:
    from pathlib import Path

    from imagesmith.builder import BuildPlan, CondaPackage

__all__ = ["Memory", "Remembered", "files_of"]

_KEEP = 500


@dataclass(frozen=True, slots=True)
class Remembered:
    """An image, and what its builder found that its files need in the configuration."""

    digest: str
    contributed: Contribution
    files: str = ""
    """tells what its work directory was given"""
    layer_apart: bool = False
    """whether that is its last layer, made by the core"""


class Memory:
    """One file per plan in a folder of the cache."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def recall(self, plan: BuildPlan, version: str) -> Remembered | None:
        """An image that this plan would make again, its last layer aside; None when none is known."""
        try:
            told = json.loads(self._file(plan, version).read_text(encoding="utf-8"))
            found = told["contributed"]
            maps = {name: FrozenMap(found[name]) for name in ("env", "labels")}
            contributed = Contribution(tuple(found["path"]), **maps)
            known = Remembered(
                str(told["digest"]), contributed, str(told["files"]), bool(told["layer_apart"])
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return known if known.layer_apart or known.files == files_of(plan) else None

    def remember(
        self, plan: BuildPlan, version: str, digest: str, contributed: Contribution, *, layer_apart: bool
    ) -> None:
        """This image has the files that the plan makes, and perhaps a last layer that the core made."""
        self._folder.mkdir(parents=True, exist_ok=True)
        known = sorted(self._folder.iterdir(), key=lambda file: file.stat().st_mtime)
        for old in known[:-_KEEP]:
            old.unlink(missing_ok=True)
        file = self._file(plan, version)
        draft = file.with_suffix(".new")
        told = {
            "digest": digest,
            "files": files_of(plan),
            "layer_apart": layer_apart,
            "contributed": {
                "path": contributed.path,
                "env": dict(contributed.env),
                "labels": dict(contributed.labels),
            },
        }
        draft.write_text(json.dumps(told) + "\n", encoding="utf-8")
        draft.replace(file)

    def _file(self, plan: BuildPlan, version: str) -> Path:
        return self._folder / fingerprint(plan, version)


def fingerprint(plan: BuildPlan, version: str) -> str:
    """All that decides the files: builder, place, base, what the plan writes, what was staged."""
    request = plan.request
    place = request.destination
    apart = request.staged.source_digests if plan.files_apart else {}
    known = {
        "builder": [plan.builder, version],
        "place": [type(place).__name__, getattr(place, "repository", "")],
        "base": [request.base.reference, request.base.digest],
        "platform": request.platform,
        "files": dict(plan.files),
        "staged": {name: digest for name, digest in request.staged.digests.items() if name not in apart},
        "apart": plan.files_apart and [request.spec.workdir_or_default, final_user(request)],
        "runtime": _runtime(request.staged.folder),
        "pip.conf": pip_conf_shown(request),
        "conda": [[each.name, each.version, each.build, each.sha256 or each.url] for each in _packages(plan)],
        "path": plan.contributed.path,
        "env": dict(plan.contributed.env),
    }
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:40]


def files_of(plan: BuildPlan) -> str:
    """What stands for the files of the work directory."""
    found = dict(plan.request.staged.source_digests)
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()[:40]


def _packages(plan: BuildPlan) -> tuple[CondaPackage, ...]:
    return plan.request.conda.packages if plan.request.conda else ()


def _runtime(folder: Path | None) -> list[list[str]]:
    """The core's own modules are staged beside the spec's files, and in no digest."""
    files = sorted((folder / "runtime").rglob("*.py")) if folder else []
    return [[file.name, hashlib.sha256(file.read_bytes()).hexdigest()] for file in files]
