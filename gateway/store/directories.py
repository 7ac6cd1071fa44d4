"""Directory Services: the last good list of each as it was received, and how the last look went."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select, update

from gateway.store.tables import directories


@dataclass(frozen=True, slots=True)
class DirectoryRecord:
    """`version` is another one for each list that is kept, 0 as long as there is none; times are seconds."""

    url: str
    version: int = 0
    fetched: int | None = None
    checked: int | None = None
    problem: str | None = None


_COLUMNS = tuple(directories.c[name] for name in ("url", "version", "fetched", "checked", "problem"))


def everything(tx: Connection) -> dict[str, DirectoryRecord]:
    """Return the records by URL."""
    return {row["url"]: DirectoryRecord(**row) for row in tx.execute(select(*_COLUMNS)).mappings()}


def document(tx: Connection, url: str) -> bytes | None:
    """Return the last good list, None when there is none."""
    return tx.execute(select(directories.c.document).where(directories.c.url == url)).scalar()


def keep(tx: Connection, url: str, document: bytes, now: int) -> None:
    """Keep a good list in the place of the last one."""
    version = directories.c.version + 1
    values = {"document": document, "fetched": now, "checked": now, "problem": None}
    changed = tx.execute(update(directories).where(directories.c.url == url).values(version=version, **values))
    if changed.rowcount == 0:
        tx.execute(insert(directories).values(url=url, version=1, **values))


def note_failure(tx: Connection, url: str, problem: str, now: int) -> None:
    """Note why the last look brought nothing; the list that is kept stays."""
    values = {"checked": now, "problem": problem}
    if tx.execute(update(directories).where(directories.c.url == url).values(**values)).rowcount == 0:
        tx.execute(insert(directories).values(url=url, version=0, **values))


def forget_others(tx: Connection, urls: Collection[str]) -> None:
    """Drop what is kept of Directory Services other than those at `urls`."""
    tx.execute(delete(directories).where(directories.c.url.not_in(urls)))
