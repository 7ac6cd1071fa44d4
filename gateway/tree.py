"""Names -> storage: what a Grant sees at a path, resolved before any storage is touched.

A user sees `/<mount>/...` and `/received/<share>/...`; a Share's credential sees the Resource alone. The two top
levels of a user are answered from configuration and state, so no disk and no peer can make them wait.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from backends.errors import NotFound, StorageError, Unavailable
from backends.interface import SCAN_BATCH, Entry, Identity, Kind, Scan, StorageBackend
from backends.paths import StoragePath
from backends.pool import Pool
from gateway import unfinished
from gateway.access import Grant, SharedResource
from gateway.changes import Changes, shown
from gateway.mounts import READ_WRITE, Mount, Mounts
from gateway.ocm.shares import Permission
from gateway.store import received_shares
from gateway.store.engine import Store
from gateway.store.received_shares import ReceivedShare

RECEIVED = b"received"
PROBE_WAIT = 0.2  # seconds that the listing of `/` waits for the mounts' own roots before it shows what it knows
CHANGED_WAIT = 0.05  # seconds of those for a root that only we ourselves have changed since it was seen

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Storage:
    """A backend and the threads that may call it."""

    name: str
    backend: StorageBackend
    pool: Pool
    view: Callable[[str], StorageBackend] | None = None  # where files belong to users: the backend as one may use it

    def acting_as(self, user: str) -> Storage:
        """Return this storage as `user` may use it; every Place holds one for its user, or for the Share's owner."""
        return self if self.view is None else Storage(self.name, self.view(user), self.pool)

    async def release(self, close: Callable[[], None]) -> None:
        """Run `close`, which frees a Reader, Writer or Scan, in the threads, even when this task is cancelled."""
        try:
            await asyncio.shield(asyncio.ensure_future(self.pool.run(close)))
        except Unavailable:  # the line is full, but what is open must not stay so
            if not self.pool.is_abandoned:
                threading.Thread(target=close, daemon=True).start()

    async def ask(self, seconds: float, question: Callable[..., T], *arguments: Any) -> T:
        """Ask in the threads; raises Unavailable when there is no answer within `seconds`, which nobody takes then."""
        asked = asyncio.ensure_future(self.pool.run(question, *arguments))
        asked.add_done_callback(_retrieve)
        done, _ = await asyncio.wait([asked], timeout=seconds)
        if not done:
            raise Unavailable(f"{self.name}: no answer within {seconds:g} s")
        return asked.result()


def _retrieve(asked: asyncio.Future[Any]) -> None:
    """Take an outcome that nobody waits for any more."""
    if not asked.cancelled():
        asked.exception()


@dataclass(frozen=True, slots=True)
class Place:
    """A path in storage, and what may be done there."""

    storage: Storage
    path: StoragePath
    root: StoragePath  # the mount's or the Share's own; it can be neither removed nor renamed
    rights: frozenset[Permission]
    shared: SharedResource | None = None
    received: str | None = None  # id of the received Share that this lies in

    @property
    def backend(self) -> StorageBackend:
        return self.storage.backend

    @property
    def may_write(self) -> bool:
        return Permission.WRITE in self.rights

    @property
    def is_root(self) -> bool:
        return self.path == self.root

    def below(self, parts: Iterable[bytes]) -> Place:
        """Return the place of `parts` under this one, with the same rights."""
        return Place(self.storage, self.path.join(parts), self.root, self.rights, self.shared, self.received)

    @property
    def hidden(self) -> bytes:
        """Return how the names begin that are ours alone here."""
        return unfinished.prefix(received=self.received is not None)

    def address(self, path: StoragePath, begin: int = 0) -> Place:
        """Return the place that a client means by `path`, from its component `begin` on, under this one.

        Raises NotFound for a name of ours.
        """
        hidden = self.hidden
        for name in path.parts:
            if name.startswith(hidden):
                raise NotFound(f"names that begin with {hidden.decode()} are for what is not finished")
        here = self.path.followed_by(path, begin)
        return Place(self.storage, here, self.root, self.rights, self.shared, self.received)

    def scan(self, batch: int = SCAN_BATCH) -> Scan:
        """Open this directory as clients see it; raises as `StorageBackend.scan`."""
        return unfinished.FinishedScan(self.backend.scan(self.path, batch), self.hidden)

    def check(self) -> None:
        """Make sure that a Share still is what was shared; call it in the pool, before anything else.

        A folder that is gone or has another identity is not served as if it were the same (design rule 9): the
        storage may be unmounted. Raises Unavailable, so that no peer takes the Share for revoked.
        """
        if self.shared is None:
            return
        try:
            present = self.backend.stat(self.root)
        except NotFound:
            raise Unavailable(f"the Resource of Share {self.shared.share_id} is not in its place") from None
        if not is_same_resource(present, self.shared.kind, self.shared.identity):
            raise Unavailable(f"another {present.kind.value} stands in the place of Share {self.shared.share_id}")


