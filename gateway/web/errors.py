"""The one table from refusals to the status of a page; the sentence is the refusal's own."""

from __future__ import annotations

from aiohttp import web

from backends.errors import Unavailable
from gateway.errors import (
    Busy,
    Conflict,
    Full,
    Invalid,
    Locked,
    NoSuch,
    NotAllowed,
    NotBuilt,
    PeerFailed,
    Refusal,
    TooMany,
    Unproven,
)
from gateway.ocm.errors import ProtocolError

STATUS: dict[type[Refusal], int] = {
    Invalid: 400,
    Unproven: 403,  # 401 asks for a scheme of HTTP authentication, which a form is not
    NotAllowed: 403,
    NoSuch: 404,
    Conflict: 409,
    Locked: 423,
    TooMany: 429,
    NotBuilt: 501,
    PeerFailed: 502,
    Busy: 503,
    Full: 507,
}


def refusing(
    request: web.Request, response: web.Response, error: Refusal | ProtocolError | Unavailable
) -> web.Response:
    """Return `response`, a page that says why not, with its status, and when to come again where that is known."""
    response.set_status(status_of(error))
    if (seconds := getattr(error, "retry_after", None)) is not None:
        response.headers["Retry-After"] = str(seconds)
    if not request.content.is_eof():
        response.force_close()  # what comes of the body would be taken for the next request
    return response


def status_of(error: Refusal | ProtocolError | Unavailable) -> int:
    """Return the HTTP status of a page that says why not."""
    if isinstance(error, ProtocolError):
        return error.status_hint
    return 503 if isinstance(error, Unavailable) else STATUS[type(error)]
