"""The OCM client: discovery and keys of peers, cached; requests to them, signed."""

from __future__ import annotations

import asyncio
import functools
import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote, urlsplit

import structlog
from sqlalchemy import Connection

from gateway.breaker import PATIENCE, Breakers
from gateway.errors import PeerFailed
from gateway.first_contacts import FirstContacts
from gateway.generations import signature_for
from gateway.ocm.discovery import Discovery, parse_discovery
from gateway.ocm.errors import ProtocolError
from gateway.ocm.fields import decode_object
from gateway.ocm.keys import JWKSet
from gateway.ocm.secret import Secret
from gateway.ocm.text import line
from gateway.ocm.urls import server_of
from gateway.outbound import AsyncOutbound, Destination, OutboundRefused, PeerUnreachable, Response
from gateway.signing import Signing
from gateway.single_flight import SingleFlight
from gateway.store import peers
from gateway.store.engine import Store
from gateway.store.peers import PeerRecord
from gateway.traces import Exchange, Traces
from gateway.trust import Trust

DISCOVERY_LIFE = 3600  # seconds a discovery document is believed
FAILURE_LIFE = 5  # seconds a failed discovery is not repeated
FAILURES_KEPT = 1000  # servers
STRANGERS_KEPT = 256  # servers; each may make us store MAX_DISCOVERY and MAX_JWKS
PARSED_KEPT = 64  # JWK Sets in memory, each of up to MAX_JWKS, and anybody can have one
FRESH_ENOUGH = 10  # seconds: a `fresh` look does not repeat one this young, so nobody can make us hammer a host
DISCOVERY_TIME = PATIENCE  # seconds for a whole discovery: users wait for it, and /shares answers within 10
REQUEST_TIME = 20.0  # seconds for one request of the OCM API
REDIRECTS = 3  # followed by a GET of public documents, which proves nothing and holds nothing secret
MAX_DISCOVERY = 64 * 1024  # bytes
MAX_JWKS = 256 * 1024
MAX_ANSWER = 64 * 1024

# Old products answer only the second and third (peers.md §1).
DISCOVERY_PATHS = ("/.well-known/ocm", "/ocm-provider/")

_LEFT_OUT = "***"
# A code of a program, or else what is no word of a language; in this order, so that a long code is looked at once.
_CODE_OR_OPAQUE = re.compile(r"([A-Z_]+\b)|[A-Za-z0-9+/_\-]{32,}={0,2}")

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Answer:
    """What a peer answered: its status and its body, which may be anything."""

    status: int
    content: bytes
    signature: Literal["rfc9421", "cavage", "none"] = "none"  # on the request

    @property
    def body(self) -> Mapping[str, Any]:
        """Return the JSON object that was answered, empty if it was none."""
        return _json_object(self.content)

    def reason(self, sent: Secret) -> str:
        """Return the peer's own reason, as far as it gave one, cut to a line for people and logs.

        Some peers quote what they refuse: the secret that was `sent`, and whatever else could be one, is left out.
        """
        told = line(str(self.body.get("message") or self.body.get("error") or ""))
        secret = sent.reveal()
        for form in (secret, quote(secret, safe="")):
            told = told.replace(form, _LEFT_OUT) if form else told
        return _CODE_OR_OPAQUE.sub(lambda found: found[1] or _LEFT_OUT, told)[:200] or "no reason given"


