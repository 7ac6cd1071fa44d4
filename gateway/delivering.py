"""Saying to the Receiving Server what a message about a sent Share stands for, and taking its answer.

The answer to a Share that is offered by SSH holds the receiver's public keys. They are kept for that Share alone, and
nothing of them but the keys themselves (`ocm/ssh_keys`).
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import structlog
from sqlalchemy import Connection

from gateway.access import Access
from gateway.errors import PeerFailed
from gateway.ocm.errors import Malformed
from gateway.ocm.notifications import NotificationType, serialise_notification
from gateway.ocm.secret import Secret
from gateway.ocm.shares import SSH, ShareType, parse_share_created, serialise_share
from gateway.ocm.ssh_keys import PublicKey, is_blank, parse_public_key
from gateway.ocm.states import SENT_OPEN
from gateway.offering import Offer, Ourselves, notification_about, offer, other_offer, share_creation_notification
from gateway.peers import Answer, Peers
from gateway.profiles import TAKEN, WRONG_FORM, Profile, profile_of
from gateway.store import events, peers, sent_shares, share_keys, users
from gateway.store.engine import Store
from gateway.store.outbox import Message
from gateway.store.sealing import Sealer
from gateway.store.sent_shares import SentShare

SHARE = "share"  # the outbox's word for a Share Creation Notification; every other kind is a notificationType
KEYS_KEPT: Mapping[str, int] = {ShareType.USER: 20, ShareType.GROUP: 200}  # of one Share; of a group all members come

log = structlog.get_logger()


class Delivering:
    """Delivers the messages of the Sending Server."""

    def __init__(
        self,
        store: Store,
        access: Access,
        known: Peers,
        sealer: Sealer,
        ourselves: Ourselves,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._access = access
        self._peers = known
        self._sealer = sealer
        self._ourselves = ourselves
        self._clock = clock

    async def deliver(self, message: Message) -> None:
        """Say to the peer what `message` stands for; raises PeerFailed."""
        share = await self._store.read(lambda tx: sent_shares.get(tx, message.share))
        sealed = await self._store.read(lambda tx: sent_shares.sealed_secret(tx, message.share))
        if share is None or sealed is None:
            return  # ended and wiped: there is nothing left to say
        secret = Secret(self._sealer.open(sealed, share.id))
        if message.kind == SHARE:
            await self._offer(share, secret)
        else:
            await self._notify(share, NotificationType(message.kind), secret)

    async def _offer(self, share: SentShare, secret: Secret) -> None:
        """Send the Share Creation Notification that fits the peer, and take its answer."""
        discovery = await self._peers.discover(share.server)
        profile = profile_of(discovery)
        known = await self._store.read(lambda tx: peers.recall(tx, share.server, profile.product))
        has_door = self._ourselves.ssh is not None
        offered = offer(share, discovery, known.body, has_door=has_door)
        answer = await self._say(share, offered, secret)
        other = other_offer(share, discovery, offered) if answer.status in WRONG_FORM else None
        if other is not None:
            second = await self._say(share, other, secret)
            if second.status == 409 or not _refused(share.server, second, secret, profile).is_final:
                offered, answer = other, second  # else the first refusal says what is wrong
        if answer.status == 409:  # the id is 128 random bits: an earlier attempt, whose answer was lost, has brought it
            if SSH in offered.protocols:  # and with the answer the keys, which nothing else tells
                hint = "if its receiver cannot log in by SSH: revoke it, and share anew"
                log.warning("a Share was taken, but not by which keys", share=share.id, peer=share.server, hint=hint)
            return
        if answer.status not in TAKEN:
            raise _refused(share.server, answer, secret, profile)
        created = parse_share_created(answer.body)
        keys = _usable(share, created.recipient_public_keys) if SSH in offered.protocols else None

        def work(tx: Connection) -> None:
            peers.worked(tx, share.server, profile.product, body=offered.form, signature=answer.signature)
            if created.recipient_display_name:
                sent_shares.set_recipient_display_name(tx, share.id, created.recipient_display_name)
            if keys is not None:
                self._authorise(tx, share, keys)

        await self._store.run(work)
        self._access.forget()

    def _authorise(self, tx: Connection, share: SentShare, keys: list[PublicKey]) -> None:
        """Let these keys, and no others, open a Share that has not ended meanwhile."""
        current = sent_shares.get(tx, share.id)
        if current is None or current.state not in SENT_OPEN:
            return
        before = {key.fingerprint for key in share_keys.of_share(tx, share.id)}
        share_keys.put(tx, share.id, keys)
        fingerprints = [key.fingerprint for key in keys]
        if before != set(fingerprints):
            now = int(self._clock())
            events.add(tx, at=now, actor=share.server, action="share.keys", subject=share.id, keys=fingerprints)

    async def _say(self, share: SentShare, offered: Offer, secret: Secret) -> Answer:
        """Make an offer, and remember before that it is made.

        The peer may look at the Share while it still answers, and a crash may hide that it has.
        """
        by_ssh = SSH in offered.protocols
        login = (share.ssh_login or f"s-{secrets.token_urlsafe(16)}") if by_ssh else None  # 128 bits

        def work(tx: Connection) -> str:
            sent_shares.set_offered(
                tx,
                share.id,
                requires_exchange=offered.requires_exchange,
                resource_type=offered.resource_type,
                form=offered.form,
                protocols=offered.protocols,
                ssh_login=login,
            )
            return users.shown_name(tx, share.owner)

        owner_name = await self._store.run(work)
        self._access.forget()
        notification = share_creation_notification(
            replace(share, ssh_login=login), offered, secret, self._ourselves, owner_name
        )
        return await self._peers.post(share.server, "/shares", serialise_share(notification, offered.form))

    async def _notify(self, share: SentShare, kind: NotificationType, secret: Secret) -> None:
        profile = profile_of(await self._peers.discover(share.server))
        if kind not in profile.notifications:
            return  # it has no such message, and finds out by itself
        notification = notification_about(share, kind, secret, profile, self._ourselves)
        answer = await self._peers.post(share.server, "/notifications", serialise_notification(notification))
        if answer.status >= 300 and answer.status not in (404, 409):  # those two: the peer knows already
            raise _refused(share.server, answer, secret)


def _usable(share: SentShare, lines: Iterable[str]) -> list[PublicKey]:
    """Return the keys that open the Share, of those that its receiver's server has answered."""
    keys: dict[PublicKey, None] = {}
    refused = []
    for text in lines:
        if is_blank(text):
            continue
        try:
            keys[parse_public_key(text)] = None
        except Malformed as error:
            refused.append(f"{error.code}: {error.reason}")
    most = KEYS_KEPT[share.share_type]
    if refused or not keys or len(keys) > most:
        log.warning(
            "not every key of a receiver opens the Share; its server has to answer others",
            share=share.id,
            peer=share.server,
            usable=len(keys),
            most=most,
            refused=refused[:3],
        )
    return list(keys)[:most]


def _refused(server: str, answer: Answer, secret: Secret, profile: Profile | None = None) -> PeerFailed:
    """Return what the peer has said to it, and to a Share for a stranger what has to happen first (`profile`)."""
    sentence = f"{server} answered {answer.status}: {answer.reason(secret)}"
    if profile is not None and profile.invite and answer.status in (401, 403, 404):
        sentence += f". {profile.invite}"
    return PeerFailed("REFUSED_BY_PEER", sentence, answer.status)
