"""One run of the same work for all who want it at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class SingleFlight(Generic[T]):
    """Work that runs, by key; whoever asks meanwhile gets the same result."""

    def __init__(self) -> None:
        self._running: dict[Hashable, asyncio.Task[T]] = {}

    async def run(self, key: Hashable, work: Callable[[], Awaitable[T]]) -> T:
        """Return the result of `work`, started now or by somebody before; raises what it raises.

        A caller that is cancelled leaves the work running for the others.
        """
        task = self._running.get(key)
        if task is None:
            task = asyncio.ensure_future(_awaited(work))
            self._running[key] = task
            task.add_done_callback(lambda _: self._running.pop(key, None))
            task.add_done_callback(_retrieve)
        return await asyncio.shield(task)


async def _awaited(work: Callable[[], Awaitable[T]]) -> T:
    return await work()


def _retrieve(task: asyncio.Task[T]) -> None:
    """Take an error that nobody waits for any more, so that it is not reported as lost."""
    if not task.cancelled():
        task.exception()
