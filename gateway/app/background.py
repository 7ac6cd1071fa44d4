"""Work that goes on until the gateway stops."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from typing import Any

import structlog

END_TIME = 3.0  # seconds that all of it has to end; what hangs in storage is left then, as by a crash

log = structlog.get_logger()


class Background:
    """Several pieces of work, which end together when the stack closes."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_over = False
        stack.push_async_callback(self._stop)

    def begin(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run `work`; an error of ours in it is logged and ends that work alone."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def _stop(self) -> None:
        self._is_over = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=END_TIME)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and not self._is_over:
            log.error("a background task has failed", task=task.get_name(), exc_info=error)
