"""One rich spec, and what a program sees in an image of it, as flat facts that can be compared."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from imagesmith import ImageSpec
from tests.live.conftest import Engine

Facts = dict[str, object]

ENV = {
    "SPACES": "  two  words ",
    "QUOTES": 'it\'s "quoted" `id` $(id)',
    "NEWLINES": "one\ntwo\r\n\tthree\n",
    "DOLLAR": "$HOME ${HOME} $$ ${HOME:-x}",
    "BACKSLASH": "a\\b\\\\n\\",
    "EMOJI": "🚀 é \xa0",
    "EMPTY": "",
    "LONG": "x" * 5000,
    "LANG": "de_DE.UTF-8",
    "PATH": "/srv/app/bin:$PATH",
}
COMMANDS = (
    "printf '%s' \"$QUOTES\" > 'from command'",
    "echo 'it'\"'\"'s' | tr s S > tr.txt; echo \"$BUILD_ONLY\" > build_only.txt",
    "pwd > pwd.txt; id -u > uid.txt; id -g >> uid.txt",
    "python -c 'import humanize, sys; print(humanize.intword(10**6), sys.version_info[:2])' > packages.txt",
    "mkdir made && ln -s ../app.py made/link && touch made/script && chmod 750 made/script",
    "env -0 > environment",
)
DISTRIBUTIONS = ("humanize", "idna", "six", "iniconfig", "tomli")
PROGRAMS = ("python", "python3", "pip", "tool", "hello", "sh")
USUAL = frozenset({"HOSTNAME", "PWD", "SHLVL", "OLDPWD", "_"})  # of a shell or a container, no image's


def project(folder: Path) -> Path:
    """Write the files of the spec."""
    texts = {
        "probe.py": (Path(__file__).parent / "probe.py").read_text(),
        "app.py": (
            "from image import image\nimport json, sys\n"
            "with image.imports():\n    import humanize\n"
            "print(json.dumps([image.is_container(), humanize.intword(1000000), sys.argv[1:]]))\n"
        ),
        "with space/file name.txt": "spaces\n",
        "with space/ünï'\"$x.txt": "odd\n",
        "-dash": "dash\n",
        "new\nline": "newline\n",
        "ignored.log": "no\n",
        "__pycache__/x.pyc": "no\n",
        ".imagesmithignore": "*.log\n",
        "requirements.txt": "# a comment\n-r more/base.txt\nidna>=3  # inline\nsix==1.16.0\n",
        "more/base.txt": "iniconfig\n-c constraints.txt\n",
        "more/constraints.txt": "iniconfig==2.0.0\n",
        "image.py": (
            "from pathlib import Path\nfrom imagesmith import ImageSpec\n"
            "here = Path(__file__).parent\n"
            "image = ImageSpec(name='seen', python_version='3.11', source_root=here, user='1234',\n"
            f"    workdir='/srv/app', env={ENV!r}, commands={COMMANDS!r},\n"
            "    build_env={'BUILD_ONLY': 'b c'}, copy=[here.parent / 'beside'],\n"
            "    packages=['humanize==4.9.0', 'tomli>=2; python_version < \"3.11\"'],\n"
            "    requirements=here / 'requirements.txt', apt_packages=['hello'],\n"
            "    labels={'who': \"it's me\", 'say.what': '$HOME \"quoted\"'},\n"
            "    entrypoint=['python', 'app.py', 'a b', '$HOME'])\n"
        ),
    }
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    for path, mode in ((folder / "bin" / "tool", 0o700), (folder / "secretive", 0o600)):
        path.parent.mkdir(exist_ok=True)
        path.write_text("#!/bin/sh\necho tool\n")
        path.chmod(mode)
    (folder / "link").symlink_to("app.py")
    (folder / "dangling").symlink_to("/nowhere/at all")
    (folder / "empty").mkdir()
    beside = folder.parent / "beside"
    (beside / "deep").mkdir(parents=True)
    (beside / "deep" / "file.txt").write_text("copied\n")
    return folder


def facts(engine: Engine, image: str, spec: ImageSpec) -> Facts:
    """What stands in the configuration, and what programs see; paths are the keys."""
    seen = _flat("python", probe(engine, image, ("--entrypoint", "python"), ("-",)))
    seen |= _flat("configuration", _configuration(engine, image, spec))
    seen["default entrypoint"] = json.loads(engine.run(image))
    where = "; ".join(f"command -v {name} || echo" for name in PROGRAMS)
    found = engine.run(image, "-c", where, options=("--entrypoint", "sh")).splitlines()
    seen |= {f"where.{name}": place for name, place in zip(PROGRAMS, found, strict=True)}
    seen["programs"] = engine.run(
        image, "-c", "hello 2> /dev/null; tool; umask", options=("--entrypoint", "sh")
    )
    shell = ("--entrypoint", "sh"), ("-c", 'exec python - "$@"', "sh")
    cleared = ("--entrypoint", ""), ("python", "-")
    stranger = ("--user", "54321:0", "--entrypoint", "python"), ("-",)
    frozen = ("--read-only", "--entrypoint", "python"), ("-",)
    for name, (options, start) in (
        ("sh -c", shell),
        ("no entrypoint", cleared),
        ("read-only", frozen),
        ("any user", stranger),
    ):
        other = _flat("python", probe(engine, image, options, start))
        for key in sorted(seen.keys() | other.keys()):
            if key.startswith("python.") and seen.get(key) != other.get(key):
                seen[f"{name}: {key}"] = other.get(key)
    return seen


def probe(engine: Engine, image: str, options: Iterable[str], start: Iterable[str]) -> dict[str, Any]:
    """What ``probe.py`` says; ``start`` ends with what makes python read it from stdin."""
    source = (Path(__file__).parent / "probe.py").read_text()
    words = ("run", "--rm", "--interactive", *options, image, *start, "--tree", "--packages", *DISTRIBUTIONS)
    report: dict[str, Any] = json.loads(engine(*words, stdin=source))
    commands = report["tree"].pop("environment", None)  # what the last of the commands wrote
    entries = commands[3].split("\0") if commands else ()
    report["commands"] = dict(entry.split("=", 1) for entry in entries if entry)
    report["env"] = {key: value for key, value in report["env"].items() if key not in USUAL}
    report["commands"] = {key: value for key, value in report["commands"].items() if key not in USUAL}
    return report


def _configuration(engine: Engine, image: str, spec: ImageSpec) -> dict[str, Any]:
    config = engine.config(image)
    ours = ("io.imagesmith.id", "io.imagesmith.tag", "io.imagesmith.spec", *spec.labels)
    return {
        **{
            key: config.get(key) or None
            for key in ("Entrypoint", "Cmd", "WorkingDir", "User", "ExposedPorts")
        },
        **{
            key: config.get(key) or None
            for key in ("Volumes", "Healthcheck", "StopSignal", "OnBuild", "Shell")
        },
        "Labels": {key: config["Labels"].get(key) for key in ours},
        "Env": engine.env(image),
    }


def _flat(name: str, value: object) -> Facts:
    if not isinstance(value, Mapping):
        return {name: value}
    found: Facts = {}
    for key, inner in value.items():
        found |= _flat(f"{name}.{key}", inner)
    return found


def differences(one: Facts, other: Facts) -> dict[str, tuple[object, object]]:
    """Fact -> its two values, where they differ; None: it lacks."""
    both = {key: (one.get(key), other.get(key)) for key in sorted(one.keys() | other.keys())}
    return {key: pair for key, pair in both.items() if pair[0] != pair[1]}
