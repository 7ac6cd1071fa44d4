"""What every door does to files beyond one call of the storage: copying trees, moving, and removing with all that
belongs to what is removed.

All of it is synchronous and belongs into the storage's pool. How trees are walked is said in `removing.py`, and how
something takes the place of a folder in `replacing.py`.
"""

from __future__ import annotations

import contextlib
import time
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
from gateway.replacing import Exchange, Replacing, is_there, renamed, require_rest, sibling
from gateway.store import changes, moves, replacements, sent_shares, uploads
from gateway.store.engine import Store
from gateway.store.moves import Move
from gateway.tree import Place, Storage

PIECE = 1 << 20  # bytes that are copied at a time

log = structlog.get_logger()


class Cancelled(Exception):
    """The work was called off before its end."""


Copied = list[tuple[Place, Entry]]
Carry = Callable[[Place, Place, Copied, Exchange | None], None]


def _never() -> bool:
    return False


def _unheard() -> None:
    """Tell nobody."""


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
        changed: Callable[[], None],
        carry: Carry,
    ) -> None:
        self._replacing = replacing
        self._changed = changed
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
                self._carry(source, target, self.copied, None)
                raise
            self._carry(source, target, self.copied, None)
            return
        unfinished = sibling(target)
        try:
            with self._replacing.over(target, unfinished, is_copy=True, identity=None) as exchange:
                self._copy(source, entry, unfinished, overwrite=False, recurse=recurse)
                exchange.set_aside()
                target.backend.rename(unfinished.path, target.path, overwrite=False)
                self._carry(source, target, self.copied, exchange)
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
                        if _look(there) is None:
                            raise _parent_missing() from None
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
        self._changed()
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
        self._changed()
        if self._keep_times and backend.features.set_modified:
            backend.set_modified(target.path, entry.modified)
        self.copied.append((source, entry))

    def _write(self, reader: Reader, target: Place, overwrite: bool) -> None:
        size = reader.entry.size
        try:
            writer = target.backend.open_write(target.path, size=size, if_none_match=not overwrite)
        except NotFound:
            raise _parent_missing() from None
        with writer:
            for offset in range(0, size, PIECE):
                self.require_wanted()
                writer.write(reader.read_at(offset, min(PIECE, size - offset)))
            writer.commit()


