"""A bounded pool of daemon threads: the one way from the event loop to a storage backend.

Each backend has its own, so a hung NAS starves nobody else. Threads are daemons because ThreadPoolExecutor
joins its threads at exit, and one read that never returns would keep the service from stopping.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from backends.errors import Unavailable

T = TypeVar("T")


class _Job:
    """One call on its way through the pool; `claim` decides once between a worker and a cancellation."""

    __slots__ = ("_claimed", "call", "future", "loop")

    def __init__(self, call: Callable[[], Any], loop: asyncio.AbstractEventLoop) -> None:
        self.call = call
        self.loop = loop
        self.future: asyncio.Future[Any] = loop.create_future()
        self._claimed = threading.Lock()

    def claim(self) -> bool:
        return self._claimed.acquire(blocking=False)


class Pool:
    """At most `threads` calls at a time and at most `waiting` more in line; the next one is refused."""

    def __init__(self, name: str, threads: int = 8, waiting: int = 256) -> None:
        self.name = name
        self._limit = threads
        self._capacity = threads + waiting
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        self._unfinished = 0  # running and in line
        self._closed = False
        self._awaited: set[_Job] = set()
        self._opened = asyncio.Event()  # calls need not wait for the one that is to come first
        self._opened.set()
        self._is_abandoned = False

    @property
    def is_abandoned(self) -> bool:
        """Tell whether nobody waits for calls any more, so that what they hold is left as after a crash."""
        return self._is_abandoned

    async def run_first(self, patience: float, function: Callable[..., T], /, *args: Any) -> T:
        """Do `run`; all other calls wait until this one has ended, but no longer than `patience` seconds."""
        self._opened.clear()
        timer = asyncio.get_running_loop().call_later(patience, self._opened.set)
        try:
            return await self._run(function, *args)
        finally:
            timer.cancel()
            self._opened.set()

    async def run(self, function: Callable[..., T], /, *args: Any, **named: Any) -> T:
        """Call `function` in a worker thread and return what it returns.

        Cancelling waits for a call that has begun, and only then re-raises: the thread cannot be stopped, and a
        descriptor closed under it could be reused for another file. A call that still waits in line is dropped;
        a Reader, Writer or Scan that a cancelled call has opened is closed.
        Raises Unavailable when the line is full or the pool is closed.
        """
        await self._opened.wait()
        return await self._run(function, *args, **named)

    async def _run(self, function: Callable[..., T], /, *args: Any, **named: Any) -> T:
        job = _Job(lambda: function(*args, **named), asyncio.get_running_loop())
        self._submit(job)
        self._awaited.add(job)
        try:
            return await asyncio.shield(job.future)
        except asyncio.CancelledError:
            if not job.claim():
                await _settled(job.future)
                self._discard(job.future)
            raise
        finally:
            self._awaited.discard(job)
            del job  # an error's traceback holds this frame, and the job the error: a ring again

    def _discard(self, future: asyncio.Future[Any]) -> None:
        """Close the Reader, Writer or Scan that a cancelled call has opened and nobody will receive."""
        if future.exception() is None and hasattr(future.result(), "__exit__"):
            opened = future.result()
            threading.Thread(target=opened.__exit__, args=(None, None, None), daemon=True).start()

    def close(self) -> None:
        """Refuse new calls and let idle threads end; a running call keeps only its own daemon thread."""
        with self._lock:
            self._closed = True
            for _ in range(self._threads):
                self._jobs.put(None)

    def abandon(self) -> None:
        """Let nobody wait for calls any more, on the event loop of a process that ends: they raise Unavailable.

        What a running call works on stays as it is, as after a crash: to close it now would overlap with the call.
        """
        self._is_abandoned = True
        self.close()
        for job in self._awaited:
            job.claim()  # one that is still in line is not begun
            _settle(job.future, None, Unavailable(f"{self.name}: no answer before the end", retry_after=10))

    def _submit(self, job: _Job) -> None:
        with self._lock:
            if self._closed:
                raise Unavailable(f"{self.name}: shutting down", retry_after=10)
            if self._unfinished >= self._capacity:
                raise Unavailable(f"{self.name}: the line of waiting operations is full", retry_after=5)
            self._unfinished += 1
            self._jobs.put(job)
            # Counted, not observed: a thread that looks idle may have taken a call already.
            if self._unfinished > self._threads and self._threads < self._limit:
                self._threads += 1
                threading.Thread(target=self._work, name=f"{self.name}-{self._threads}", daemon=True).start()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            if job.claim():
                _perform(job)
            del job  # with its result, which could be a megabyte, and would stay until the next call
            with self._lock:
                self._unfinished -= 1


def _perform(job: _Job) -> None:
    result: Any = None
    error: BaseException | None = None
    try:
        result = job.call()
    except StopIteration as raised:  # which no Future can carry
        error = RuntimeError("StopIteration out of a pooled call")
        error.__cause__ = raised
    except BaseException as raised:  # noqa: BLE001 -- handed to the caller as it is
        error = raised
    try:
        job.loop.call_soon_threadsafe(_settle, job.future, result, error)
    except RuntimeError:
        return  # the loop is closed: nobody waits any more
    finally:
        del error, job  # a traceback holds this frame: a ring that would keep open what the call has opened


def _settle(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)


async def _settled(future: asyncio.Future[Any]) -> None:
    """Wait until the call has ended, however often the waiter is cancelled meanwhile."""
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError:
            continue
