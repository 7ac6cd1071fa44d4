"""Which servers may be dealt with at all; asked before the first byte goes to, or is believed from, any of them."""

from __future__ import annotations

import time
from collections.abc import Callable

from sqlalchemy import Connection

from gateway.errors import NoSuch, NotAllowed
from gateway.store import events, peers
from gateway.store.engine import Store

BLOCKED = "blocked"
TRUSTED = "trusted"


class Trust:
    """The operator's decisions about peers."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock

    async def require(self, server: str) -> None:
        """Return if `server` may be dealt with; raises NotAllowed when the operator has blocked it."""
        record = await self._store.read(lambda tx: peers.get(tx, server))
        if record.trust == BLOCKED:
            raise NotAllowed("UNTRUSTED_PROVIDER", f"{server} is blocked here; `peer trust {server}` opens it again")

    async def is_listed(self, server: str) -> bool:
        """Tell whether the operator has named `server` as one to be trusted."""
        record = await self._store.read(lambda tx: peers.get(tx, server))
        return record.trust == TRUSTED

    async def set(self, server: str, trust: str, actor: str) -> None:
        """Record that `server` is trusted or blocked."""
        now = int(self._clock())

        def work(tx: Connection) -> None:
            peers.put(tx, server, trust=trust)
            events.add(tx, at=now, actor=actor, action=f"peer.{trust}", subject=server)

        await self._store.run(work)

    async def forget(self, server: str, actor: str) -> None:
        """Drop what is known of `server`: trust, discovery, keys, and that it once signed."""
        now = int(self._clock())

        def work(tx: Connection) -> None:
            if not peers.forget(tx, server):
                raise NoSuch("NO_SUCH_PEER", f"nothing is known of {server}; `peer list` shows who is known")
            events.add(tx, at=now, actor=actor, action="peer.forget", subject=server)

        await self._store.run(work)
