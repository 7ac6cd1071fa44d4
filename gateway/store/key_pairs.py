"""The key pair that each user has here for Shares that are reached by SSH."""

from __future__ import annotations

from sqlalchemy import Connection, delete, insert, select

from gateway.store.tables import key_pairs


def add(tx: Connection, user: str, public: str, private_sealed: bytes, now: int) -> None:
    tx.execute(insert(key_pairs).values(user=user, public=public, private_sealed=private_sealed, created=now))


def public(tx: Connection, user: str) -> str | None:
    """Return the public key as a line of authorized_keys."""
    return tx.execute(select(key_pairs.c.public).where(key_pairs.c.user == user)).scalar()


def sealed_private(tx: Connection, user: str) -> bytes | None:
    return tx.execute(select(key_pairs.c.private_sealed).where(key_pairs.c.user == user)).scalar()


def forget(tx: Connection, user: str) -> None:
    tx.execute(delete(key_pairs).where(key_pairs.c.user == user))
