"""One file from a received Share into a mount: whole under its name, or not there.

Each storage works in its own threads, so one that hangs holds up no other. What was copied is known by both etags, in
a row: a file with the version that the sender has now is not read again, and one that somebody has changed here is not
written over. The row comes after the file; where a crash has come between, the contents are compared.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Connection

from backends.errors import AlreadyExists, IsADirectory, NotADirectory, NotFound, StorageError, Unavailable
from backends.interface import Entry, Reader, Writer
from gateway.arriving import Arriving
from gateway.changes import Changes, Touched
from gateway.errors import Conflict
from gateway.files import PIECE
from gateway.locks import Holder, Locks, Touch
from gateway.store import kept, received_shares
from gateway.store.engine import Store
from gateway.store.kept import Version
from gateway.tree import Place

NEW_CONTENT = Touch.CONTENT | Touch.NEW_NAME  # as of PUT and MKCOL

T = TypeVar("T")


class SourceFailed(Exception):
    """The storage that is read from refuses or does not answer; `error` is what it says."""

    def __init__(self, error: StorageError) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass(frozen=True, slots=True)
class File:
    """A file to be copied: `entry` is the source as it was listed; `moved` hears of each piece, in bytes.

    `unlisted`: the target's folder does not list this name, so what is there all the same has another.
    """

    share: str
    entry: Entry
    source: Place
    target: Place
    overwrite: bool
    moved: Callable[[int], None]
    unlisted: bool = False


async def ask_source(place: Place, question: Callable[..., T], *arguments: Any) -> T:
    """Ask the storage that is read from, in its threads; raises SourceFailed."""
    try:
        return await place.storage.pool.run(question, *arguments)
    except StorageError as error:
        raise SourceFailed(error) from error


class Files:
    """Writes files and folders as `principal`, whose locks count as anybody's do."""

    def __init__(self, store: Store, locks: Locks, arriving: Arriving, changes: Changes, principal: str) -> None:
        self._store = store
        self._locks = locks
        self._arriving = arriving
        self._changes = changes
        self._principal = principal

    async def keep(self, file: File) -> int | None:
        """Copy a file and return its bytes, or None where it is there already.

        Raises SourceFailed, what the target's storage says, Locked, and Conflict for a file that was changed here.
        """
        target = file.target
        present = await target.storage.pool.run(look, target)
        if present is not None and present.is_directory:
            raise IsADirectory("there is a folder of this name")
        if present is not None and file.unlisted:
            raise _same_name()
        known = await self._store.read(lambda tx: kept.version(tx, file.share, target.storage.name, target.path))
        is_ours = present is not None and known is not None and known.target == present.etag
        if is_ours and known is not None and known.source == file.entry.etag:
            return None
        async with _opened(file) as reader:
            if present is None or is_ours or file.overwrite:
                written: int | None = reader.entry.size
                etag = (await self._write(file, reader, present)).etag
            elif await _is_alike(file, reader, present):
                written, etag = None, present.etag
            else:
                raise Conflict("CHANGED_HERE", "another file of this name is here, or this one was changed")
        # Whoever loses it compares the contents instead, so nobody waits for the disk.
        await self._store.run(lambda tx: _note(tx, file, Version(file.entry.etag, etag)), durable=False)
        return written

    async def make_folder(self, place: Place, *, unlisted: bool = False) -> None:
        """Make a folder unless it is there; `unlisted` as of a File. Raises as `keep` does, but for SourceFailed."""
        if await place.storage.pool.run(self._make_folder, place):
            await self._changes.made([Touched(place.storage.name, place.path)])
        elif unlisted:
            raise _same_name()

    def _make_folder(self, place: Place) -> bool:
        present = look(place)
        if present is None:
            self._require_unlocked(place)
            try:
                self._arriving.make_directory(place)
            except AlreadyExists:  # somebody was quicker
                return self._make_folder(place)
            except NotFound:
                raise NotFound("the folder that it would be in does not exist") from None
            return True
        if not present.is_directory:
            raise NotADirectory("there is a file of this name")
        return False

    async def _write(self, file: File, reader: Reader, present: Entry | None) -> Entry:
        pool = file.target.storage.pool
        async with contextlib.aclosing(_pieces(file, reader)) as pieces:
            first = await anext(pieces, b"")  # with which the source's digest comes, if it sends one
            writer = await pool.run(self._open, file, reader, present)
            try:
                if first:
                    await pool.run(writer.write, first)
                async for piece in pieces:
                    await pool.run(writer.write, piece)
                await pool.run(writer.prepare, reader.digests)
                if not reader.digests:
                    await _require_unchanged(file, reader)
                entry = await pool.run(self._commit, file, reader, writer, present)
            finally:
                if writer.is_open:
                    await file.target.storage.release(writer.abort)
        await self._changes.made([Touched(file.target.storage.name, file.target.path)])
        return entry

    def _open(self, file: File, reader: Reader, present: Entry | None) -> Writer:
        place = file.target
        self._require_unlocked(place)
        return place.backend.open_write(
            place.path,
            size=reader.entry.size,
            if_match=present.etag if present else None,
            if_none_match=present is None,
            hashes=tuple(reader.digests),
        )

    def _commit(self, file: File, reader: Reader, writer: Writer, present: Entry | None) -> Entry:
        """Give the content its name, and the time that it has at its sender where the storage keeps one."""
        place, modified = file.target, reader.entry.modified
        self._require_unlocked(place)  # again: what came before this may have lasted hours
        entry = self._arriving.commit(writer, place, self._principal, is_new=present is None)
        if modified and place.backend.features.set_modified:
            with contextlib.suppress(StorageError):  # the file is there, and whole
                timed = place.backend.set_modified(place.path, modified)
                if (timed.identity, timed.size) == (entry.identity, entry.size):  # else somebody has replaced it
                    entry = timed
        return entry

    def _require_unlocked(self, place: Place) -> None:
        self._locks.require(place, NEW_CONTENT, Holder(self._principal))


