"""Write locks: who may change what while somebody works on it (RFC 4918 §6, §7). No door has rules of its own.

A lock is on a place in storage, so the owner and everybody whom it is shared with meet the same one. Checks read the
last committed state and are made twice, before an operation and again where it takes effect; a new lock is compared
with those there are and written in one transaction, so that two processes never grant two exclusive ones.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Flag, auto

from sqlalchemy import Connection

from backends.errors import NotFound
from backends.paths import StoragePath
from gateway.errors import Conflict, Full, Locked, NotAllowed
from gateway.store import locks
from gateway.store.engine import Store
from gateway.store.locks import Lock as Lock
from gateway.tree import Place

TIME_DEFAULT = 600  # seconds that a lock lives when its client names no time
TIME_MAX = 3600  # seconds until it has to be refreshed, also where the client asks for ever: clients crash
LOCKS_MAX = 1000  # of one principal
OWNER_MAX = 4096  # characters of XML


class Touch(Flag):
    """What an operation does to a place, and so which locks are in its way (RFC 4918 §7)."""

    CONTENT = auto()  # changes what is there, or its properties
    NAME = auto()  # adds the name to its folder, replaces it there, or takes it away
    NEW_NAME = auto()  # the same, but only where nothing has the name yet
    TREE = auto()  # changes or removes everything below


@dataclass(frozen=True, slots=True)
class Holder:
    """Who wants to write, and the lock tokens shown with the request; one that another took is of no use."""

    principal: str
    tokens: frozenset[str] = frozenset()

    def holds(self, lock: Lock) -> bool:
        return lock.principal == self.principal and lock.token in self.tokens


@dataclass(frozen=True, slots=True)
class Wish:
    """The lock that a client asks for; `seconds` None leaves the time to us."""

    exclusive: bool
    deep: bool
    owner: str | None = None
    seconds: int | None = None


class Locks:
    """All locks, for every door; synchronous, to be called in the storage's threads."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock

    def require(self, place: Place, touch: Touch, holder: Holder) -> None:
        """Make sure that no lock is in the way that `holder` does not hold; raises Locked with the lock roots.

        Of each resource that would be changed one lock has to be held: several are shared ones.
        """
        found = self._near(place, tree=Touch.TREE in touch)
        if not found:
            return
        in_the_way = {
            lock
            for group in _groups(place, touch, found)
            if not any(holder.holds(lock) for lock in group)
            for lock in group
        }
        if in_the_way:
            raise Locked("LOCKED", "this is locked, and no token of a lock of yours was shown", _roots(in_the_way))

    def on(self, place: Place, *, tree: bool = False) -> list[Lock]:
        """Return the locks on a place, with `tree` also those on anything below it."""
        found = self._near(place, tree=tree)
        return [lock for lock in found if lock.covers(place.path) or lock.path.is_within(place.path)]

    def take(self, place: Place, wish: Wish, holder: Holder) -> Lock:
        """Lock a place, whether or not anything is there; raises Locked with the roots of what conflicts, and Full."""
        now, path = int(self._clock()), place.path

        def work(tx: Connection) -> Lock:
            locks.remove_expired(tx, now)
            conflicting = {
                lock
                for lock in locks.near(tx, place.storage.name, path, now, tree=wish.deep)
                if lock.covers(path) or (wish.deep and lock.path.is_within(path))
                if wish.exclusive or lock.exclusive
            }
            if conflicting:
                raise Locked("LOCK_CONFLICT", "another lock does not go together with this one", _roots(conflicting))
            if locks.count_of(tx, holder.principal) >= LOCKS_MAX:
                raise Full("TOO_MANY_LOCKS", f"you hold {LOCKS_MAX} locks; release some")
            lock = Lock(
                token=f"urn:uuid:{uuid.uuid4()}",
                backend=place.storage.name,
                path=path,
                exclusive=wish.exclusive,
                deep=wish.deep,
                principal=holder.principal,
                owner=wish.owner,
                expires=now + _granted(wish.seconds),
            )
            locks.add(tx, lock)
            return lock

        return self._store.run_sync(work)

    def refresh(self, place: Place, seconds: int | None, holder: Holder) -> None:
        """Give the locks on a place that `holder` holds their time anew; raises Conflict when there are none."""
        now = int(self._clock())

        def work(tx: Connection) -> None:
            found = locks.near(tx, place.storage.name, place.path, now, tree=False)
            held = [lock.token for lock in found if lock.covers(place.path) and holder.holds(lock)]
            if not held:
                raise _mismatch()
            locks.set_expires(tx, held, now + _granted(seconds))

        self._store.run_sync(work)

    def release(self, place: Place, token: str, principal: str) -> None:
        """End the lock `token` that is on a place; raises Conflict when there is none, NotAllowed for another's."""
        now = int(self._clock())

        def work(tx: Connection) -> None:
            lock = locks.get(tx, token, now)
            if lock is None or lock.backend != place.storage.name or not lock.covers(place.path):
                raise _mismatch()
            if lock.principal != principal:
                raise NotAllowed("NOT_YOUR_LOCK", "only who has taken a lock can release it")
            locks.remove(tx, token)

        self._store.run_sync(work)

    def seconds_left(self, lock: Lock) -> int:
        return max(lock.expires - int(self._clock()), 0)

    def _near(self, place: Place, *, tree: bool) -> list[Lock]:
        now = int(self._clock())
        return self._store.read_sync(lambda tx: locks.near(tx, place.storage.name, place.path, now, tree=tree))


def _groups(place: Place, touch: Touch, found: list[Lock]) -> Iterator[list[Lock]]:
    """Return the locks on each resource that would be changed."""
    path = place.path
    changed: set[StoragePath] = {path} if Touch.CONTENT in touch else set()
    if Touch.TREE in touch:
        changed |= {lock.path for lock in found if lock.path.is_within(path)}
    for resource in changed:
        yield [lock for lock in found if lock.covers(resource)]
    folder = [] if path.is_root else [lock for lock in found if lock.covers(path.parent)]
    if folder and (Touch.NAME in touch or (Touch.NEW_NAME in touch and not _is_there(place))):
        yield folder


def _is_there(place: Place) -> bool:
    try:
        place.backend.stat(place.path)
    except NotFound:
        return False
    return True


def _granted(seconds: int | None) -> int:
    return TIME_DEFAULT if seconds is None else max(1, min(seconds, TIME_MAX))


def _roots(found: set[Lock]) -> tuple[bytes, ...]:
    return tuple(sorted({bytes(lock.path) for lock in found}))


def _mismatch() -> Conflict:
    return Conflict("NO_SUCH_LOCK", "there is no lock here with this token; it may have expired")
