"""py-rattler: solving and installing conda packages. The one module that speaks to it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import queue
import re
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from imagesmith._urls import strip_credentials
from imagesmith.errors import ChannelError, CondaError, CondaUnsolvable, Problem, SpecError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence
    from pathlib import Path

    from imagesmith.conda_channels import Channel

__all__ = ["Question", "install", "solve"]


@dataclass(frozen=True, slots=True)
class Question:
    """What is solved: match specifications, by the field they come from, channels, and the target."""

    specs: Mapping[str, str]
    """field path (``conda_packages[0]``) -> match specification, without credentials"""
    channels: Sequence[Channel]
    access: Sequence[Channel]
    """all that may need credentials, those of single specifications included"""
    subdir: str
    virtual: Mapping[str, tuple[str, str]]
    """virtual package of the target -> version, build"""
    cache: Path


def solve(question: Question) -> list[Any]:
    """The records of the environment, in the order of their installation.

    Raises:
        SpecError: a match specification is none.
        CondaUnsolvable: nothing in the channels is what was asked for.
        ChannelError: a channel is absent or does not answer.
        CondaError: py-rattler is not installed.
    """
    rattler = _rattler()
    specs = _specs(rattler, question)
    try:
        try:
            records: list[Any] = _run(lambda: _solve(rattler, question, specs, "cache-or-fetch"))
        except rattler.exceptions.GatewayError as error:
            # a 304 without the validators that make it one, as python's own http.server sends it
            if "304 Not Modified" not in str(error):
                raise
            records = _run(lambda: _solve(rattler, question, specs, "no-cache"))
    except rattler.exceptions.GatewayError as error:
        raise _channel_error(error) from None
    except rattler.exceptions.SolverError as error:
        raise _unsolvable(error, question) from None
    return records


def install(
    question: Question, records: Sequence[Any], folder: Path, prefix: str, say: Callable[[str], None]
) -> None:
    """Lay the packages out in ``folder`` as an environment for ``prefix``; ``say`` is told of each.

    Raises:
        CondaError: a package cannot be fetched, is not the one that was solved for, or cannot be written.
    """
    rattler = _rattler()
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    class Progress(rattler.InstallerReporter):  # type: ignore[misc, name-defined]
        """Called from threads of rattler's own."""

        def __init__(self) -> None:
            self.names: dict[int, str] = {}
            self.done = 0

        def on_populate_cache_start(self, operation: int, package_name: str) -> int:
            self.names[operation] = package_name
            return operation

        def on_populate_cache_complete(self, cache_entry: int) -> None:
            self.done += 1
            lines.put(f"{self.done} of {len(records)}: {self.names[cache_entry]}")

    async def work() -> None:
        await rattler.install(
            records,
            folder,
            cache_dir=question.cache / "packages",
            platform=rattler.Subdir(question.subdir),
            show_progress=False,
            execute_link_scripts=False,
            alternative_target_prefix=prefix,
            client=_client(rattler, question.access),
            reporter=Progress(),
        )

    _check_local(records)
    try:
        _run(work, lines, say)
    except rattler.exceptions.InstallerError as error:
        raise CondaError(
            f"a conda package cannot be laid out: {_told(error)}",
            hint="build again; if it stays so, look at the channel and at the room on the disk",
        ) from None


def _check_local(records: Sequence[Any]) -> None:
    """Packages in folders of this machine: rattler checks the hashes only of what it downloads."""
    for record in records:
        parts = urlsplit(str(record.url))
        if parts.scheme != "file" or not record.sha256:
            continue
        path = unquote(parts.path)
        try:
            with open(path, "rb") as file:  # noqa: PTH123 - a path that came as text
                digest = hashlib.file_digest(file, "sha256").digest()
        except OSError as error:
            raise CondaError(
                f"the conda package {path} cannot be read: {error.strerror}", hint="index the channel anew"
            ) from error
        if digest != record.sha256:
            raise CondaError(
                f"the conda package {path} is not the one that its channel lists: the hashes differ",
                hint="index the channel anew",
            )


def _rattler() -> Any:
    try:
        import rattler  # noqa: PLC0415 - optional, and 80 MB
        import rattler.exceptions  # noqa: PLC0415
        import rattler.networking.middleware  # noqa: PLC0415
    except ImportError as error:
        raise CondaError(
            "conda packages, and a python that the base image lacks, need py-rattler",
            hint="pip install 'imagesmith[conda]'",
        ) from error
    return rattler


def _specs(rattler: Any, question: Question) -> list[Any]:
    found, problems = [], []
    for where, spec in question.specs.items():
        try:
            found.append(rattler.MatchSpec(spec))
        except (rattler.exceptions.InvalidMatchSpecError, rattler.exceptions.InvalidChannelError) as error:
            problems.append(Problem(where, f"{spec!r} is no conda package: {_told(error)}"))
    if problems:
        raise SpecError(problems)
    return found


