"""What is known of other OCM Servers: trust, discovery, keys, and how they have answered lately."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.engine import RowMapping

from gateway.store.tables import peers


@dataclass(frozen=True, slots=True)
class PeerRecord:
    server: str
    trust: str | None = None
    discovery: str | None = None
    discovery_url: str | None = None
    discovered: int | None = None
    jwks: str | None = None
    jwks_fetched: int | None = None
    signs: bool = False
    failures: int = 0
    retry: int | None = None
    last_error: str | None = None
    seen: int | None = None


_COLUMNS = tuple(field.name for field in fields(PeerRecord))


def get(tx: Connection, server: str) -> PeerRecord:
    """Return what is known of `server`; an empty record when nothing is."""
    row = tx.execute(select(peers).where(peers.c.server == server)).mappings().first()
    return _record(row) if row else PeerRecord(server)


def everyone(tx: Connection) -> list[PeerRecord]:
    return [_record(row) for row in tx.execute(select(peers).order_by(peers.c.server)).mappings()]


def is_known(tx: Connection, server: str) -> bool:
    return tx.execute(select(peers.c.server).where(peers.c.server == server)).first() is not None


def put(tx: Connection, server: str, **values: Any) -> None:
    """Set columns of `server`, making its record when there is none."""
    if tx.execute(update(peers).where(peers.c.server == server).values(**values)).rowcount == 0:
        tx.execute(insert(peers).values({"server": server, "signs": False, "failures": 0} | values))


def forget(tx: Connection, server: str) -> bool:
    """Drop the record; return whether there was one."""
    return tx.execute(delete(peers).where(peers.c.server == server)).rowcount == 1


def _record(row: RowMapping) -> PeerRecord:
    return PeerRecord(**{name: row[name] for name in _COLUMNS})
