"""Replacements on their way, each written before its first name appears in storage and forgotten after its last.

What is at `target` is set `aside`, what is to have its place comes from `arriving`: a name of our own for a copy, the
client's own for a move. The names follow the folders that they lie in.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.engine import RowMapping

from backends.interface import Identity
from backends.paths import StoragePath
from gateway.store.rows import followed, identity_from_columns, identity_to_columns, path_from_column
from gateway.store.tables import replacements


@dataclass(frozen=True, slots=True)
class Replacement:
    id: int
    backend: str
    target: StoragePath
    aside: StoragePath
    arriving: StoragePath
    is_copy: bool  # `arriving` is ours to remove; not any more once the copy has its name with all that belongs to it
    identity: Identity | None  # of what arrives, where it exists already
    process: str | None  # that works on it (`gateway/living.py`); None: nobody any more

    @property
    def names(self) -> tuple[StoragePath, StoragePath, StoragePath]:
        return self.target, self.aside, self.arriving

    def after(self, source: StoragePath, target: StoragePath) -> Replacement:
        """Return it with the names that it has once `source` is called `target`; raises InvalidPath."""
        if self.is_copy and self.target == source:
            return self  # what it was to replace goes away, and the copy stays where it is
        if (self.arriving, self.target) == (source, target):
            return self  # this is the move that it is about
        new_target, aside, arriving = (followed(name, source, target) for name in self.names)
        return replace(self, target=new_target, aside=aside, arriving=arriving)


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


def get(tx: Connection, row_id: int) -> Replacement | None:
    row = tx.execute(select(replacements).where(replacements.c.id == row_id)).mappings().first()
    return None if row is None else _replacement(row)


def along(tx: Connection, backend: str, source: StoragePath, target: StoragePath) -> list[Replacement]:
    """Return those that have other names once `source` is called `target`, with these names; raises InvalidPath."""
    before = [row for row in unfinished(tx) if row.backend == backend]
    after = [row.after(source, target) for row in before]
    return [new for old, new in zip(before, after, strict=True) if new != old]


def rename(tx: Connection, row: Replacement) -> None:
    """Write the names that it has now."""
    names = {"target": bytes(row.target), "aside": bytes(row.aside), "arriving": bytes(row.arriving)}
    tx.execute(update(replacements).where(replacements.c.id == row.id).values(**names))


def arrived(tx: Connection, row_id: int) -> None:
    """Say that a copy has its name, and all that belongs to it: nothing but what was set aside is left to remove."""
    tx.execute(update(replacements).where(replacements.c.id == row_id).values(is_copy=False))


def leave(tx: Connection, row_id: int) -> None:
    """Say that nobody works on it any more, though it is not done."""
    tx.execute(update(replacements).where(replacements.c.id == row_id).values(process=None))


def remove(tx: Connection, row_id: int) -> None:
    tx.execute(delete(replacements).where(replacements.c.id == row_id))


def forget(tx: Connection, backend: str) -> None:
    """Forget those on a storage that will not come back."""
    tx.execute(delete(replacements).where(replacements.c.backend == backend))


def unfinished(tx: Connection) -> list[Replacement]:
    return [_replacement(row) for row in tx.execute(select(replacements).order_by(replacements.c.id)).mappings()]


def _replacement(row: RowMapping) -> Replacement:
    return Replacement(
        row["id"],
        row["backend"],
        path_from_column(row["target"]),
        path_from_column(row["aside"]),
        path_from_column(row["arriving"]),
        row["is_copy"],
        identity_from_columns(row),
        row["process"],
    )
