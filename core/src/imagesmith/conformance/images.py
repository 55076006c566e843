"""The images that many checks look at, each built once."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from imagesmith.base import stated_python
from imagesmith.builder import Feature
from imagesmith.conformance import channel, index, samples
from imagesmith.conformance._catalogue import Skipped
from imagesmith.cuda import cuda_image
from imagesmith.loading import load

if TYPE_CHECKING:
    from pathlib import Path

    from imagesmith.conformance.subject import Subject
    from imagesmith.conformance.workshop import Image, Workshop
    from imagesmith.spec import ImageSpec

__all__ = [
    "COMMANDS", "ENV", "FILES", "IGNORED", "INDEXED", "PACKAGED", "PASSWORD",
    "apt", "changed", "conda", "cuda", "lower", "plain", "private", "rich", "upper",
]  # fmt: skip

ENV = {
    "CONFORMANCE_BACKSLASH": "a\\b\\\\n\\",
    "CONFORMANCE_BOTH": "env",
    "CONFORMANCE_DOLLAR": "$HOME ${HOME} $$ ${HOME:-x}",
    "CONFORMANCE_EMPTY": "",
    "CONFORMANCE_LINES": "one\ntwo\r\n\tthird line\n",
    "CONFORMANCE_QUOTES": 'it\'s "quoted" `id` $(id)',
    "CONFORMANCE_SPACES": "  two  words ",
    "CONFORMANCE_UNICODE": "\U0001f680 é \xa0",
    "PATH": "/workspace/bin:$PATH",
}
BUILD_ENV = {"CONFORMANCE_BUILD": "b  c'd", "CONFORMANCE_BOTH": "build_env"}
COMMANDS = (
    "echo one >> order",
    "echo two >> order",
    "printf '%s' \"$CONFORMANCE_QUOTES\" > 'from command' && cat 'from command' | wc -c > count # a comment",
    "echo 'it'\"'\"'s' | tr s S > tr\nfor each in a b; do\n  echo \"$each\" >> loop\ndone\n",
    "pwd > place; id -u >> place; umask 022",
    "python -c 'import json, os, sys; json.dump(dict(os.environ), sys.stdout)' > env.json",
    "echo three >> order",
)
FILES = {
    "app.py": (
        "import sys\nfrom image import image\nwith image.imports():\n    import conformance_local\n"
        "print(image.is_container(), conformance_local.VERSION, sys.argv[1:])\n"
    ),
    "folder/more.txt": "more\n",
    "with space/file name.txt": "spaces\n",
    "with space/ünï'\"$x.txt": "odd\n",
    "-dash": "dash\n",
    "new\nline": "newline\n",
}
"""Plain files of the rich image's source tree; ``image.py`` and ``bin/tool``, an executable, come to them."""
IGNORED = ("ignored.log", "folder/ignored.log", "__pycache__/x.pyc", ".imagesmithignore", "wheels/x.txt")
PASSWORD = samples.SECRET
_ARGUMENTS = (
    "pip_extra_args=['--no-index', '-c', f'{here}/wheels/constraints.txt', "
    "f'--find-links={here}/wheels/found'], "
)
"""by absolute paths, which are others in the image"""


PACKAGED = (Feature.PACKAGES, Feature.REQUIREMENTS, Feature.PIP_EXTRA_ARGS)
"""what a builder must have to install the packages of the rich image"""
INDEXED = (Feature.PACKAGES, Feature.PIP_INDEX, Feature.PIP_EXTRA_INDEX_URL, Feature.PIP_EXTRA_ARGS)
"""and those of the private one"""


def rich(subject: Subject) -> Image:
    """Nearly every field: sources, copied files, local packages, env, build_env, commands, labels …"""
    workshop = subject.workshop()
    return workshop.once("rich", lambda: workshop.made(_rich(subject, workshop)))  # type: ignore[no-any-return]


