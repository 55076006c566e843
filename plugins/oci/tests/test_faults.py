"""Builds while a registry or an index fails: the right image, or one clear error and nothing published."""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from plugins.oci.tests.ocisamples import layer, wheel
from tests.core.fake_registry import (
    OCI_CONFIG,
    OCI_LAYER,
    OCI_MANIFEST,
    Action,
    Answer,
    FakeRegistry,
    error,
    hang_up_after,
    reset,
    send_a_part,
)
from tests.core.tars import entries

from imagesmith import (
    BuilderNotReady,
    BuildFailed,
    BuildResult,
    ImagesmithError,
    ImageSpec,
    SourceError,
    StoreError,
    build,
)
from imagesmith.settings import load_settings
from imagesmith.sources import Staged, digests, stage
from imagesmith.tarball import TarWriter
from imagesmith_oci.basefacts import Facts
from imagesmith_oci.content import write_files

LIBC = b"\x7fELF GNU C Library (Debian GLIBC 2.36-9) stable release version 2.36.\n"
SITE = "opt/venv/lib/python3.11/site-packages"


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    fake = FakeRegistry()
    add_base(fake)
    yield fake
    fake.close()


def add_base(fake: FakeRegistry, **more: bytes | str | None) -> None:
    """An image that has all that a builder looks for, and that nobody could run."""
    files: dict[str, bytes | str | None] = {
        "usr/bin/python3.11": b"ELF",
        "usr/bin/python3": "python3.11",
        "lib": "usr/lib",
        "usr/lib/x86_64-linux-gnu/libc.so.6": LIBC,
        "etc/passwd": b"root:x:0:0::/root:/bin/sh\napp:x:1234:1234::/:/bin/sh\n",
        **more,
    }
    packed = layer(files).getvalue()
    diff_id = f"sha256:{hashlib.sha256(gzip.decompress(packed)).hexdigest()}"
    config = json.dumps(
        {
            "os": "linux",
            "architecture": "amd64",
            "config": {"Env": ["PATH=/usr/bin:/bin", "PYTHON_VERSION=3.11.2"]},
            "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        }
    ).encode()
    digest, size = fake.add_blob("library/python", packed), len(packed)
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {
            "mediaType": OCI_CONFIG,
            "digest": fake.add_blob("library/python", config),
            "size": len(config),
        },
        "layers": [{"mediaType": OCI_LAYER, "digest": digest, "size": size}],
    }
    fake.add_manifest("library/python", OCI_MANIFEST, document, "3.11")


@dataclass
class Index:
    """An index with one package; what it serves is changed by tests."""

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    pages: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    login: str = ""
    """``user:password`` that it wants"""
    faults: list[int | bytes] = field(default_factory=list)
    """answers to the next requests for files: a status, or a beginning after which it hangs up"""

    def add(self, name: str, data: bytes, *, sha256: str | None = None) -> None:
        file = f"{name}-1.0-py3-none-any.whl"
        self.files[f"/files/{file}"] = data
        digest = sha256 or hashlib.sha256(data).hexdigest()
        self.pages[f"/simple/{name}/"] = f'<a href="/files/{file}#sha256={digest}">{file}</a>'


