"""The Authorization header -> a question to `access`, which alone decides."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from types import MappingProxyType

from aiohttp import web
from multidict import CIMultiDictProxy

from gateway.access import Access, Grant
from gateway.dav.paths import Root
from gateway.errors import Unproven

# RFC 6750 §2.1; it also takes the characters of base64, which other gateways' secrets hold
_TOKEN = re.compile(r"[A-Za-z0-9\-._~+/]+=*")

CHALLENGES: Mapping[Root, tuple[str, ...]] = MappingProxyType(
    {
        Root.SHARES: ('Basic realm="ocm", charset="UTF-8"', "Bearer"),
        Root.FILES: ('Basic realm="files", charset="UTF-8"',),
    }
)


async def share_grant(access: Access, headers: CIMultiDictProxy[str]) -> Grant:
    """Return the Grant of a Share's token or secret (peers.md §3a); raises Unproven.

    The user name of Basic is the secret. What follows the first colon is ignored: Seafile pads with colons.
    """
    scheme, value = _credential(headers)
    if scheme == "bearer":
        if not _TOKEN.fullmatch(value):
            raise _refused("a Bearer value that is no token")
        return await access.by_bearer(value)
    return await access.by_secret(_user_and_password(scheme, value)[0])


async def user_grant(access: Access, headers: CIMultiDictProxy[str]) -> Grant:
    """Return the Grant of a local user's password; raises Unproven."""
    return await access.by_password(*_user_and_password(*_credential(headers)))


def require_one(headers: CIMultiDictProxy[str]) -> None:
    """Return if the request carries exactly one credential; raises Unproven."""
    given = headers.getall("Authorization", [])
    if len(given) != 1:
        raise _refused("no credential" if not given else "several credentials")


def user_of(headers: CIMultiDictProxy[str]) -> str:
    """Return the user whom Basic names, not proved in any way; empty where it names none."""
    try:
        return _user_and_password(*_credential(headers))[0]
    except Unproven:
        return ""


def challenge(answer: web.Response, challenges: tuple[str, ...]) -> None:
    """Add the ways in that there are; every 401 of a root is the same, whatever was wrong."""
    for value in challenges:
        answer.headers.add("WWW-Authenticate", value)


def is_given(headers: CIMultiDictProxy[str]) -> bool:
    """Tell whether the request carries any credential."""
    return "Authorization" in headers


def _credential(headers: CIMultiDictProxy[str]) -> tuple[str, str]:
    require_one(headers)
    scheme, _, value = headers["Authorization"].partition(" ")
    return scheme.lower(), value.strip(" ")


def _user_and_password(scheme: str, value: str) -> tuple[str, str]:
    """Return what Basic carries (RFC 7617, charset UTF-8)."""
    if scheme != "basic":
        raise _refused("an unknown scheme of authentication")
    try:
        user, colon, password = base64.b64decode(value, validate=True).decode("utf-8").partition(":")
    except (binascii.Error, ValueError):
        raise _refused("a Basic credential that is no base64 of UTF-8") from None
    if not colon or "\0" in user:
        raise _refused("a Basic credential without a colon")
    return user, password


def _refused(reason: str) -> Unproven:
    return Unproven("ACCESS_DENIED", reason)
