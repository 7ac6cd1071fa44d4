"""The identity of each storage root, recorded at its first start."""

from __future__ import annotations

from sqlalchemy import Connection, delete, insert, select

from gateway.store.tables import backend_roots


def get(tx: Connection, backend: str) -> str | None:
    return tx.execute(select(backend_roots.c.identity).where(backend_roots.c.backend == backend)).scalar()


def names(tx: Connection) -> set[str]:
    """Return the backends whose root was seen once."""
    return set(tx.execute(select(backend_roots.c.backend)).scalars())


def everything(tx: Connection) -> dict[str, str]:
    """Return the identities by backend."""
    rows = tx.execute(select(backend_roots.c.backend, backend_roots.c.identity))
    return {row.backend: row.identity for row in rows}


def put(tx: Connection, backend: str, identity: str) -> None:
    tx.execute(delete(backend_roots).where(backend_roots.c.backend == backend))
    tx.execute(insert(backend_roots).values(backend=backend, identity=identity))
