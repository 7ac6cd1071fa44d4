"""Hidden temporaries on the server: noted before they are made, and removed whatever happens, at the latest by the
next start.

A server cannot tell whether the writer of a file still lives, so the journal names each temporary itself: what a
dead process has noted is its own. One that is met in a directory is removed when it has not changed for a day.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from backends import temporaries
from backends.errors import InvalidPath, NotFound, PermissionDenied, StorageError, Unavailable
from backends.journal import Journal
from backends.paths import StoragePath
from backends.sftp.connections import Connections
from backends.sftp.session import Session
from backends.sftp.tree import Tree, below, is_beneath
from backends.sftp_packets import Attributes, Open, Type, string, u32


@dataclass(eq=False, slots=True)
class Temporary:
    """A hidden file: where it was noted, and its place on the server, which moves with its directory."""

    noted: StoragePath
    place: bytes


class Leftovers:
    """The temporaries of this process, and those that dead ones have noted in the same journals."""

    def __init__(
        self, journal: Journal, connections: Connections, tree: Tree, clock: Callable[[], float] = time.time
    ) -> None:
        self._journal = journal
        self._connections = connections
        self._tree = tree
        self._clock = clock
        self._lock = threading.Lock()
        self._living: set[Temporary] = set()
        self._unremoved: set[Temporary] = set()
        self._sweep_is_due = True

    def create(
        self, session: Session, directory: StoragePath, place: bytes, mode: int | None
    ) -> tuple[Temporary, bytes]:
        """Make a temporary in a directory, with these permissions; returns it and its handle."""
        name = temporaries.new_name(self._tree.hidden)
        temporary = Temporary(directory.child(name), below(place, name))
        self._journal.enter(temporary.noted)
        with self._lock:
            self._living.add(temporary)
        flags = u32(Open.READ | Open.WRITE | Open.CREATE | Open.EXCLUSIVE)
        try:
            fields = string(temporary.place), flags, Attributes(mode=mode).to_bytes()
            return temporary, session.ask(f"/{directory}", Type.OPEN, *fields).string()
        except Unavailable:  # it may be there
            self.remove(session, temporary)
            raise
        except BaseException:
            self.forget(temporary)
            raise

    def forget(self, temporary: Temporary) -> None:
        """Say that there is nothing any more under its hidden name."""
        with self._lock:
            is_first = temporary in self._living
            self._living.discard(temporary)
            self._unremoved.discard(temporary)
        if is_first:
            self._journal.leave(temporary.noted)

    def remove(self, session: Session, temporary: Temporary) -> None:
        """Remove it by a session, or, where that is lost, before the next write; never raises."""
        try:
            self._remove(session, temporary.place)
        except StorageError:
            with self._lock:
                self._unremoved.add(temporary)
            return
        self.forget(temporary)

    def moved(self, old: bytes, new: bytes) -> None:
        """Follow the temporaries below a directory that was renamed."""
        with self._lock:
            for temporary in self._living:
                if is_beneath(temporary.place, old):
                    temporary.place = new + temporary.place[len(old) :]

    def tidy(self) -> None:
        """Sweep what the dead have left, once, and what could not be removed before; raises Unavailable."""
        if self._sweep_is_due:
            self.sweep()
        with self._lock:
            waiting = list(self._unremoved)
        for temporary in waiting:
            with self._connections.take() as session:
                self.remove(session, temporary)

    def sweep(self) -> int:
        """Remove the temporaries that dead processes have noted; returns how many. Raises Unavailable."""
        swept = 0
        for noted in self._journal.left_by_the_dead():
            for path in noted:
                swept += self._connections.twice(partial(self._sweep, path=path))
        self._sweep_is_due = False
        return swept

    def is_stale(self, place: bytes, attributes: Attributes) -> bool:
        """Tell whether a temporary that was met can have no living writer."""
        with self._lock:
            is_ours = any(one.place == place for one in self._living)
        if is_ours:
            return False
        return self._clock() - (attributes.modified or 0) > temporaries.STALE_AFTER

    def _sweep(self, session: Session, path: StoragePath) -> bool:
        if not temporaries.is_temporary(path.name, self._tree.hidden):
            return False
        try:
            directory = self._tree.look(session, path.parent).place
            return self._remove(session, below(directory, path.name))
        except (NotFound, PermissionDenied, InvalidPath):  # gone, or out of our reach: a listing will meet it
            return False

    def _remove(self, session: Session, place: bytes) -> bool:
        try:
            session.ask("a temporary", Type.REMOVE, string(place))
        except NotFound:
            return False
        return True
