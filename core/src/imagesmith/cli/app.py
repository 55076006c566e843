"""``imagesmith``: find the command, run it, turn every end into an exit code.

0 done · 1 the build or check said no · 2 you said it wrong · 3 this machine cannot · 130 interrupted
"""

from __future__ import annotations

import contextlib
import gc
import io
import os
import signal
import sys
import threading
from importlib import import_module
from typing import TYPE_CHECKING

import click

from imagesmith._version import __version__
from imagesmith.cli import options
from imagesmith.cli.terminal import Session, say
from imagesmith.errors import ImagesmithError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["COMMANDS", "cli", "main"]

COMMANDS = (
    "build", "render", "id", "tag", "exists", "files", "inspect", "rebase", "builders", "doctor",
    "conformance", "new-builder",
)  # fmt: skip

MACHINE = 3
INTERRUPTED = 130


class LazyGroup(click.Group):
    """A group whose commands are modules of this package, imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click calls it so
        """In the order in which they are explained."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """The module's ``command``."""
        if cmd_name not in COMMANDS:
            return None
        command = import_module(f"imagesmith.cli.{cmd_name.replace('-', '_')}").command
        assert isinstance(command, click.Command)  # noqa: S101 - a module of this package
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """With a guess at what a misspelt command means."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            from difflib import get_close_matches  # noqa: PLC0415

            near = get_close_matches(name, COMMANDS, n=1)
            guess = f" Did you mean '{near[0]}'?" if near else ""
            raise click.UsageError(f"No such command '{name}'.{guess}", ctx)
        return super().resolve_command(ctx, args)


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 the build or check said no, 2 you said it wrong, 3 this machine cannot, "
    "130 interrupted.",
)
@click.version_option(__version__, "-V", "--version", message="imagesmith %(version)s")
@options.debug
def cli() -> None:
    """Build container images from one Python ImageSpec, with any builder.

    A TARGET is a spec: file.py:attribute, module:attribute, or a .toml, .yaml or .json file.
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code. Without arguments: those of the process, which then ends."""
    with _ending_soon() if arguments is None else contextlib.nullcontext():
        return _main(arguments)


def _main(arguments: Sequence[str] | None) -> int:
    session = Session.of(os.environ)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # a file's name goes out as the bytes it is
    with _terminated_is_interrupted():
        try:
            done = cli.main(
                list(arguments) if arguments is not None else None,
                prog_name="imagesmith",
                standalone_mode=False,
                obj=session,
                color=session.color,
            )
        except (click.Abort, KeyboardInterrupt):
            say(session.style("interrupted", "red"))
            return INTERRUPTED
        except click.ClickException as error:
            error.show()
            return error.exit_code if isinstance(error, click.UsageError) else 2
        except Exception as error:  # noqa: BLE001 - the one place where every error ends
            return _failed(error, session)
    return done if isinstance(done, int) else 0


@contextlib.contextmanager
def _ending_soon() -> Iterator[None]:
    """Let the collector of garbage look seldom, and not at what is left at the end: mostly modules.

    It would take a sixth of the time of a build that has little to do.
    """
    gc.set_threshold(50_000, 20, 20)
    try:
        yield
    finally:
        gc.freeze()


def _failed(error: Exception, session: Session) -> int:
    """Say what went wrong. A traceback only for those who asked, and for what is a fault of ours."""
    ours = not isinstance(error, (ImagesmithError, OSError))
    if session.debug or ours:
        import traceback  # noqa: PLC0415

        say("".join(traceback.format_exception(error)).rstrip())
    head = session.style("error:", "red")
    if ours:
        say(f"{head} a fault of imagesmith or of a plugin, not yours: {type(error).__name__}: {error}")
    else:
        say(f"{head} {error}")
    return error.exit_code if isinstance(error, ImagesmithError) else MACHINE


@contextlib.contextmanager
def _terminated_is_interrupted() -> Iterator[None]:
    """TERM ends a build as Ctrl-C does: on the engine too, with nothing left behind."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
