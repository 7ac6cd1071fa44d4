"""Which servers may be dealt with at all; asked before the first byte goes to, or is believed from, any of them."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from enum import StrEnum

from sqlalchemy import Connection

from gateway.config import FederationConfig
from gateway.errors import NoSuch, NotAllowed
from gateway.store import events, peers
from gateway.store.engine import Store

BLOCKED = "blocked"
TRUSTED = "trusted"


class Standing(StrEnum):
    """What decides about a server; the first that applies, in this order."""

    BLOCKED = "blocked"  # `peer block`
    DENIED = "denylist"  # federation.denylist
    TRUSTED = "trusted"  # `peer trust`
    ALLOWED = "allowlist"  # federation.allowlist
    MEMBER = "directory"  # a Directory Service whose members are trusted
    UNLISTED = "unlisted"  # nobody has said anything


LISTED = frozenset({Standing.TRUSTED, Standing.ALLOWED, Standing.MEMBER})

# Why a server is refused, and what the operator can do about it.
REFUSED = {
    Standing.BLOCKED: "{server} is blocked here; `peer trust {server}` opens it again",
    Standing.DENIED: "{server} is on federation.denylist of the configuration here",
    Standing.UNLISTED: "{server} is not on federation.allowlist here; `peer trust {server}` admits it",
}


async def _no_member(_server: str) -> bool:
    return False


class Trust:
    """The operator's decisions about peers: those in the configuration, and those made by command."""

    def __init__(
        self,
        store: Store,
        clock: Callable[[], float] = time.time,
        *,
        lists: FederationConfig | None = None,
        is_member: Callable[[str], Awaitable[bool]] = _no_member,
    ) -> None:
        """Decide by the `lists` of the configuration; `is_member` tells of whom a trusted Directory Service vouches."""
        self._store = store
        self._clock = clock
        self._lists = lists or FederationConfig()
        self._is_member = is_member

    async def require(self, server: str) -> None:
        """Return if `server`, as host[:port] in its one form, may be dealt with; raises NotAllowed."""
        standing = await self._named(server)
        if standing is Standing.UNLISTED and (not self._lists.is_closed or await self._is_member(server)):
            return
        if standing in REFUSED:
            raise NotAllowed("UNTRUSTED_PROVIDER", REFUSED[standing].format(server=server))

    async def is_listed(self, server: str) -> bool:
        """Tell whether the operator, or a Directory Service that the operator trusts, has named `server`."""
        return await self.standing(server) in LISTED

    async def standing(self, server: str) -> Standing:
        """Return what decides about `server`."""
        standing = await self._named(server)
        if standing is Standing.UNLISTED and await self._is_member(server):
            return Standing.MEMBER
        return standing

    async def _named(self, server: str) -> Standing:
        """Return what the operator has said of `server`."""
        record = await self._store.read(lambda tx: peers.get(tx, server))
        if record.trust == BLOCKED:
            return Standing.BLOCKED
        if self._lists.denies(server):
            return Standing.DENIED
        if record.trust == TRUSTED:
            return Standing.TRUSTED
        return Standing.ALLOWED if self._lists.allows(server) else Standing.UNLISTED

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