async def _solve(rattler: Any, question: Question, specs: list[Any], action: str) -> list[Any]:
    virtual = [
        rattler.GenericVirtualPackage(
            rattler.PackageName(name), rattler.Version(version), rattler.BuildString(build)
        )
        for name, (version, build) in question.virtual.items()
    ]
    records: list[Any] = await rattler.solve(
        [rattler.Channel(channel.url) for channel in question.channels],
        specs,
        gateway=rattler.Gateway(
            cache_dir=question.cache / "repodata",
            default_config=rattler.SourceConfig(cache_action=action),
            client=_client(rattler, question.access),
        ),
        platforms=[question.subdir, "noarch"],
        virtual_packages=virtual,
        channel_relations="disabled",
    )
    return records


def _client(rattler: Any, channels: Sequence[Channel]) -> Any:
    """Credentials are put in while a request is sent: no record, cache or error ever holds them."""
    logins = [(urlsplit(each.url), each.login) for each in channels if each.login is not None]

    def login(host: str, path: str) -> dict[str, str] | None:
        for parts, pair in logins:
            if host == parts.hostname and f"{path}/".startswith(f"{parts.path}/"):
                return {"Authorization": "Basic " + base64.b64encode(":".join(pair).encode()).decode()}
        return None

    mirrors = {each.url: [each.secret_url] for each in channels if each.secret_url}
    kinds = rattler.networking.middleware
    return rattler.Client(
        [
            kinds.RetryMiddleware(3),
            *([kinds.AddHeadersMiddleware(login)] if logins else ()),
            *([kinds.MirrorMiddleware(mirrors)] if mirrors else ()),
            kinds.AuthenticationMiddleware(),
            kinds.OciMiddleware(),
            kinds.GCSMiddleware(),
            kinds.S3Middleware(),
        ],
        user_agent="imagesmith",
    )


def _run(
    work: Callable[[], Coroutine[Any, Any, Any]],
    lines: queue.SimpleQueue[str | None] | None = None,
    say: Callable[[str], None] | None = None,
) -> Any:
    """Run it to its end, in a thread: the caller's may have a loop of its own. Ctrl-C cancels it.

    ``say`` gets each of ``lines``, in the caller's thread.
    """
    lines = lines or queue.SimpleQueue()
    loop = asyncio.new_event_loop()
    task = loop.create_task(work())

    def run() -> None:
        with contextlib.suppress(Exception, asyncio.CancelledError):  # the task keeps it
            loop.run_until_complete(task)
        loop.close()
        lines.put(None)

    thread = threading.Thread(target=run, name="imagesmith-conda", daemon=True)
    thread.start()
    try:
        while (line := lines.get()) is not None:
            if say is not None:
                say(line)
    except BaseException:
        with contextlib.suppress(RuntimeError):  # it ended just now
            loop.call_soon_threadsafe(task.cancel)
        thread.join(timeout=5)
        raise
    thread.join()
    return task.result()


def _channel_error(error: Exception) -> ChannelError:
    text = _told(error)
    if missing := re.search(r"could not find subdir '[^']*' in channel '([^']*?)/?'", text):
        return ChannelError(
            f"there is no conda channel {missing[1]}: {text}",
            hint="check conda_channels; credentials stand in the URL, as user:password@ or /t/TOKEN/",
        )
    if re.search(r"\b40[13]\b", text):
        hint = "put credentials in the channel's URL, as user:password@ or /t/TOKEN/, or mend them"
    else:
        hint = "check the channel's address, the network and the proxy; IMAGESMITH_CONDA_FORGE names a mirror"
    return ChannelError(f"a conda channel does not answer: {text}", hint=hint)


def _unsolvable(error: Exception, question: Question) -> CondaUnsolvable:
    text = strip_credentials(str(error)).strip().removeprefix("Cannot solve the request because of: ")
    asked = ", ".join(question.specs.values())
    where = ", ".join(channel.url for channel in question.channels)
    if "__glibc" in text or "__linux" in text:
        hint = "a package asks for a newer system than images are solved for: name an older version of it"
    elif "No candidates were found" in text:
        hint = "check name and version, or add the channel that has it to conda_channels"
    else:
        hint = "loosen one of the versions, or leave out one of the packages"
    return CondaUnsolvable(
        f"no conda environment for {question.subdir} holds {asked}:\n"
        + "".join(f"  {line}\n" for line in text.splitlines())
        + f"  channels: {where}",
        hint=hint,
    )


def _told(error: Exception) -> str:
    lines = (line.removeprefix("Caused by: ").strip() for line in str(error).splitlines())
    return strip_credentials(": ".join(dict.fromkeys(line for line in lines if line)))
