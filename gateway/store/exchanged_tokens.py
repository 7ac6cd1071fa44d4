"""Access tokens that a Sending Server gave us, sealed and kept until they expire."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select

from gateway.store.tables import exchanged_tokens


@dataclass(frozen=True, slots=True)
class StoredToken:
    token_sealed: bytes
    obtained: int
    expires: int


def get(tx: Connection, share_id: str) -> StoredToken | None:
    columns = exchanged_tokens.c
    query = select(columns.token_sealed, columns.obtained, columns.expires).where(columns.share == share_id)
    row = tx.execute(query).first()
    return StoredToken(*row) if row else None


def put(tx: Connection, share_id: str, token_sealed: bytes, obtained: int, expires: int) -> None:
    forget(tx, share_id)
    values = {"share": share_id, "token_sealed": token_sealed, "obtained": obtained, "expires": expires}
    tx.execute(insert(exchanged_tokens).values(values))


def forget(tx: Connection, share_id: str) -> None:
    tx.execute(delete(exchanged_tokens).where(exchanged_tokens.c.share == share_id))


def forget_expired(tx: Connection, now: int) -> None:
    tx.execute(delete(exchanged_tokens).where(exchanged_tokens.c.expires <= now))
