"""Logins and addresses from configuration files; the docker SDK as the judge of Docker's format."""

from __future__ import annotations

import base64
import json
import os
import stat
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from imagesmith.errors import ImagesmithError, RegistryError, StoreError, UsageError
from imagesmith.stores.credentials import Login, RegistryAccess, load_settings

HUB = "https://index.docker.io/v1/"


def encoded(username: str, password: str) -> str:
    return base64.b64encode(f"{username}:{password}".encode()).decode()


def docker_home(folder: Path, document: object) -> dict[str, str]:
    (folder / "config.json").write_text(document if isinstance(document, str) else json.dumps(document))
    return {"DOCKER_CONFIG": str(folder), "PATH": os.defpath}


def helper(folder: Path, name: str, script: str) -> Path:
    path = folder / f"docker-credential-{name}"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_no_configuration_is_no_login(tmp_path: Path) -> None:
    for env in ({}, {"HOME": str(tmp_path)}, {"DOCKER_CONFIG": str(tmp_path / "absent")}):
        settings = load_settings(env)
        assert settings.login("ghcr.io") is None
        assert settings.access("ghcr.io").login() is None
        assert not settings.access("ghcr.io").use_http


def test_home_and_docker_config(tmp_path: Path) -> None:
    for folder, user in ((tmp_path / ".docker", "home"), (tmp_path / "other", "other")):
        folder.mkdir()
        docker_home(folder, {"auths": {"ghcr.io": {"auth": encoded(user, "p")}}})
    for env, user in (
        ({"HOME": str(tmp_path)}, "home"),
        ({"DOCKER_CONFIG": str(tmp_path / "other")}, "other"),
    ):
        login = load_settings(env).login("ghcr.io")
        assert login is not None
        assert login.username == user


@pytest.mark.parametrize(
    ("auths", "host", "expected"),
    [
        ({"h:5": {"auth": encoded("u", "a:b")}}, "h:5", Login("u", "a:b")),
        ({"https://h:5/v2/": {"auth": encoded("u", "p")}}, "h:5", Login("u", "p")),
        ({HUB: {"auth": encoded("u", "pä")}}, "docker.io", Login("u", "pä")),
        ({"docker.io": {"auth": encoded("u", "p")}}, "docker.io", Login("u", "p")),
        ({"h": {"identitytoken": "t", "auth": encoded("00", "")}}, "h", Login(token="t")),
        ({"h": {"username": "u", "password": "p"}}, "h", Login("u", "p")),
        ({"h": {}}, "h", None),
        ({"h": {"auth": encoded("u", "p")}}, "h:5", None),
        ({"h": {"auth": "!"}, "i": {"auth": encoded("u", "p")}}, "i", Login("u", "p")),
    ],
)
def test_entries(tmp_path: Path, auths: object, host: str, expected: Login | None) -> None:
    login = load_settings(docker_home(tmp_path, {"auths": auths})).login(host)
    if expected is None:
        assert login is None
    else:
        assert login is not None
        assert (login.username, login.password, login.token) == (
            expected.username,
            expected.password,
            expected.token,
        )
        assert str(tmp_path) in login.source


def test_a_login_does_not_show_its_secrets(tmp_path: Path) -> None:
    env = docker_home(
        tmp_path, {"auths": {"h": {"auth": encoded("user", "pass-word")}, "i": {"identitytoken": "tok"}}}
    )
    settings = load_settings(env)
    shown = repr([settings, settings.login("h"), settings.login("i"), settings.access("h")])
    assert "'user'" in shown
    for secret in ("pass-word", "'tok'", encoded("user", "pass-word")):
        assert secret not in shown


@pytest.mark.parametrize(
    ("document", "why"),
    [
        ("{", "is no JSON (line 1)"),
        ("", "is no JSON"),
        ("[]", "is no JSON object"),
        ({"auths": []}, None),
        ({"auths": ["h"]}, "auths is no object"),
        ({"credHelpers": "x"}, "credHelpers is no object"),
        ({"auths": {"h": "x"}}, "auths['h'] is no object"),
        ({"auths": {"h": {"auth": "no base64!"}}}, "is not the base64 of user:password"),
        (
            {"auths": {"h": {"auth": base64.b64encode(b"secret").decode()}}},
            "is not the base64 of user:password",
        ),
        ({"auths": {"h": {"auth": base64.b64encode(b"\xff:\xff").decode()}}}, "is not the base64"),
    ],
)
def test_a_broken_configuration_is_no_empty_one(tmp_path: Path, document: object, why: str | None) -> None:
    env = docker_home(tmp_path, document)
    if why is None:
        assert load_settings(env).login("h") is None
        return
    with pytest.raises(StoreError) as caught:
        load_settings(env).login("h")
    assert why in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert "secret" not in str(caught.value)
    assert caught.value.hint


