"""Which process of a gateway does what only one may do: the one that holds the lock, until it ends.

The kernel gives an flock(2) back with its process, however that ends, so there is no leader that is gone, and never
two: one that hangs leads until its supervisor has killed it.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

AGAIN = 0.25  # seconds between two tries; another leads within about a second


@asynccontextmanager
async def leading(path: Path) -> AsyncIterator[None]:
    """Wait until this process leads, and lead while the block runs; raises OSError when `path` cannot be opened."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while not _held(descriptor):  # noqa: ASYNC110 -- no event tells of a lock
            await asyncio.sleep(AGAIN)
        yield
    finally:
        os.close(descriptor)


def _held(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
