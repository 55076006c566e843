"""A Docker engine to run images on: what a user of an image would see."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import shutil
import subprocess
import tarfile
import tempfile
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from imagesmith.conformance._catalogue import Skipped
from imagesmith.stores.local import connect

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["Engine"]

_SECONDS = 120


class Engine:
    """Runs containers without a network, and removes them.

    Raises:
        EngineError: there is none.
    """

    def __init__(self, env: Mapping[str, str]) -> None:
        self._client = connect(env)

    def run(
        self,
        image: str,
        argv: Sequence[str] = (),
        *,
        entrypoint: Sequence[str] | None = None,
        user: str | None = None,
        env: Mapping[str, str] | None = None,
        read_only: bool = False,
        platform: str | None = None,
    ) -> str:
        """Its standard output. AssertionError when it does not end well."""
        from docker.errors import APIError  # noqa: PLC0415 - costs 0.2 s

        client = self._client
        what = f"a container of {image}, {' '.join([*(entrypoint or ()), *argv])[:80]!r},"
        try:
            container = client.create_container(
                image,
                list(argv) or None,
                entrypoint=list(entrypoint) if entrypoint is not None else None,
                user=user,
                environment=dict(env or {}),
                platform=platform,
                host_config=client.create_host_config(network_mode="none", read_only=read_only),
            )["Id"]
        except APIError as error:
            raise AssertionError(f"{what} cannot be made: {error.explanation}") from error
        try:
            try:
                client.start(container)
            except APIError as error:
                raise AssertionError(f"{what} does not start: {error.explanation}") from error
            status = client.wait(container, timeout=_SECONDS)["StatusCode"]
            out = client.logs(container, stdout=True, stderr=False)
            err = client.logs(container, stdout=False, stderr=True)
        finally:
            client.remove_container(container, v=True, force=True)
        text = (out + err).decode(errors="replace")
        assert status == 0, f"{what} ended with {status}: {text[-600:]}"
        decoded: str = out.decode()
        return decoded

    def config(self, image: str) -> dict[str, Any]:
        """Of an image; keys of the OCI configuration."""
        found: dict[str, Any] = self.inspect(image)["Config"]
        return found

    def inspect(self, image: str) -> dict[str, Any]:
        """All that the engine shows of an image."""
        found: dict[str, Any] = self._client.inspect_image(image)  # type: ignore[no-untyped-call]
        return found

    def layers(self, image: str) -> list[str]:
        """The digests of its layers, unpacked."""
        return list(self.inspect(image)["RootFS"]["Layers"])

    def history(self, image: str) -> str:
        """What the engine tells of how it was made."""
        # a container holds on to the unpacked layers, without which some engines tell nothing
        held = self._client.create_container(image, ["true"])["Id"]
        try:
            return json.dumps(self._client.history(image))  # type: ignore[no-untyped-call]
        finally:
            self._client.remove_container(held, v=True, force=True)

    def names(self, repository: str) -> set[str]:
        """What stands under a repository: ``repository:tag``."""
        images = self._client.images(name=repository)
        return {name for image in images for name in image.get("RepoTags") or () if name != "<none>:<none>"}

    def containers(self) -> dict[str, str]:
        """Id -> name and image of all containers, those that ended too."""
        return {
            each["Id"]: f"{', '.join(each.get('Names') or ())} ({each['Image']})"
            for each in self._client.containers(all=True)
        }

    def pull(self, reference: str) -> None:
        """Fetch an image from its registry."""
        for event in self._client.pull(reference, stream=True, decode=True):
            assert "error" not in event, f"the engine cannot pull {reference}: {event['error']}"

    def copy(self, image: str, name: str) -> None:
        """Pull an image, and push it under another name. AssertionError where that is refused."""
        self.pull(image)
        repository, _, tag = name.rpartition(":")
        self._client.tag(image, repository, tag)
        try:
            for event in self._client.push(repository, tag, stream=True, decode=True):
                assert "error" not in event, f"the engine cannot push {name}: {event['error']}"
        finally:
            self.remove(name)

    def added(self, image: str, below: int) -> Iterator[bytes]:
        """The layers above the first ``below``, unpacked, and the configuration, as stored."""
        with tempfile.TemporaryFile() as file:
            for chunk in self._client.get_image(image):
                file.write(chunk)
            file.seek(0)
            with tarfile.open(fileobj=file) as archive:
                (told,) = json.loads(_member(archive, "manifest.json"))
                yield _member(archive, told["Config"])
                for name in told["Layers"][below:]:
                    yield _unpacked(_member(archive, name))

    def gateway(self) -> str | None:
        """The address under which containers on the default network reach this machine."""
        with contextlib.suppress(Exception):  # engines without such a network say so in many ways
            found = self._client.inspect_network("bridge")["IPAM"]["Config"][0]
            return str(found["Gateway"])
        return None

    def remove(self, *names: str) -> None:
        """Untag and delete."""
        from docker.errors import APIError  # noqa: PLC0415

        def one(name: str) -> None:
            with contextlib.suppress(APIError):
                self._client.remove_image(name, force=True)

        with ThreadPoolExecutor(8) as pool:  # an engine waits for its disk at each
            list(pool.map(one, names))

    def close(self) -> None:
        """Let go of the connection."""
        self._client.close()


def _unpacked(data: bytes) -> bytes:
    """A layer as a plain archive."""
    if data[:2] == b"\x1f\x8b":
        return gzip.decompress(data)
    if data[:4] != b"\x28\xb5\x2f\xfd":
        return data
    zstd = shutil.which("zstd")  # Python has it from 3.14 on
    if zstd is None:
        raise Skipped("the layers are compressed with zstd, and there is no program zstd to read them")
    return subprocess.run([zstd, "-dc"], input=data, capture_output=True, check=True).stdout


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    return (archive.extractfile(name) or io.BytesIO()).read()