def _note(tx: Connection, file: File, version: Version) -> None:
    """Remember the version of a file, unless its Share has ended meanwhile, and what was known of it is gone."""
    share = received_shares.get(tx, file.share)
    if share is not None and share.state == "accepted":
        kept.set_version(tx, file.share, file.target.storage.name, file.target.path, version)


def _same_name() -> Conflict:
    return Conflict("SAME_NAME", "this storage takes the name for that of another file or folder here, which stays")


def look(place: Place) -> Entry | None:
    """Return what is at a place; None for nothing."""
    try:
        return place.backend.stat(place.path)
    except NotFound:
        return None


@contextlib.asynccontextmanager
async def _opened(file: File) -> AsyncIterator[Reader]:
    reader = await ask_source(file.source, file.source.backend.open_read, file.source.path)
    try:
        yield reader
    finally:
        await file.source.storage.release(reader.close)


async def _pieces(file: File, reader: Reader) -> AsyncGenerator[bytes]:
    """Yield the content, and read the next piece while one is used; two are in memory."""

    def read() -> asyncio.Future[bytes]:
        return asyncio.ensure_future(ask_source(file.source, reader.read_at, offset, PIECE))

    offset, size = 0, reader.entry.size
    ahead = read() if size else None
    try:
        while ahead is not None:
            piece = await ahead
            ahead = None
            if not piece:
                raise SourceFailed(Unavailable(f"it ends after {offset} of {size} bytes"))
            offset += len(piece)
            if offset < size:
                ahead = read()
            file.moved(len(piece))
            yield piece
    finally:
        if ahead is not None:  # closing must not overlap it
            with contextlib.suppress(SourceFailed):
                await ahead


async def _is_alike(file: File, reader: Reader, present: Entry) -> bool:
    """Tell whether what is there has the same content, without writing anything."""
    if present.size != reader.entry.size:
        return False
    place, offset = file.target, 0
    mine = await place.storage.pool.run(place.backend.open_read, place.path)
    try:
        async with contextlib.aclosing(_pieces(file, reader)) as pieces:
            async for piece in pieces:
                if await place.storage.pool.run(mine.read_at, offset, len(piece)) != piece:
                    return False
                offset += len(piece)
    finally:
        await place.storage.release(mine.close)
    return mine.entry.etag == present.etag


async def _require_unchanged(file: File, reader: Reader) -> None:
    """Make sure that the file at the source still is the one that was read, where no digest says so."""
    async with _opened(file) as again:
        if again.entry.etag != reader.entry.etag:
            raise SourceFailed(Unavailable("it was changed while it was copied"))
