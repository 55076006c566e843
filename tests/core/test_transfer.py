"""Blobs as streams, and from one repository to another or into a layout."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from imagesmith.errors import LayoutError, RegistryError, RegistryUnreachable
from imagesmith.stores.layout import LayoutStore
from imagesmith.stores.registry import RegistryStore
from imagesmith.stores.transfer import carry_blob
from tests.core import fake_registry as fakes
from tests.core.fake_registry import FakeRegistry, sha

BLOB = bytes(range(256)) * 20_000
Open = Callable[..., RegistryStore]


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    with fakes.running() as registry:
        registry.add_blob("base", BLOB)
        yield registry


@pytest.fixture
def other() -> Iterator[FakeRegistry]:
    with fakes.running() as registry:
        yield registry


@pytest.fixture
def opened() -> Iterator[Open]:
    with ExitStack() as stack:

        def store(fake: FakeRegistry, name: str = "base") -> RegistryStore:
            return stack.enter_context(RegistryStore(f"{fake.host}/{name}", sleep=lambda seconds: None))

        yield store


def carry(source: RegistryStore, target: RegistryStore | LayoutStore, data: bytes = BLOB) -> str:
    slept: list[float] = []
    return carry_blob(source, target, {"digest": sha(data), "size": len(data)}, sleep=slept.append)


# streams


@pytest.mark.parametrize("size", [1000, 1 << 20, -1])
def test_a_stream_is_the_blob(fake: FakeRegistry, opened: Open, size: int) -> None:
    store = opened(fake)
    with store.open_blob(sha(BLOB)) as stream:
        data = b"".join(iter(lambda: stream.read(size), b""))
        assert stream.read(1) == b""
    assert data == BLOB
    with store.open_blob(sha(BLOB)) as stream:
        assert stream.read(10) == BLOB[:10], "what is left is read on leaving"
    assert store.has_blob(sha(BLOB)), "the connection can be used again"
    with pytest.raises(RegistryError, match="lacks the blob"), store.open_blob(sha(b"other")):
        pass


def test_a_stream_of_something_else_is_an_error_at_its_end(fake: FakeRegistry, opened: Open) -> None:
    store = opened(fake)
    digest = sha(BLOB)
    fake.fail("GET .*/blobs/", *[fakes.Answer(200, b"x" * len(BLOB))] * 2)
    with pytest.raises(RegistryError, match=f"instead of {digest}"), store.open_blob(digest) as stream:
        stream.read()
    with pytest.raises(RegistryError, match=f"instead of {digest}"), store.open_blob(digest) as stream:
        stream.read(1)
    fake.fail("GET .*/blobs/", fakes.Answer(200, b"x"))
    with pytest.raises(KeyError), store.open_blob(digest):
        raise KeyError


def test_a_stream_that_breaks_is_an_error(fake: FakeRegistry, opened: Open) -> None:
    fake.fail("GET .*/blobs/", fakes.send_a_part(BLOB[:1000], len(BLOB)))
    with pytest.raises(RegistryUnreachable), opened(fake).open_blob(sha(BLOB)) as stream:
        stream.read()


def test_a_stream_follows_a_redirect_with_no_login(opened: Open) -> None:
    from imagesmith.stores.credentials import Login, RegistryAccess

    with fakes.running("basic") as fake, fakes.running() as storage:
        fake.add_blob("base", BLOB)
        storage.add_blob("base", BLOB)
        fake.blobs_at = f"http://{storage.host}"
        access = RegistryAccess(login=lambda: Login("bob", fake.users["bob"]))
        with RegistryStore(f"{fake.host}/base", access) as store, store.open_blob(sha(BLOB)) as stream:
            assert stream.read() == BLOB
        assert storage.requests[-1].path.startswith("/elsewhere/")
        assert storage.requests[-1].headers["Authorization"] is None


# from one place to another


def test_the_registry_takes_it_over(fake: FakeRegistry, opened: Open) -> None:
    target = opened(fake, "me/app")
    assert carry(opened(fake), target) == "mounted"
    assert target.has_blob(sha(BLOB))
    assert fake.log()[0].startswith("POST /v2/me/app/blobs/uploads/?mount=")
    assert len(fake.requests) == 2
    assert carry(target, target) == "there"


@pytest.mark.parametrize("refusal", [None, 403, 405])
def test_a_registry_that_does_not_take_it_over(fake: FakeRegistry, opened: Open, refusal: int | None) -> None:
    fake.can_mount = False
    if refusal:
        fake.fail("POST .*mount=", fakes.error(refusal, "UNSUPPORTED"))
    target = opened(fake, "me/app")
    assert carry(opened(fake), target) == "copied"
    assert fake.blobs["me/app", sha(BLOB)] == BLOB
    assert carry(opened(fake), target) == "there"


def test_from_one_registry_to_another(fake: FakeRegistry, other: FakeRegistry, opened: Open) -> None:
    assert carry(opened(fake), opened(other, "me/app")) == "copied"
    assert other.blobs["me/app", sha(BLOB)] == BLOB
    assert not [line for line in other.log() if "mount" in line]
    assert carry(opened(fake), opened(other, "me/app")) == "there"


def test_into_a_layout(fake: FakeRegistry, opened: Open, tmp_path: Path) -> None:
    layout = LayoutStore(tmp_path / "layout")
    assert carry(opened(fake), layout) == "copied"
    assert (layout.path / "blobs" / "sha256" / sha(BLOB)[7:]).read_bytes() == BLOB
    assert carry(opened(fake), layout) == "there"
    assert len(fake.requests) == 1


@pytest.mark.parametrize("kind", ["registry", "layout"])
def test_what_breaks_in_the_middle_starts_over(
    fake: FakeRegistry, other: FakeRegistry, opened: Open, tmp_path: Path, kind: str
) -> None:
    target = opened(other, "me/app") if kind == "registry" else LayoutStore(tmp_path)
    part = fakes.send_a_part(BLOB[:70_000], len(BLOB))
    fake.fail("GET .*/blobs/", part, fakes.error(500, "UNKNOWN"), part)
    assert carry(opened(fake), target) == "copied"
    assert target.has_blob(sha(BLOB))
    fake.add_blob("base", b"second")
    fake.fail("GET .*/blobs/", *[fakes.send_a_part(b"sec", 6)] * 4)
    with pytest.raises(RegistryUnreachable):
        carry(opened(fake), target, b"second")
    assert not target.has_blob(sha(b"second"))
    if isinstance(target, LayoutStore):
        names = [path.name for path in (tmp_path / "blobs" / "sha256").iterdir()]
        assert names == [sha(BLOB)[7:]], "no draft stays"


@pytest.mark.parametrize("kind", ["registry", "layout"])
def test_what_is_not_there_or_not_right_is_not_carried(
    fake: FakeRegistry, other: FakeRegistry, opened: Open, tmp_path: Path, kind: str
) -> None:
    target = opened(other, "me/app") if kind == "registry" else LayoutStore(tmp_path)
    with pytest.raises(RegistryError, match="lacks the blob"):
        carry(opened(fake), target, b"nowhere")
    fake.fail("GET .*/blobs/", fakes.Answer(200, BLOB[:-1] + b"!"))
    with pytest.raises((RegistryError, LayoutError), match=f"instead of {sha(BLOB)}"):
        carry(opened(fake), target)
    assert not target.has_blob(sha(BLOB))


MEASURED = """
import resource, sys
from imagesmith.stores.layout import LayoutStore
from imagesmith.stores.registry import RegistryStore
from imagesmith.stores.transfer import carry_blob
from pathlib import Path
source, target, digest, size = sys.argv[1:]
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
store = RegistryStore(target) if ":" in target else LayoutStore(Path(target))
assert carry_blob(RegistryStore(source), store, {"digest": digest, "size": int(size)}) == "copied"
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize("kind", ["registry", "layout"])
def test_memory_stays_small(fake: FakeRegistry, other: FakeRegistry, tmp_path: Path, kind: str) -> None:
    data = bytes(100 << 20)
    digest = fake.add_blob("base", data)
    target = f"{other.host}/me/app" if kind == "registry" else str(tmp_path / "layout")
    argv = [sys.executable, "-c", MEASURED, f"{fake.host}/base", target, digest, str(len(data))]
    done = subprocess.run(argv, check=True, capture_output=True, text=True)
    assert int(done.stdout) < 30 << 10, f"{done.stdout} KiB for a blob of 100 MiB"
