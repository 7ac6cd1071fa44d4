"""Uploads that were left unfinished: who may go on with which, and how much of it is durable."""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from dataclasses import dataclass, replace

from sqlalchemy import Connection, delete, func, insert, select, update
from sqlalchemy.engine import RowMapping

from backends.errors import InvalidPath
from backends.interface import Parked
from backends.paths import StoragePath
from gateway.store.rows import identity_from_columns, identity_to_columns, path_from_column
from gateway.store.tables import uploads


@dataclass(frozen=True, slots=True)
class Upload:
    """`total` are the bytes that the whole will have; of these, `parked.size` are durable in the storage."""

    principal: str
    backend: str
    path: StoragePath
    total: int
    parked: Parked
    expires: int


def find(tx: Connection, principal: str, backend: str, path: StoragePath, total: int) -> Upload | None:
    found = [upload for upload in at(tx, principal, backend, path) if upload.total == total]
    return found[0] if found else None


def at(tx: Connection, principal: str, backend: str, path: StoragePath) -> list[Upload]:
    """Return what `principal` has left for one path: uploads of different lengths."""
    where = (uploads.c.principal == principal, uploads.c.backend == backend, uploads.c.path == bytes(path))
    return [_upload(row) for row in tx.execute(select(uploads).where(*where)).mappings()]


def below(tx: Connection, backend: str, directory: StoragePath) -> list[Upload]:
    """Return what lies in or below a directory, which is not the root."""
    prefix = bytes(directory)
    # `0` follows `/` in ASCII, so these are all the paths that begin with `prefix/`.
    inside = (uploads.c.path >= prefix + b"/") & (uploads.c.path < prefix + b"0")
    query = select(uploads).where(uploads.c.backend == backend, inside)
    return [_upload(row) for row in tx.execute(query).mappings()]


def of_backend(tx: Connection, backend: str) -> list[Upload]:
    return [_upload(row) for row in tx.execute(select(uploads).where(uploads.c.backend == backend)).mappings()]


def principals(tx: Connection) -> frozenset[str]:
    """Return who has left anything."""
    return frozenset(tx.execute(select(uploads.c.principal).distinct()).scalars())


def backends(tx: Connection) -> set[str]:
    """Return where anything was left."""
    return set(tx.execute(select(uploads.c.backend).distinct()).scalars())


def forget_expired(tx: Connection, configured: Collection[str], now: float) -> None:
    """Remove the rows that have expired, but for those of backends that are `configured`."""
    tx.execute(delete(uploads).where(uploads.c.backend.not_in(configured), uploads.c.expires <= now))


def count(tx: Connection, principal: str, now: float) -> int:
    """Count what `principal` has left and may still go on with."""
    query = select(func.count()).where(uploads.c.principal == principal, uploads.c.expires > now)
    return int(tx.execute(query).scalar_one())


def is_kept(tx: Connection, token: str, now: float) -> bool:
    query = select(uploads.c.token).where(uploads.c.token == token, uploads.c.expires > now)
    return tx.execute(query).first() is not None


def put(tx: Connection, upload: Upload) -> None:
    """Write the row of its token anew."""
    remove(tx, upload.parked.token)
    tx.execute(
        insert(uploads).values(
            token=upload.parked.token,
            principal=upload.principal,
            backend=upload.backend,
            path=bytes(upload.path),
            total=upload.total,
            size=upload.parked.size,
            **identity_to_columns(upload.parked.identity),
            expires=upload.expires,
        )
    )


def claim(tx: Connection, token: str, size: int) -> bool:
    """Say that from now on only `size` bytes are durable; tells whether there were as many."""
    wanted = (uploads.c.token == token) & (uploads.c.size >= size)
    return tx.execute(update(uploads).where(wanted).values(size=size)).rowcount == 1


def expire(tx: Connection, token: str) -> None:
    """Say that nobody may go on with it, though it is still in the storage."""
    tx.execute(update(uploads).where(uploads.c.token == token).values(expires=0))


def move(tx: Connection, backend: str, source: StoragePath, target: StoragePath) -> None:
    """Let what lies in the directory `source` follow it to `target`; what was there before has been replaced."""
    for upload in below(tx, backend, source):
        remove(tx, upload.parked.token)
        with contextlib.suppress(InvalidPath):  # too long now
            path = target.join(upload.path.relative_to(source))
            if replaced := find(tx, upload.principal, backend, path, upload.total):
                remove(tx, replaced.parked.token)
            put(tx, replace(upload, path=path))


def remove(tx: Connection, token: str) -> None:
    tx.execute(delete(uploads).where(uploads.c.token == token))


def _upload(row: RowMapping) -> Upload:
    return Upload(
        principal=row["principal"],
        backend=row["backend"],
        path=path_from_column(row["path"]),
        total=row["total"],
        parked=Parked(row["token"], row["size"], identity_from_columns(row)),
        expires=row["expires"],
    )
