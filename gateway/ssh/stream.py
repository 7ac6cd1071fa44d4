"""The bytes of one channel, both ways, for what is said on it: bounded memory, and nobody waits for a slow client."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

from gateway.ssh.budget import Budget
from gateway.ssh.channel import PACKET_MAX
from gateway.ssh.refusing import SMALL

TOGETHER = 1 << 20  # bytes that are handed out at once: a MiB of WRITEs, as clients send them


class Channel(Protocol):
    """What a Stream needs of asyncssh's channel."""

    def write(self, data: bytes | memoryview) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...


class Lost(Exception):
    """The client is gone, or has to go."""


class Stream:
    """What has arrived and was not taken yet, and the way back."""

    def __init__(self, channel: Channel, budget: Budget, connection_has_room: asyncio.Event) -> None:
        """Let what the client has sent wait as long as there is `budget`, which other channels of the connection share.

        What is sent waits for the connection too.
        """
        self._channel = channel
        self._connection_has_room = connection_has_room
        self._budget = budget
        self._arrived: deque[bytes] = deque()
        self._is_paused = False
        self._is_ended = False
        self._is_lost = False
        self._is_over = False  # nobody takes anything any more
        self._has_news = asyncio.Event()
        self._has_room = asyncio.Event()
        self._has_room.set()

    # What asyncssh tells

    def feed(self, data: bytes) -> None:
        if self._is_over:
            return
        if self._arrived and len(self._arrived[-1]) < SMALL:
            self._arrived[-1] += data
        else:
            self._arrived.append(data)
        self._budget.add(len(data))
        if self._budget.is_spent and not self._is_paused:
            self._is_paused = True
            self._channel.pause_reading()
        self._has_news.set()

    def feed_eof(self) -> None:
        self._is_ended = True
        self._has_news.set()

    def lose(self) -> None:
        """End everything: reading, and writing, which raises Lost from now on."""
        self._is_ended = self._is_lost = True
        self._has_news.set()
        self._has_room.set()

    def pause(self) -> None:
        self._has_room.clear()

    def resume(self) -> None:
        self._has_room.set()

    @property
    def is_lost(self) -> bool:
        """Tell whether the client is gone."""
        return self._is_lost

    @property
    def is_waiting(self) -> bool:
        """Tell whether whoever serves the channel waits for the client."""
        events = (self._has_news, self._has_room, self._connection_has_room)
        return not all(event.is_set() for event in events)

    # What a protocol asks

    async def read(self) -> list[bytes]:
        """Return what has arrived, at least something, and about TOGETHER at most; nothing at the end."""
        if not self._arrived and not self._is_ended:
            self._has_news.clear()
            await self._has_news.wait()
        return self.read_now()

    def read_now(self) -> list[bytes]:
        """Return what has arrived by now, about TOGETHER at most.

        A channel that was stopped goes on when nothing of it is left here: then other channels may have all of the
        budget, and this one has its turns still.
        """
        taken, size = [], 0
        while self._arrived and size < TOGETHER:
            taken.append(self._arrived.popleft())
            size += len(taken[-1])
        self._budget.give(size)
        if not self._arrived:
            self._go_on()
        return taken

    def end(self) -> None:
        """Drop what has arrived, and whatever comes still: nobody takes it any more."""
        self._is_over = True
        self._budget.give(sum(map(len, self._arrived)))
        self._arrived.clear()
        self._go_on()

    def _go_on(self) -> None:
        if self._is_paused and not self._is_lost:
            self._is_paused = False
            self._channel.resume_reading()

    async def write(self, *parts: bytes | memoryview) -> None:
        """Send `parts`, which must not change, after what was sent before has mostly gone; raises Lost."""
        for has_room in (self._has_room, self._connection_has_room):
            if not has_room.is_set():
                await has_room.wait()
        if self._is_lost:
            raise Lost("the client is gone")
        try:
            for part in parts:
                self._channel.write(part)
        except OSError as error:  # asyncssh: the channel is closed
            raise Lost(str(error)) from error

    async def write_long(self, head: bytes, data: memoryview) -> None:
        """Send `head` and `data` behind it, in as few packets as can be, and without copying `data`; raises Lost."""
        beside = PACKET_MAX - len(head)
        await self.write(b"".join((head, data[:beside])), data[beside:])
