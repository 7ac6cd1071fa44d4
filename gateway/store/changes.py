"""Generations of folders: what makes a folder's ETag another one when something in it has changed, however deep.

A row says when something was changed in a folder (`generation`), and since when all that is in it, at any depth, has
to be taken for changed (`below`): a whole tree has come to this name. A folder's generation is the largest of its own
and of the `below` of itself and of every folder above it; without any row it is 0. Every change is one in the root of
its backend too, so the root's row holds the newest value, and each new one is larger: none is ever given out twice.
They are nanoseconds since the epoch, so that this holds even if the state is lost or an old copy of it restored.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, delete, func, select, text, update

from backends.paths import StoragePath
from gateway.store.tables import changes

_ROOT = b""
# Built once: to build them takes longer than to run them, and every listing and every upload runs one.
_FIND = select(changes.c.path, changes.c.generation, changes.c.below).where(
    changes.c.backend == bindparam("backend"), changes.c.path.in_(bindparam("paths", expanding=True))
)
_FIND_ROOTS = select(changes.c.backend, changes.c.generation).where(
    changes.c.backend.in_(bindparam("backends", expanding=True)), changes.c.path == _ROOT
)
# The one form of an upsert that SQLite and PostgreSQL have in common; the root's own row has to be the last
_PUT = text("""
    INSERT INTO changes (backend, path, generation, below)
    SELECT :backend, :path, new.generation, CASE WHEN :whole = 1 THEN new.generation ELSE 0 END
    FROM (
        SELECT CASE WHEN newest.generation >= :now THEN newest.generation + 1 ELSE :now END AS generation
        FROM (SELECT COALESCE(MAX(generation), 0) AS generation FROM changes WHERE backend = :backend AND path = :root)
            AS newest
    ) AS new WHERE true
    ON CONFLICT (backend, path) DO UPDATE SET generation = excluded.generation,
    below = CASE WHEN excluded.below > changes.below THEN excluded.below ELSE changes.below END
""")


@dataclass(frozen=True, slots=True)
class Generation:
    """That of a folder, and the least one that everything in it has."""

    own: int
    below: int


def of(tx: Connection, backend: str, path: StoragePath) -> Generation:
    """Return the generation of the folder at `path`."""
    own = bytes(path)
    found = _rows(tx, backend, _chain(path))
    below = max((row.below for row in found.values()), default=0)
    return Generation(max(found[own].own, below) if own in found else below, below)


def of_members(tx: Connection, backend: str, path: StoragePath, names: Iterable[bytes]) -> dict[bytes, int]:
    """Return the generations of those folders `names` in `path` that have a row of their own."""
    prefix = bytes(path) + b"/" if path.parts else b""
    found = _rows(tx, backend, [prefix + name for name in names])
    return {key[len(prefix) :]: row.own for key, row in found.items()}


def rows(tx: Connection, backend: str, paths: Iterable[StoragePath]) -> dict[bytes, Generation]:
    """Return the rows of those folders `paths` that have one, by path, without a look at the folders above them."""
    return _rows(tx, backend, [bytes(path) for path in paths])


def of_roots(tx: Connection, backends: Iterable[str]) -> dict[str, int]:
    """Return the generations of the roots of those `backends` in which anything has ever changed."""
    return {row.backend: row.generation for row in tx.execute(_FIND_ROOTS, {"backends": list(backends)})}


def touch(tx: Connection, backend: str, folders: Iterable[StoragePath], trees: Iterable[StoragePath], now: int) -> None:
    """Give `folders`, `trees` and every folder above them a new generation, and `trees` with all that is in them.

    `now` is in nanoseconds since the epoch.
    """
    whole = {bytes(tree): True for tree in trees}
    touched: set[bytes] = set(whole)
    for folder in (*folders, *map(StoragePath.parse, whole)):
        touched.update(_chain(folder))
    touched.discard(_ROOT)
    constant = {"backend": backend, "now": now, "root": _ROOT}
    rows = [{"path": path, "whole": int(path in whole), **constant} for path in (*touched, _ROOT)]
    tx.execute(_PUT, rows)


def storages(tx: Connection) -> list[str]:
    """Return the storages in which anything has ever changed."""
    return list(tx.execute(select(changes.c.backend).where(changes.c.path == _ROOT)).scalars())


def rewrite(tx: Connection) -> None:
    """Write what is there once more: a transaction that writes nothing is not brought to the disk."""
    tx.execute(update(changes).where(changes.c.path == _ROOT).values(generation=changes.c.generation))


def prune(tx: Connection, backend: str, limit: int, now: int) -> int:
    """Forget all of `backend` when there are more than `limit` rows; returns how many went.

    A folder without its row must not show a value that it had before, so the whole backend is touched.
    """
    of_backend = changes.c.backend == backend
    if tx.execute(select(func.count()).where(of_backend)).scalar_one() <= limit:
        return 0
    gone = tx.execute(delete(changes).where(of_backend, changes.c.path != _ROOT))
    touch(tx, backend, [], [StoragePath()], now)
    return int(gone.rowcount)


def _rows(tx: Connection, backend: str, paths: list[bytes]) -> dict[bytes, Generation]:
    found = tx.execute(_FIND, {"backend": backend, "paths": paths})
    return {path: Generation(generation, below) for path, generation, below in found}


def _chain(path: StoragePath) -> list[bytes]:
    """Return the folder at `path` and those above it, down to the root."""
    return [b"/".join(path.parts[:count]) for count in range(len(path.parts), -1, -1)]
