"""``imagesmith rebase``."""

from __future__ import annotations

from pathlib import Path

import click

from imagesmith.cli import options
from imagesmith.cli.progress import reporter
from imagesmith.cli.targets import is_spec, load, settings
from imagesmith.cli.terminal import Session, answer, answer_json

__all__ = ["command"]


@click.command(
    "rebase",
    short_help="Put the newest image of its base under an image, without building it again.",
    epilog="Example: imagesmith rebase registry.example/me/app:1.0",
)
@click.argument("target", metavar="TARGET|IMAGE")
@click.option("--run-image", metavar="REFERENCE", help="Another base than the one it was built on.")
@click.option("--output", metavar="REFERENCE", help="The name it gets, in its repository; unset: its own.")
@click.option(
    "--force", is_flag=True, help="Also where the base has not changed, or the tool would rather not."
)
@click.option(
    "--registry-config",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Logins and registries, as a spec's registry_config.",
)
@options.progress
@options.as_json
@options.debug
@click.pass_obj
def command(
    session: Session,
    target: str,
    *,
    run_image: str | None,
    output: str | None,
    force: bool,
    registry_config: Path | None,
    progress: str,
    as_json: bool,
) -> None:
    """Put the newest image of its base under an image, without building it again.

    Takes a spec, or the name of an image; the builder that made the image has to be able to. Its own layers
    and its configuration stay. Prints one line, REFERENCE@DIGEST.
    """
    image, config = target, str(registry_config) if registry_config else None
    if is_spec(target):
        spec = load(target)
        image, config = spec.image_name(), config or spec.registry_config
    from imagesmith.events import Message  # noqa: PLC0415
    from imagesmith.rebasing import rebase  # noqa: PLC0415

    with reporter(progress, session) as report:
        result = rebase(
            image,
            run_image=run_image,
            output=output,
            force=force,
            registry_config=config,
            report=report,
            settings=settings(),
        )
        what = "rebased" if result.changed else "stands already"
        report(Message(f"{what} on {result.base} ({result.seconds:.1f}s)"))
    if as_json:
        answer_json(
            {
                "reference": result.reference,
                "digest": result.digest,
                "base": result.base,
                "platforms": list(result.platforms),
                "changed": result.changed,
                "seconds": round(result.seconds, 3),
            }
        )
    else:
        name = result.reference.partition("@")[0]
        answer(f"{name}@{result.digest}")
