"""Requests for a Share: those that others make of our users, and those that our users make of others."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import Connection, bindparam, delete, func, insert, or_, select, update
from sqlalchemy.engine import RowMapping

from gateway.ocm.address import OCMAddress
from gateway.ocm.notifications import NotificationType
from gateway.ocm.shares import Permission
from gateway.ocm.states import REQUEST_OPEN, RequestState
from gateway.store.rows import permissions_from_column, permissions_to_column
from gateway.store.tables import share_requests

INCOMING, OUTGOING = "incoming", "outgoing"


@dataclass(frozen=True, slots=True)
class RequestRecord:
    id: str
    direction: str  # incoming, outgoing
    kind: str  # REQUEST_SHARE, REQUEST_RESHARE
    user: str | None  # ours: the owner who is asked, or who asks; None: nobody who is here
    server: str
    owner: str  # OCM Address of who is asked
    share_with: str  # OCM Address of who is to have the Share
    resource: str  # what is asked for, in the words of who asks
    share: str | None  # of a reshare: our id of the Share that it is of
    permissions: frozenset[Permission]
    state: str
    granted: str | None  # our id of the Share that came of it
    created: int
    updated: int


def unanswered(
    now: int,
    *,
    direction: str,
    kind: NotificationType,
    user: str,
    server: str,
    owner: OCMAddress,
    share_with: OCMAddress,
    resource: str,
    permissions: frozenset[Permission],
    share: str | None = None,
) -> RequestRecord:
    """Return a request that has just been made, under an id of its own; it is not stored yet."""
    return RequestRecord(
        id=secrets.token_hex(16),
        direction=direction,
        kind=kind.value,
        user=user,
        server=server,
        owner=str(owner),
        share_with=str(share_with),
        resource=resource,
        share=share,
        permissions=permissions,
        state=RequestState.PENDING,
        granted=None,
        created=now,
        updated=now,
    )


_COLUMNS = tuple(field.name for field in fields(RequestRecord))
_ASKED_OF = (
    select(share_requests)
    .where(
        share_requests.c.server == bindparam("of_server"),
        or_(*(share_requests.c.state == state for state in sorted(REQUEST_OPEN))),
        share_requests.c.direction == OUTGOING,
    )
    .order_by(share_requests.c.created)
)
_ASKED_OF_BY = _ASKED_OF.where(share_requests.c.user == bindparam("by_user"))  # for each Share that comes


def add(tx: Connection, request: RequestRecord) -> None:
    values = {name: getattr(request, name) for name in _COLUMNS}
    tx.execute(insert(share_requests).values(values | {"permissions": permissions_to_column(request.permissions)}))


def get(tx: Connection, request_id: str) -> RequestRecord | None:
    row = tx.execute(select(share_requests).where(share_requests.c.id == request_id)).mappings().first()
    return _request(row) if row else None


def of_user(tx: Connection, user: str | None) -> list[RequestRecord]:
    """Return the requests to and from `user`, or everybody's who is here, the newest last."""
    query = select(share_requests).order_by(share_requests.c.created, share_requests.c.id)
    query = query.where(share_requests.c.user.is_not(None) if user is None else share_requests.c.user == user)
    return [_request(row) for row in tx.execute(query).mappings()]


def same_open(tx: Connection, request: RequestRecord) -> RequestRecord | None:
    """Return the request that asks for the same and is not answered yet."""
    alike = ("direction", "kind", "user", "server", "owner", "share_with", "resource", "share")
    conditions = [share_requests.c[name] == getattr(request, name) for name in alike]
    query = select(share_requests).where(*conditions, share_requests.c.state.in_(REQUEST_OPEN))
    row = tx.execute(query).mappings().first()
    return _request(row) if row else None


def open_to(tx: Connection, server: str, user: str | None = None) -> list[RequestRecord]:
    """Return what our users, or one of them, have asked of `server` and what is not answered yet, the oldest first."""
    query, values = (_ASKED_OF, {}) if user is None else (_ASKED_OF_BY, {"by_user": user})
    return [_request(row) for row in tx.execute(query, values | {"of_server": server}).mappings()]


def count_from_server(tx: Connection, server: str) -> int:
    """Return how many requests of `server` wait for an answer."""
    return _count(tx, share_requests.c.server == server)


def count_to_owner(tx: Connection, owner: str) -> int:
    """Return how many requests wait for the answer of an OCM Address of ours, whether or not there is such a user."""
    return _count(tx, share_requests.c.owner == owner)


def forget_unanswered(tx: Connection, before: int) -> None:
    """Drop the requests, ours and of others, that were made before that time and never answered."""
    old = share_requests.c.created < before, share_requests.c.state.in_(REQUEST_OPEN)
    tx.execute(delete(share_requests).where(*old))


def forget_open(tx: Connection, user: str) -> None:
    """Drop what `user` has not answered, and what nobody has answered `user`."""
    unanswered = share_requests.c.user == user, share_requests.c.state.in_(REQUEST_OPEN)
    tx.execute(delete(share_requests).where(*unanswered))


def forget_open_with(tx: Connection, address: str) -> None:
    """Drop what somebody at another server has not answered, and what nobody has answered them."""
    party = or_(share_requests.c.owner == address, share_requests.c.share_with == address)
    tx.execute(delete(share_requests).where(party, share_requests.c.state.in_(REQUEST_OPEN)))


def set_state(tx: Connection, request_id: str, state: str, now: int, granted: str | None = None) -> None:
    values: dict[str, Any] = {"state": state, "updated": now} | ({"granted": granted} if granted else {})
    tx.execute(update(share_requests).where(share_requests.c.id == request_id).values(**values))


def _count(tx: Connection, *conditions: Any) -> int:
    waiting = share_requests.c.state == RequestState.PENDING, share_requests.c.direction == INCOMING
    return tx.execute(select(func.count()).where(*conditions, *waiting)).scalar() or 0


def _request(row: RowMapping) -> RequestRecord:
    values = {name: row[name] for name in _COLUMNS}
    return RequestRecord(**values | {"permissions": permissions_from_column(row["permissions"])})
