"""One request and its answer: the body goes up while the answer comes down, each only as fast as it is taken.

The answer is written past aiohttp's responses, which know neither bytes that are not UTF-8 nor trailers. Nothing ends
silently: an answer that cannot be finished ends with a reset connection.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Hashable
from typing import cast

import structlog
from aiohttp import ClientPayloadError, HttpVersion11, web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_writer import StreamWriter
from aiohttp.web_protocol import RequestPayloadError

from gateway.resetting import reset
from gateway.upstream import wire
from gateway.upstream.connection import Connection, Connections, drained
from gateway.upstream.errors import BadBody, Closed, Malformed, RequestError, Silent, UpstreamError
from gateway.upstream.fields import Field, end_to_end
from gateway.upstream.outgoing import Outgoing, authenticates_connection
from gateway.upstream.tunnel import require_client, tunnel
from gateway.upstream.wire import Framing, Head, Piece

# For the log alone: the client gets nothing more.
CLIENT_GONE = 499  # as nginx has it
BAD_GATEWAY = 502

log = structlog.get_logger()


class Relayed(web.StreamResponse):
    """What aiohttp is given in the end: an answer that has gone out already."""

    def __init__(self, status: int, *, keep_alive: bool) -> None:
        super().__init__(status=status)
        self._keep_alive = keep_alive

    async def prepare(self, request: web.BaseRequest) -> None:
        """Do nothing."""

    async def write_eof(self, data: bytes = b"") -> None:
        """Do nothing."""


class Exchange:
    """One request of a client, and the server's answer to it."""

    def __init__(
        self,
        request: web.Request,
        outgoing: Outgoing,
        connections: Connections,
        tunnels: set[Connection],
        idle: float,
    ) -> None:
        """Wait `idle` seconds while nothing moves; a tunnel stands in `tunnels` as long as it lasts."""
        self._request = request
        self._outgoing = outgoing
        self._connections = connections
        self._tunnels = tunnels
        self._idle = idle
        self._owner: Hashable = request.protocol if outgoing.owns_connection else None  # of the connection, if any
        self._uploading: asyncio.Task[bool] | None = None
        self._bad_body: BadBody | None = None
        self._has_begun = False

    async def run(self) -> web.StreamResponse:
        """Relay it all; raises UpstreamError and RequestError as long as the client has got nothing of an answer."""
        connection: Connection | None = None
        try:
            connection, head = await self._ask()
            return await self._answer(connection, head)
        except (UpstreamError, RequestError) as error:
            if not self._has_begun:
                raise self._bad_body or error from None
            log.info("upstream.cut", reason=str(error))
            return self._cut(CLIENT_GONE if self._bad_body else BAD_GATEWAY)
        except OSError:
            return self._cut(CLIENT_GONE)
        except BaseException:
            reset(self._request.transport)
            raise
        finally:
            await self._stop_uploading()

    # --- asking

    async def _ask(self) -> tuple[Connection, Head]:
        """Send the request and return the connection with the head of the answer.

        A kept connection may have been closed by the server in this moment. So only a request that may be sent twice
        gets one, or one whose client has authenticated it: with the next request it may leave out the credential.
        """
        may_repeat = self._outgoing.is_repeatable
        kept = self._connections.take(self._request.protocol)
        if kept is not None:
            self._owner = self._request.protocol
        elif may_repeat and self._owner is None:
            kept = self._connections.take()
        if kept is not None:
            try:
                return kept, await self._head(kept)
            except Closed:
                if not may_repeat or self._has_begun:
                    raise
        connection = await self._connections.open()
        return connection, await self._head(connection)

    async def _head(self, connection: Connection) -> Head:
        """Send the request, pass interim answers on, and return the head of the final one."""
        try:
            connection.write(self._outgoing.head)
            if self._outgoing.has_body:
                self._uploading = asyncio.create_task(self._upload(connection))
            while True:
                head = wire.parse_head(await self._raw_head(connection))
                if head.status >= 200 or head.status == 101:
                    return head
                if self._request.version >= HttpVersion11:
                    await self._write(_client_head(head, end_to_end(head.fields, b"content-length")))
                    self._request.writer.output_size = 0  # the answer itself has not begun
        except BaseException:
            connection.abort()
            raise

    async def _raw_head(self, connection: Connection) -> bytes:
        received = b""
        while (end := wire.end_of_head(received)) is None:
            piece = await self._read(connection)
            if not piece:
                raise Closed("the connection has ended before an answer")
            received += piece
        connection.unread(received[end:])
        return received[:end]

    async def _upload(self, connection: Connection) -> bool:
        """Send the body; tell whether all of it has gone out."""
        is_chunked = self._outgoing.is_chunked
        try:
            async for piece in self._body():
                connection.write(wire.chunk(piece) if is_chunked else piece)
                await connection.drain(self._idle)
            if is_chunked:
                connection.write(wire.last_chunk(()))
        except UpstreamError:
            return False  # whoever reads the answer finds out why, or gets one that came early
        except BadBody as error:
            self._bad_body = error
            connection.abort()
            return False
        return True

    async def _body(self) -> AsyncIterator[bytes]:
        """Yield what comes of the client's body; raises BadBody."""
        content = self._request.content
        try:
            while True:
                async with asyncio.timeout(self._idle):
                    piece = await content.readany()
                if not piece:
                    return
                yield piece
        except TimeoutError:
            raise BadBody(f"nothing has come for {self._idle:g} s") from None
        except (RequestPayloadError, ClientPayloadError, HttpProcessingError, OSError, RuntimeError) as error:
            # RuntimeError is aiohttp's word for a connection that is lost before anybody reads
            raise BadBody(type(error).__name__) from None

    async def _stop_uploading(self) -> None:
        if self._uploading is not None and not self._uploading.done():
            self._uploading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._uploading

    # --- answering

    async def _answer(self, connection: Connection, head: Head) -> web.StreamResponse:
        try:
            if head.status == 101:
                return await self._switch(connection, head)
            framing = wire.framing(self._outgoing.method, head)
            is_chunked = isinstance(framing, Framing) and self._request.version >= HttpVersion11
            keep_alive = bool(self._request.keep_alive) and (is_chunked or not isinstance(framing, Framing))
            keep_alive = keep_alive and self._is_uploaded
            fields = end_to_end(head.fields, b"content-length") + wire.length_fields(head)
            fields += self._hop(is_chunked, keep_alive)
            self._has_begun = True
            await self._write(_client_head(head, fields))
            await self._relay(connection, framing, is_chunked)
            self._put_back(connection, head, framing)
            return Relayed(head.status, keep_alive=keep_alive)
        except BaseException:
            connection.abort()
            raise

    async def _relay(self, connection: Connection, framing: int | Framing, is_chunked: bool) -> None:
        """Pass the body on, framed anew; raises Closed when some of it is missing."""
        body = wire.body(framing)
        while not body.is_complete:
            piece = await self._read(connection)
            if not piece and framing is not Framing.UNTIL_CLOSE:
                raise Closed("the connection has ended in the middle of an answer")
            parts = body.feed(piece) if piece else body.end()
            content = parts[0] if len(parts) == 1 else b"".join(parts)  # many small chunks become one
            if content:
                await self._write(wire.chunk(content) if is_chunked else content)
            connection.unread(body.surplus)
        if is_chunked:
            await self._write(wire.last_chunk(end_to_end(body.trailers, b"content-length")))

    async def _switch(self, connection: Connection, head: Head) -> web.StreamResponse:
        if self._outgoing.upgrade is None:
            raise Malformed("another protocol, which nobody has asked for")
        protocols = [(name, value) for name, value in head.fields if name.lower() == b"upgrade"]
        fields = [*end_to_end(head.fields, b"content-length"), *protocols, (b"Connection", b"Upgrade")]
        self._has_begun = True
        await self._write(_client_head(head, fields))
        self._tunnels.add(connection)
        try:
            await tunnel(self._request, connection)
        finally:
            self._tunnels.discard(connection)
        return Relayed(101, keep_alive=False)

    def _hop(self, is_chunked: bool, keep_alive: bool) -> list[Field]:
        fields: list[Field] = [(b"Transfer-Encoding", b"chunked")] if is_chunked else []
        if not keep_alive:
            fields.append((b"Connection", b"close"))
        elif self._request.version < HttpVersion11:
            fields.append((b"Connection", b"keep-alive"))
        return fields

    def _put_back(self, connection: Connection, head: Head, framing: int | Framing) -> None:
        if head.persists and framing is not Framing.UNTIL_CLOSE and self._is_uploaded:
            belongs = self._owner is not None or authenticates_connection(head.fields, b"www-authenticate")
            self._connections.keep(connection, self._request.protocol if belongs else None)
        else:
            connection.close()

    @property
    def _is_uploaded(self) -> bool:
        return self._uploading is None or (self._uploading.done() and self._uploading.result())

    # --- both sides

    async def _read(self, connection: Connection) -> bytes:
        return await connection.read(self._look)

    def _look(self, seconds: float) -> None:
        """End a wait that makes no sense any more, after `seconds` in which nothing has moved."""
        require_client(self._request)
        is_uploading = self._uploading is not None and not self._uploading.done()
        if seconds >= self._idle and not is_uploading:  # then it is found out there whose fault it is
            raise Silent(f"nothing has come for {self._idle:g} s")

    async def _write(self, piece: Piece) -> None:
        """Write to the client; raises OSError when it is gone, or has taken nothing for the idle time."""
        writer = cast("StreamWriter", self._request.writer)
        await writer.write(piece, drain=False)
        if self._request.protocol.writing_paused and self._request.transport is not None:
            room = asyncio.ensure_future(writer.drain())
            try:
                if not await drained(self._request.transport, room, self._idle):
                    raise TimeoutError(f"the client has taken nothing for {self._idle:g} s")
            finally:
                room.cancel()

    def _cut(self, status: int) -> web.StreamResponse:
        reset(self._request.transport)
        return Relayed(status, keep_alive=False)


def _client_head(head: Head, fields: list[Field]) -> bytes:
    return wire.write_head(b"HTTP/1.1 %d %b" % (head.status, head.reason), fields)
