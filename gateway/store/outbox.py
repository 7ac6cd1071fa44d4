"""Messages to other servers, written in the transaction that causes them and delivered afterwards.

A row names the Share and the kind of message, never a secret: the body is built at delivery.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import Connection, func, insert, select, tuple_, update
from sqlalchemy.engine import RowMapping

from gateway.store.tables import outbox


@dataclass(frozen=True, slots=True)
class Message:
    id: int
    server: str
    kind: str
    role: str
    share: str
    state: str
    attempts: int
    next_attempt: int
    last_error: str | None
    created: int
    finished: int | None


_COLUMNS = tuple(field.name for field in fields(Message))
# The first pending message of each Share: the others wait for it.
_FIRST = select(func.min(outbox.c.id)).where(outbox.c.state == "pending").group_by(outbox.c.role, outbox.c.share)


def add(tx: Connection, *, server: str, kind: str, role: str, share: str, now: int) -> int:
    """Queue a message and return its id."""
    result = tx.execute(
        insert(outbox).values(
            server=server,
            kind=kind,
            role=role,
            share=share,
            state="pending",
            attempts=0,
            next_attempt=now,
            created=now,
        )
    )
    (message_id,) = result.inserted_primary_key or (0,)
    return int(message_id)


def get(tx: Connection, message_id: int) -> Message | None:
    row = tx.execute(select(outbox).where(outbox.c.id == message_id)).mappings().first()
    return _message(row) if row else None


def due(tx: Connection, now: int, limit: int, busy: tuple[str, ...] = ()) -> list[Message]:
    """Return pending messages whose time has come, but none to `busy` servers and only the first of each Share.

    Order is kept per Share, so that an acceptance never overtakes what came before it. Of those that became due
    together, what was tried least goes first.
    """
    query = (
        select(outbox)
        .where(outbox.c.id.in_(_FIRST), outbox.c.next_attempt <= now, outbox.c.server.not_in(busy))
        .order_by(outbox.c.next_attempt, outbox.c.attempts, outbox.c.id)
        .limit(limit)
    )
    return [_message(row) for row in tx.execute(query).mappings()]


def next_due(tx: Connection, busy: tuple[str, ...] = ()) -> int | None:
    """Return when `due` will have something for a server that is not `busy`, in seconds since the epoch."""
    query = select(func.min(outbox.c.next_attempt)).where(outbox.c.id.in_(_FIRST), outbox.c.server.not_in(busy))
    return tx.execute(query).scalar()


def everything(
    tx: Connection, limit: int = 1000, *, state: str | None = None, server: str | None = None
) -> list[Message]:
    """Return the newest messages, all or those in `state` and to `server`, oldest first."""
    query = select(outbox).order_by(outbox.c.id.desc()).limit(limit)
    if state is not None:
        query = query.where(outbox.c.state == state)
    if server is not None:
        query = query.where(outbox.c.server == server)
    return [_message(row) for row in tx.execute(query).mappings()][::-1]


def pending_of(tx: Connection, role: str, share: str) -> list[Message]:
    """Return what still waits to be said about a Share, oldest first."""
    query = select(outbox).where(outbox.c.role == role, outbox.c.share == share, outbox.c.state == "pending")
    return [_message(row) for row in tx.execute(query.order_by(outbox.c.id)).mappings()]


def count_pending(tx: Connection) -> int:
    return tx.execute(select(func.count()).where(outbox.c.state == "pending")).scalar() or 0


def finish(tx: Connection, message_id: int, state: str, error: str | None, now: int) -> None:
    """Mark as `delivered`, `failed` or `dropped`; only a pending message changes."""
    _set(tx, message_id, state=state, last_error=error, finished=now, attempts=outbox.c.attempts + 1)


def postpone(tx: Connection, message_id: int, error: str, next_attempt: int) -> None:
    """Count an attempt that failed."""
    _set(tx, message_id, last_error=error, next_attempt=next_attempt, attempts=outbox.c.attempts + 1)


def hold(tx: Connection, server: str, until: int) -> None:
    """Let nothing that waits for `server` go before `until`."""
    waiting = outbox.c.server == server, outbox.c.state == "pending", outbox.c.next_attempt < until
    tx.execute(update(outbox).where(*waiting).values(next_attempt=until))


def hurry(tx: Connection, now: int, message_id: int | None = None, server: str | None = None) -> list[str]:
    """Make pending messages due now: one with those that it waits for, those to one server, or all.

    Returns the server of each.
    """
    statement = update(outbox).where(outbox.c.state == "pending")
    if message_id is not None:
        share = select(outbox.c.role, outbox.c.share).where(outbox.c.id == message_id)
        statement = statement.where(outbox.c.id <= message_id, tuple_(outbox.c.role, outbox.c.share).in_(share))
    if server is not None:
        statement = statement.where(outbox.c.server == server)
    return list(tx.execute(statement.values(next_attempt=now).returning(outbox.c.server)).scalars())


def _set(tx: Connection, message_id: int, **values: Any) -> None:
    tx.execute(update(outbox).where(outbox.c.id == message_id, outbox.c.state == "pending").values(**values))


def _message(row: RowMapping) -> Message:
    return Message(**{name: row[name] for name in _COLUMNS})
