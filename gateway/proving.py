"""Who has sent a request: the proof of the peer, from the signature on it."""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog
from sqlalchemy import Connection

from gateway.errors import Busy, PeerFailed, Unproven
from gateway.ocm.errors import ProtocolError
from gateway.ocm.signatures import Message, VerifiedRequest, find_signature, verify
from gateway.peers import Peers
from gateway.proof import Evidence, Peer
from gateway.store import peers, seen_signatures
from gateway.store.engine import Store
from gateway.trust import Trust

REPLAY_WINDOW = 600  # seconds a signature is remembered: the freshness window and the clock skew, twice

log = structlog.get_logger()


class Proving:
    """Makes Peers: nobody else does."""

    def __init__(
        self,
        store: Store,
        known: Peers,
        trust: Trust,
        clock: Callable[[], float] = time.time,
        *,
        weakest: Evidence = Evidence.NONE,
    ) -> None:
        """Refuse whoever is proved by less than `weakest`."""
        self._weakest = weakest
        self._store = store
        self._peers = known
        self._trust = trust
        self._clock = clock

    async def prove(self, message: Message, server: str, *, once: bool = False) -> Peer:
        """Return who sent `message`, which speaks for `server`, by the signature on it.

        An unsigned message from a server that signs is refused, one from a server that cannot sign gives a Peer
        without evidence. `once`: refuse a second message with the same signature. Raises Unproven, Busy when the
        server's keys cannot be fetched now, NotAllowed.
        """
        await self._trust.require(server)
        try:
            found = find_signature(message.headers, accept_labelled=True)
            if found is None:
                return await self._unsigned(server)
            verified = await self._verified(message, server)
        except ProtocolError as error:
            base = getattr(error, "signature_base", None)
            log.warning("signature refused", peer=server, code=error.code, reason=str(error), signature_base=base)
            raise Unproven(error.code, f"{server}: {error}") from error
        except PeerFailed as error:
            if error.code == "NO_JWKS":  # it has answered, and this is what it has
                raise Unproven("KEY_NOT_FOUND", str(error)) from error
            raise Busy("SENDER_UNREACHABLE", f"who speaks for {server} cannot be verified: {error}") from error
        return await self._proved(server, verified, once)

    async def _unsigned(self, server: str) -> Peer:
        Peer(server, Evidence.NONE).require(self._weakest)
        record = await self._store.read(lambda tx: peers.get(tx, server))
        if not record.signs:
            try:
                discovery = await self._peers.discover(server)
                if "http-sig" in discovery.capabilities:
                    discovery = await self._peers.discover(server, fresh=True)
            except PeerFailed as error:
                raise Busy("SENDER_UNREACHABLE", f"{server} cannot be discovered: {error}") from error
            if "http-sig" not in discovery.capabilities:
                return Peer(server, Evidence.NONE)
        raise Unproven("SIGNATURE_REQUIRED", f"{server} signs its requests, and this one is not signed")

    async def _verified(self, message: Message, server: str) -> VerifiedRequest:
        """Verify with the cached keys, and once more with fresh ones: the peer may have rotated."""
        now = int(self._clock())
        try:
            return verify(message, await self._peers.jwks(server), now=now)
        except ProtocolError as error:
            if error.code not in ("KEY_NOT_FOUND", "SIGNATURE_INVALID"):
                raise
        return verify(message, await self._peers.jwks(server, fresh=True), now=now)

    async def _proved(self, server: str, verified: VerifiedRequest, once: bool) -> Peer:
        now = int(self._clock())
        peer = Peer(server, Evidence.RFC9421 if verified.tagged else Evidence.LABELLED)
        peer.require(self._weakest)

        def work(tx: Connection) -> bool:
            record = peers.get(tx, server)
            if verified.tagged and not record.signs:
                peers.put(tx, server, signs=True)
            if not verified.tagged and record.signs:
                raise Unproven("SIGNATURE_REQUIRED", f"{server} has signed with a tag before, and now has not")
            return not once or seen_signatures.remember(tx, verified.signature_hash, now + REPLAY_WINDOW, now)

        if not await self._store.run(work):
            raise Unproven("SIGNATURE_REPLAYED", f"{server}: this signature was used before")
        return peer