async def in_pool(place: Place, job: Callable[..., T], *arguments: Any, **named: Any) -> T:
    """Run `job` in the storage's threads, after making sure that a Share still is what was shared."""

    def checked() -> T:
        place.check()
        return job(*arguments, **named)

    return await place.storage.pool.run(checked)


@dataclass(frozen=True, slots=True)
class VirtualFolder:
    """A folder that exists only as names: `/` and `/received`."""

    entry: Entry
    children: tuple[Entry, ...]


class _Seen(NamedTuple):
    """A mount's own root as it was seen last."""

    entry: Entry | None  # None: there is no such directory
    generation: int  # of that folder, read before it was looked at


def is_same_resource(present: Entry, kind: Kind, identity: Identity | None) -> bool:
    """Tell whether `present` is the Resource that was shared; a file may have been replaced, a folder may not."""
    if present.kind is not kind:
        return False
    return kind is Kind.FILE or identity is None or present.identity == identity


class Tree:
    """Resolves the paths of every Grant."""

    def __init__(
        self,
        store: Store,
        mounts: Mounts,
        storages: Mapping[str, Storage],
        remote: Callable[[ReceivedShare], Awaitable[Storage]],
        changes: Changes,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._changes = changes
        self._mounts = mounts
        self._storages = storages
        self._remote = remote
        self._clock = clock
        self._roots: dict[tuple[str, StoragePath], _Seen] = {}
        self._silent: set[str] = set()  # backends that did not answer the last question
        self._asked: defaultdict[str, dict[asyncio.Task[None], float]] = defaultdict(dict)  # by backend: until when

    async def resolve(self, grant: Grant, path: StoragePath) -> Place | VirtualFolder:
        """Return what `grant` sees at `path`; whether something is there, only its storage knows.

        Raises NotFound for a mount or received Share that the Grant does not have.
        """
        if grant.shared is not None:
            shared = grant.shared
            storage = self._storages.get(shared.backend)
            if storage is None:
                raise Unavailable(f"Share {shared.share_id} is on {shared.backend}, a backend that is not configured")
            storage = storage.acting_as(shared.owner)
            return Place(storage, shared.path, shared.path, grant.permissions, shared).address(path)
        if path.is_root:
            return await self._top(grant.who)
        if path.parts[0] == RECEIVED:
            return await self._received(grant.who, path)
        mount = self._mounts.of(grant.who).get(path.parts[0])
        if mount is None:
            raise NotFound(f"{grant.who} has no mount of this name")
        return self.place(grant.who, mount).address(path, 1)

    def place(self, user: str, mount: Mount) -> Place:
        """Return the root of a mount of `user`."""
        return Place(self._storages[mount.backend].acting_as(user), mount.path, mount.path, mount.rights)

    def rights_at(self, user: str, mount: str, backend: str, path: StoragePath) -> frozenset[Permission]:
        """Return what `user` may do now at a place that was shared from `mount`."""
        return self._mounts.rights_at(user, mount, backend, path)

    def shown_path(self, user: str, mount: str, path: StoragePath) -> str:
        """Return a path in storage as `user` sees it, `/<mount>/...`, for people."""
        found = self._mounts.of(user).get(mount.encode())
        below = path.relative_to(found.path) if found and path.is_within(found.path) else path.parts
        return f"/{StoragePath((mount.encode(), *below))}"

    async def look(self, user: str, backend: str, path: StoragePath) -> Entry | None:
        """Return what is at a place of local storage for `user`; None when that is not known within PROBE_WAIT.

        Raises NotFound when there is nothing.
        """
        storage = self._storages.get(backend)
        if storage is None:
            return None  # not configured any more
        try:
            return await storage.ask(PROBE_WAIT, storage.acting_as(user).backend.stat, path)
        except NotFound:
            raise
        except StorageError:
            return None

    async def _top(self, user: str) -> VirtualFolder:
        mounts = self._mounts.of(user)
        received = await self._received_entries(await self._accepted(user))
        roots = await self._mount_roots(user, mounts.values())
        children = [
            _named(root, name) if root else _unseen(name)
            for (name, mount), root in zip(mounts.items(), roots, strict=True)
            if root is not None or not mount.personal
        ]
        children.append(_folder(RECEIVED, received))
        return VirtualFolder(_folder(b"", children), tuple(children))

    async def _received(self, user: str, path: StoragePath) -> Place | VirtualFolder:
        shares = await self._accepted(user)
        if len(path.parts) == 1:
            children = await self._received_entries(shares)
            return VirtualFolder(_folder(RECEIVED, children), tuple(children))
        share = shares.get(path.parts[1].decode("utf-8", "surrogateescape"))  # a name that is not UTF-8 is nobody's
        if share is None:
            raise NotFound(f"{user} has no accepted Share of this name")
        rights = share.permissions & READ_WRITE
        place = Place(await self._remote(share), StoragePath(), StoragePath(), rights, received=share.id)
        return place.address(path, 2)

    async def _accepted(self, user: str) -> dict[str, ReceivedShare]:
        now = int(self._clock())
        return await self._store.read(lambda tx: received_shares.accepted(tx, user, now))

    async def _received_entries(self, shares: Mapping[str, ReceivedShare]) -> list[Entry]:
        """Return the roots of received Shares as they were last seen, and as changed since by ourselves."""
        generations = await self._changes.roots(share.storage for share in shares.values())
        return [
            shown(share.root_entry(name.encode()), generations.get(share.storage, 0)) for name, share in shares.items()
        ]

    async def _mount_roots(self, user: str, mounts: Iterable[Mount]) -> list[Entry | None]:
        """Return the roots' entries as they were last seen, after a look for which nobody waits longer than PROBE_WAIT.

        And only where a root was never seen, or was changed by ourselves since, or would tell what other programs have
        changed. A backend that hangs delays those who come in that time after it was asked first: until it has
        answered, nobody asks or waits again; and where it has failed then, nobody waits for what we have changed.
        """
        wanted = [(mount.backend, mount.path) for mount in mounts]
        generations = await self._changes.folders(wanted)
        now = asyncio.get_running_loop().time()
        waits = []
        for key, generation in zip(wanted, generations, strict=True):
            backend, path = key
            asked = self._asked[backend]
            due = next(iter(asked.values()), now + PROBE_WAIT)
            if due > now:
                probe = asyncio.create_task(self._probe(user, backend, path, generation))
                asked[probe] = now + PROBE_WAIT
                probe.add_done_callback(asked.pop)
                patience = due - now - PROBE_WAIT + self._patience(key, generation)
                if patience > 0:
                    waits.append(asyncio.wait([probe], timeout=patience))
        await asyncio.gather(*waits)
        return [self._shown_root(key, generation) for key, generation in zip(wanted, generations, strict=True)]

    def _patience(self, key: tuple[str, StoragePath], generation: int) -> float:
        """Return the seconds that a look is worth: it may find something else than what was seen."""
        seen = self._roots.get(key)
        if seen is None or self._storages[key[0]].backend.features.foreign_changes:
            return PROBE_WAIT
        if seen.generation == generation or key[0] in self._silent:
            return 0.0
        return CHANGED_WAIT  # our own changes renew the generation

    def _shown_root(self, key: tuple[str, StoragePath], generation: int) -> Entry | None:
        seen = self._roots.get(key)
        if seen is None:
            return _unseen(key[1].name)
        return seen.entry and shown(seen.entry, generation)

    async def _probe(self, user: str, backend: str, path: StoragePath, generation: int) -> None:
        storage = self._storages[backend].acting_as(user)
        try:
            entry: Entry | None = await storage.pool.run(storage.backend.stat, path)
        except NotFound:
            entry = None
        except StorageError:
            self._silent.add(backend)
            return  # what was known before is still the best answer
        self._silent.discard(backend)
        self._roots[backend, path] = _Seen(entry, generation)


def _named(entry: Entry, name: bytes) -> Entry:
    return Entry(name, entry.kind, entry.size, entry.modified, entry.etag)


def _unseen(name: bytes) -> Entry:
    return Entry(name, Kind.DIRECTORY, 0, 0, "unseen")


def _folder(name: bytes, children: Iterable[Entry]) -> Entry:
    """Return the entry of a virtual folder: as new as its newest child, and with an etag made of theirs."""
    children = list(children)
    digest = hashlib.sha256()
    for child in children:
        digest.update(child.name + b"\0" + child.etag.encode() + b"\0")
    return Entry(
        name, Kind.DIRECTORY, 0, max((child.modified for child in children), default=0), digest.hexdigest()[:32]
    )
