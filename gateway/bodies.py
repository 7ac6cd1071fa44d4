"""The body of a request as it arrives, for every edge alike."""

from __future__ import annotations

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
