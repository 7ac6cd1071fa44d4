"""Shares with groups of ours, when the configuration or the users change: who is in the group has the Share.

A group is what the configuration says it is. A member who comes later gets what was shared with the group and still
lives, to accept or to decline like the others; one who is no longer in it has it no more, until he is again. Of a group
that the configuration no longer has, everything ends, and its senders are told (draft-07, Recipient Removal).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

import structlog
from sqlalchemy import Connection

from gateway.departing import GESTURES, Departing
from gateway.ocm.address import OCMAddress
from gateway.ocm.invites import address_of
from gateway.ocm.notifications import NotificationType
from gateway.ocm.states import ReceivedState
from gateway.receiving import Receiving, has_room
from gateway.store import events, received_shares
from gateway.store.contacts import Contact
from gateway.store.engine import Store
from gateway.store.received_shares import ReceivedShare
from gateway.store.sealing import Sealer

EVERY = 60.0  # seconds between looks: a user may be added, or enabled, at any time
ACTOR = "(gateway)"

log = structlog.get_logger()


class GroupShares:
    """Keeps the rows of group Shares and the members of the groups alike."""

    def __init__(
        self,
        store: Store,
        receiving: Receiving,
        departing: Departing,
        sealer: Sealer,
        groups: Mapping[str, Collection[str]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._receiving = receiving
        self._departing = departing
        self._sealer = sealer
        self._groups = groups
        self._clock = clock

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            try:
                await self.follow()
            except Exception:
                log.exception("group Shares were not brought up to date; tried again later")
            await asyncio.sleep(EVERY)

    async def follow(self) -> None:
        """Give each member what the group has, and take it from those who are none."""
        now = int(self._clock())
        # Almost always there is nothing to do, and to find that out holds up nobody who writes.
        if differing := await self._store.read(lambda tx: self._differing(tx, now)):
            self._receiving.begin(await self._store.run(lambda tx: self._follow(tx, differing, now)))

    def _differing(self, tx: Connection, now: int) -> list[ReceivedShare]:
        """Return one row of each live Share that others have than the members."""
        shares = {(row.server, row.provider_id, row.payload_digest): row for row in received_shares.live_of_groups(tx)}
        return [share for share in shares.values() if any(self._difference(tx, share, now))]

    def _difference(
        self, tx: Connection, share: ReceivedShare, now: int
    ) -> tuple[dict[str, Contact | None], list[ReceivedShare]]:
        """Return who is to get the Share, and the rows of those who are to lose it."""
        members = self._groups.get(_group(share), ())
        rows = received_shares.every_row(tx, share)
        live = [row for row in rows if row.state in GESTURES]
        have_it = {row.user for row in rows if row in live or (row.user in members and not _was_taken(tx, row))}
        newcomers = sorted(set(members) - have_it) if live and not share.expired(now) else []
        takers = self._receiving.takers(tx, newcomers, address_of(share.sender))
        with_room = {user: contact for user, contact in takers.items() if has_room(tx, user, share.server)}
        return with_room, [row for row in live if row.user not in members]

    def _follow(self, tx: Connection, shares: Collection[ReceivedShare], now: int) -> list[str]:
        """Bring `shares` up to date, and return what was accepted at once."""
        accepted: list[str] = []
        gone: set[tuple[str, str]] = set()
        for seen in shares:
            share = next((row for row in received_shares.every_row(tx, seen) if row.state in GESTURES), None)
            if share is None:
                continue  # it has ended meanwhile
            newcomers, losers = self._difference(tx, share, now)
            accepted += self._welcome(tx, share, newcomers, now)
            for row in losers:
                log.warning(
                    "a group Share has ended for who is no member of the group",
                    group=_group(share),
                    user=row.user,
                    share=row.id,
                )
                self._receiving.give_back(tx, row, GESTURES[ReceivedState(row.state)], ACTOR, now)
            if losers and _group(share) not in self._groups:
                gone.add((_group(share), share.server))
        for group, server in sorted(gone):
            log.warning("a group is no more; the server that shared with it is told", group=group, peer=server)
            self._departing.tell(tx, NotificationType.GROUP_REMOVED, group, server, now)
        return accepted

    def _welcome(
        self, tx: Connection, share: ReceivedShare, newcomers: Mapping[str, Contact | None], now: int
    ) -> list[str]:
        """Store the Share for members who do not have it, as it is now, as if it had just come."""
        sealed = received_shares.sealed_secret(tx, share.id) if newcomers else None
        secret = self._sealer.open(sealed, share.id) if sealed else None  # what is offered by SSH alone has none
        unseen = replace(share, state=ReceivedState.PENDING, mount=None, host_key=None, created=now, updated=now)
        given = [self._receiving.give(tx, unseen, secret, *newcomer) for newcomer in newcomers.items()]
        return [share_id for share_id in given if share_id is not None]


def _group(share: ReceivedShare) -> str:
    return OCMAddress.normalise(share.share_with).identifier


def _was_taken(tx: Connection, row: ReceivedShare) -> bool:
    """Tell whether it was taken from a user who was no member then; what he gave back himself he gets no more."""
    gestures = {f"share.{gesture.value}" for gesture in GESTURES.values()}
    return any(event.actor == ACTOR and event.action in gestures for event in events.about(tx, row.id))
