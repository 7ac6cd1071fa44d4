"""Work that goes on until the gateway stops."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from typing import Any

import structlog

from gateway.listening import STOP_TIME

log = structlog.get_logger()


def background(stack: AsyncExitStack, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
    """Run `work` until the gateway stops; an error of ours in it is logged and ends that work alone."""
    task = asyncio.create_task(work, name=name)

    async def stop() -> None:
        task.cancel()
        await asyncio.wait([task], timeout=STOP_TIME)

    task.add_done_callback(_report)
    stack.push_async_callback(stop)
    return task


def _report(task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("a background task has failed", task=task.get_name(), exc_info=error)