def test_an_unreadable_configuration(tmp_path: Path) -> None:
    (tmp_path / "config.json").mkdir()
    with pytest.raises(StoreError, match="Is a directory"):
        load_settings({"DOCKER_CONFIG": str(tmp_path)})


# credential helpers

ECHO = """read server
[ "$1" = get ] || exit 9
case "$server" in
  helped:5) echo '{"ServerURL": "x", "Username": "helped", "Secret": "from-helper"}' ;;
  tokened) echo '{"Username": "<token>", "Secret": "a-token"}' ;;
  https://index.docker.io/v1/) echo '{"Username": "hub", "Secret": "s"}' ;;
  emptied) echo '{"Username": "", "Secret": ""}' ;;
  broken) echo 'vault is locked' >&2; exit 3 ;;
  garbled) echo '{"Secret": "only-secret"}' ;;
  *) echo 'credentials not found in native keychain'; exit 1 ;;
esac"""


@pytest.fixture
def helped(tmp_path: Path) -> dict[str, str]:
    tools = tmp_path / "tools"
    tools.mkdir()
    helper(tools, "echo", ECHO)
    auths = {host: {"auth": encoded("file", "p")} for host in ("helped:5", "emptied", "unknown", "elsewhere")}
    helpers = dict.fromkeys(
        ["helped:5", "tokened", HUB, "emptied", "broken", "garbled", "unknown"], "echo"
    ) | {"gone": "missing"}
    env = docker_home(tmp_path, {"auths": auths, "credHelpers": helpers})
    return {**env, "PATH": f"{tools}:{os.defpath}"}


@pytest.mark.parametrize(
    ("host", "username", "token"),
    [
        ("helped:5", "helped", None),
        ("tokened", None, "a-token"),
        ("docker.io", "hub", None),
        ("emptied", "file", None),
        ("unknown", "file", None),
        ("elsewhere", "file", None),
    ],
)
def test_helpers(helped: dict[str, str], host: str, username: str | None, token: str | None) -> None:
    login = load_settings(helped).login(host)
    assert login is not None
    assert (login.username, login.token) == (username, token)


def test_a_store_for_all_hosts(tmp_path: Path) -> None:
    helper(tmp_path, "echo", ECHO)
    env = {**docker_home(tmp_path, {"credsStore": "echo"}), "PATH": f"{tmp_path}:{os.defpath}"}
    settings = load_settings(env)
    login = settings.login("helped:5")
    assert login is not None
    assert (login.username, login.password, login.source) == (
        "helped",
        "from-helper",
        "docker-credential-echo",
    )
    assert settings.login("unknown") is None


@pytest.mark.parametrize(
    ("host", "why"),
    [
        ("gone", "docker-credential-missing is not on PATH"),
        ("broken", "failed (exit 3): vault is locked"),
        ("garbled", "answered without Username and Secret"),
    ],
)
def test_a_helper_that_fails(helped: dict[str, str], host: str, why: str) -> None:
    settings = load_settings(helped)
    access = settings.access(host)  # nothing is started before the login is wanted
    with pytest.raises(RegistryError) as caught:
        access.login()
    assert why in str(caught.value)
    assert caught.value.registry == host
    assert "only-secret" not in str(caught.value)


def test_a_helper_is_not_waited_for_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imagesmith.stores.credentials._HELPER_SECONDS", 0.1)
    helper(tmp_path, "sleepy", "exec sleep 5")
    env = {**docker_home(tmp_path, {"credsStore": "sleepy"}), "PATH": f"{tmp_path}:{os.defpath}"}
    with pytest.raises(RegistryError, match="gave no answer"):
        load_settings(env).login("h")


def test_a_helper_that_does_not_start(tmp_path: Path) -> None:
    path = helper(tmp_path, "odd", "")
    path.write_text("#!/no/such/interpreter\n")
    env = {**docker_home(tmp_path, {"credsStore": "odd"}), "PATH": str(tmp_path)}
    with pytest.raises(RegistryError, match="does not start"):
        load_settings(env).login("h")


