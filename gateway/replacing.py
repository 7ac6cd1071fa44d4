"""Putting something in the place of what cannot be replaced in one step: a folder, or anything by a folder.

    copy    the copy is made beside the target under a name of ours; the target is set aside; the copy gets its name
    move    the target is set aside; what moves gets its name

Then what was set aside is removed. A row in state goes before the first of these names and stays until the last is
gone, so that after a crash at any moment the old content has its name again or the new has it, and nothing else is
left. No backend has to do more for this than to rename.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import structlog
from sqlalchemy import Connection

from backends.errors import AlreadyExists, NotFound, StorageError
from backends.interface import Identity, StorageBackend
from backends.paths import StoragePath
from gateway import belongings, unfinished
from gateway.errors import Busy, Conflict
from gateway.living import Living
from gateway.removing import Failure, Incomplete, remove_tree
from gateway.store import changes, moves, replacements
from gateway.store.engine import Store
from gateway.store.replacements import Replacement
from gateway.tree import Place, Storage

_NAME_KEPT = 200  # bytes of a name that another is made of; 255 is the most for both together

log = structlog.get_logger()


def sibling(place: Place) -> Place:
    """Return a place of ours beside `place`, for what is not finished."""
    name = unfinished.new_name(received=place.received is not None)
    return replace(place, path=place.path.parent.child(name))


def is_there(backend: StorageBackend, path: StoragePath, identity: Identity | None) -> bool:
    """Tell whether something is at `path`, and the very thing that is meant where an identity says which."""
    try:
        present = backend.stat(path)
    except NotFound:
        return False
    return identity is None or present.identity == identity


class Exchange:
    """One replacement on its way: what the block of `Replacing.over` says when."""

    def __init__(self, row: Replacement, backend: StorageBackend) -> None:
        self.row = row
        self._backend = backend

    def set_aside(self) -> None:
        """Free the name; raises Conflict where a folder above was moved or removed meanwhile, before anything is."""
        try:
            if self.row.is_copy:
                self.row = replace(self.row, identity=self._backend.stat(self.row.arriving).identity)
            self._backend.rename(self.row.target, self.row.aside, overwrite=False)
        except NotFound:
            raise Conflict(
                "DESTINATION_GONE", "what was to be replaced, or its folder, is not there any more"
            ) from None

    def arrived(self, tx: Connection) -> StoragePath:
        """Say that the copy has the name, in the transaction that brings what belongs to it; returns the name."""
        replacements.arrived(tx, self.row.id)
        present = replacements.get(tx, self.row.id)
        return self.row.target if present is None else present.target


class Replacing:
    """Replaces, and settles what a crash has interrupted, or a state that could not be written."""

    def __init__(self, store: Store, living: Living, clock: Callable[[], int]) -> None:
        """`clock` is in nanoseconds since the epoch."""
        self._store = store
        self._living = living
        self._clock = clock

    @contextlib.contextmanager
    def over(self, target: Place, arriving: Place, *, is_copy: bool, identity: Identity | None) -> Iterator[Exchange]:
        """Keep what is at `target` safe for the block, which sets it aside and renames `arriving` to it.

        If the block fails, the old content has its name again and a copy is gone; else the old content is removed,
        and Incomplete tells what of it could not be. Raises Busy while a folder above gets another name.
        """
        aside = sibling(target)

        def begin(tx: Connection, process: str) -> Replacement:
            require_rest(tx, target.storage.name, target.path, arriving.path)
            return replacements.add(
                tx,
                backend=target.storage.name,
                target=target.path,
                aside=aside.path,
                arriving=arriving.path,
                is_copy=is_copy,
                identity=identity,
                process=process,
            )

        with self._living.at_work() as process:
            row = self._store.run_sync(lambda tx: begin(tx, process))
            exchange = Exchange(row, target.backend)
            try:
                yield exchange
            except BaseException:
                with contextlib.suppress(StorageError):  # of the state; then it is settled later
                    self._settle(exchange.row, target.storage)
                raise
            self._end(exchange.row, aside, target)

    def replay(self, storages: Mapping[str, Storage]) -> None:
        """Settle what nobody works on any more on these storages; what cannot be settled now stays for later."""
        for row in self._store.read_sync(replacements.unfinished):
            if row.backend in storages and not self._living.is_alive(row.process):
                self._settle(row, storages[row.backend])

    def _end(self, row: Replacement, aside: Place, target: Place) -> None:
        try:
            remove_tree(aside)
        except NotFound:
            self._settle(row, target.storage)  # it has another name by now
        except (StorageError, Incomplete) as error:
            self._close(row, str(error))
            if isinstance(error, Incomplete):
                raise renamed(error, aside, target) from None
            raise
        else:
            if (moved := self._close(row, None)) is not None:
                self._settle(moved, target.storage)

    def _settle(self, row: Replacement, storage: Storage) -> None:
        """Set right what is there, by the names that it has when that is done: a folder above may have been moved."""
        now: Replacement | None = row
        while now is not None:
            now = self._close(now, self._set_right(now, storage))

    def _set_right(self, row: Replacement, storage: Storage) -> str | None:
        """Look how far it has come; then either the old content goes, or it has its name again and a copy goes.

        Returns why that is not possible now. Where nothing has any of the names, nobody knows what became of it.
        """
        target, aside, arriving = (Place(storage, path, StoragePath(), frozenset()) for path in row.names)
        try:
            if not any(is_there(storage.backend, path, None) for path in row.names):
                return "nothing is there under any of its names"
            if _has_arrived(row, storage.backend):
                self._drop_replaced(row, storage.backend)
                _remove(aside)
            else:
                _put_back(aside, target)
                if row.is_copy:
                    _remove(arriving)
        except (StorageError, Incomplete) as error:
            return str(error)
        return None

    def _drop_replaced(self, row: Replacement, backend: StorageBackend) -> None:
        """Drop what belonged to the old content, if whoever has brought the copy did not come to that."""

        def work(tx: Connection) -> None:
            present = replacements.get(tx, row.id)
            if present is not None and present.is_copy:
                belongings.replaced(tx, present.backend, present.target)
                replacements.arrived(tx, present.id)

        if row.is_copy and is_there(backend, row.aside, None):
            self._store.run_sync(work)

    def _close(self, row: Replacement, reason: str | None) -> Replacement | None:
        """Forget a row that is settled, or leave it for later, for a `reason` or as a folder above is on its way.

        Returns the row as it is now, and does nothing, where its names are others than those that were looked at.
        """

        def work(tx: Connection) -> Replacement | None:
            present = replacements.get(tx, row.id)
            if present is None:
                return None  # another has settled it
            if present.names != row.names:
                return replace(present, identity=present.identity or row.identity)
            if reason is None and not moves.is_on_the_way(tx, row.backend, [row.aside]):
                replacements.remove(tx, row.id)
                changes.touch(tx, row.backend, [row.target.parent], [row.target], self._clock())
            elif present.process is not None:
                why = reason or "a folder above is being moved"
                log.warning("replacement.unsettled", backend=row.backend, path=str(row.target), reason=why)
                replacements.leave(tx, row.id)
            return None

        return self._store.run_sync(work)


def require_rest(tx: Connection, backend: str, *paths: StoragePath) -> None:
    """Raise Busy while a path, or a folder above it, is being moved.

    A row that is written meanwhile would go along, though what it speaks of may lie in a new folder of the old name.
    """
    if moves.is_on_the_way(tx, backend, paths):
        raise Busy("BEING_MOVED", "this, or a folder that it lies in, is being moved; try again", retry_after=1)


def renamed(error: Incomplete, unfinished: Place, place: Place) -> Incomplete:
    """Return `error` in the names that the caller knows."""
    return Incomplete(
        [
            Failure(place.below(failure.place.path.relative_to(unfinished.path)), failure.error)
            for failure in error.failures
        ]
    )


def _has_arrived(row: Replacement, backend: StorageBackend) -> bool:
    """Tell whether the new content certainly has the name, so that the old may go.

    It may have been removed since, under either name; so it has to be at the target, or the old content is kept.
    """
    return not is_there(backend, row.arriving, row.identity) and is_there(backend, row.target, row.identity)


def _remove(place: Place) -> None:
    with contextlib.suppress(NotFound):
        remove_tree(place)


def _put_back(aside: Place, target: Place) -> None:
    """Give what was set aside its name again, or one like it where somebody has taken that meanwhile."""
    try:
        target.backend.rename(aside.path, target.path, overwrite=False)
    except NotFound:
        return  # it never was set aside
    except AlreadyExists:
        name = target.path.name[:_NAME_KEPT] + b".restored-" + secrets.token_hex(4).encode()
        target.backend.rename(aside.path, target.path.parent.child(name), overwrite=False)
        log.warning(
            "replacement.restored",
            backend=target.storage.name,
            path=str(target.path),
            name=name.decode("utf-8", "replace"),
        )