@pytest.fixture
def index() -> Iterator[Index]:
    held = Index()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            held.asked.append(self.path)
            page = held.pages.get(self.path)
            data = page.encode() if page else held.files.get(self.path)
            status = 200 if data is not None else 404
            own = "uv" not in self.headers.get("User-Agent", "")  # uv reads the metadata of wheels, too
            if own and self.path.startswith("/files/") and held.faults:
                fault = held.faults.pop(0)
                if isinstance(fault, bytes):
                    send_a_part(fault, len(fault) + 100)(self)
                    return
                status, data = fault, b""
            token = base64.b64encode(held.login.encode()).decode()
            if held.login and self.headers.get("Authorization") != f"Basic {token}":
                status, data = 401, b""
            self.send_response(status)
            if status == 401:
                self.send_header("WWW-Authenticate", 'Basic realm="index"')
            self.send_header("Content-Type", "text/html" if page else "application/octet-stream")
            self.send_header("Content-Length", str(len(data or b"")))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(data or b"")

        do_HEAD = do_GET  # noqa: N815 - the names that http.server calls

        def log_message(self, format: str, *arguments: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    held.address = f"http://127.0.0.1:{server.server_address[1]}"
    yield held
    server.shutdown()
    server.server_close()


Make = Callable[..., BuildResult]


@pytest.fixture
def make(registry: FakeRegistry, index: Index, tmp_path: Path) -> Make:
    """Build by the oci builder; the cache is the test's own."""
    (tmp_path / "home").mkdir()
    env = {
        "HOME": str(tmp_path / "home"),
        "PATH": "/usr/bin:/bin",
        "IMAGESMITH_CACHE_DIR": str(tmp_path / "cache"),
        "IMAGESMITH_BASE_IMAGE": f"{registry.host}/library/python:3.11",
        "IMAGESMITH_BUILDER": "oci",
        "DOCKER_HOST": f"unix://{tmp_path}/none.sock",
    }

    def run(*, root: Path | None = None, output: Path | None = None, **fields: Any) -> BuildResult:
        told = {"python_version": "3.11", "registry": f"{registry.host}/mine", "name": "faulty", **fields}
        if told.get("packages"):
            told.setdefault("pip_index", f"{index.address}/simple")
        spec = ImageSpec(**told).replace(root=root or tmp_path)
        return build(spec, settings=load_settings(tmp_path, env), output=output, force=True)

    return run


def layers(registry: FakeRegistry, result: BuildResult) -> list[bytes]:
    """The layers that were added, unpacked, of what stands under the tag."""
    import zstandard

    tag = result.reference.rpartition(":")[2]
    manifest = json.loads(registry.manifests["mine/faulty", tag][1])
    assert manifest["config"]["mediaType"] == OCI_CONFIG
    config = json.loads(registry.blobs["mine/faulty", manifest["config"]["digest"]])
    found = []
    for entry, diff_id in zip(manifest["layers"], config["rootfs"]["diff_ids"], strict=True):
        data = registry.blobs["mine/faulty", entry["digest"]]
        assert len(data) == entry["size"]
        plain = (
            zstandard.ZstdDecompressor().decompressobj().decompress(data)
            if entry["mediaType"].endswith("zstd")
            else gzip.decompress(data)
        )
        assert diff_id == f"sha256:{hashlib.sha256(plain).hexdigest()}"
        found.append(plain)
    return found[1:]


def published(registry: FakeRegistry) -> list[str]:
    return [ref for name, ref in registry.manifests if name == "mine/faulty"]


def test_an_image_of_a_package_and_files(
    make: Make, registry: FakeRegistry, index: Index, tmp_path: Path
) -> None:
    index.add("odd", wheel())
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "app.py").write_text("x")
    added = layers(registry, make(packages=["odd"], source_root="src", user="app", workdir="/lib/work"))
    found: dict[str, Any] = {}
    for data in added:
        found |= entries(data)
    assert f"{SITE}/odd.py" in found
    assert found["opt/venv/bin/python"].linkname == "/usr/bin/python3.11"
    assert "usr/lib/work/app.py" in found, "a link of the base is followed, not replaced"
    assert "lib" not in found
    assert "lib/work" not in found
    assert (found["usr/lib/work"].uid, found["usr/lib/work"].gid, found["usr/lib/work"].mode) == (
        1234, 0, 0o775,
    )  # fmt: skip
    assert "opt/imagesmith/imagesmith/__init__.py" in found


def test_the_result_names_what_was_resolved(make: Make, index: Index) -> None:
    data = wheel()
    index.add("odd", data)
    (package,) = make(packages=["odd"]).packages
    assert (package.name, package.version) == ("odd", "1.0")
    assert package.file == "odd-1.0-py3-none-any.whl"
    assert package.sha256 == hashlib.sha256(data).hexdigest()
    assert package.url.endswith(package.file)


def test_an_edit_costs_few_requests(make: Make, registry: FakeRegistry, index: Index, tmp_path: Path) -> None:
    index.add("odd", wheel())
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "app.py").write_text("x")
    make(packages=["odd"], source_root="src")
    (tmp_path / "src" / "app.py").write_text("y")
    asked, requests = len(index.asked), len(registry.requests)
    make(packages=["odd"], source_root="src")
    told = [f"{each.method} {each.path.partition('?')[0]}" for each in registry.requests[requests:]]
    writes = [line.split()[0] for line in told if not line.startswith(("GET", "HEAD"))]
    assert sorted(writes) == ["POST", "POST", "PUT", "PUT", "PUT"], told
    assert told[-1].startswith("PUT /v2/mine/faulty/manifests/"), told
    assert len(told) <= 7, told
    assert len(index.asked) == asked, "the list is the same, and the index was asked"


