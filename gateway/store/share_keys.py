"""SSH keys of the receiver of a sent Share: each opens that Share and nothing else."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, bindparam, delete, insert, select

from gateway.ocm.ssh_keys import PublicKey
from gateway.store.tables import share_keys

_EXISTS = select(share_keys.c.fingerprint).where(
    share_keys.c.share == bindparam("of_share"), share_keys.c.fingerprint == bindparam("of_key")
)


def put(tx: Connection, share_id: str, keys: Iterable[PublicKey]) -> None:
    """Let these be the keys of a Share, instead of those that it has had."""
    remove_of(tx, share_id)
    rows = [{"share": share_id, "fingerprint": key.fingerprint, "blob": key.blob} for key in dict.fromkeys(keys)]
    if rows:
        tx.execute(insert(share_keys), rows)


def exists(tx: Connection, share_id: str, fingerprint: str) -> bool:
    """Tell whether a key is one of the Share's."""
    return tx.execute(_EXISTS, {"of_share": share_id, "of_key": fingerprint}).first() is not None


def of_share(tx: Connection, share_id: str) -> list[PublicKey]:
    """Return the keys of a Share, in the order of their fingerprints."""
    query = select(share_keys.c.blob).where(share_keys.c.share == share_id).order_by(share_keys.c.fingerprint)
    return [PublicKey.of_blob(blob) for blob in tx.execute(query).scalars()]


def remove_of(tx: Connection, share_id: str) -> None:
    tx.execute(delete(share_keys).where(share_keys.c.share == share_id))
