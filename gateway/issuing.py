"""The token endpoint's use case: a Share's secret is exchanged for an access token (draft-07, Code Flow)."""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Callable

import structlog

from gateway.errors import TooMany
from gateway.limits import Allowance
from gateway.ocm.errors import TokenError
from gateway.ocm.secret import Secret
from gateway.ocm.tokens import TOKEN_SECONDS, TokenRequest, TokenResponse, mint_access_token
from gateway.proof import Evidence, Peer
from gateway.signing_keys import SigningKeys
from gateway.store import sent_shares
from gateway.store.engine import Store
from gateway.store.sealing import secret_hash
from gateway.store.sent_shares import SentShare

# reva asks before each operation and signs nothing (peers.md §8): room for a busy client, none for a flood.
UNSIGNED_BURST = 60
UNSIGNED_RATE = 10.0  # per second and Share

log = structlog.get_logger()


class Issuing:
    """Issues access tokens for sent Shares."""

    def __init__(self, store: Store, keys: SigningKeys, *, origin: str, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._keys = keys
        self._origin = origin
        self._clock = clock
        self._unsigned = Allowance(UNSIGNED_BURST, UNSIGNED_RATE)

    async def server_of_code(self, code: Secret) -> str:
        """Return the server of the Share whose secret is `code`; raises TokenError(invalid_grant)."""
        return (await self._share(code)).server

    async def issue(self, peer: Peer, request: TokenRequest) -> TokenResponse:
        """Exchange the secret for a token of at most TOKEN_SECONDS; raises TokenError (RFC 6749 §5.2), TooMany."""
        share = await self._share(request.code)
        self._limit(peer, share)
        now = int(self._clock())
        if share.server != peer.server or not share.opens(now):
            raise TokenError("invalid_grant", f"Share {share.id} does not open for {peer.server} now")
        expires = min(now + TOKEN_SECONDS, share.expiration or now + TOKEN_SECONDS)
        token = mint_access_token(
            self._keys.signing_key(),
            issuer=self._origin,
            subject=share.owner,
            audience=share.share_with,
            client_id=share.id,
            issued_at=now,
            expires_at=expires,
            jwt_id=secrets.token_urlsafe(16),
        )
        log.info("token issued", share=share.id, peer=peer.server, evidence=peer.evidence.word, seconds=expires - now)
        return TokenResponse(access_token=token, expires_in=expires - now)

    def _limit(self, peer: Peer, share: SentShare) -> None:
        """Where the code alone suffices, it does so only so often (wire.md, Code Flow); raises TooMany."""
        wait = 0.0 if peer.evidence > Evidence.NONE else self._unsigned.take(share.id)
        if wait:
            sentence = f"{share.server} asks for tokens of Share {share.id} too often without a signature"
            raise TooMany("TOO_MANY_REQUESTS", sentence, math.ceil(wait))

    async def _share(self, code: Secret) -> SentShare:
        digest = secret_hash(code.reveal())
        share = await self._store.read(lambda tx: sent_shares.by_secret_hash(tx, digest))
        if share is None:
            raise TokenError("invalid_grant", "the code opens no Share")
        return share
