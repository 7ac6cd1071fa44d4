"""The Remote Resource: how an accepted Share is reached, with the token exchange behind it.

An accepted Share becomes a `WebDAVBackend`, or by SSH (`ssh_shares`) where it is offered by nothing else, or WebDAV
does not work. Which of the ways in works is found once, at acceptance, and kept: products differ (peers.md §4). A
secret goes only to the sender's own host.
"""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from urllib.parse import quote

import structlog
from sqlalchemy import Connection

from backends.errors import NotFound, PermissionDenied, StorageError, Unavailable, Unreachable
from backends.interface import Entry, Kind, StorageBackend
from backends.paths import StoragePath
from backends.pool_parts import Parts
from backends.webdav import RemoteRefused, WebDAVBackend
from gateway.breaker import PATIENCE
from gateway.errors import PeerFailed, Refusal
from gateway.legacy import Legacy
from gateway.legacy import Way as LegacyWay
from gateway.ocm.discovery import Discovery
from gateway.ocm.errors import ProtocolError
from gateway.ocm.secret import Secret
from gateway.ocm.shares import SSH, WEBDAV, Permission
from gateway.ocm.ssh_keys import PublicKey
from gateway.ocm.tokens import GRANT_TYPE, TokenRequest, parse_token_response, serialise_token_request
from gateway.ocm.urls import compose_uri, is_absolute, server_of
from gateway.outbound import SyncOutbound
from gateway.patient import PatientTransport
from gateway.peers import Answer, Peers
from gateway.profiles import BY_SSH, FILE_INSIDE, Profile, Way, profile_of
from gateway.ssh_shares import SSHShares
from gateway.store import events, exchanged_tokens, received_shares
from gateway.store import peers as peer_records
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
TIDY = 30  # seconds between looks for connections that nobody uses
HINT_TIME = 5.0  # seconds for a look whether a Share has ended: few are made at a time
CREDENTIAL_TIME = 25.0  # seconds that a worker thread waits for a credential

TOKENS = (Way.TOKEN, Way.TOKEN_FILE)
LEGACY = {  # those that the operator may close
    Way.BEARER: LegacyWay.BEARER_SECRET,
    Way.BASIC: LegacyWay.BASIC,
    Way.BASIC_ROOT: LegacyWay.BASIC,
    Way.BASIC_FILE: LegacyWay.BASIC,
}
SIGNED = ("rfc9421", "labelled", "cavage")  # evidence that a Share came from whom it says

WayIn = tuple[str | None, str | None]  # as the Share has it: the way, and the host key that was accepted

log = structlog.get_logger()


