"""Renames on their way: the intent is written before the storage is touched, so a crash between both is repaired."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select, update

from backends.interface import Identity
from backends.paths import StoragePath
from gateway.store.rows import identity_from_columns, identity_to_columns, path_from_column
from gateway.store.tables import moves


@dataclass(frozen=True, slots=True)
class Move:
    id: int
    backend: str
    source: StoragePath
    target: StoragePath
    identity: Identity | None  # of what moves
    process: str | None = None  # that works on it (`gateway/living.py`); None: nobody any more


def add(
    tx: Connection,
    backend: str,
    source: StoragePath,
    target: StoragePath,
    identity: Identity | None,
    process: str | None = None,
) -> int:
    values = {"backend": backend, "source": bytes(source), "target": bytes(target), "process": process}
    result = tx.execute(insert(moves).values(**values, **identity_to_columns(identity)))
    (move_id,) = result.inserted_primary_key or (0,)
    return int(move_id)


def leave(tx: Connection, move_id: int) -> None:
    """Say that nobody works on it any more, though it is not settled."""
    tx.execute(update(moves).where(moves.c.id == move_id).values(process=None))


def remove(tx: Connection, move_id: int) -> bool:
    """Drop an intent, and tell whether it was still there: of several who settle it, one is the first."""
    return tx.execute(delete(moves).where(moves.c.id == move_id)).rowcount == 1


def unfinished(tx: Connection) -> list[Move]:
    rows = tx.execute(select(moves).order_by(moves.c.id)).mappings()
    return [
        Move(
            row["id"],
            row["backend"],
            path_from_column(row["source"]),
            path_from_column(row["target"]),
            identity_from_columns(row),
            row["process"],
        )
        for row in rows
    ]
