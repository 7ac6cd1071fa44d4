"""Who did what, and when."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, insert, select

from gateway.store.tables import events

_INSERT = insert(events)


@dataclass(frozen=True, slots=True)
class Event:
    at: int
    actor: str
    action: str
    detail: dict[str, Any]


def add(tx: Connection, *, at: int, actor: str, action: str, subject: str, **detail: Any) -> None:
    """Record one event; `detail` holds plain JSON values and never a secret."""
    tx.execute(_INSERT, {"at": at, "actor": actor, "action": action, "subject": subject, "detail": detail})


def about(tx: Connection, subject: str) -> list[Event]:
    """Return the history of `subject`, oldest first."""
    query = select(events.c.at, events.c.actor, events.c.action, events.c.detail).where(events.c.subject == subject)
    return [Event(*row) for row in tx.execute(query.order_by(events.c.id))]
