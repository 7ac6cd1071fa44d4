"""Taking back what a Share gives: all of it, or some rights, and the same from what was shared on from it.

What was shared on when a receiver asked for it (`resharing`) rests on the Share that it was made of: it never has more
rights, is never open for longer, and ends when that does, however that ends.
"""

from __future__ import annotations

from sqlalchemy import Connection

from gateway.errors import NotAllowed
from gateway.ocm.notifications import NotificationType
from gateway.ocm.shares import Permission
from gateway.ocm.states import SENT_ON_EVENT, SentEvent, SentState
from gateway.store import events, locks, outbox, sent_shares
from gateway.store.sent_shares import SentShare

ROLE = "sending"  # whose messages these are, to the outbox
ACTOR = "(gateway)"


def revoke(tx: Connection, share: SentShare, actor: str, now: int) -> None:
    """End a Share, if it has not ended: nothing opens from now on, and the peer is told."""
    state = SENT_ON_EVENT[SentState(share.state), SentEvent.REVOKE]
    if state == share.state:
        return
    sent_shares.set_state(tx, share.id, state, now)
    locks.remove_of(tx, sent_shares.principal(share.id))
    events.add(tx, at=now, actor=actor, action="share.revoke", subject=share.id)
    _farewell(tx, share, now)
    end_reshares(tx, share, now)


def end_reshares(tx: Connection, share: SentShare, now: int) -> None:
    """End what was shared on from a Share that has ended."""
    for reshare in sent_shares.reshares_of(tx, share.id):
        revoke(tx, reshare, ACTOR, now)


def set_permissions(tx: Connection, share: SentShare, permissions: frozenset[Permission], now: int) -> None:
    """Give a Share other permissions, and tell the peer."""
    sent_shares.set_permissions(tx, share.id, permissions, now)
    if Permission.WRITE not in permissions:
        locks.remove_of(tx, sent_shares.principal(share.id))
    kind = NotificationType.SHARE_CHANGE_PERMISSION.value
    outbox.add(tx, server=share.server, kind=kind, role=ROLE, share=share.id, now=now)


def require_within_origin(
    tx: Connection, share: SentShare, permissions: frozenset[Permission], expiration: int | None
) -> None:
    """Return if what was shared on would have no more, and for no longer, than its Share; raises NotAllowed."""
    origin = sent_shares.get(tx, share.origin) if share.origin is not None else None
    if origin is None:
        return
    is_longer = origin.expiration is not None and (expiration is None or expiration > origin.expiration)
    if is_longer or not permissions <= origin.permissions:
        sentence = f"it was made of Share {origin.id}, and can have no more and last no longer; change that one first"
        raise NotAllowed("BEYOND_ORIGIN", sentence)


def narrow_reshares(tx: Connection, share_id: str, now: int) -> None:
    """Take from what was shared on what the Share itself has no more; what it has gained is not given on."""
    share = sent_shares.get(tx, share_id)
    if share is None:
        return
    for reshare in sent_shares.reshares_of(tx, share_id):
        if not reshare.permissions <= share.permissions:
            set_permissions(tx, reshare, reshare.permissions & share.permissions, now)
        if share.expiration is not None and not reshare.expired(share.expiration):
            sent_shares.set_expiration(tx, reshare.id, share.expiration, now)
        narrow_reshares(tx, reshare.id, now)


def _farewell(tx: Connection, share: SentShare, now: int) -> None:
    """Queue SHARE_UNSHARED instead of whatever was still to be said.

    Also to a peer that seems never to have been asked: a first attempt may be under way at this moment, or have been
    cut off by a crash before it was counted.
    """
    for message in outbox.pending_of(tx, ROLE, share.id):
        outbox.finish(tx, message.id, "dropped", "the Share was revoked", now)
    kind = NotificationType.SHARE_UNSHARED.value
    outbox.add(tx, server=share.server, kind=kind, role=ROLE, share=share.id, now=now)
