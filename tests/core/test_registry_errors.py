"""A registry that fails, and one that asks who is there: retries, logins, and what the messages say."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from email.utils import formatdate

import pytest

from imagesmith.errors import AuthenticationFailed, RegistryError, RegistryUnreachable
from imagesmith.stores._auth import Authenticator, parse_challenges
from imagesmith.stores.credentials import Login, RegistryAccess, anonymous
from imagesmith.stores.registry import RegistryStore
from tests.core import fake_registry as fakes
from tests.core.fake_registry import FakeRegistry

NOW = 1_800_000_000.0


class Clock:
    """Time that passes only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = NOW
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    with fakes.running() as registry:
        yield registry


@pytest.fixture
def bearer() -> Iterator[FakeRegistry]:
    with fakes.running("bearer") as registry:
        yield registry


@pytest.fixture
def basic() -> Iterator[FakeRegistry]:
    with fakes.running("basic") as registry:
        yield registry


def store(
    fake: FakeRegistry,
    clock: Clock,
    login: Callable[[], Login | None] = anonymous,
    name: str = "me/app",
    read_seconds: float = 10.0,
) -> RegistryStore:
    return RegistryStore(
        f"{fake.host}/{name}",
        RegistryAccess(login=login),
        sleep=clock.sleep,
        clock=lambda: clock.now,
        read_seconds=read_seconds,
    )


def alice(fake: FakeRegistry) -> Callable[[], Login | None]:
    return lambda: Login("alice", fake.users["alice"], source="config.json")


# failures


def test_a_server_error_is_tried_again(fake: FakeRegistry, clock: Clock) -> None:
    fake.add_image("me/app", "1")
    fake.fail("HEAD", *[fakes.error(500, "UNKNOWN")] * 2)
    assert store(fake, clock).exists("1") is True
    assert clock.slept == [0.5, 1.0]


def test_it_gives_up_after_four_tries_and_says_so(fake: FakeRegistry, clock: Clock) -> None:
    fake.fail("GET", *[fakes.error(503, "UNAVAILABLE", "database is\nlocked")] * 9)
    with pytest.raises(RegistryError, match="HTTP 503, UNAVAILABLE: database is locked") as caught:
        store(fake, clock).platforms("1")
    assert caught.value.status == 503
    assert caught.value.registry == fake.host
    assert len(fake.requests) == 4
    assert clock.slept == [0.5, 1.0, 2.0]


@pytest.mark.parametrize(
    ("asked", "waited"), [("7", 7.0), (formatdate(NOW + 9, usegmt=True), 9.0), ("soon", 0.5)]
)
def test_retry_after_is_honoured(fake: FakeRegistry, clock: Clock, asked: str, waited: float) -> None:
    fake.add_image("me/app", "1")
    fake.fail("HEAD", fakes.error(429, "TOOMANYREQUESTS", Retry_After=asked))
    assert store(fake, clock).exists("1") is True
    assert clock.slept == [waited]


def test_a_wait_that_is_too_long_is_not_waited(fake: FakeRegistry, clock: Clock) -> None:
    fake.fail("GET", fakes.error(429, "TOOMANYREQUESTS", "slow down", Retry_After="3600"))
    with pytest.raises(RegistryError, match="Retry-After 3600"):
        store(fake, clock).read("1")
    assert clock.slept == []


def test_a_broken_connection_is_tried_again(fake: FakeRegistry, clock: Clock) -> None:
    fake.add_image("me/app", "1")
    fake.fail("HEAD", fakes.reset, fakes.reset)
    assert store(fake, clock).exists("1") is True
    fake.fail("HEAD", *[fakes.reset] * 4)
    with pytest.raises(RegistryUnreachable, match="broke the connection off"):
        store(fake, clock).exists("1")


def test_a_broken_upload_starts_over(fake: FakeRegistry, clock: Clock) -> None:
    fake.fail("PUT .*/uploads/", fakes.reset, fakes.error(502, "BAD_GATEWAY"))
    with store(fake, clock) as opened:
        digest = opened.put_blob(b"data")
        assert opened.has_blob(digest)
    assert [request.method for request in fake.requests] == ["POST", "PUT"] * 3 + ["HEAD"]


def test_a_cut_answer_is_not_taken_for_a_whole_one(fake: FakeRegistry, clock: Clock) -> None:
    def cut(handler: object) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}")  # type: ignore[attr-defined]
        handler.close_connection = True  # type: ignore[attr-defined]

    fake.fail("GET", *[cut] * 4)
    with pytest.raises(RegistryUnreachable, match="broke the connection off"):
        store(fake, clock).read("1")


