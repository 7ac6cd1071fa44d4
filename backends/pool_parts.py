"""Threads that many share, of which each holds only a few, so that one that hangs leaves the rest to others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from backends.errors import Unavailable
from backends.pool import Pool

T = TypeVar("T")


class Part(Pool):
    """The turns of one of them.

    It holds nothing while nobody uses it, so none has to be closed to make room, perhaps in the middle of a transfer.
    """

    def __init__(self, name: str, shared: Pool, threads: int, waiting: int) -> None:
        super().__init__(name, threads=threads, waiting=waiting)
        self._shared = shared
        self._most = threads + waiting
        self._turns = asyncio.Semaphore(threads)
        self._calls = 0  # running and in line

    @property
    def is_abandoned(self) -> bool:
        return self._shared.is_abandoned

    async def run(self, function: Callable[..., T], /, *args: Any, **named: Any) -> T:
        """Call `function` in one of the shared threads, as `Pool.run` does."""
        if self._calls >= self._most:
            raise Unavailable(f"{self.name}: the line of waiting operations is full", retry_after=5)
        self._calls += 1
        try:
            async with self._turns:
                return await self._shared.run(function, *args, **named)
        finally:
            self._calls -= 1


class Parts:
    """The shared threads, and the Part of each who uses them now."""

    def __init__(self, name: str, *, threads: int, each: int, waiting: int) -> None:
        """Of `threads` altogether each has `each`, and `waiting` calls in line for those."""
        self._name = name
        self._threads = Pool(name, threads=threads)
        self._each = each
        self._waiting = waiting
        self._parts: WeakValueDictionary[str, Part] = WeakValueDictionary()

    def __iter__(self) -> Iterator[str]:
        """Yield who uses them now, or might in a moment."""
        return iter(self._parts)

    def of(self, name: str) -> Part:
        """Return the part of one of them."""
        part = self._parts.get(name)
        if part is None:
            part = Part(f"{self._name}-{name}", self._threads, self._each, self._waiting)
            self._parts[name] = part
        return part

    def abandon(self) -> None:
        """Do what `Pool.abandon` does."""
        self._threads.abandon()
