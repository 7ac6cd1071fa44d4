"""Threads that many share: one that hangs holds its own part, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator

import pytest

from backends.errors import Unavailable
from backends.pool_parts import Parts

TIME = 20.0  # seconds, at most


@pytest.fixture
async def parts() -> AsyncIterator[Parts]:
    parts = Parts("test", threads=3, each=2, waiting=1)
    yield parts
    parts.abandon()


async def test_one_that_hangs_holds_its_own_part(parts: Parts) -> None:
    hanging, other, release = parts.of("hanging"), parts.of("other"), threading.Event()
    tasks = [asyncio.create_task(hanging.run(release.wait, TIME)) for _ in range(3)]
    await asyncio.sleep(0)  # each has its turn or stands in line
    with pytest.raises(Unavailable, match="test-hanging: the line of waiting operations is full"):
        await hanging.run(lambda: None)
    assert await asyncio.wait_for(other.run(lambda: "answered"), TIME) == "answered"
    tasks.pop().cancel()
    release.set()
    assert await asyncio.gather(*tasks) == [True, True]
    assert await hanging.run(lambda: "free") == "free"


async def test_a_part_lasts_as_long_as_somebody_has_it(parts: Parts) -> None:
    part = parts.of("one")
    assert parts.of("one") is part
    del part
    gc.collect()
    assert list(parts) == []


async def test_a_part_is_abandoned_with_the_threads_that_it_shares(parts: Parts) -> None:
    """Who has one knows then that what a call holds is not to be closed beside it."""
    part, release = parts.of("one"), threading.Event()
    running = asyncio.create_task(part.run(release.wait, TIME))
    await asyncio.sleep(0)
    assert not part.is_abandoned
    parts.abandon()
    with pytest.raises(Unavailable, match="no answer before the end"):
        await running
    assert part.is_abandoned
    release.set()
