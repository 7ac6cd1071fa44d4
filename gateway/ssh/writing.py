"""A file that a client writes: new content that nobody else sees before the client's own CLOSE, or its fsync.

    there is no file, or it is to be emptied    a Writer, which takes the bytes from the first to the last
    there is one that is to be changed          from its beginning: a Writer as well, and then the rest (`overwriting`);
                                                elsewhere: a private copy of it (`open_update`), where the storage can
    something is left of an upload              the Writer goes on with that, if the client goes on where it ends

Whatever else ends a file, a dead client above all, drops what was written, or keeps it to be gone on with; the old
content stays. So does what somebody else has put there since the client has opened the file, unless it has emptied the
file by that: then its content is meant for the place of whatever is there.
Clients that send several pieces at once (rclone) may send them slightly out of order.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import structlog

from backends.errors import (
    AlreadyExists,
    IncompleteWrite,
    IsADirectory,
    NotFound,
    NothingParked,
    PreconditionFailed,
    StorageError,
)
from backends.interface import Entry, Kind, Writer
from backends.paths import StoragePath
from backends.sftp_packets import Open, Status
from gateway.changes import Touched
from gateway.locks import Touch
from gateway.ssh.errors import REFUSALS, SftpError, may_have_changed, unsupported
from gateway.ssh.overwriting import completed
from gateway.ssh.workspace import Workspace
from gateway.tree import Place, in_pool
from gateway.uploads import LENGTH_UNKNOWN, Upload

log = structlog.get_logger()

_TOUCH = Touch.CONTENT | Touch.NEW_NAME


class Writing:
    """An open file; one operation at a time. It ends with `close`, which commits, or with `drop`."""

    def __init__(self, workspace: Workspace, path: StoragePath, place: Place, flags: Open) -> None:
        self.path = path
        self.count = 0  # bytes that the client has written
        self._workspace = workspace
        self._place = place
        self._flags = flags
        self._present: Entry | None = None  # the file as it was before
        self._known: Upload | None = None  # what is left of an upload, which the client may go on with
        self._writer: Writer | None = None
        self._failed: Exception | None = None
        self._is_over = False  # over the file as it was before, the rest of which is not there yet
        self._in_order = True  # everything so far
        self._early: dict[int, bytes] = {}  # by offset, what came before its turn
        self._modified: int | None = None

    @classmethod
    async def open(cls, workspace: Workspace, path: StoragePath, flags: Open) -> Writing:
        """Open the file at `path` as `flags` say; raises AlreadyExists, NotFound, IsADirectory, Locked, Unsupported."""
        writing = cls(workspace, path, await workspace.place(path), flags)
        await in_pool(writing._place, writing._begin)
        return writing

    @property
    def entry(self) -> Entry:
        """What the file is for this client: its size is that of what has come."""
        size, modified = (self._present.size, self._present.modified) if self._present else (0, time.time_ns())
        if self._writer is not None:
            size, modified = max(self._writer.written, size if self._is_over else 0), time.time_ns()
        if self._modified is not None:
            modified = self._modified
        return Entry(self._place.path.name, Kind.FILE, size, modified, "unfinished")

    may_write = True

    # --- in the storage's threads -------------------------------------------------------------------------------

    def _begin(self) -> None:
        place, flags = self._place, self._flags
        try:
            self._present = place.backend.stat(place.path)
        except NotFound:
            if Open.CREATE not in flags:
                raise
        if self._present is not None and self._present.is_directory:
            raise IsADirectory("a folder has no content")
        if self._present is not None and Open.EXCLUSIVE in flags:
            raise AlreadyExists("the file is there already")
        self._require_unlocked()
        if Open.TRUNCATE not in flags:
            if self._present is not None:
                if Open.APPEND in flags and self._present.size:
                    self._require_random_write()
                return  # the first change tells how it is to be done; without one nothing is
            self._known = self._workspace.site.uploads.find(self._workspace.principal, place, LENGTH_UNKNOWN)
        if self._known is None:
            self._writer = self._open_anew()

    def _expected(self) -> dict[str, Any]:
        """Return what has to be there still when the content gets its name, as `open_write` takes it."""
        if Open.TRUNCATE in self._flags and Open.EXCLUSIVE not in self._flags:
            return {}
        return {"if_none_match": True} if self._present is None else {"if_match": self._present.etag}

    def _open_anew(self) -> Writer:
        return self._place.backend.open_write(self._place.path, **self._expected())

    def _open_at(self, offset: int) -> Writer:
        """Open what the client goes on with at `offset`; an upload that it does not go on with is begun anew."""
        if self._known is not None:
            upload, self._known = self._known, None
            if offset == upload.parked.size:
                writer = self._workspace.site.uploads.resume(upload, offset, self._place, **self._expected())
                if writer is None:
                    raise NothingParked("what was left of the upload is gone, and its client sends only the rest")
                self._known = upload
                return writer
            return self._open_anew()
        is_empty = self._present is None or not self._present.size
        if is_empty or (offset == 0 and Open.APPEND not in self._flags):
            self._is_over = True
            return self._open_anew()
        self._require_random_write()
        return self._open_copy()

    def _open_copy(self) -> Writer:
        """Open a private copy of the file that this client has opened; raises PreconditionFailed for another one."""
        writer = self._place.backend.open_update(self._place.path)
        try:
            self._require_same(self._place.backend.stat(self._place.path))
        except BaseException:
            writer.abort()
            raise
        return writer

    def _require_same(self, now: Entry) -> None:
        if self._present is None or now.etag != self._present.etag:
            raise PreconditionFailed("the file is another than the one that was opened")

    def _require_random_write(self) -> None:
        if not self._place.backend.features.random_write:
            raise unsupported("This storage takes a file only as a whole; remove it or send it anew")

    def _whole(self, writer: Writer, end: int | None = None) -> Writer:
        """Return the Writer that has all, up to `end` if that is less, also what this client leaves as it was."""
        if self._is_over and self._present is not None:
            size = self._present.size
            writer = completed(writer, self._place, self._present, size if end is None else min(size, end))
            self._writer, self._is_over = writer, False
        return writer

    def _store(self, offset: int, pieces: Sequence[memoryview]) -> None:
        if self._writer is None:
            self._writer = self._open_at(offset)
        writer = self._writer
        if Open.APPEND in self._flags:
            offset = writer.written
        for piece in pieces:
            if offset == writer.written:
                writer.write(piece)
                if self._early:
                    self._store_early(writer)
            elif self._place.backend.features.random_write:
                self._in_order = False
                writer = self._whole(writer)
                writer.write_at(offset, piece)
            else:
                self._keep_early(writer, offset, piece)
            offset += len(piece)
            self.count += len(piece)

    def _store_early(self, writer: Writer) -> None:
        while (piece := self._early.pop(writer.written, None)) is not None:
            self._workspace.budget.give(len(piece))
            writer.write(piece)

    def _keep_early(self, writer: Writer, offset: int, piece: memoryview) -> None:
        if offset < writer.written or offset in self._early or not self._workspace.budget.take(len(piece)):
            writer.abort()
            raise unsupported("This storage takes a file only from its beginning to its end")
        self._early[offset] = bytes(piece)

    def _cut_to(self, size: int) -> None:
        if self._writer is None and size == 0:
            self._known, self._writer = None, self._open_anew()
        if self._writer is None:
            self._writer = self._open_at(0)
        writer = self._whole(self._writer, size)
        if writer.written != size:
            self._in_order = False
            writer.truncate(size)

    def _commit(self) -> Entry:
        try:
            self._writer = self._writer or self._open_anew()
            return self._put_in_place(self._writer)
        except PreconditionFailed:
            is_empty = self._writer is None or not self._writer.written
            if not is_empty or self._present is not None or Open.EXCLUSIVE in self._flags:
                raise
            # To its client the file was there, and empty, from OPEN on: what has come since has replaced that.
            return self._place.backend.stat(self._place.path)

    def _put_in_place(self, writer: Writer) -> Entry:
        if self._early:
            raise IncompleteWrite("bytes are missing in between")
        writer = self._whole(writer)
        writer.prepare()
        self._require_unlocked()
        site, place = self._workspace.site, self._place
        entry = site.arriving.commit(writer, place, self._workspace.principal, is_new=self._present is None)
        try:
            return self._dated(entry)
        except StorageError as error:  # the content is there, and that is the answer
            log.info("ssh.undated", principal=self._workspace.principal, path=str(self.path), reason=str(error))
            return entry

    def _date(self) -> Entry:
        """Set the time alone; raises PreconditionFailed where there is another file by now."""
        self._require_unlocked()
        present = self._place.backend.stat(self._place.path)
        self._require_same(present)
        return self._dated(present)

    def _dated(self, entry: Entry) -> Entry:
        """Set the time that the client has given, where the storage keeps such."""
        modified, backend = self._modified, self._place.backend
        if modified is None or not backend.features.set_modified:
            return entry
        return backend.set_modified(self._place.path, modified)

    def _leave(self, writer: Writer) -> None:
        # A client that wants to go on asks how large the file is (`Workspace.unfinished`): where there is one, it is
        # told the size of that, and what is left of another could only take room.
        if not self._in_order or self._early or self._present is not None:
            writer.abort()
            return
        site, principal = self._workspace.site, self._workspace.principal
        site.uploads.leave(*(writer, principal, self._place, LENGTH_UNKNOWN), present=None, known=self._known)

    def _require_unlocked(self) -> None:
        self._workspace.site.locks.require(self._place, _TOUCH, self._workspace.holder)

    # --- what the client asks for -------------------------------------------------------------------------------

    async def write(self, offset: int, pieces: Sequence[memoryview]) -> None:
        """Store `pieces`, one after the other from `offset` on; after a failure nothing is stored any more."""
        await self._work(self._store, offset, pieces)

    async def read(self, offset: int, size: int) -> bytes:
        """Return what this client has written, or the file that it is about to change."""
        if Open.READ not in self._flags:
            raise SftpError(Status.PERMISSION_DENIED, "NOT_OPEN_FOR_READING", "The file was opened for writing only")

        def work() -> bytes:
            if self._writer is None:
                with self._place.backend.open_read(self._place.path) as reader:
                    self._require_same(reader.entry)
                    return reader.read_at(offset, size)
            self._require_random_write()
            return self._whole(self._writer).read_at(offset, size)

        return await in_pool(self._place, work)

    async def truncate(self, size: int) -> None:
        """Make the file `size` bytes long; raises Unsupported where the storage takes a file as a whole only."""
        await self._work(self._cut_to, size)

    def set_modified(self, modified: int) -> None:
        """Note the time, in nanoseconds since 1970, that the file has from the next `close` or `sync` on."""
        self._modified = modified

    async def sync(self) -> None:
        """Make what has come durable under its name, as `close` does, and go on."""
        await self._finish()

    async def close(self) -> None:
        """Commit; raises what was wrong with any write, and what the storage says."""
        await self._finish()

    def fail(self, error: Exception) -> None:
        """Note that something was refused that belongs to the content: it is not committed any more."""
        self._failed = self._failed or error

    async def drop(self) -> None:
        """End without the client's own CLOSE: what has come is left to be gone on with, or is gone."""
        self._workspace.budget.give(sum(map(len, self._early.values())))
        self._early.clear()
        writer, self._writer = self._writer, None
        if writer is None:
            return
        keep = self._failed is None and await self._is_still_allowed()
        await self._place.storage.release(partial(self._leave, writer) if keep else writer.abort)

    async def _finish(self) -> None:
        if self._failed is not None:
            raise self._failed.with_traceback(None)
        if self._writer is not None or self._is_made_empty():
            work = self._commit
        elif self._modified is not None and self._present is not None:
            work = self._date
        else:
            return
        try:
            await self._require_still_allowed()
            self._present = await in_pool(self._place, work)
        except BaseException as error:
            writer, self._writer, self._failed = self._writer, None, error if isinstance(error, Exception) else None
            if writer is not None:
                await self._place.storage.release(writer.abort)
            if may_have_changed(error):
                await self._changed()
            raise
        self._writer, self._known, self._modified = None, None, None
        self._flags &= ~(Open.TRUNCATE | Open.EXCLUSIVE)  # that is done: the client goes on with what it has stored
        await self._changed()

    def _is_made_empty(self) -> bool:
        """Tell whether the client has asked for a file and written nothing; what it left of another stays if so."""
        return self._present is None and Open.APPEND not in self._flags

    async def _work(self, job: Callable[..., None], *arguments: Any) -> None:
        if self._failed is not None:
            raise self._failed.with_traceback(None)  # which would keep each piece that was refused with it
        try:
            await in_pool(self._place, job, *arguments)
        except Exception as error:
            self._failed = error
            raise

    async def _changed(self) -> None:
        touched = [Touched(self._place.storage.name, self._place.path)]
        await asyncio.shield(self._workspace.site.changes.made(touched))

    async def _require_still_allowed(self) -> None:
        """Read the Grant and the place anew: an upload may have lasted hours; raises Unproven, SftpError."""
        self._workspace.renew()
        place = await self._workspace.place(self.path)
        if place.path != self._place.path or place.storage.name != self._place.storage.name:
            raise SftpError(Status.FAILURE, "MOVED", "What was shared has been moved meanwhile; send the file again")

    async def _is_still_allowed(self) -> bool:
        try:
            await self._require_still_allowed()
        except REFUSALS:
            return False
        return True
