"""Values in a Dockerfile. Pure.

``RUN`` and ``COPY`` take JSON lists, so no shell reads them. In those of ``COPY`` the parser still looks for
``$``, quotes and backslashes, and for wildcards in the sources; in those of ``RUN`` it does not.
"""

from __future__ import annotations

import json
import re

__all__ = ["can_mount_at", "exec_form", "place"]

_PLAIN = re.compile(r"/[A-Za-z0-9._/@+:~-]+")


def exec_form(*argv: str) -> str:
    """An argument list that is run as it stands."""
    return json.dumps(argv)


def place(path: str) -> str:
    """The target of a ``COPY``, as a member of its JSON list once ``exec_form`` has written it."""
    return re.sub(r"([\\\"'$])", r"\\\1", path)


def can_mount_at(path: str) -> bool:
    """Whether a mount's target can be said: behind ``target=`` three languages lie on top of each other."""
    return _PLAIN.fullmatch(path) is not None
