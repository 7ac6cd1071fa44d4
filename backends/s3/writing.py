"""Writing: what fits in one request is sent by the commit alone, everything else in parts that the commit joins.

Either way the server shows a content whole or not at all (Amazon S3 User Guide, "Data consistency model"). What was
expected to be there is compared by the server where it can, else right before, under a lock of this process.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from backends.errors import IncompleteWrite, NotFound, PreconditionFailed, Unavailable
from backends.interface import Entry, Writer, check_preconditions
from backends.name_locks import NameLocks
from backends.paths import StoragePath
from backends.s3.abilities import Abilities, Probe
from backends.s3.bucket import Bucket, Found, Parameters
from backends.s3.leftovers import Leftovers
from backends.s3.parts import PartedUpload, local_refusal, new_part
from backends.s3.threads import Threads
from backends.s3.tree import Tree, entry_of


@dataclass(frozen=True, slots=True)
class Store:
    """What writers of one backend share; `spool` is where parts lie that are too large for memory."""

    bucket: Bucket
    tree: Tree
    probe: Probe
    threads: Threads
    leftovers: Leftovers
    spool: Path


class S3Writer(Writer):
    """A content that is checked before the request that shows it."""

    def __init__(
        self,
        store: Store,
        key: str,
        path: StoragePath,
        locks: NameLocks[bytes],
        *,
        size: int | None,
        if_match: str | None,
        if_none_match: bool,
        hashes: tuple[str, ...],
    ) -> None:
        """`locks`: those of the backend's paths; raises as `StorageBackend.open_write`."""
        super().__init__(size, hashes)
        self._store = store
        self._key = key
        self._path = path
        self._locks = locks
        self._size = size
        self._if_match = if_match
        self._if_none_match = if_none_match
        self._upload: PartedUpload | None = None
        self._abilities = store.probe.abilities()
        self._check()
        self._number = 1
        self._part = new_part(1, size, store.spool)

    def _check(self) -> Found | None:
        """Compare what is there now with what was expected, and return it.

        Raises NotFound, NotADirectory, IsADirectory, PreconditionFailed.
        """
        present = self._store.tree.look(self._path)
        entry = None if present is None else entry_of(self._path.name, present)
        check_preconditions(entry, self._if_match, self._if_none_match)
        if present is None:
            self._store.tree.require_parent(self._path)
        return present if isinstance(present, Found) else None

    def _write(self, data: bytes | bytearray | memoryview) -> None:
        rest = memoryview(data).cast("B") if data else memoryview(b"")
        while rest:
            if self._part.is_full:
                self._send()
            try:
                rest = rest[self._part.take(rest) :]
            except OSError as error:
                raise local_refusal(error, self._store.spool) from error

    def _send(self) -> None:
        """Send the part that is full, and begin the next."""
        if self._upload is None:
            store = self._store
            self._upload = PartedUpload(store.bucket, self._key, self._path, store.threads, store.leftovers)
        self._upload.send(self._part)
        self._number += 1
        self._part = new_part(self._number, self._size, self._store.spool)

    def _prepare(self) -> None:
        if self._upload is not None:
            self._upload.wait()

    def _commit(self) -> Entry:
        if self._upload is not None and self._part.length:
            self._upload.send(self._part)
            self._upload.wait()
        with self._locks.held(bytes(self._path)):
            conditions = self._conditions(self._check())
            try:
                self._show(conditions)
            except NotFound as error:
                if "IfMatch" not in conditions:
                    raise
                raise PreconditionFailed(str(error)) from error  # how Amazon's servers say that it finds nothing
            self._part.close()
            return self._stored()

    def _show(self, conditions: Parameters) -> None:
        if self._upload is None:
            self._store.bucket.put(self._key, self._part.content(), conditions)
        else:
            self._upload.complete(conditions)
            self._upload = None

    def _conditions(self, present: Found | None) -> Parameters:
        """Return what the server is to compare itself, as far as it does that."""
        abilities, in_parts = self._abilities, self._upload is not None
        if self._if_none_match:
            return {"IfNoneMatch": "*"} if _keeps_create(abilities, in_parts=in_parts) else {}
        if self._if_match is not None and present is not None and _keeps_replace(abilities, in_parts=in_parts):
            return {"IfMatch": f'"{present.etag}"'}
        return {}

    def _stored(self) -> Entry:
        """Look at what the server has made of it."""
        what = f"{self._store.bucket.location}: /{self._key}"
        try:
            found = self._store.bucket.head(self._key)
        except NotFound:
            raise Unavailable(f"{what} was not there any more when it was stored") from None
        if found.size != self.written:
            raise IncompleteWrite(f"{what}: {found.size} of {self.written} bytes were stored")
        return entry_of(self._path.name, found)

    def _abort(self) -> None:
        upload, self._upload = self._upload, None
        self._part.close()
        if upload is not None:
            upload.abort()


def _keeps_create(abilities: Abilities, *, in_parts: bool) -> bool:
    return abilities.create_in_parts if in_parts else abilities.create


def _keeps_replace(abilities: Abilities, *, in_parts: bool) -> bool:
    return abilities.replace_in_parts if in_parts else abilities.replace
