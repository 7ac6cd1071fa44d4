"""A folder that a client lists, some entries for each READDIR."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from backends.interface import Entry, Scan
from backends.paths import StoragePath
from backends.sftp_packets import Status
from gateway.ssh.errors import SftpError
from gateway.ssh.reading import retrieve
from gateway.ssh.workspace import Workspace
from gateway.tree import Place, VirtualFolder, in_pool

BATCH = 400  # entries of an answer; with names of 255 bytes, given twice, they still fit in a packet of 256 KiB


class Listing:
    """An open folder; one operation at a time. `drop` releases it."""

    may_write = False

    def __init__(self, path: StoragePath, entry: Entry, place: Place | None, scan: Scan | None) -> None:
        self.path = path
        self.entry = entry
        self.count = 0  # entries
        self._place = place
        self._scan = scan
        self._waiting: list[Entry] = []  # of a folder that is only names
        self._ahead: asyncio.Future[list[Entry]] | None = None  # what is read before it is asked for

    @classmethod
    async def open(cls, workspace: Workspace, path: StoragePath) -> Listing:
        """Open the folder at `path`; raises NotFound, NotADirectory."""
        place = await workspace.resolve(path)
        if isinstance(place, VirtualFolder):
            listing = cls(path, place.entry, None, None)
            listing._waiting = [*place.children]
            return listing
        found = await workspace.look(path)
        scan = await in_pool(place, place.scan, BATCH)  # last: after it nothing can fail and leave it open
        listing = cls(path, found.entry, place, scan)
        listing.may_write = place.may_write
        return listing

    async def next(self) -> Sequence[Entry]:
        """Return the next entries, none at the end; raises what the storage says."""
        if self._scan is None or self._place is None:
            batch, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
        else:
            batch = await (self._ahead or self._read(self._place, self._scan))
            self._ahead = self._read(self._place, self._scan) if batch else None
        self.count += len(batch)
        return batch

    @staticmethod
    def _read(place: Place, scan: Scan) -> asyncio.Future[list[Entry]]:
        """Have the next entries read, also while the client is busy with those before."""
        reading = asyncio.ensure_future(place.storage.pool.run(scan.next))
        reading.add_done_callback(retrieve)
        return reading

    async def write(self, _offset: int, _pieces: list[memoryview]) -> None:
        raise _no_file()

    async def read(self, _offset: int, _size: int) -> bytes:
        raise _no_file()

    def fail(self, error: Exception) -> None:
        """Nothing is written here."""

    async def close(self) -> None:
        await self.drop()

    async def drop(self) -> None:
        if self._ahead is not None:
            await asyncio.wait([self._ahead])  # a Scan does one thing at a time
        if self._scan is not None and self._place is not None:
            await self._place.storage.release(self._scan.close)


def _no_file() -> SftpError:
    return SftpError(Status.FAILURE, "NOT_A_FILE", "This handle is a folder's")
