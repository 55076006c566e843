"""Finished in a real engine: the configuration says what was asked for, and so does a running container."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from imagesmith import BaseImage, Contribution, ImageSpec
from imagesmith.finish import finish
from imagesmith.stores import StoredImage
from tests.live.engines import KINDS, Engine, open_engine
from tests.rig.state import Rig

pytestmark = pytest.mark.live

NASTY = {
    "CHANGED": "the spec's",
    "SPACES": "  two  spaces  ",
    "QUOTES": "\"double\" 'single' `back`",
    "LINES": "one\ntwo\r\n\tthree\n",
    "DOLLAR": "$HOME ${HOME} $(id) $$",
    "BACKSLASH": "a\\b\\n\\",
    "EMOJI": "smörgås 😀",
    "EMPTY": "",
    "EQUALS": "a=b=c",
    "LONG": "x" * 5000,
    "PATH": "/opt/mine/bin:$PATH",
    "LANG": "de_DE.UTF-8",
}
BUILDER = "maker 1.2.3"
DUMP = (
    "import json, os, sys; "
    "print(json.dumps({'env': dict(os.environ), 'argv': sys.argv, 'cwd': os.getcwd(), 'uid': os.getuid()}))"
)


@pytest.fixture(scope="module", params=KINDS)
def engine(request: pytest.FixtureRequest, rig: Rig) -> Iterator[Engine]:
    with open_engine(rig, request.param) as opened:
        yield opened


@pytest.fixture(scope="module")
def base(engine: Engine, rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> BaseImage:
    name = engine.image(
        tmp_path_factory.mktemp("base"),
        f"FROM {rig.images.python311}\n"
        "ENV CHANGED=base KEPT=base\n"
        "LABEL of.base=yes io.imagesmith.id=older\n"
        "ONBUILD RUN false\n"
        "EXPOSE 80\n"
        'CMD ["python3", "-c", "print(1)"]\n',
    )
    image = engine.store.read(name)
    assert image is not None
    return BaseImage(name, image.digest, image.config, local=True)


@pytest.fixture(scope="module")
def built(engine: Engine, rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Files as they should be, on the same layers as the base, and all else as no one asked for."""
    return engine.image(
        tmp_path_factory.mktemp("built"),
        f"FROM {rig.images.python311}\n"
        "ENV CHANGED=builder LEFT=hunter2 LANG=C\n"
        "LABEL graph=hunter2\n"
        "RUN mkdir -p /workspace && echo hunter2 > /dev/null\n"
        'ENTRYPOINT ["/bin/horust"]\n'
        'CMD ["horust"]\n'
        "WORKDIR /tmp\n"
        "USER daemon\n",
    )


def finished(engine: Engine, built: str, base: BaseImage, spec: ImageSpec) -> tuple[str, StoredImage]:
    image = finish(
        engine.store,
        built,
        base=base,
        spec=spec,
        contribution=Contribution(path=("/opt/venv/bin",), env={"BY_BUILDER": "1", "CHANGED": "builder's"}),
        tag="t1",
        builder=BUILDER,
        version="0.1.0",
        platform="linux/amd64",
    )
    engine.keep_track(image.digest)
    name = engine.name()
    engine.store.publish(image.digest, name)
    return name, image


def config_of(engine: Engine, ref: str) -> Mapping[str, object]:
    config = engine.inspect(ref)["Config"]
    assert isinstance(config, Mapping)
    return config


