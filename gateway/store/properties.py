"""Dead properties (RFC 4918 §4), by place in storage; the value is the element as XML."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, and_, bindparam, delete, insert, select

from backends.paths import StoragePath
from gateway.store.rows import at_or_below, bounds, path_from_column
from gateway.store.tables import properties

_BELOW = and_(properties.c.backend == bindparam("backend"), at_or_below(properties.c.path))
# Statements of every request, built once: building one takes longer than it runs.
_ANY_BELOW = select(properties.c.name).where(_BELOW).limit(1)
_OF = select(properties.c.path, properties.c.name, properties.c.value).where(
    properties.c.backend == bindparam("backend"), properties.c.path.in_(bindparam("paths", expanding=True))
)
_ALL_BELOW = select(properties.c.path, properties.c.name, properties.c.value).where(_BELOW)
_REMOVE_BELOW = delete(properties).where(_BELOW)

ROWS = 500  # paths in one statement; SQLite takes 32,766 values in all


def of(tx: Connection, backend: str, paths: Iterable[StoragePath]) -> dict[StoragePath, dict[str, str]]:
    """Return name -> value for each of `paths` that has any."""
    found: dict[StoragePath, dict[str, str]] = {}
    wanted = [bytes(path) for path in paths]
    for start in range(0, len(wanted), ROWS):
        _collect(tx.execute(_OF, {"backend": backend, "paths": wanted[start : start + ROWS]}), found)
    return found


def below(tx: Connection, backend: str, path: StoragePath) -> dict[StoragePath, dict[str, str]]:
    """Return the same for `path` and everything below it."""
    found: dict[StoragePath, dict[str, str]] = {}
    _collect(tx.execute(_ALL_BELOW, {"backend": backend, **bounds(path)}), found)
    return found


def exists_below(tx: Connection, backend: str, path: StoragePath) -> bool:
    return tx.execute(_ANY_BELOW, {"backend": backend, **bounds(path)}).first() is not None


def put(tx: Connection, backend: str, path: StoragePath, values: Mapping[str, str]) -> None:
    """Add properties, of which `path` must have none yet."""
    rows = [{"backend": backend, "path": bytes(path), "name": name, "value": value} for name, value in values.items()]
    if rows:
        tx.execute(insert(properties), rows)


def remove(tx: Connection, backend: str, path: StoragePath) -> None:
    tx.execute(delete(properties).where(properties.c.backend == backend, properties.c.path == bytes(path)))


def remove_below(tx: Connection, backend: str, path: StoragePath) -> None:
    """Remove those of `path` and of everything below it."""
    tx.execute(_REMOVE_BELOW, {"backend": backend, **bounds(path)})


def _collect(rows: Iterable[Any], found: dict[StoragePath, dict[str, str]]) -> None:
    for path, name, value in rows:
        found.setdefault(path_from_column(path), {})[name] = value
