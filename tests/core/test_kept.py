"""Documents kept on disk by their digests."""

from pathlib import Path

from imagesmith.stores._kept import Kept
from tests.core.fake_registry import sha


def test_the_oldest_go_and_what_was_changed_is_not_believed(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "kept")
    documents = [str(number).encode() for number in range(620)]
    for document in documents:
        kept.put(sha(document), document)
    assert 500 <= len(list((tmp_path / "kept").iterdir())) <= 601
    assert kept.get(sha(documents[-1])) == documents[-1]
    assert kept.get(sha(documents[0])) is None
    (tmp_path / "kept" / sha(documents[-1]).removeprefix("sha256:")).write_bytes(b"another")
    assert kept.get(sha(documents[-1])) is None
