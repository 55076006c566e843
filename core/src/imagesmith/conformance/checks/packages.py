"""Python and packages."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from imagesmith.builder import Feature
from imagesmith.conformance._catalogue import Tier, check
from imagesmith.conformance.images import INDEXED, PACKAGED, PASSWORD, apt, private, rich

if TYPE_CHECKING:
    from imagesmith.conformance.subject import Subject

F = Feature
_IMPORT = "import conformance_local; print(conformance_local.VERSION)"


@check("python.version", Tier.LIVE, F.PYTHON_VERSION)
def version(subject: Subject) -> None:
    """``python`` on the final PATH is the requested one."""
    have, want = rich(subject).inside["python"], subject.workshop().python
    assert have == ".".join(want.split(".")[:2]), f"python is {have}, the spec asks for {want}"


@check("packages.installed", Tier.LIVE, *PACKAGED)
def installed(subject: Subject) -> None:
    """The packages are installed; one whose marker is false is not."""
    found = rich(subject).inside["packages"]
    assert found.get("conformance-local") == "1.0", f"conformance-local is {found.get('conformance-local')}"
    assert "conformance-found" in found, "a package of a folder that pip_extra_args name is not installed"
    assert "conformance-absent" not in found, "a package whose marker is false is installed"


@check("packages.requirements", Tier.LIVE, *PACKAGED)
def requirements(subject: Subject) -> None:
    """A requirements file is followed: comments, -r, -c, wheels and source distributions by relative path."""
    found = rich(subject).inside["packages"]
    lacking = [name for name in ("conformance-deep", "conformance-probe") if name not in found]
    assert not lacking, f"not installed: {', '.join(lacking)}"


@check("packages.any-user", Tier.LIVE, *PACKAGED)
def any_user(subject: Subject) -> None:
    """Packages are importable by root and by any user, also where nothing can be written."""
    image = rich(subject)
    for options in ({"user": "0"}, {"user": "12345:0", "read_only": True}, {"user": "12345:12345"}):
        out = image.run(["-c", _IMPORT], entrypoint=["python"], **options)
        assert out == "1.0\n", f"as {options}: {out!r}"


@check("packages.before-files", Tier.LIVE, *PACKAGED, F.SOURCE_ROOT)
def before_files(subject: Subject) -> None:
    """Packages are installed before the source arrives, as root: changed sources install nothing anew."""
    seen = rich(subject).install
    there = [path for path, found in seen["files"].items() if found]
    assert not there, f"the install step sees {', '.join(there)}"
    assert seen["uid"] == 0, f"packages are installed as uid {seen['uid']}"


@check("apt.installed", Tier.LIVE, F.APT_PACKAGES, F.PACKAGES, F.PIP_EXTRA_ARGS)
def apt_installed(subject: Subject) -> None:
    """The apt packages are installed, and their lists are not left in the image."""
    image = apt(subject)
    program = image.spec.apt_packages[0]
    out = image.run(["-c", f"command -v {program} && ls -A /var/lib/apt/lists"], entrypoint=["sh"])
    assert program in out, f"there is no program {program}"
    left = [line for line in out.splitlines()[1:] if line not in {"", "partial", "auxfiles", "lock"}]
    assert not left, f"package lists are left in the image: {', '.join(left[:3])}"


@check("apt.before-packages", Tier.LIVE, F.APT_PACKAGES, F.PACKAGES, F.PIP_EXTRA_ARGS)
def apt_first(subject: Subject) -> None:
    """apt packages are there when Python packages are built."""
    image = apt(subject)
    program = image.spec.apt_packages[0]
    assert image.install["program"], f"the install step does not see the program {program}"


@check("index.private", Tier.LIVE, *INDEXED)
def private_index(subject: Subject) -> None:
    """Packages come from the index that is named, with its login and the installer's own arguments."""
    found = private(subject).inside["packages"]
    assert found.get("conformance-private") == "1.0", "the package of the private index is not installed"
    assert found.get("conformance-named") == "1.0", "that of the one in pip_extra_args is not installed"


@check("index.extra", Tier.LIVE, *INDEXED)
def extra_index(subject: Subject) -> None:
    """Packages come from further indexes too."""
    found = private(subject).inside["packages"]
    assert found.get("conformance-extra") == "1.0", "the package of the further index is not installed"


@check("index.variable", Tier.LIVE, *INDEXED, F.BUILD_ENV)
def variable(subject: Subject) -> None:
    """A variable of pip in build_env counts as for pip: an index in it is asked too."""
    found = private(subject).inside["packages"]
    assert found.get("conformance-told") == "1.0", "the package of the index in PIP_EXTRA_INDEX_URL lacks"


@check("secrets.mounted", Tier.LIVE, *INDEXED, F.PIP_SECRET_MOUNTS, F.COMMANDS)
def mounted(subject: Subject) -> None:
    """A secret file is at its place while packages are installed, and gone afterwards, its folder too."""
    image = private(subject)
    want = hashlib.sha256(f"{PASSWORD}-file\n".encode()).hexdigest()
    have = image.install["secrets"]["/run/deep/er/token"]
    assert have == want, (
        "the install step does not see the secret file" if have is None else "it is another file"
    )
    out = image.run(["-c", "cat /workspace/listing; ls -R /run"], entrypoint=["sh"])
    assert "deep" not in out.split(), "the folders made for the secret file are left in the image"
