"""Base images made of Debian packages: root file systems, and python images built on them."""

from __future__ import annotations

import functools
import hashlib
import json
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from . import engine, packages
from .console import RigError, part, run
from .state import cache

BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
KNOWN = Path("/usr/share/ca-certificates")  # what the images' own package brings
PYTHON = ("python3", "python3-pip", "python3-venv")
LEFT_OUT = ("doc", "info", "locale", "man")  # folders of /usr/share, as in the official slim images
DEBIAN_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PYTHON_PATH = "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
# Looks like the official python images: /usr/local/bin first, PYTHON_VERSION, pip not externally managed.
DOCKERFILE = f"""\
ARG BASE
FROM ${{BASE}}
RUN rm -f /usr/lib/python3*/EXTERNALLY-MANAGED && python3 -m venv /usr/local
ARG VERSION
ENV PATH="{PYTHON_PATH}" LANG="C.UTF-8" PYTHON_VERSION="${{VERSION}}"
CMD ["python3"]
"""


@dataclass(frozen=True, slots=True)
class RootFs:
    """One root file system: a name, a Debian release, packages, an architecture ("" = this machine's)."""

    name: str
    suite: str
    include: tuple[str, ...]
    architecture: str = ""

    @property
    def platform(self) -> str:
        """Docker's name of the architecture, "" for this machine's."""
        return f"linux/{self.architecture}" if self.architecture else ""


BOOKWORM = RootFs("bookworm", "bookworm", PYTHON)
TRIXIE = RootFs("trixie", "trixie", PYTHON)
BARE = RootFs("bare", "bookworm", ())
# Emulated, so with as few packages as a python image needs.
BOOKWORM_ARM64 = RootFs("bookworm-arm64", "bookworm", ("python3", "python3-venv"), "arm64")


def key(root: RootFs) -> str:
    """Identify what a root file system and its python image are made from."""
    recipe = [*_debootstrap(root, Path("draft.tar"), Path("added")), DOCKERFILE, json.dumps(_added_files())]
    return hashlib.sha256(json.dumps(recipe).encode()).hexdigest()[:16]


def tar(root: RootFs) -> Path:
    """Return the archive of a root file system, made once per recipe."""
    done = cache() / "bases" / f"{root.name}-{key(root)}.tar"
    if done.exists():
        return done
    done.parent.mkdir(parents=True, exist_ok=True)
    draft = done.with_name(f"draft-{root.name}.tar")
    with part(f"root file system {root.name}"), tempfile.TemporaryDirectory() as temporary:
        added = Path(temporary)
        for name, text in _added_files().items():
            (added / name).parent.mkdir(parents=True, exist_ok=True)
            (added / name).write_text(text, encoding="utf-8")
        added.chmod(0o755)  # becomes the mode of the image's /
        run(_debootstrap(root, draft, added), timeout=1200)
    draft.replace(done)
    for old in done.parent.glob(f"{root.name}-{'?' * 16}.tar"):
        if old != done:
            old.unlink()
    return done


def debian_image(root: RootFs, reference: str, host: str) -> None:
    """Import a root file system into the engine as it stands."""
    changes = [f"ENV PATH={DEBIAN_PATH}", 'CMD ["bash"]']
    argv = ["docker", "import", *(word for change in changes for word in ("--change", change))]
    argv += ["--platform", root.platform] if root.platform else []
    run([*argv, str(tar(root)), reference], env={"DOCKER_HOST": host})


def python_image(root: RootFs, base: str, reference: str, host: str) -> None:
    """Build a python image in the engine, on the imported root file system ``base``."""
    platform = ["--platform", root.platform] if root.platform else []
    question = ["python3", "-c", "import platform; print(platform.python_version())"]
    argv = ["docker", "run", "--rm", "--network=none", *platform, base, *question]
    version = run(argv, env={"DOCKER_HOST": host}).strip()
    engine.build(
        host,
        DOCKERFILE,
        reference,
        [*platform, "--build-arg", f"BASE={base}", "--build-arg", f"VERSION={version}"],
    )


@functools.cache
def authorities() -> tuple[str, ...]:
    """Return the certificates this machine trusts beyond the usual ones, in PEM."""
    usual = {pem for file in KNOWN.rglob("*.crt") for pem in _pems(file)} if KNOWN.is_dir() else set()
    if not usual or not BUNDLE.exists():
        return ()
    return tuple(sorted(set(_pems(BUNDLE)) - usual))


@functools.cache
def pip_configuration() -> str:
    """Return what pip must know to reach this machine's index: the system's bundle, and a named index."""
    argv = ["python3", "-m", "pip", "config", "list"]
    done = subprocess.run(
        argv, capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL
    )
    named = re.findall(
        r"^(?:global|:env:)\.(index-url|extra-index-url|trusted-host)='(.*)'$", done.stdout, re.MULTILINE
    )
    lines = [f"cert = {BUNDLE}"] if authorities() else []
    lines += [f"{option} = {value}" for option, value in dict(named).items()]
    return "\n".join(["[global]", *lines, ""]) if lines else ""


def _debootstrap(root: RootFs, archive: Path, added: Path) -> list[str]:
    """Return the command that makes the archive, with the files in ``added`` laid over it."""
    argv = ["mmdebstrap", "--quiet", "--variant=apt"]
    argv += [f"--include={','.join(('ca-certificates', *root.include))}"]
    argv += [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in LEFT_OUT]
    argv += [f"--architectures={root.architecture}"] if root.architecture else []
    argv += [f"--customize-hook=sync-in {added} /", '--customize-hook=chroot "$1" update-ca-certificates']
    return [*argv, root.suite, str(archive), packages.mirror()]


def _added_files() -> dict[str, str]:
    """Return what images get so that their tools trust what this machine trusts: files, no environment."""
    files = {f"usr/local/share/ca-certificates/host-{n:03}.crt": pem for n, pem in enumerate(authorities())}
    if files:
        files["etc/uv/uv.toml"] = "system-certs = true\n"
    if pip_configuration():
        files["etc/pip.conf"] = pip_configuration()
    return files


def _pems(file: Path) -> list[str]:
    pattern = r"-----BEGIN CERTIFICATE-----\n.*?\n-----END CERTIFICATE-----\n?"
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise RigError(f"cannot read {file}: {error}") from error
    return [block.strip() + "\n" for block in re.findall(pattern, text.replace("\r", ""), re.DOTALL)]
