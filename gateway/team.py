"""What the worker processes of one gateway have in common: made before the first of them, and inherited by fork(2)."""

from __future__ import annotations

import contextlib
import mmap
import os

from gateway.stamp import Stamp


class Team:
    """Who serves, in memory that all share, and a bell to wake the one worker that leads.

    The bell is an eventfd(2): what was rung while nobody led is heard by whoever leads next, so no ring is lost and
    none is ever waited for.
    """

    def __init__(self, size: int = 1) -> None:
        self.size = size
        self.bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.parked = Stamp()  # another one when any worker has left an unfinished upload
        self._serving = mmap.mmap(-1, size)  # one byte each; anonymous memory stays shared across fork

    def ring(self) -> None:
        """Tell the leader that something is due; never waits."""
        with contextlib.suppress(BlockingIOError):  # rung 2^64 times and not heard: it will be
            os.eventfd_write(self.bell, 1)

    def hear(self) -> None:
        """Take what was rung, so that the bell is quiet until it is rung again."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self.bell)

    def mark(self, number: int, *, serving: bool) -> None:
        """Note whether the worker `number` (0 and up) serves."""
        self._serving[number] = serving

    def missing(self) -> list[int]:
        """Return the workers that do not serve now."""
        return [number for number in range(self.size) if not self._serving[number]]

    def close(self) -> None:
        os.close(self.bell)
        self._serving.close()
