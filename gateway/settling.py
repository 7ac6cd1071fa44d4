"""What crashes have left, settled as soon as the storage it lies on answers, and never on anybody's path.

At the start each storage does this before all else (`app/running.py`). One that was away then, and the Remote
Resources of received Shares, are asked again here, while rows are left that nobody works on: of dead processes, and of
our own work that has ended without being able to write that down.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import structlog
from sqlalchemy import Connection

from backends.errors import StorageError
from gateway.files import Moves
from gateway.roots import as_service
from gateway.store import moves, received_shares, replacements
from gateway.store.engine import Store
from gateway.tree import Storage

AGAIN = 300.0  # seconds between two attempts

log = structlog.get_logger()


class Settling:
    """Settles in the background."""

    def __init__(
        self,
        store: Store,
        moving: Moves,
        storages: Mapping[str, Storage],
        remote: Callable[[str], Awaitable[Storage | None]],
    ) -> None:
        """`remote` gives the storage of a received Share by its name; None once the Share has ended."""
        self._store = store
        self._moving = moving
        self._storages = storages
        self._remote = remote
        self._tried: set[str] = set()  # at this moment

    async def run(self) -> None:
        """Try now and every AGAIN seconds, whatever still hangs."""
        async with asyncio.TaskGroup() as group:
            while True:
                group.create_task(self._try())
                await asyncio.sleep(AGAIN)

    async def _try(self) -> None:
        try:
            await self.once()
        except Exception:  # an error of ours must not end what is tried again
            log.exception("settling failed")

    async def once(self) -> None:
        """Try each storage that still has rows and is not being tried, side by side: one that hangs delays no other."""
        names = await self._store.read(_backends) - self._tried
        self._tried |= names
        await asyncio.gather(*map(self._settle, names))

    async def _settle(self, name: str) -> None:
        try:
            local = self._storages.get(name)
            storage = local if local is not None else await self._remote(name)
            if storage is not None:
                await storage.pool.run(self._moving.replay, {name: as_service(storage)})
            elif name.startswith(received_shares.STORAGE):  # nobody has a right to touch what is left there
                await self._store.run(lambda tx: replacements.forget(tx, name))
        except StorageError as error:
            log.info("not settled yet", backend=name, reason=str(error))
        finally:
            self._tried.discard(name)


def _backends(tx: Connection) -> set[str]:
    return {move.backend for move in moves.unfinished(tx)} | {row.backend for row in replacements.unfinished(tx)}
