"""The ETag of a folder: another one whenever anything in it has changed, however deep.

Storage tells of a folder only that names in it came or went. Sync clients look at the root's ETag and descend where one
has changed (peers.md §3b), so what is shown is made of the storage's own etag and of the folder's generation. That is
renewed in every folder above a change: at once for changes through a door, and as soon as they are noticed for those
of other programs (`noticing.py`).

A row is committed before the change is answered, so whoever looks afterwards sees it. The disk is not waited for: the
rows of a process that has died without a farewell are in doubt, as is what it was just changing, and then all folders
show a new ETag once. Nobody fetches a file again because of that, as files have ETags of their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from hashlib import blake2b

import structlog
from sqlalchemy import Connection

from backends.errors import StorageError, Unavailable
from backends.interface import Entry, Kind, StorageBackend
from backends.paths import StoragePath
from backends.pool import Pool
from gateway.living import Living
from gateway.noticing import Noticed, Noticing
from gateway.store import changes, sent_shares
from gateway.store.changes import Generation as Generation
from gateway.store.engine import Store

TRY_AGAIN = 10.0  # seconds until a change that is owed is written down, should no other be before
ROWS = 200_000  # for each backend; one has about 100 bytes
PRUNE_EVERY = 4096  # changes

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Touched:
    """A place where something was changed; `tree`: a folder came to this name or left it, with all that is in it."""

    storage: str
    path: StoragePath
    tree: bool = False


class _Batch:
    """Changes that are written down together."""

    def __init__(self) -> None:
        self.places: list[Touched] = []
        self.written: asyncio.Future[None]


def shown(entry: Entry, generation: int) -> Entry:
    """Return `entry` as clients see it; a file is shown as it is."""
    if not entry.is_directory:
        return entry
    return replace(entry, etag=blake2b(f"{entry.etag} {generation}".encode(), digest_size=16).hexdigest())


def _is_answered(noticed: Noticed, row: Generation | None) -> bool:
    """Tell whether a row that was written since shows what was noticed."""
    return row is not None and noticed.at <= (row.below if noticed.tree else row.own)


class Changes:
    """What has changed in which folder; `close` it before the Store and the sign of life."""

    def __init__(self, store: Store, *, rows: int = ROWS, clock: Callable[[], int] = time.time_ns) -> None:
        """Keep about `rows` rows for each storage; `clock` is in nanoseconds since the epoch."""
        self._store = store
        self._living: Living | None = None  # once it has begun
        self._rows = rows
        self._clock = clock
        self._noticing: dict[str, Noticing] = {}
        self._owed: dict[str, object] = {}  # storages in which a change could not be written down, and a token for it
        self._since_pruning = 0
        self._next: _Batch | None = None  # what waits for its turn to be written down
        self._turn = asyncio.Lock()
        self._later: asyncio.TimerHandle | None = None
        self._trying: asyncio.Future[None] | None = None

    # Life

    def start(self, storages: Iterable[str], living: Living) -> None:
        """Begin, after a look whether another process has died; raises OSError, Unavailable."""

        def doubt(tx: Connection) -> None:
            for name in {*storages, *changes.storages(tx)}:
                changes.touch(tx, name, [], [StoragePath()], self._clock())

        if living.bury(lambda: self._store.run_sync(doubt)):
            log.info("changes.in_doubt", reason="a process was killed: every folder shows a new ETag once")
        self._living = living
        living.in_doubt = True

    def follow(self, name: str, backend: StorageBackend, pool: Pool, watches: int) -> None:
        """Notice what other programs change in a storage, with at most `watches` folders watched at a time."""
        if backend.features.foreign_changes:
            self._noticing[name] = Noticing(
                backend, pool, lambda noticed: self._noticed(name, noticed), watches=watches, clock=self._clock
            )

    def watch_shares(self, name: str) -> None:
        """Watch the roots of the open Shares in a storage; in its threads."""
        if name in self._noticing:
            for share in self._store.read_sync(lambda tx: sent_shares.within(tx, name, StoragePath())):
                self._noticing[name].watch(share.path)

    def close(self) -> None:
        """Bring everything to the disk: then nothing is in doubt when this process ends."""
        if self._later is not None:
            self._later.cancel()
        for noticing in self._noticing.values():
            noticing.close()
        if self._next is not None:  # its requests were cut off at the end
            self._owed.update((place.storage, object()) for place in self._next.places)
        try:
            owed = dict(self._owed)
            self._store.run_sync(lambda tx: self._pay(tx, owed))
            self._store.run_sync(changes.rewrite)
        except Unavailable as error:
            log.warning("changes.in_doubt", reason=str(error))
        else:
            if self._living is not None:
                self._living.in_doubt = False

    # What is shown; called in the storage's threads

    def look(self, name: str, backend: StorageBackend, path: StoragePath) -> Entry:
        """Return what is at `path` as clients see it; raises as `StorageBackend.stat`."""
        entry = backend.stat(path)
        return shown(entry, self.generation(name, path).own) if entry.is_directory else entry

    def generation(self, name: str, path: StoragePath) -> Generation:
        """Return the generation of a folder; read before the folder is, it is never newer than what is seen there."""
        return self._store.read_sync(lambda tx: changes.of(tx, name, path))

    async def roots(self, names: Iterable[str]) -> dict[str, int]:
        """Return the generations of the roots of these storages, from the event loop; 0 is left out."""
        wanted = list(names)
        return await self._store.read(lambda tx: changes.of_roots(tx, wanted)) if wanted else {}

    async def folders(self, wanted: Collection[tuple[str, StoragePath]]) -> list[int]:
        """Return the generations of folders, each a storage and a path in it, from the event loop."""
        return await self._store.read(lambda tx: [changes.of(tx, name, path).own for name, path in wanted])

    def members(self, name: str, path: StoragePath, above: Generation, entries: list[Entry]) -> list[Entry]:
        """Return `entries`, members of the folder at `path` with the generation `above`, as clients see them."""
        folders = [entry for entry in entries if entry.kind is Kind.DIRECTORY]  # in line: every entry passes here
        if not folders:
            return entries
        names = [entry.name for entry in folders]
        known = self._store.read_sync(lambda tx: changes.of_members(tx, name, path, names))
        if name in self._noticing:
            self._noticing[name].members(path, folders)
        return [shown(entry, max(known.get(entry.name, 0), above.below)) for entry in entries]

    def listed(self, name: str, path: StoragePath, entry: Entry) -> None:
        """Say that what is at `path`, of which the storage tells `entry`, is about to be shown."""
        if name in self._noticing:
            self._noticing[name].listed(path, entry)

    def passed(self, name: str, path: StoragePath) -> None:
        """Say, on the event loop, that somebody reads the file at `path`."""
        if name in self._noticing:
            self._noticing[name].passed(path)

    # What has changed

    async def made(self, touched: Iterable[Touched]) -> None:
        """Write down what was changed through a door, before that is answered.

        Where the state cannot be written the change is owed: what was done is done, and its answer does not wait for
        the state to have room again. Until then folders show what they did before; should this process die meanwhile,
        they show new ETags to everybody once.
        """
        places = list(touched)
        for place in places:
            if place.storage in self._noticing:
                # A storage with no thread free: the next look takes our change for another's, and renews once more.
                with contextlib.suppress(StorageError):
                    await self._noticing[place.storage].own_change(place.path, tree=place.tree)
        if self._next is None:
            self._next = batch = _Batch()
            batch.written = asyncio.ensure_future(self._write(batch))
        batch = self._next
        batch.places += places
        await asyncio.shield(batch.written)

    async def _write(self, batch: _Batch) -> None:
        """Write down all that has gathered while the batch before was written: their folders are mostly the same."""
        async with self._turn:
            self._next = None
            owed = dict(self._owed)
            try:
                await self._store.run(lambda tx: self._touch(tx, owed, batch.places), durable=False)
            except BaseException as error:
                self._owed.update((place.storage, object()) for place in batch.places)
                if not isinstance(error, Unavailable):
                    raise
                log.warning("changes.owed", reason=str(error), tried_again_in_seconds=TRY_AGAIN)
                self._later = asyncio.get_running_loop().call_later(TRY_AGAIN, self._try_again)
            else:
                self._paid(owed)

    def _try_again(self) -> None:
        if self._owed:
            self._trying = asyncio.ensure_future(self.made(()))

    def _touch(self, tx: Connection, owed: Iterable[str], places: list[Touched]) -> None:
        self._pay(tx, owed)
        for name in {place.storage for place in places}:
            here = [place for place in places if place.storage == name]
            trees = [place.path for place in here if place.tree]
            changes.touch(tx, name, [place.path.parent for place in here], trees, self._clock())
            self._prune(tx, name, len(here))

    def _noticed(self, name: str, noticed: list[Noticed]) -> None:
        """Write down what other programs have changed, unless a change of our own was written down since."""

        def work(tx: Connection) -> None:
            # If the clock was set back, the times of rows tell nothing for a while.
            tells = changes.of_roots(tx, [name]).get(name, 0) <= self._clock()
            known = changes.rows(tx, name, [one.path for one in noticed]) if tells else {}
            new = [one for one in noticed if not _is_answered(one, known.get(bytes(one.path)))]
            if new:
                trees = [one.path for one in new if one.tree]
                changes.touch(tx, name, [one.path for one in new], trees, self._clock())
                self._prune(tx, name, len(new))

        try:
            self._store.run_sync(work, durable=False)
        except Unavailable as error:
            self._owed[name] = object()
            log.warning("changes.owed", storage=name, reason=str(error))

    def _pay(self, tx: Connection, owed: Iterable[str]) -> None:
        """Take everything for changed where a change could not be written down."""
        for name in owed:
            changes.touch(tx, name, [], [StoragePath()], self._clock())

    def _paid(self, owed: Mapping[str, object]) -> None:
        for name, token in owed.items():
            if self._owed.get(name) is token:  # and not owed again meanwhile
                del self._owed[name]

    def _prune(self, tx: Connection, name: str, count: int) -> None:
        self._since_pruning += count
        if self._since_pruning >= PRUNE_EVERY:
            self._since_pruning = 0
            if gone := changes.prune(tx, name, self._rows, self._clock()):
                log.info("changes.pruned", storage=name, rows=gone)
