"""Listings of received folders as they were last seen, for the time when their server does not answer.

What is in the state is one packed row for each folder: read and written as a whole, never searched.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence

from sqlalchemy import Connection, delete, insert, select

from backends.interface import Entry, Kind
from backends.paths import StoragePath
from gateway.store.tables import last_seen

Listing = tuple[Entry, ...]  # the folder itself, then what is in it


def put(tx: Connection, share: str, path: StoragePath, listing: Sequence[Entry], taken: int, keep: int) -> None:
    """Keep a listing, and of all the Share's the `keep` that were taken last."""
    where = last_seen.c.share == share, last_seen.c.path == bytes(path)
    tx.execute(delete(last_seen).where(*where))
    tx.execute(insert(last_seen).values(share=share, path=bytes(path), taken=taken, content=pack(listing)))
    newest = select(last_seen.c.path).where(last_seen.c.share == share).order_by(last_seen.c.taken.desc())
    surplus = tx.execute(newest.offset(keep)).scalars().all()
    if surplus:
        tx.execute(delete(last_seen).where(last_seen.c.share == share, last_seen.c.path.in_(surplus)))


def get(tx: Connection, share: str, path: StoragePath) -> tuple[int, Listing] | None:
    """Return when a folder was last listed, in seconds since the epoch, and what was there."""
    query = select(last_seen.c.taken, last_seen.c.content)
    row = tx.execute(query.where(last_seen.c.share == share, last_seen.c.path == bytes(path))).first()
    return (row[0], unpack(row[1])) if row else None


def forget(tx: Connection, share: str) -> None:
    tx.execute(delete(last_seen).where(last_seen.c.share == share))


def pack(listing: Sequence[Entry]) -> bytes:
    rows = [[_text(each.name), each.is_directory, each.size, each.modified, each.etag] for each in listing]
    return zlib.compress(json.dumps(rows, separators=(",", ":")).encode(), 1)


def unpack(content: bytes) -> Listing:
    return tuple(
        Entry(name.encode("latin-1"), Kind.DIRECTORY if is_directory else Kind.FILE, size, modified, etag)
        for name, is_directory, size, modified, etag in json.loads(zlib.decompress(content))
    )


def _text(name: bytes) -> str:
    """Return the bytes of a name, each as one character: names need not be UTF-8."""
    return name.decode("latin-1")
