"""Everything in a received Share, or in a folder of it, file by file: what fails is told, and the rest goes on.

A few files move at once. A listing is read whole before the first file in it, packed, because no server waits with
half of one until the files are copied.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

from backends.errors import NotFound, OutOfSpace, PermissionDenied, StorageError, Unavailable, Unsupported
from backends.interface import Entry
from backends.paths import StoragePath
from gateway.errors import Refusal
from gateway.keeping.alike import Names
from gateway.keeping.one_file import File, Files, SourceFailed, ask_source, look
from gateway.keeping.progress import Run
from gateway.store.last_seen import pack, unpack
from gateway.tree import Place

LISTED_MOST = 1_000_000  # names in one folder; packed, they are some fifty MiB

_OF_ALL = (Unavailable, PermissionDenied, NotFound)  # what a source says of one file, or would say of each


@dataclass(frozen=True, slots=True)
class _Folder:
    """A folder to be copied; `unlisted` as of a File."""

    source: Place
    target: Place
    unlisted: bool = False


@dataclass(frozen=True, slots=True)
class _Listing:
    """What is in a folder, packed; `unlisted` are names that are alike, and that the target does not list."""

    batches: list[bytes]
    unlisted: frozenset[bytes] = frozenset()


class Walk:
    """One walk through a source, for one Run."""

    def __init__(
        self, run: Run, files: Files, turns: asyncio.Semaphore, why_ended: Callable[[], Awaitable[str | None]]
    ) -> None:
        """Read as many files and folders at once as `turns`; `why_ended` tells why the Share has ended, if it has."""
        self._run = run
        self._files = files
        self._why_ended = why_ended
        self._turns = turns

    async def __call__(self, source: Place, target: Place, name: bytes) -> None:
        """Copy what is at `source` to `target`; a file into a folder that is there gets `name` in it."""
        self._top = source
        try:
            entry = await ask_source(source, source.backend.stat, source.path)
            present = await target.storage.pool.run(look, target)
            if present is None and target.is_root:
                raise NotFound("the mount's own folder is not there, and is not for us to make")
            if not entry.is_directory:
                into = target.address(StoragePath((name,))) if present and present.is_directory else target
                async with self._turns:
                    await self._file(entry, source, into)
                return
        except SourceFailed as error:
            await self._source_failed(source, error.error)
            return
        except StorageError as error:
            self._target_failed(source, error)
            return
        async with asyncio.TaskGroup() as group:
            await self._folders(group, source, target)

    async def _folders(self, group: asyncio.TaskGroup, source: Place, target: Place) -> None:
        pending = [iter([_Folder(source, target)])]
        while pending:
            if (folder := next(pending[-1], None)) is None:
                pending.pop()
                continue
            here, there = folder.source, folder.target
            with_folders = []
            listing = await self._listed(folder)
            for batch in listing.batches:
                await asyncio.sleep(0)  # a folder of folders alone would hold up the loop
                entries = list(unpack(batch))
                if any(entry.is_directory for entry in entries):
                    with_folders.append(batch)
                for entry in entries:
                    if entry.is_directory or (both := self._both(here, there, entry)) is None:
                        continue
                    if entry.name in listing.unlisted:  # in turn, so that each finds those before it
                        async with self._turns:
                            await self._file(entry, *both, unlisted=True)
                        continue
                    await self._turns.acquire()
                    # Not by the task itself: one that is cancelled before it begins would keep its turn for ever.
                    group.create_task(self._file(entry, *both)).add_done_callback(lambda _: self._turns.release())
            pending.append(self._below(here, there, _Listing(with_folders, listing.unlisted)))

    def _below(self, here: Place, there: Place, listing: _Listing) -> Iterator[_Folder]:
        """Yield the folders of a listing, which wait packed as long as others are copied."""
        for batch in listing.batches:
            for entry in unpack(batch):
                if entry.is_directory and (both := self._both(here, there, entry)) is not None:
                    yield _Folder(*both, unlisted=entry.name in listing.unlisted)

    def _both(self, here: Place, there: Place, entry: Entry) -> tuple[Place, Place] | None:
        """Return where an entry of a folder is and where it goes; None, which is noted, where that cannot be named."""
        shown = here
        try:
            shown = child = here.below((entry.name,))
            return child, there.address(StoragePath((entry.name,)))
        except StorageError as error:
            self._target_failed(shown, error)
            return None

    async def _listed(self, folder: _Folder) -> _Listing:
        """Return what is in a folder, once the copy of the folder itself is there.

        In this order, so that a copy that lies within its own source does not find itself.
        """
        here, there = folder.source, folder.target
        try:
            async with self._turns:  # it may last as long as a file
                batches, alike = await ask_source(here, self._list, here)
            await self._files.make_folder(there, unlisted=folder.unlisted)
            if alike:
                alike -= await there.storage.pool.run(_names_in, there, alike)
        except SourceFailed as error:
            await self._source_failed(here, error.error)
        except (StorageError, Refusal) as error:
            self._target_failed(here, error)
        else:
            return _Listing(batches, alike)
        return _Listing([])

    def _list(self, place: Place) -> tuple[list[bytes], frozenset[bytes]]:
        """Return a folder in packed batches, and the names in it that some storage takes for one."""
        packed, names, count = [], Names(), 0
        with place.scan() as scan:
            while (batch := scan.next()) and self._run.reason is None:
                packed.append(pack(batch))
                names.add(entry.name for entry in batch)
                count += len(batch)
                if count > LISTED_MOST:
                    raise Unsupported(f"there are more than {LISTED_MOST} names in this folder")
        return packed, names.alike(entry.name for batch in packed for entry in unpack(batch))

    async def _file(self, entry: Entry, source: Place, target: Place, *, unlisted: bool = False) -> None:
        run = self._run
        try:
            with run.file(self._shown(source), entry.size) as moved:
                file = File(run.copy.share, entry, source, target, run.overwrite, moved, unlisted)
                size = await self._files.keep(file)
        except SourceFailed as error:
            await self._source_failed(source, error.error)
        except (StorageError, Refusal) as error:
            self._target_failed(source, error)
        else:
            run.done(size)

    def _target_failed(self, source: Place, error: StorageError | Refusal) -> None:
        """Note a failure where the copy would be; a full storage or one that does not answer takes no other file."""
        if isinstance(error, OutOfSpace | Unavailable):
            self._run.stop(f"/{self._run.copy.target}: {error}")
        else:
            self._run.fail(self._shown(source), str(error))

    async def _source_failed(self, source: Place, error: StorageError) -> None:
        """Note a failure at the source; whether it is of this file or of all of them, its root says."""
        if isinstance(error, _OF_ALL):
            top = self._top
            try:
                await ask_source(top, top.backend.stat, top.root)
            except SourceFailed as failed:
                self._run.stop(await self._why_ended() or f"the sender's storage: {failed.error}")
                return
        self._run.fail(self._shown(source), str(error))

    def _shown(self, source: Place) -> StoragePath:
        """Return the path of a source below what is copied."""
        return StoragePath(source.path.relative_to(self._top.path))


def _names_in(place: Place, wanted: frozenset[bytes]) -> frozenset[bytes]:
    """Return those of the names that a folder lists; raises as `StorageBackend.scan`."""
    with place.scan() as scan:
        return frozenset(entry.name for entry in scan if entry.name in wanted)
