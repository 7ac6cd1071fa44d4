"""What every door does to files beyond one call of the storage: removing and copying trees, and moving.

All of it is synchronous and belongs into the storage's pool. Trees are walked without recursion and with one open
directory at a time, because a path may have two thousand components. A name that another program removes meanwhile
is no error; a full disk or a storage that does not answer ends the walk; any other failure ends that branch only.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import structlog
from sqlalchemy import Connection

from backends.errors import (
    AlreadyExists,
    DirectoryNotEmpty,
    InvalidPath,
    NotFound,
    OutOfSpace,
    StorageError,
    Unavailable,
    Unsupported,
)
from backends.interface import Entry, Identity, StorageBackend
from backends.paths import StoragePath
from gateway.errors import Conflict, NotAllowed
from gateway.store import moves, sent_shares
from gateway.store.engine import Store
from gateway.store.moves import Move
from gateway.tree import Place, Storage

PIECE = 1 << 20  # bytes that are copied at a time

_HOPELESS = (OutOfSpace, Unavailable)  # the next file will fare no better

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Failure:
    """One file or directory that could not be worked on."""

    place: Place
    error: StorageError


class Incomplete(Exception):
    """Part of a tree could not be worked on; everything else was."""

    def __init__(self, failures: list[Failure]) -> None:
        super().__init__(f"{len(failures)} failed, the first: {failures[0].error}")
        self.failures = tuple(failures)


def remove_tree(place: Place) -> None:
    """Remove the file or directory with everything in it; a link is removed, not what it leads to.

    Raises what the storage says of `place` itself, and Incomplete when only something below it could not be removed.
    """
    failures: list[Failure] = []
    pending = [(place, False)]  # directories, and whether they have been emptied
    while pending:
        here, emptied = pending.pop()
        try:
            # Tried before looking inside: it may be empty, or a link to a directory.
            here.backend.remove(here.path)
        except DirectoryNotEmpty as error:
            if not emptied:
                pending.append((here, True))
                pending.extend((child, False) for child in _remove_files(here, failures))
            elif not any(failure.place.path.is_within(here.path) for failure in failures):
                failures.append(Failure(here, error))  # another program has put something into it
        except NotFound:
            if here is place and not emptied:
                raise
        except StorageError as error:
            _record(failures, here, error)
    _raise_for(failures, place)


def _remove_files(directory: Place, failures: list[Failure]) -> list[Place]:
    """Remove the files in `directory` and return its directories."""
    directories = []
    try:
        for entry, child in _children(directory):
            if entry.is_directory:
                directories.append(child)
                continue
            try:
                child.backend.remove(child.path)
            except NotFound:
                continue
            except StorageError as error:
                _record(failures, child, error)
    except StorageError as error:
        _record(failures, directory, error)
    return directories


def copy_tree(source: Place, target: Place, *, overwrite: bool, recurse: bool = True) -> bool:
    """Copy a file, or a directory with everything in it (without `recurse` alone), and tell whether `target` is new.

    A file replaces a file atomically; where a directory is involved, what was at `target` is removed first (RFC 4918
    §9.8.4). Raises NotFound for the source, AlreadyExists without `overwrite`, Conflict (PARENT_MISSING), NotAllowed
    (SAME_RESOURCE), and Incomplete when only something below could not be copied.
    """
    entry = source.backend.stat(source.path)
    is_new = _make_room(source, entry, target, overwrite)
    _copy(source, entry, target, overwrite=overwrite, recurse=recurse, keep_times=False)
    return is_new


def _make_room(source: Place, entry: Entry, target: Place, overwrite: bool) -> bool:
    """Check that `source` may become `target`, remove what cannot be replaced, and tell whether `target` is new."""
    if source.storage.name == target.storage.name and (
        target.path.is_within(source.path) or source.path.is_within(target.path)
    ):
        raise _same_resource()
    present = _look(target)
    if present is None:
        parent = _look(target, target.path.parent)
        if parent is None or not parent.is_directory:
            raise Conflict("PARENT_MISSING", "the folder that the destination would be in does not exist")
        return True
    if not overwrite:
        raise AlreadyExists(f"{target.path} is there already")
    if present.is_directory and _lies_in(source, present):
        raise _same_resource()
    if present.is_directory or entry.is_directory:
        remove_tree(target)
    return False


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


def _copy(source: Place, entry: Entry, target: Place, *, overwrite: bool, recurse: bool, keep_times: bool) -> None:
    if not entry.is_directory:
        _copy_file(source, target, overwrite=overwrite, keep_times=keep_times)
        return
    made = target.backend.make_directory(target.path)
    if recurse:
        _copy_children(source, target, _identities(entry, made), keep_times)


def _copy_children(source: Place, target: Place, met: set[Identity], keep_times: bool) -> None:
    """Copy what is in the directory `source` into the directory `target`.

    `met` holds the directories that were copied or made already: links may lead in circles, or into the copy.
    """
    failures: list[Failure] = []
    pending = [(source, target)]
    while pending:
        here, there = pending.pop()
        try:
            for entry, child in _children(here):
                copy = there.below((entry.name,))
                try:
                    if not entry.is_directory:
                        _copy_file(child, copy, overwrite=False, keep_times=keep_times)
                    elif _identities(entry) & met:
                        raise InvalidPath(f"{child.path}: links lead in a circle")
                    else:
                        met |= _identities(entry, copy.backend.make_directory(copy.path))
                        pending.append((child, copy))
                except NotFound:
                    continue
                except StorageError as error:
                    _record(failures, copy, error)
        except StorageError as error:
            _record(failures, there, error)
    _raise_for(failures, target)


def _copy_file(source: Place, target: Place, *, overwrite: bool, keep_times: bool) -> None:
    backend = target.backend
    if source.storage.name == target.storage.name and backend.features.server_side_copy:
        backend.copy(source.path, target.path, overwrite=overwrite)
        return
    with source.backend.open_read(source.path) as reader:
        size = reader.entry.size
        try:
            writer = backend.open_write(target.path, size=size, if_none_match=not overwrite)
        except NotFound:
            raise Conflict("PARENT_MISSING", "the folder that the destination would be in is gone") from None
        with writer:
            for offset in range(0, size, PIECE):
                writer.write(reader.read_at(offset, min(PIECE, size - offset)))
            writer.commit()
        if keep_times and backend.features.set_modified:
            backend.set_modified(target.path, reader.entry.modified)


def _children(directory: Place) -> Iterator[tuple[Entry, Place]]:
    with directory.backend.scan(directory.path) as scan:
        for entry in scan:
            yield entry, directory.below((entry.name,))


def _look(place: Place, path: StoragePath | None = None) -> Entry | None:
    try:
        return place.backend.stat(place.path if path is None else path)
    except NotFound:
        return None


def _identities(*entries: Entry) -> set[Identity]:
    return {entry.identity for entry in entries if entry.identity is not None}


def _record(failures: list[Failure], place: Place, error: StorageError) -> None:
    if isinstance(error, _HOPELESS):
        raise error
    failures.append(Failure(place, error))


def _raise_for(failures: list[Failure], place: Place) -> None:
    if [failure.place.path for failure in failures] == [place.path]:
        raise failures[0].error
    if failures:
        raise Incomplete(failures)


class Moves:
    """Moves files and directories, and the Shares on them with them (design rule 9).

    Where Shares are affected the intent is a row before the storage is touched, so that a crash between the rename
    and the Shares' new paths is repaired by `replay`.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def move(self, source: Place, target: Place, *, overwrite: bool) -> bool:
        """Move a file or a directory and tell whether `target` is new (RFC 4918 §9.9).

        Into another storage this is a copy and then a removal: Shares stay behind and find their Resource missing.
        Raises as `copy_tree`; when it fails the source is whole.
        """
        entry = source.backend.stat(source.path)
        is_new = _make_room(source, entry, target, overwrite)
        if source.storage.name == target.storage.name:
            with contextlib.suppress(Unsupported):  # another file system is mounted between the two
                self._rename(source, entry, target, overwrite=overwrite and not entry.is_directory)
                return is_new
        try:
            _copy(source, entry, target, overwrite=overwrite, recurse=True, keep_times=True)
        except BaseException:
            if entry.is_directory:
                with contextlib.suppress(StorageError, Incomplete):
                    remove_tree(target)
            raise
        remove_tree(source)
        return is_new

    def replay(self, storages: Mapping[str, Storage]) -> None:
        """Finish or drop the moves that a crash has interrupted; those on a storage that does not answer stay."""
        for move in self._store.read_sync(moves.unfinished):
            if move.backend in storages:
                self._settle(move, storages[move.backend].backend)

    def _rename(self, source: Place, entry: Entry, target: Place, *, overwrite: bool) -> None:
        intended = self._store.run_sync(
            lambda tx: _intend(tx, source.storage.name, source.path, target.path, entry.identity)
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
            moved = _is_there(backend, move.target, move.identity) and not _is_there(
                backend, move.source, move.identity
            )
        except StorageError as error:
            log.warning("moves.unsettled", backend=move.backend, path=str(move.source), reason=str(error))
            return
        log.info("moves.settled", backend=move.backend, path=str(move.source), moved=moved)
        if moved:
            self._store.run_sync(lambda tx: _finish(tx, move))
        else:
            self._store.run_sync(lambda tx: moves.remove(tx, move.id))


def _intend(
    tx: Connection, backend: str, source: StoragePath, target: StoragePath, identity: Identity | None
) -> Move | None:
    """Write the intent if any Share is affected."""
    if not sent_shares.within(tx, backend, source):
        return None
    return Move(moves.add(tx, backend, source, target, identity), backend, source, target, identity)


def _finish(tx: Connection, move: Move) -> None:
    """Give the Shares below the old name their places below the new one, and drop the intent."""
    for share in sent_shares.within(tx, move.backend, move.source):
        with contextlib.suppress(InvalidPath):  # too long now: it is missing until it is moved again
            sent_shares.set_path(tx, share.id, move.target.join(share.path.relative_to(move.source)))
    moves.remove(tx, move.id)


def _is_there(backend: StorageBackend, path: StoragePath, identity: Identity | None) -> bool:
    try:
        present = backend.stat(path)
    except NotFound:
        return False
    return identity is None or present.identity == identity