class Remote:
    """Accepted Shares as storage."""

    def __init__(
        self,
        store: Store,
        peers: Peers,
        outbound: SyncOutbound,
        sealer: Sealer,
        turns: Turns,
        ssh: SSHShares,
        *,
        server: str,
        legacy: Legacy | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Without `legacy`, every way to use a Share's secret is open."""
        self._ssh = ssh
        self._store = store
        self._peers = peers
        self._outbound = outbound
        self._sealer = sealer
        self._server = server
        self._clock = clock
        self._threads = Parts("remote", threads=THREADS, each=HOST_THREADS, waiting=HOST_WAITING)  # of servers
        self._storages: dict[str, tuple[WayIn, Storage]] = {}  # by Share
        self._turns = turns
        self._legacy = legacy or Legacy(store, clock=clock)

    async def storage(self, share: ReceivedShare) -> Storage:
        """Return the Remote Resource of an accepted Share; raises Unavailable when its server cannot be found."""
        known = self._storages.get(share.id)
        if known is not None and known[0] == (share.access, share.host_key):
            return known[1]
        try:
            discovery = await self._discovery(share)
            ways = self._open_ways(share, discovery, profile_of(discovery))
            way = next((way for way in ways if share.access in (way, FILE_INSIDE.get(way))), None)
            way = Way(share.access) if way and share.access else ways[0]
            storage = self._make(share, discovery, way)
        except (Refusal, ProtocolError) as error:
            raise _unavailable(share, error) from error
        if share.access:
            self._storages[share.id] = (way, share.host_key), storage
        return storage

    async def host_key(self, share: ReceivedShare, fingerprint: str | None = None) -> PublicKey:
        """Return the host key that the Share's SSH server shows, or the one of its keys that has this fingerprint.

        Raises PeerFailed, Conflict where it has no such key.
        """
        discovery = await self._discovery(share)
        try:
            return await self._threads.of(share.server).run(self._ssh.host_key, share, discovery, fingerprint)
        except Unavailable as error:
            raise PeerFailed("PEER_UNREACHABLE", str(error)) from error
        except StorageError as error:
            raise PeerFailed("ADDRESS_REFUSED", str(error)) from error

    async def _discovery(self, share: ReceivedShare) -> Discovery:
        """Return what the sender says of itself, or has said before if it is silent now: what was seen can be shown."""
        try:
            return await self._peers.discover(share.server)
        except PeerFailed as error:
            known = await self._peers.last_known(share.server) if error.code == "PEER_UNREACHABLE" else None
            if known is None:
                raise
            return known

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

    async def is_gone(self, share: ReceivedShare) -> bool:
        """Ask the sender whether the Share has ended: whether it knows the Share's credential no more.

        What else has changed of an accepted one is remembered.
        """
        try:
            async with asyncio.timeout(HINT_TIME):
                if share.state == "accepted":
                    await self._look(share.id)
                else:
                    await self._first_way_in(share, await self._peers.discover(share.server))
        except RemoteRefused as error:
            return error.status == 401
        except NotFound:
            return True
        except (Refusal, StorageError, ProtocolError, TimeoutError):
            return False
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
            for _ in range(REFRESH // TIDY):
                await asyncio.sleep(TIDY)
                try:
                    await self._ssh.tidy()
                except Exception:
                    log.exception("connections to SSH servers were not ended")
            self._storages.clear()

    def close(self) -> None:
        """Let nobody wait for a server any more, at the end of the process."""
        self._threads.abandon()
        self._ssh.close()

    async def _refresh_all(self) -> None:
        now = self._clock()
        await self._store.run(lambda tx: exchanged_tokens.forget_expired(tx, int(now)))
        accepted = await self._store.read(received_shares.every_accepted)
        by_server: dict[str, list[ReceivedShare]] = {}
        for share in accepted:
            if share.protocols and not share.expired(now):
                by_server.setdefault(share.origin, []).append(share)
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
        # What SSH needs to know of the sender is known, if not from now.
        look_up = self._peers.discover(share.server) if share.ssh is None else self._discovery(share)
        discovery = await look_up
        way, storage, root = await self._first_way_in(share, discovery)
        permissions = await _permissions(storage, profile_of(discovery))
        now = int(self._clock())

        def work(tx: Connection) -> None:
            current = received_shares.get(tx, share_id)
            if current is None or current.state != "accepted":
                raise NotFound("the Share has ended")
            received_shares.set_access(tx, share_id, way)
            if way not in BY_SSH:
                peer_records.worked(tx, share.server, profile_of(discovery).product, way_in=way)
            received_shares.set_root(tx, share_id, root, now)
            # What a notification has said since the look began stands.
            if permissions is not None and current.permissions == share.permissions != permissions:
                received_shares.set_permissions(tx, share_id, permissions, now)
                detail = {"permissions": sorted(permissions)}
                events.add(tx, at=now, actor=share.server, action="share.permissions", subject=share_id, **detail)
            if share.evidence == "none":
                received_shares.set_evidence(tx, share_id, "callback")

        await self._store.run(work)
        self._storages[share_id] = (way, share.host_key), storage

    async def _first_way_in(self, share: ReceivedShare, discovery: Discovery) -> tuple[Way, Storage, Entry]:
        """Try the ways that may work; raises what the last one raised.

        The next way is for a credential that is refused, and for an exchange that fails: where other ways are left,
        it is not required (wire.md, Code Flow). Another protocol is for whatever does not work by the first.
        """
        refused: StorageError | PeerFailed | None = None
        ways = await self._ordered_ways(share, discovery)
        for way in ways:
            is_last_protocol = (way in BY_SSH) == (ways[-1] in BY_SSH)
            try:
                storage = self._make(share, discovery, way)
                root = await storage.pool.run(storage.backend.stat, StoragePath())
            except (StorageError, PeerFailed) as error:
                if is_last_protocol and way != Way.TOKEN and not isinstance(error, RemoteRefused):
                    raise
                refused = error
            else:
                return await self._file_inside(share, discovery, way, storage, root)
        raise refused or Unavailable(f"{share.server} offers no way to this Share")

    def _open_ways(self, share: ReceivedShare, discovery: Discovery, profile: Profile) -> tuple[Way, ...]:
        """Return the ways that the operator has left open; raises PeerFailed where there is none."""
        ways = _ways(share, discovery, profile)
        closed = {way for way in ways if way in LEGACY and not self._legacy.is_open(LEGACY[way], share.server)}
        if closed.issuperset(ways):
            keys = " or ".join(sorted({f"federation.legacy.{LEGACY[way]}" for way in closed}))
            raise PeerFailed("LEGACY_DENIED", f"all ways to this Share of {share.server} are closed; {keys} opens one")
        return tuple(way for way in ways if way not in closed)

    async def _file_inside(
        self, share: ReceivedShare, discovery: Discovery, way: Way, storage: Storage, root: Entry
    ) -> tuple[Way, Storage, Entry]:
        """Return what was found, or the shared file itself where that is a folder with this file alone in it."""
        inside = FILE_INSIDE.get(way) if way in BY_SSH or profile_of(discovery).files_inside else None
        if inside is None or share.resource_type != "file" or root.kind is not Kind.DIRECTORY:
            return way, storage, root
        if not await storage.pool.run(_holds_only, storage.backend, share.name.encode()):
            return way, storage, root
        storage = self._make(share, discovery, inside)
        return inside, storage, await storage.pool.run(storage.backend.stat, StoragePath())

    async def _ordered_ways(self, share: ReceivedShare, discovery: Discovery) -> list[Way]:
        """Return first the way that has led to this Share, then a token, then what has led to another of this peer.

        SSH comes last, but where it has led to this Share.
        """
        profile = profile_of(discovery)
        known = await self._store.read(lambda tx: peer_records.recall(tx, share.server, profile.product))

        def distance(way: Way) -> tuple[bool, ...]:
            other_protocol = (way in BY_SSH) != share.is_by_ssh
            return other_protocol, way != share.access, way != Way.TOKEN, way != known.way_in

        return sorted(self._open_ways(share, discovery, profile), key=distance)

    def _make(self, share: ReceivedShare, discovery: Discovery, way: Way) -> Storage:
        if way in BY_SSH:
            by_ssh = self._ssh.backend(share, discovery, share.name if way is Way.SSH_FILE else "")
            return Storage(share.storage, by_ssh, self._threads.of(share.server))
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
                raise _unavailable(share, error) from error
            except (Refusal, ProtocolError, ValueError, TimeoutError) as error:  # ValueError: it cannot be unsealed
                waiting.cancel()
                raise Unavailable(f"{share.server}: {error or 'no token in time'}") from error

        transport = PatientTransport(self._outbound, self._peers.breakers, share.server)
        backend = WebDAVBackend(url, transport=transport, credential=credential)
        return Storage(share.storage, backend, self._threads.of(share.server))

    def _url(self, share: ReceivedShare, discovery: Discovery, way: Way) -> str:
        """Return where the Share's root is; a secret, unlike a token, goes only to the sender's host."""
        webdav_path = discovery.webdav_path(share.resource_type)
        uri = "" if way in (Way.BASIC_ROOT, Way.BASIC_FILE) or share.uri is None else share.uri
        if webdav_path is None and not is_absolute(uri):
            raise PeerFailed("NO_WEBDAV", f"{share.server} names no webdav path in its discovery")
        url = compose_uri(discovery.origin, webdav_path, uri, own_server=self._server)
        host = server_of(url)
        if host != share.server and (way not in TOKENS or share.evidence not in SIGNED):
            raise PeerFailed("FOREIGN_URI", f"the Share of {share.server} points to {host}")
        return f"{url.rstrip('/')}/{quote(share.name, safe='')}" if way in FILE_INSIDE.values() else url

    async def _authorization(
        self, share: ReceivedShare, way: Way, refused: Mapping[str, str] | None
    ) -> Mapping[str, str]:
        if way in TOKENS:
            token = await self._token(share, (refused or {}).get("Authorization", "").removeprefix("Bearer "))
            return {"Authorization": f"Bearer {token.reveal()}"}
        await self._legacy.use(LEGACY[way], share.server)
        secret = await self._secret(share)
        if way == Way.BEARER:
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
        return None if Secret(token) == Secret(refused) else Secret(token)

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
        url = discovery.token_end_point
        return await self._peers.send(share.server, discovery, url, body, content_type, timeout=PATIENCE)


def _holds_only(backend: StorageBackend, name: bytes) -> bool:
    """Tell whether the root holds one file of this name and nothing else."""
    with closing(backend.scan(StoragePath(), batch=2)) as scan:
        return [(entry.name, entry.kind) for entry in scan.next()] == [(name, Kind.FILE)]


async def _permissions(storage: Storage, profile: Profile) -> frozenset[Permission] | None:
    """Return what the sender's storage says that the Share permits, if that is how its product tells."""
    if not profile.tells_rights or not isinstance(storage.backend, WebDAVBackend):
        return None
    rights = await storage.pool.run(storage.backend.rights)
    return None if rights is None else frozenset(map(Permission, rights))


def _ways(share: ReceivedShare, discovery: Discovery, profile: Profile) -> tuple[Way, ...]:
    """Return the ways in that may work, the safest first; raises PeerFailed where something has to be done before."""
    by_ssh = (Way.SSH,) if SSH in share.protocols and share.host_key is not None else ()
    if WEBDAV not in share.protocols:
        if not by_ssh:
            raise PeerFailed("HOST_KEY_UNKNOWN", "the host key of its SSH server is not accepted: `received accept`")
        return by_ssh
    if share.requires_exchange:
        return (Way.TOKEN, *by_ssh)
    exchange = (Way.TOKEN,) if discovery.token_end_point else ()
    by_webdav = (Way.BASIC_ROOT,) if share.uri is None else profile.ways
    return (*exchange, *by_webdav, *by_ssh)


def _unavailable(share: ReceivedShare, error: Exception) -> Unavailable:
    """Return what storage says of a server that has failed, or been silent."""
    if isinstance(error, PeerFailed) and error.code == "PEER_UNREACHABLE":
        return Unreachable(str(error), retry_after=error.retry_after or 30)
    return Unavailable(f"{share.server}: {error}")


def _is_live(token: StoredToken, now: float) -> bool:
    """Tell whether a token will do for a while; one that is given for seconds only is used for half of them."""
    return token.expires - min(RENEW_BEFORE, (token.expires - token.obtained) / 2) > now


def _log_late_probe(task: asyncio.Task[str | None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        log.error("looking at a received Share failed", reason=str(task.exception()))
