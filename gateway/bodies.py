"""The body of a request as it arrives, for every edge alike."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from aiohttp import ClientPayloadError, web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import RequestPayloadError

from gateway.errors import Invalid


async def pieces(request: web.Request) -> AsyncIterator[bytes]:
    """Yield the body piece by piece; raises Invalid when it does not arrive whole."""
    try:
        async for piece in request.content.iter_any():
            yield piece
    except (OSError, RequestPayloadError, ClientPayloadError, HttpProcessingError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and request.transport is not None:
            raise  # otherwise it is aiohttp's word for a connection that was lost before anybody read from it
        raise Invalid("BODY_CUT_OFF", f"the body was cut off or garbled: {type(error).__name__}") from error


async def whole(request: web.Request, most: int, deadline: float) -> bytes | None:
    """Return the body, or None for one of more than `most` bytes.

    It must be there at `deadline`, a time of the event loop. Raises Invalid when it does not arrive, or not in time.
    """
    body = bytearray()
    try:
        async with asyncio.timeout_at(deadline):
            async for piece in pieces(request):
                body += piece
                if len(body) > most:
                    return None
    except TimeoutError as error:
        raise Invalid("BODY_TIMEOUT", "the body did not arrive in time") from error
    return bytes(body)
