"""A TCP link that fails as real ones do: it is slow, stalls, is cut in the middle, or is down."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

PIECE = 64 * 1024  # bytes
ON_THE_WAY = 1024  # pieces that one direction holds while they are late
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close with RST


class FaultyLink:
    """Passes connections to its own port on to `target`; what goes wrong may be changed at any time.

    `latency`: seconds that each direction takes, without narrowing it.
    """

    def __init__(self, target: int) -> None:
        """`target` is a port of this machine."""
        self.target = target
        self.latency = 0.0
        self.accepted = 0  # connections, until now
        self._left: dict[str, int] = {}  # bytes until the next cut, by direction
        self._open = threading.Event()
        self._open.set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._connections: set[asyncio.Task[None]] = set()
        self.port = 0

    # --- what goes wrong ----------------------------------------------------------------------------------------

    def stall(self) -> None:
        """Let nothing pass, and close nothing."""
        self._open.clear()

    def flow(self) -> None:
        """Let pass again, also what has waited."""
        self._open.set()

    def cut_after(self, size: int, *, up: bool = False) -> None:
        """Reset the connection that carries it once `size` more bytes have come down from the target (or gone up)."""
        self._left["up" if up else "down"] = size

    def cut(self) -> None:
        """Reset every connection now."""
        self._do(self._reset_all)

    def down(self) -> None:
        """Be unreachable: reset every connection, and refuse new ones."""
        self._do(self._close)

    def up(self) -> None:
        """Be reachable again, at the same port."""
        self._do(self._listen)

    # --- its own life -------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self._thread.start()
        self._do(self._listen)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.flow()
        self._do(self._close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, what: Callable[[], object]) -> None:
        async def done() -> None:
            result = what()
            if asyncio.iscoroutine(result):
                await result

        asyncio.run_coroutine_threadsafe(done(), self._loop).result(20)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._pass, "127.0.0.1", self.port, limit=PIECE)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        self._server.close()
        await self._reset_all()

    async def _reset_all(self) -> None:
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _pass(self, near: asyncio.StreamReader, near_out: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        self.accepted += 1
        writers = [near_out]
        try:
            far, far_out = await asyncio.open_connection("127.0.0.1", self.target, limit=PIECE)
            writers.append(far_out)
            async with asyncio.TaskGroup() as both:
                both.create_task(self._carry("up", near, far_out))
                both.create_task(self._carry("down", far, near_out))
        except* (OSError, asyncio.CancelledError):
            for writer in writers:
                with contextlib.suppress(OSError):  # that side has gone already
                    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        finally:
            for writer in writers:
                writer.transport.abort()
            self._connections.discard(task)

    async def _carry(self, direction: str, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        late: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(ON_THE_WAY)

        async def receive() -> None:
            while data := await source.read(PIECE):
                await late.put((self._loop.time() + self.latency, data))
            await late.put((self._loop.time() + self.latency, b""))

        async def send() -> None:
            while True:
                due, data = await late.get()
                await asyncio.sleep(max(0.0, due - self._loop.time()))
                while not self._open.is_set():
                    await asyncio.sleep(0.01)
                if not data:
                    target.write_eof()
                    return
                await self._send(direction, target, data)

        async with asyncio.TaskGroup() as both:
            both.create_task(receive())
            both.create_task(send())

    async def _send(self, direction: str, target: asyncio.StreamWriter, data: bytes) -> None:
        left = self._left.get(direction)
        if left is not None:
            self._left[direction] = left - len(data)
            if left <= len(data):
                del self._left[direction]
                target.write(data[:left])
                await target.drain()
                raise ConnectionResetError("cut, as was asked for")
        target.write(data)
        await target.drain()
