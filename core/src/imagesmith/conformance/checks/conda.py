"""conda packages, from a channel that the suite makes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from imagesmith.builder import CondaTree, Feature
from imagesmith.conformance._catalogue import Tier, check
from imagesmith.conformance.channel import TOOL
from imagesmith.conformance.images import conda

if TYPE_CHECKING:
    from imagesmith.conformance.subject import Subject

F = Feature
_BIN = f"{CondaTree.PREFIX}/bin"
_LOOK = f"""
import json, os, sys
found = {{}}
for top, folders, files in os.walk({CondaTree.PREFIX!r}):
    for name in folders + files:
        path = os.path.join(top, name)
        info = os.lstat(path)
        link = os.readlink(path) if os.path.islink(path) else oct(info.st_mode & 0o7777)
        found[os.path.relpath(path, {CondaTree.PREFIX!r})] = [link, info.st_uid, info.st_gid]
json.dump(found, sys.stdout)
"""


@check("conda.path", Tier.LIVE, F.CONDA_PACKAGES)
def first(subject: Subject) -> None:
    """The environment at /opt/conda stands first on PATH, and its python is the image's."""
    image = conda(subject)
    assert image.env["PATH"].split(":")[0] == _BIN, f"PATH is {image.env['PATH']!r}"
    out = image.run(["-c", "command -v python"], entrypoint=["sh"]).strip()
    assert out == f"{_BIN}/python", f"python is {out!r}"


@check("conda.installed", Tier.LIVE, F.CONDA_PACKAGES)
def installed(subject: Subject) -> None:
    """The packages that were asked for are there, and work for any user at the place they know."""
    image = conda(subject)
    for options in ({"user": "0"}, {"user": "12345:12345", "read_only": True}):
        out = image.run([], entrypoint=[TOOL], **options)
        assert out == f"{TOOL} 1.0 at {CondaTree.PREFIX}\n", f"as {options}: {out!r}"


@check("conda.files", Tier.LIVE, F.CONDA_PACKAGES)
def files(subject: Subject) -> None:
    """The files of the environment are root's, with their links, modes and odd names."""
    found = json.loads(conda(subject).run(["-c", _LOOK], entrypoint=["python"]))
    want = {
        f"bin/{TOOL}": "0o755",
        f"bin/{TOOL}-link": TOOL,
        "share/conformance/two words/$x.txt": "0o644",
        "share/conformance/two words": "0o755",
    }
    for path, kind in want.items():
        assert path in found, f"{path!r} is not there"
        assert found[path][0] == kind, f"{path!r} is {found[path][0]}, not {kind}"
    foreign = sorted(path for path, entry in found.items() if entry[1:] != [0, 0])
    assert not foreign, f"not root's: {', '.join(foreign[:5])}"


@check("conda.commands", Tier.LIVE, F.CONDA_PACKAGES, F.COMMANDS)
def commands(subject: Subject) -> None:
    """Commands find the environment's programs, before all others."""
    said = conda(subject).text("said").splitlines()
    assert said == [f"{TOOL} 1.0 at {CondaTree.PREFIX}", f"{_BIN}/python"], f"they find {said}"


@check("conda.result", Tier.LIVE, F.CONDA_PACKAGES)
def told(subject: Subject) -> None:
    """The result tells the exact packages, each with its hash."""
    packages = {each.name: each for each in conda(subject).result.conda}
    assert packages.keys() >= {TOOL, "python"}, f"it tells of {', '.join(packages)}"
    assert packages[TOOL].version == "1.0", f"it tells of {TOOL} {packages[TOOL].version}"
    unknown = [each.name for each in packages.values() if len(each.sha256) != 64]
    assert not unknown, f"no hash of {', '.join(unknown)}"
