"""References: Docker's own examples, the refusals, and the round trip."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagesmith.errors import InvalidReference
from imagesmith.stores.reference import Reference, parse, repository_for

SHA = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("python", "docker.io/library/python"),
        ("python:3.12", "docker.io/library/python:3.12"),
        ("someone/x", "docker.io/someone/x"),
        ("someone/deep/x:1", "docker.io/someone/deep/x:1"),
        ("docker.io/python", "docker.io/library/python"),
        ("index.docker.io/library/python:3", "docker.io/library/python:3"),
        ("localhost/x", "localhost/x"),
        ("localhost:5000/x:1", "localhost:5000/x:1"),
        ("localhost:5000", "docker.io/library/localhost:5000"),
        ("ghcr.io/me/app", "ghcr.io/me/app"),
        ("Registry.Example.com/x", "Registry.Example.com/x"),
        ("127.0.0.1:5000/a/b/c:t", "127.0.0.1:5000/a/b/c:t"),
        ("[::1]:5000/x:1", "[::1]:5000/x:1"),
        (f"python@{SHA}", f"docker.io/library/python@{SHA}"),
        (f"host:1/a:v1@{SHA}", f"host:1/a:v1@{SHA}"),
        ("a__b/c--d.e_f:A_.-z", "docker.io/a__b/c--d.e_f:A_.-z"),
        ("x:" + "t" * 128, "docker.io/library/x:" + "t" * 128),
    ],
)
def test_implicit_parts_are_written_out(text: str, whole: str) -> None:
    assert str(parse(text)) == whole


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is empty"),
        ("/x", "is empty"),
        ("a//b", "is empty"),
        ("host.io/", "is empty"),
        ("Python", "write 'python'"),
        ("ghcr.io/Me/app", "write 'me'"),
        ("<your_registry>/app", "placeholder"),
        ("${REGISTRY}/app", "placeholder"),
        ("x:" + "t" * 129, "129 characters"),
        ("x:", "'' is no tag"),
        ("x:-a", "'-a' is no tag"),
        ("x:1:2", "'1:2' is no tag"),
        ("a/b:1/c", "colon in the middle"),
        ("a/b@sha256:123", "is no digest"),
        ("a@", "is no digest"),
        ("https://ghcr.io/a", "write 'ghcr.io/a'"),
        ("host:port/x", "is no registry host"),
        ("-a.b/x", "is no registry host"),
        ("a b", "is no part of a name"),
        ("a/b___c", "is no part of a name"),
        ("a\n", "is no part of a name"),
        ("x:1\n", "is no tag"),
        ("0123456789abcdef" * 4, "image id"),
        ("a/" * 130 + "b", "longer than 255"),
    ],
)
def test_what_is_no_reference_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(InvalidReference) as caught:
        parse(text)
    assert why in str(caught.value)


def test_parts_and_short_names() -> None:
    assert parse("python:3.12") == Reference("docker.io", "library/python", "3.12")
    assert parse("docker.io/library/python:3.12").familiar == "python:3.12"
    assert parse("docker.io/someone/x").familiar == "someone/x"
    assert parse("ghcr.io/me/app:1").familiar == "ghcr.io/me/app:1"
    for odd in ("docker.io/a.b/c", "docker.io/localhost/c", "docker.io/library/" + "0a" * 32):
        assert parse(odd).familiar.removeprefix("docker.io/") in odd
        assert parse(parse(odd).familiar) == parse(odd)
    assert parse("docker.io/library/a.b").familiar == "a.b"
    assert parse(f"host:5000/a:1@{SHA}").repository_reference == "host:5000/a"


component = st.from_regex(r"[a-z0-9]{1,6}(?:(?:\.|_|__|-{1,3})[a-z0-9]{1,6}){0,2}", fullmatch=True)
host = st.from_regex(
    r"(?:localhost|[a-z]{1,5}\.[a-z]{2,3}|127\.0\.0\.1|\[::1\])(?::[0-9]{1,5})?|[a-z]{1,6}:[0-9]{1,5}",
    fullmatch=True,
)


@settings(max_examples=100)
@given(
    host | st.just("docker.io"),
    st.lists(component, min_size=1, max_size=4).map("/".join),
    st.none() | st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True),
    st.none() | st.from_regex(r"sha256:[0-9a-f]{64}", fullmatch=True),
)
def test_what_is_written_reads_back(registry: str, path: str, tag: str | None, digest: str | None) -> None:
    if registry == "docker.io" and "/" not in path:
        path = f"library/{path}"
    reference = Reference(registry, path, tag, digest)
    assert parse(str(reference)) == reference
    assert parse(reference.familiar) == reference


@pytest.mark.parametrize(
    ("registry", "name", "repository"),
    [
        (None, "imagesmith", "imagesmith"),
        ("", "team/app", "team/app"),
        ("someone", "app", "docker.io/someone/app"),
        ("someone/team", "app", "docker.io/someone/team/app"),
        ("docker.io/someone", "app", "docker.io/someone/app"),
        ("ghcr.io", "app", "ghcr.io/app"),
        ("localhost:30000", "app", "localhost:30000/app"),
        ("localhost", "app", "localhost/app"),
        ("host:5000/with/parts/", "app", "host:5000/with/parts/app"),
        ("1234.dkr.ecr.eu-west-1.amazonaws.com/x", "app", "1234.dkr.ecr.eu-west-1.amazonaws.com/x/app"),
    ],
)
def test_registry_and_name_make_a_repository(registry: str | None, name: str, repository: str) -> None:
    assert repository_for(registry, name) == repository


@pytest.mark.parametrize(
    ("registry", "name", "why"),
    [
        ("ghcr.io/me:latest", "app", "has no tag"),
        (f"ghcr.io/me@{SHA}", "app", "has no tag"),
        ("someone:latest", "app", "is no registry host"),
        ("GHCR.io/Me", "app", "write 'ghcr.io/me'"),
        ("https://ghcr.io/me", "app", "URL scheme"),
        ("<your_registry>", "app", "placeholder"),
        ("ghcr.io", "App", "write 'app'"),
        ("ghcr.io", "app:1", "a name has no tag"),
        (None, "app:1", "a name has no tag"),
    ],
)
def test_what_makes_no_repository_is_refused(registry: str | None, name: str, why: str) -> None:
    with pytest.raises(InvalidReference) as caught:
        repository_for(registry, name)
    assert why in str(caught.value)