def _parent_missing() -> Conflict:
    return Conflict("PARENT_MISSING", "the folder that the destination would be in is gone")


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
    the new paths in the state is repaired by `replay`. Of a folder it always is: what else is under way below goes
    along, and nothing that is kept by path begins there until the folder has come.
    """

    def __init__(self, store: Store, living: Living, clock: Callable[[], int] = time.time_ns) -> None:
        """`clock` is in nanoseconds since the epoch."""
        self._store = store
        self._living = living
        self._clock = clock
        self._replacing = Replacing(store, living, clock)
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
        changed: Callable[[], None] = _unheard,
    ) -> bool:
        """Copy a file, or a directory with everything in it (without `recurse` alone); tell whether `target` is new.

        The properties of what is copied come along. What is at `target` is replaced as a whole (RFC 4918 §9.8.4) and
        only when the copy is complete. Raises NotFound for the source, AlreadyExists without `overwrite`, Conflict
        (PARENT_MISSING), NotAllowed (SAME_RESOURCE), Incomplete when only something below could not be copied, and
        Cancelled once `cancelled`, asked for every piece, says so. What fails after `changed` was called has been done
        in part.
        """
        entry = source.backend.stat(source.path)
        present = _require_room(source, target, overwrite)
        copying = _Copying(self._replacing, keep_times=False, cancelled=cancelled, changed=changed, carry=self._carry)
        copying.put(source, entry, target, present, overwrite=overwrite, recurse=recurse)
        return present is None

    def _carry(self, source: Place, target: Place, copied: Copied, exchange: Exchange | None) -> None:
        """Bring along what belongs to what was copied: at once with what says that it has come where by `exchange`."""
        paths = {place.path for place, _ in copied}
        if exchange is None:
            self._belongings.carry(source, target, paths)
            return
        backend = target.storage.name
        self._store.run_sync(lambda tx: belongings.carry(tx, source, backend, exchange.arrived(tx), paths))

    def move(
        self,
        source: Place,
        target: Place,
        *,
        overwrite: bool,
        cancelled: Callable[[], bool] = _never,
        changed: Callable[[], None] = _unheard,
    ) -> bool:
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
                    with self._replacing.over(target, source, is_copy=False, identity=entry.identity) as exchange:
                        exchange.set_aside()
                        changed()
                        self._rename(source, entry, target, overwrite=False)
                else:
                    self._rename(source, entry, target, overwrite=overwrite and not entry.is_directory)
                return present is None
        copying = _Copying(self._replacing, keep_times=True, cancelled=cancelled, changed=changed, carry=self._carry)
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
        """Finish or drop the moves that nobody works on any more, and then the replacements, which go along with them.

        Those on a storage that does not answer stay.
        """
        for move in self._store.read_sync(moves.unfinished):
            if move.backend in storages and not self._living.is_alive(move.process):
                self._settle(move, storages[move.backend].backend)
        self._replacing.replay(storages)

    def _rename(self, source: Place, entry: Entry, target: Place, *, overwrite: bool) -> None:
        backend, paths = source.storage.name, (source.path, target.path)
        with self._living.at_work() as process:
            intended = self._store.run_sync(lambda tx: _intend(tx, backend, *paths, entry, process))
            try:
                source.backend.rename(*paths, overwrite=overwrite)
            except BaseException:
                if intended:
                    with contextlib.suppress(StorageError):  # of the state; then it is settled later
                        self._settle(intended, source.backend)
                raise
            went_along = intended is not None and self._store.run_sync(lambda tx: _finish(tx, intended))
        if went_along:  # whoever has given one up meanwhile did not know its name
            with contextlib.suppress(StorageError):
                self.replay({backend: source.storage})

    def _settle(self, move: Move, backend: StorageBackend) -> None:
        """Look which of its names the moved thing has, and bring the Shares in line with that."""
        now: Move | None = move
        while now is not None:  # again where a folder above was moved meanwhile
            now = self._settled(now, backend)

    def _settled(self, move: Move, backend: StorageBackend) -> Move | None:
        """Settle a move if it still has these names; else return it as it is now."""
        try:
            moved = is_there(backend, move.target, move.identity) and not is_there(backend, move.source, move.identity)
        except StorageError as error:
            log.warning("moves.unsettled", backend=move.backend, path=str(move.source), reason=str(error))
            self._store.run_sync(lambda tx: moves.leave(tx, move.id))
            return None

        def work(tx: Connection) -> Move | None:
            present = moves.get(tx, move.id)
            names = move.source, move.target
            if present is None:
                return None  # another has settled it
            if (present.source, present.target) != names:
                return present
            if moved:
                _finish(tx, move)
                changes.touch(tx, move.backend, [name.parent for name in names], names, self._clock())
            elif moves.is_on_the_way(tx, move.backend, names, besides=move.id):
                moves.leave(tx, move.id)  # where it is now, only that move can say
            else:
                moves.remove(tx, move.id)
            return None

        log.info("moves.settled", backend=move.backend, path=str(move.source), moved=moved)
        return self._store.run_sync(work)


def _intend(
    tx: Connection, backend: str, source: StoragePath, target: StoragePath, entry: Entry, process: str
) -> Move | None:
    """Write the intent if anything is affected that the state keeps by path; of a folder always, as that may come yet.

    Raises Busy while a folder above is being moved, and InvalidPath where something below has no name afterwards.
    """
    if not (
        entry.is_directory
        or sent_shares.within(tx, backend, source)
        or belongings.moves_along(tx, backend, source, target)
    ):
        return None
    require_rest(tx, backend, source, target)
    moves.along(tx, backend, source, target)
    replacements.along(tx, backend, source, target)
    move_id = moves.add(tx, backend, source, target, entry.identity, process)
    return Move(move_id, backend, source, target, entry.identity, process)


def _finish(tx: Connection, move: Move) -> bool:
    """Give all that the state keeps below the old name its place below the new one, and drop the intent.

    Tells whether others' moves and replacements were among it.
    """
    present = moves.get(tx, move.id)
    if present is None:
        return False  # done by another already: what has come to these names since is not ours
    moves.remove(tx, move.id)
    backend, source, target = present.backend, present.source, present.target
    uploads.move(tx, backend, source, target)
    for share in sent_shares.within(tx, backend, source):
        with contextlib.suppress(InvalidPath):  # too long now: it is missing until it is moved again
            sent_shares.set_path(tx, share.id, target.join(share.path.relative_to(source)))
    belongings.move(tx, backend, source, target)
    nested, replacing = moves.along(tx, backend, source, target), replacements.along(tx, backend, source, target)
    for other in nested:
        moves.rename(tx, other)
    for row in replacing:
        replacements.rename(tx, row)
    return bool(nested or replacing)