def test_the_last_layer_and_the_configuration_are_sent_side_by_side(
    make: Make, registry: FakeRegistry, index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.add("odd", wheel())
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "app.py").write_text("x")
    make(packages=["odd"], source_root="src")
    (tmp_path / "src" / "app.py").write_text("y")
    connections: set[int] = set()
    accept = registry._server.get_request

    def counted() -> tuple[socket.socket, Any]:
        accepted = accept()
        connections.add(accepted[1][1])
        return accepted

    monkeypatch.setattr(registry._server, "get_request", counted)
    before, begun = len(registry.requests), []

    def held(handler: BaseHTTPRequestHandler) -> None:
        until = time.monotonic() + 5
        while time.monotonic() < until and (not begun or begun[-1] < 2):
            begun.append(sum(each.method == "POST" for each in registry.requests[before:]))
            time.sleep(0.01)
        reset(handler)

    registry.fail(r"PUT .*/blobs/uploads", held)
    result = make(packages=["odd"], source_root="src")
    assert begun[-1] == 2, "the configuration waited for the layer"
    assert len(connections) <= 3, "two at once, and one more for the one that was broken off"
    manifests = [number for number, each in enumerate(registry.requests) if "/manifests/" in each.path]
    uploads = [number for number, each in enumerate(registry.requests) if "/uploads/" in each.path]
    assert max(uploads) < max(manifests), "a manifest went before what it names"
    assert len(layers(registry, result)) == 4


@pytest.mark.parametrize(
    ("pattern", "actions"),
    [
        (r"PUT .*/blobs/uploads", [Answer(500)]),
        (r"PUT .*/blobs/uploads", [reset, Answer(503)]),
        (r"PUT .*/blobs/uploads", [hang_up_after(20)]),
        (r"POST .*/blobs/uploads", [Answer(429, headers={"Retry-After": "0"})]),
        (r"GET .*/library/python/blobs", [send_a_part(b"part", 1000)]),
        (r"PUT .*/manifests", [Answer(502)]),
    ],
)
def test_a_passing_fault_of_the_registry_is_no_matter(
    make: Make, registry: FakeRegistry, index: Index, pattern: str, actions: list[Action]
) -> None:
    index.add("odd", wheel())
    registry.fail(pattern, *actions)
    added = layers(registry, make(packages=["odd"]))
    assert any(f"{SITE}/odd.py" in entries(data) for data in added)


