"""The signature on a message, verified with the keys that its server publishes: the cached ones, then fresh ones."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import structlog

from gateway.ocm import cavage
from gateway.ocm.cavage import CavageKey
from gateway.ocm.discovery import Discovery
from gateway.ocm.errors import SignatureInvalid
from gateway.ocm.signatures import Message, VerifiedRequest, find_signature, verify
from gateway.peers import Peers
from gateway.proof import Evidence
from gateway.store import peers
from gateway.store.engine import Store

# With these a fresh look at what the server publishes may help: it may have rotated its keys.
PERHAPS_ROTATED = ("KEY_NOT_FOUND", "SIGNATURE_INVALID")

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Signed:
    """What a signature proves; made by `Verifying` only."""

    evidence: Evidence
    signature_hash: bytes
    pinned_key: Mapping[str, str] | None = None  # of draft-cavage: what the name of the key means from now on


class Verifying:
    """Verifies signatures of all generations."""

    def __init__(self, store: Store, known: Peers, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._peers = known
        self._clock = clock

    async def signature_on(self, message: Message, server: str) -> Signed | None:
        """Return what the signature on `message`, which speaks for `server`, proves; None if it is unsigned to OCM.

        Raises SignatureInvalid, Malformed, PeerFailed, NotAllowed.
        """
        if find_signature(message.headers, accept_labelled=True) is not None:
            verified = await self._rfc9421(message, server)
            return Signed(Evidence.RFC9421 if verified.tagged else Evidence.LABELLED, verified.signature_hash)
        return await self._cavage(message, server) if cavage.is_signed(message.headers) else None

    async def _rfc9421(self, message: Message, server: str) -> VerifiedRequest:
        now = int(self._clock())
        try:
            return verify(message, await self._peers.jwks(server), now=now)
        except SignatureInvalid as error:
            if error.code not in PERHAPS_ROTATED:
                raise
        return verify(message, await self._peers.jwks(server, fresh=True), now=now)

    async def _cavage(self, message: Message, server: str) -> Signed | None:
        """Return the proof by the key in discovery, None where there is none: the header is somebody's own then."""
        discovery = await self._peers.discover(server)
        if CavageKey.published(discovery.public_key) is None:
            discovery = await self._peers.discover(server, fresh=True)  # it may have begun to sign
        if CavageKey.published(discovery.public_key) is None:
            reason = "the discovery of its server has no publicKey with keyId and publicKeyPem"
            log.info("a Signature header counts as none", peer=server, reason=reason)
            return None
        try:
            return await self._by_published_key(message, server, discovery)
        except SignatureInvalid as error:
            if error.code not in PERHAPS_ROTATED:
                raise
        return await self._by_published_key(message, server, await self._peers.discover(server, fresh=True))

    async def _by_published_key(self, message: Message, server: str, discovery: Discovery) -> Signed:
        key = CavageKey.published(discovery.public_key)
        if key is None:
            raise SignatureInvalid("KEY_NOT_FOUND", f"{server} publishes no key any more")
        pinned = (await self._store.read(lambda tx: peers.get(tx, server))).pinned_key
        pin = {"key_id": key.key_id, "fingerprint": key.fingerprint}
        if pinned and pinned["key_id"] == key.key_id and pinned != pin:
            reason = f"{server} has another key under the old name {key.key_id!r}; `peer forget {server}` takes it"
            raise SignatureInvalid("KEY_CHANGED", reason)
        verified = cavage.verify(message, key, server, now=self._clock())
        return Signed(Evidence.CAVAGE, verified.signature_hash, pin)
