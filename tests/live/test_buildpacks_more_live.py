"""The buildpacks builder: conda, apt, buildpacks of one's own, layouts, and an engine of the classic kind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from imagesmith import BuildFailed, FeatureUnsupported, ImageSpec
from imagesmith.rebasing import rebase
from imagesmith.settings import load_settings
from imagesmith.stores.layout import LayoutStore
from tests.live.cnb import RUN, Told, labels, layers, spec_of, stored
from tests.live.conftest import Build, Engine
from tests.rig.state import Cnb, Rig

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def registry(rig: Rig) -> str:
    return f"{rig.registry}/cnb-more-{RUN}"


def test_packages_are_installed_beside_a_conda_environment(
    by_buildpacks: Build,
    own_cnb: Cnb,
    registry: str,
    engine: Engine,
    environment: dict[str, str],
    tmp_path: Path,
) -> None:
    pytest.importorskip("rattler", reason="the extra 'conda' is not installed")
    from tests.live import channel

    greet = channel.module("greet", depends=("python",))
    forge = channel.make(tmp_path, channel.python(), channel.pip(), greet)
    spec = ImageSpec(
        name="conda",
        registry=registry,
        conda_packages=["greet"],
        packages=["six==1.16.0"],
        python_version=channel.RUNNING.rpartition(".")[0],
        commands=["command -v python > which.txt"],
    )
    told = Told()
    result = by_buildpacks(spec, variables={"IMAGESMITH_CONDA_FORGE": f"file://{forge}"}, report=told)
    code = "import greet, six, sys; print(greet.VERSION, six.__version__, sys.prefix)"
    options = ("--entrypoint", "python", "--user", "4321:0", "--read-only")
    assert engine.run(result.reference, "-c", code, options=options) == "1.0 1.16.0 /opt/conda\n"
    said = engine.run(result.reference, "which.txt", options=("--entrypoint", "cat"))
    assert said == "/opt/conda/bin/python\n"
    assert engine.env(result.reference)["PATH"].startswith("/opt/conda/bin:/layers/")
    assert any(each.name == "greet" for each in result.conda)
    settings = load_settings(tmp_path, {**environment, "IMAGESMITH_BUILDPACKS_BUILDER": own_cnb.builder})
    with pytest.raises(BuildFailed, match="conda environment"):
        rebase(result.reference, force=True, settings=settings)


def test_apt_packages_are_there_for_the_build_too_and_survive_a_rebase(
    by_buildpacks: Build, own_cnb: Cnb, registry: str, engine: Engine, environment: dict[str, str], rig: Rig
) -> None:
    assert own_cnb.run is not None
    assert own_cnb.run_next is not None
    moving = f"{registry}/run:moving"
    for image in (own_cnb.run, own_cnb.run_next):
        engine("pull", "--quiet", image)

    def move(image: str) -> None:
        engine("tag", image, moving)
        engine("push", "--quiet", moving)

    move(own_cnb.run)
    spec = spec_of("apt", registry, base_image=moving, apt_packages=["hello"], commands=["hello > hello.txt"])
    result = by_buildpacks(spec)
    before = stored(result.reference, environment)
    move(own_cnb.run_next)
    variables = {**environment, "IMAGESMITH_BUILDPACKS_BUILDER": own_cnb.builder}
    done = rebase(result.reference, settings=load_settings(Path.cwd(), variables))
    assert done.changed
    after = stored(result.reference, environment)
    assert after.digest == done.digest
    assert layers(after)[-1] == layers(before)[-1], "what the commands made is another layer"
    name = "org.opencontainers.image.base.digest"
    assert labels(after)[name] != labels(before)[name]
    script = "cat /etc/run-image hello.txt; hello; python -c 'import six; print(six.__version__)'"
    said = engine.run(result.reference, "-c", script, options=("--entrypoint", "sh"))
    assert said == "2\nHello, world!\nHello, world!\n1.16.0\n"
    for each in (moving, own_cnb.run_next):
        engine("rmi", "--force", each, check=False)


def own_buildpack(folder: Path) -> Path:
    """One that adds a tool, a variable, and says what it sees of the application."""
    (folder / "bin").mkdir(parents=True)
    (folder / "buildpack.toml").write_text(
        'api = "0.10"\n[buildpack]\nid = "own/tool"\nversion = "3"\n[[targets]]\nos = "linux"\n'
    )
    (folder / "bin" / "detect").write_text("#!/bin/sh\n")
    (folder / "bin" / "build").write_text(
        '#!/bin/sh\nset -eu\nmkdir -p "$1/t/bin" "$1/t/env.launch"\nls\n'
        'printf "#!/bin/sh\\necho tool $MINE\\n" > "$1/t/bin/tool"; chmod +x "$1/t/bin/tool"\n'
        "printf 'a b' > \"$1/t/env.launch/TOLD.default\"\n"
        'printf "[types]\\nlaunch = true\\n" > "$1/t.toml"\n'
    )
    for script in ("detect", "build"):
        (folder / "bin" / script).chmod(0o755)
    return folder


def test_a_buildpack_of_ones_own(
    by_buildpacks: Build, own_cnb: Cnb, registry: str, engine: Engine, tmp_path: Path
) -> None:
    own_buildpack(tmp_path / "own")
    (tmp_path / "app.py").write_text("")
    options = {"buildpacks": ["own"], "env": {"MINE": "x y"}}
    spec = spec_of("own", registry, root=str(tmp_path), copy=["app.py"], builder_options=options)
    told = Told()
    result = by_buildpacks(spec, report=told)
    assert "requirements.txt\n" in told.lines
    assert "app.py" not in told.lines
    assert engine.run(result.reference, options=("--entrypoint", "tool")) == "tool x y\n"
    assert engine.env(result.reference)["TOLD"] == "a b"
    # it is not cached: the second time its layer comes from the earlier image, and is known all the same
    again = by_buildpacks(spec)
    assert again.digest == result.digest


def test_a_layout_and_the_engine_get_the_same_image(
    by_buildpacks: Build, own_cnb: Cnb, engine: Engine, tmp_path: Path
) -> None:
    spec = spec_of(f"layout-{RUN}", None)
    written = by_buildpacks(spec, output=tmp_path / "layout")
    store = LayoutStore(tmp_path / "layout")
    image = store.read(written.reference.rpartition(":")[2])
    assert image is not None
    assert image.digest == written.digest
    held: Any = image.manifest
    assert all(store.has_blob(each["digest"]) for each in held["layers"])
    loaded = by_buildpacks(spec)
    told: Any = image.config
    ids = json.loads(engine("image", "inspect", loaded.reference))[0]["RootFS"]["Layers"]
    assert ids == told["rootfs"]["diff_ids"]
    with pytest.raises(FeatureUnsupported) as caught:
        by_buildpacks(spec.replace(commands=["true"]), output=tmp_path / "more")
    assert list(caught.value.fields) == ["commands"]


def test_an_engine_of_the_classic_kind(by_buildpacks: Build, own_cnb: Cnb, rig: Rig) -> None:
    if rig.docker_host_classic is None:
        pytest.skip("no second engine here: the machine's own is used")
    classic = Engine(rig.docker_host_classic)
    variables = {"DOCKER_HOST": rig.docker_host_classic}
    spec = spec_of(f"classic-{RUN}", None, commands=["echo $ASKED > asked"], workdir="/srv/x y")
    result = by_buildpacks(spec, variables=variables)
    try:
        said = classic.run(result.reference, "-c", "cat asked; pwd", options=("--entrypoint", "sh"))
        assert said == "it's $HOME\n/srv/x y\n"
    finally:
        classic("rmi", "--force", result.reference, check=False)
