"""Users and groups that are no more (draft-07, Recipient Removal): USER_REMOVED and GROUP_REMOVED, both ways.

With a user go all Shares from and to him, at both servers, and all that makes him a contact of others or others his. An
address that somebody had is given to nobody else here: other servers may know it, and take the next one for the first.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from sqlalchemy import Connection

from gateway import withdrawing
from gateway.access import Access
from gateway.errors import Invalid, NoSuch, NotAllowed, PeerFailed, Unproven
from gateway.ocm.address import OCMAddress
from gateway.ocm.errors import ProtocolError
from gateway.ocm.notifications import Notification, NotificationType, serialise_notification
from gateway.ocm.secret import Secret
from gateway.ocm.shares import ShareType
from gateway.ocm.states import (
    RECEIVED_ON_NOTIFICATION,
    SENT_ON_NOTIFICATION,
    SENT_OPEN,
    ReceivedEvent,
    ReceivedState,
    SentState,
)
from gateway.outbox import Outbox
from gateway.peers import Peers
from gateway.profiles import profile_of
from gateway.proof import Evidence, Peer
from gateway.receiving import Receiving
from gateway.remote import Remote
from gateway.sending import Sending
from gateway.store import (
    contacts,
    events,
    invites,
    key_pairs,
    locks,
    outbox,
    received_shares,
    sent_shares,
    share_requests,
    user_keys,
    users,
)
from gateway.store.engine import Store
from gateway.store.outbox import Message

ROLE = "departing"
# Which kind of party is removed, in the words of shareType.
PARTY = {NotificationType.USER_REMOVED: ShareType.USER, NotificationType.GROUP_REMOVED: ShareType.GROUP}
GESTURES = {ReceivedState.PENDING: ReceivedEvent.DECLINE, ReceivedState.ACCEPTED: ReceivedEvent.LEAVE}


class Departing:
    """The use cases of removal."""

    def __init__(
        self,
        store: Store,
        sending: Sending,
        receiving: Receiving,
        remote: Remote,
        access: Access,
        peers: Peers,
        outgoing: Outbox,
        *,
        server: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Tell, and be told, as `server` (host[:port])."""
        self._store = store
        self._sending = sending
        self._receiving = receiving
        self._remote = remote
        self._access = access
        self._peers = peers
        self._outbox = outgoing
        self._server = server
        self._clock = clock
        outgoing.register(ROLE, self._deliver, lambda _tx, _message: None)

    # --- ours ---------------------------------------------------------------------------------------------------

    async def remove_user(self, name: str, actor: str) -> None:
        """End everything from and to a user, for good, and tell every server that had a part in it; raises NoSuch."""
        now = int(self._clock())

        def work(tx: Connection) -> list[str]:
            if users.get(tx, name) is None:
                raise NoSuch("NO_SUCH_USER", f"there is no user {name}; `user list` shows who there is")
            sent = [share for share in sent_shares.of_owner(tx, name) if share.state in SENT_OPEN]
            received = [share for share in received_shares.of_user(tx, name) if share.state in GESTURES]
            for share in sent:
                withdrawing.revoke(tx, share, actor, now)
            for mine in received:
                self._receiving.give_back(tx, mine, GESTURES[ReceivedState(mine.state)], actor, now)
            share_requests.forget_open(tx, name)
            contacts.remove_of(tx, name)
            invites.remove_of(tx, name)
            user_keys.remove_of(tx, name)
            key_pairs.forget(tx, name)
            locks.remove_of(tx, users.principal(name))
            users.remove(tx, name, now)
            events.add(tx, at=now, actor=actor, action="user.remove", subject=name)
            for server in sorted({share.server for share in sent} | {mine.server for mine in received}):
                self.tell(tx, NotificationType.USER_REMOVED, name, server, now)
            return [mine.id for mine in received]

        for share_id in await self._store.run(work):
            self._remote.forget(share_id)
        self._access.forget()
        self._outbox.kick()

    def tell(self, tx: Connection, kind: NotificationType, identifier: str, server: str, now: int) -> None:
        """Queue the news for `server` that a party of ours is no more."""
        # One subject for each server: messages about one thing wait for each other.
        subject = f"{PARTY[kind].value}:{identifier}@{server}"
        outbox.add(tx, server=server, kind=kind.value, role=ROLE, share=subject, now=now)

    async def _deliver(self, message: Message) -> None:
        """Say who is no more; raises PeerFailed. To a peer that has no word for it, each Share has said it."""
        discovery, kind = await self._peers.discover(message.server), NotificationType(message.kind)
        if not discovery.speaks(1, 4) or kind not in profile_of(discovery).notifications:
            return
        is_old = not discovery.speaks(1, 5)
        identifier = message.share.removeprefix(f"{PARTY[kind].value}:").removesuffix(f"@{message.server}")
        party = identifier if is_old else f"{identifier}@{self._server}"
        notification = Notification(
            type=kind,
            sender_domain=self._server,
            user_id=party if kind is NotificationType.USER_REMOVED else None,
            group_id=party if kind is NotificationType.GROUP_REMOVED else None,
        )
        body = serialise_notification(notification, legacy=is_old)
        answer = await self._peers.post(message.server, "/notifications", body)
        if answer.status >= 300 and answer.status not in (404, 409):
            reason = f"{message.server} answered {answer.status}: {answer.reason(Secret(''))}"
            raise PeerFailed("REFUSED_BY_PEER", reason, answer.status)

    # --- theirs -------------------------------------------------------------------------------------------------

    async def notified(self, peer: Peer, notification: Notification) -> None:
        """Take USER_REMOVED or GROUP_REMOVED from the server of the party: what is between it and us ends.

        Whether there was anything is not told. Raises Unproven without a signature, NotAllowed for another server's
        party, Invalid.
        """
        peer.require(Evidence.LABELLED)
        kind, party = notification.type, self._party(peer, notification)
        now = int(self._clock())

        def work(tx: Connection) -> list[str]:
            for share in sent_shares.open_with(tx, peer.server, str(party), PARTY[kind]):
                self._sending.follow(tx, share, SENT_ON_NOTIFICATION[SentState(share.state), kind], now)
                events.add(tx, at=now, actor=peer.server, action=kind.value, subject=share.id)
            if kind is NotificationType.GROUP_REMOVED:
                return []  # a group owns nothing
            contacts.remove_everywhere(tx, str(party))  # whoever has the address next is somebody else
            share_requests.forget_open_with(tx, str(party))
            live = received_shares.live_from(tx, peer.server)
            theirs = [share for share in live if party in map(OCMAddress.normalise, (share.owner, share.sender))]
            for mine in theirs:
                self._receiving.end(tx, mine, RECEIVED_ON_NOTIFICATION[ReceivedState(mine.state), kind], now)
                events.add(tx, at=now, actor=peer.server, action=kind.value, subject=mine.id)
            return [mine.id for mine in theirs]

        for share_id in await self._store.run(work):
            self._remote.forget(share_id)
        self._access.forget()
        self._outbox.kick()  # those to whom it was shared on hear of it

    async def server_of(self, notification: Notification) -> str:
        """Return the server of the party, where the message names it with its server; raises Unproven."""
        try:
            return OCMAddress.normalise(notification.user_id or notification.group_id or "").server
        except ProtocolError as error:
            raise Unproven("SIGNATURE_REQUIRED", "neither senderDomain nor an OCM Address says who speaks") from error

    @staticmethod
    def _party(peer: Peer, notification: Notification) -> OCMAddress:
        """Return who is removed; up to API 1.4 the identifier stands alone."""
        named = notification.user_id or notification.group_id or ""
        try:
            party = OCMAddress.normalise(named if "@" in named else f"{named}@{peer.server}")
        except ProtocolError as error:
            raise Invalid("INVALID_ADDRESS", str(error), "notification") from error
        if party.server != peer.server:
            raise NotAllowed("WRONG_SERVER", f"{peer.server} removes somebody at {party.server}")
        return party
