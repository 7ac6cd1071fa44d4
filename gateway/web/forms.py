"""Forms: a bounded body, and tokens by which a form is known to be one of ours, shown to this browser a moment ago."""

from __future__ import annotations

import asyncio
import hmac
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl

from aiohttp import web

from gateway.bodies import pieces
from gateway.errors import Invalid, NotAllowed

MAX_FORM = 8 * 1024  # bytes
FIELDS_MAX = 16
FORM_TIME = 10.0  # seconds for the form to arrive
LIFE = 900  # seconds between showing a form and sending it
COOKIE = "ocm_gateway_form"


def require_same_site(request: web.Request) -> None:
    """Refuse a form that a page of somebody else has sent; raises NotAllowed.

    Browsers say so by themselves (Fetch Metadata); Origin is of no use, since `no-referrer` makes it null here too.
    """
    if request.headers.get("Sec-Fetch-Site", "same-origin") != "same-origin":
        raise NotAllowed("CROSS_SITE", "a page of another site has sent this form")


async def read_form(request: web.Request) -> Mapping[str, str]:
    """Return the fields of an `application/x-www-form-urlencoded` body; raises Invalid."""
    if request.content_type != "application/x-www-form-urlencoded":
        raise Invalid("NOT_A_FORM", "the body is not what a form sends")
    body = bytearray()
    try:
        async with asyncio.timeout(FORM_TIME):
            async for piece in pieces(request):
                body += piece
                if len(body) > MAX_FORM:
                    raise Invalid("FORM_TOO_LARGE", f"the form has more than {MAX_FORM} bytes")
        return dict(parse_qsl(body.decode(), errors="strict", max_num_fields=FIELDS_MAX))
    except TimeoutError as error:
        raise Invalid("BODY_TIMEOUT", "the form did not arrive in time") from error
    except ValueError as error:
        raise Invalid("NOT_A_FORM", "the body is no form in UTF-8") from error


@dataclass(frozen=True, slots=True)
class Issued:
    """The two halves: one in a cookie, which other sites cannot send, the other in the form, which they cannot read."""

    cookie: str
    token: str


class FormTokens:
    """Makes and checks tokens; no process remembers any, they are signed with a key that all have."""

    def __init__(self, key: bytes, clock: Callable[[], float] = time.time) -> None:
        self._key = key
        self._clock = clock

    def issue(self) -> Issued:
        """Return the two halves for a form that is shown now."""
        cookie, expires = secrets.token_urlsafe(16), int(self._clock()) + LIFE
        return Issued(cookie, f"{expires}.{self._signature(cookie, str(expires))}")

    def accepts(self, cookie: str | None, token: str | None) -> bool:
        """Tell whether the two belong together and are fresh."""
        expires, _, signature = (token or "").partition(".")
        wanted = self._signature(cookie or "", expires)
        if not hmac.compare_digest(signature.encode("utf-8", "surrogatepass"), wanted.encode()):
            return False
        return bool(cookie) and self._clock() < int(expires)

    def _signature(self, cookie: str, expires: str) -> str:
        return hmac.digest(self._key, f"{expires}.{cookie}".encode("utf-8", "surrogatepass"), "sha256").hex()
