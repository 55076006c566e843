"""From a built image to a finished one: what was asked for, exactly, and checked.

A builder makes the files right; here the configuration is made right, whatever the builder left. The
result stands in the store without a tag: publishing is the pipeline's last step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from imagesmith.configuration import differences, document, wanted
from imagesmith.errors import VerificationFailed
from imagesmith.stores._documents import same_platform

if TYPE_CHECKING:
    from collections.abc import Iterable

    from imagesmith.builder import BaseImage, Contribution
    from imagesmith.spec import ImageSpec
    from imagesmith.stores import Store, StoredImage

__all__ = ["finish"]


def finish(
    store: Store,
    built: str | StoredImage,
    *,
    base: BaseImage,
    spec: ImageSpec,
    contribution: Contribution,
    tag: str,
    builder: str,
    version: str,
    platform: str | None = None,
    created: str | None = None,
) -> StoredImage:
    """Give what was built its configuration, and read it back.

    Args:
        store: where the image stands, and where the finished one will.
        built: what the builder left: its digest or name, or the image where no manifest was written yet.
        base: the base it was built on.
        spec: what was asked for.
        contribution: what the builder's files need in the configuration.
        tag: the tag it will be published under.
        builder: ``NAME VERSION``.
        version: imagesmith's own.
        platform: which one of those under ``built``, ``os/arch[/variant]``; unset: the only one.
        created: time that the configuration states (RFC 3339); unset: the base's.

    Raises:
        VerificationFailed: there is no such image, or what was written reads back otherwise.
        StoreError: the store did not do its part.
    """
    image = store.read(built, platform) if isinstance(built, str) else built
    if image is None or (platform is not None and not same_platform(image.platform, platform)):
        if isinstance(built, str):
            what = f"under {built}: {', '.join(store.platforms(built)) or 'nothing'} stands there"
        else:
            what = f"but one for {built.platform or 'no platform'}"
        raise VerificationFailed(
            f"{builder} left no image for {platform or 'any platform'} {what}",
            hint="this is a mistake of the builder: report it to its authors",
        )
    config = wanted(base, spec, contribution, tag=tag, builder=builder, version=version)
    want = document(image.config, base.config, config, builder=builder, created=created)
    if image.digest and "history" in image.config and not differences(image.config, want):
        return image
    written = store.write_config(image, want)
    read_back = store.read(written.digest, platform)
    if read_back is None:
        raise _failed(written.digest, ["the store does not know it"])
    if found := differences(read_back.config, want):
        raise _failed(written.digest, found)
    return read_back


def _failed(digest: str, found: Iterable[str]) -> VerificationFailed:
    lines = "\n".join(f"  - {line}" for line in found)
    return VerificationFailed(
        f"the finished image {digest} is not what was asked for; nothing was published:\n{lines}",
        hint="the store changed what was written to it; if it is up to date, report this",
    )
