"""What belongs to a file or folder and is kept in the state, not in the storage: its dead properties and its locks.

Properties follow what is copied and moved; locks stay behind and end with what they were on (RFC 4918 §7.6, §9.6).
What is removed or replaced loses both, but for a lock on a name that is replaced, which holds on. Where another
program makes, moves or removes files, nothing follows: properties wait at their path, and are dropped when something
new is made there through the gateway. Synchronous, like the files themselves.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Mapping, Sequence

from sqlalchemy import Connection

from backends.errors import InvalidPath, NotFound
from backends.paths import StoragePath
from gateway.errors import Full
from gateway.store import locks, properties
from gateway.store.engine import Store
from gateway.tree import Place

VALUE_MAX = 16 * 1024  # bytes of one property as XML
COUNT_MAX = 100  # properties of one file or folder
TOTAL_MAX = 64 * 1024  # bytes of all of them, names included: a listing holds a batch of them in memory


class Belongings:
    """Properties and locks of places; what is to be changed is looked for first, as most places have neither."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def has_properties(self, place: Place) -> bool:
        """Tell whether the place or anything below it has dead properties."""
        return self._store.read_sync(lambda tx: properties.exists_below(tx, place.storage.name, place.path))

    def properties(self, place: Place, names: Iterable[bytes] = ()) -> dict[bytes, Mapping[str, str]]:
        """Return the dead properties, name -> XML, of what is called `names` in the folder `place`, by those names.

        The folder itself has the empty name. What has none is left out.
        """
        paths = {place.path: b"", **{place.path.child(name): name for name in names}}
        found = self._store.read_sync(lambda tx: properties.of(tx, place.storage.name, paths))
        return {paths[path]: values for path, values in found.items()}

    def change_properties(self, place: Place, changes: Sequence[tuple[str, str | None]]) -> None:
        """Set properties to XML, or remove them (None), in this order and all or none; raises Full."""

        def work(tx: Connection) -> None:
            values = properties.of(tx, place.storage.name, [place.path]).get(place.path, {})
            for name, value in changes:
                values.pop(name, None)
                if value is not None:
                    values[name] = value
            require_room(values)
            properties.remove(tx, place.storage.name, place.path)
            properties.put(tx, place.storage.name, place.path, values)

        self._store.run_sync(work)

    def make_way(self, place: Place) -> None:
        """Drop what something earlier of the same name has left, before anything new is made there."""
        if self.has_properties(place) and not _is_there(place):
            self._store.run_sync(lambda tx: properties.remove_below(tx, place.storage.name, place.path))

    def carry(self, source: Place, target: Place, copied: Collection[StoragePath]) -> None:
        """Give the copy at `target` the properties of what was `copied` from below `source`, and none but those."""

        def concerns(tx: Connection) -> bool:
            return _exists(tx, target) or properties.exists_below(tx, source.storage.name, source.path)

        if self._store.read_sync(concerns):
            self._store.run_sync(lambda tx: carry(tx, source, target.storage.name, target.path, copied))

    def remove(self, place: Place, left: Sequence[StoragePath] = ()) -> None:
        """Drop what belonged to a tree that was removed, but for what is still `left` of it."""

        def work(tx: Connection) -> None:
            if not left:
                properties.remove_below(tx, place.storage.name, place.path)
                locks.remove_below(tx, place.storage.name, place.path, spare_root=False)
                return
            for path in properties.below(tx, place.storage.name, place.path):
                if not any(path.is_within(still) or still.is_within(path) for still in left):
                    properties.remove(tx, place.storage.name, path)

        if self._store.read_sync(lambda tx: _exists(tx, place)):
            self._store.run_sync(work)


def moves_along(tx: Connection, backend: str, source: StoragePath, target: StoragePath) -> bool:
    """Tell whether a move within a storage has anything to take along or to drop."""
    return any(
        exists(tx, backend, path)
        for exists in (properties.exists_below, locks.exists_below)
        for path in (source, target)
    )


def carry(tx: Connection, source: Place, backend: str, target: StoragePath, copied: Collection[StoragePath]) -> None:
    """Do what `Belongings.carry` does, in the caller's transaction."""
    replaced(tx, backend, target)
    for path, values in properties.below(tx, source.storage.name, source.path).items():
        if path in copied:
            _put(tx, backend, target, path.relative_to(source.path), values)


def replaced(tx: Connection, backend: str, path: StoragePath) -> None:
    """Drop what belonged to what had the name before, in the caller's transaction; only a lock on the name stays."""
    properties.remove_below(tx, backend, path)
    locks.remove_below(tx, backend, path, spare_root=True)


def move(tx: Connection, backend: str, source: StoragePath, target: StoragePath) -> None:
    """Follow a move within a storage, in the caller's transaction."""
    replaced(tx, backend, target)
    for path, values in properties.below(tx, backend, source).items():
        _put(tx, backend, target, path.relative_to(source), values)
    properties.remove_below(tx, backend, source)
    locks.remove_below(tx, backend, source, spare_root=False)


def forget(tx: Connection, backend: str) -> None:
    """Drop what belongs to anything in a storage that is gone for good, in the caller's transaction."""
    properties.remove_below(tx, backend, StoragePath())
    locks.remove_below(tx, backend, StoragePath(), spare_root=False)


def require_room(values: Mapping[str, str]) -> None:
    """Check the bounds of one resource's properties; raises Full."""
    if len(values) > COUNT_MAX:
        raise Full("TOO_MANY_PROPERTIES", f"a file or folder has at most {COUNT_MAX} properties")
    sizes = [len(value.encode()) for value in values.values()]
    if any(size > VALUE_MAX for size in sizes):
        raise Full("PROPERTY_TOO_LARGE", f"a property has at most {VALUE_MAX} bytes")
    if sum(sizes) + sum(len(name.encode()) for name in values) > TOTAL_MAX:
        raise Full("PROPERTIES_TOO_LARGE", f"the properties of a file or folder have at most {TOTAL_MAX} bytes")


def _put(tx: Connection, backend: str, target: StoragePath, names: Sequence[bytes], values: Mapping[str, str]) -> None:
    with contextlib.suppress(InvalidPath):  # too long now, so that nothing can be asked of it either
        properties.put(tx, backend, target.join(names), values)


def _exists(tx: Connection, place: Place) -> bool:
    return properties.exists_below(tx, place.storage.name, place.path) or locks.exists_below(
        tx, place.storage.name, place.path
    )


def _is_there(place: Place) -> bool:
    try:
        place.backend.stat(place.path)
    except NotFound:
        return False
    return True
