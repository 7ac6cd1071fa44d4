"""What becomes of a Share: which state follows on which notification, gesture or event, as tables.

A SentState is that of a Share at its Sending Server, a ReceivedState that of the same Share at its Receiving Server.
A pair that a table lacks is refused. A pair that leads to the state it comes from is a repetition, or changes
something else: it is answered like the first time and leaves the state alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeAlias

from gateway.ocm.notifications import NotificationType


class SentState(StrEnum):
    """A Share as its Sending Server sees it."""

    PENDING = "pending"  # created, not yet delivered
    SENT = "sent"  # the Receiving Server has answered 201
    ACCEPTED = "accepted"
    DECLINED = "declined"  # also: accepted once, and left since
    REFUSED = "refused"  # the Receiving Server has answered 4xx; not tried again
    REVOKED = "revoked"
    EXPIRED = "expired"
    MISSING = "missing"  # what it shares is not where it was


class ReceivedState(StrEnum):
    """A Share as its Receiving Server sees it."""

    PENDING = "pending"  # the user has not said anything
    ACCEPTED = "accepted"
    DECLINED = "declined"
    LEFT = "left"  # accepted once, and given up by the user
    REVOKED = "revoked"
    EXPIRED = "expired"


class SentEvent(StrEnum):
    """What happens to a sent Share at its own server."""

    DELIVERED = "delivered"
    REFUSED = "refused"
    REVOKE = "revoke"  # the Sending Party's gesture
    EXPIRE = "expire"
    LOSE = "lose"  # the Resource is gone, or another one is in its place
    FIND = "find"  # it is back


class ReceivedEvent(StrEnum):
    """What happens to a received Share at its own server."""

    ACCEPT = "accept"  # the Receiving Party's gestures
    DECLINE = "decline"
    LEAVE = "leave"
    EXPIRE = "expire"
    VANISH = "vanish"  # its server says that there is no such Share any more


class RequestState(StrEnum):
    """A request for a Share, at the server of who asks and at the server of who is asked."""

    PENDING = "pending"  # the owner has not answered; one of ours: not delivered yet
    SENT = "sent"  # one of ours: the owner's server has taken it
    GRANTED = "granted"  # a Share came of it
    DECLINED = "declined"
    REFUSED = "refused"  # one of ours: the owner's server did not take it


class RequestEvent(StrEnum):
    """What happens to a request."""

    DELIVERED = "delivered"
    REFUSED = "refused"
    GRANT = "grant"  # the owner's gesture, or the Share that comes of it
    DECLINE = "decline"  # the owner's gesture, or the message about it


_S, _R, _N = SentState, ReceivedState, NotificationType
_Q, _E = RequestState, RequestEvent

# A pending Share already opens: Seafile looks at its root while the notification is still being answered.
SENT_OPEN = frozenset({_S.PENDING, _S.SENT, _S.ACCEPTED})
RECEIVED_LIVE = frozenset({_R.PENDING, _R.ACCEPTED})

REQUEST_OPEN = frozenset({_Q.PENDING, _Q.SENT})

# Ended Shares open nothing, and their secrets are wiped once the last message about them is delivered.
SENT_ENDED = frozenset({_S.DECLINED, _S.REFUSED, _S.REVOKED, _S.EXPIRED})
RECEIVED_ENDED = frozenset({_R.DECLINED, _R.LEFT, _R.REVOKED, _R.EXPIRED})

_REMOVED = (_N.USER_REMOVED, _N.GROUP_REMOVED)

SentOnNotification: TypeAlias = Mapping[tuple[SentState, NotificationType], SentState]
ReceivedOnNotification: TypeAlias = Mapping[tuple[ReceivedState, NotificationType], ReceivedState]

# Receiver -> sender. A user may answer before our own delivery is recorded. No notification revives an ended Share:
# messages overtake each other, so a late acceptance is refused. Declining what has ended agrees with it.
SENT_ON_NOTIFICATION: SentOnNotification = {
    (_S.PENDING, _N.SHARE_ACCEPTED): _S.ACCEPTED,
    (_S.SENT, _N.SHARE_ACCEPTED): _S.ACCEPTED,
    (_S.ACCEPTED, _N.SHARE_ACCEPTED): _S.ACCEPTED,
    (_S.MISSING, _N.SHARE_ACCEPTED): _S.MISSING,
    (_S.PENDING, _N.SHARE_DECLINED): _S.DECLINED,
    (_S.SENT, _N.SHARE_DECLINED): _S.DECLINED,
    (_S.ACCEPTED, _N.SHARE_DECLINED): _S.DECLINED,
    (_S.MISSING, _N.SHARE_DECLINED): _S.DECLINED,
    (_S.DECLINED, _N.SHARE_DECLINED): _S.DECLINED,
    # Whom it was shared with is no more.
    **{(state, kind): _S.DECLINED for state in _S if state not in SENT_ENDED for kind in _REMOVED},
    **{(state, kind): state for state in SENT_ENDED for kind in _REMOVED},
    (_S.REVOKED, _N.SHARE_DECLINED): _S.REVOKED,
    (_S.EXPIRED, _N.SHARE_DECLINED): _S.EXPIRED,
    (_S.SENT, _N.REQUEST_RESHARE): _S.SENT,
    (_S.ACCEPTED, _N.REQUEST_RESHARE): _S.ACCEPTED,
}

# Sender -> receiver. The sender may end a Share at any time, and tell so as often as it likes.
RECEIVED_ON_NOTIFICATION: ReceivedOnNotification = {
    (_R.PENDING, _N.SHARE_UNSHARED): _R.REVOKED,
    (_R.ACCEPTED, _N.SHARE_UNSHARED): _R.REVOKED,
    **{(state, _N.SHARE_UNSHARED): state for state in RECEIVED_ENDED},
    # Who has shared it is no more.
    **{(state, _N.USER_REMOVED): _R.REVOKED for state in RECEIVED_LIVE},
    **{(state, _N.USER_REMOVED): state for state in RECEIVED_ENDED},
    (_R.PENDING, _N.SHARE_CHANGE_PERMISSION): _R.PENDING,
    (_R.ACCEPTED, _N.SHARE_CHANGE_PERMISSION): _R.ACCEPTED,
}

SENT_ON_EVENT: Mapping[tuple[SentState, SentEvent], SentState] = {
    (_S.PENDING, SentEvent.DELIVERED): _S.SENT,
    # Whatever overtook the answer to the delivery stands.
    **{(state, SentEvent.DELIVERED): state for state in _S if state not in (_S.PENDING, _S.REFUSED)},
    (_S.PENDING, SentEvent.REFUSED): _S.REFUSED,
    **{(state, SentEvent.REVOKE): _S.REVOKED for state in _S if state not in SENT_ENDED},
    (_S.EXPIRED, SentEvent.REVOKE): _S.REVOKED,  # a later expiration would not revive it then
    **{(state, SentEvent.REVOKE): state for state in (_S.DECLINED, _S.REFUSED, _S.REVOKED)},
    **{(state, SentEvent.EXPIRE): _S.EXPIRED for state in _S if state not in SENT_ENDED},
    (_S.EXPIRED, SentEvent.EXPIRE): _S.EXPIRED,
    (_S.SENT, SentEvent.LOSE): _S.MISSING,
    (_S.ACCEPTED, SentEvent.LOSE): _S.MISSING,
    (_S.MISSING, SentEvent.LOSE): _S.MISSING,
    (_S.MISSING, SentEvent.FIND): _S.ACCEPTED,
}

RECEIVED_ON_EVENT: Mapping[tuple[ReceivedState, ReceivedEvent], ReceivedState] = {
    (_R.PENDING, ReceivedEvent.ACCEPT): _R.ACCEPTED,
    (_R.ACCEPTED, ReceivedEvent.ACCEPT): _R.ACCEPTED,
    (_R.PENDING, ReceivedEvent.DECLINE): _R.DECLINED,
    (_R.DECLINED, ReceivedEvent.DECLINE): _R.DECLINED,
    (_R.ACCEPTED, ReceivedEvent.LEAVE): _R.LEFT,
    (_R.LEFT, ReceivedEvent.LEAVE): _R.LEFT,
    (_R.PENDING, ReceivedEvent.EXPIRE): _R.EXPIRED,
    (_R.ACCEPTED, ReceivedEvent.EXPIRE): _R.EXPIRED,
    (_R.EXPIRED, ReceivedEvent.EXPIRE): _R.EXPIRED,
    (_R.PENDING, ReceivedEvent.VANISH): _R.REVOKED,
    (_R.ACCEPTED, ReceivedEvent.VANISH): _R.REVOKED,
    (_R.REVOKED, ReceivedEvent.VANISH): _R.REVOKED,
}

# What others ask of our users, by the owner's gesture. An answer stands.
INCOMING_ON_EVENT: Mapping[tuple[RequestState, RequestEvent], RequestState] = {
    (_Q.PENDING, _E.GRANT): _Q.GRANTED,
    (_Q.GRANTED, _E.GRANT): _Q.GRANTED,
    (_Q.PENDING, _E.DECLINE): _Q.DECLINED,
    (_Q.DECLINED, _E.DECLINE): _Q.DECLINED,
}

# What our users ask of others. The owner's answer may overtake that of the owner's server.
OUTGOING_ON_EVENT: Mapping[tuple[RequestState, RequestEvent], RequestState] = {
    (_Q.PENDING, _E.DELIVERED): _Q.SENT,
    **{(state, _E.DELIVERED): state for state in (_Q.SENT, _Q.GRANTED, _Q.DECLINED)},
    (_Q.PENDING, _E.REFUSED): _Q.REFUSED,
    **{
        (state, event): after
        for state in REQUEST_OPEN
        for event, after in (
            (_E.GRANT, _Q.GRANTED),
            (_E.DECLINE, _Q.DECLINED),
        )
    },
    (_Q.GRANTED, _E.GRANT): _Q.GRANTED,
    (_Q.DECLINED, _E.DECLINE): _Q.DECLINED,
}
