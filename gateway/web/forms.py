"""Forms: a bounded body, and whose page has sent it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from urllib.parse import parse_qsl

from aiohttp import web

from gateway.bodies import whole
from gateway.errors import Invalid, NotAllowed

MAX_FORM = 8 * 1024  # bytes
FIELDS_MAX = 16
FORM_TIME = 10.0  # seconds for the form to arrive


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
    body = await whole(request, MAX_FORM, asyncio.get_running_loop().time() + FORM_TIME)
    if body is None:
        raise Invalid("FORM_TOO_LARGE", f"the form has more than {MAX_FORM} bytes")
    try:
        return dict(parse_qsl(body.decode(), errors="strict", max_num_fields=FIELDS_MAX))
    except ValueError as error:
        raise Invalid("NOT_A_FORM", "the body is no form in UTF-8") from error