def test_a_silent_registry_is_not_waited_for_without_end(fake: FakeRegistry, clock: Clock) -> None:
    fake.fail("HEAD", fakes.slow)
    with (
        pytest.raises(RegistryUnreachable, match="no answer within"),
        store(fake, clock, read_seconds=0.1) as opened,
    ):
        opened.exists("1")
    assert clock.slept == []


def test_an_upload_is_waited_for_by_its_size(fake: FakeRegistry, clock: Clock) -> None:
    with store(fake, clock, read_seconds=0.1) as opened:
        fake.fail("PUT", fakes.slow)
        with pytest.raises(RegistryUnreachable, match="no answer within"):
            opened.put_blob(b"small")
        fake.fail("PUT", fakes.slow)
        opened.put_blob(bytes(16 * 1024 * 1024))


def test_nobody_listens(fake: FakeRegistry, clock: Clock) -> None:
    fake.close()
    with pytest.raises(RegistryUnreachable, match="Connection refused") as caught:
        store(fake, clock).exists("1")
    assert fake.host in str(caught.value)
    assert caught.value.hint is not None


def test_absence_is_no_error_and_a_refusal_is_no_absence(fake: FakeRegistry, clock: Clock) -> None:
    assert store(fake, clock).exists("1") is False
    for status in (400, 401, 403, 405, 418):
        fake.fail("HEAD", fakes.Answer(status))
        with pytest.raises(RegistryError) as caught:
            store(fake, clock).exists("1")
        assert caught.value.status == status
        assert isinstance(caught.value, AuthenticationFailed) == (status in {401, 403})


def test_content_that_is_not_what_its_digest_says(fake: FakeRegistry, clock: Clock) -> None:
    digest = fake.add_image("me/app", "1")
    other = fakes.Answer(200, b"{}", {"Docker-Content-Digest": digest})
    for ref in ("1", digest):
        fake.fail("GET .*/manifests/", other)
        with pytest.raises(RegistryError, match="sent other content"):
            store(fake, clock).read(ref)
    fake.fail("GET .*/blobs/", other)
    with pytest.raises(RegistryError, match="sent other content"):
        store(fake, clock).read("1")
    fake.fail("PUT", fakes.Answer(201, headers={"Docker-Content-Digest": fakes.sha(b"x")}))
    with pytest.raises(RegistryError, match="where sha256:"):
        store(fake, clock).publish(digest, "2")


def test_a_manifest_that_is_no_json_and_one_without_end(fake: FakeRegistry, clock: Clock) -> None:
    fake.fail("GET", fakes.Answer(200, b"<html>"), fakes.Answer(200, b"[]"))
    for _ in range(2):
        with pytest.raises(RegistryError, match="no JSON object"):
            store(fake, clock).read("1")
    fake.fail("GET", fakes.Answer(200, b" " * (16 << 20) + b"{}"))
    with pytest.raises(RegistryError, match="more than 16777216 bytes"):
        store(fake, clock).read("1")


# redirects and proxies


def test_a_blob_kept_elsewhere_is_fetched_without_the_login(bearer: FakeRegistry, clock: Clock) -> None:
    bearer.add_image("me/app", "1")
    with fakes.running() as elsewhere:
        elsewhere.blobs = bearer.blobs
        bearer.blobs_at = f"http://{elsewhere.host}"
        assert store(bearer, clock, alice(bearer)).read("1") is not None
        assert [request.method for request in elsewhere.requests] == ["GET"]
        assert "Authorization" not in elsewhere.requests[0].headers
        elsewhere.fail("GET", fakes.error(403, "ExpiredSignature"))
        with pytest.raises(
            AuthenticationFailed, match=f"{elsewhere.host}, where {bearer.host} keeps its data"
        ):
            store(bearer, clock, alice(bearer)).read("1")


def test_no_other_host_gets_the_login(basic: FakeRegistry, clock: Clock) -> None:
    basic.add_image("me/app", "1")
    with fakes.running("basic") as elsewhere:
        basic.blobs_at = f"http://{elsewhere.host}"
        challenge = fakes.error(401, "UNAUTHORIZED", WWW_Authenticate='Basic realm="give me"')
        elsewhere.fail("GET", challenge, challenge)
        opened = store(basic, clock, alice(basic))
        with pytest.raises(AuthenticationFailed, match=f"{elsewhere.host}, where"):
            opened.read("1")
        location = f"http://{elsewhere.host}/v2/me/app/blobs/uploads/1?_state=signed"
        basic.fail("POST", fakes.Answer(202, headers={"Location": location}))
        with pytest.raises(AuthenticationFailed):
            opened.put_blob(b"x")
        assert [request.method for request in elsewhere.requests] == ["GET", "PUT"]
        assert all("Authorization" not in request.headers for request in elsewhere.requests)


