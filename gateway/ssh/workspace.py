"""What one log-in may do with files: every operation of SFTP and SCP goes through here, and so through the Grant.

The Grant is read anew when it is older than `access.GRANT_LIFE`, for requests on open handles as for all others, so a
revocation bites within a second wherever the client is. A Share of a file is shown as a folder that holds it alone:
SFTP knows no root that is a file.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from backends.errors import IsADirectory, NotADirectory, NotFound, StorageError
from backends.interface import Entry, Kind, Space
from backends.paths import StoragePath
from gateway.access import Access, Grant
from gateway.arriving import Arriving
from gateway.belongings import Belongings
from gateway.changes import Changes, Touched
from gateway.files import Moves
from gateway.locks import Holder, Locks, Touch
from gateway.ocm.shares import Permission
from gateway.ssh.budget import Budget
from gateway.ssh.errors import may_have_changed, nothing_is_created_here, read_only, root_stays, unsupported
from gateway.tree import Place, Tree, VirtualFolder, in_pool
from gateway.uploads import LENGTH_UNKNOWN, Uploads

_NEW = Touch.CONTENT | Touch.NEW_NAME
_GONE = Touch.CONTENT | Touch.NAME | Touch.TREE


@dataclass(frozen=True, slots=True)
class Site:
    """What every log-in works with."""

    access: Access
    tree: Tree
    moves: Moves
    changes: Changes
    uploads: Uploads
    locks: Locks
    belongings: Belongings

    @property
    def arriving(self) -> Arriving:
        return Arriving(self.uploads, self.belongings)


@dataclass(frozen=True, slots=True)
class Found:
    """What is at a path, and whether it may be changed."""

    entry: Entry
    may_write: bool


class Workspace:
    """The tree of one log-in."""

    def __init__(self, site: Site, grant: Grant, budget: Budget) -> None:
        """Let files keep so much in memory as there is in `budget`, which is the connection's."""
        self.site = site
        self.budget = budget
        self._grant = grant

    @property
    def principal(self) -> str:
        return self._grant.principal

    @property
    def name(self) -> bytes:
        """What the root is called where it needs a name: as the folder that is shared; clients take no `.` for one."""
        shared = self._grant.shared
        return (shared.path.name if shared is not None else b"") or b"files"

    @property
    def holder(self) -> Holder:
        """Who writes, to locks: this door shows no lock tokens."""
        return Holder(self._grant.principal)

    async def grant(self) -> Grant:
        """Return the Grant as it is now, or was half a second ago; raises Unproven once it has ended."""
        if not self.site.access.is_fresh(self._grant):
            now = time.monotonic()
            self._grant = replace(await self.site.access.renew(self._grant), read_at=now)
        return self._grant

    async def require_writing(self) -> None:
        """Make sure that the Grant still permits to write; raises Unproven, SftpError."""
        if Permission.WRITE not in (await self.grant()).permissions:
            raise read_only()

    def renew(self) -> None:
        """Have the Grant read anew by whatever comes next."""
        self._grant = replace(self._grant, read_at=float("-inf"))

    # --- where something is -------------------------------------------------------------------------------------

    async def resolve(self, path: StoragePath) -> Place | VirtualFolder:
        """Return what is meant by `path`; raises NotFound, Unproven, Unavailable."""
        grant = await self.grant()
        shared = grant.shared
        if shared is None or shared.kind is not Kind.FILE:
            return await self.site.tree.resolve(grant, path)
        place = await self.site.tree.resolve(grant, StoragePath())
        assert isinstance(place, Place)
        if path.is_root:
            entry = await in_pool(place, _stat, place)
            return VirtualFolder(replace(entry, name=b"", kind=Kind.DIRECTORY, size=0, mode=None), (entry,))
        if path.parts != (shared.path.name,):
            raise NotFound("only the file itself is shared")
        return place

    async def place(self, path: StoragePath) -> Place:
        """Return where to write; raises NotFound, SftpError where nobody or this log-in may not."""
        try:
            place = await self.resolve(path)
        except NotFound:
            if len(path.parts) <= 1 or (await self.grant()).shared is not None:
                raise nothing_is_created_here() from None
            raise
        if isinstance(place, VirtualFolder):
            raise root_stays()
        if not place.may_write:
            raise read_only()
        return place

    # --- looking ------------------------------------------------------------------------------------------------

    async def look(self, path: StoragePath) -> Found:
        """Return what is at `path`; raises NotFound and what the storage says."""
        place = await self.resolve(path)
        if isinstance(place, VirtualFolder):
            return Found(place.entry, may_write=False)
        return Found(await in_pool(place, _stat, place), place.may_write)

    async def require_folder(self, path: StoragePath) -> None:
        """Raise NotFound where nothing is at `path`, NotADirectory where a file is."""
        if not (await self.look(path)).entry.is_directory:
            raise NotADirectory("a file")

    async def unfinished(self, path: StoragePath) -> Found | None:
        """Return what this log-in has left of an upload to `path`, as a file of the bytes that are stored.

        A client that goes on with one asks for the size that the file has (`reput`), and there is no file yet.
        """
        with contextlib.suppress(StorageError):
            place = await self.resolve(path)
            if isinstance(place, Place) and place.backend.features.resumable:
                upload = await in_pool(place, self.site.uploads.find, self.principal, place, LENGTH_UNKNOWN)
                if upload is not None:
                    entry = Entry(path.name, Kind.FILE, upload.parked.size, time.time_ns(), "unfinished")
                    return Found(entry, place.may_write)
        return None

    async def space(self, path: StoragePath) -> Space:
        """Return the room there is; raises Unsupported."""
        place = await self.resolve(path)
        if isinstance(place, VirtualFolder):
            return Space(0, 0)  # only names; sshfs asks this of the root when somebody wants to know about all of it
        return await in_pool(place, place.backend.space)

    # --- changing -----------------------------------------------------------------------------------------------

    async def make_directory(self, path: StoragePath) -> None:
        place = await self.place(path)
        await self._change(place, _NEW, self.site.arriving.make_directory, place)

    async def remove_file(self, path: StoragePath) -> None:
        await self._remove(path, Kind.FILE)

    async def remove_directory(self, path: StoragePath) -> None:
        """Remove an empty folder; raises DirectoryNotEmpty."""
        await self._remove(path, Kind.DIRECTORY)

    async def _remove(self, path: StoragePath, kind: Kind) -> None:
        place = await self.place(path)
        if place.is_root:
            raise root_stays()

        def work() -> None:
            if _stat(place).kind is not kind:
                raise NotADirectory("a file") if kind is Kind.DIRECTORY else IsADirectory("a folder")
            place.backend.remove(place.path)
            self.site.belongings.remove(place)

        await self._change(place, _GONE, work)

    async def forget_unfinished(self, path: StoragePath) -> bool:
        """Drop what this log-in has left of an upload to `path`, and tell whether there was anything."""
        place = await self.place(path)
        upload = await in_pool(place, self.site.uploads.find, self.principal, place, LENGTH_UNKNOWN)
        if upload is None:
            return False
        await in_pool(place, self.site.uploads.drop, place.backend, upload)
        return True

    async def rename(self, source: StoragePath, target: StoragePath, *, overwrite: bool) -> None:
        """Move a file or folder; raises AlreadyExists without `overwrite`, and what `Moves.move` raises.

        With it a file replaces a file, and a folder an empty one; what has that name already keeps it (rename(2)).
        Between two storages nothing is moved.
        """
        here, there = await self.place(source), await self.place(target)
        if here.is_root or there.is_root:
            raise root_stays()
        if here.storage.name != there.storage.name:
            raise unsupported("The two places are on different storage; copy, and remove what you have copied")

        if overwrite and here.path == there.path:
            await in_pool(here, _stat, here)
            return

        def work() -> None:
            self.site.locks.require(there, _GONE, self.holder)
            there.check()
            if overwrite:
                _make_way(here, there)
            self.site.moves.move(here, there, overwrite=overwrite)

        try:
            await self._change(here, _GONE, work, tree=True, also=[Touched(there.storage.name, there.path, tree=True)])
        finally:
            self.site.access.forget()  # Grants that are still kept know where Shares were

    async def set_modified(self, path: StoragePath, modified: int) -> None:
        """Set the time in nanoseconds since 1970; raises Unsupported where the storage keeps its own."""
        place = await self.place(path)
        await self._change(place, Touch.CONTENT, place.backend.set_modified, place.path, modified)

    async def _change(
        self,
        place: Place,
        touch: Touch,
        work: Callable[..., object],
        *arguments: Any,
        tree: bool = False,
        also: list[Touched] | None = None,
    ) -> None:
        """Do `work` in the storage's threads, and have it written down that something has changed."""

        def guarded() -> None:
            self.site.locks.require(place, touch, self.holder)
            work(*arguments)

        touched = [Touched(place.storage.name, place.path, tree), *(also or [])]
        try:
            await in_pool(place, guarded)
        except BaseException as error:
            if may_have_changed(error):
                await asyncio.shield(self.site.changes.made(touched))
            raise
        await asyncio.shield(self.site.changes.made(touched))


def _stat(place: Place) -> Entry:
    return place.backend.stat(place.path)


def _make_way(source: Place, target: Place) -> None:
    """Refuse what rename(2) would, and remove an empty folder whose name another gets."""
    try:
        present = _stat(target)
    except NotFound:
        return
    moved = _stat(source)
    if present.is_directory and not moved.is_directory:
        raise IsADirectory("a file takes the place of no folder")
    if moved.is_directory and not present.is_directory:
        raise NotADirectory("a folder takes the place of no file")
    is_apart = not target.path.is_within(source.path) and not source.path.is_within(target.path)
    if present.is_directory and is_apart and present.identity != moved.identity:
        target.backend.remove(target.path)
