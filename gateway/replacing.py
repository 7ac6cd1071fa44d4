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

from backends.errors import AlreadyExists, NotFound, StorageError
from backends.interface import Identity, StorageBackend
from backends.paths import StoragePath
from gateway import unfinished
from gateway.living import Living
from gateway.removing import Failure, Incomplete, remove_tree
from gateway.store import replacements
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


class Replacing:
    """Replaces, and settles at the next start what a crash has interrupted."""

    def __init__(self, store: Store, living: Living) -> None:
        self._store = store
        self._living = living

    @contextlib.contextmanager
    def over(
        self, target: Place, arriving: Place, *, is_copy: bool, identity: Identity | None
    ) -> Iterator[Callable[[], None]]:
        """Keep what is at `target` safe for the block, which calls what it is given and renames `arriving` to it.

        If the block fails, the old content has its name again and a copy is gone; else the old content is removed,
        and Incomplete tells what of it could not be.
        """
        aside = sibling(target)
        row = self._store.run_sync(
            lambda tx: replacements.add(
                tx,
                backend=target.storage.name,
                target=target.path,
                aside=aside.path,
                arriving=arriving.path,
                is_copy=is_copy,
                identity=identity,
                process=self._living.name,
            )
        )
        try:
            yield lambda: target.backend.rename(target.path, aside.path, overwrite=False)
        except BaseException:
            with contextlib.suppress(StorageError):  # of the state; then the next start settles it
                self._settle(row, target.storage)
            raise
        self._end(row, aside, target)

    def replay(self, storages: Mapping[str, Storage]) -> None:
        """Settle what dead processes have left on these storages; what cannot be settled now stays for later."""
        for row in self._store.read_sync(replacements.unfinished):
            if row.backend in storages and not self._living.is_alive(row.process):
                self._settle(row, storages[row.backend])

    def _end(self, row: Replacement, aside: Place, target: Place) -> None:
        try:
            _remove(aside)
        except (StorageError, Incomplete) as error:
            self._leave(row, error)
            if isinstance(error, Incomplete):
                raise renamed(error, aside, target) from None
            raise
        self._store.run_sync(lambda tx: replacements.remove(tx, row.id))

    def _settle(self, row: Replacement, storage: Storage) -> None:
        """Look how far it has come; then either the old content goes, or it has its name again and a copy goes."""
        target, aside, arriving = (
            Place(storage, path, StoragePath(), frozenset()) for path in (row.target, row.aside, row.arriving)
        )
        try:
            if _has_arrived(row, storage.backend):
                _remove(aside)
            else:
                _put_back(aside, target)
                if row.is_copy:
                    _remove(arriving)
        except (StorageError, Incomplete) as error:
            self._leave(row, error)
            return
        self._store.run_sync(lambda tx: replacements.remove(tx, row.id))

    def _leave(self, row: Replacement, error: Exception) -> None:
        log.warning("replacement.unsettled", backend=row.backend, path=str(row.target), reason=str(error))
        self._store.run_sync(lambda tx: replacements.leave(tx, row.id))


def renamed(error: Incomplete, unfinished: Place, place: Place) -> Incomplete:
    """Return `error` in the names that the caller knows."""
    return Incomplete(
        [
            Failure(place.below(failure.place.path.relative_to(unfinished.path)), failure.error)
            for failure in error.failures
        ]
    )


def _has_arrived(row: Replacement, backend: StorageBackend) -> bool:
    """Tell whether the new content certainly had the name, so that the old may go.

    A copy that is no longer under the name that nobody else knows has got the other. What a client moves may have
    been removed since; so there it has to be at the target, or the old content is kept.
    """
    if is_there(backend, row.arriving, row.identity):
        return False
    return row.is_copy or is_there(backend, row.target, row.identity)


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
