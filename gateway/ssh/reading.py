"""A file that a client reads: what the page cache holds on the event loop, all else in threads, one piece ahead."""

from __future__ import annotations

import asyncio
from typing import Any

from backends.interface import Entry, Reader
from backends.paths import StoragePath
from backends.sftp_packets import Status
from gateway.ssh.errors import SftpError, unsupported
from gateway.ssh.workspace import Workspace
from gateway.tree import Place, VirtualFolder, in_pool

AHEAD = 1 << 20  # bytes that are read before they are asked for


class Reading:
    """An open file; one operation at a time. `drop` releases it."""

    def __init__(self, workspace: Workspace, path: StoragePath, place: Place, reader: Reader) -> None:
        self.path = path
        self.count = 0  # bytes that were read from it by the client
        self._workspace = workspace
        self._place = place
        self._reader = reader
        self._end: int | None = None  # where the last read ended: a client that goes on there will go on
        self._next: tuple[int, asyncio.Future[bytes]] | None = None  # what is read ahead, and from where

    @classmethod
    async def open(cls, workspace: Workspace, path: StoragePath) -> Reading:
        """Open the file at `path`; raises NotFound, IsADirectory and what the storage says."""
        place = await workspace.resolve(path)
        if isinstance(place, VirtualFolder):
            raise SftpError(Status.FAILURE, "IS_A_DIRECTORY", "Is a directory")
        reader = await in_pool(place, place.backend.open_read, place.path)
        workspace.site.changes.passed(place.storage.name, place.path)
        return cls(workspace, path, place, reader)

    @property
    def entry(self) -> Entry:
        return self._reader.entry

    @property
    def may_write(self) -> bool:
        return self._place.may_write

    async def read(self, offset: int, size: int) -> bytes:
        """Return up to `size` bytes from `offset`, fewer at the end of the file alone; raises what the storage says."""
        is_going_on, self._end = offset == self._end, None
        data = await self._read(offset, size, is_going_on)
        self._end = offset + len(data)
        self.count += len(data)
        return data

    async def _read(self, offset: int, size: int, is_going_on: bool) -> bytes:
        found = await self._taken_ahead(offset)
        if len(found) > size:
            self._put_back(offset + size, found[size:])
            return found[:size]
        missing = size - len(found)
        return found + await self._piece(offset + len(found), missing, is_going_on) if missing else found

    async def _taken_ahead(self, offset: int) -> bytes:
        """Return what was read ahead from `offset` on; waits in any case, as a Reader does one thing at a time."""
        if self._next is None:
            return b""
        (begin, reading), self._next = self._next, None
        self._workspace.budget.give(AHEAD)
        found = await reading
        return found if begin == offset else b""

    async def _piece(self, offset: int, size: int, is_going_on: bool) -> bytes:
        cached = self._reader.read_cached(offset, size)
        if cached is not None:
            return cached
        data = await self._place.storage.pool.run(self._reader.read_at, offset, size)
        if len(data) == size and is_going_on and self._workspace.budget.take(AHEAD):
            self._look_ahead(offset + size)
        return data

    def _look_ahead(self, offset: int) -> None:
        """Have the next piece read while this one is on its way to the client."""
        pool = self._place.storage.pool
        self._next = offset, asyncio.ensure_future(pool.run(self._reader.read_at, offset, AHEAD))
        self._next[1].add_done_callback(retrieve)

    def _put_back(self, offset: int, data: bytes) -> None:
        if not self._workspace.budget.take(AHEAD):
            return
        self._next = offset, asyncio.get_running_loop().create_future()
        self._next[1].set_result(data)

    async def write(self, _offset: int, _pieces: list[memoryview]) -> None:
        raise unsupported("This file was opened for reading")

    def fail(self, error: Exception) -> None:
        """Nothing is written here."""

    async def close(self) -> None:
        await self.drop()

    async def drop(self) -> None:
        """Release the file; nothing waits for its client."""
        if self._next is not None:
            (_, reading), self._next = self._next, None
            self._workspace.budget.give(AHEAD)
            await asyncio.wait([reading])
        await self._place.storage.release(self._reader.close)


def retrieve(read: asyncio.Future[Any]) -> None:
    """Take an outcome that nobody may wait for any more."""
    if not read.cancelled():
        read.exception()