def _rich(subject: Subject, workshop: Workshop) -> ImageSpec:
    folder, beside = workshop.path("rich"), workshop.path("beside")
    _write(folder, FILES)
    _write(folder, {name: "*.log\nwheels/\n" if name == ".imagesmithignore" else "no\n" for name in IGNORED})
    _write(folder, {"bin/tool": "#!/bin/sh\necho tool\n"})
    (folder / "bin/tool").chmod(0o700)
    (folder / "app.py").chmod(0o600)
    (folder / "link").symlink_to("app.py")
    (folder / "dangling").symlink_to("/nowhere/at all")
    (folder / "empty").mkdir()
    wheels = {name: samples.wheel(name) for name in ("conformance-local", "conformance-deep")}
    for name, data in wheels.items():
        (folder / "wheels" / samples.wheel_name(name)).write_bytes(data)
    (folder / "wheels/found").mkdir()
    (folder / "wheels/found" / samples.wheel_name("conformance-found")).write_bytes(
        samples.wheel("conformance-found")
    )
    telling = samples.sdist("conformance-probe", nonce=workshop.mark, paths=("/workspace/app.py", "app.py"))
    (folder / "wheels" / "conformance_probe-1.0.tar.gz").write_bytes(telling)
    _write(
        folder,
        {
            "requirements.txt": "# a comment\n-r wheels/more.txt\n./wheels/conformance_probe-1.0.tar.gz\n",
            "wheels/more.txt": (
                f"./{samples.wheel_name('conformance-deep')}\n./{samples.wheel_name('conformance-local')}\n"
                "-c constraints.txt\n"
            ),
            "wheels/constraints.txt": "conformance-deep==1.0\n",
        },
    )
    _write(beside, {"copied/one.txt": "copied\n", "single.txt": "single\n"})
    (beside / "single.txt").chmod(0o755)
    fields: dict[str, object] = {
        "name": workshop.name_of("rich"),
        "python_version": workshop.python,
        "env": ENV,
        "packages": [
            "conformance-local>=1",
            "conformance-absent==9; python_version < '3'",
            'conformance-deep ; os_name=="posix"',
            "conformance-found",
        ],
        "build_env": BUILD_ENV,
        "commands": list(COMMANDS),
        "labels": {"conformance.who": 'it\'s "me" $x'},
        "entrypoint": ["python", "app.py", "a b", "$HOME"],
        "copy": [str(beside / "copied"), str(beside / "single.txt")],
    }
    if registry := workshop.spec("rich").registry:
        fields["registry"] = registry
    packaged = all(subject.has(feature) for feature in PACKAGED)
    for name in {*fields} - {"name", "registry"}:
        feature = Feature(name)
        if not subject.has(feature) or (feature in PACKAGED and not packaged):
            del fields[name]
    files = "source_root=here, " if subject.has(Feature.SOURCE_ROOT) else ""
    files += f"requirements=here / 'requirements.txt', {_ARGUMENTS}" if packaged else ""
    source = (
        "from pathlib import Path\nfrom imagesmith import ImageSpec\nhere = Path(__file__).parent\n"
        f"image = ImageSpec({files}**{fields!r})\n"
    )
    _write(folder, {"image.py": source})
    return load(f"{folder / 'image.py'}:image")


def plain(subject: Subject) -> Image:
    """Nothing but the base."""
    workshop = subject.workshop()
    return workshop.once("plain", lambda: workshop.made(workshop.spec("plain")))  # type: ignore[no-any-return]


def changed(subject: Subject) -> Image:
    """Another user, another work directory with a file in it, no entrypoint."""
    workshop = subject.workshop()

    def make() -> Image:
        folder = workshop.path("changed")
        _write(folder, {"file.txt": "x\n"})
        spec = workshop.spec(
            "changed",
            user="1234",
            workdir="/srv/a b",
            entrypoint=[],
            source_root=folder,
            commands=["id -u > uid"],
        )
        return workshop.made(subject.supported(spec))

    return workshop.once("changed", make)  # type: ignore[no-any-return]


def apt(subject: Subject) -> Image:
    """An apt package, and a package whose build looks for its program."""
    workshop = subject.workshop()

    def make() -> Image:
        folder = workshop.path("apt")
        (folder / "conformance_probe-1.0.tar.gz").write_bytes(
            samples.sdist("conformance-probe", nonce=workshop.mark, program=_apt_package(workshop))
        )
        spec = workshop.spec(
            "apt",
            apt_packages=[_apt_package(workshop)],
            packages=[str(folder / "conformance_probe-1.0.tar.gz")],
            pip_extra_args=["--no-index"],
        )
        return workshop.made(spec)

    return workshop.once("apt", make)  # type: ignore[no-any-return]


def _apt_package(workshop: Workshop) -> str:
    return workshop.env.get("IMAGESMITH_CONFORMANCE_APT") or "hello"


def lower(subject: Subject) -> ImageSpec:
    """The spec that is the base of ``upper``."""
    workshop = subject.workshop()
    spec = workshop.spec(
        "lower",
        env={"CONFORMANCE_X": "lower", "CONFORMANCE_LOWER": "kept"},
        user="1234",
        workdir="/low",
        entrypoint=["python", "-c", "print('of the base')"],
        labels={"conformance.lower": "kept"},
    )
    return subject.supported(spec)


