"""Credentials in URLs: cut out, or by themselves."""

from __future__ import annotations

import re

__all__ = ["credentials", "strip_credentials"]

_AFTER_SSH_USER = r"(?i)\b((?:[a-z][a-z0-9.-]*\+)?ssh://[^/?#\s:@'\"]*):[^/?#\s'\"]*@"
_USER_INFO = r"(?i)\b(?!(?:[a-z][a-z0-9.-]*\+)?ssh://)([a-z][a-z0-9+.-]*://)[^/?#\s'\"]*@"
_RAW_USER_INFO = (  # not valid, but written: what follows the colon is no port
    r"(?i)\b(?!(?:[a-z][a-z0-9.-]*\+)?ssh://)([a-z][a-z0-9+.-]*://)[^/?#\s:@'\"]+:"
    r"(?![0-9]*(?:[/?#\s'\"]|$))[^\s'\"@]*@"
)
_CONDA_CHANNEL = r"(://[^\s'\"]*?)/t/[^/\s'\"]+(?=/|$|\s)"
_QUERY = (
    r"(?i)([?&](?:access_token|api_?key|auth|password|private_token|sig|signature|token"
    r"|x-amz-(?:credential|security-token|signature))=)[^&#\s'\"]+"
)
_LOGIN = r"(?i)\b([a-z][a-z0-9+.-]*)://([^/?#\s:@'\"]*):?([^/?#\s'\"]*)@"
_NETRC = r"\bpassword\s+(\S+)"


def strip_credentials(text: str) -> str:
    """``text`` with the credentials of every URL in it cut out; all else stays as it is.

    Cut are ``user:password@`` (of ssh only the password: its user is part of the address), the path
    ``/t/TOKEN`` of conda channels, and the values of query parameters that carry tokens. Applying it
    twice changes nothing more.
    """
    if "://" not in text:
        return text
    while True:
        cut = re.sub(_AFTER_SSH_USER, r"\1@", text)
        cut = re.sub(_USER_INFO, r"\1", cut)
        cut = re.sub(_RAW_USER_INFO, r"\1", cut)
        cut = re.sub(_CONDA_CHANNEL, r"\1", cut)
        cut = re.sub(_QUERY, r"\1", cut)
        if cut == text:
            return cut
        text = cut


def credentials(text: str) -> tuple[str, ...]:
    """What is secret in the URLs of ``text``, and in a netrc, as it is written and percent-decoded.

    Of a login the password; without one the user, which is a token then (but not of ssh).
    """
    from urllib.parse import unquote  # noqa: PLC0415 - seldom needed

    found = [
        password or ("" if kind.lower().endswith("ssh") else user)
        for kind, user, password in re.findall(_LOGIN, text)
    ]
    for pattern in (_CONDA_CHANNEL, _QUERY):
        found += [each[0].removeprefix(each[1]).removeprefix("/t/") for each in re.finditer(pattern, text)]
    found += re.findall(_NETRC, text)
    return tuple(dict.fromkeys(form for each in found if each for form in (each, unquote(each))))
