"""Received Shares written as files: each copy as a whole, and the version that each of its files has."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, delete, insert, select, text, update
from sqlalchemy.engine import RowMapping

from backends.paths import StoragePath
from gateway.store.rows import path_from_column
from gateway.store.tables import kept, kept_files

RUNNING, INTERRUPTED = "running", "interrupted"

# Built once: every file of a copy runs both.
_FIND = select(kept_files.c.version, kept_files.c.etag).where(
    kept_files.c.share == bindparam("share"),
    kept_files.c.backend == bindparam("backend"),
    kept_files.c.path == bindparam("path"),
)
_PUT = text(
    "INSERT INTO kept_files (share, backend, path, version, etag) VALUES (:share, :backend, :path, :version, :etag)"
    " ON CONFLICT (share, backend, path) DO UPDATE SET version = excluded.version, etag = excluded.etag"
)


@dataclass(frozen=True, slots=True)
class Kept:
    """One copy: `source` is a path in the Share, `target` one in the user's tree."""

    share: str
    source: StoragePath
    target: StoragePath
    state: str
    reason: str | None
    files: int
    bytes: int
    skipped: int
    failed: int
    begun: int
    ended: int | None


@dataclass(frozen=True, slots=True)
class Version:
    """What a file was copied from, and what it is since, as etags of the one storage and of the other."""

    source: str
    target: str


def put(tx: Connection, copy: Kept) -> None:
    """Write the row of a copy anew."""
    values = {"source": bytes(copy.source), "target": bytes(copy.target)}
    where = (kept.c.share == copy.share, *(kept.c[name] == value for name, value in values.items()))
    tx.execute(delete(kept).where(*where))
    numbers = {name: getattr(copy, name) for name in ("files", "bytes", "skipped", "failed", "begun", "ended")}
    tx.execute(insert(kept).values(share=copy.share, **values, state=copy.state, reason=copy.reason, **numbers))


def of_share(tx: Connection, share: str) -> list[Kept]:
    """Return the copies of a Share, oldest first."""
    query = select(kept).where(kept.c.share == share).order_by(kept.c.begun, kept.c.target)
    return [_kept(row) for row in tx.execute(query).mappings()]


def interrupt(tx: Connection) -> None:
    """Say of every copy that was running that it was broken off."""
    tx.execute(update(kept).where(kept.c.state == RUNNING).values(state=INTERRUPTED))


def version(tx: Connection, share: str, backend: str, path: StoragePath) -> Version | None:
    """Return what a Share's file at a place in storage was copied from."""
    row = tx.execute(_FIND, {"share": share, "backend": backend, "path": bytes(path)}).first()
    return Version(*row) if row else None


def set_version(tx: Connection, share: str, backend: str, path: StoragePath, known: Version) -> None:
    values = {"share": share, "backend": backend, "path": bytes(path)}
    tx.execute(_PUT, {**values, "version": known.source, "etag": known.target})


def forget_versions(tx: Connection, share: str) -> None:
    """Forget the versions of a Share that has ended: nothing can be copied from it any more."""
    tx.execute(delete(kept_files).where(kept_files.c.share == share))


def _kept(row: RowMapping) -> Kept:
    paths = {name: path_from_column(row[name]) for name in ("source", "target")}
    return Kept(**{**dict(row), **paths})
