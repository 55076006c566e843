"""What to do about the common causes of a failed step, told from what it printed. Pure."""

from __future__ import annotations

import re

__all__ = ["hint_for"]

_NO_NETWORK = (
    "the build has no network, or the host's name is wrong: check the index, the mirror or the proxy"
)
_HINTS = (
    # before the packages: pip calls those of an index that it cannot reach missing
    (r"Could not resolve|failure in name resolution|Network is unreachable|Failed to establish|dns error",
     _NO_NETWORK),
    (r"tcp connect error|Connection refused", _NO_NETWORK),
    (r"No matching distribution found for (\S+)", "no such package or version for this python: {0}"),
    (r"Because (\S+) was not found in the package registry", "no such package in the index: {0}"),
    (r"Because there (?:is|are) no versions? (?:of|that satisf\w+) (\S+)",
     "no such package or version for this python: {0}"),
    (r"Unable to locate package (\S+)", "the base's package lists do not have {0}: check its name"),
    (r"has no installation candidate", "the base's package lists have no version of it"),
    (r"No space left on device|disk quota exceeded", "the engine's disk is full: see docker system df"),
    (r"CERTIFICATE_VERIFY_FAILED|certificate verify failed|invalid peer certificate",
     "the base does not trust the server's certificate: use a base that has your CA"),
    (r"THESE PACKAGES DO NOT MATCH THE HASHES|Hash mismatch for",
     "a hash in the requirements is not the file's"),
    (r"ResolutionImpossible|conflicting dependencies|requirements are unsatisfiable",
     "the requirements contradict each other"),
    (r"bash.*(not found|no such file)|exec.*bash", "the builder needs bash in the base image"),
    (r'exec: "/bin/sh"|/bin/sh.*no such file', "the builder needs a shell, /bin/sh, in the base image"),
    (r"exec format error", "the engine cannot run this platform: install QEMU's binfmt handlers there"),
    (r"the base image (?:has no python3|carries python)",
     "say conda_packages=['python'] to get a python of the requested version, or choose a base that has it"),
    (r"unauthorized: |authentication required|denied: requested access",
     "the registry wants another login: see registry_config, or run docker login"),
    (r"invalid user", "the user is not in the base image: create it in the base, or name a numeric uid"),
)  # fmt: skip


def hint_for(text: str) -> str | None:
    """The hint for the first known cause found in ``text``, several lines of a step's output."""
    for pattern, hint in _HINTS:
        if match := re.search(pattern, text, re.IGNORECASE):
            return hint.format(*match.groups())
    return None
