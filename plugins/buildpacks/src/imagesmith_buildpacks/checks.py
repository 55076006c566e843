"""What must fit before any work is done, and what must be true of what was made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imagesmith import BuilderNotReady, BuildFailed, Message, final_user
from imagesmith.base import python_fits
from imagesmith_buildpacks import builder_info
from imagesmith_buildpacks.images import facts_of, refusal

if TYPE_CHECKING:
    from imagesmith_buildpacks.builder_info import BuilderInfo
    from imagesmith_buildpacks.families import Family
    from imagesmith_buildpacks.site import Site

__all__ = ["check_python", "check_run_image", "check_trust", "uid_of_work_directory"]


def check_run_image(site: Site, info: BuilderInfo, family: Family) -> None:
    """Whether what this builder makes can run on the base, with all that was asked for.

    Raises:
        FeatureUnsupported: it cannot.
        BuilderNotReady: the builder image is not one that may be trusted with a login.
    """
    request, options = site.request, site.options
    names = {*request.spec.build_env, *options.env} & set(family.forbidden)
    if names:
        raise refusal(
            "build_env", f"the buildpacks of {family.name} refuse the variables {', '.join(sorted(names))}"
        )
    check_trust(site)
    if (
        site.repository is None
        and not site.exchanges
        and (warning := builder_info.lifecycle_warning(info.lifecycle))
    ):
        site.report(Message(warning, "warning"))
    ours = info.distro or facts_of(site.docker, info.reference, site.cache).distro
    theirs = builder_info.distro_of(request.base.config)
    if ours is not None and theirs is None:
        site.present(request.base.pinned)
        theirs = facts_of(site.docker, request.base.pinned, site.cache).distro
    platform = _platform(request.base.config) or request.platform
    if reason := builder_info.run_image_mismatch(info, ours, platform, theirs, request.base.reference):
        raise refusal("base_image", reason)


def check_trust(site: Site) -> None:
    """Whether the builder image may run where a registry's login is. Raises BuilderNotReady."""
    options = site.options
    if not options.trusted and (site.repository is not None or options.cache_image):
        raise BuilderNotReady(
            f"the builder image {options.builder} is not known, and its programs would run where the "
            "registry's login is",
            builder="buildpacks",
            hint="if you trust it: IMAGESMITH_BUILDPACKS_TRUST=true, or IMAGESMITH_BUILDPACKS_BUILDER",
        )


def _platform(config: object) -> str:
    get = getattr(config, "get", lambda _: None)
    return "/".join(str(part) for part in (get("os"), get("architecture")) if part)


def uid_of_work_directory(site: Site) -> int:
    """The number of the final user, to whom the work directory belongs. Raises BuildFailed."""
    user = final_user(site.request).partition(":")[0]
    if user.isdecimal() or user in ("", "root"):
        return int(user) if user.isdecimal() else 0
    site.present(site.request.base.pinned)
    uid = facts_of(site.docker, site.request.base.pinned, site.cache).uid(user)
    if uid is None:
        raise BuildFailed(
            f"the base image {site.request.base.reference} has no user {user}",
            builder="buildpacks",
            step="work directory",
            hint="name one that it has, or a number",
        )
    return uid


def check_python(site: Site, python: str | None, family: Family) -> None:
    """Whether the python that comes first on PATH is the one that was asked for. Raises BuildFailed."""
    wanted = site.request.spec.python_version
    if wanted is None or python is None or python_fits(python, wanted):
        return
    hint = (
        "choose a version that the builder offers, or another builder image"
        if family.chooses_python
        else f"its buildpacks take that of their build image: ask for {python}, or choose another builder"
    )
    raise BuildFailed(
        f"the buildpacks made python {python}, the spec asks for {wanted}",
        builder="buildpacks",
        step="python",
        hint=hint,
    )
