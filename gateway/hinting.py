"""News about a received Share that nobody has proved: a reason to look at the Share, and never more.

oCIS signs nothing and sends no secret when a Share is revoked or its permissions change (peers.md §5). So its word
alone ends nothing and changes nothing: the Share's own root is asked, with the credential that we hold. Where that says
401 or 404, the Share has ended; what it says of permissions is believed as at every look (`remote`). No other product
is heard that way (`hints` in `profiles`), nor a server that has ever signed, or whose unsigned messages the operator
does not take (`legacy`). The answer is the same whether there is such a Share or not, and a look is made at most once
in a while: a hint costs nobody anything. One that comes too soon makes us look later, for it may be the last that is
said of the Share.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable

import structlog
from sqlalchemy import Connection

from gateway.errors import Refusal
from gateway.legacy import Legacy, Way
from gateway.limits import Allowance
from gateway.ocm.errors import ProtocolError
from gateway.ocm.notifications import Notification, NotificationType
from gateway.ocm.signatures import find_signature
from gateway.ocm.states import RECEIVED_LIVE, RECEIVED_ON_EVENT, ReceivedEvent, ReceivedState
from gateway.peers import Peers
from gateway.profiles import profile_of
from gateway.receiving import Receiving
from gateway.remote import Remote
from gateway.store import events, peers, received_shares
from gateway.store.engine import Store
from gateway.store.received_shares import ReceivedShare

HINTS = frozenset({NotificationType.SHARE_UNSHARED, NotificationType.SHARE_CHANGE_PERMISSION})
EVERY = 30.0  # seconds between two looks at one Share because of hints
AT_ONCE = 8  # looks because of hints, at the same time
WAITING = 1000  # Shares that wait for their look
CLOSE_TIME = 5.0  # seconds

log = structlog.get_logger()


def is_hint(headers: Iterable[tuple[str, str]], notification: Notification) -> bool:
    """Tell whether a notification is of oCIS's form: neither signed nor with a secret, but with a `grantee`."""
    if notification.type not in HINTS or notification.grantee is None or notification.shared_secret is not None:
        return False
    try:
        return find_signature(tuple(headers), accept_labelled=True) is None
    except ProtocolError:
        return False


class Hints:
    """Looks at Shares of which somebody says something."""

    def __init__(
        self,
        store: Store,
        receiving: Receiving,
        remote: Remote,
        known: Peers,
        legacy: Legacy,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._peers = known
        self._legacy = legacy
        self._receiving = receiving
        self._remote = remote
        self._clock = clock
        self._allowed = Allowance(1, 1 / EVERY)
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._waiting: set[str] = set()
        self._looks: set[asyncio.Task[None]] = set()

    async def take(self, notification: Notification) -> None:
        """Look, in the background, at the one live Share that is meant; one of a server that signs is none."""

        def find(tx: Connection) -> ReceivedShare | None:
            share = received_shares.only_live(tx, notification.provider_id or "")
            if share is None or peers.get(tx, share.server).signs:
                return None
            if notification.sender_domain not in (None, share.server):
                return None
            rows = received_shares.every_row(tx, share)
            return next((row for row in rows if row.state == ReceivedState.ACCEPTED), share)

        share = await self._store.read(find)
        if share is None or share.id in self._waiting or len(self._waiting) >= WAITING:
            log.info("a hint about a Share was passed over", kind=notification.type.value)
            return
        self._waiting.add(share.id)
        task = asyncio.create_task(self._look(share), name=f"hint {share.id}")
        self._looks.add(task)
        task.add_done_callback(self._looks.discard)

    async def close(self) -> None:
        """End what runs."""
        for task in self._looks:
            task.cancel()
        if self._looks:
            await asyncio.wait(self._looks, timeout=CLOSE_TIME)

    async def _look(self, share: ReceivedShare) -> None:
        await asyncio.sleep(self._allowed.wait(share.id))  # no other look at this Share waits beside
        self._allowed.take(share.id)
        async with self._turns:
            self._waiting.discard(share.id)  # what is said from here on makes us look again
            await self._look_now(share)

    async def _look_now(self, share: ReceivedShare) -> None:
        try:
            if not profile_of(await self._peers.discover(share.server)).hints:
                log.info("a hint about a Share was passed over: its server has other ways to say it", share=share.id)
                return
            await self._legacy.use(Way.UNSIGNED, share.server)
            if await self._remote.is_gone(share):
                await self._end(share)
        except Refusal as error:
            log.info("a Share was not looked at", share=share.id, peer=share.server, reason=str(error))
        except Exception:
            log.exception("a Share was not looked at, though somebody said something of it", share=share.id)

    async def _end(self, share: ReceivedShare) -> None:
        now = int(self._clock())

        def work(tx: Connection) -> list[str]:
            ended: list[str] = []
            current = received_shares.get(tx, share.id)
            if current is None or current.state not in RECEIVED_LIVE:
                return ended  # by its user, while it was looked at: that says nothing of a group's other members
            for row in received_shares.every_row(tx, share):
                state = RECEIVED_ON_EVENT.get((ReceivedState(row.state), ReceivedEvent.VANISH))
                if state is not None and state != row.state:
                    self._receiving.end(tx, row, state, now)
                    events.add(tx, at=now, actor=row.server, action="share.vanish", subject=row.id)
                    ended.append(row.id)
            return ended

        for share_id in await self._store.run(work):
            self._remote.forget(share_id)
            log.info("a Share has ended: its server does not know it any more", share=share_id, peer=share.server)
