"""``build.envd`` as text: golden files, and read back by an independent Starlark.

``python plugins/envd/tests/test_render.py`` writes the golden files anew.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
import starlark
from hypothesis import given, settings
from hypothesis import strategies as st

from imagesmith import (
    BaseImage,
    BuildRequest,
    CondaPackage,
    CondaTree,
    ImageSpec,
    LocalEngine,
    RegistryRepository,
    Secret,
)
from imagesmith.sources import Staged
from imagesmith_envd.render import build_argv, render

GOLDEN = Path(__file__).parent / "golden"
DIGEST = "sha256:" + "0" * 64
PYTHON = {
    "config": {"Env": ["PATH=/usr/local/bin:/usr/bin:/bin", "PYTHON_VERSION=3.11.2"], "User": "app:app"}
}
DEBIAN: dict[str, Any] = {"config": {}}


def request(
    spec: ImageSpec,
    staged: Staged | None = None,
    config: dict[str, Any] = PYTHON,
    conda: CondaTree | None = None,
) -> BuildRequest:
    staged = staged or Staged(has_runtime=True)
    return BuildRequest(
        spec=spec,
        platform="linux/amd64",
        base=BaseImage("docker.io/library/python:3.11-slim", DIGEST, config),
        destination=LocalEngine("x:staging"),
        staged=staged,
        secrets=staged.secrets,
        conda=conda,
    )


def requirements(*lines: str, **more: Any) -> Staged:
    text = "".join(f"{line}\n" for line in lines)
    return Staged(
        has_requirements=True, has_runtime=True, texts={"requirements/imagesmith.txt": text}, **more
    )


SPEC = ImageSpec(
    name="golden",
    apt_packages=["git", "curl"],
    packages=["numpy", "x[a]>=1; python_version < '3.13'"],
    env={"A": "it's\n$x", "B": ""},
    build_env={"C": "d e'f"},
    commands=["echo 'one' | cat", "false"],
    pip_extra_args=["--no-deps"],
    source_root=".",
    user="1000:1000",
)
TREE = CondaTree(
    specs=("python 3.12.*", "scipy"),
    channels=("https://conda.anaconda.org/conda-forge",),
    packages=tuple(
        CondaPackage(name, version, "0", f"https://conda.anaconda.org/conda-forge/{name}.conda", "0" * 64, 1)
        for name, version in (("python", "3.12.4"), ("scipy", "1.14.0"))
    ),
)
APART = request(
    ImageSpec(source_root=".", user="1000", workdir="/srv/my app"), Staged(has_source=True, has_runtime=True)
)
CONF = b"[global]\nindex-url = https://me:hunter2@private.example/simple\n"
CASES = {
    "apart": APART,
    "copied": APART,
    "nothing": request(ImageSpec()),
    "python": request(SPEC, requirements("numpy", "x[a]>=1; python_version < '3.13'", has_source=True)),
    "conda": request(ImageSpec(conda_packages=["scipy"], packages=["six"]), requirements("six"), conda=TREE),
    "debian": request(ImageSpec(python_version="3.12", packages=["six"]), requirements("six"), DEBIAN),
    "secrets": request(
        ImageSpec(packages=["six"], pip_secret_mounts=[("token", "/root/.secret/token")]),
        requirements("six", secrets={"pip.conf": Secret(CONF), "pip_secret_mounts[0]": Secret(b"hunter2")}),
    ),
}


def shown(name: str) -> str:
    rendered = render(CASES[name], apart=False if name == "copied" else None)
    files = "".join(f"--- {path}\n{text}" for path, text in sorted(rendered.files.items()))
    return rendered.build_envd + files


@pytest.mark.parametrize("name", CASES)
def test_golden(name: str) -> None:
    assert shown(name) == (GOLDEN / f"{name}.txt").read_text()


@pytest.mark.parametrize("name", CASES)
def test_no_secret_is_in_the_text(name: str) -> None:
    assert "hunter2" not in shown(name)


def calls(build_envd: str) -> list[tuple[str, tuple[Any, ...], dict[str, Any]]]:
    """What envd's interpreter would be told, in order."""
    found: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
    module = starlark.Module()
    for name in ("base", "run", "owner"):
        module.add_callable(name, lambda *args, name=name, **kwargs: found.append((name, args, kwargs)))
    text = build_envd.replace("config.owner(", "owner(") + "\nbuild()\n"
    starlark.eval(module, starlark.parse("build.envd", text), starlark.Globals.standard())
    return found


lines = st.text(st.characters(exclude_characters="\0\r\n", exclude_categories=("Cs",)), min_size=1)


@given(
    st.lists(lines, min_size=1, max_size=3),
    st.dictionaries(st.from_regex("[A-Z]{1,4}", fullmatch=True), lines),
)
@settings(max_examples=60)
def test_hostile_texts_arrive_and_run_nowhere(texts: list[str], build_env: dict[str, str]) -> None:
    rendered = render(request(ImageSpec(packages=["six"], build_env=build_env), requirements(*texts)))
    told = calls(rendered.build_envd)
    assert [name for name, _, _ in told] == ["base", "owner", "run", "run", "run"]
    (script,) = told[2][2]["commands"]
    bash = shlex.split(f"bash -c '{script}'")
    assert bash[:2] == ["bash", "-c"]
    assert len(bash) == 3
    words = shlex.split(bash[2], comments=False)
    for text in texts:
        assert "".join(f"{line}\n" for line in texts) in words, text
    for key, value in build_env.items():
        if key != "PATH":
            assert f"{key}={value}" in words


def test_a_large_list_is_not_put_on_a_command_line() -> None:
    staged = requirements(*(f"package-{number:06}" for number in range(5000)))
    rendered = render(request(ImageSpec(packages=["x"]), staged))
    (packages,) = [step for step in rendered.steps if step.key == "packages"]
    assert packages.mounted
    assert len(rendered.build_envd) < 5000


def test_env_decides_nothing_without_commands() -> None:
    one, two = (render(request(ImageSpec(env={"A": value}))) for value in ("1", "2"))
    assert one == two


def test_where_envd_is_told_to_leave_the_image() -> None:
    local = request(ImageSpec())
    remote = BuildRequest(
        local.spec, local.platform, local.base, RegistryRepository("r.example/x"), local.staged
    )
    assert build_argv("envd", Path("/f"), None, local, "n:1")[-2:] == ["--tag", "n:1"]
    output = "type=image,name=r.example/x:imagesmith-staging,push=true"
    assert build_argv("envd", Path("/f"), "tcp://h:1", remote, "n:1")[-2:] == ["--output", output]


if __name__ == "__main__":
    for case in CASES:
        (GOLDEN / f"{case}.txt").write_text(shown(case))
