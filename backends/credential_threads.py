"""Threads that act with the credentials of users, one call at a time, and with the service's own in between.

They are apart from the pools: a thread of a pool hands over a call and waits, so whatever else runs in a pool (state,
another backend) never runs with a user's credentials, and no thread of a pool is lost when one cannot be given back.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from backends.credentials import Credentials
from backends.errors import Unavailable

T = TypeVar("T")

log = logging.getLogger(__name__)

_IDLE = 16  # threads that are kept; there are never more than callers, who are bounded by their pools


class _Job:
    """One call, with whose credentials, and how it ended."""

    __slots__ = ("call", "credentials", "done", "error", "result")

    def __init__(self, credentials: Credentials, call: Callable[[], Any]) -> None:
        self.credentials = credentials
        self.call = call
        self.result: Any = None
        self.error: BaseException | None = None
        self.done = threading.Lock()
        self.done.acquire()


class CredentialThreads:
    """Runs calls with given credentials; to be made, and called, by threads that have the service's own."""

    def __init__(self, name: str, give_back: Callable[[Credentials], None] = Credentials.apply) -> None:
        """Return to the credentials of the calling thread after each call, by `give_back`."""
        self._name = name
        self._own = Credentials.of_thread()
        self._give_back = give_back
        self._idle: list[queue.SimpleQueue[_Job | None]] = []
        self._closed = False

    @property
    def own(self) -> Credentials:
        """The service's."""
        return self._own

    def run(self, credentials: Credentials, function: Callable[..., T], /, *args: Any, **named: Any) -> T:
        """Call `function` with `credentials` and return what it returns; raises Unavailable where they are not given.

        A thread that cannot have the service's credentials back ends.
        """
        job = _Job(credentials, lambda: function(*args, **named))
        self._worker().put(job)
        job.done.acquire()
        error, job.error = job.error, None
        if error is None:
            result: T = job.result
            return result
        try:
            raise error
        finally:
            del error, job  # its traceback holds this frame: a ring that would keep open what the call has opened

    def close(self) -> None:
        """Let the idle threads end; one at work ends after it."""
        self._closed = True
        while self._idle:
            self._idle.pop().put(None)

    def _worker(self) -> queue.SimpleQueue[_Job | None]:
        """Return the line to a thread that waits, a new one if none does; it inherits the caller's credentials."""
        try:
            return self._idle.pop()
        except IndexError:
            line: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
            threading.Thread(target=self._work, args=(line,), name=f"{self._name}-as-user", daemon=True).start()
            return line

    def _work(self, line: queue.SimpleQueue[_Job | None]) -> None:
        fit = Credentials.of_thread() == self._own
        while (job := line.get()) is not None:
            fit = self._perform(job, fit)
            done = job.done
            del job  # with its result, which would stay until the next call
            last = not fit or self._closed or len(self._idle) >= _IDLE
            if not last:
                self._idle.append(line)
            done.release()
            if last:
                return

    def _perform(self, job: _Job, fit: bool) -> bool:
        """Do the job in a thread that is `fit` for it, and tell whether it still is."""
        try:
            if not fit:
                raise Unavailable(f"{self._name}: a thread was begun without the credentials of the service")
            _take(self._name, job.credentials)
            job.result = job.call()
        except BaseException as error:  # noqa: BLE001 -- handed to the caller as it is
            job.error = error
        fit = self._is_given_back()
        if not fit:
            log.error("%s: a thread is not the service's again after uid %d, and ends", self._name, job.credentials.uid)
        return fit

    def _is_given_back(self) -> bool:
        try:
            self._give_back(self._own)
            return Credentials.of_thread() == self._own
        except (OSError, Unavailable):
            return False


def _take(name: str, credentials: Credentials) -> None:
    try:
        credentials.take()
    except OSError as error:
        raise Unavailable(f"{name}: no thread can act as uid {credentials.uid}: {error.strerror}") from error
