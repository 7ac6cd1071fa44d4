"""An HTTP request as the protocol core takes it: a bounded body, and the target as our own origin names it."""

from __future__ import annotations

from aiohttp import web

from gateway.bodies import whole
from gateway.ocm.errors import Malformed
from gateway.ocm.signatures import Message

MAX_BODY = 64 * 1024  # bytes
MAX_HEADERS = 64 * 1024  # bytes of all names and values; reading the signatures in a megabyte takes half a second


async def read_message(request: web.Request, origin: str, deadline: float) -> Message:
    """Read the request, as `message_of` has it.

    The body must be there at `deadline`, a time of the event loop.
    Raises Malformed when it is over MAX_HEADERS or MAX_BODY, Invalid when the body does not arrive, or not in time.
    """
    if sum(len(name) + len(value) for name, value in request.raw_headers) > MAX_HEADERS:
        raise Malformed("HEADERS_TOO_LARGE")
    if request.content_length is not None and request.content_length > MAX_BODY:
        raise Malformed("BODY_TOO_LARGE")
    body = await whole(request, MAX_BODY, deadline)
    if body is None:
        raise Malformed("BODY_TOO_LARGE")
    return message_of(request, origin, body)


def message_of(request: web.Request, origin: str, body: bytes) -> Message:
    """Return what a signature covers; `@target-uri` is `origin` and the raw target, never what Host says (wire.md,
    Verifying), nor the host of a target in absolute form (RFC 9112 section 3.2.2)."""
    headers = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in request.raw_headers)
    target = request.raw_path
    if not target.startswith("/"):
        target = "/" + target.partition("://")[2].partition("/")[2]
    return Message(request.method, origin + target, headers, body)
