"""SSH keys that local users log in with."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, delete, func, insert, select

from gateway.ocm.ssh_keys import PublicKey
from gateway.store.tables import user_keys


@dataclass(frozen=True, slots=True)
class UserKey:
    key: PublicKey
    comment: str
    created: int


_ONE = user_keys.c.user == bindparam("of_user"), user_keys.c.fingerprint == bindparam("of_key")
_EXISTS = select(user_keys.c.fingerprint).where(*_ONE)


def add(tx: Connection, user: str, key: UserKey) -> None:
    row = {"fingerprint": key.key.fingerprint, "blob": key.key.blob, "comment": key.comment, "created": key.created}
    tx.execute(insert(user_keys).values(row | {"user": user}))


def exists(tx: Connection, user: str, fingerprint: str) -> bool:
    """Tell whether a key is one of the user's."""
    return tx.execute(_EXISTS, {"of_user": user, "of_key": fingerprint}).first() is not None


def of_user(tx: Connection, user: str) -> list[UserKey]:
    """Return the keys of a user, the newest last."""
    columns = user_keys.c
    query = select(columns.blob, columns.comment, columns.created).where(columns.user == user)
    rows = tx.execute(query.order_by(columns.created, columns.fingerprint))
    return [UserKey(PublicKey.of_blob(blob), comment, created) for blob, comment, created in rows]


def count(tx: Connection, user: str) -> int:
    return tx.execute(select(func.count()).where(user_keys.c.user == user)).scalar_one()


def remove(tx: Connection, user: str, fingerprint: str) -> bool:
    """Return whether there was such a key."""
    return tx.execute(delete(user_keys).where(*_ONE), {"of_user": user, "of_key": fingerprint}).rowcount == 1


def remove_of(tx: Connection, user: str) -> None:
    tx.execute(delete(user_keys).where(user_keys.c.user == user))
