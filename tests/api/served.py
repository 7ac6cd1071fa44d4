"""The door of the OCM API on a real socket, with the real use cases behind it and a real peer that signs."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web
from parts import CHEAP, Clock, new_store, offer, received, sent
from peer_servers import LOOPBACK, SERVER, PeerServer, client, peer_server, proving

from backends.memory import MemoryBackend
from backends.pool import Pool
from gateway import listening
from gateway.access import Access
from gateway.admin.metrics import Metrics
from gateway.admitting import Admitting
from gateway.api.door import ApiDoor
from gateway.changes import Changes
from gateway.config import Address, MountConfig
from gateway.departing import Departing
from gateway.hinting import Hints
from gateway.inviting import Inviting
from gateway.issuing import Issuing
from gateway.key_pairs import KeyPairs
from gateway.legacy import Legacy
from gateway.limiting import limiter
from gateway.limits import Limits
from gateway.mounts import Mounts
from gateway.ocm.discovery import describe
from gateway.ocm.signatures import Message
from gateway.outbox import Outbox
from gateway.receiving import Receiving
from gateway.requesting import Requesting
from gateway.resharing import Resharing
from gateway.sending import Sending
from gateway.store import received_shares, sent_shares, users
from gateway.store.received_shares import ReceivedShare
from gateway.store.sealing import Sealer, secret_hash
from gateway.traces import Traces
from gateway.tree import Storage, Tree
from gateway.trust import Trust
from gateway.users import Passwords

BASE = "/base"
ORIGIN = f"https://{SERVER}"
URL = ORIGIN + BASE
SECRET = "shared-secret-that-nobody-else-may-see"  # of every Share that a test makes
FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True)
class Reply:
    """What the door answered; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The machine-readable code of a refusal."""
        return str(self.json.get("message") or self.json.get("error"))


class NoRemote:
    """No Share is reached here; what `gone` holds is said not to be there any more."""

    def __init__(self) -> None:
        self.gone: set[str] = set()
        self.looked: list[str] = []

    async def is_gone(self, share: ReceivedShare) -> bool:
        self.looked.append(share.id)
        return share.id in self.gone

    def forget(self, _share_id: str) -> None:
        return


class Served:
    """A gateway that is called https://gateway.example/base and listens on loopback, and one peer of it."""

    def __init__(self, directory: Path) -> None:
        self.clock = Clock()
        self.limits = Limits({})
        self.sealer = Sealer(b"k" * 32)
        self.store = new_store(directory)
        self.store.run_sync(lambda tx: [users.add(tx, name, CHEAP.hash("x"), 0) for name in ("alice", "bob")])
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self._stack = AsyncExitStack()
        self.run(self._start(directory))

    def run(self, coroutine: Any) -> Any:
        """Run a coroutine on the door's loop."""
        future: Future[Any] = asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        return future.result(30)

    async def _start(self, directory: Path) -> None:
        self.peer: PeerServer = await self._stack.enter_async_context(peer_server(directory / "peer", self.clock))
        self.peers = await self._stack.enter_async_context(client(self.store, directory / "gateway", self.clock))
        keys = self.peers._signing.keys
        storages = {"storage": Storage("storage", MemoryBackend(), Pool("storage", threads=1))}
        mounts = Mounts([MountConfig(name="home", backend="storage", path="", rights="write")], {})
        passwords = Passwords(self.store)
        self._stack.callback(passwords.close)
        access = Access(self.store, mounts, passwords, issuer=ORIGIN, token_keys=keys.public, clock=self.clock)
        self.access = access
        outbox = Outbox(self.store, self.clock)
        tree = Tree(self.store, mounts, storages, None, Changes(self.store), self.clock)
        self.trust = Trust(self.store, self.clock)
        self.legacy = Legacy(self.store, clock=self.clock)
        self.inviting = Inviting(self.store, self.peers, server=SERVER, public_url=URL, clock=self.clock)
        self.sending = sending = Sending(
            self.store,
            tree,
            access,
            self.trust,
            self.peers,
            outbox,
            self.sealer,
            server=SERVER,
            dav_url=f"{URL}/dav/ocm/",
            clock=self.clock,
        )
        self.remote = NoRemote()
        key_pairs = KeyPairs(self.store, self.sealer, self.clock)
        receiving = Receiving(
            *(self.store, self.peers, outbox, NoRemote(), self.sealer, key_pairs), server=SERVER, clock=self.clock
        )
        self.hints = Hints(self.store, receiving, self.remote, self.peers, self.legacy, self.clock)
        self.proving = proving(self.store, self.peers, self.trust, self.clock, self.legacy)
        self.requesting = Requesting(
            *(self.store, sending, receiving, access, self.trust, self.peers, outbox),
            server=SERVER,
            policy=Admitting(),
            clock=self.clock,
        )
        door = ApiDoor(
            sending,
            receiving,
            self.requesting,
            Resharing(
                *(self.store, tree, sending, receiving, self.requesting, self.trust, self.peers, outbox, self.sealer),
                server=SERVER,
                clock=self.clock,
            ),
            Departing(
                *(self.store, sending, receiving, NoRemote(), access, self.peers, outbox),
                server=SERVER,
                clock=self.clock,
            ),
            self.hints,
            Issuing(self.store, keys, origin=ORIGIN, clock=self.clock),
            self.proving,
            keys,
            self.inviting,
            Traces(directory / "traces", self.clock),
            self.peers.is_acquainted,
            document=describe(
                public_url=URL,
                provider="Gateway",
                capabilities=("exchange-token", "http-sig", "invites", "notifications", "protocol-object"),
                token_end_point=f"{URL}/ocm/token",
                jwks_uri=f"{URL}/ocm/jwks",
                invite_accept_dialog=f"{URL}/accept-invite",
            ),
            origin=ORIGIN,
            base_path=BASE,
            limits=self.limits,
        )
        middlewares = [limiter(self.limits, LOOPBACK), Metrics(self.store).middleware]
        app = web.Application(middlewares=middlewares, client_max_size=0)
        door.add_routes(app.router)
        ((_, self.port),) = await listening.listen(self._stack, app, [Address("127.0.0.1", 0)])

    def close(self) -> None:
        self.run(self._stack.aclose())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()
        self.store.close()

    # What clients do

    def request(
        self,
        method: str,
        target: str,
        body: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            chunked = body is not None and not isinstance(body, bytes)
            connection.request(method, target, body, dict(headers or {}), encode_chunked=chunked)
            answer = connection.getresponse()
            return Reply(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def raw(self, data: bytes, *, hang_up: bool = False) -> bytes:
        """Send bytes and return everything until the door closes, or says nothing more for a while."""
        answer = b""
        with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
            connection.sendall(data)
            if hang_up:
                connection.shutdown(socket.SHUT_WR)
            with suppress(TimeoutError, ConnectionError):
                while piece := connection.recv(65536):
                    answer += piece
        return answer

    def post(
        self, path: str, payload: Any, *, signed: bool = True, kind: str = "application/json", pause: float = 0
    ) -> Reply:
        """Make the peer POST to the API, JSON unless it is bytes, with a pause of so many seconds within the body."""
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        message = self.peer.message(f"{BASE}/ocm/{path}", body, to=ORIGIN, nonce=f"{id(body)}-{self.clock.now}")
        if pause:
            return self._send_slowly(message, kind, pause)
        return self.send(message, kind) if signed else self.request("POST", f"{BASE}/ocm/{path}", body, {
            "Content-Type": kind
        })  # fmt: skip

    def send(self, message: Message, kind: str = "application/json") -> Reply:
        """Send a signed message as it is, to the socket whatever its name."""
        target = message.target_uri.removeprefix(ORIGIN)
        return self.request("POST", target, message.body, {**dict(message.headers), "Content-Type": kind})

    def _send_slowly(self, message: Message, kind: str, pause: float) -> Reply:
        def pieces() -> Iterator[bytes]:
            yield message.body[:1]
            time.sleep(pause)
            yield message.body[1:]

        headers = {**dict(message.headers), "Content-Type": kind, "Content-Length": str(len(message.body))}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request("POST", message.target_uri.removeprefix(ORIGIN), pieces(), headers)
            answer = connection.getresponse()
            return Reply(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def share(self, **changes: Any) -> dict[str, Any]:
        """Return the Share Creation Notification that the peer sends; None takes a member out."""
        details = {"uri": "remote-1", "sharedSecret": SECRET, "permissions": ["read"]}
        webdav = details | changes.pop("webdav", {})
        return offer({"webdav": webdav}, f"carol@{self.peer.server}", **changes)

    # What is in the state

    def put_sent(self, share_id: str, **changes: Any) -> None:
        share = sent(share_id, **({"server": self.peer.server, "share_with": f"bob@{self.peer.server}"} | changes))
        secret = f"{SECRET}-{share_id}"
        sealed = self.sealer.seal(secret, share_id)
        self.store.run_sync(lambda tx: sent_shares.add(tx, share, secret_hash(secret), sealed))

    def put_received(self, share_id: str, **changes: Any) -> None:
        share = received(share_id, **({"server": self.peer.server, "provider_id": share_id} | changes))
        secret = f"{SECRET}-{share_id}"
        sealed = self.sealer.seal(secret, share_id)
        self.store.run_sync(lambda tx: received_shares.add(tx, share, secret_hash(secret), sealed))

    def sent(self) -> list[Any]:
        return self.store.read_sync(lambda tx: sent_shares.of_owner(tx, None))

    def received(self) -> list[Any]:
        return self.store.read_sync(lambda tx: received_shares.of_user(tx, None))

    def state_of(self, share_id: str) -> str:
        for table in (sent_shares, received_shares):
            if found := self.store.read_sync(lambda tx, table=table: table.get(tx, share_id)):
                return str(found.state)
        raise AssertionError(share_id)
