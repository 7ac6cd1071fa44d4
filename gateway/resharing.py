"""Resharing (draft-07, Resharing): who has received a Share with the `share` permission asks its owner to share on.

The new Share goes straight from the owner's server to the third party; a receiver never shares on by itself. It has no
right that the first has not, ends when that ends, and follows when that is narrowed (`sending`). Whether it is made at
once or waits for the owner is said by each Share: `reshare` is `allow` or `ask`.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import replace

from sqlalchemy import Connection

from gateway.errors import Busy, Conflict, Invalid, NotAllowed, PeerFailed
from gateway.ocm.address import OCMAddress
from gateway.ocm.errors import ProtocolError
from gateway.ocm.notifications import Notification, NotificationType, serialise_notification
from gateway.ocm.secret import Secret
from gateway.ocm.shares import Permission, ShareType
from gateway.ocm.states import SENT_ON_NOTIFICATION, ReceivedState, SentState
from gateway.outbox import Outbox
from gateway.peers import Peers
from gateway.profiles import profile_of
from gateway.proof import Peer
from gateway.receiving import Receiving
from gateway.requesting import FIRST_ATTEMPT, Requesting, RequestView
from gateway.sending import ALLOW, Sending
from gateway.store import events, outbox, received_shares, sent_shares, share_requests, users
from gateway.store.engine import Store
from gateway.store.outbox import Message
from gateway.store.sealing import Sealer
from gateway.store.sent_shares import SentShare
from gateway.store.share_requests import INCOMING, OUTGOING, RequestRecord
from gateway.tree import Tree
from gateway.trust import Trust

ROLE = "resharing"
KIND = NotificationType.REQUEST_RESHARE
RESHARES = 100  # open ones of one Share, with those that were made of them


class Resharing:
    """The use cases of both sides of a reshare."""

    def __init__(
        self,
        store: Store,
        tree: Tree,
        sending: Sending,
        receiving: Receiving,
        requesting: Requesting,
        trust: Trust,
        peers: Peers,
        outgoing: Outbox,
        sealer: Sealer,
        *,
        server: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Ask, and be asked, as `server` (host[:port])."""
        self._store = store
        self._tree = tree
        self._sending = sending
        self._receiving = receiving
        self._requesting = requesting
        self._trust = trust
        self._peers = peers
        self._outbox = outgoing
        self._sealer = sealer
        self._server = server
        self._clock = clock
        outgoing.register(ROLE, self._deliver, requesting.delivered)
        requesting.reshare_by(self._grant)

    # --- at the owner's server ----------------------------------------------------------------------------------

    async def notified(self, peer: Peer, notification: Notification) -> None:
        """Take REQUEST_RESHARE from the server that the Share was sent to.

        The same again changes nothing. Raises NoSuch for a Share that this peer has no part in, Unproven, NotAllowed
        without the `share` permission, Invalid, Conflict, Busy when there are too many.
        """
        third = OCMAddress.normalise(notification.share_with or "")
        if third.server == self._server:
            raise Invalid("SAME_SERVER", f"{third.server} is the owner's own server", "notification.file.shareWith")
        await self._store.read(lambda tx: self._permitted(tx, peer, notification))
        await self._trust.require(third.server)

        def work(tx: Connection) -> None:
            share = self._permitted(tx, peer, notification)
            wanted = notification.permissions or share.permissions - {Permission.SHARE}
            if str(third) in _holders(tx, share):
                return
            if share.reshare == ALLOW:
                self._make(tx, share, third, wanted, peer.server)
            else:
                self._requesting.admit(tx, self._incoming(peer, share, third, wanted))

        await self._store.run(work)
        self._outbox.kick()

    async def server_of(self, notification: Notification) -> str:
        """Return the server that the Share was sent to, for messages that do not say who speaks."""
        return await self._sending.server_of(notification)

    def _permitted(self, tx: Connection, peer: Peer, notification: Notification) -> SentShare:
        """Return the Share, if its receiver may have it shared on."""
        share = self._sending.spoken_of(tx, peer, notification)
        if (SentState(share.state), KIND) not in SENT_ON_NOTIFICATION or share.expired(self._clock()):
            raise Conflict("WRONG_STATE", f"Share {share.id} is {share.state}, or over: it cannot be shared on")
        if Permission.SHARE not in share.permissions:
            raise NotAllowed("RESHARE_NOT_PERMITTED", f"Share {share.id} lacks the permission `share`")
        return share

    def _make(
        self, tx: Connection, share: SentShare, third: OCMAddress, wanted: frozenset[Permission], actor: str
    ) -> tuple[str, int]:
        """Share on, as far as Share and owner's rights go; return the new Share's id and the message about it.

        Raises NotAllowed, Busy.
        """
        if not users.is_enabled(tx, share.owner):
            raise NotAllowed("RESHARE_NOT_PERMITTED", f"{share.owner}, who owns Share {share.id}, is disabled")
        rights = self._tree.rights_at(share.owner, share.mount, share.backend, share.path)
        granted = wanted & share.permissions & (rights | {Permission.SHARE})
        if Permission.READ not in granted:
            raise NotAllowed("RESHARE_NOT_PERMITTED", f"Share {share.id} gives no right to read that could be given on")
        if len(sent_shares.family_of(tx, share)) >= RESHARES:
            sentence = f"what Share {share.id} gives has been shared on {RESHARES} times"
            raise Busy("TOO_MANY_RESHARES", sentence, 3600)
        share_id, now = secrets.token_hex(16), int(self._clock())
        made = replace(
            share,
            id=share_id,
            provider_id=share_id,
            share_with=str(third),
            server=third.server,
            share_type=ShareType.USER.value,
            permissions=granted,
            requires_exchange=None,
            offered_type=None,
            state=SentState.PENDING,
            recipient_display_name=None,
            used=None,
            offered_form=None,
            protocols=None,
            offered_protocols=None,
            ssh_login=None,
            created=now,
            updated=now,
            origin=share.id,
        )
        events.add(tx, at=now, actor=actor, action="share.reshare", subject=share.id, share=share_id)
        return share_id, self._sending.store_new(tx, made, actor, reshare_of=share.id)

    def _grant(
        self, tx: Connection, request: RequestRecord, permissions: frozenset[Permission] | None, actor: str
    ) -> tuple[str, int]:
        """Do what a stored request asks for, as far as its Share still allows that."""
        share = sent_shares.get(tx, request.share or "")
        if share is None or not share.opens(self._clock()) or Permission.SHARE not in share.permissions:
            raise Conflict("SHARE_ENDED", "the Share has ended, or lacks the permission `share`; decline the request")
        third = OCMAddress.parse(request.share_with)
        return self._make(tx, share, third, permissions or request.permissions, actor)

    def _incoming(
        self, peer: Peer, share: SentShare, third: OCMAddress, wanted: frozenset[Permission]
    ) -> RequestRecord:
        return share_requests.unanswered(
            int(self._clock()),
            direction=INCOMING,
            kind=KIND,
            user=share.owner,
            server=peer.server,
            owner=OCMAddress.parse(f"{share.owner}@{self._server}"),
            share_with=third,
            resource=share.provider_id,
            share=share.id,
            permissions=wanted & share.permissions,
        )

    # --- at the receiver's server -------------------------------------------------------------------------------

    async def ask(
        self, user: str, share_id: str, share_with: str, permissions: frozenset[Permission] | None, actor: str
    ) -> tuple[RequestView, str | None]:
        """Ask the owner of a Share that `user` has accepted to share it with somebody else too.

        Returns the request and, when the owner's server has not taken it yet, why. Raises NoSuch, Invalid,
        NotAllowed, Conflict.
        """
        try:
            third = OCMAddress.parse(share_with)
        except ProtocolError as error:
            raise Invalid("INVALID_ADDRESS", error.reason) from error

        def work(tx: Connection) -> tuple[str, int]:
            share = self._receiving.own(tx, user, share_id)
            if share.state != ReceivedState.ACCEPTED or share.expired(self._clock()):
                raise Conflict("WRONG_STATE", "only a Share that you have accepted, and that is not over, is shared on")
            holders = share.owner, share.sender, share.share_with, f"{user}@{self._server}"
            if third in map(OCMAddress.normalise, holders):
                raise Invalid("HAS_IT_ALREADY", f"{third} has it already")
            wanted = permissions or share.permissions - {Permission.SHARE}
            if Permission.SHARE not in share.permissions or not wanted <= share.permissions:
                has = ", ".join(sorted(share.permissions))
                raise NotAllowed("RESHARE_NOT_PERMITTED", f"this Share has {has}: that does not permit to share it so")
            request = share_requests.unanswered(
                int(self._clock()),
                direction=OUTGOING,
                kind=KIND,
                user=user,
                server=share.server,
                owner=OCMAddress.normalise(share.owner),
                share_with=third,
                resource=share.provider_id,
                share=share.id,
                permissions=wanted,
            )
            self._requesting.add(tx, request, actor, "request.create")
            message = outbox.add(
                tx, server=share.server, kind=KIND.value, role=ROLE, share=request.id, now=request.created
            )
            return request.id, message

        request_id, message_id = await self._store.run(work)
        message = await self._outbox.attempted(message_id, FIRST_ATTEMPT)
        return await self._requesting.show(user, request_id), message.last_error

    async def _deliver(self, message: Message) -> None:
        """Ask the owner's server; raises PeerFailed."""
        request = await self._store.read(lambda tx: share_requests.get(tx, message.share))
        if request is None or request.share is None:
            return
        share_id = request.share
        share = await self._store.read(lambda tx: received_shares.get(tx, share_id))
        sealed = await self._store.read(lambda tx: received_shares.sealed_secret(tx, share_id))
        if share is None or share.state != ReceivedState.ACCEPTED:
            raise PeerFailed("SHARE_ENDED", "the Share has ended", 501)  # asking again changes nothing
        if KIND not in profile_of(await self._peers.discover(share.server)).notifications:
            # Old ones would hand us a secret to share on with (peers.md §5), which a receiver never does.
            raise PeerFailed("NOT_OFFERED", f"{share.server} does not share on by itself; ask {share.owner}", 501)
        secret = Secret(self._sealer.open(sealed, share.id)) if sealed else None  # by SSH alone there is none
        notification = Notification(
            type=KIND,
            sender_domain=self._server,
            resource_type=share.resource_type,
            share_type=share.share_type,
            provider_id=share.provider_id,
            shared_secret=secret,
            share_with=request.share_with,
            permissions=request.permissions,
        )
        answer = await self._peers.post(share.server, "/notifications", serialise_notification(notification))
        if answer.status >= 300:
            reason = f"{share.server} answered {answer.status}: {answer.reason(secret or Secret(''))}"
            raise PeerFailed("REFUSED_BY_PEER", reason, answer.status)


def _holders(tx: Connection, share: SentShare) -> set[str]:
    """Return who has the Resource by this Share, or by one that was made of it."""
    return {share.share_with, *(reshare.share_with for reshare in sent_shares.reshares_of(tx, share.id))}
