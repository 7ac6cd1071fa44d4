"""How much of the event loop the sessions have: many of them at once leave room for each other and for other doors.

Encrypting is done on the loop. What every channel could send at once would keep it for seconds if many have something
to send, and so would many key exchanges.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

# Bytes that are encrypted before anything else has its turn: less than a millisecond. One channel may have all of it:
# half of that wakes its client twice as often, by which a single one had two thirds of the speed.
AT_ONCE = 256 * 1024


class Sends(Protocol):
    """What has something to send."""

    def send_some(self, most: int) -> int:
        """Send up to about `most` bytes now, and return how many; fewer when there is nothing more to send now."""


class Pacer:
    """Lets channels send in turn, some bytes in each round of the loop."""

    def __init__(self) -> None:
        self._waiting: deque[Sends] = deque()
        self._is_running = False

    def ask(self, channel: Sends) -> None:
        """Give `channel` a turn soon."""
        if channel not in self._waiting:
            self._waiting.append(channel)
        if not self._is_running:
            self._run()

    def _run(self) -> None:
        self._is_running, left = True, AT_ONCE
        try:
            while self._waiting and left > 0:
                channel = self._waiting.popleft()
                left -= channel.send_some(left)
                if left <= 0 and channel not in self._waiting:  # it may have more
                    self._waiting.append(channel)
        finally:
            self._is_running = bool(self._waiting)
            if self._is_running:
                asyncio.get_running_loop().call_soon(self._run)


class Entrance:
    """What clients send before they have logged in, taken one after the other: a key exchange takes milliseconds.

    Nobody holds a place in this line while we wait for him.
    """

    def __init__(self) -> None:
        self._line: deque[Callable[[], None]] = deque()

    def wait(self, take: Callable[[], None]) -> None:
        """Have `take` called in its turn, one in each round of the loop."""
        self._line.append(take)
        if len(self._line) == 1:
            asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        try:
            self._line[0]()
        finally:
            self._line.popleft()
            if self._line:
                asyncio.get_running_loop().call_soon(self._next)
