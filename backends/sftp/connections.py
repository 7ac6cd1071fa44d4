"""A few connections to one server: made when needed, shared when there are no more, replaced when they break."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import TypeVar

from backends.errors import PermissionDenied, StorageError, Unavailable
from backends.sftp.session import Session
from backends.sftp.statuses import Lost

PAUSE = 1.0  # seconds until a server that could not be reached is tried again; also kind to its log-in

T = TypeVar("T")


class Lease:
    """A session in use: the one that the fewest others use."""

    def __init__(self, session: Session, back: Callable[[Session], None]) -> None:
        self.session = session
        self._back: Callable[[Session], None] | None = back

    def release(self) -> None:
        """Give it back; may be called more than once."""
        back, self._back = self._back, None
        if back is not None:
            back(self.session)

    def __enter__(self) -> Session:
        return self.session

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class Connections:
    """At most `limit` sessions, from any thread."""

    def __init__(self, connect: Callable[[], Session], limit: int, patience: float) -> None:
        """`patience`: how many seconds to wait for connections that others are making."""
        self._connect = connect
        self._limit = limit
        self._patience = patience
        self._changed = threading.Condition()
        self._sessions: list[Session] = []
        self._opening = 0
        self._failure: StorageError | None = None
        self._not_before = 0.0
        self._closed = False

    def take(self) -> Lease:
        """Return a session for as long as the caller needs it; raises Unavailable, and what the log-in raises."""
        session = self._present()
        return Lease(session if session is not None else self._open(), self._give_back)

    def twice(self, work: Callable[[Session], T]) -> T:
        """Do what can be done again, and do it once more on another connection where the first is lost."""

        def with_session(lease: Lease) -> T:
            with lease as session:
                return work(session)

        return self.keeping(with_session)

    def keeping(self, make: Callable[[Lease], T]) -> T:
        """Return what `make` makes of a lease, which it keeps unless it raises; done again as by `twice`."""
        try:
            return self._once(make)
        except Lost:
            return self._once(make)

    def _once(self, make: Callable[[Lease], T]) -> T:
        lease = self.take()
        try:
            return make(lease)
        except BaseException:
            lease.release()
            raise

    @property
    def is_idle(self) -> bool:
        """Tell whether there is no connection."""
        with self._changed:
            return not self._sessions and not self._opening

    def close_idle(self, seconds: float) -> None:
        """End the sessions that nobody has used for so long."""
        limit = time.monotonic() - seconds
        with self._changed:
            idle = [session for session in self._sessions if not session.load and session.idle_since <= limit]
            self._sessions = [session for session in self._sessions if session not in idle]
        for session in idle:
            session.close()

    def close(self) -> None:
        """End all sessions, also those in use."""
        with self._changed:
            self._closed = True
            sessions, self._sessions = self._sessions, []
            self._changed.notify_all()
        for session in sessions:
            session.close()

    def _present(self) -> Session | None:
        """Return a session that is open already, or None when the caller has to open one; raises Unavailable."""
        deadline = time.monotonic() + self._patience
        with self._changed:
            while True:
                if self._closed:
                    raise Unavailable("the backend is closed")
                self._drop_dead()
                best = min(self._sessions, key=lambda session: session.load, default=None)
                may_open = time.monotonic() >= self._not_before
                if (best is None or best.load) and len(self._sessions) + self._opening < self._limit and may_open:
                    self._opening += 1
                    return None
                if best is not None:
                    best.load += 1
                    return best
                left = deadline - time.monotonic()
                if not self._opening or left <= 0:
                    if isinstance(self._failure, PermissionDenied):
                        raise PermissionDenied(str(self._failure))
                    raise Unavailable(str(self._failure or "no connection was free in time"), retry_after=5)
                self._changed.wait(left)

    def _drop_dead(self) -> None:
        """Close what has ended, also where that is the channel alone and the server keeps the connection."""
        dead = [session for session in self._sessions if not session.is_alive]
        self._sessions = [session for session in self._sessions if session not in dead]
        for session in dead:
            session.close()

    def _open(self) -> Session:
        session: Session | None = None
        failure: StorageError | None = None
        try:
            session = self._connect()
        except StorageError as error:
            failure = error
        finally:
            self._opened(session, failure)
        if session is not None:
            return session
        with self._changed:  # where one more could not be had, those that there are will do
            best = min(self._sessions, key=lambda one: one.load, default=None)
            if best is not None and best.is_alive:
                best.load += 1
                return best
        assert failure is not None
        raise failure

    def _opened(self, session: Session | None, failure: StorageError | None) -> None:
        with self._changed:
            self._opening -= 1
            self._failure = failure
            self._not_before = 0.0 if failure is None else time.monotonic() + PAUSE
            if session is not None:
                session.load += 1
                if self._closed:
                    session.close()
                else:
                    self._sessions.append(session)
            self._changed.notify_all()

    def _give_back(self, session: Session) -> None:
        with self._changed:
            session.load -= 1
            session.idle_since = time.monotonic()
