"""What every door does to files beyond one call of the storage: copying trees, moving, and removing with all that
belongs to what is removed.

All of it is synchronous and belongs into the storage's pool. How trees are walked is said in `removing.py`, and how
something takes the place of a folder in `replacing.py`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping

import structlog
from sqlalchemy import Connection

from backends.errors import (
    AlreadyExists,
    DirectoryNotEmpty,
    InvalidPath,
    NotFound,
    PreconditionFailed,
    StorageError,
    Unsupported,
)
from backends.interface import Entry, Identity, Reader, StorageBackend
from backends.paths import StoragePath
from gateway import belongings
from gateway.belongings import Belongings
from gateway.errors import Conflict, NotAllowed
from gateway.living import Living
from gateway.removing import Failure, Incomplete, children, raise_for, record, remove_tree
from gateway.replacing import Replacing, is_there, renamed, sibling
from gateway.store import moves, sent_shares, uploads
from gateway.store.engine import Store
from gateway.store.moves import Move
from gateway.tree import Place, Storage

PIECE = 1 << 20  # bytes that are copied at a time

log = structlog.get_logger()


class Cancelled(Exception):
    """The work was called off before its end."""


Copied = list[tuple[Place, Entry]]


def _never() -> bool:
    return False


def _require_room(source: Place, target: Place, overwrite: bool) -> Entry | None:
    """Check that `source` may become `target`, and return what is there now."""
    if source.storage.name == target.storage.name and (
        target.path.is_within(source.path) or source.path.is_within(target.path)
    ):
        raise _same_resource()
    present = _look(target)
    if present is None:
        parent = _look(target, target.path.parent)
        if parent is None or not parent.is_directory:
            raise Conflict("PARENT_MISSING", "the folder that the destination would be in does not exist")
        return None
    if not overwrite:
        raise AlreadyExists(f"{target.path} is there already")
    if present.is_directory and _lies_in(source, present):
        raise _same_resource()
    return present


def _is_in_the_way(present: Entry | None, entry: Entry) -> bool:
    """Tell whether `present` has to go before `entry` can have its name; a file replaces a file atomically."""
    return present is not None and (present.is_directory or entry.is_directory)


def _lies_in(place: Place, directory: Entry) -> bool:
    """Tell whether `place` is the directory or below it by other names: links, or the root of another storage."""
    path = place.path
    while directory.identity is not None:
        present = _look(place, path)
        if present is not None and present.identity == directory.identity:
            return True
        if path.is_root:
            break
        path = path.parent
    return False


def _same_resource() -> NotAllowed:
    return NotAllowed("SAME_RESOURCE", "source and destination are the same, or one lies within the other")


class _Copying:
    """One copy of a file or a tree. It knows what it has copied, so that a move removes that and nothing else."""

    def __init__(
        self,
        replacing: Replacing,
        *,
        keep_times: bool,
        cancelled: Callable[[], bool],
        carry: Callable[[Place, Place, Copied], None],
    ) -> None:
        self._replacing = replacing
        self._carry = carry
        self.copied: Copied = []  # as they were read; a directory comes before what is in it
        self._keep_times = keep_times
        self._cancelled = cancelled
        self._met: set[Identity] = set()  # directories copied or made: links may lead in circles, or into the copy

    def put(
        self,
        source: Place,
        entry: Entry,
        target: Place,
        present: Entry | None,
        *,
        overwrite: bool,
        recurse: bool = True,
    ) -> None:
        """Copy to `target`; what cannot be replaced in one step there, `present`, goes when the copy is complete."""
        if not _is_in_the_way(present, entry):
            try:
                self._copy(source, entry, target, overwrite=overwrite, recurse=recurse)
            except Incomplete:
                self._carry(source, target, self.copied)
                raise
            self._carry(source, target, self.copied)
            return
        unfinished = sibling(target)
        try:
            with self._replacing.over(target, unfinished, is_copy=True, identity=None) as set_aside:
                self._copy(source, entry, unfinished, overwrite=False, recurse=recurse)
                set_aside()
                target.backend.rename(unfinished.path, target.path, overwrite=False)
                self._carry(source, target, self.copied)
        except Incomplete as error:
            if error.failures[0].place.path.is_within(unfinished.path):
                raise renamed(error, unfinished, target) from None
            raise

    def require_wanted(self) -> None:
        if self._cancelled():
            raise Cancelled

    def _copy(self, source: Place, entry: Entry, target: Place, *, overwrite: bool, recurse: bool) -> None:
        self.require_wanted()
        if not entry.is_directory:
            self._copy_file(source, target, overwrite=overwrite)
            return
        self._make_directory(source, entry, target)
        if recurse:
            self._copy_children(source, target)

    def _copy_children(self, source: Place, target: Place) -> None:
        """Copy what is in the directory `source` into the directory `target`."""
        failures: list[Failure] = []
        pending = [(source, target)]
        while pending:
            here, there = pending.pop()
            try:
                for entry, child in children(here, here.scan()):
                    copy = there.below((entry.name,))
                    try:
                        self._copy(child, entry, copy, overwrite=False, recurse=False)
                        if entry.is_directory:
                            pending.append((child, copy))
                    except NotFound as error:
                        if _look(child) is not None:
                            record(failures, copy, error)  # listed, but not to be had
                    except StorageError as error:
                        record(failures, copy, error)
            except StorageError as error:
                record(failures, there, error)
        raise_for(failures, target)

    def _make_directory(self, source: Place, entry: Entry, target: Place) -> None:
        if _identities(entry) & self._met:
            raise InvalidPath(f"{source.path}: links lead in a circle")
        self._met |= _identities(entry, target.backend.make_directory(target.path))
        self.copied.append((source, entry))

    def _copy_file(self, source: Place, target: Place, *, overwrite: bool) -> None:
        backend = target.backend
        if source.storage.name == target.storage.name and backend.features.server_side_copy:
            entry = backend.stat(source.path)
            backend.copy(source.path, target.path, overwrite=overwrite)
        else:
            with source.backend.open_read(source.path) as reader:
                entry = reader.entry
                self._write(reader, target, overwrite)
        if self._keep_times and backend.features.set_modified:
            backend.set_modified(target.path, entry.modified)
        self.copied.append((source, entry))

    def _write(self, reader: Reader, target: Place, overwrite: bool) -> None:
        size = reader.entry.size
        try:
            writer = target.backend.open_write(target.path, size=size, if_none_match=not overwrite)
        except NotFound:
            raise Conflict("PARENT_MISSING", "the folder that the destination would be in is gone") from None
        with writer:
            for offset in range(0, size, PIECE):
                self.require_wanted()
                writer.write(reader.read_at(offset, min(PIECE, size - offset)))
            writer.commit()


def _remove_copied(copied: Copied) -> None:
    """Remove files that still are what was copied, and directories that are empty then; raises Incomplete."""
    failures: list[Failure] = []
    removed: set[Identity] = set()
    left: list[Place] = []
    for place, entry in copied:  # a link to a directory goes at once, so that what it leads to is not met below it
        try:
            if not entry.is_directory and not _is_unchanged(place.backend.stat(place.path), entry, removed):
                raise PreconditionFailed(f"{place.path}: it was changed after it had been copied")
            place.backend.remove(place.path)
            removed |= _identities(entry)
        except NotFound:
            continue
        except DirectoryNotEmpty:
            left.append(place)
        except StorageError as error:
            record(failures, place, error)
    for place in reversed(left):
        try:
            place.backend.remove(place.path)
        except NotFound:
            continue
        except DirectoryNotEmpty as error:
            if not any(failure.place.path.is_within(place.path) for failure in failures):
                failures.append(Failure(place, error))
        except StorageError as error:
            record(failures, place, error)
    if failures:
        raise Incomplete(failures)


def _is_unchanged(present: Entry, copied: Entry, removed: set[Identity]) -> bool:
    if present.etag == copied.etag:
        return True
    # Removing one name of a file with several changes the etag that the others show.
    facts = present.identity, present.size, present.modified
    return copied.identity in removed and facts == (copied.identity, copied.size, copied.modified)


def _look(place: Place, path: StoragePath | None = None) -> Entry | None:
    try:
        return place.backend.stat(place.path if path is None else path)
    except NotFound:
        return None


def _identities(*entries: Entry) -> set[Identity]:
    return {entry.identity for entry in entries if entry.identity is not None}


class Moves:
    """Copies, moves and removes files and directories, and with them the Shares on what moves (design rule 9) and all
    properties.

    Where any are affected the intent is a row before the storage is touched, so that a crash between the rename and
    the new paths in the state is repaired by `replay`.
    """

    def __init__(self, store: Store, living: Living) -> None:
        self._store = store
        self._living = living
        self._replacing = Replacing(store, living)
        self._belongings = Belongings(store)

    def remove(self, place: Place) -> None:
        """Do `remove_tree`, and drop what belonged to what is gone."""
        try:
            remove_tree(place)
        except Incomplete as error:
            self._belongings.remove(place, [failure.place.path for failure in error.failures])
            raise
        self._belongings.remove(place)

    def copy(
        self,
        source: Place,
        target: Place,
        *,
        overwrite: bool,
        recurse: bool = True,
        cancelled: Callable[[], bool] = _never,
    ) -> bool:
        """Copy a file, or a directory with everything in it (without `recurse` alone); tell whether `target` is new.

        The properties of what is copied come along. What is at `target` is replaced as a whole (RFC 4918 §9.8.4) and
        only when the copy is complete. Raises NotFound for the source, AlreadyExists without `overwrite`, Conflict
        (PARENT_MISSING), NotAllowed (SAME_RESOURCE), Incomplete when only something below could not be copied, and
        Cancelled once `cancelled`, asked for every piece, says so.
        """
        entry = source.backend.stat(source.path)
        present = _require_room(source, target, overwrite)
        copying = _Copying(self._replacing, keep_times=False, cancelled=cancelled, carry=self._carry)
        copying.put(source, entry, target, present, overwrite=overwrite, recurse=recurse)
        return present is None

    def _carry(self, source: Place, target: Place, copied: Copied) -> None:
        self._belongings.carry(source, target, {place.path for place, _ in copied})

    def move(self, source: Place, target: Place, *, overwrite: bool, cancelled: Callable[[], bool] = _never) -> bool:
        """Move a file or a directory and tell whether `target` is new (RFC 4918 §9.9).

        Into another storage this is a copy and then a removal of what was copied: Shares stay behind and find their
        Resource missing, and what another program has changed meanwhile stays too and is Incomplete. Raises as
        `copy`; when the copy fails the source is whole.
        """
        entry = source.backend.stat(source.path)
        present = _require_room(source, target, overwrite)
        if source.storage.name == target.storage.name:
            with contextlib.suppress(Unsupported):  # another file system is mounted between the two
                if _is_in_the_way(present, entry):
                    with self._replacing.over(target, source, is_copy=False, identity=entry.identity) as set_aside:
                        set_aside()
                        self._rename(source, entry, target, overwrite=False)
                else:
                    self._rename(source, entry, target, overwrite=overwrite and not entry.is_directory)
                return present is None
        copying = _Copying(self._replacing, keep_times=True, cancelled=cancelled, carry=self._carry)
        try:
            copying.put(source, entry, target, present, overwrite=overwrite)
            copying.require_wanted()
        except BaseException:
            if present is None:
                with contextlib.suppress(StorageError, Incomplete):
                    self.remove(target)
            raise
        try:
            _remove_copied(copying.copied)
        except Incomplete as error:
            self._belongings.remove(source, [failure.place.path for failure in error.failures])
            raise
        self._belongings.remove(source)
        return present is None

    def replay(self, storages: Mapping[str, Storage]) -> None:
        """Finish or drop the moves that a crash has interrupted; those on a storage that does not answer stay."""
        self._replacing.replay(storages)
        for move in self._store.read_sync(moves.unfinished):
            if move.backend in storages and not self._living.is_alive(move.process):
                self._settle(move, storages[move.backend].backend)

    def _rename(self, source: Place, entry: Entry, target: Place, *, overwrite: bool) -> None:
        intended = self._store.run_sync(
            lambda tx: _intend(tx, source.storage.name, source.path, target.path, entry.identity, self._living.name)
        )
        try:
            source.backend.rename(source.path, target.path, overwrite=overwrite)
        except BaseException:
            if intended:
                self._settle(intended, source.backend)
            raise
        if intended:
            self._store.run_sync(lambda tx: _finish(tx, intended))

    def _settle(self, move: Move, backend: StorageBackend) -> None:
        """Look which of both names the moved thing has, and bring the Shares in line with that."""
        try:
            moved = is_there(backend, move.target, move.identity) and not is_there(backend, move.source, move.identity)
        except StorageError as error:
            log.warning("moves.unsettled", backend=move.backend, path=str(move.source), reason=str(error))
            self._store.run_sync(lambda tx: moves.leave(tx, move.id))
            return
        log.info("moves.settled", backend=move.backend, path=str(move.source), moved=moved)
        if moved:
            self._store.run_sync(lambda tx: _finish(tx, move))
        else:
            self._store.run_sync(lambda tx: moves.remove(tx, move.id))


def _intend(
    tx: Connection, backend: str, source: StoragePath, target: StoragePath, identity: Identity | None, process: str
) -> Move | None:
    """Write the intent if anything is affected that the state keeps by path."""
    if not (
        sent_shares.within(tx, backend, source)
        or uploads.below(tx, backend, source)
        or belongings.moves_along(tx, backend, source, target)
    ):
        return None
    move_id = moves.add(tx, backend, source, target, identity, process)
    return Move(move_id, backend, source, target, identity, process)


def _finish(tx: Connection, move: Move) -> None:
    """Give the Shares and uploads below the old name their places below the new one, and drop the intent."""
    if not moves.remove(tx, move.id):
        return  # done by another already: what has come to these names since is not ours
    uploads.move(tx, move.backend, move.source, move.target)
    for share in sent_shares.within(tx, move.backend, move.source):
        with contextlib.suppress(InvalidPath):  # too long now: it is missing until it is moved again
            sent_shares.set_path(tx, share.id, move.target.join(share.path.relative_to(move.source)))
    belongings.move(tx, move.backend, move.source, move.target)
