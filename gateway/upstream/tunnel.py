"""After 101 (RFC 9110 §7.8): bytes in both directions, as they come, until one side ends. WebSocket and others alike.

There is no idle time-out: who has upgraded may be silent for hours, and TCP finds out when the other side is gone.
"""

from __future__ import annotations

from typing import Any, cast

from aiohttp import web

from gateway.upstream.connection import Connection
from gateway.upstream.errors import Closed


class _Inlet:
    """Takes the client's bytes from aiohttp, in the place of a WebSocket's parser."""

    def __init__(self, request: web.Request, connection: Connection) -> None:
        self._request = request
        self._connection = connection
        connection.on_room = self._resume

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        try:
            self._connection.write(data)
        except Closed:
            return True, b""
        if self._connection.is_full and self._request.transport is not None:
            self._request.transport.pause_reading()
        return False, b""

    def feed_eof(self) -> None:
        self._connection.close()

    def _resume(self) -> None:
        transport = self._request.transport
        if transport is not None and not transport.is_closing():
            transport.resume_reading()


def require_client(request: web.Request) -> None:
    """Raise ConnectionAbortedError when the client is gone: aiohttp tells nobody who does not read or write."""
    if request.transport is None:
        raise ConnectionAbortedError("the client is gone")


async def tunnel(request: web.Request, connection: Connection) -> None:
    """Join both sides until one of them ends; what it has sent still reaches the other. Raises Closed."""
    request.protocol.set_parser(cast("Any", _Inlet(request, connection)))
    try:
        while piece := await connection.read(lambda _: require_client(request)):
            await request.writer.write(piece)
    except OSError:
        """The client has ended it."""
    connection.close()