class Peers:
    """Speaks OCM to other servers on behalf of this one."""

    def __init__(
        self,
        store: Store,
        outbound: AsyncOutbound,
        trust: Trust,
        signing: Signing,
        *,
        server: str,
        http_allowed: Callable[[str], bool],
        first_contacts: FirstContacts,
        traces: Traces | None = None,
        clock: Callable[[], float] = time.time,
        breakers: Breakers | None = None,
    ) -> None:
        """What fails with servers that are no strangers is kept in `traces`."""
        self.breakers = breakers or Breakers(clock)
        self._store = store
        self._traces = traces
        self._outbound = outbound
        self._trust = trust
        self._signing = signing
        self._server = server
        self._http_allowed = http_allowed
        self._first_contacts = first_contacts
        self._clock = clock
        self._discoveries: SingleFlight[Discovery] = SingleFlight()
        self._key_sets: SingleFlight[JWKSet] = SingleFlight()
        self._failed: dict[str, tuple[float, str]] = {}  # in memory: anybody can name hosts that do not answer

    async def discover(self, server: str, *, fresh: bool = False) -> Discovery:
        """Return what `server` says of itself, from the cache while that is young.

        Raises PeerFailed, NotAllowed, and Busy when strangers have made us look up too much.
        """
        await self._trust.require(server)
        record = await self._record(server)
        now = self._clock()
        age = now - (record.discovered or 0)
        if record.discovery and record.discovery_url and age < (FRESH_ENOUGH if fresh else DISCOVERY_LIFE):
            return parse_discovery(record.discovery.encode(), record.discovery_url)
        until, reason = self._failed.get(server, (0.0, ""))
        if now < until:
            raise PeerFailed("PEER_UNREACHABLE", f"{reason} (asked a moment ago)")
        return await self._discoveries.run(server, lambda: self._fetch_discovery(server))

    async def last_known(self, server: str) -> Discovery | None:
        """Return what `server` has said of itself, however long ago; None if it never has."""
        record = await self._record(server)
        if record.discovery is None or record.discovery_url is None:
            return None
        return parse_discovery(record.discovery.encode(), record.discovery_url)

    async def jwks(self, server: str, *, fresh: bool = False) -> JWKSet:
        """Return the keys that `server` publishes; raises PeerFailed, NotAllowed, Busy."""
        record = await self._record(server)
        age = self._clock() - (record.jwks_fetched or 0)
        if record.jwks and age < (FRESH_ENOUGH if fresh else DISCOVERY_LIFE):
            return _parsed(record.jwks)
        return await self._key_sets.run(server, lambda: self._fetch_jwks(server, fresh))

    async def post(self, server: str, path: str, payload: Mapping[str, Any], *, keeps: bool = True) -> Answer:
        """POST JSON to `path` of the peer's OCM API, signed if the peer can verify that.

        Raises PeerFailed when there is no answer; any answer, also a refusal, is returned, and a refusal is kept in
        the traces unless `keeps` is false.
        """
        body = json.dumps(payload).encode()
        discovery = await self.discover(server)
        answer = await self.send(server, discovery, api_url(discovery, path), body, "application/json", keeps=keeps)
        if answer.status == 401:  # perhaps because it has begun to ask for signatures
            renewed = await self.discover(server, fresh=True)
            if renewed != discovery:
                url = api_url(renewed, path)
                return await self.send(server, renewed, url, body, "application/json", keeps=keeps)
        return answer

    async def send(
        self,
        server: str,
        discovery: Discovery,
        url: str,
        body: bytes,
        content_type: str,
        timeout: float = REQUEST_TIME,
        *,
        keeps: bool = True,
    ) -> Answer:
        """POST `body` to a URL that the peer's discovery names; raises PeerFailed when there is no answer.

        `timeout` is in seconds; `keeps` as in `post`.
        """
        headers = {"Content-Type": content_type, "Accept": "application/json"}
        headers |= await self._signing.headers(server, discovery, url, body)
        with self.breakers.call(server):
            response = await self._request(
                server, "POST", url, headers=headers, body=body, timeout=timeout, max_body=MAX_ANSWER, keeps=keeps
            )
        return Answer(response.status, response.body, signature_for(discovery).scheme)

    async def everyone(self) -> list[PeerRecord]:
        return await self._store.read(peers.everyone)

    async def record(self, server: str) -> PeerRecord | None:
        """Return what is known of `server`, None when nothing is."""
        return await self._store.read(lambda tx: peers.get(tx, server) if peers.is_known(tx, server) else None)

    async def _require_patience(self, server: str, target: str) -> None:
        """Bound what is fetched from `target` because of `server`, if that is a stranger; raises Busy."""
        if await self._store.read(lambda tx: peers.is_stranger(tx, server)):
            self._first_contacts.require(target)

    async def _fetch_discovery(self, server: str) -> Discovery:
        await self._require_patience(server, server)
        try:
            with self.breakers.call(server):
                async with asyncio.timeout(DISCOVERY_TIME):
                    response, url = await self._first_document(server)
            discovery = parse_discovery(response.body, url)
            if not discovery.enabled:
                raise PeerFailed("PEER_DISABLED", f"{server} says that its OCM service is switched off")
        except (PeerFailed, ProtocolError, TimeoutError) as error:
            slow = f"{server} gave no discovery document within {DISCOVERY_TIME:.0f} s"
            reason = slow if isinstance(error, TimeoutError) else str(error)
            retry_after = getattr(error, "retry_after", None)
            if retry_after is None:  # it was asked
                await self._note_failure(server, reason)
                if await self.is_acquainted(server):  # once for all the ways that were tried
                    url = f"https://{server}{DISCOVERY_PATHS[0]}"
                    await self._keep(server, "GET", url, code="NO_DISCOVERY", reason=reason)
            raise PeerFailed("PEER_UNREACHABLE", reason, retry_after=retry_after) from error
        await self._note(
            server,
            discovery=response.body.decode("utf-8", "replace"),
            discovery_url=url,
            discovered=int(self._clock()),
        )
        return discovery

    async def _first_document(self, server: str) -> tuple[Response, str]:
        """Return the first discovery document that is one; https before http, which the operator must allow."""
        name = urlsplit(f"//{server}").hostname or ""
        schemes = ("https", "http") if self._http_allowed(name) else ("https",)
        failures: list[str] = []
        code = "PEER_UNREACHABLE"
        for scheme in schemes:
            for path in DISCOVERY_PATHS:
                url = f"{scheme}://{server}{path}"
                try:
                    response = await self._request(server, "GET", url, max_body=MAX_DISCOVERY, keeps=False)
                except PeerFailed as error:
                    failures.append(f"{scheme}: {error}")
                    break  # the next path of the same scheme meets the same closed door
                code = "NO_DISCOVERY"
                if response.status == 200 and "enabled" in _json_object(response.body):
                    return response, response.url
                failures.append(f"{url} answers {response.status}, no OCM document")
        raise PeerFailed(code, "; ".join(failures))

    async def _fetch_jwks(self, server: str, fresh: bool) -> JWKSet:
        discovery = await self.discover(server, fresh=fresh)
        if discovery.jwks_uri is None:
            discovery = await self.discover(server, fresh=True)  # it may have begun to sign
        if discovery.jwks_uri is None:
            raise PeerFailed("NO_JWKS", f"{server} publishes no jwksUri")
        await self._require_patience(server, server_of(discovery.jwks_uri))
        try:
            with self.breakers.call(server):
                async with asyncio.timeout(DISCOVERY_TIME):
                    response = await self._request(server, "GET", discovery.jwks_uri, max_body=MAX_JWKS)
        except TimeoutError as error:
            raise PeerFailed("PEER_UNREACHABLE", f"{server}: no keys within {DISCOVERY_TIME:.0f} s") from error
        if response.status != 200:
            code = "PEER_UNREACHABLE" if response.status >= 500 or response.status == 429 else "NO_JWKS"
            raise PeerFailed(code, f"{discovery.jwks_uri} answers {response.status}", response.status)
        try:
            keys = JWKSet.parse(response.body)
        except ProtocolError as error:
            raise PeerFailed("NO_JWKS", f"{discovery.jwks_uri}: {error}") from error
        await self._note(server, jwks=response.body.decode("utf-8", "replace"), jwks_fetched=int(self._clock()))
        return keys

    async def _request(
        self,
        server: str,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        timeout: float = REQUEST_TIME,
        max_body: int,
        keeps: bool = True,
    ) -> Response:
        """Return the answer; what fails with an acquaintance is kept, unless the caller does that.

        Raises PeerFailed, and Busy when a stranger redirects us to where we have been too often.
        """
        stranger = not await self.is_acquainted(server)
        keeps = keeps and not stranger
        host = urlsplit(url).hostname

        def before_redirect(destination: Destination) -> None:
            if stranger and destination.host != host:  # whose name brings us there has chosen it
                self._first_contacts.require(str(destination))

        try:
            response = await self._outbound.request(
                method,
                url,
                headers=headers or {},
                body=body,
                timeout=timeout,
                max_body=max_body,
                stranger=stranger,
                redirects=REDIRECTS if method == "GET" else 0,
                before_redirect=before_redirect,
            )
        except (OutboundRefused, PeerUnreachable) as error:
            if keeps:
                await self._keep(server, method, url, headers, body, code=error.code, reason=str(error))
            raise PeerFailed("PEER_UNREACHABLE", str(error)) from error
        if response.status >= 400 and keeps:
            code, reason = f"STATUS_{response.status}", f"the peer answered {response.status}"
            await self._keep(server, method, url, headers, body, response, code=code, reason=reason)
        return response

    async def _keep(
        self,
        server: str,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        response: Response | None = None,
        *,
        code: str,
        reason: str,
    ) -> None:
        if self._traces is None:
            return
        sent = tuple((headers or {}).items())
        status, answer = (response.status, response.body) if response else (None, b"")
        await self._traces.keep(
            Exchange("outgoing", server, method, url, sent, body or b"", status, answer, code, reason)
        )

    async def is_acquainted(self, server: str) -> bool:
        """Tell whether the operator or a user has ever dealt with `server`."""
        return not await self._store.read(lambda tx: peers.is_stranger(tx, server))

    async def _record(self, server: str) -> PeerRecord:
        return await self._store.read(lambda tx: peers.get(tx, server))

    async def _note(self, server: str, **values: Any) -> None:
        self._failed.pop(server, None)
        seen = int(self._clock())
        values |= {"failures": 0, "retry": None, "last_error": None, "seen": seen}

        def work(tx: Connection) -> None:
            is_new = not peers.is_known(tx, server)
            peers.put(tx, server, **values)
            if is_new:  # whoever makes us discover host after host gets no more room than this
                peers.forget_strangers(tx, STRANGERS_KEPT)

        await self._store.run(work)

    async def _note_failure(self, server: str, reason: str) -> None:
        """Remember a failed discovery for a moment; a server that never answered gets no row in the state."""
        until = self._clock() + FAILURE_LIFE
        if len(self._failed) >= FAILURES_KEPT:
            self._failed.clear()
        self._failed[server] = (until, reason)

        def work(tx: Connection) -> None:
            record = peers.get(tx, server)
            if peers.is_known(tx, server):
                peers.put(tx, server, failures=record.failures + 1, retry=int(until), last_error=reason)

        await self._store.run(work)


@functools.lru_cache(maxsize=PARSED_KEPT)
def _parsed(document: str) -> JWKSet:
    """Return the keys of a JWK Set that could be read before; each message asks for them."""
    return JWKSet.parse(document.encode())


def api_url(discovery: Discovery, path: str) -> str:
    """Return the URL of an endpoint of the peer's OCM API."""
    return f"{discovery.end_point.rstrip('/')}{path}"


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        return decode_object(body)
    except ProtocolError:
        return {}