@pytest.mark.parametrize(
    ("pattern", "answer"),
    [
        (r"PUT .*/blobs/uploads", Answer(500)),
        (r"POST .*/blobs/uploads", Answer(429, headers={"Retry-After": "0"})),
        (r"PUT .*/blobs/uploads", hang_up_after(10)),
        (r"PUT .*/manifests", Answer(500)),
        (r"POST .*/mine/faulty/blobs/uploads", error(403, "DENIED")),
        (r"GET .*/library/python/blobs", Answer(500)),
    ],
)
def test_a_lasting_fault_of_the_registry_is_one_error(
    make: Make,
    registry: FakeRegistry,
    index: Index,
    pattern: str,
    answer: Action,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    index.add("odd", wheel())
    registry.fail(pattern, *[answer] * 200)
    with pytest.raises(StoreError) as caught:
        make(packages=["odd"])
    assert registry.host in str(caught.value)
    assert not published(registry)


def test_what_was_remembered_is_not_believed_against_the_registry(
    make: Make, registry: FakeRegistry, index: Index
) -> None:
    index.add("odd", wheel())
    make(packages=["odd"])
    for key in [key for key in registry.blobs if key[0] == "mine/faulty"]:
        del registry.blobs[key]
    for key in [key for key in registry.manifests if key[0] == "mine/faulty"]:
        del registry.manifests[key]
    added = layers(registry, make(packages=["odd"], env={"A": "1"}))
    assert any(f"{SITE}/odd.py" in entries(data) for data in added)


@pytest.mark.parametrize("fault", [500, 503, b"PK\x03\x04 a part"])
def test_a_passing_fault_of_the_index_is_no_matter(
    make: Make, registry: FakeRegistry, index: Index, fault: int | bytes
) -> None:
    index.add("odd", wheel())
    index.faults = [fault]
    added = layers(registry, make(packages=["odd"]))
    assert any(f"{SITE}/odd.py" in entries(data) for data in added)
    assert not index.faults


def test_a_wheel_that_is_not_what_was_resolved(make: Make, registry: FakeRegistry, index: Index) -> None:
    index.add("odd", wheel(), sha256="0" * 64)
    with pytest.raises(BuildFailed, match=r"odd-1\.0-py3-none-any\.whl is damaged") as caught:
        make(packages=["odd"])
    assert caught.value.hint
    assert not published(registry)


def test_a_corrupt_wheel_with_a_good_hash(make: Make, registry: FakeRegistry, tmp_path: Path) -> None:
    data = wheel(files={"odd.py": "x" * 10_000})
    spot = data.index(b"odd.py") + len("odd.py") + 5
    broken = data[:spot] + b"\xff\xff\xff" + data[spot + 3 :]
    (tmp_path / "odd-1.0-py3-none-any.whl").write_bytes(broken)
    with pytest.raises(BuildFailed, match=r"damaged|Failed to read .odd"):
        make(packages=["./odd-1.0-py3-none-any.whl"], pip_extra_args=["--no-index"])
    assert not published(registry)


def test_a_wheel_that_vanished_and_comes_back_elsewhere(
    make: Make, registry: FakeRegistry, index: Index, tmp_path: Path
) -> None:
    """The lock of yesterday names a file that was replaced: it is resolved again, and that is all."""
    index.add("odd", wheel())
    make(packages=["odd"])
    for kept in (tmp_path / "cache" / "oci" / "wheels", tmp_path / "cache" / "oci" / "layers"):
        for file in [path for path in kept.rglob("*") if path.is_file()]:
            file.unlink()
    index.files.clear()
    file = "odd-2.0-py3-none-any.whl"
    data = wheel(version="2.0")
    index.files[f"/files/{file}"] = data
    digest = hashlib.sha256(data).hexdigest()
    index.pages["/simple/odd/"] = f'<a href="/files/{file}#sha256={digest}">{file}</a>'
    added = layers(registry, make(packages=["odd"]))
    assert any(f"{SITE}/odd-2.0.dist-info/METADATA" in entries(data) for data in added)


def test_a_wheel_that_vanished_for_good(make: Make, registry: FakeRegistry, index: Index) -> None:
    index.add("odd", wheel())
    index.faults = [404, 404, 404, 404]
    with pytest.raises(BuildFailed, match="vanished") as caught:
        make(packages=["odd"])
    assert "odd-1.0-py3-none-any.whl" in str(caught.value)
    assert not published(registry)


def test_a_package_with_a_compiled_part_for_another_machine(make: Make, index: Index) -> None:
    data = wheel(tag="cp311-cp311-win_amd64")
    file = "odd-1.0-cp311-cp311-win_amd64.whl"
    index.files[f"/files/{file}"] = data
    index.pages["/simple/odd/"] = f'<a href="/files/{file}">{file}</a>'
    with pytest.raises(BuildFailed, match="odd"):
        make(packages=["odd"])


def test_a_base_without_python_is_refused_before_any_upload(
    make: Make, registry: FakeRegistry, index: Index
) -> None:
    index.add("odd", wheel())
    registry.blobs.clear()
    registry.manifests.clear()
    add_base(registry, **{"usr/bin/python3": b"", "usr/bin/python3.11": None})
    with pytest.raises(ImagesmithError, match="has no"):
        make(packages=["odd"], user="nobody-knows")
    assert not [each for each in registry.requests if each.method in {"POST", "PUT"}]


def test_a_full_disk_is_said(make: Make, tmp_path: Path) -> None:
    make()
    folder = tmp_path / "cache" / "oci" / "layers"
    with contextlib.suppress(FileNotFoundError):
        for file in [path for path in folder.rglob("*") if path.is_file()]:
            file.unlink()
    for each in folder.iterdir():
        each.rmdir()
        each.write_text("in the way")
    with pytest.raises(BuildFailed, match="cannot write to"):
        make()


def test_a_layout_is_whole(make: Make, index: Index, tmp_path: Path) -> None:
    index.add("odd", wheel())
    result = make(packages=["odd"], output=tmp_path / "layout", registry=None)
    blobs = tmp_path / "layout" / "blobs" / "sha256"
    manifest = json.loads((blobs / result.digest.removeprefix("sha256:")).read_bytes())
    for entry in [manifest["config"], *manifest["layers"]]:
        data = (blobs / entry["digest"].removeprefix("sha256:")).read_bytes()
        assert entry["digest"] == f"sha256:{hashlib.sha256(data).hexdigest()}"
        assert entry["size"] == len(data)


def test_credentials_go_to_their_host_and_nowhere_else(
    make: Make, registry: FakeRegistry, index: Index, tmp_path: Path
) -> None:
    """They are added back to what uv found without them, and stand in nothing that is kept."""
    index.add("odd", wheel())
    index.login = "me:hidden-word"
    (tmp_path / "token").write_text("other-hidden-word\n")
    address = index.address.replace("http://", "http://me:hidden-word@")
    result = make(
        packages=["odd"],
        pip_index=f"{address}/simple",
        pip_secret_mounts=[("token", "/run/token")],
    )
    added = layers(registry, result)
    assert any(f"{SITE}/odd.py" in entries(data) for data in added)
    assert not [data for data in added if b"hidden-word" in data]
    kept = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    told = [path for path in kept if b"hidden-word" in path.read_bytes() and "uv" not in path.parts]
    assert not told, told
    assert "pip_secret_mounts[0]: /run/token is not read" in str(result.log and result.log.read_text())


def test_wheels_of_a_folder_on_this_machine(make: Make, registry: FakeRegistry, tmp_path: Path) -> None:
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "odd-1.0-py3-none-any.whl").write_bytes(wheel())
    told = ["--no-index", "--find-links", str(tmp_path / "links")]
    added = layers(registry, make(packages=["odd"], pip_extra_args=told))
    assert any(f"{SITE}/odd.py" in entries(data) for data in added)
    (tmp_path / "requirements.txt").write_text("--find-links ./links\n--no-index\nodd==1.0\n")
    added = layers(registry, make(requirements="requirements.txt", pip_extra_args=["--pre"]))
    assert any(f"{SITE}/odd.py" in entries(data) for data in added)