@pytest.mark.parametrize("location", ["http://[", "http://127.0.0.1:99999/?signature=s", "ftp://x/", ""])
def test_a_redirect_to_nowhere(fake: FakeRegistry, clock: Clock, location: str) -> None:
    fake.fail("GET", fakes.Answer(307, headers={"Location": location}))
    with pytest.raises(RegistryError) as caught:
        store(fake, clock).read("1")
    assert "signature" not in "".join(traceback.format_exception(caught.value))


def test_redirects_end(fake: FakeRegistry, clock: Clock) -> None:
    fake.fail("GET", *[fakes.Answer(302, headers={"Location": "/v2/me/app/manifests/1"})] * 9)
    with pytest.raises(RegistryError, match="redirects more than 5 times"):
        store(fake, clock).read("1")


def test_a_proxy_is_used_as_the_environment_says(fake: FakeRegistry, clock: Clock) -> None:
    fake.add_image("me/app", "1")
    env = {"http_proxy": f"http://proxyuser:proxypass@{fake.host}", "NO_PROXY": "other.test,.internal.test"}
    access = RegistryAccess(use_http=True)
    with RegistryStore("registry.test/me/app", access, env, sleep=clock.sleep) as opened:
        assert opened.exists("1") is True
    assert fake.requests[0].headers["Host"] == "registry.test"
    assert fake.requests[0].headers["Proxy-Authorization"].startswith("Basic ")
    with RegistryStore(f"{fake.host}/me/app", access, {"HTTP_PROXY": "http://127.0.0.1:1"}) as opened:
        assert opened.exists("1") is True  # never for this machine


def test_a_dead_proxy_is_named_without_its_password(clock: Clock) -> None:
    env = {"https_proxy": "http://proxyuser:proxypass@127.0.0.1:1"}
    with pytest.raises(RegistryUnreachable, match="proxy") as caught:
        RegistryStore("registry.test/me/app", RegistryAccess(), env, sleep=clock.sleep).exists("1")
    assert "HTTPS_PROXY" in str(caught.value)
    assert "proxypass" not in "".join(traceback.format_exception(caught.value))


# logins


def test_basic(basic: FakeRegistry, clock: Clock) -> None:
    basic.add_image("me/app", "1")
    asked = []

    def login() -> Login | None:
        asked.append(1)
        return Login("alice", basic.users["alice"])

    opened = store(basic, clock, login)
    assert opened.exists("1") is True
    assert len(basic.requests) == 2
    assert opened.exists("1") is True
    assert len(basic.requests) == 3
    image = opened.read("1")
    assert image is not None
    opened.publish(opened.write_config(image, image.config).digest, "2")
    assert len(asked) == 1


def test_no_login_is_looked_up_where_none_is_asked_for(fake: FakeRegistry, clock: Clock) -> None:
    def login() -> Login | None:
        raise AssertionError

    fake.add_image("me/app", "1")
    assert store(fake, clock, login).exists("1") is True
    assert "Authorization" not in fake.requests[0].headers


@pytest.mark.parametrize("kind", ["basic", "bearer"])
def test_a_wrong_password_and_no_password(kind: str, clock: Clock) -> None:
    with fakes.running(kind) as fake:
        wrong = store(fake, clock, lambda: Login("alice", "wr0ng-password", source="/home/u/config.json"))
        with pytest.raises(AuthenticationFailed) as caught:
            wrong.exists("1")
        text = "".join(traceback.format_exception(caught.value))
        assert "'alice' (from /home/u/config.json)" in text
        assert f"docker login {fake.host}" in text
        assert "wr0ng-password" not in text
        with pytest.raises(AuthenticationFailed, match="without credentials") as caught:
            store(fake, clock).exists("1")
        assert "registry_config" in str(caught.value)
        assert clock.slept == []


def test_a_reader_may_not_write(basic: FakeRegistry, bearer: FakeRegistry, clock: Clock) -> None:
    for fake, status in ((basic, 403), (bearer, 401)):
        fake.add_image("me/app", "1")
        reader = store(fake, clock, lambda: Login("bob", "reader-password"))
        assert reader.exists("1") is True
        with pytest.raises(
            AuthenticationFailed, match="refuses uploading a blob to me/app as 'bob'"
        ) as caught:
            reader.put_blob(b"x")
        assert caught.value.status == status


def test_a_token_is_fetched_once_per_kind_of_access(bearer: FakeRegistry, clock: Clock) -> None:
    bearer.add_image("me/app", "1")
    opened = store(bearer, clock, alice(bearer))
    assert opened.exists("1") is True
    assert [str(request).partition("?")[0] for request in bearer.requests] == [
        "HEAD /v2/me/app/manifests/1",
        "GET /token",
        "HEAD /v2/me/app/manifests/1",
    ]
    image = opened.read("1")
    assert image is not None
    opened.publish(opened.write_config(image, image.config).digest, "2")
    tokens = [request.path for request in bearer.requests if request.path.startswith("/token")]
    assert len(tokens) == 2
    assert "scope=repository%3Ame%2Fapp%3Apull%2Cpush" in tokens[1]


