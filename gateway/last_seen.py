"""What received folders held when they were last listed, so that a server that is down hides nothing it has shown.

It is in the state and not in memory: an outage may outlast a restart, and with several workers all show the same. It is
written in the background, at most once a minute for a folder that has not changed, and bounded for each Share: the
`FOLDERS` that were listed last, none with more than `ENTRIES`. Content is never kept.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog
from sqlalchemy import Connection

from backends.errors import StorageError
from backends.interface import Entry
from backends.paths import StoragePath
from gateway.store import last_seen, received_shares
from gateway.store.engine import Store
from gateway.store.last_seen import Listing

FOLDERS = 100  # of one Share
ENTRIES = 2000  # of one folder; larger ones are not kept
REWRITE = 60  # seconds in which a listing that has not changed is not written again
WAITING = 200  # listings that wait to be written; what comes while there are so many is not kept

Key = tuple[str, StoragePath]  # a Share and a folder in it

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Seen:
    """A folder or file as it was at `taken`, in seconds since the epoch; `members` of a folder, if they were asked."""

    entry: Entry
    members: tuple[Entry, ...]
    taken: int


class LastSeen:
    """Remembers listings; `keep` is called on the loop."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock
        self._waiting: dict[Key, tuple[Listing, int]] = {}
        self._written: dict[Key, tuple[bytes, int]] = {}  # digest, and when; so much as can wait
        self._wake = asyncio.Event()

    def keep(self, share: str, path: StoragePath, entry: Entry, members: Sequence[Entry]) -> None:
        """Remember what is in a folder; the write comes later."""
        if len(members) > ENTRIES or len(self._waiting) >= WAITING:
            return
        now = int(self._clock())
        key = share, path
        listing = (entry, *members)
        digest, written = self._written.get(key, (b"", 0))
        if now - written < REWRITE and digest == _digest(listing):
            return
        self._waiting[key] = listing, now
        self._wake.set()

    async def find(self, share: str, path: StoragePath, *, deep: bool) -> Seen | None:
        """Return what is known of `path`, with its members if `deep`; None if that was not seen, or is not kept."""

        def work(tx: Connection) -> Seen | None:
            found = last_seen.get(tx, share, path)
            if found is not None:
                taken, (entry, *members) = found
                return Seen(entry, tuple(members) if deep else (), taken)
            above = None if path.is_root else last_seen.get(tx, share, path.parent)
            if above is None:
                return None
            taken, (_, *siblings) = above
            entry_here = next((each for each in siblings if each.name == path.name), None)
            if entry_here is None or (deep and entry_here.is_directory):
                return None
            return Seen(entry_here, (), taken)

        return await self._store.read(work)

    async def run(self) -> None:
        """Write what was remembered, again and again."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self.write()
            except StorageError as error:  # the next listing is as good
                log.warning("a listing of another server's folder could not be kept", reason=str(error))

    async def write(self) -> None:
        """Write what waits, in one transaction; what is about a Share that has ended is dropped."""
        waiting, self._waiting = self._waiting, {}

        def work(tx: Connection) -> None:
            for (share, path), (listing, taken) in waiting.items():
                if received_shares.is_accepted(tx, share):
                    last_seen.put(tx, share, path, listing, taken, FOLDERS)

        await self._store.run(work)
        if len(self._written) + len(waiting) > WAITING:
            self._written.clear()
        self._written |= {key: (_digest(listing), taken) for key, (listing, taken) in waiting.items()}


def _digest(listing: Listing) -> bytes:
    return hashlib.sha256(repr([(each.name, each.etag, each.size) for each in listing]).encode()).digest()
