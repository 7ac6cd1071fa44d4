"""Shares whose time is over: access refuses them from that second on, and here they end in the state too.

Nothing depends on how soon this runs but how long secrets that open nothing are kept. A received Share ends at once.
A sent one can still be prolonged by its owner, so its secret is kept for GRACE.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog
from sqlalchemy import Connection

from gateway.ocm.states import RECEIVED_ON_EVENT, SENT_ON_EVENT, ReceivedEvent, ReceivedState, SentEvent, SentState
from gateway.receiving import Receiving
from gateway.sending import Sending
from gateway.store import events, received_shares, sent_shares
from gateway.store.engine import Store

EVERY = 60.0  # seconds between looks
GRACE = 7 * 86400  # seconds after its expiration in which a sent Share can be prolonged

log = structlog.get_logger()


class Expiring:
    """Ends what has expired, again and again."""

    def __init__(
        self, store: Store, sending: Sending, receiving: Receiving, clock: Callable[[], float] = time.time
    ) -> None:
        self._store = store
        self._sending = sending
        self._receiving = receiving
        self._clock = clock

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            try:
                await self.end_what_is_over()
            except Exception:
                log.exception("expired Shares were not ended; tried again later")
            await asyncio.sleep(EVERY)

    async def end_what_is_over(self) -> int:
        """End every Share whose time is over and return how many that were."""
        now = int(self._clock())
        return await self._store.run(lambda tx: self._end(tx, now))

    def _end(self, tx: Connection, now: int) -> int:
        sent, received = sent_shares.over_since(tx, now - GRACE), received_shares.over(tx, now)
        for share in sent:
            self._sending.follow(tx, share, SENT_ON_EVENT[SentState(share.state), SentEvent.EXPIRE], now)
            _note(tx, share.id, now)
        for mine in received:
            self._receiving.end(tx, mine, RECEIVED_ON_EVENT[ReceivedState(mine.state), ReceivedEvent.EXPIRE], now)
            _note(tx, mine.id, now)
        return len(sent) + len(received)


def _note(tx: Connection, share_id: str, now: int) -> None:
    events.add(tx, at=now, actor="(gateway)", action="share.expire", subject=share_id)
