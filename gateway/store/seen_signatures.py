"""Signatures that were used where a replay would do harm; kept for their freshness window, for all processes."""

from __future__ import annotations

from sqlalchemy import Connection, delete, insert, select

from gateway.store.tables import seen_signatures


def remember(tx: Connection, signature_hash: bytes, expires: int, now: int) -> bool:
    """Return True the first time; False for a replay."""
    tx.execute(delete(seen_signatures).where(seen_signatures.c.expires <= now))
    known = select(seen_signatures.c.expires).where(seen_signatures.c.signature_hash == signature_hash)
    if tx.execute(known).first():
        return False
    tx.execute(insert(seen_signatures).values(signature_hash=signature_hash, expires=expires))
    return True
