"""The signature on what we send: of the one kind that the receiver can verify, by our key for that."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable

from gateway.errors import PeerFailed, Refusal
from gateway.generations import signature_for
from gateway.legacy import Legacy, Way
from gateway.ocm import cavage
from gateway.ocm.discovery import Discovery
from gateway.ocm.signatures import Message, sign
from gateway.signing_keys import SigningKeys

WAYS = {"cavage": Way.CAVAGE, "none": Way.UNSIGNED}  # which the operator may have closed


class Signing:
    """Signs requests to other servers."""

    def __init__(self, keys: SigningKeys, legacy: Legacy, clock: Callable[[], float] = time.time) -> None:
        self.keys = keys
        self._legacy = legacy
        self._clock = clock

    async def headers(self, server: str, discovery: Discovery, url: str, body: bytes) -> dict[str, str]:
        """Return the headers that sign a POST of `body` to `url`, none for a peer that verifies nothing.

        Raises PeerFailed where only a way is left that is closed to `server`.
        """
        scheme, algorithm = signature_for(discovery)
        if way := WAYS.get(scheme):
            try:
                await self._legacy.use(way, server)
            except Refusal as error:  # final: asking again changes nothing as long as both say what they say
                raise PeerFailed("LEGACY_DENIED", f"nothing is sent to {server}: {error}", 501) from error
        if scheme == "none":
            return {}
        message, now = Message("POST", url, (), body), int(self._clock())
        if scheme == "cavage":
            return cavage.sign(message, self.keys.cavage_key(), now)
        return sign(message, self.keys.signing_key(algorithm), now, nonce=secrets.token_urlsafe(16))
