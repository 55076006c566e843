"""Containers of the engine: made, filled, run to their end, and taken away whatever happens."""

from __future__ import annotations

import codecs
import contextlib
import tarfile
import tempfile
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from imagesmith import EngineError
from imagesmith_buildpacks.archive import unpacked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from docker import APIClient

__all__ = ["Container", "Engine", "Volume"]

CACHE = "io.imagesmith.cache"
"""the label of volumes, for those who clean up"""
_PATIENCE = 24 * 3600
"""seconds of silence: a step may work for long without a word"""


@dataclass(frozen=True, slots=True)
class Volume:
    """Something mounted: a volume (made where it lacks), or a path of the engine's machine."""

    target: str
    name: str | None = None
    """unset: one of this container alone, which goes with it"""
    bind: bool = False


@dataclass(frozen=True, slots=True)
class Container:
    """One that was made; it may not run yet."""

    client: Any
    id: str

    def put(self, archive: bytes | IO[bytes], path: str = "/") -> None:
        """Unpack an archive in it."""
        with _speaking(f"copy files to {path} of a container"):
            self.client.put_archive(self.id, path, archive)

    def start(self) -> None:
        """Start it."""
        with _speaking("start a container"):
            self.client.start(self.id)

    def follow(self, on_line: Callable[[str], None]) -> int:
        """Pass on what it prints, line by line, until it ends. Returns its exit code."""
        decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
        rest = ""
        with _speaking("follow a container"), _patient(self.client):
            for chunk in self.client.logs(self.id, stdout=True, stderr=True, stream=True, follow=True):
                *lines, rest = (rest + decode(chunk)).split("\n")
                for line in lines:
                    on_line(line)
            if rest:
                on_line(rest)
            return int(self.client.wait(self.id)["StatusCode"])

    def fetch(self, path: str) -> dict[str, bytes] | None:
        """The files below a path, their names starting with its last part; None where there is none."""
        from docker.errors import NotFound  # noqa: PLC0415 - costs 0.2 s

        with _speaking(f"copy {path} out of a container"), tempfile.TemporaryFile() as file:
            try:
                chunks, _ = self.client.get_archive(self.id, path)
            except NotFound:
                return None
            for chunk in chunks:
                file.write(chunk)
            file.seek(0)
            return unpacked(file)

    def copy(self, path: str, target: Path) -> None:
        """Copy the content of a folder, of any size, into ``target``, which is made where it lacks."""
        top = path.rstrip("/").rpartition("/")[2] + "/"
        with _speaking(f"copy {path} out of a container"), tempfile.TemporaryFile() as file:
            chunks, _ = self.client.get_archive(self.id, path)
            for chunk in chunks:
                file.write(chunk)
            file.seek(0)
            with tarfile.open(fileobj=file) as archive:
                for entry in archive:
                    if entry.isfile() and entry.name.startswith(top):
                        entry.name = entry.name.removeprefix(top)
                        archive.extract(entry, target, filter="data")

    def commit(self, name: str, changes: Sequence[str] = ()) -> str:
        """An image of its files, under this name (``name:tag``). Returns the image's id."""
        repository, _, tag = name.rpartition(":")
        with _speaking(f"make the image {name} of a container"):
            done = self.client.commit(self.id, repository=repository, tag=tag, changes=list(changes) or None)
        return str(done["Id"])


