"""Write identity.json: run only when the schema version changes, for every id in the world changes then."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from imagesmith import ImageSpec
from imagesmith.identity import content_tag, spec_id

BASE = "docker.io/library/python:3.12-slim"
DIGESTS = {"source/app.py": "sha256:" + "1" * 64, "requirements/requirements.txt": "sha256:" + "2" * 64}
SPECS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "name": {"name": "team/app"},
    "python": {"python_version": "3.11"},
    "env": {"env": {"B": "two words", "A": "", "C": "'\"$\\\n✓\U0001f600"}},
    "packages": {"packages": ["numpy==1.4.*", "pandas[excel]>=2; python_version < '3.13'"]},
    "credentials": {"packages": ["x @ git+https://user:token@host/x.git"], "pip_index": "https://t@i/simple"},
    "apt": {"apt_packages": ["git", "curl=7.88"]},
    "conda": {"conda_packages": ["samtools=1.19"], "conda_channels": ["bioconda", "https://c/t/tk-1/main"]},
    "commands": {"commands": ["echo 'a' | tee b", "true"]},
    "no entrypoint": {"entrypoint": []},
    "entrypoint": {"entrypoint": ["python", "-m", "app"]},
    "platforms": {"platform": ["linux/arm64", "linux/amd64"]},
    "paths": {"source_root": "src", "requirements": "r/requirements.txt", "copy": ["data", "/abs/model.bin"]},
    "absolute paths": {"source_root": "/home/me/src", "requirements": "/home/me/requirements.txt"},
    "base": {"base_image": "registry.example/python:3.12"},
    "base spec": {"base_image": {"name": "base", "apt_packages": ["git"]}, "packages": ["numpy"]},
    "cuda": {"cuda": "12.4", "cudnn": "9"},
    "location": {"registry": "registry.example/team", "builder": "mine", "registry_config": "c.json"},
    "tag format": {"tag_format": "{spec_hash}-dev"},
    "options": {"builder_options": {"a": [1, True, None, {"b": "c"}], "d": "e"}},
    "the rest": {
        "build_env": {"CC": "gcc"}, "pip_extra_index_url": ["https://a/simple", "https://b/simple"],
        "pip_extra_args": ["--pre"], "labels": {"team": "x"}, "workdir": "/srv/app", "user": "1000:0",
        "pip_secret_mounts": [["f", "/m"]], "root": "/somewhere",
    },
}  # fmt: skip


def spec_of(fields: dict[str, Any]) -> ImageSpec:
    """The spec of plain fields; a base that is a mapping is a spec as well."""
    base = fields.get("base_image")
    return ImageSpec(**{**fields, "base_image": spec_of(base) if isinstance(base, dict) else base})


def vector(fields: dict[str, Any]) -> dict[str, Any]:
    """One golden vector."""
    spec = spec_of(fields)
    base_tag = "a" * 26 if isinstance(spec.base_image, ImageSpec) else None
    tag = content_tag(spec, digests=DIGESTS, default_base=BASE, base_tag=base_tag)
    return {"spec": fields, "id": spec_id(spec), "tag": tag}


if __name__ == "__main__":
    vectors = {name: vector(fields) for name, fields in SPECS.items()}
    text = json.dumps(vectors, indent=1, ensure_ascii=True) + "\n"
    Path(__file__).with_name("identity.json").write_text(text, encoding="utf-8")
