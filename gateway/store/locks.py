"""Write locks (RFC 4918 §6), by place in storage and never by address: whoever reaches the place meets the lock."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Result, and_, bindparam, delete, func, insert, or_, select, update

from backends.paths import StoragePath
from gateway.store.rows import at_or_below, bounds, path_from_column
from gateway.store.tables import locks

_OF_BACKEND = locks.c.backend == bindparam("backend")
_BELOW = and_(_OF_BACKEND, at_or_below(locks.c.path))
# Statements of every request, built once: building one takes longer than it runs.
_ANY = select(locks.c.token).where(_OF_BACKEND).limit(1)
_ABOVE = locks.c.path.in_(bindparam("above", expanding=True))
_NEAR = select(locks).where(_OF_BACKEND, _ABOVE, locks.c.expires > bindparam("now"))
_NEAR_AND_BELOW = select(locks).where(
    _OF_BACKEND, or_(_ABOVE, at_or_below(locks.c.path)), locks.c.expires > bindparam("now")
)
_ANY_BELOW = select(locks.c.token).where(_BELOW).limit(1)
_REMOVE_BELOW = delete(locks).where(_BELOW)
_REMOVE_STRICTLY_BELOW = delete(locks).where(_BELOW, locks.c.path != bindparam("at"))


@dataclass(frozen=True, slots=True)
class Lock:
    """One lock; `path` is its root, `owner` what the client says of itself, `expires` in seconds since the epoch."""

    token: str
    backend: str
    path: StoragePath
    exclusive: bool
    deep: bool
    principal: str
    owner: str | None
    expires: int

    def covers(self, path: StoragePath) -> bool:
        """Tell whether the lock is one on `path` in its storage."""
        return self.path == path or (self.deep and path.is_within(self.path))


def add(tx: Connection, lock: Lock) -> None:
    values = {name: getattr(lock, name) for name in Lock.__dataclass_fields__}
    tx.execute(insert(locks).values(values | {"path": bytes(lock.path)}))


def get(tx: Connection, token: str, now: int) -> Lock | None:
    query = select(locks).where(locks.c.token == token, locks.c.expires > now)
    return next(iter(_locks(tx.execute(query))), None)


def near(tx: Connection, backend: str, path: StoragePath, now: int, *, tree: bool) -> list[Lock]:
    """Return the locks on `path` and on each folder that it lies in, and with `tree` those below it."""
    if tx.execute(_ANY, {"backend": backend}).first() is None:
        return []
    above = [bytes(StoragePath(path.parts[:count])) for count in range(len(path.parts) + 1)]
    given = {"backend": backend, "above": above, "now": now, **(bounds(path) if tree else {})}
    return _locks(tx.execute(_NEAR_AND_BELOW if tree else _NEAR, given))


def count_of(tx: Connection, principal: str) -> int:
    return tx.execute(select(func.count()).select_from(locks).where(locks.c.principal == principal)).scalar_one()


def set_expires(tx: Connection, tokens: Iterable[str], expires: int) -> None:
    tx.execute(update(locks).where(locks.c.token.in_(list(tokens))).values(expires=expires))


def remove(tx: Connection, token: str) -> None:
    tx.execute(delete(locks).where(locks.c.token == token))


def remove_below(tx: Connection, backend: str, path: StoragePath, *, spare_root: bool) -> None:
    """Remove the locks whose roots are at `path` or below it; `spare_root` leaves those at `path` itself."""
    tx.execute(_REMOVE_STRICTLY_BELOW if spare_root else _REMOVE_BELOW, {"backend": backend, **bounds(path)})


def remove_of(tx: Connection, principal: str) -> None:
    tx.execute(delete(locks).where(locks.c.principal == principal))


def remove_expired(tx: Connection, now: int) -> None:
    tx.execute(delete(locks).where(locks.c.expires <= now))


def exists_below(tx: Connection, backend: str, path: StoragePath) -> bool:
    return tx.execute(_ANY_BELOW, {"backend": backend, **bounds(path)}).first() is not None


def _locks(result: Result[Any]) -> list[Lock]:
    return [Lock(**{**row, "path": path_from_column(row["path"])}) for row in result.mappings()]
