"""Uploads that can be resumed: what was received of one is parked in the storage, and a row says whose it is.

A row is bound to the principal, the place and the length of the whole; nobody else sees or touches what it stands for.
The storage's lock on what is parked says who works on it; the row says how much of it is durable, so it is lowered
before a byte is written over and raised after the fsync. Everything is dropped a day after its last part, and as soon
as its principal may no longer write there.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import structlog
from sqlalchemy import Connection

from backends.errors import InUse, NotFound, NothingParked, StorageError, Unavailable
from backends.interface import Entry, Parked, StorageBackend, Writer
from gateway.access import Access, Grant
from gateway.errors import Conflict, Full, Refusal, Unproven
from gateway.mounts import Mounts
from gateway.ocm.shares import Permission
from gateway.stamp import Stamp
from gateway.store import uploads
from gateway.store.engine import Store
from gateway.store.uploads import Upload
from gateway.tree import Place, Storage

LIFETIME = 24 * 3600  # seconds after the last part
MOST = 100  # unfinished uploads of one principal
WORTH_KEEPING = 1 << 20  # bytes; what is cut off before so many have come is sent again as quickly
LENGTH_UNKNOWN = -1  # as the length of the whole, where a client does not tell it
EVERY = 60.0  # seconds between two looks for what has ended
# Seconds after which it is read again who has left anything, though nobody has left more; reading it at each PUT would
# cost a fifth of a small one.
KNOWN_FOR = 1.0

__all__ = ["LENGTH_UNKNOWN", "Upload", "Uploads"]

log = structlog.get_logger()


class _Known(NamedTuple):
    """Who has left anything: read when the stamp was `stamp`, at the time `read`."""

    stamp: bytes
    read: float
    principals: frozenset[str]


def is_unchanged(place: Place, present: Entry | None) -> bool:
    """Tell whether the file is as it was, or still is not there."""
    try:
        now: Entry | None = place.backend.stat(place.path)
    except NotFound:
        now = None
    return (now.etag if now else None) == (present.etag if present else None)


class Uploads:
    """Everything but `run` is synchronous and belongs into the storage's pool."""

    def __init__(
        self,
        store: Store,
        access: Access,
        mounts: Mounts,
        clock: Callable[[], float] = time.time,
        *,
        every: float = EVERY,
        parked: Stamp | None = None,
    ) -> None:
        """Look each `every` seconds for what has ended; `parked` is the one of all processes that share the state."""
        self._store = store
        self._access = access
        self._mounts = mounts
        self._clock = clock
        self._every = every
        self._parked = parked or Stamp()
        self._known = _Known(b"", float("-inf"), frozenset())

    def find(self, principal: str, place: Place, total: int) -> Upload | None:
        """Return what there is of an upload of `total` bytes."""
        found = self._store.read_sync(lambda tx: uploads.find(tx, principal, place.storage.name, place.path, total))
        return found if found and found.expires > self._clock() else None

    def require_room(self, principal: str) -> None:
        """Refuse one more unfinished upload than a principal may have; raises Full."""
        self._store.read_sync(lambda tx: self._require_room(tx, principal))

    def is_there(self, upload: Upload, place: Place) -> bool:
        """Tell whether the storage really has what was left, or somebody works on it."""
        try:
            writer = self.resume(upload, upload.parked.size, place)
        except InUse:
            return True
        except StorageError:  # its directory is gone
            return False
        if writer is not None:
            writer.abort()
        return writer is not None

    def resume(self, upload: Upload, first: int, place: Place, **expectations: Any) -> Writer | None:
        """Go on after the first `first` bytes of `upload` as `open_write` does, or return None where less is there.

        Raises InUse, and what `open_write` raises.
        """
        token = upload.parked.token
        resumed = Parked(token, first, upload.parked.identity)
        try:
            writer = place.backend.open_write(place.path, resume=resumed, **expectations)
        except NothingParked:
            self._drop(place.backend, upload)  # where it became shorter, the rest of it
            return None
        try:
            # Only now, as the Writer keeps all others out: what was read of the row before may be outdated.
            if self._store.run_sync(lambda tx: uploads.claim(tx, token, first)):
                return writer
        except BaseException:
            writer.abort()
            raise
        writer.abort()
        return None

    def keep(self, writer: Writer, principal: str, place: Place, total: int, known: Upload | None) -> Upload:
        """Park what `writer` has; it takes the place of `known`, and of nothing that has come meanwhile.

        Raises Conflict, Full, and what the storage says; then nothing more is kept than before.
        """
        kept: list[Upload] = []

        def note(parked: Parked) -> None:
            expires = int(self._clock()) + LIFETIME
            upload = Upload(principal, place.storage.name, place.path, total, parked, expires)
            replaced = known or self._expired(principal, place, total)
            if replaced is not None and replaced.parked.token != parked.token:
                self._drop(place.backend, replaced)
            self._store.run_sync(lambda tx: self._note(tx, upload, known))
            self._parked.renew()
            kept.append(upload)

        writer.park(note)
        return kept[0]

    def leave(
        self, writer: Writer, principal: str, place: Place, total: int, *, present: Entry | None, known: Upload | None
    ) -> None:
        """Park what has come of an upload that was cut off, to be resumed, or drop it; `writer` is closed then.

        It is kept while the file is as it was when the upload began (`present`): what replaced it is newer.
        """
        try:
            worth = writer.written - writer.start >= WORTH_KEEPING
            if worth and place.backend.features.resumable and is_unchanged(place, present):
                known = known or self.find(principal, place, total)
                upload = self.keep(writer, principal, place, total, known)
                if not is_unchanged(place, present):  # by whoever came too early to find what is kept
                    self.drop(place.backend, upload)
                    return
                log.info("upload.kept", principal=principal, path=str(place.path), bytes=upload.parked.size)
        except (StorageError, Refusal) as error:
            log.info("upload.unkept", principal=principal, reason=str(error))
        finally:
            writer.abort()

    def finished(self, principal: str, place: Place) -> None:
        """Drop what is left for a path whose content has come: whoever went on with that would mix two contents."""
        if principal not in self._leaving():
            return
        for upload in self._store.read_sync(lambda tx: uploads.at(tx, principal, place.storage.name, place.path)):
            self.drop(place.backend, upload)

    def _leaving(self) -> frozenset[str]:
        """Return who has left anything, whichever process keeps it."""
        stamp, now, known = self._parked.read(), time.monotonic(), self._known
        if known.stamp != stamp or now - known.read >= KNOWN_FOR:
            known = self._known = _Known(stamp, now, self._store.read_sync(uploads.principals))
        return known.principals

    def drop(self, backend: StorageBackend, upload: Upload) -> None:
        """Remove what is parked and its row; one that is being worked on, or cannot be reached, waits for the sweep.

        Nobody goes on with it in either case.
        """
        try:
            self._drop(backend, upload)
        except (InUse, Unavailable) as error:
            self._store.run_sync(lambda tx: uploads.expire(tx, upload.parked.token))
            log.info("upload.undropped", principal=upload.principal, path=str(upload.path), reason=str(error))

    async def run(self, storage: Storage) -> None:
        """Drop what has ended in `storage`, again and again until cancelled.

        Also where nothing can be resumed any more: it may have been otherwise.
        """
        while True:
            try:
                await self.sweep(storage)
            except StorageError as error:
                log.warning("upload.unswept", backend=storage.name, reason=str(error))
            await asyncio.sleep(self._every)

    async def run_without(self, configured: Collection[str]) -> None:
        """Forget what has expired in storages that are not `configured` any more, until cancelled.

        Should one come back, what is parked there is debris like any other.
        """
        while True:
            try:
                if await self._store.read(uploads.backends) - set(configured):
                    await self._store.run(lambda tx: uploads.forget_expired(tx, configured, self._clock()))
            except StorageError as error:
                log.warning("upload.unswept", reason=str(error))
            await asyncio.sleep(self._every)

    async def sweep(self, storage: Storage) -> None:
        """Drop what has expired, and what its principal may no longer write; raises Unavailable."""
        grants: dict[str, Grant | None] = {}
        for upload in await self._store.read(lambda tx: uploads.of_backend(tx, storage.name)):
            if upload.principal not in grants:
                grants[upload.principal] = await self._grant(upload.principal)
            if upload.expires <= self._clock() or not self._may_go_on(upload, grants[upload.principal]):
                await storage.pool.run(self.drop, storage.backend, upload)

    async def _grant(self, principal: str) -> Grant | None:
        try:
            return await self._access.of_principal(principal)
        except Unproven:
            return None

    def _may_go_on(self, upload: Upload, grant: Grant | None) -> bool:
        if grant is None:
            return False
        if grant.shared is not None:
            roots = [(grant.shared.backend, grant.shared.path, grant.permissions)]
        else:
            roots = [(mount.backend, mount.path, mount.rights) for mount in self._mounts.of(grant.who).values()]
        return any(
            upload.backend == backend and upload.path.is_within(path) and Permission.WRITE in rights
            for backend, path, rights in roots
        )

    def _note(self, tx: Connection, upload: Upload, known: Upload | None) -> None:
        present = uploads.find(tx, upload.principal, upload.backend, upload.path, upload.total)
        if known is not None and known.parked.token == upload.parked.token:
            if present is None or present.expires <= self._clock():
                raise Conflict("UPLOAD_ENDED", "the whole file has come meanwhile, or this upload was dropped")
        elif present is None:
            self._require_room(tx, upload.principal)
        if present is not None and present.parked.token != upload.parked.token:
            raise Conflict("UPLOAD_IN_PROGRESS", "another request has stored a part of this upload meanwhile")
        uploads.put(tx, upload)

    def _expired(self, principal: str, place: Place, total: int) -> Upload | None:
        found = self._store.read_sync(lambda tx: uploads.find(tx, principal, place.storage.name, place.path, total))
        return found if found and found.expires <= self._clock() else None

    def _require_room(self, tx: Connection, principal: str) -> None:
        if uploads.count(tx, principal, self._clock()) >= MOST:
            raise Full("TOO_MANY_UPLOADS", f"you have {MOST} unfinished uploads; finish one, or wait for a day")

    def _drop(self, backend: StorageBackend, upload: Upload) -> None:
        """Remove what is parked, and then its row, so that a crash leaves no debris; raises InUse, Unavailable."""
        try:
            backend.discard(upload.path, upload.parked.token)
        except (InUse, Unavailable):
            raise
        except StorageError as error:  # its directory is closed to us: a scan will meet it
            log.warning("upload.left", principal=upload.principal, path=str(upload.path), reason=str(error))
        self._store.run_sync(lambda tx: uploads.remove(tx, upload.parked.token))