def test_every_value_arrives_in_the_configuration_and_in_the_container(
    engine: Engine, base: BaseImage, built: str
) -> None:
    spec = ImageSpec(
        "app", env=NASTY, entrypoint=["python3", "-c", DUMP, "a b", "$HOME"], labels={"mine": "a\n'b'"}
    )
    name, image = finished(engine, built, base, spec)

    path = "/opt/mine/bin:/opt/venv/bin:/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
    env = {
        "KEPT": "base",
        "BY_BUILDER": "1",
        **NASTY,
        "PATH": path,
        "PYTHON_VERSION": dict(pair.split("=", 1) for pair in base.config["config"]["Env"])["PYTHON_VERSION"],  # type: ignore[index]
        "PYTHONPATH": "/workspace:/opt/imagesmith",
        "IMAGESMITH_ID": spec.id,
    }
    config = config_of(engine, name)
    assert dict(pair.split("=", 1) for pair in config["Env"]) == env  # type: ignore[attr-defined]
    assert config["Entrypoint"] == list(spec.entrypoint or ())
    assert not config["Cmd"]
    assert (config["WorkingDir"], config.get("User") or "") == ("/workspace", "")
    assert config["ExposedPorts"] == {"80/tcp": {}}
    assert not config.get("OnBuild")
    labels = config["Labels"]
    assert isinstance(labels, dict)
    assert labels.pop("io.imagesmith.spec")
    assert labels == {
        "of.base": "yes",
        "mine": "a\n'b'",
        "io.imagesmith.id": spec.id,
        "io.imagesmith.tag": "t1",
        "io.imagesmith.builder": BUILDER,
        "io.imagesmith.version": "0.1.0",
        "org.opencontainers.image.base.name": base.reference,
    }

    inside = json.loads(engine.docker("run", "--rm", name))
    assert inside["argv"] == ["-c", "a b", "$HOME"]
    assert (inside["cwd"], inside["uid"]) == ("/workspace", 0)
    assert env.items() <= inside["env"].items()
    assert "LEFT" not in inside["env"]
    overridden = json.loads(engine.docker("run", "--rm", "--entrypoint", "python3", name, "-c", DUMP))
    assert env.items() <= overridden["env"].items()

    history = engine.docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", name).splitlines()
    assert history[0] == f"imagesmith: {BUILDER}"
    whole = engine.docker("image", "inspect", name) + "\n".join(history)
    assert "hunter2" not in whole
    assert image.config["rootfs"] == (engine.store.read(built) or pytest.fail("gone")).config["rootfs"]


def test_an_empty_entrypoint_clears_the_command_as_well(engine: Engine, base: BaseImage, built: str) -> None:
    name, _ = finished(engine, built, base, ImageSpec(entrypoint=[]))
    config = config_of(engine, name)
    assert not config["Entrypoint"]
    assert not config["Cmd"]
    assert engine.docker("run", "--rm", name, "echo", "as told") == "as told\n"


def test_no_entrypoint_keeps_what_the_base_runs(engine: Engine, base: BaseImage, built: str) -> None:
    name, _ = finished(engine, built, base, ImageSpec())
    assert engine.docker("run", "--rm", name) == "1\n"


def test_user_and_work_directory(engine: Engine, base: BaseImage, built: str) -> None:
    name, _ = finished(
        engine, built, base, ImageSpec(user="65534:0", workdir="/var", entrypoint=["python3", "-c", DUMP])
    )
    inside = json.loads(engine.docker("run", "--rm", name))
    assert (inside["cwd"], inside["uid"]) == ("/var", 65534)
    assert inside["env"]["PYTHONPATH"] == "/var:/opt/imagesmith"


def test_finishing_again_changes_nothing(engine: Engine, base: BaseImage, built: str) -> None:
    spec = ImageSpec("app", env=NASTY)
    _, first = finished(engine, built, base, spec)
    name, again = finished(engine, built, base, spec)
    assert first == again
    _, kept = finished(engine, name, base, spec)
    assert kept == first


def test_both_engines_are_told_the_same(rig: Rig, tmp_path: Path) -> None:
    """One base from the registry: the documents differ in nothing but the layer that was built."""
    documents = []
    for kind in KINDS:
        with open_engine(rig, kind) as engine:
            made = engine.image(tmp_path, f"FROM {rig.images.python311}\nENV LEFT=hunter2\n")
            image = engine.store.read(made)
            assert image is not None
            base = BaseImage("base", None, {**image.config, "created": "2001-02-03T04:05:06Z"})
            _, written = finished(engine, made, base, ImageSpec("app", env=NASTY))
            documents.append({key: written.config[key] for key in ("architecture", "os", "config", "rootfs")})
    assert documents[0] == documents[1]