def upper(subject: Subject) -> Image:
    """An image whose base is a spec."""
    workshop = subject.workshop()

    def make() -> Image:
        spec = workshop.spec(
            "upper",
            base_image=lower(subject),
            env={"CONFORMANCE_X": "upper"},
            commands=["echo $CONFORMANCE_X $CONFORMANCE_LOWER > seen; id -u > uid"],
        )
        return workshop.made(subject.supported(spec))

    return workshop.once("upper", make)  # type: ignore[no-any-return]


def private(subject: Subject) -> Image:
    """Packages from indexes with a login and from one without, and a secret file at install."""
    workshop = subject.workshop()
    return workshop.once("private", lambda: _private(subject, workshop))  # type: ignore[no-any-return]


def conda(subject: Subject) -> Image:
    """A package of a channel that the suite makes, in a version that is not the newest, and a command."""
    workshop = subject.workshop()
    return workshop.once("conda", lambda: _conda(subject, workshop))  # type: ignore[no-any-return]


def _conda(subject: Subject, workshop: Workshop) -> Image:
    if importlib.util.find_spec("rattler") is None:
        raise Skipped("the extra imagesmith[conda] is not installed here")
    stated = stated_python(workshop.base)
    if stated is None:
        raise Skipped(f"the base {workshop.base.reference} does not say which python it has")
    made = channel.make(workshop.path("channel") / "conformance", stated)
    spec = workshop.spec(
        "conda",
        conda_packages=[f"{channel.TOOL}=1.0"],
        commands=[f"{channel.TOOL}-link > said; command -v python >> said"],
    )
    variables = {"IMAGESMITH_CONDA_FORGE": f"file://{made}"}
    return workshop.made(subject.supported(spec), variables=variables)


def cuda(subject: Subject) -> Image:
    """What ``cuda`` and ``cudnn`` stand for: the base, under the name that the public image would have."""
    workshop = subject.workshop()
    return workshop.once("cuda", lambda: _cuda(workshop))  # type: ignore[no-any-return]


def _cuda(workshop: Workshop) -> Image:
    if stated_python(workshop.base) is None:
        raise Skipped(f"the base {workshop.base.reference} does not say which python it has")
    repository = f"{workshop.setting('REGISTRY')}/{workshop.name_of('nvidia')}"
    try:
        workshop.engine.copy(workshop.base.pinned, cuda_image("12.4", "9", repository))
    except AssertionError as error:
        raise Skipped(f"no image can be put where the public one would be: {error}") from error
    spec = workshop.spec("cuda", cuda="12.4", cudnn="9")
    return workshop.made(spec, variables={"IMAGESMITH_CUDA_REPOSITORY": repository})


def _private(subject: Subject, workshop: Workshop) -> Image:
    host = workshop.env.get("IMAGESMITH_CONFORMANCE_HOST") or workshop.engine.gateway()
    if host is None:
        raise Skipped("how builds reach this machine is not known: IMAGESMITH_CONFORMANCE_HOST is not set")
    try:
        main = workshop.keep(index.serve(host, ["conformance-private"], f"me:{PASSWORD}"))
        more = workshop.keep(index.serve(host, ["conformance-extra"]))
        named = workshop.keep(index.serve(host, ["conformance-named"], f"me:{PASSWORD}"))
        told = workshop.keep(index.serve(host, ["conformance-told"]))
    except OSError as error:
        raise Skipped(f"builds cannot reach this machine: {host} is not its address ({error})") from error
    folder = workshop.path("private")
    _write(folder, {"token": f"{PASSWORD}-file\n"})
    (folder / "conformance_probe-1.0.tar.gz").write_bytes(
        samples.sdist("conformance-probe", nonce=workshop.mark, secrets=("/run/deep/er/token",))
    )
    spec = workshop.spec(
        "private",
        packages=[
            "conformance-private==1.0", "conformance-extra==1.0", "conformance-named==1.0",
            str(folder / "conformance_probe-1.0.tar.gz"),
        ],
        pip_index=f"http://me:{PASSWORD}@{main}/simple",
        pip_extra_index_url=[f"http://{more}/simple"],
        pip_extra_args=[
            f"--extra-index-url=http://me:{PASSWORD}@{named}/simple",
            *(word for each in (main, more, named, told) for word in ("--trusted-host", each)),
        ],
        pip_secret_mounts=[(folder / "token", "/run/deep/er/token")],
        commands=["ls -R /run > listing"],
    )  # fmt: skip
    if subject.has(Feature.BUILD_ENV):
        spec = spec.with_packages("conformance-told==1.0")
        spec = spec.with_build_env({"PIP_EXTRA_INDEX_URL": f"http://{told}/simple"})
    return workshop.made(subject.supported(spec))


def _write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
