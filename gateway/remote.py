"""The Remote Resource: how an accepted Share is reached, with the token exchange behind it.

An accepted Share becomes a `WebDAVBackend`. Which of the ways in works is found once, at acceptance, and kept:
products differ (peers.md §4). A secret goes only to the sender's own host.
"""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import structlog
from sqlalchemy import Connection

from backends.errors import NotFound, PermissionDenied, StorageError, Unavailable
from backends.interface import Entry
from backends.pool import Pool
from backends.webdav import RemoteRefused, WebDAVBackend
from gateway.errors import PeerFailed, Refusal
from gateway.ocm.discovery import Discovery
from gateway.ocm.errors import ProtocolError
from gateway.ocm.secret import Secret
from gateway.ocm.shares import Permission
from gateway.ocm.tokens import GRANT_TYPE, TokenRequest, parse_token_response, serialise_token_request
from gateway.ocm.urls import compose_uri, is_absolute, server_of
from gateway.outbound import SyncOutbound
from gateway.peers import Answer, Peers
from gateway.store import events, exchanged_tokens, received_shares
from gateway.store.engine import Store
from gateway.store.exchanged_tokens import StoredToken
from gateway.store.received_shares import ReceivedShare
from gateway.store.sealing import Sealer
from gateway.tree import Storage
from gateway.turns import Turns

THREADS = 128  # for all peer hosts together
HOST_THREADS = 4  # the part of those that one peer host may hold
HOST_WAITING = 256  # calls that wait for those
REFRESHED_AT_ONCE = 8  # peer hosts whose Shares are looked at in the background at the same time
RENEW_BEFORE = 30  # seconds of a token's life in which it is no longer used
REFRESH = 300  # seconds between looks at the roots of accepted Shares
CREDENTIAL_TIME = 25.0  # seconds that a worker thread waits for a credential

TOKEN, BEARER, BASIC, BASIC_ROOT = "token", "bearer", "basic", "basic_root"
SIGNED = ("rfc9421", "labelled")  # evidence that a Share came from whom it says

T = TypeVar("T")

log = structlog.get_logger()


class HostPool(Pool):
    """The turns of one peer host on threads that all hosts share, so that one that hangs leaves the rest to others.

    It holds nothing while nobody uses it, so none has to be closed to make room, perhaps in the middle of a transfer.
    """

    def __init__(self, server: str, threads: Pool) -> None:
        super().__init__(f"remote-{server}", threads=HOST_THREADS, waiting=HOST_WAITING)
        self._shared = threads
        self._turns = asyncio.Semaphore(HOST_THREADS)
        self._calls = 0  # running and in line

    async def run(self, function: Callable[..., T], /, *args: Any, **named: Any) -> T:
        """Call `function` in one of the shared threads, as `Pool.run` does."""
        if self._calls >= HOST_THREADS + HOST_WAITING:
            raise Unavailable(f"{self.name}: the line of waiting operations is full", retry_after=5)
        self._calls += 1
        try:
            async with self._turns:
                return await self._shared.run(function, *args, **named)
        finally:
            self._calls -= 1


