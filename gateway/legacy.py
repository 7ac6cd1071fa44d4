"""Ways to deal with a peer that prove less than the draft's own: which are open to whom, and when each was last used.

An operator closes one (`federation.legacy`) when nobody needs it any more; what `peer show` and the metrics say of the
last uses tells when that is.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import StrEnum

import structlog

from backends.errors import Unavailable
from gateway.errors import NotAllowed, Refusal, Unproven
from gateway.store import peers
from gateway.store.engine import Store

NOTED_EVERY = 60  # seconds for each way and peer, so that a use costs nothing
NOTED_KEPT = 10_000  # ways and peers


class Way(StrEnum):
    """A way, by the name of its key under `federation.legacy`."""

    BASIC = "basic"  # a Share's secret as the user name of Basic, at our door and at a peer's
    BEARER_SECRET = "bearer_secret"  # the same as Bearer, without the token exchange  # noqa: S105 -- a name
    UNSIGNED = "unsigned"  # a message without signature, from a peer and to one
    CAVAGE = "cavage"  # one with a signature of draft-cavage


SECRET_WAYS = frozenset({Way.BASIC, Way.BEARER_SECRET})

log = structlog.get_logger()

Policy = Callable[[Way, str], bool]  # is this way open to this server?


class Legacy:
    """The operator's decision about each way, and the memory of its uses."""

    def __init__(
        self,
        store: Store,
        policy: Policy = lambda _way, _server: True,
        *,
        count: Callable[[str], None] = lambda _way: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Ask `policy` which ways are open, all if it is left out, and tell `count` of each use."""
        self._store = store
        self._policy = policy
        self._count = count
        self._clock = clock
        self._noted: dict[tuple[str, str], float] = {}

    def is_open(self, way: Way, server: str) -> bool:
        return self._policy(way, server)

    async def use(self, way: Way, server: str) -> None:
        """Note that `way` is used between `server` and us; raises Unproven or NotAllowed where it is closed."""
        if not self.is_open(way, server):
            raise self._refusal(way, server)
        self._count(way.value)
        now = self._clock()
        if now - self._noted.get((way.value, server), float("-inf")) < NOTED_EVERY:
            return
        if len(self._noted) >= NOTED_KEPT:
            self._noted.clear()
        self._noted[way.value, server] = now
        try:
            await self._store.run(lambda tx: peers.note_use(tx, server, way.value, int(now)))
        except Unavailable as error:  # a full disk is no reason to keep anybody from reading
            log.warning("the use of a legacy way is not recorded", peer=server, way=way.value, reason=str(error))

    def _refusal(self, way: Way, server: str) -> Refusal:
        """Return 401 where another credential or a signature would do, so that the peer tries; else 403.

        A client that gets 401 for a secret tries the other way with it, and ownCloud 10 takes 401 for the end of the
        Share (peers.md sections 3a and 3b).
        """
        sentence = f"the way {way.value} is closed to {server}; federation.legacy.{way.value} opens it"
        if way in SECRET_WAYS and not any(self.is_open(other, server) for other in SECRET_WAYS):
            return NotAllowed("LEGACY_DENIED", sentence)
        return Unproven("SIGNATURE_REQUIRED" if way is Way.UNSIGNED else "LEGACY_DENIED", sentence)
