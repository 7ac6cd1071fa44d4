"""Replacements on their way, each written before its first name appears in storage and forgotten after its last.

What is at `target` is set `aside`, what is to have its place comes from `arriving`: a name of our own for a copy, the
client's own for a move.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select, update

from backends.interface import Identity
from backends.paths import StoragePath
from gateway.store.rows import identity_from_columns, identity_to_columns, path_from_column
from gateway.store.tables import replacements


@dataclass(frozen=True, slots=True)
class Replacement:
    id: int
    backend: str
    target: StoragePath
    aside: StoragePath
    arriving: StoragePath
    is_copy: bool  # `arriving` is ours to remove
    identity: Identity | None  # of what arrives, where it exists already
    process: str | None  # that works on it (`gateway/living.py`); None: nobody any more


def add(
    tx: Connection,
    *,
    backend: str,
    target: StoragePath,
    aside: StoragePath,
    arriving: StoragePath,
    is_copy: bool,
    identity: Identity | None,
    process: str,
) -> Replacement:
    paths = {"target": bytes(target), "aside": bytes(aside), "arriving": bytes(arriving)}
    values = paths | {"backend": backend, "is_copy": is_copy, "process": process}
    result = tx.execute(insert(replacements).values(**values, **identity_to_columns(identity)))
    (row_id,) = result.inserted_primary_key or (0,)
    return Replacement(int(row_id), backend, target, aside, arriving, is_copy, identity, process)


def leave(tx: Connection, row_id: int) -> None:
    """Say that nobody works on it any more, though it is not done."""
    tx.execute(update(replacements).where(replacements.c.id == row_id).values(process=None))


def remove(tx: Connection, row_id: int) -> None:
    tx.execute(delete(replacements).where(replacements.c.id == row_id))


def forget(tx: Connection, backend: str) -> None:
    """Forget those on a storage that will not come back."""
    tx.execute(delete(replacements).where(replacements.c.backend == backend))


def unfinished(tx: Connection) -> list[Replacement]:
    rows = tx.execute(select(replacements).order_by(replacements.c.id)).mappings()
    return [
        Replacement(
            row["id"],
            row["backend"],
            path_from_column(row["target"]),
            path_from_column(row["aside"]),
            path_from_column(row["arriving"]),
            row["is_copy"],
            identity_from_columns(row),
            row["process"],
        )
        for row in rows
    ]
