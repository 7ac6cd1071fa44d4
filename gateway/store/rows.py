"""Columns <-> values of the domain: permissions as a frozen set, paths as StoragePath, identities as one value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import ColumnElement, bindparam, or_
from sqlalchemy.engine import RowMapping

from backends.interface import Identity
from backends.paths import NAME_MAX, StoragePath
from gateway.ocm.shares import Permission

_BEYOND = b"\xff" * (NAME_MAX + 1)  # sorts behind every path: a name is shorter, and what follows it is a slash


def permissions_to_column(permissions: Iterable[Permission]) -> list[str]:
    """Return the wire's list, in the order of the specification."""
    granted = frozenset(permissions)
    return [permission.value for permission in Permission if permission in granted]


def permissions_from_column(column: list[str]) -> frozenset[Permission]:
    return frozenset(map(Permission, column))


def path_from_column(column: bytes) -> StoragePath:
    return StoragePath.parse(column)


def followed(path: StoragePath, source: StoragePath, target: StoragePath) -> StoragePath:
    """Return what `path` is called once `source` has the name `target`; raises InvalidPath where that is too long."""
    return target.join(path.relative_to(source)) if path.is_within(source) else path


def at_or_below(column: ColumnElement[bytes]) -> ColumnElement[bool]:
    """Return the condition that a column of paths holds a path or one below it, in a form that an index answers.

    Its parameters are those of `bounds`, so that a statement is built once: building one takes longer than it runs.
    """
    return or_(column == bindparam("at"), (column >= bindparam("low")) & (column < bindparam("high")))


def bounds(path: StoragePath) -> Mapping[str, bytes]:
    """Return the parameters of `at_or_below` for `path`."""
    if path.is_root:
        return {"at": b"", "low": b"", "high": _BEYOND}
    # `0` follows `/` in ASCII: [low, high) are all the paths that begin with `low`.
    return {"at": bytes(path), "low": bytes(path) + b"/", "high": bytes(path) + b"0"}


def identity_from_columns(row: RowMapping) -> Identity | None:
    if row["inode"] is None:
        return None
    return Identity(_unsigned(row["device"]), _unsigned(row["inode"]))


def identity_to_columns(identity: Identity | None) -> Mapping[str, Any]:
    if identity is None:
        return {"device": None, "inode": None}
    return {"device": _signed(identity.device), "inode": _signed(identity.inode)}


def _signed(value: int) -> int:
    """Fold an unsigned 64-bit number of the kernel into the signed 64 bits that a database has."""
    return value - (1 << 64) if value >= 1 << 63 else value


def _unsigned(value: int) -> int:
    return value + (1 << 64) if value < 0 else value
