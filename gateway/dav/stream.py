"""A file's bytes onto a connection, as fast as the client takes them and without a thread while it does not.

On plain TCP the bytes go straight to the socket, past the transport: through it they would be copied twice more.
What the page cache holds is read on the event loop, anything else in the storage's threads, one piece ahead. A client
that makes us wait for a file holds no memory either: its piece is dropped and read again, except where that would mean
another request to a peer. Nothing is padded and nothing ends
silently: a body that cannot be finished ends with a reset connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import socket
import sys
import termios
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable

from aiohttp import web

from backends.interface import Reader
from backends.pool import Pool
from gateway.dav.conditions import ByteRange
from gateway.resetting import RESET, duplicate
from gateway.resetting import reset as reset  # for the files beside this one

CACHED_PIECE = 512 * 1024  # bytes read on the event loop at a time; measured: more gains nothing, less is slower
STORED_PIECE = 1 << 20  # bytes for each hop to a thread
TRANSPORT_PIECE = 256 * 1024  # bytes handed to a transport, which copies and keeps what it cannot send
LEAST_PIECE = 64 * 1024  # bytes read at a time for a client that is slow
PATIENCE = 1.0  # seconds that a piece is kept for a client that does not take it
IDLE = 300.0  # seconds in which a client must take at least something

Piece = bytes | memoryview


class Cut(Exception):
    """The file became shorter: what was announced cannot be sent."""


def _unconfirmed(connection: socket.socket) -> int:
    """Return how many bytes the kernel holds that the client has not confirmed (tcp(7), SIOCOUTQ).

    A slow client lets that shrink long before the socket counts as writable again, which takes a third of its buffer.
    """
    return int.from_bytes(fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)


@contextlib.asynccontextmanager
async def _patience(idle: float, unconfirmed: Callable[[], int]) -> AsyncIterator[None]:
    """Raise TimeoutError in the block once the client has taken nothing for `idle` seconds."""
    loop = asyncio.get_running_loop()
    next_look: asyncio.TimerHandle
    async with asyncio.timeout(idle) as limit:

        def look(before: int) -> None:
            nonlocal next_look
            now = unconfirmed()
            if now != before and not limit.expired():
                limit.reschedule(loop.time() + idle)
            next_look = loop.call_later(idle / 4, look, now)

        next_look = loop.call_later(idle / 4, look, unconfirmed())
        try:
            yield
        finally:
            next_look.cancel()


class Outlet(ABC):
    """Where a body goes."""

    piece_max: int  # bytes; more at a time is no use

    @abstractmethod
    async def send(self, piece: Piece) -> int:
        """Send `piece` and return how many bytes are out of our hands; fewer than all when the client is slow.

        Raises OSError when the connection is gone.
        """

    def send_now(self, piece: Piece) -> int | None:
        """Send what of `piece` can go without waiting, and return how many bytes; None where `send` has to do it.

        Raises OSError when the connection is gone.
        """
        return None

    async def wait(self) -> None:
        """Wait until a slow client takes more; raises TimeoutError when it takes nothing at all."""

    @abstractmethod
    def abort(self) -> None:
        """End the transfer now; `send` and `wait` then raise OSError. May be called at any time, more than once."""

    def close(self) -> None:
        """Release what the outlet holds of its own."""


class ResponseOutlet(Outlet):
    """Through aiohttp and the transport: TLS needs it."""

    piece_max = TRANSPORT_PIECE

    def __init__(self, request: web.Request, response: web.StreamResponse, idle: float) -> None:
        """Give a client up that takes nothing for `idle` seconds."""
        self._request = request
        self._response = response
        self._idle = idle

    async def send(self, piece: Piece) -> int:
        own = bytes(piece)  # a copy: transports keep what they are given, and others use the piece's memory meanwhile
        async with _patience(self._idle, self._unconfirmed):
            await self._response.write(own)
        return len(piece)

    def _unconfirmed(self) -> int:
        transport = self._request.transport
        try:
            return 0 if transport is None else _unconfirmed(transport.get_extra_info("socket"))
        except (OSError, ValueError):  # it is being closed, and the writing ends by itself
            return 0

    def abort(self) -> None:
        reset(self._request.transport)


class SocketOutlet(Outlet):
    """Straight to the socket of a plain connection, on a descriptor of its own.

    The transport must have written everything before; it goes on reading, and closes as it likes.
    """

    piece_max = STORED_PIECE

    def __init__(self, request: web.Request, transport: asyncio.Transport, idle: float) -> None:
        """Give a client up that takes nothing for `idle` seconds."""
        self._idle = idle
        self._request = request
        self._socket = duplicate(transport)
        self._loop = asyncio.get_running_loop()
        self._writable: asyncio.Future[None] | None = None

    def close(self) -> None:
        self._socket.close()

    async def send(self, piece: Piece) -> int:
        taken = self.send_now(piece)
        while taken < len(piece) and await self._becomes_writable(PATIENCE):
            taken += self.send_now(memoryview(piece)[taken:])
        return taken

    def send_now(self, piece: Piece) -> int:
        rest = memoryview(piece)
        with contextlib.suppress(BlockingIOError):
            while rest:
                rest = rest[self._socket.send(rest) :]
        taken = len(piece) - len(rest)
        self._request.writer.output_size += taken
        return taken

    async def wait(self) -> None:
        before = _unconfirmed(self._socket)
        while not await self._becomes_writable(self._idle):
            now = _unconfirmed(self._socket)
            if now == before:
                raise TimeoutError(f"the client has taken nothing for {self._idle:.0f} s")
            before = now

    def abort(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            self._socket.shutdown(socket.SHUT_RDWR)
        if self._writable is not None and not self._writable.done():
            self._writable.set_exception(ConnectionAbortedError("the transfer was cut"))
        reset(self._request.transport)

    async def _becomes_writable(self, seconds: float) -> bool:
        self._writable = self._loop.create_future()
        self._loop.add_writer(self._socket.fileno(), _wake, self._writable)
        try:
            async with asyncio.timeout(seconds):
                await self._writable
            return True
        except TimeoutError:
            return False
        finally:
            self._loop.remove_writer(self._socket.fileno())
            self._writable = None


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def open_outlet(request: web.Request, response: web.StreamResponse, idle: float = IDLE) -> Outlet:
    """Begin `response` and return the fastest way for its body, to be closed; raises OSError, TimeoutError.

    A client that takes nothing for `idle` seconds is given up, one that is slow never.
    """
    await response.prepare(request)
    transport = request.transport
    if transport is None:
        raise ConnectionResetError("the connection is gone")
    if transport.get_extra_info("sslcontext") is not None or transport.get_extra_info("socket") is None:
        return ResponseOutlet(request, response, idle)
    await _flush(request, transport, idle)
    return SocketOutlet(request, transport, idle)


async def _flush(request: web.Request, transport: asyncio.Transport, idle: float) -> None:
    """Wait until the transport has written everything; nothing else writes while a request is being answered."""
    transport.set_write_buffer_limits(high=0)
    try:
        async with asyncio.timeout(idle):
            while transport.get_write_buffer_size():
                await asyncio.sleep(0)  # uvloop writes at the end of an iteration
                await request.writer.drain()
    finally:
        transport.set_write_buffer_limits()


async def pump(reader: Reader, pool: Pool, part: ByteRange, outlet: Outlet, scratch: memoryview | None = None) -> None:
    """Send `part` of the file. Raises StorageError, OSError, and Cut when the file ends before the part does.

    What the page cache holds passes through `scratch`, CACHED_PIECE bytes that all transfers of a thread may share:
    they are used between two turns of the event loop only, so a thousand slow clients hold no memory.
    """
    source = _Source(reader, pool, part, outlet.piece_max, scratch or memoryview(bytearray(CACHED_PIECE)))
    offset, end = part.start, part.start + part.length
    piece: Piece = b""
    try:
        while offset < end:
            piece = piece or await source.piece(offset)
            if not piece:
                raise Cut("the file became shorter while it was read")
            now = outlet.send_now(piece) if source.is_cheap else None
            taken = await outlet.send(piece) if now is None else now
            source.learn(taken, len(piece))
            offset += taken
            if taken == len(piece):
                piece = b""
                await asyncio.sleep(0)  # others have their turn between two pieces from the cache
                continue
            piece = b"" if source.is_cheap else memoryview(piece)[taken:]
            if source.is_cheap:
                await source.drop()
            await outlet.wait()
    finally:
        await source.drop()


class _Source:
    """The pieces of a file: from the page cache at once, or else from a thread, which then reads one piece ahead."""

    def __init__(self, reader: Reader, pool: Pool, part: ByteRange, piece_max: int, scratch: memoryview) -> None:
        self._scratch = scratch
        self._most = CACHED_PIECE  # bytes that the client takes at a time, as far as it has shown
        self._reader = reader
        self._pool = pool
        self._end = part.start + part.length
        self._piece_max = piece_max
        self._descriptor = reader.fileno()
        self.is_cheap = self._descriptor is not None  # to be read again
        self._answers_from_cache = False
        self._ahead: asyncio.Future[bytes] | None = None
        if self._descriptor is not None and part.length > STORED_PIECE:
            with contextlib.suppress(OSError):  # only a hint: read further ahead than usual
                os.posix_fadvise(self._descriptor, part.start, part.length, os.POSIX_FADV_SEQUENTIAL)

    async def piece(self, offset: int) -> Piece:
        """Return the next bytes from `offset`, valid until the next turn of the loop; none at the end of the file."""
        if self._ahead is None:
            cached = self._cached(offset)
            if cached is not None:
                return cached
            self._ahead = self._read(offset)
        piece = await self._ahead
        self._ahead = None
        following = offset + len(piece)
        if piece and following < self._end and self._reader.read_cached(following, 1) is None:
            self._ahead = self._read(following)
        return piece

    async def drop(self) -> None:
        """Forget what was read; a file must not be closed, nor read a second time, under a read of a thread."""
        if self._ahead is not None:
            with contextlib.suppress(Exception):
                await self._ahead
            self._ahead = None

    def learn(self, taken: int, offered: int) -> None:
        """Read less at a time for a client that takes less: what it leaves is read again."""
        self._most = min(CACHED_PIECE, 2 * self._most) if taken == offered else max(LEAST_PIECE, taken)

    def _read(self, offset: int) -> asyncio.Future[bytes]:
        size = min(STORED_PIECE, self._piece_max, self._end - offset)
        return asyncio.ensure_future(self._pool.run(self._reader.read_at, offset, size))

    def _cached(self, offset: int) -> Piece | None:
        size = min(self._most, self._piece_max, self._end - offset)
        # The reader knows where the cache may be asked without waiting; once it has answered, so may we, directly.
        if not self._answers_from_cache:
            first = self._reader.read_cached(offset, 1)
            if first is None:
                return None
            self._answers_from_cache = True
        if self._descriptor is None:
            return self._reader.read_cached(offset, size) or None
        try:
            count = os.preadv(self._descriptor, [self._scratch[:size]], offset, os.RWF_NOWAIT)
            # Linux 5.9 and 5.10 tell 0 also before the end (preadv2(2), Bugs); a thread finds out.
            return self._scratch[:count] if count else None
        except BlockingIOError:
            return None
        except OSError:  # tmpfs does not take the flag (preadv2(2)); what is really wrong shows in the reader too
            self._descriptor = None
            return self._reader.read_cached(offset, size) or None
