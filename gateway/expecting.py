"""The Expect header, for every edge alike: aiohttp's own answer to an unknown one fails where it is not UTF-8."""

from __future__ import annotations

from aiohttp import HttpVersion11, web


async def expect(request: web.Request) -> None:
    """Invite the body, or answer 417 (RFC 9110 §10.1.1); the value is not repeated. HTTP/1.0 has no expectations."""
    if request.version != HttpVersion11:
        return
    if request.headers.get("Expect", "").lower() != "100-continue":
        raise web.HTTPExpectationFailed(text="only 100-continue can be expected")
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request.writer.output_size = 0  # what counts is the answer itself
