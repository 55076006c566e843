"""What lands in the work directory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imagesmith.builder import Feature
from imagesmith.conformance._catalogue import Tier, check
from imagesmith.conformance.images import FILES, IGNORED, changed, rich

if TYPE_CHECKING:
    from imagesmith.conformance.subject import Subject

F = Feature
_MADE = frozenset({"order", "from command", "count", "tr", "loop", "place", "env.json"})
"""by commands"""


@check("source.files", Tier.LIVE, F.SOURCE_ROOT)
def files(subject: Subject) -> None:
    """The source tree lands in the work directory: every file, whatever its name, and empty folders."""
    tree = rich(subject).tree
    for path, text in FILES.items():
        assert path in tree, f"{path!r} is not there"
        assert tree[path][1] == text, f"{path!r} holds {tree[path][1]!r}, not {text!r}"
    assert tree.get("empty", [""])[0] == "dir", "the empty folder is not there"


@check("source.ignored", Tier.LIVE, F.SOURCE_ROOT)
def ignored(subject: Subject) -> None:
    """What the ignore rules name stays out, and so does the ignore file; nothing else comes in."""
    tree = rich(subject).tree
    there = [path for path in IGNORED if path in tree]
    assert not there, f"ignored, but in the image: {', '.join(there)}"
    known = {*FILES, "image.py", "bin/tool", "link", "dangling", "empty", "copied/one.txt", "single.txt",
             "requirements.txt", *_MADE}  # fmt: skip
    strange = [
        path for path, entry in tree.items() if path not in known and entry[0] != "dir" and ".pyc" not in path
    ]
    assert not strange, f"nobody put these there: {', '.join(sorted(strange))}"


@check("source.modes", Tier.LIVE, F.SOURCE_ROOT)
def modes(subject: Subject) -> None:
    """Files are 0644, or 0755 where they were executable; folders are 0755; all belong to root."""
    tree = rich(subject).tree
    want = {"app.py": "0o644", "bin/tool": "0o755", "folder": "0o755", "folder/more.txt": "0o644"}
    wrong = [f"{path} is {tree[path][-2]}" for path, mode in want.items() if tree[path][-2] != mode]
    assert not wrong, f"other modes: {', '.join(wrong)}"
    owners = [path for path in want if tree[path][-1] != [0, 0]]
    assert not owners, f"not root's: {', '.join(owners)}"


@check("source.links", Tier.LIVE, F.SOURCE_ROOT)
def links(subject: Subject) -> None:
    """Symbolic links stay what they are, dangling ones too."""
    tree = rich(subject).tree
    for path, target in (("link", "app.py"), ("dangling", "/nowhere/at all")):
        assert tree.get(path) == ["link", target], f"{path} is {tree.get(path)}, not a link to {target!r}"


@check("copy.lands", Tier.LIVE, F.COPY)
def copied(subject: Subject) -> None:
    """Copied files and folders land in the work directory at their last component."""
    tree = rich(subject).tree
    for path, text in (("copied/one.txt", "copied\n"), ("single.txt", "single\n")):
        assert path in tree, f"{path} is not there"
        assert tree[path][1] == text, f"{path} holds {tree[path][1]!r}"
    assert tree["single.txt"][2] == "0o755", f"single.txt lost its execute bit: {tree['single.txt'][2]}"


@check("workdir.default", Tier.LIVE)
def workdir(subject: Subject) -> None:
    """The work directory is /workspace where the spec names none, and programs start there."""
    image = rich(subject)
    for where, have in (
        ("the configuration's", image.config["WorkingDir"]),
        ("a program's", image.inside["cwd"]),
    ):
        assert have == "/workspace", f"{where} work directory is {have!r}"


@check("workdir.writable", Tier.LIVE)
def writable(subject: Subject) -> None:
    """A program may write where it stands, also under any uid of group 0."""
    out = rich(subject).run(["-c", "echo ok > new && cat new"], entrypoint=["sh"], user="12345:0")
    assert out == "ok\n", f"it says {out!r}"


@check("workdir.set", Tier.LIVE, F.WORKDIR, F.SOURCE_ROOT)
def workdir_set(subject: Subject) -> None:
    """Another work directory is made, is where programs start, and holds the files."""
    image = changed(subject)
    assert image.inside["cwd"] == "/srv/a b", f"programs start in {image.inside['cwd']!r}"
    assert "file.txt" in image.tree, "the source files are not there"


@check("workdir.owner", Tier.LIVE, F.WORKDIR, F.USER)
def workdir_owner(subject: Subject) -> None:
    """The work directory belongs to the final user, and its group 0 may write there."""
    mode, uid, gid = changed(subject).inside["workdir"]
    assert (uid, gid) == (1234, 0), f"the work directory belongs to {uid}:{gid}, the user is 1234"
    assert int(mode, 8) & 0o770 == 0o770, f"the work directory's mode is {mode}"


@check("user.set", Tier.LIVE, F.USER)
def user(subject: Subject) -> None:
    """Programs run as the user that is named."""
    have = changed(subject).inside["uid"]
    assert have == 1234, f"programs run as uid {have}"
