"""One at a time for each key, over all processes of a gateway.

Between processes the turn is a lock on one byte of a file (fcntl(2), advisory record locks), which the kernel drops
with its process, however that ends. Two keys may share a byte: then one waits for the other, and nothing is wrong.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from weakref import WeakValueDictionary

AGAIN = 0.02  # seconds until a turn that another process has is asked for again


class Turns:
    """The turns that are kept in one file; open it after a fork, and once per process: record locks are a process's."""

    def __init__(self, path: Path) -> None:
        """Raises OSError."""
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._here: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()  # while one is taken

    @asynccontextmanager
    async def of(self, key: str) -> AsyncIterator[None]:
        """Wait for the turn of `key`, and have it while the block runs."""
        here = self._here.setdefault(key, asyncio.Lock())
        async with here:
            offset = int.from_bytes(hashlib.sha256(key.encode()).digest()[:7])
            while not self._taken(offset):  # noqa: ASYNC110 -- no event tells of a lock
                await asyncio.sleep(AGAIN)
            try:
                yield
            finally:
                fcntl.lockf(self._file, fcntl.LOCK_UN, 1, offset)

    def close(self) -> None:
        os.close(self._file)

    def _taken(self, offset: int) -> bool:
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, offset)
        except (BlockingIOError, PermissionError):  # EAGAIN or EACCES, as fcntl(2) leaves open
            return False
        return True
