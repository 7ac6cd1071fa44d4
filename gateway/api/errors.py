"""The one table from refusals to answers of the OCM API (wire.md, Endpoints)."""

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
from gateway.ocm.errors import FieldError, Malformed, ProtocolError, TokenError, error_body

STATUS: dict[type[Refusal], int] = {
    Invalid: 400,
    Unproven: 401,
    NotAllowed: 403,
    NoSuch: 404,
    Conflict: 409,
    Locked: 423,
    TooMany: 429,
    NotBuilt: 501,
    PeerFailed: 503,
    Busy: 503,
    Full: 507,
}
LATER = (429, 503)  # which say when to ask again
RETRY_AFTER = 30  # seconds

# What the token endpoint says instead (RFC 6749 §5.2); what is not named here is an invalid_request.
TOKEN_ERRORS: dict[type[Refusal], str] = {Unproven: "invalid_client", NotAllowed: "unauthorized_client"}


def response(error: Refusal | ProtocolError | Unavailable) -> web.Response:
    """Return the answer of the OCM API for a refusal."""
    if isinstance(error, ProtocolError):
        return web.json_response(error_body(error), status=error.status_hint)
    if isinstance(error, Unavailable):
        return _later("UNAVAILABLE", error.retry_after)
    status = STATUS[type(error)]
    if status in LATER:
        return _later(error.code, error.retry_after if isinstance(error, Busy | TooMany) else RETRY_AFTER, status)
    if isinstance(error, Invalid):
        fields = (FieldError(error.field, error.code),) if error.field else ()
        return web.json_response(error_body(Malformed(error.code, fields=fields)), status=status)
    return web.json_response({"message": error.code}, status=status)


def request_response(error: Refusal | ProtocolError | Unavailable) -> web.Response:
    """Return the answer of /request-share: 404 to who has no right to ask (OCM API 1.4.0), with the reason's code."""
    if isinstance(error, Unproven | NotAllowed):
        return web.json_response({"message": error.code}, status=404)
    return response(error)


def token_response(error: Refusal | ProtocolError | Unavailable) -> web.Response:
    """Return the answer of the token endpoint for a refusal."""
    if isinstance(error, TokenError):
        word = error.code
    elif isinstance(error, Refusal) and STATUS[type(error)] not in LATER:
        word = TOKEN_ERRORS.get(type(error), "invalid_request")
    elif isinstance(error, ProtocolError):
        word = "invalid_request"
    else:
        return response(error)
    return web.json_response({"error": word}, status=400, headers={"Cache-Control": "no-store"})


def _later(code: str, retry_after: int, status: int = 503) -> web.Response:
    return web.json_response({"message": code}, status=status, headers={"Retry-After": str(retry_after)})
