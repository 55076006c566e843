"""What a conda environment has already is kept, and not laid out a second time."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from plugins.oci.tests.ocisamples import wheel

from imagesmith import (
    BaseImage,
    BuildFailed,
    BuildRequest,
    ImageSpec,
    LayoutFolder,
    SubprocessRunner,
    sources,
)
from imagesmith_oci.installed import found_in
from imagesmith_oci.machine import Machine
from imagesmith_oci.options import Options
from imagesmith_oci.platforms import Libc
from imagesmith_oci.resolve import Question, question, resolve


def asked(tmp_path: Path, *packages: str) -> Question:
    for name in ("needed", "asking"):
        more = {f"{name}-1.0.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"}
        if name == "asking":
            more = {key: text + "Requires-Dist: needed\n" for key, text in more.items()}
        (tmp_path / f"{name}-1.0-py3-none-any.whl").write_bytes(wheel(name, {f"{name}.py": "", **more}))
    spec = ImageSpec(
        packages=list(packages), pip_extra_args=["--no-index", "--find-links", str(tmp_path)]
    ).replace(root=tmp_path)
    staged = sources.stage(spec, Path(tempfile.mkdtemp(dir=tmp_path)) / "staged")
    base = BaseImage("x", "sha256:0", {})
    request = BuildRequest(spec, "linux/amd64", base, LayoutFolder(tmp_path), staged)
    return question(request, Options(), Machine(), "3.11.2", Libc("glibc", 2, 36))


def lock(tmp_path: Path, what: Question) -> dict[str, str]:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    env = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "UV_CACHE_DIR": str(tmp_path / "uv")}
    found: Any = resolve(what, SubprocessRunner(), env, scratch, lambda _: None, ())
    return {package.name: package.version for package in found.packages}


def conda(tmp_path: Path, version: str) -> Path:
    info = tmp_path / "conda" / "lib" / "python3.11" / "site-packages" / f"needed-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: Needed\nVersion: {version}\n\nText\n")
    return tmp_path / "conda"


def test_all_is_laid_out_where_nothing_is_there(tmp_path: Path) -> None:
    assert lock(tmp_path, asked(tmp_path, "asking")) == {"asking": "1.0", "needed": "1.0"}


def test_what_is_there_is_kept_though_no_index_has_it(tmp_path: Path) -> None:
    found = found_in(conda(tmp_path, "0.7.post1"))
    assert {name: version for name, (version, _) in found.items()} == {"needed": "0.7.post1"}
    what = replace(asked(tmp_path, "asking"), installed=found)
    assert lock(tmp_path, what) == {"asking": "1.0"}
    assert what.key != asked(tmp_path, "asking").key


def test_what_contradicts_it_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    what = replace(asked(tmp_path, "needed==1.0"), installed=found_in(conda(tmp_path, "0.7")))
    with pytest.raises(BuildFailed) as caught:
        lock(tmp_path, what)
    assert "conda_packages" in str(caught.value.hint)
