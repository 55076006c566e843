"""What a base is, read from its layers without running it."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import pytest
import zstandard
from plugins.oci.tests.ocisamples import layer

from imagesmith_oci.basefacts import Facts, merged, place, told, user_id
from imagesmith_oci.baseindex import IndexCache, LayerIndex, UnreadableError, read_layer
from imagesmith_oci.platforms import Libc
from imagesmith_oci.prefix import Python, skeleton

GLIBC = b"\0GNU C Library (Debian GLIBC 2.36-9+deb12u9) stable release version 2.36.\n\0"
DPKG = b"""Package: libc6
Status: install ok installed
Version: 2.36-9+deb12u9

Package: python3.11
Version: 3.11.2-6+deb12u6
"""
DEBIAN: dict[str, bytes | str | None] = {
    "usr/bin/python3.11": b"ELF",
    "usr/bin/python3": "python3.11",
    "bin": "usr/bin",
    "lib": "usr/lib",
    "tmp": None,
    "var/run": "/run",
    "run": None,
    "usr/lib/x86_64-linux-gnu/libc.so.6": GLIBC,
    "usr/lib/python3.11/os.py": b"",
    "var/lib/dpkg/status": DPKG,
    "etc/passwd": b"root:x:0:0:root:/root:/bin/bash\napp:x:1234:100::/:/bin/sh\n",
}


def facts(*layers: dict[str, bytes | str | None], **env: str) -> Facts:
    return told(merged([read_layer(layer(each)) for each in layers]), env)


def test_a_debian() -> None:
    found = facts(DEBIAN)
    assert found.python == Python("/usr/bin/python3.11", "3.11.2")
    assert found.libc == Libc("glibc", 2, 36)
    assert (user_id(found, "app:users"), user_id(found, "77:5"), user_id(found, "who")) == (1234, 77, None)
    assert place(found, "/bin/x") == "usr/bin/x"
    assert place(found, "/var/run/a/b") == "run/a/b"
    assert Facts.from_json(found.to_json()) == found


def test_what_the_configuration_states_wins_and_its_path_decides() -> None:
    own = {"usr/local/bin/python3.12": b"ELF", "usr/local/bin/python3": "python3.12"}
    found = facts({**DEBIAN, **own}, PATH="/usr/local/bin:/usr/bin", PYTHON_VERSION="3.12.1")
    assert found.python == Python("/usr/local/bin/python3.12", "3.12.1")
    assert facts({**DEBIAN, **own}, PATH="/usr/bin").python == Python("/usr/bin/python3.11", "3.11.2")


def test_a_python_in_a_virtual_environment_of_the_base() -> None:
    own: dict[str, bytes | str | None] = {
        "srv/env/pyvenv.cfg": b"home = /usr/bin\n",
        "srv/env/bin/python3": "/usr/bin/python3",
    }
    found = facts({**DEBIAN, **own}, PATH="/srv/env/bin:/usr/bin")
    site = "/srv/env/lib/python3.11/site-packages"
    assert found.python == Python("/usr/bin/python3.11", "3.11.2", site)
    assert found.python is not None
    files, links = skeleton(found.python)
    assert links["opt/venv/bin/python"] == "/usr/bin/python3.11"
    assert files["opt/venv/pyvenv.cfg"].startswith("home = /usr/bin\n")
    assert site in files["opt/venv/lib/python3.11/site-packages/_imagesmith_base.pth"]


def test_an_alpine() -> None:
    found = facts(
        {
            "usr/bin/python3.12": b"ELF",
            "usr/bin/python3": "python3.12",
            "lib/ld-musl-x86_64.so.1": b"ELF",
            "lib/apk/db/installed": b"P:musl\nV:1.2.5-r0\n\nP:python3\nV:3.12.9-r0\n",
        }
    )
    assert found.libc == Libc("musl", 1, 2)
    assert found.python == Python("/usr/bin/python3.12", "3.12.9")


def test_what_a_later_layer_takes_away_is_gone() -> None:
    gone: dict[str, bytes | str | None] = {"usr/bin/.wh.python3": b""}
    assert facts(DEBIAN, gone).python is None
    again: dict[str, bytes | str | None] = {"usr/bin/python3": "python3.11"}
    assert facts(DEBIAN, gone, again).python == Python("/usr/bin/python3.11", "3.11.2")
    assert facts(DEBIAN, {"usr/.wh..wh..opq": b""}).libc is None
    assert facts(DEBIAN, {".wh.usr": b""}).python is None
    assert facts(DEBIAN, {"usr": b"a file where a folder was"}).python is None
    assert place(facts(DEBIAN, {"bin": None}), "bin/x") == "bin/x", "a folder took the link's place"


def test_links_in_a_circle_lead_nowhere() -> None:
    found = facts({**DEBIAN, "usr/bin/python3": "python", "usr/bin/python": "python3"})
    assert found.python is None


def test_folders_of_a_mode_of_their_own() -> None:
    index = LayerIndex.from_json(read_layer(layer(DEBIAN)).to_json())
    index.names["tmp"] = index.names["tmp"].__class__("d", "", 0o1777, 0, 0)
    assert told(index, {}).folders == {"tmp": (0o1777, 0, 0)}


@pytest.mark.parametrize("packing", ["plain", "gzip", "gzip in parts", "zstd", "zstd in parts"])
def test_layers_in_every_packing(packing: str) -> None:
    plain = layer(DEBIAN, packed=False).getvalue()
    half = len(plain) // 2
    pack = zstandard.compress if "zstd" in packing else gzip.compress
    parts = [plain[:half], plain[half:]] if "parts" in packing else [plain]
    data = plain if packing == "plain" else b"".join(pack(part) for part in parts)
    assert read_layer(io.BytesIO(data)).names == read_layer(layer(DEBIAN)).names


@pytest.mark.parametrize(
    "data",
    [b"BZh91AY", b"\x1f\x8bnonsense", layer(DEBIAN).getvalue()[:60]],
    ids=["bzip2", "no gzip", "cut off"],  # gzip writes the time down, and ids are the same always
)
def test_what_is_no_layer_is_refused(data: bytes) -> None:
    with pytest.raises(UnreadableError):
        read_layer(io.BytesIO(data))


def test_a_layer_is_read_once(tmp_path: Path) -> None:
    opened = []

    def stream() -> io.BytesIO:
        opened.append(1)
        return layer(DEBIAN)

    cache = IndexCache(tmp_path)
    assert cache.get("sha256:1", stream) == cache.get("sha256:1", stream)
    assert len(opened) == 1