@dataclass(frozen=True, slots=True)
class Engine:
    """What this builder asks of the Docker Engine. Every method raises EngineError where it says no."""

    client: APIClient

    @contextlib.contextmanager
    def container(
        self,
        image: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        volumes: Sequence[Volume] = (),
        network: str | None = None,
        user: str = "0:0",
        platform: str | None = None,
    ) -> Iterator[Container]:
        """A new container, removed in the end with its own volumes, running or not."""
        from docker.types import Mount  # noqa: PLC0415 - costs 0.2 s

        client: Any = self.client
        mounts = [
            Mount(
                each.target,
                each.name,
                type="bind" if each.bind else "volume",
                no_copy=not each.bind,
                labels=None if each.bind else {CACHE: "buildpacks"},
            )
            for each in volumes
        ]
        host = client.create_host_config(
            mounts=mounts,
            network_mode=network,
            security_opt=["label=disable"] if any(each.bind for each in volumes) else None,
        )
        with _speaking(f"make a container of {image}"):
            made = client.create_container(
                image,
                command=list(argv[1:]),
                entrypoint=list(argv[:1]),
                environment=dict(env or {}),
                user=user,
                working_dir="/",
                host_config=host,
                platform=platform,
            )
        container = Container(client, str(made["Id"]))
        try:
            yield container
        finally:
            with contextlib.suppress(EngineError), _speaking("remove a container"):
                client.remove_container(container.id, v=True, force=True)

    def config(self, reference: str) -> Mapping[str, object] | None:
        """The configuration document of an image that the engine has; None where it has none."""
        found = self.inspect(reference)
        if found is None:
            return None
        return {
            "os": found["Os"],
            "architecture": found["Architecture"],
            "variant": found.get("Variant"),
            "config": found.get("Config") or {},
        }

    def inspect(self, reference: str) -> Mapping[str, Any] | None:
        """All that the engine says of an image."""
        from docker.errors import ImageNotFound, NotFound  # noqa: PLC0415 - costs 0.2 s

        client: Any = self.client
        with _speaking(f"look for {reference}"):
            try:
                found: Mapping[str, Any] = client.inspect_image(reference)
            except (ImageNotFound, NotFound):
                return None
        return found

    def pull(self, reference: str, platform: str | None, auth: Mapping[str, str]) -> None:
        """Fetch an image by ``name:tag`` or ``name@digest``."""
        client: Any = self.client
        with _speaking(f"pull {reference}"), _patient(client):
            said = [
                str(event["error"])
                for event in client.pull(
                    reference, stream=True, decode=True, auth_config=dict(auth), platform=platform
                )
                if "error" in event
            ]
        if said:
            raise EngineError(
                f"the engine cannot pull {reference}: {said[0]}",
                hint="the engine talks to the registry, not this process: check the name, docker login, "
                "and whether the engine reaches that registry",
            )

    def named(self, repository: str) -> list[str]:
        """The names ``repository:tag`` that stand in the engine, the newest image first."""
        client: Any = self.client
        with _speaking(f"list the images of {repository}"):
            found = sorted(client.images(name=repository), key=lambda image: -int(image["Created"]))
        return [name for image in found for name in image.get("RepoTags") or () if name != "<none>:<none>"]

    def tag(self, image: str, name: str) -> None:
        """Give an image the name ``name:tag``."""
        repository, _, tag = name.rpartition(":")
        client: Any = self.client
        with _speaking(f"tag {image}"):
            client.tag(image, repository, tag, force=True)

    def forget(self, name: str) -> None:
        """Take a name away, and the image if that was its last. Never raises."""
        client: Any = self.client
        with contextlib.suppress(EngineError), _speaking(f"remove {name}"):
            client.remove_image(name)

    def forget_volume(self, name: str) -> None:
        """Remove a volume. Never raises."""
        client: Any = self.client
        with contextlib.suppress(EngineError), _speaking(f"remove the volume {name}"):
            client.remove_volume(name, force=True)


@contextlib.contextmanager
def _patient(client: Any) -> Iterator[None]:
    before, client.timeout = client.timeout, _PATIENCE
    try:
        yield
    finally:
        client.timeout = before


@contextlib.contextmanager
def _speaking(doing: str) -> Iterator[None]:
    """Turn what the client library raises into EngineError: ``cannot <doing>: <why>``."""
    import requests  # noqa: PLC0415 - costs 0.2 s
    from docker.errors import APIError, DockerException  # noqa: PLC0415
    from urllib3.exceptions import HTTPError  # noqa: PLC0415

    try:
        yield
    except APIError as error:
        why = str(error.explanation or error)
        full = "no space left on device" in why
        raise EngineError(
            f"cannot {doing}: the Docker engine says: {why}",
            hint="the engine's disk is full: docker system df, then docker system prune" if full else None,
        ) from error
    except (DockerException, requests.RequestException, HTTPError, ConnectionError) as error:
        raise EngineError(
            f"cannot {doing}: the engine does not answer any more ({error})", hint="is it still running?"
        ) from error
