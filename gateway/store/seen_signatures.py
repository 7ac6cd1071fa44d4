"""Signatures that were used where a replay would do harm; kept for their freshness window, for all processes."""

from __future__ import annotations

from sqlalchemy import Connection, bindparam, delete, insert, select

from gateway.store.tables import seen_signatures

_FORGET = delete(seen_signatures).where(seen_signatures.c.expires <= bindparam("now"))
_KNOWN = select(seen_signatures.c.expires).where(seen_signatures.c.signature_hash == bindparam("hash"))
_INSERT = insert(seen_signatures)


def remember(tx: Connection, signature_hash: bytes, expires: int, now: int) -> bool:
    """Return True the first time; False for a replay."""
    tx.execute(_FORGET, {"now": now})
    if tx.execute(_KNOWN, {"hash": signature_hash}).first():
        return False
    tx.execute(_INSERT, {"signature_hash": signature_hash, "expires": expires})
    return True
