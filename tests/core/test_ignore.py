"""Ignore rules: gitignore as git itself decides, .dockerignore as Docker documents it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagesmith.errors import SourceError
from imagesmith.ignore import docker_rules, git_rules, load_rules
from imagesmith.walker import Forest

TREE = (
    "a",
    "b.log",
    "a b",
    "build/a",
    "build/keep",
    "build/deep/a",
    "docs/README.md",
    "docs/a.md",
    "docs/build/x.log",
    "docs/build/README.md",
    "src/__pycache__/m.pyc",
    "src/a",
    "src/m.py",
    "src/stray.pyc",
    "src/util/web/foo",
    ".venv/pyvenv.cfg",
    ".venv/lib/six.py",
    ".git/HEAD",
    ".git/refs/main",
    "node_modules/x/index.js",
)


def make(root: Path, names: tuple[str, ...] = TREE) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)


def kept(root: Path) -> set[str]:
    forest = Forest()
    forest.add_tree(str(root), "", forest.rules(str(root)))
    return {entry.target for entry in forest.entries() if entry.kind != "dir"}


def with_rules(root: Path, text: str, file: str = ".imagesmithignore") -> set[str]:
    make(root)
    (root / file).write_text(text)
    return kept(root)


BUILT_IN = {name for name in TREE if not name.startswith((".git/", ".venv/")) and "pyc" not in name}


def test_built_in_rules_apply_without_an_ignore_file(tmp_path: Path) -> None:
    caches = (".mypy_cache/x", ".pytest_cache/x", ".ruff_cache/x", ".tox/x", ".nox/x", ".hypothesis/x")
    make(tmp_path, (*TREE, *caches, "src/.ipynb_checkpoints/x", "any/name/pyvenv.cfg", "any/name/bin/python"))
    assert kept(tmp_path) == BUILT_IN


def test_a_git_file_of_a_worktree_stays_out(tmp_path: Path) -> None:
    make(tmp_path, (".git", "a"))
    assert kept(tmp_path) == {"a"}


@pytest.mark.parametrize("file", [".imagesmithignore", ".dockerignore"])
def test_built_in_rules_can_be_undone(tmp_path: Path, file: str) -> None:
    prefix = "" if file == ".imagesmithignore" else "**/"
    text = f"!.git\n!{prefix}__pycache__\n!{prefix}*.pyc\n!.venv\n"
    assert with_rules(tmp_path, text, file) == set(TREE)


@pytest.mark.parametrize("file", [".imagesmithignore", ".dockerignore"])
def test_the_ignore_files_stay_out(tmp_path: Path, file: str) -> None:
    found = with_rules(tmp_path, "b.log\n", file)
    assert found == BUILT_IN - {"b.log"}
    assert file not in found


def test_own_ignore_file_wins_over_dockers(tmp_path: Path) -> None:
    (tmp_path / ".dockerignore").write_text("a\n")
    assert with_rules(tmp_path, "b.log\n") == BUILT_IN - {"b.log"}


def test_a_byte_order_mark_is_no_part_of_the_first_pattern(tmp_path: Path) -> None:
    (tmp_path / ".imagesmithignore").write_bytes("\ufeffb.log\r\n".encode())
    make(tmp_path)
    assert kept(tmp_path) == BUILT_IN - {"b.log"}


def test_a_whole_class_of_files_can_be_let_in_alone(tmp_path: Path) -> None:
    assert with_rules(tmp_path, "*\n!*/\n!*.md\n") == {"docs/README.md", "docs/a.md", "docs/build/README.md"}


def test_letting_a_folder_in_does_not_let_in_its_caches(tmp_path: Path) -> None:
    assert with_rules(tmp_path, "/*\n!/src\n") == {"src/a", "src/m.py", "src/util/web/foo"}


def test_dockers_exception_does_not_let_in_caches_either(tmp_path: Path) -> None:
    found = with_rules(tmp_path, "*\n!src\n", ".dockerignore")
    assert found == {"src/a", "src/m.py", "src/util/web/foo"}


def test_docker_lets_in_what_lies_in_an_ignored_folder(tmp_path: Path) -> None:
    text = "build\ndocs\n!docs/README.md\n!build/deep\n"
    assert with_rules(tmp_path, text, ".dockerignore") == BUILT_IN - {
        "build/a", "build/keep", "docs/a.md", "docs/build/x.log", "docs/build/README.md",
    }  # fmt: skip


def test_docker_can_undo_a_built_in_rule_for_one_file(tmp_path: Path) -> None:
    assert with_rules(tmp_path, "!.git/HEAD\n", ".dockerignore") == BUILT_IN | {".git/HEAD"}
    (tmp_path / ".dockerignore").write_text("!.git/refs\n")
    assert kept(tmp_path) == BUILT_IN | {".git/refs/main"}


def test_docker_looks_everywhere_for_an_exception_with_a_wildcard(tmp_path: Path) -> None:
    text = "**\n!**/README.md\n"
    assert with_rules(tmp_path, text, ".dockerignore") == {"docs/README.md", "docs/build/README.md"}


def test_a_wildcard_exception_does_not_search_what_is_built_in(tmp_path: Path) -> None:
    assert with_rules(tmp_path, "!**/HEAD\n", ".dockerignore") == BUILT_IN


@pytest.mark.parametrize(
    ("pattern", "path", "ignored"),
    [
        # Docker's documentation
        ("*/temp*", "somedir/temporary.txt", True),
        ("*/temp*", "somedir/temp/x", True),
        ("*/temp*", "temp.txt", False),
        ("*/*/temp*", "somedir/subdir/temporary.txt", True),
        ("*/*/temp*", "somedir/temporary.txt", False),
        ("temp?", "tempa", True),
        ("temp?", "temp", False),
        ("**/*.go", "a/b/c.go", True),
        ("**/*.go", "c.go", True),
        ("/foo/bar", "foo/bar", True),
        ("foo/bar", "foo/bar", True),
        ("foo/bar", "a/foo/bar", False),
        ("*.log", "a.log", True),
        ("*.log", "a/b.log", False),
        ("*.md\n!README.md", "README.md", False),
        ("*.md\n!README*.md\nREADME-secret.md", "README-secret.md", True),
        ("*.md\nREADME-secret.md\n!README*.md", "README-secret.md", False),
        # how patterns are cleaned
        ("docs/", "docs/README.md", True),
        ("./docs", "docs/x", True),
        ("a/../docs", "docs/x", True),
        ("  docs  ", "docs/x", True),
        ("# docs", "docs/x", False),
        (".", "docs", False),
        # the matcher's own table
        ("**", "dir/file", True),
        ("**/", "file", True),
        ("**/**", "dir/file", True),
        ("dir/**", "dir/dir2/file", True),
        ("abc/**", "abc", False),
        ("**/dir", "dir/file", True),
        ("**/dir2/*", "dir/dir2/file", True),
        ("**/dir2/**", "dir/dir2/dir3/file", True),
        ("**file", "dir/dir/file", True),
        ("**file", "dir/a-file", True),
        ("**/file*.txt*", "dir/dir/file.txt", True),
        ("**/**/*.txt2", "dir/dir/file.txt", False),
        ("a**/*.txt", "a/dir/dir/file.txt", True),
        ("a/*.txt", "a/dir/file.txt", False),
        ("a/*.txt**", "a/file.txt", True),
        ("a[b-d]e", "ace", True),
        ("a[b-d]e", "ae", False),
        ("a[^b-d]e", "aze", True),
        ("a[^b-d]e", "ace", False),
        ("a[[]b", "a[b", True),
        (".*", ".foo", True),
        (".*", "foo", False),
        ("abc.def", "abcZdef", False),
        ("**/.foo", "bar.foo", False),
        ("a(b)c/def", "a(b)c/def", True),
        ("a.|)$(}+{bc", "a.|)$(}+{bc", True),
        ("dist/*.whl", "dist/proxy.py-2.4.0rc3.dev36+g08acad9-py3-none-any.whl", True),
        ("a\\*b", "a*b", True),
        ("a\\*b", "ab", False),
        ("[\\]a]", "]", True),
        ("[\\-x]", "-", True),
        ("[x\\-]", "z", False),
        ("a*b?c*x", "abxbbxdbxebxczzx", True),
        ("**\n!util/docker/web", "util/docker/web/foo", False),
        ("**\n!util/docker/web\nutil/docker/web/foo", "util/docker/web/foo", True),
        ("a*", "line\nbreak", False),
        ("line*k", "line\nbreak", True),
        ("a", "a\n", False),
    ],
)
def test_docker_patterns(pattern: str, path: str, ignored: bool) -> None:
    verdict = docker_rules(pattern).judge(path, path.rpartition("/")[2], folder=False)
    assert (verdict.name == "DROP") is ignored


@pytest.mark.parametrize(
    "pattern", ["!", "[", "a[", "[^bc", "[]a]", "[-x]", "[x-]", "[b-a]", "[a-b-c]", "a\\"]
)
def test_malformed_docker_patterns_are_named_with_their_line(pattern: str) -> None:
    with pytest.raises(SourceError, match=r"\.dockerignore:2: .* is no pattern"):
        docker_rules(f"ok\n{pattern}\n")


def test_malformed_git_pattern_is_named_with_its_line() -> None:
    with pytest.raises(SourceError, match=r"\.imagesmithignore:2: '!' is no pattern"):
        git_rules("ok\n!\n")


def test_line_breaks_in_names_do_not_confuse_patterns(tmp_path: Path) -> None:
    names = ("x\ny/a.tmp", "x\ny/b", "c.tmp\n", "d.tmp")
    make(tmp_path, names)
    (tmp_path / ".imagesmithignore").write_text("*.tmp\n")
    assert kept(tmp_path) == {"x\ny/b", "c.tmp\n"}


def test_an_unreadable_ignore_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / ".imagesmithignore").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(SourceError, match=r"\.imagesmithignore: the ignore file cannot be read.*UTF-8"):
        load_rules(str(tmp_path))
    (tmp_path / ".imagesmithignore").unlink()
    (tmp_path / ".imagesmithignore").mkdir()
    with pytest.raises(SourceError, match=r"\.imagesmithignore.*directory"):
        load_rules(str(tmp_path))


def test_an_exception_for_everything_does_not_bring_back_what_is_built_in(tmp_path: Path) -> None:
    only_python = with_rules(tmp_path, "*\n!*/\n!*.py\n")
    assert only_python == {"src/m.py"}
    (tmp_path / ".imagesmithignore").unlink()
    assert with_rules(tmp_path, "**\n!**\n", ".dockerignore") == BUILT_IN


GIT = shutil.which("git")
TELLING = r"""
* */ !*/ /* !/src build build/ !build/ !build/keep build/* docs/** *.md !*.md **/build !docs/build
docs/**/README.md /a !a [ab] [!b]* [[]a #x \#x src/util/** !src/util/web/ node_modules ** !**/foo ?
b.lo[f-h] [
"""
PATTERNS = st.one_of(
    st.sampled_from([*TELLING.split(), "a b", "a\\ b", "a ", ""]),
    st.text("ab*/!.?[]d", min_size=1, max_size=6).filter(lambda text: "**/" not in text[-3:]),
)


@pytest.mark.skipif(GIT is None, reason="compares with git")
@settings(max_examples=60, deadline=None)
@given(patterns=st.lists(PATTERNS, max_size=5))
def test_gitignore_decides_as_git_does(tmp_path_factory: pytest.TempPathFactory, patterns: list[str]) -> None:
    root = _git_tree(tmp_path_factory)
    (root / ".imagesmithignore").write_text("".join(f"{line}\n" for line in patterns))
    argv = [
        "git",
        "-c",
        "core.quotePath=false",
        "ls-files",
        "-z",
        "--others",
        "--exclude-from=.imagesmithignore",
    ]
    listed = subprocess.run(argv, cwd=root, check=True, capture_output=True, text=True).stdout
    expected = {name for name in listed.split("\0") if name} - {".imagesmithignore"}
    try:
        found = kept(root)
    except SourceError:
        return  # a pattern that means nothing, such as "!", which git passes over
    assert found == expected


def _git_tree(factory: pytest.TempPathFactory) -> Path:
    """A repository with the part of the tree that no built-in rule touches."""
    root = factory.getbasetemp() / "git-tree"
    if not root.exists():
        make(root, tuple(sorted(BUILT_IN)))
        env = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}
        subprocess.run(["git", "init", "-q", str(root)], check=True, env=env)
    return root
