"""Contents beside their place: they arrive under a hidden name and are moved over the old one when they are whole.

Many servers write an upload straight into the file, or take one that was cut off for complete; MOVE is one step, or
at worst (RFC 4918 section 9.9.3) a removal and a renaming, between which the hidden name holds all there is.
"""

from __future__ import annotations

import contextlib
import time

from backends import temporaries
from backends.errors import IncompleteWrite, StorageError, Unavailable
from backends.paths import StoragePath
from backends.webdav.multistatus import Resource
from backends.webdav.session import Session

MOVED = frozenset({200, 201, 204})
DELETED = frozenset({200, 202, 204})


def is_hidden(path: StoragePath) -> bool:
    """Tell whether `path` is, or is below, a name that nobody may see."""
    return any(map(temporaries.is_hidden, path.parts))


def is_stale(resource: Resource) -> bool:
    """Tell whether this is what a crash has left; a server's clock may be wrong, but hardly by a day.

    Of which it tells no time, that may be an upload on its way.
    """
    age = time.time() - resource.modified / 1_000_000_000
    is_old = resource.modified != 0 and age > temporaries.STALE_AFTER
    return is_old and temporaries.is_temporary(resource.parts[-1])


class Aside:
    """The hidden names below one root."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def place_for(self, target: StoragePath) -> StoragePath:
        """Return a new name beside `target`."""
        return target.parent.child(temporaries.new_name())

    def move(self, place: StoragePath, target: StoragePath, *, replace: bool) -> None:
        """Give what is at `place` its name; raises PreconditionFailed where one is taken and nothing is to be replaced.

        An answer that is lost is found out about: the move has happened, or it is tried again where it has begun.
        """
        try:
            self._move(place, target, replace=replace)
        except Unavailable:
            if self._session.find(place) is None and self._session.find(target) is not None:
                return
            if not replace or self._session.find(target) is not None:
                raise
            self._move(place, target, replace=False)

    def is_there(self, target: StoragePath) -> bool:
        """Tell whether something is at `target` for certain, so that the place beside is not all that is left."""
        try:
            return self._session.find(target) is not None
        except StorageError:
            return False

    def drop(self, place: StoragePath) -> None:
        """Remove what is at `place`, if the server can do that now; else it is swept when it is stale."""
        with contextlib.suppress(StorageError):
            self._session.demand("DELETE", place, DELETED)

    def _move(self, place: StoragePath, target: StoragePath, *, replace: bool) -> None:
        headers = {"Destination": self._session.destination(target), "Overwrite": "T" if replace else "F"}
        self._session.demand("MOVE", place, MOVED, headers)


def require_size(session: Session, path: StoragePath, size: int) -> Resource:
    """Look at what the server has made of a content: some have said 201 to an empty file; raises IncompleteWrite."""
    present = session.look(path)
    if present.size is not None and present.size != size:
        raise IncompleteWrite(f"{session.host}: /{path}: {present.size} of {size} bytes were stored")
    return present
