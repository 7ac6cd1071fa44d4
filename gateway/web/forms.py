"""Forms: a bounded body, and tokens by which a form is known to be one of ours, shown to this browser a moment ago."""

from __future__ import annotations

import asyncio
import hmac
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from aiohttp import ClientPayloadError, web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import RequestPayloadError

from gateway.errors import Invalid
from gateway.ocm.fields import decode_form

MAX_FORM = 16 * 1024  # bytes
FORM_TIME = 10.0  # seconds for the form to arrive
LIFE = 900  # seconds between showing a form and sending it
COOKIE = "ocm_gateway_form"


async def read_form(request: web.Request) -> Mapping[str, str]:
    """Return the fields of a form; raises Invalid when it is too large or does not arrive, and Malformed."""
    body = bytearray()
    try:
        async with asyncio.timeout(FORM_TIME):
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > MAX_FORM:
                    raise Invalid("BODY_TOO_LARGE", f"the form has more than {MAX_FORM} bytes")
    except TimeoutError as error:
        raise Invalid("BODY_TIMEOUT", "the form did not arrive in time; please send it again") from error
    except (OSError, RequestPayloadError, ClientPayloadError, HttpProcessingError) as error:
        raise Invalid("BODY_CUT_OFF", "the form was cut off on its way; please send it again") from error
    return decode_form(bytes(body))


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