def test_anyone_may_read(bearer: FakeRegistry, clock: Clock) -> None:
    bearer.anonymous_pull = True
    bearer.add_image("me/app", "1")
    assert store(bearer, clock).exists("1") is True
    with pytest.raises(AuthenticationFailed, match="without credentials"):
        store(bearer, clock).put_blob(b"x")


def test_a_token_is_renewed_when_it_gets_old_and_when_it_is_refused(
    bearer: FakeRegistry, clock: Clock
) -> None:
    bearer.add_image("me/app", "1")
    opened = store(bearer, clock, alice(bearer))
    opened.exists("1")
    clock.now += bearer.lifetime * 0.9
    bearer.requests.clear()
    assert opened.exists("1") is True
    assert [request.method for request in bearer.requests] == ["GET", "HEAD"]
    bearer.tokens.clear()
    bearer.requests.clear()
    assert opened.exists("1") is True
    assert [request.method for request in bearer.requests] == ["HEAD", "GET", "HEAD"]


def test_an_identity_token(bearer: FakeRegistry, clock: Clock) -> None:
    bearer.add_image("me/app", "1")
    opened = store(bearer, clock, lambda: Login(token="identity-token-of-alice"))
    assert opened.exists("1") is True
    opened.put_blob(b"x")
    revoked = Login(token="not-a-valid-token")
    with pytest.raises(AuthenticationFailed, match="an identity token") as caught:
        store(bearer, clock, lambda: revoked).exists("1")
    assert str(revoked.token) not in "".join(traceback.format_exception(caught.value))


def test_mounting_asks_for_both_repositories(bearer: FakeRegistry, clock: Clock) -> None:
    digest = bearer.add_blob("me/base", b"layer")
    opened = store(bearer, clock, alice(bearer))
    assert opened.mount_blob(digest, f"{bearer.host}/me/base") is True
    granted = next(iter(bearer.tokens.values()))
    assert {"me/app:push", "me/base:pull"} <= granted


def test_a_failing_token_server_is_tried_again(bearer: FakeRegistry, clock: Clock) -> None:
    bearer.add_image("me/app", "1")
    bearer.fail("GET /token", fakes.error(503, "UNAVAILABLE"), fakes.reset)
    assert store(bearer, clock, alice(bearer)).exists("1") is True
    for answer, text in ((fakes.Answer(200, b"{}"), "without a token"), (fakes.Answer(418), "HTTP 418")):
        bearer.fail("GET /token", answer)
        with pytest.raises(RegistryError, match=text):
            store(bearer, clock, alice(bearer)).exists("1")


def test_secrets_that_a_registry_repeats_are_cut_out(bearer: FakeRegistry, clock: Clock) -> None:
    bearer.add_image("me/app", "1")
    opened = store(bearer, clock, alice(bearer))
    opened.exists("1")
    token = next(iter(bearer.tokens))
    bearer.fail("GET", fakes.error(400, "BAD", f"cannot read Bearer {token} of {bearer.users['alice']}"))
    with pytest.raises(RegistryError, match="cannot read Bearer … of …"):
        opened.read("1")


@pytest.mark.parametrize(
    "realm", ["http://tokens.example/token", "ftp://tokens.example/", "/token", "http://["]
)
def test_a_login_is_not_sent_in_the_clear(realm: str) -> None:
    def send(*args: object) -> None:
        raise AssertionError

    authenticator = Authenticator("secure.example", lambda: Login("u", "p"), send, lambda: 0.0)  # type: ignore[arg-type]
    with pytest.raises(RegistryError, match="refused"):
        authenticator.answer(f'Bearer realm="{realm}"', ("s",), None, secure=True)


def test_challenges() -> None:
    basic, bearer = parse_challenges(
        'Basic realm="a, b=\\"c\\"", '
        'Bearer realm="https://x/token?a=b",service=plain, scope="repository:a:pull,push"'
    )
    assert (basic.scheme, dict(basic.params)) == ("basic", {"realm": 'a, b="c"'})
    assert bearer.scheme == "bearer"
    assert dict(bearer.params) == {
        "realm": "https://x/token?a=b",
        "service": "plain",
        "scope": "repository:a:pull,push",
    }
    assert parse_challenges("") == ()
    assert [one.scheme for one in parse_challenges("Negotiate, Basic")] == ["negotiate", "basic"]
