"""Who has sent a request: the proof of the peer, from the signature on it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import structlog
from sqlalchemy import Connection

from backends.errors import Unavailable
from gateway.errors import Busy, PeerFailed, Refusal, Unproven
from gateway.legacy import Legacy, Way
from gateway.limits import Allowance
from gateway.ocm.errors import Malformed, ProtocolError
from gateway.ocm.signatures import Message
from gateway.peers import Peers
from gateway.proof import Evidence, Peer
from gateway.store import peers, seen_signatures
from gateway.store.engine import Store
from gateway.trust import Trust
from gateway.verifying import Signed, Verifying

REPLAY_WINDOW = 600  # seconds a signature is remembered: the freshness window and the clock skew, twice
REFUSED_BURST, REFUSED_RATE = 3, 0.1  # how often and, per second, how much more often a peer's refusals are stored
SHOWN = 2048  # characters of a header or a signature base that are logged and kept

_KEY_ID = re.compile(r'keyid="([^"]*)"', re.IGNORECASE)

log = structlog.get_logger()


class Proving:
    """Makes Peers: nobody else does."""

    def __init__(
        self,
        store: Store,
        known: Peers,
        verifying: Verifying,
        trust: Trust,
        legacy: Legacy,
        *,
        must_use_http_sig: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """With `must_use_http_sig`, which is then among our criteria, nothing but a tagged signature is enough."""
        self._store = store
        self._peers = known
        self._verifying = verifying
        self._trust = trust
        self._legacy = legacy
        self._must_use_http_sig = must_use_http_sig
        self._clock = clock
        self._stored = Allowance(REFUSED_BURST, REFUSED_RATE)

    @property
    def takes_unsigned(self) -> bool:
        """Tell whether any message counts here that nobody has signed."""
        return not self._must_use_http_sig

    async def prove(self, message: Message, server: str, *, once: bool = False) -> Peer:
        """Return who sent `message`, which speaks for `server`, by the signature on it.

        An unsigned message from a server that signs is refused, one from a server that cannot sign gives a Peer
        without evidence. `once`: refuse a second message with the same signature. Raises Unproven, Malformed for a
        draft-cavage header that is none, Busy when the server's keys cannot be fetched now, NotAllowed.
        """
        await self._trust.require(server)
        try:
            signed = await self._verifying.signature_on(message, server)
            return await (self._unsigned(server) if signed is None else self._signed(server, signed, once))
        except PeerFailed as error:
            if error.code != "NO_JWKS":  # otherwise it has answered, and this is what it has
                raise Busy("SENDER_UNREACHABLE", f"who speaks for {server} cannot be verified: {error}") from error
            await self._refused(message, server, "KEY_NOT_FOUND", error)
            raise Unproven("KEY_NOT_FOUND", str(error)) from error
        except ProtocolError as error:
            await self._refused(message, server, error.code, error)
            if isinstance(error, Malformed):
                raise
            raise Unproven(error.code, f"{server}: {error}") from error
        except Unproven as error:
            await self._refused(message, server, error.code, error)
            raise

    async def _unsigned(self, server: str) -> Peer:
        record = await self._store.read(lambda tx: peers.get(tx, server))
        if not record.signs and self.takes_unsigned:
            discovery = await self._peers.discover(server)
            if "http-sig" in discovery.capabilities:
                discovery = await self._peers.discover(server, fresh=True)
            if "http-sig" not in discovery.capabilities:
                await self._legacy.use(Way.UNSIGNED, server)
                return Peer(server, Evidence.NONE)
        who = f"{server} signs its requests" if self.takes_unsigned else "only signed requests are taken here"
        raise Unproven("SIGNATURE_REQUIRED", f"{who}, and this one is not signed")

    async def _signed(self, server: str, signed: Signed, once: bool) -> Peer:
        """Return the Peer, who has to go on with at least this kind of signature (wire.md, Older peers)."""
        if signed.evidence is Evidence.CAVAGE:
            await self._legacy.use(Way.CAVAGE, server)
        now = int(self._clock())

        def work(tx: Connection) -> bool:
            record = peers.get(tx, server)
            self._require_enough(record, signed)
            if news := _news(record, signed):
                peers.put(tx, server, **news)
            return not once or seen_signatures.remember(tx, signed.signature_hash, now + REPLAY_WINDOW, now)

        if not once:
            record = await self._store.read(lambda tx: peers.get(tx, server))
            self._require_enough(record, signed)
            if not _news(record, signed):  # most messages that may come again leave nothing to be written
                return Peer(server, signed.evidence)
        if not await self._store.run(work):
            raise Unproven("SIGNATURE_REPLAYED", f"{server}: this signature was used before")
        return Peer(server, signed.evidence)

    def _require_enough(self, record: peers.PeerRecord, signed: Signed) -> None:
        weakest = Evidence.RFC9421 if self._must_use_http_sig else Evidence.of(record.signed_as)
        if signed.evidence < weakest:
            raise Unproven(
                "SIGNATURE_REQUIRED",
                f"a signature of {record.server} has to be {weakest.word}, and this one is {signed.evidence.word}",
            )

    async def _refused(self, message: Message, server: str, code: str, error: Refusal | ProtocolError) -> None:
        """Log what a failed proof looked like, as far as it came, and keep it of a server that we know."""
        facts = {"code": code, "reason": str(error), **_shown(message, getattr(error, "signature_base", None))}
        log.warning("signature refused", peer=server, **facts)
        if self._stored.take(server) == 0:
            refused = {"at": int(self._clock()), **facts}
            with suppress(Unavailable):  # the log has it
                await self._store.run(lambda tx: peers.note_refused(tx, server, refused))


def _news(record: peers.PeerRecord, signed: Signed) -> dict[str, Any]:
    """Return what a signature tells of a server that its record does not say yet."""
    news: dict[str, Any] = {}
    if signed.evidence > Evidence.of(record.signed_as):
        news["signed_as"] = signed.evidence.word
    if signed.pinned_key is not None and signed.pinned_key != record.pinned_key:
        news["pinned_key"] = dict(signed.pinned_key)
    return news


def _shown(message: Message, signature_base: str | None) -> dict[str, str]:
    """Return the headers of a signature, its key's name, and what it was compared with; none of them is a secret."""
    given = {
        field: ", ".join(text for key, text in message.headers if key.lower() == name)
        for field, name in (("signature_input", "signature-input"), ("signature", "signature"))
    }
    name = _KEY_ID.search(given["signature_input"] or given["signature"])
    facts = given | {"key_id": name[1] if name else "", "signature_base": signature_base or ""}
    return {field: text[:SHOWN] for field, text in facts.items() if text}