class Remote:
    """Accepted Shares as storage."""

    def __init__(
        self,
        store: Store,
        peers: Peers,
        outbound: SyncOutbound,
        sealer: Sealer,
        turns: Turns,
        *,
        server: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._peers = peers
        self._outbound = outbound
        self._sealer = sealer
        self._server = server
        self._clock = clock
        self._threads = Pool("remote", threads=THREADS)
        self._pools: WeakValueDictionary[str, HostPool] = WeakValueDictionary()  # by server, while a storage has it
        self._storages: dict[str, tuple[str, Storage]] = {}  # by Share, with the way in
        self._turns = turns

    async def storage(self, share: ReceivedShare) -> Storage:
        """Return the Remote Resource of an accepted Share; raises Unavailable when its server cannot be found."""
        known = self._storages.get(share.id)
        if known is not None and known[0] == share.access:
            return known[1]
        try:
            discovery = await self._peers.discover(share.server)
            way = share.access or self._ways(share, discovery)[0]
            storage = self._make(share, discovery, way)
        except (Refusal, ProtocolError) as error:
            raise Unavailable(f"{share.server}: {error}") from error
        if share.access:
            self._storages[share.id] = way, storage
        return storage

    async def named(self, name: str) -> Storage | None:
        """Return the storage that has this name; None if it is none of ours, or its Share has ended."""
        share_id = name.removeprefix(received_shares.STORAGE)
        share = await self._store.read(lambda tx: received_shares.get(tx, share_id))
        return await self.storage(share) if share is not None and share.state == "accepted" else None

    def forget(self, share_id: str) -> None:
        """Drop what is kept in memory of a Share that has changed or ended."""
        self._storages.pop(share_id, None)

    async def probe(self, share_id: str, timeout: float) -> str | None:
        """Look at the Remote Resource and remember how it looks and which way in works.

        Returns None when that went well within `timeout` seconds, else why not.
        """
        task = asyncio.ensure_future(self._probe(share_id))
        done, _ = await asyncio.wait([task], timeout=timeout)
        if not done:
            task.add_done_callback(_log_late_probe)
            return f"no answer within {timeout:.0f} s; it is looked at again in the background"
        return task.result()

    async def is_gone(self, share_id: str) -> bool:
        """Look at the Remote Resource, and tell whether its server says that there is none: 401, or 404.

        Anything else is remembered as by `probe`; a server that does not answer has said nothing.
        """
        try:
            await self._look(share_id)
        except RemoteRefused as error:
            return error.status == 401
        except NotFound:
            return True
        except (Refusal, StorageError, ProtocolError) as error:
            log.info("remote share not looked at", share=share_id, reason=str(error))
        return False

    async def refresh(self) -> None:
        """Look at the root of every accepted Share again and again, so that listings can be answered from state."""
        while True:
            await asyncio.sleep(REFRESH)
            try:
                await self._refresh_all()
            except Exception:
                log.exception("received Shares were not looked at")

    async def forget_in_time(self) -> None:
        """Drop what is kept in memory again and again, so that each process learns what another has found out."""
        while True:
            await asyncio.sleep(REFRESH)
            self._storages.clear()

    def close(self) -> None:
        self._threads.close()

    async def _refresh_all(self) -> None:
        now = self._clock()
        await self._store.run(lambda tx: exchanged_tokens.forget_expired(tx, int(now)))
        accepted = await self._store.read(received_shares.every_accepted)
        by_server: dict[str, list[ReceivedShare]] = {}
        for share in accepted:
            if not share.expired(now):
                by_server.setdefault(share.server, []).append(share)
        turns = asyncio.Semaphore(REFRESHED_AT_ONCE)  # most threads are for those who wait for an answer
        await asyncio.gather(*(self._refresh_server(shares, turns) for shares in by_server.values()))

    async def _refresh_server(self, shares: list[ReceivedShare], turns: asyncio.Semaphore) -> None:
        """Look at one server's Shares in turn; the first that gets no answer speaks for the rest.

        Those seen most recently come first, so that one which is never answered keeps no other back.
        """
        async with turns:
            for share in sorted(shares, key=lambda share: share.probed or 0, reverse=True):
                try:
                    await self._look(share.id)
                except (Refusal, StorageError, ProtocolError) as error:
                    log.info("remote share not refreshed", share=share.id, peer=share.server, reason=str(error))
                    if isinstance(error, PeerFailed | Unavailable):
                        return

    async def _probe(self, share_id: str) -> str | None:
        try:
            await self._look(share_id)
        except (Refusal, StorageError, ProtocolError) as error:
            return str(error)
        return None

    async def _look(self, share_id: str) -> None:
        """Look at the root of an accepted Share and remember what is there, and which way has led to it."""
        share = await self._store.read(lambda tx: received_shares.get(tx, share_id))
        if share is None or share.state != "accepted":
            raise NotFound("the Share has ended")
        discovery = await self._peers.discover(share.server)
        way, storage, root, told = await self._first_way_in(share, discovery)
        now = int(self._clock())

        def work(tx: Connection) -> None:
            if not received_shares.is_accepted(tx, share_id):
                raise NotFound("the Share has ended")
            received_shares.set_access(tx, share_id, way)
            received_shares.set_root(tx, share_id, root, now)
            self._note_permissions(tx, share, told, now)
            if share.evidence == "none":
                received_shares.set_evidence(tx, share_id, "callback")

        await self._store.run(work)
        self._storages[share_id] = way, storage

    @staticmethod
    def _note_permissions(tx: Connection, share: ReceivedShare, told: frozenset[str] | None, now: int) -> None:
        """Believe what a Share's server says that we may do there: many products say it nowhere else (peers.md §5).

        What has come by a notification since the look began stands.
        """
        permissions = frozenset(map(Permission, told or ()))
        current = received_shares.get(tx, share.id)
        if not permissions or current is None or current.permissions != share.permissions:
            return
        if permissions == current.permissions:
            return
        received_shares.set_permissions(tx, share.id, permissions, now)
        words = sorted(permission.value for permission in permissions)
        events.add(tx, at=now, actor=share.server, action="share.look", subject=share.id, permissions=words)

    async def _first_way_in(
        self, share: ReceivedShare, discovery: Discovery
    ) -> tuple[str, Storage, Entry, frozenset[str] | None]:
        """Try the ways that may work, the one that worked last first; raises what the last one raised.

        Returns the way, the storage, its root, and what its server says that we may do.

        The next way is for a credential that is refused, and for an exchange that fails: where other ways are left,
        it is not required (wire.md, Code Flow).
        """
        ways = self._ways(share, discovery)
        if share.access in ways:
            ways = (share.access, *(way for way in ways if way != share.access))
        refused: StorageError | None = None
        for way in ways:
            storage = self._make(share, discovery, way)
            assert isinstance(storage.backend, WebDAVBackend)
            try:
                root, told = await storage.pool.run(storage.backend.root)
            except StorageError as error:
                if way != TOKEN and not isinstance(error, RemoteRefused):
                    raise
                refused = error
            else:
                return way, storage, root, told
        raise refused or Unavailable(f"{share.server} offers no way to this Share")

    @staticmethod
    def _ways(share: ReceivedShare, discovery: Discovery) -> tuple[str, ...]:
        """Return the ways in that may work, the safest first (peers.md §4)."""
        if share.requires_exchange:
            return (TOKEN,)
        exchange = (TOKEN,) if discovery.token_end_point else ()
        if share.uri is None:
            return (*exchange, BASIC_ROOT)
        return (*exchange, BEARER, BASIC, BASIC_ROOT)

    def _make(self, share: ReceivedShare, discovery: Discovery, way: str) -> Storage:
        url = self._url(share, discovery, way)
        loop = asyncio.get_running_loop()

        def credential(refused: Mapping[str, str] | None) -> Mapping[str, str]:
            """Return the Authorization header; runs in a worker thread, the work behind it on the loop."""
            waiting = asyncio.run_coroutine_threadsafe(self._authorization(share, way, refused), loop)
            try:
                return waiting.result(CREDENTIAL_TIME)
            except PeerFailed as error:
                if error.is_final:  # the sender has said no: the Share has ended there, or its rules have changed
                    raise PermissionDenied(str(error)) from error
                raise Unavailable(str(error)) from error
            except (Refusal, ProtocolError, ValueError, TimeoutError) as error:  # ValueError: it cannot be unsealed
                waiting.cancel()
                raise Unavailable(f"{share.server}: {error or 'no token in time'}") from error

        backend = WebDAVBackend(url, transport=self._outbound, credential=credential)
        return Storage(share.storage, backend, self._pool(share.server))

    def _url(self, share: ReceivedShare, discovery: Discovery, way: str) -> str:
        """Return where the Share's root is; a secret, unlike a token, goes only to the sender's host."""
        webdav_path = discovery.webdav_path(share.resource_type)
        uri = "" if way == BASIC_ROOT or share.uri is None else share.uri
        if webdav_path is None and not is_absolute(uri):
            raise PeerFailed("NO_WEBDAV", f"{share.server} names no webdav path in its discovery")
        url = compose_uri(discovery.origin, webdav_path, uri, own_server=self._server)
        host = server_of(url)
        if host != share.server and (way != TOKEN or share.evidence not in SIGNED):
            raise PeerFailed("FOREIGN_URI", f"the Share of {share.server} points to {host}")
        return url

    async def _authorization(
        self, share: ReceivedShare, way: str, refused: Mapping[str, str] | None
    ) -> Mapping[str, str]:
        if way == TOKEN:
            token = await self._token(share, (refused or {}).get("Authorization", "").removeprefix("Bearer "))
            return {"Authorization": f"Bearer {token.reveal()}"}
        secret = await self._secret(share)
        if way == BEARER:
            return {"Authorization": f"Bearer {secret.reveal()}"}
        basic = base64.b64encode(f"{secret.reveal()}:".encode()).decode()
        return {"Authorization": f"Basic {basic}"}

    async def _secret(self, share: ReceivedShare) -> Secret:
        sealed = await self._store.read(lambda tx: received_shares.sealed_secret(tx, share.id))
        if sealed is None:
            raise PeerFailed("SHARE_ENDED", "the Share has ended")
        return Secret(self._sealer.open(sealed, share.id))

    async def _token(self, share: ReceivedShare, refused: str) -> Secret:
        """Return a live access token other than `refused`: the stored one, or a new one.

        One exchange at a time per Share, over all processes (wire.md, Code Flow): some senders end the token before
        when they issue another, so whoever has waited takes what has been obtained meanwhile.
        """
        if token := await self._stored_token(share, refused):
            return token
        async with self._turns.of(share.id):
            return await self._stored_token(share, refused) or await self._exchange(share)

    async def _stored_token(self, share: ReceivedShare, refused: str) -> Secret | None:
        stored = await self._store.read(lambda tx: exchanged_tokens.get(tx, share.id))
        if stored is None or not _is_live(stored, self._clock()):
            return None
        token = self._sealer.open(stored.token_sealed, share.id)
        return None if token == refused else Secret(token)

    async def _exchange(self, share: ReceivedShare) -> Secret:
        """Exchange the secret for an access token (wire.md, Code Flow); raises PeerFailed."""
        secret = await self._secret(share)
        discovery = await self._peers.discover(share.server)
        answer = await self._ask_for_token(share, discovery, secret)
        if answer is None or answer.status != 200:  # its endpoint may have moved, or it may ask for signatures now
            renewed = await self._peers.discover(share.server, fresh=True)
            if renewed != discovery:
                answer = await self._ask_for_token(share, renewed, secret)
        if answer is None:
            raise PeerFailed("NO_TOKEN_END_POINT", f"{share.server} requires the token exchange but names no endpoint")
        if answer.status != 200:
            reason = answer.reason(secret)
            raise PeerFailed("TOKEN_REFUSED", f"{share.server} gives no token: {reason}", answer.status)
        response = parse_token_response(answer.body)
        now = self._clock()
        sealed = self._sealer.seal(response.access_token.reveal(), share.id)
        expires = int(now) + response.expires_in

        def work(tx: Connection) -> None:
            if not received_shares.is_accepted(tx, share.id):
                raise PeerFailed("SHARE_ENDED", "the Share has ended")
            exchanged_tokens.put(tx, share.id, sealed, int(now), expires)

        await self._store.run(work)
        return response.access_token

    async def _ask_for_token(self, share: ReceivedShare, discovery: Discovery, secret: Secret) -> Answer | None:
        if discovery.token_end_point is None:
            return None
        host = server_of(discovery.token_end_point)
        if host != share.server:  # a secret goes only to the sender's host (wire.md, Code Flow)
            raise PeerFailed("FOREIGN_TOKEN_END_POINT", f"the token endpoint of {share.server} is at {host}")
        request = TokenRequest(grant_type=GRANT_TYPE, client_id=self._server, code=secret)
        body, content_type = serialise_token_request(request), "application/x-www-form-urlencoded"
        return await self._peers.send(share.server, discovery, discovery.token_end_point, body, content_type)

    def _pool(self, server: str) -> HostPool:
        pool = self._pools.get(server)
        if pool is None:
            pool = self._pools[server] = HostPool(server, self._threads)
        return pool


def _is_live(token: StoredToken, now: float) -> bool:
    """Tell whether a token will do for a while; one that is given for seconds only is used for half of them."""
    return token.expires - min(RENEW_BEFORE, (token.expires - token.obtained) / 2) > now


def _log_late_probe(task: asyncio.Task[str | None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        log.error("looking at a received Share failed", reason=str(task.exception()))
