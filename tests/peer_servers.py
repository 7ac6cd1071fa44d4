"""Another OCM server on loopback, as the test wants it: what it says of itself, its keys, and what it answers."""

from __future__ import annotations

import asyncio
import json
import socket
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from aiohttp import web
from parts import Clock

from gateway.config import FederationConfig
from gateway.first_contacts import FirstContacts
from gateway.legacy import Legacy
from gateway.ocm import cavage
from gateway.ocm.cavage import CavageSigningKey
from gateway.ocm.discovery import describe
from gateway.ocm.keys import SigningKey
from gateway.ocm.signatures import Message, sign
from gateway.outbound import AsyncOutbound, Guard
from gateway.peers import Peers
from gateway.proving import Proving
from gateway.signing import Signing
from gateway.signing_keys import SigningKeys
from gateway.store.engine import Store
from gateway.trust import Trust
from gateway.verifying import Verifying

LOOPBACK = (ip_network("127.0.0.0/8"),)
SERVER = "gateway.example"  # the name of the gateway that is tested

Answerer = Callable[[web.Request, bytes], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Asked:
    """A request as it arrived."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name), None)


def plant_rsa_key(directory: Path) -> None:
    """Put an RSA key into a directory of keys: making one takes half a second."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    vectors = json.loads((Path(__file__).parent / "vectors" / "cavage.json").read_text())["vectors"]
    (directory / "rsa-sha512-1.pem").write_text(vectors[0]["private_key_pem"])


class PeerServer:
    """A server whose every answer can be replaced; it counts and keeps what it is asked."""

    def __init__(self, directory: Path, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.directory = directory
        self.asked: list[Asked] = []
        self.answers: dict[str, Answerer] = {}  # by path; what is not here is 404
        self.port = 0
        self._released = asyncio.Event()

    @property
    def server(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.server}"

    def count(self, path: str) -> int:
        return Counter(asked.path for asked in self.asked)[path]

    async def start(self) -> None:
        app = web.Application(client_max_size=0)
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]
        if not self.answers:
            plant_rsa_key(self.directory / "keys")
            self.keys = SigningKeys(self.directory / "keys", self.url, self.clock)
            self.document = self.describe()
            self.serve("/.well-known/ocm", lambda: self.document)
            self.serve("/ocm/jwks", lambda: self.keys.document())

    async def stop(self) -> None:
        await self.release()
        await self._runner.cleanup()

    async def release(self) -> None:
        """Break off every request that hangs."""
        self._released.set()
        self._released = asyncio.Event()
        await asyncio.sleep(0)

    def describe(self, *capabilities: str, **changes: Any) -> dict[str, Any]:
        """Return a document of API 1.5.0 with `capabilities`, signing among them unless they are given."""
        document = describe(
            public_url=self.url,
            provider="Peer",
            capabilities=capabilities or ("http-sig", "exchange-token", "notifications", "protocol-object"),
            token_end_point=f"{self.url}/ocm/token",
            jwks_uri=f"{self.url}/ocm/jwks",
        )
        return {name: value for name, value in (document | changes).items() if value is not None}

    def serve(self, path: str, value: Any, status: int = 200, **headers: str) -> None:
        """Answer `path` with JSON, or with bytes as they are; a function is asked each time."""

        async def answer(_request: web.Request, _body: bytes) -> web.StreamResponse:
            now = value() if callable(value) else value
            body = now if isinstance(now, bytes) else json.dumps(now).encode()
            return web.Response(body=body, status=status, headers=headers)

        self.answers[path] = answer

    def hang(self, path: str) -> None:
        """Take a request for `path` and never answer."""

        async def answer(_request: web.Request, _body: bytes) -> web.StreamResponse:
            await self._released.wait()
            return web.Response(status=503)

        self.answers[path] = answer

    def message(
        self,
        path: str = "/ocm/shares",
        body: bytes = b"{}",
        *,
        to: str = f"https://{SERVER}",
        key: SigningKey | None = None,
        created: float | None = None,
        nonce: str | None = None,
    ) -> Message:
        """Return a request to the gateway, signed with this server's key."""
        key = key or self.keys.signing_key()
        moment = int(self.clock() if created is None else created)
        headers = sign(Message("POST", f"{to}{path}", (), body), key, moment, nonce=nonce)
        return Message("POST", f"{to}{path}", tuple(headers.items()), body)

    def become_nextcloud(self, **changes: Any) -> None:
        """Say what Nextcloud 31 says of itself (peers.md section 1): it signs by draft-cavage, with RSA."""
        file = {"name": "file", "shareTypes": ["user", "group"], "protocols": {"webdav": "/public.php/webdav/"}}
        self.document = {
            "enabled": True,
            "apiVersion": "1.0-proposal1",
            "endPoint": f"{self.url}/index.php/ocm",
            "resourceTypes": [file],
            "publicKey": self.keys.cavage_key().published(),
        } | changes

    def cavage_message(
        self,
        path: str = "/ocm/shares",
        body: bytes = b"{}",
        *,
        to: str = f"https://{SERVER}",
        key: CavageSigningKey | None = None,
    ) -> Message:
        """Return a request to the gateway, signed as Nextcloud 31 signs."""
        unsigned = Message("POST", f"{to}{path}", (), body)
        headers = cavage.sign(unsigned, key or self.keys.cavage_key(), self.clock())
        return Message("POST", unsigned.target_uri, tuple(headers.items()), body)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        headers = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in request.raw_headers)
        self.asked.append(Asked(request.method, request.raw_path, headers, body))
        answer = self.answers.get(request.path)
        if answer is None:
            return web.json_response({"message": "NOT_FOUND"}, status=404)
        return await answer(request, body)


@asynccontextmanager
async def peer_server(directory: Path, clock: Clock) -> AsyncIterator[PeerServer]:
    """Run a server that signs, exchanges tokens, and has nothing else yet."""
    server = PeerServer(directory, clock)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


async def resolve(host: str, _port: int) -> list[str]:
    """Know localhost alone, so that no test asks the network for a name."""
    if host != "localhost":
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    return ["127.0.0.1"]


@asynccontextmanager
async def client(
    store: Store,
    directory: Path,
    clock: Clock,
    lists: FederationConfig | None = None,
    first_contacts: FirstContacts | None = None,
    legacy: Legacy | None = None,
) -> AsyncIterator[Peers]:
    """Give the gateway's own OCM client, which may go to loopback in plain http."""
    lists = lists or FederationConfig()
    guard = Guard(LOOPBACK, lambda host: host in ("127.0.0.1", "localhost"), lists.denies)
    async with AsyncOutbound(guard, user_agent="test", resolve=resolve) as outbound:
        plant_rsa_key(directory / "keys")
        keys = SigningKeys(directory / "keys", f"https://{SERVER}", clock)
        yield Peers(
            store,
            outbound,
            Trust(store, clock, lists=lists),
            Signing(keys, legacy or Legacy(store, clock=clock), clock),
            server=SERVER,
            http_allowed=lambda host: host in ("127.0.0.1", "localhost"),
            first_contacts=first_contacts or FirstContacts(100_000, 100_000),
            clock=clock,
        )


def proving(
    store: Store, peers: Peers, trust: Trust, clock: Clock, legacy: Legacy | None = None, **changes: Any
) -> Proving:
    """Return what proves peers, as the gateway has it."""
    legacy = legacy or Legacy(store, clock=clock)
    return Proving(store, peers, Verifying(store, peers, clock), trust, legacy, clock=clock, **changes)
