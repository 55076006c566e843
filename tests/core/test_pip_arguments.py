"""What an installer is told: what can be seen, and what is a secret."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagesmith import (
    ImageSpec,
    Secret,
    SourceError,
    UsageError,
    install_arguments,
    install_environment,
    redactions,
    sources,
)
from imagesmith._urls import credentials, strip_credentials
from imagesmith.builder import BaseImage, BuildRequest, Contribution
from imagesmith.pip_arguments import pip_conf
from imagesmith.testing import request_for

LOGIN = "https://u:hunter2@"
OPTIONS = ("--index-url", "-i", "--extra-index-url", "--find-links", "-f")


def with_base(spec: ImageSpec, *variables: str) -> BuildRequest:
    base = BaseImage("base.example/python:3.11", config={"config": {"Env": list(variables)}})
    return request_for(spec, base=base)


def test_what_can_be_seen_is_told_in_order() -> None:
    spec = ImageSpec(
        pip_index="https://h/simple", pip_extra_index_url=["https://b/", "https://a/"],
        pip_extra_args=["--pre", "-i", "https://x/", "--find-links=/a b"],
    )  # fmt: skip
    assert install_arguments(request_for(spec)) == (
        "--index-url", "https://h/simple", "--extra-index-url", "https://b/", "--extra-index-url", "https://a/",
        "--pre", "--index-url", "https://x/", "--find-links", "/a b",
    )  # fmt: skip
    assert pip_conf(spec) is None


def test_indexes_with_a_login_stand_in_the_secret_file(tmp_path: Path) -> None:
    spec = ImageSpec(
        packages=["six"], root=tmp_path, pip_index="https://h/simple",
        pip_extra_index_url=["https://u:p%40@b/", "https://a/"],
    )  # fmt: skip
    assert install_arguments(request_for(spec)) == ("--index-url", "https://h/simple")
    conf = "[global]\nextra-index-url =\n    https://u:p%40@b/\n    https://a/\n"
    assert sources.listed(spec).secrets["pip.conf"].reveal().decode() == conf


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("joined", [True, False])
def test_a_login_in_an_argument_is_a_secret_too(option: str, *, joined: bool) -> None:
    url = f"{LOGIN}h/simple"
    told = [f"{option}={url}"] if joined else [option, url]
    spec = ImageSpec(packages=["six"], pip_extra_args=["--pre", *told, "--no-deps"])
    assert install_arguments(request_for(spec)) == ("--pre", "--no-deps")
    assert url in (pip_conf(spec) or "")


def test_the_last_index_wins() -> None:
    spec = ImageSpec(pip_index=f"{LOGIN}a/", pip_extra_args=["-i", "https://b/"])
    assert install_arguments(request_for(spec)) == ()
    assert pip_conf(spec) == "[global]\nindex-url = https://b/\n"


@pytest.mark.parametrize(
    "words", [["--proxy", f"{LOGIN}p:3128"], [f"--index={LOGIN}h/"], [f"x @ {LOGIN}h/x.whl"]]
)
def test_a_login_that_has_no_place_is_refused(words: list[str]) -> None:
    with pytest.raises(UsageError, match="pip_extra_args") as raised:
        install_arguments(request_for(ImageSpec(packages=["six"], pip_extra_args=words)))
    assert "hunter2" not in f"{raised.value}{raised.value.hint}"


@given(
    words=st.lists(
        st.sampled_from([*OPTIONS, f"{LOGIN}h/", f"--extra-index-url={LOGIN}h/", "https://h/", "--pre"])
    )
)
def test_no_login_is_ever_among_the_arguments(words: list[str]) -> None:
    try:
        told = install_arguments(request_for(ImageSpec(packages=["six"], pip_extra_args=words)))
    except (SourceError, UsageError):
        return
    assert "hunter2" not in repr(told)


def test_variables_do_not_win_over_the_secret_file() -> None:
    spec = ImageSpec(
        packages=["six"], pip_index=f"{LOGIN}h/simple", build_env={"PIP_EXTRA_INDEX_URL": "https://told/"}
    )
    request = with_base(spec, "PIP_INDEX_URL=https://base/", "PIP_TIMEOUT=7")
    seen = install_environment(request, Contribution())
    assert seen["PIP_INDEX_URL"] == ""
    assert seen["PIP_EXTRA_INDEX_URL"] == "https://told/"
    assert "PIP_TIMEOUT" not in seen
    assert "PIP_INDEX_URL" not in install_environment(with_base(spec), Contribution())
    plain = spec.replace(pip_index="https://h/simple")
    assert "PIP_INDEX_URL" not in install_environment(
        with_base(plain, "PIP_INDEX_URL=https://base/"), Contribution()
    )


def test_what_adds_up_is_taken_from_variables_into_the_secret_file() -> None:
    spec = ImageSpec(
        packages=["six"], pip_extra_index_url=[f"{LOGIN}h/simple"],
        build_env={"PIP_EXTRA_INDEX_URL": "https://told/ $PIP_EXTRA_INDEX_URL"},
    )  # fmt: skip
    request = with_base(spec, "PIP_EXTRA_INDEX_URL=https://base/")
    assert install_environment(request, Contribution())["PIP_EXTRA_INDEX_URL"] == ""
    assert request.secrets["pip.conf"].reveal().decode() == (
        f"[global]\nextra-index-url =\n    https://told/\n    https://base/\n    {LOGIN}h/simple\n"
    )


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("https://user:pass%40word@h/simple", {"pass%40word", "pass@word"}),
        ("https://token-of-mine@h/simple", {"token-of-mine"}),
        ("git+ssh://git@h/x git+ssh://git:secret@h/x", {"secret"}),
        ("machine h login user password hunter2", {"hunter2"}),
        ("machine h\n  login user\n  password hunter2\n", {"hunter2"}),
        ("https://h/t/tk-123/channel https://h/x?token=abc&x=1", {"tk-123", "abc"}),
        ("https://h/simple and user@host", set()),
    ],
)
def test_credentials_by_themselves(text: str, found: set[str]) -> None:
    assert set(credentials(text)) == found


@given(text=st.text(alphabet="https:/@u.?=tokn &", max_size=30))
def test_text_without_credentials_has_none(text: str) -> None:
    assert credentials(strip_credentials(text)) == ()


def test_redacted_are_logins_in_secrets_too() -> None:
    spec = ImageSpec(env={"A": "value-of-env"}, build_env={"B": "value-of-build", "C": "short"})
    request = request_for(spec, secrets={"pip.conf": Secret(f"[global]\nindex-url = {LOGIN}h/".encode())})
    assert {"value-of-env", "value-of-build", "hunter2"} < {*redactions(request)}
    assert "short" not in redactions(request)