hosts = st.sampled_from(["docker.io", "ghcr.io", "h:5", "unknown"])
keys = st.sampled_from(
    [HUB, "docker.io", "ghcr.io", "https://ghcr.io", "h:5", "http://h:5/v1/", "localhost:5000"]
)
words = st.text(st.characters(codec="utf-8", exclude_characters=":\0"), min_size=1, max_size=8)
entries = st.one_of(
    st.builds(lambda user, password: {"auth": encoded(user, password)}, words, words),
    st.builds(lambda token: {"identitytoken": token}, words),
    st.just({}),
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(hosts, st.dictionaries(keys, entries, max_size=4))
def test_the_docker_sdk_reads_the_same(tmp_path: Path, host: str, auths: dict[str, dict[str, str]]) -> None:
    from docker.auth import load_config

    alias = {"docker.io": HUB, "ghcr.io": "https://ghcr.io", "h:5": "http://h:5/v1/"}.get(host)
    assume(not (host in auths and alias in auths))  # which of two counts is nowhere said
    env = docker_home(tmp_path, {"auths": auths})
    theirs = load_config(str(tmp_path / "config.json")).resolve_authconfig(host) or {}
    ours = load_settings(env).login(host)
    found = (ours.username, ours.password, ours.token) if ours else (None, None, None)
    assert found == (theirs.get("username"), theirs.get("password"), theirs.get("IdentityToken"))


# registry_config


def test_dockers_format_replaces_the_machines_logins(tmp_path: Path) -> None:
    env = docker_home(tmp_path, {"auths": {"a": {"auth": encoded("machine", "p")}}})
    file = tmp_path / "logins.json"
    file.write_text(json.dumps({"auths": {"b": {"auth": encoded("spec", "p")}}}))
    settings = load_settings(env, file)
    login = settings.login("b")
    assert login is not None
    assert login.username == "spec"
    assert settings.login("a") is None


def test_envds_format_says_how_to_reach_and_the_machine_who(tmp_path: Path) -> None:
    env = docker_home(tmp_path, {"auths": {"h:5": {"auth": encoded("machine", "p")}}})
    for name in ("ca.pem", "client.pem", "client.key"):
        (tmp_path / name).write_text("")
    file = tmp_path / "registries.json"
    entry = {"name": "h:5", "ca": "ca.pem", "cert": str(tmp_path / "client.pem"), "key": "client.key"}
    file.write_text(
        json.dumps({"registries": [entry, {"name": "plain", "use_http": True, "mirror": "m:1/x"}]})
    )
    settings = load_settings(env, str(file))
    access = settings.access("h:5")
    assert (access.ca, access.cert, access.key) == tuple(
        tmp_path / name for name in ("ca.pem", "client.pem", "client.key")
    )
    login = access.login()
    assert login is not None
    assert login.username == "machine"
    plain = settings.access("plain")
    assert (plain.use_http, plain.mirror, plain.login()) == (True, "m:1/x", None)
    assert settings.access("other").ca is RegistryAccess().ca


def test_one_file_may_say_both(tmp_path: Path) -> None:
    file = tmp_path / "both.json"
    auths = {"h": {"auth": encoded("u", "p")}}
    file.write_text(json.dumps({"auths": auths, "registries": [{"name": "h", "use_http": True}]}))
    access = load_settings({}, file).access("h")
    assert access.use_http
    assert access.login() is not None


@pytest.mark.parametrize(
    ("document", "why"),
    [
        (None, "No such file"),
        ("x", "is no JSON"),
        ({}, "neither Docker's keys (auths, credsStore, credHelpers) nor envd's (registries)"),
        ({"currentContext": "x"}, "neither Docker's keys"),
        ({"registries": {}}, "registries is no list"),
        ({"registries": [{"ca": "x"}]}, "registries[0] has no name"),
        ({"registries": [{"name": "h", "http": True}]}, "unknown keys: http"),
        ({"registries": [{"name": "h", "use_http": "true"}]}, "use_http is neither true nor false"),
        ({"registries": [{"name": "h", "ca": "absent.pem"}]}, "registries[0].ca: there is no file"),
        ({"registries": [{"name": "h", "cert": "config.json"}]}, "only one of cert and key"),
        ({"registries": [{"name": "h", "mirror": "https://m"}]}, "mirror is no host[:port][/prefix]"),
    ],
)
def test_a_registry_config_that_says_nothing_usable(tmp_path: Path, document: object, why: str) -> None:
    file = tmp_path / "config.json"
    if document is not None:
        file.write_text(document if isinstance(document, str) else json.dumps(document))
    with pytest.raises(UsageError) as caught:
        load_settings({}, file)
    assert isinstance(caught.value, ImagesmithError)
    assert why in str(caught.value)
    assert str(file) in str(caught.value)
    assert caught.value.hint
