"""Archives: the same bytes everywhere, and what readers see in them."""

from __future__ import annotations

import hashlib
import io

import pytest

from imagesmith.tarball import MTIME, TarWriter
from tests.core.tars import content, entries

LONG = "a" * 60 + "/" + "é" * 60 + "/" + "c" * 120


GOLDEN = "344068c6e96c79e30cbadc43c7d07140c1f403ebf9bfe0d87f3399d897d2f91b"


def archive(below: tuple[str, ...] = ()) -> bytes:
    pieces: list[bytes] = []
    tar = TarWriter(pieces.append, below)
    tar.folder("srv/work", 0o775, 1234, 0)
    tar.data("srv/work/file", b"text\n")
    tar.data("srv/work/tool", b"#!/bin/sh\n", 0o755)
    tar.data(LONG, b"long\n")
    tar.data("srv/work/new\nline", b"")
    tar.link("srv/work/link", "../" + "t" * 120)
    tar.folder("large", 0o700, 3_000_000, 0)
    tar.whiteout("srv/gone")
    tar.stream("stream", io.BytesIO(b"x" * 600_000), 600_000)  # type: ignore[arg-type]
    tar.close()
    return b"".join(pieces)


def test_the_bytes_are_these_on_every_machine() -> None:
    """A change here changes the digest of every image: raise layers.FORMAT with it."""
    assert hashlib.sha256(archive()).hexdigest() == GOLDEN


def test_a_reader_sees_what_was_written() -> None:
    found = entries(archive())
    assert {member.mtime for member in found.values()} == {MTIME}
    assert [found["srv/work"].mode, found["srv/work"].uid, found["srv/work"].gid] == [0o775, 1234, 0]
    assert found["srv"].isdir()
    assert found["srv"].mode == 0o755
    assert found["srv/work/tool"].mode == 0o755
    assert found["srv/work/link"].linkname == "../" + "t" * 120
    assert found["large"].uid == 3_000_000
    assert found["srv/.wh.gone"].size == 0
    assert content(archive(), LONG) == b"long\n"
    assert content(archive(), "srv/work/new\nline") == b""
    assert len(content(archive(), "stream")) == 600_000


def test_folders_of_others_are_not_described() -> None:
    found = entries(archive(("srv", "a" * 60)))
    assert "srv" not in found
    assert "srv/work" in found
    assert "a" * 60 not in found
    assert LONG.rpartition("/")[0] in found


@pytest.mark.parametrize("told", [3, 5])
def test_a_stream_of_another_size_is_an_error(told: int) -> None:
    with pytest.raises(EOFError, match="not the"):
        TarWriter(lambda _: None).stream("x", io.BytesIO(b"four"), told)  # type: ignore[arg-type]
