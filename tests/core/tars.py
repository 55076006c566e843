"""What stands in archives."""

from __future__ import annotations

import io
import tarfile


def entries(archive: bytes) -> dict[str, tarfile.TarInfo]:
    """The entries of an archive by name."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        return {member.name: member for member in opened}


def content(archive: bytes, name: str) -> bytes:
    """What a file of an archive holds."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        file = opened.extractfile(name)
        assert file is not None
        return file.read()
