"""Where a machine gets packages from, and logins that go to their own host only."""

from __future__ import annotations

from pathlib import Path

import pytest

from imagesmith_oci.arguments import UnknownArgumentError, translate
from imagesmith_oci.machine import logins, read_machine, stripped
from imagesmith_oci.options import parse


def home(tmp_path: Path, pip: str = "", uv: str = "", netrc: str = "") -> dict[str, str]:
    for name, text in ((".config/pip/pip.conf", pip), (".config/uv/uv.toml", uv), (".netrc", netrc)):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return {"HOME": str(tmp_path), "PIP_CONFIG_FILE": "/dev/null"} if not pip else {"HOME": str(tmp_path)}


def test_pips_settings_count_where_uv_has_none(tmp_path: Path) -> None:
    pip = "[global]\nindex-url = https://own/simple\nextra-index-url =\n  https://one\n  https://two\n"
    env = home(tmp_path, pip)
    found = read_machine(env)
    assert (found.index, found.extra) == ("https://own/simple", ("https://one", "https://two"))
    found = read_machine({**env, "PIP_INDEX_URL": "https://variable"})
    assert found.index == "https://variable"
    found = read_machine({**env, "UV_DEFAULT_INDEX": "https://uvs"})
    assert (found.index, found.extra) == (None, ())


def test_a_secret_pip_conf_wins(tmp_path: Path) -> None:
    env = {**home(tmp_path), "PIP_INDEX_URL": "https://variable"}
    assert read_machine(env, "[global]\nindex-url = https://secret\n").index == "https://secret"


def test_uvs_settings_decide_a_lock_but_their_credentials_do_not(tmp_path: Path) -> None:
    def basis(uv: str, **env: str) -> str:
        return read_machine({**home(tmp_path, uv=uv), **env}).basis

    one = basis('index-url = "https://me:one@h/simple"\n')
    assert one == basis('index-url = "https://me:two@h/simple"\n')
    assert one != basis('index-url = "https://me:one@other/simple"\n')
    assert "one" not in one
    assert basis("", UV_PRERELEASE="allow") != basis("")


def test_logins_are_found_by_host() -> None:
    netrc = "machine n login u password p\ndefault login d password d\nmachine m\n login x\n"
    found = logins(["--index-url https://me:s%40fe@host:8080/simple", "x https://a@b/"], netrc)
    assert found == {"host:8080": ("me", "s@fe"), "b": ("a", ""), "n": ("u", "p"), "m": ("x", "")}
    assert stripped("a https://me:x@h/y b") == "a https://h/y b"


def test_arguments_that_resolving_knows() -> None:
    found = translate(
        ["--no-deps", "--pre", "-i", "https://i", "--extra-index-url=https://e", "--trusted-host", "h", "-U"]
    )
    assert found.options == ("--no-deps", "--prerelease=allow", "--allow-insecure-host", "h")
    assert (found.index, found.extra, found.trusted, found.upgrade) == (
        "https://i", ("https://e",), ("h",), True,
    )  # fmt: skip
    assert translate(["--require-hashes", "--quiet", "--root-user-action=ignore"]).require_hashes


@pytest.mark.parametrize("word", ["--no-binary=x", "--compile", "--target=/x", "--user", "--x"])
def test_arguments_that_say_how_to_install_are_refused(word: str) -> None:
    with pytest.raises(UnknownArgumentError, match=word.partition("=")[0]):
        translate([word])


def test_an_argument_without_its_value() -> None:
    with pytest.raises(UnknownArgumentError, match="has no value"):
        translate(["--find-links"])


def test_options_of_the_spec_win_over_the_machines() -> None:
    options, problems = parse({"sdists": ["B_b", "a"]}, {"compression": "gzip", "sdists": "x,y"})
    assert not problems
    assert (options.compression, options.sdists) == ("gzip", ("a", "b-b"))


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"compression": "lz4"}, "builder_options['compression']"),
        ({"sdists": 5}, "builder_options['sdists']"),
        ({"compresion": "zstd"}, "builder_options['compresion']"),
    ],
)
def test_options_that_are_none(given: dict[str, object], field: str) -> None:
    _, problems = parse(given, {})
    assert list(problems) == [field]
