"""One run of the same work for all threads that want it at the same time: they share what becomes of it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from threading import Lock
from typing import Generic, TypeVar

T = TypeVar("T")


class SharedCall(Generic[T]):
    """Work that one thread does; whoever comes meanwhile waits until that has ended, and never for a second run."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._running: Future[T] | None = None

    def result(self, known: Callable[[], T | None], work: Callable[[], T]) -> T:
        """Return what is `known`, else what `work` returns, here or in another thread; raises what either raises.

        `known` is asked under a lock and must not wait; what is known has to be so before `work` ends.
        """
        with self._lock:
            if (found := known()) is not None:
                return found
            running, begins = self._running or Future(), self._running is None
            self._running = running
        if begins:
            self._run(running, work)
        return running.result()

    def _run(self, running: Future[T], work: Callable[[], T]) -> None:
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 -- raised again, in each thread that waits
            self._end()
            running.set_exception(error)
        else:
            self._end()
            running.set_result(result)

    def _end(self) -> None:
        with self._lock:
            self._running = None
