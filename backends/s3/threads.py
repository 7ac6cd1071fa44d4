"""Daemon threads that make requests beside the one that asks: parts of uploads, looks that need not wait in turn."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")
_Job = tuple["Future[Any]", Callable[[], Any]]


class Threads:
    """At most `limit` of them, made when needed; `pool.py` says why ThreadPoolExecutor will not do."""

    def __init__(self, name: str, limit: int) -> None:
        self._name = name
        self._limit = limit
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        self._unfinished = 0

    def submit(self, call: Callable[[], T]) -> Future[T]:
        """Let a thread make the call; what it returns or raises is the Future's."""
        future: Future[T] = Future()
        with self._lock:
            self._unfinished += 1
            self._jobs.put((future, call))
            if self._unfinished > self._threads and self._threads < self._limit:
                self._threads += 1
                threading.Thread(target=self._work, name=f"{self._name}-{self._threads}", daemon=True).start()
        return future

    def close(self) -> None:
        """Let the threads end when they have done what they were given."""
        with self._lock:
            for _ in range(self._threads):
                self._jobs.put(None)
            self._threads = 0

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            _perform(*job)
            del job  # with the part that it has sent
            with self._lock:
                self._unfinished -= 1


def _perform(future: Future[T], call: Callable[[], T]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = call()
    except BaseException as error:  # noqa: BLE001 -- handed to whoever waits, as it is
        future.set_exception(error)
    else:
        future.set_result(result)
