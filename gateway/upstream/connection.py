"""Connections to the one server behind: opened to the operator's own URL, with flow control both ways, and kept.

No other module connects there. A peer's address cannot get here, so the guard of `outbound` has nothing to check.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

from gateway.upstream.errors import Closed, Silent, Unreachable

CONNECT_TIME = 10.0  # seconds for the look-up, the connection and the handshake together
READ_AHEAD = 128 * 1024  # bytes received before anybody has asked for them
KEEP_TIME = 4.0  # seconds that an idle connection is kept; Apache's KeepAliveTimeout is 5
KEEP_MAX = 64  # idle connections
LOOK_TIME = 1.0  # seconds between two looks while nothing comes


class Connection(asyncio.Protocol):
    """One connection: what arrives waits here, and both sides wait for each other."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._ended = False
        self._error: Exception | None = None
        self._arrival: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._active = self._loop.time()
        self.on_room: Callable[[], None] | None = None

    # --- what the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are none by their class

    def data_received(self, data: bytes) -> None:
        self._active = self._loop.time()
        self._pieces.append(data)
        self._size += len(data)
        if self._size >= READ_AHEAD and self._transport is not None:
            self._transport.pause_reading()
        _wake(self._arrival)

    def eof_received(self) -> None:
        self._ended = True
        _wake(self._arrival)

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended, self._error = True, self._error or exc
        self._transport = None
        _wake(self._arrival)
        self.resume_writing()

    def pause_writing(self) -> None:
        self._room = self._loop.create_future()

    def resume_writing(self) -> None:
        self._active = self._loop.time()
        _wake(self._room)
        self._room = None
        if self.on_room is not None:
            self.on_room()

    # --- what an exchange calls

    @property
    def is_idle(self) -> bool:
        """Tell whether the next request may go out here: open, and nothing has come that nobody asked for."""
        return self._transport is not None and not self._transport.is_closing() and not self._pieces and not self._ended

    @property
    def is_full(self) -> bool:
        """Tell whether the server does not take what was written so far."""
        return self._room is not None

    def write(self, data: bytes | memoryview) -> None:
        """Send; raises Closed."""
        if self._transport is None or self._transport.is_closing():
            raise Closed("the connection has ended")
        self._active = self._loop.time()
        self._transport.write(data)

    async def drain(self, idle: float) -> None:
        """Wait until the server takes more; raises Silent when it has taken nothing for `idle` seconds."""
        if self._room is None or self._transport is None:
            return
        if not await drained(self._transport, self._room, idle):
            raise Silent(f"nothing has been taken for {idle:g} s")

    async def read(self, look: Callable[[float], None]) -> bytes:
        """Return what has come, empty at the end; raises Closed when the connection has broken.

        While nothing comes, `look` is called now and then with the seconds since anything has moved in either
        direction; what it raises ends the waiting.
        """
        self._active = self._loop.time()
        while not self._pieces:
            if self._ended:
                if self._error is not None:
                    raise Closed("the connection has broken")
                return b""
            look(self._loop.time() - self._active)
            await self._arrives()
        piece = self._pieces.popleft()
        self._size -= len(piece)
        if self._size < READ_AHEAD and self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()
        return piece

    def unread(self, piece: bytes | memoryview) -> None:
        """Put back what belongs to the next reader."""
        if piece:
            self._pieces.appendleft(bytes(piece))
            self._size += len(piece)

    def close(self) -> None:
        """End the connection after what was written has gone out."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """End the connection now; whoever still reads gets Closed and not an end."""
        self._error = self._error or ConnectionAbortedError()
        if self._transport is not None:
            self._transport.abort()

    async def _arrives(self) -> None:
        self._arrival = self._loop.create_future()
        timer = self._loop.call_later(LOOK_TIME, _wake, self._arrival)
        try:
            await self._arrival
        finally:
            timer.cancel()
            self._arrival = None


async def drained(transport: asyncio.Transport, room: asyncio.Future[None], idle: float) -> bool:
    """Wait for `room`, as long as `transport` gets rid of something every `idle` seconds; tell whether it came."""
    left = transport.get_write_buffer_size()
    while not (await asyncio.wait({room}, timeout=idle))[0]:
        if transport.get_write_buffer_size() >= left:
            return False
        left = transport.get_write_buffer_size()
    return True


def _wake(future: asyncio.Future[None] | None) -> None:
    if future is not None and not future.done():
        future.set_result(None)


class Connections:
    """Opens connections to the server behind, and keeps the idle ones for a moment."""

    def __init__(self, url: str, ca: Path | None = None) -> None:
        """Believe `ca` (PEM) instead of the system's store, where it is given."""
        parts = urlsplit(url)
        self._host = parts.hostname or ""
        self._port = parts.port or {"http": 80, "https": 443}[parts.scheme]
        self._context = ssl.create_default_context(cafile=ca) if parts.scheme == "https" else None
        self._loop = asyncio.get_running_loop()
        self._idle: list[tuple[Connection, Hashable, float]] = []  # the oldest first, with its owner
        self._timer: asyncio.TimerHandle | None = None

    async def open(self) -> Connection:
        """Return a new connection; raises Unreachable."""
        try:
            async with asyncio.timeout(CONNECT_TIME):
                _, connection = await self._loop.create_connection(
                    Connection, self._host, self._port, ssl=self._context
                )
                return connection
        except TimeoutError:
            raise Unreachable(f"{self._host}:{self._port} has not answered within {CONNECT_TIME:g} s") from None
        except OSError as error:
            raise Unreachable(f"{self._host}:{self._port}: {error}") from None

    def take(self, owner: Hashable = None) -> Connection | None:
        """Return an idle connection of `owner`, the youngest, or None; without an owner one that is nobody's own."""
        self._drop_old()
        for index in reversed(range(len(self._idle))):
            if self._idle[index][1] is owner:
                connection = self._idle.pop(index)[0]
                if connection.is_idle:
                    return connection
                connection.abort()
        return None

    def keep(self, connection: Connection, owner: Hashable = None) -> None:
        """Keep a connection on which an exchange has ended well; for `owner` alone, if one is given."""
        if len(self._idle) >= KEEP_MAX or not connection.is_idle:
            connection.close()
            return
        self._idle.append((connection, owner, self._loop.time()))
        self._timer = self._timer or self._loop.call_later(KEEP_TIME, self._look_again)

    def close(self) -> None:
        """Close what is idle; running exchanges end by themselves."""
        if self._timer is not None:
            self._timer.cancel()
        while self._idle:
            self._idle.pop()[0].close()

    def _look_again(self) -> None:
        self._drop_old()
        self._timer = self._loop.call_later(KEEP_TIME, self._look_again) if self._idle else None

    def _drop_old(self) -> None:
        while self._idle and self._idle[0][2] < self._loop.time() - KEEP_TIME:
            self._idle.pop(0)[0].close()