def test_an_interrupt_goes_through_and_leaves_nothing(
    make: Make, registry: FakeRegistry, index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    index.add("odd", wheel())
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    monkeypatch.setattr("imagesmith.runner.SubprocessRunner.run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make(packages=["odd"])
    assert not list((tmp_path / "temporary").iterdir())
    assert not published(registry)


def test_uv_that_is_not_there_is_said(make: Make, index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> str:
        raise FileNotFoundError("no uv")

    index.add("odd", wheel())
    monkeypatch.setattr("uv.find_uv_bin", absent)
    with pytest.raises(BuilderNotReady, match="uv is not there") as caught:
        make(packages=["odd"])
    assert caught.value.hint


def test_files_that_are_read_where_they_lie_make_the_same_layer(tmp_path: Path) -> None:
    source = tmp_path / "src"
    (source / "a-b").mkdir(parents=True)
    (source / "a").mkdir()
    (source / "empty").mkdir()
    for name in ("a-b/x.py", "a/ü.py", "a.py", "run"):
        (source / name).write_text(name)
    (source / "run").chmod(0o755)
    (source / "link").symlink_to("a.py")
    spec = ImageSpec("app", source_root="src").replace(root=tmp_path)
    facts = Facts(None, None, links={"lib": "/usr/lib"}, folders={"work/a": (0o700, 5, 5)})

    def written(staged: Staged) -> bytes:
        pieces: list[bytes] = []
        tar = TarWriter(pieces.append)
        write_files(tar, staged, "/work", 7, facts)
        return b"".join(pieces)

    left = stage(spec, tmp_path / "two", in_place=digests(spec))
    assert written(left) == written(stage(spec, tmp_path / "one"))
    assert list((tmp_path / "two" / "source").iterdir()) == []
    (source / "a.py").write_text("b.py")
    with pytest.raises(SourceError, match=r"changed between .*source/a\.py"):
        written(left)
    (source / "a.py").unlink()
    with pytest.raises(SourceError, match="disappeared"):
        written(left)
    (source / "a.py").write_text("a.py")
    (source / "link").unlink()
    (source / "link").symlink_to("run")
    with pytest.raises(SourceError, match=r"changed between .*source/link"):
        written(left)
