"""Renames on their way: the intent is written before the storage is touched, so a crash between both is repaired."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.engine import RowMapping

from backends.interface import Identity
from backends.paths import StoragePath
from gateway.store.rows import followed, identity_from_columns, identity_to_columns, path_from_column
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


def get(tx: Connection, move_id: int) -> Move | None:
    row = tx.execute(select(moves).where(moves.c.id == move_id)).mappings().first()
    return None if row is None else _move(row)


def is_on_the_way(tx: Connection, backend: str, paths: Iterable[StoragePath], *, besides: int | None = None) -> bool:
    """Tell whether any of `paths`, or a folder above it, is about to get another name or has just got this one.

    The move `besides` does not count.
    """
    others = [move for move in unfinished(tx) if move.backend == backend and move.id != besides]
    return any(path.is_within(name) for path in paths for move in others for name in (move.source, move.target))


def along(tx: Connection, backend: str, source: StoragePath, target: StoragePath) -> list[Move]:
    """Return those that have other names once `source` is called `target`, with these names; raises InvalidPath."""
    before = [move for move in unfinished(tx) if move.backend == backend]
    after = [
        replace(move, source=followed(move.source, source, target), target=followed(move.target, source, target))
        for move in before
    ]
    return [new for old, new in zip(before, after, strict=True) if new != old]


def rename(tx: Connection, move: Move) -> None:
    """Write the names that it has now."""
    names = {"source": bytes(move.source), "target": bytes(move.target)}
    tx.execute(update(moves).where(moves.c.id == move.id).values(**names))


def leave(tx: Connection, move_id: int) -> None:
    """Say that nobody works on it any more, though it is not settled."""
    tx.execute(update(moves).where(moves.c.id == move_id).values(process=None))


def remove(tx: Connection, move_id: int) -> None:
    tx.execute(delete(moves).where(moves.c.id == move_id))


def unfinished(tx: Connection) -> list[Move]:
    return [_move(row) for row in tx.execute(select(moves).order_by(moves.c.id)).mappings()]


def _move(row: RowMapping) -> Move:
    return Move(
        row["id"],
        row["backend"],
        path_from_column(row["source"]),
        path_from_column(row["target"]),
        identity_from_columns(row),
        row["process"],
    )
