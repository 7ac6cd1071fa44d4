"""Every bypass that we know of, in every place where somebody else's URL comes in: nothing connects but where it may.

The peer at 127.0.0.5 is the only address that may be contacted, on its own port, and plain http is allowed everywhere,
so that it is never the reason. An audit hook sees each connect(2) that Python makes, whoever makes it.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from parts import Clock, new_store, received
from peer_servers import SERVER

from backends.errors import StorageError
from gateway.errors import Refusal
from gateway.first_contacts import FirstContacts
from gateway.key_pairs import KeyPairs
from gateway.legacy import Legacy
from gateway.ocm.address import OCMAddress, canonical_server
from gateway.ocm.errors import ProtocolError
from gateway.outbound import AsyncOutbound, Guard, OutboundError, SyncOutbound
from gateway.peers import Peers
from gateway.remote import Remote
from gateway.signing import Signing
from gateway.signing_keys import SigningKeys
from gateway.ssh_shares import SSHShares
from gateway.store import received_shares, users
from gateway.store.engine import Store
from gateway.store.sealing import Sealer, secret_hash
from gateway.trust import Trust
from gateway.turns import Turns

PEER = "127.0.0.5"
NAMES: dict[str, list[list[str]]] = {  # what the resolver answers, one list after the other
    "good.example": [[PEER]],
    "rebinding.example": [[PEER], ["127.0.0.1"]],
    "loopback.example": [["127.0.0.1"]],  # a CNAME to localhost looks like this as well
    "localhost": [["127.0.0.1", "::1"]],
    "mixed.example": [["10.0.0.1", PEER, "127.0.0.1", "::1"]],
    "metadata.example": [["169.254.169.254"]],
    "mapped.example": [["::ffff:127.0.0.1"]],
    "nat64.example": [["64:ff9b::7f00:1"]],
    "sixtofour.example": [["2002:7f00:1::1"]],
    "zone.example": [["fe80::1%1"]],
    "odd.example": [["0x7f.1", "127.1", "2130706433"]],  # a resolver that answers in another notation
    "xn--lcalhost-2qf.example": [["127.0.0.1"]],
}

# `{port}` is the port of the peer, where any other server of this machine could be as well.
BYPASSES = {
    "loopback": "http://127.0.0.1:{port}/",
    "all of 127/8": "http://127.8.9.10:{port}/",
    "unspecified": "http://0.0.0.0:{port}/",
    "this network": "http://0.1.2.3:{port}/",
    "private 10": "http://10.0.0.1:{port}/",
    "private 172": "http://172.16.0.1:{port}/",
    "private 192": "http://192.168.1.1:{port}/",
    "carrier": "http://100.64.0.1:{port}/",
    "metadata": "http://169.254.169.254:8080/latest/meta-data/",
    "multicast": "http://224.0.0.1:{port}/",
    "broadcast": "http://255.255.255.255:{port}/",
    "decimal": "http://2130706433:{port}/",
    "hexadecimal": "http://0x7f000001:{port}/",
    "octal": "http://017700000001:{port}/",
    "dotted octal": "http://0177.0.0.1:{port}/",
    "dotted hexadecimal": "http://0x7f.0x0.0x0.0x1:{port}/",
    "mixed bases": "http://0x7f.0.1:{port}/",
    "short form": "http://127.1:{port}/",
    "one part": "http://0:{port}/",
    "leading zeros": "http://127.0.0.01:{port}/",
    "overflow": "http://383.0.0.1:{port}/",
    "ipv6 loopback": "http://[::1]:{port}/",
    "ipv6 unspecified": "http://[::]:{port}/",
    "ipv6 written out": "http://[0:0:0:0:0:0:0:1]:{port}/",
    "mapped": "http://[::ffff:127.0.0.1]:{port}/",
    "mapped in hexadecimal": "http://[::ffff:7f00:1]:{port}/",
    "compatible": "http://[::127.0.0.1]:{port}/",
    "translated": "http://[::ffff:0:127.0.0.1]:{port}/",
    "nat64": "http://[64:ff9b::7f00:1]:{port}/",
    "local nat64": "http://[64:ff9b:1::7f00:1]:{port}/",
    "6to4": "http://[2002:7f00:1::]:{port}/",
    "teredo": "http://[2001:0:4136:e378:8000:63bf:80ff:fffe]:{port}/",
    "unique local": "http://[fd00::1]:{port}/",
    "link-local with zone": "http://[fe80::1%25lo]:{port}/",
    "loopback with zone": "http://[::1%25lo]:{port}/",
    "unbracketed ipv6": "http://::1:{port}/",
    "localhost": "http://localhost:{port}/",
    "localhost with dot": "http://localhost.:{port}/",
    "address with dot": "http://127.0.0.1.:{port}/",
    "upper case": "HTTP://LOCALHOST:{port}/",
    "name of loopback": "http://loopback.example:{port}/",
    "rebinding": "http://rebinding.example:{port}/",
    "one private of several": "http://mixed.example:{port}/",
    "name of metadata": "http://metadata.example:8080/",
    "name of a mapped address": "http://mapped.example:{port}/",
    "name of a nat64 address": "http://nat64.example:{port}/",
    "name of a 6to4 address": "http://sixtofour.example:{port}/",
    "name of a zone": "http://zone.example:{port}/",
    "odd answer of the resolver": "http://odd.example:{port}/",
    "punycode": "http://xn--lcalhost-2qf.example:{port}/",
    "mixed scripts": "http://l\u043ecalhost:{port}/",
    "full-width digits": "http://\uff11\uff12\uff17.0.0.1:{port}/",
    "circled digits": "http://\u2460\u2461\u2466.0.0.1:{port}/",
    "ideographic dots": "http://127\u30020\u30020\u30021:{port}/",
    "soft hyphen": "http://local\u00adhost:{port}/",
    "user name": "http://good.example@127.0.0.1:{port}/",
    "user name and password": "http://good.example:80@127.0.0.1:{port}/",
    "empty user name": "http://@127.0.0.1:{port}/",
    "two at signs": "http://a@127.0.0.1:{port}@good.example/",
    "backslash for slash": "http://good.example\\@127.0.0.1:{port}/",
    "backslashes": "http:\\\\127.0.0.1:{port}\\",
    "fragment before at": "http://127.0.0.1:{port}#@good.example/",
    "query before at": "http://127.0.0.1:{port}?@good.example/",
    "semicolon": "http://127.0.0.1;good.example:{port}/",
    "comma": "http://127.0.0.1,good.example:{port}/",
    "percent-encoded host": "http://%31%32%37.0.0.1:{port}/",
    "percent-encoded dot": "http://127%2e0%2e0%2e1:{port}/",
    "percent-encoded at": "http://good.example%40127.0.0.1:{port}/",
    "line feed": "http://127.0.0.1\n:{port}/",
    "carriage return": "http://good.example:{port}/\r\nHost: 127.0.0.1",
    "tab in scheme": "ht\ttp://127.0.0.1:{port}/",
    "tab in host": "http://127.0.\t0.1:{port}/",
    "leading space": " http://127.0.0.1:{port}/",
    "nul": "http://127.0.0.1\x00.good.example:{port}/",
    "two ports": "http://127.0.0.1:{port}:80/",
    "ssh port": f"http://{PEER}:22/",
    "smtp port": f"http://{PEER}:25/",
    "low port": f"http://{PEER}:1023/",
    "redis on loopback": "http://127.0.0.1:6379/",
    "port beyond 16 bits": f"http://{PEER}:65558/",  # 22 modulo 2**16
    "port in other digits": f"http://{PEER}:\u0662\u0662/",
    "no scheme": "//127.0.0.1:{port}/",
    "one slash": "http:/127.0.0.1:{port}/",
    "no slash": "http:127.0.0.1:{port}/",
    "three slashes": "http:///127.0.0.1:{port}/",
    "file": "file:///etc/passwd",
    "gopher": "gopher://127.0.0.1:6379/_FLUSHALL",
    "unix": "http+unix://%2Frun%2Fdocker.sock/info",
    "unix path": "unix:///run/docker.sock",
    "ftp": "ftp://127.0.0.1:{port}/",
    "dict": "dict://127.0.0.1:{port}/",
    "ssh": "ssh://127.0.0.1:{port}/",
    "data": "data:application/json,{{}}",
}
GOOD = ("http://127.0.0.5:{port}/here", "http://good.example:{port}/here")

HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIK0wmN/Cr3JXqmLW7u+g9pTh+wyqDHpSQEIQczXkVx9q"
_connected: list[tuple[str, int]] | None = None


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "socket.connect" and _connected is not None:
        _connected.append(arguments[1][:2] if isinstance(arguments[1], tuple) else (str(arguments[1]), 0))


sys.addaudithook(_watch)  # it stays for the life of the process; it notes only while a test here asks it to


class Names:
    """A resolver as lenient as the C library's: whatever inet_aton(3) reads is an address."""

    def __init__(self) -> None:
        self.asked: dict[str, int] = {}

    def sync(self, host: str, _port: int) -> list[str]:
        answers = NAMES.get(host.rstrip(".").lower())
        if answers is None:
            with suppress(OSError, UnicodeError):
                return [socket.inet_ntoa(socket.inet_aton(host))]
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        self.asked[host] = self.asked.get(host, 0) + 1
        return answers[min(self.asked[host], len(answers)) - 1]

    async def asynchronous(self, host: str, port: int) -> list[str]:
        return self.sync(host, port)


class Hostile:
    """The peer: it answers by the byte, so that a Location may be anything."""

    def __init__(self) -> None:
        self.port = 0
        self.paths: list[str] = []
        self.members: dict[str, Any] = {}
        self.location: str | None = None

    @property
    def server(self) -> str:
        return f"{PEER}:{self.port}"

    def document(self) -> dict[str, Any]:
        url = f"http://{self.server}"
        webdav = {"name": "folder", "shareTypes": ["user"], "protocols": {"webdav": "/dav/"}}
        return {
            "enabled": True,
            "apiVersion": "1.3.0",
            "endPoint": f"{url}/ocm",
            "resourceTypes": [webdav],
            "capabilities": ["exchange-token", "http-sig", "invites"],
            "tokenEndPoint": f"{url}/token",
            "jwksUri": f"{url}/jwks",
        } | self.members

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            if await reader.readexactly(1) not in (b"\x16", b"S"):  # else it is TLS, which is tried first, or SSH
                await self._answer(reader, writer)
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        path = head.split(" ")[1]
        self.paths.append(path)
        body, status, more = b"{}", "200 OK", ""
        if path == "/.well-known/ocm" and self.location is not None:
            status, more = "302 Found", f"Location: {self.location}\r\n"
        elif path == "/.well-known/ocm":
            body = json.dumps(self.document()).encode()
        elif path == "/token":
            body = b'{"access_token": "token", "token_type": "Bearer", "expires_in": 300}'
        answer = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n{more}\r\n"
        writer.write(answer.encode("utf-8", "surrogateescape") + body)
        await writer.drain()


class Place:
    """A gateway's ways out, and the peer that tries to misuse them."""

    def __init__(self, store: Store, hostile: Hostile, directory: Path) -> None:
        self.store = store
        self.hostile = hostile
        self.directory = directory
        self.clock = Clock()
        self.keys = SigningKeys(directory / "keys", f"https://{SERVER}", self.clock)
        self.names = Names()
        guard = Guard([ip_network(f"{PEER}/32")], lambda host: True)
        self.outbound = AsyncOutbound(guard, user_agent="test", resolve=self.names.asynchronous)
        self.streaming = SyncOutbound(guard, user_agent="test", resolve=self.names.sync)

    async def close(self) -> None:
        await self.outbound.close()
        self.streaming.close()

    def peers(self) -> Peers:
        """Return a client that believes nothing of what was found before."""
        self.clock.advance(10_000)
        self.names.asked.clear()
        trust = Trust(self.store, self.clock)
        values: dict[str, Any] = {"server": SERVER, "http_allowed": lambda host: True, "clock": self.clock}
        signing = Signing(self.keys, Legacy(self.store, clock=self.clock), self.clock)
        first_contacts = FirstContacts(100_000, 100_000)
        return Peers(self.store, self.outbound, trust, signing, first_contacts=first_contacts, **values)

    async def probe(self, peers: Peers, uri: str, *, requires_exchange: bool, **more: Any) -> None:
        """Look at a Share whose `uri` the peer has chosen."""
        sealer, turns = Sealer(b"k" * 32), Turns(self.directory / "turns")
        share = received(
            server=self.hostile.server,
            state="accepted",
            mount="x",
            uri=uri,
            requires_exchange=requires_exchange,
            **more,
        )
        self.store.run_sync(
            lambda tx: received_shares.add(tx, share, secret_hash("s"), sealer.seal("secret", share.id))
        )
        ssh = SSHShares(self.streaming, peers.breakers, KeyPairs(self.store, sealer, self.clock), self.directory)
        remote = Remote(self.store, peers, self.streaming, sealer, turns, ssh, server=SERVER, clock=self.clock)
        try:
            await remote.probe(share.id, 5)
        finally:
            self.store.run_sync(lambda tx: tx.exec_driver_sql("DELETE FROM received_shares"))
            self.store.run_sync(lambda tx: tx.exec_driver_sql("DELETE FROM exchanged_tokens"))
            remote.close()
            turns.close()


Attempt = Callable[[Place, str], Awaitable[object]]


async def by_server_name(place: Place, url: str) -> None:
    """The host of an address, as the sender of a Share or as the text of a WAYF page."""
    host = url.partition("://")[2].rstrip("/") or url
    for read in (canonical_server, lambda text: OCMAddress.normalise(f"eve@{text}").server):
        with suppress(ProtocolError, Refusal):
            await place.peers().discover(read(host))


async def by_unread_server_name(place: Place, url: str) -> None:
    """The same if nobody had looked at it before."""
    await place.peers().discover(url.partition("://")[2].rstrip("/") or url)


async def by_redirect(place: Place, url: str) -> None:
    place.hostile.location = url
    await place.peers().discover(place.hostile.server)


async def by_member(place: Place, name: str, url: str, use: Callable[[Peers], Awaitable[object]]) -> None:
    place.hostile.members = {name: url}
    peers = place.peers()
    await peers.discover(place.hostile.server)
    await use(peers)


async def by_jwks_uri(place: Place, url: str) -> None:
    await by_member(place, "jwksUri", url, lambda peers: peers.jwks(place.hostile.server, fresh=True))


async def by_end_point(place: Place, url: str) -> None:
    await by_member(place, "endPoint", url, lambda peers: peers.post(place.hostile.server, "/shares", {}))


async def by_token_end_point(place: Place, url: str) -> None:
    await by_member(place, "tokenEndPoint", url, lambda peers: place.probe(peers, "remote-1", requires_exchange=True))


async def by_invite_accept_dialog(place: Place, url: str) -> None:
    """Only a browser goes there; that it is in the document makes nobody here connect."""
    await by_member(place, "inviteAcceptDialog", url, lambda peers: peers.discover(place.hostile.server))


async def by_webdav_path(place: Place, url: str) -> None:
    folder = {"name": "folder", "shareTypes": ["user"], "protocols": {"webdav": url}}
    place.hostile.members = {"resourceTypes": [folder]}
    await place.probe(place.peers(), "remote-1", requires_exchange=True)


async def by_webdav_uri(place: Place, url: str) -> None:
    """Of a signed Share, whose token may go to another host."""
    await place.probe(place.peers(), url, requires_exchange=True)


async def by_ssh_uri(place: Place, url: str) -> None:
    """Of a signed Share, which may be met on another host, if somebody had stored it without a look at it."""
    authority, _, path = url.partition("://")[2].partition("/")
    ssh = {"protocols": ("ssh",), "ssh_uri": f"eve@{authority}/{path}", "host_key": HOST_KEY}
    await place.probe(place.peers(), "", requires_exchange=False, **ssh)


async def by_ssh_server(place: Place, url: str) -> None:
    """The same if nobody had looked at it before."""
    place.streaming.dial(url.partition("://")[2].rstrip("/") or url).close()


async def by_directory_service(place: Place, url: str) -> None:
    await place.outbound.request("GET", url, timeout=5, max_body=1000, redirects=3)


SOURCES: tuple[Attempt, ...] = (
    by_server_name,
    by_unread_server_name,
    by_redirect,
    by_jwks_uri,
    by_end_point,
    by_token_end_point,
    by_invite_accept_dialog,
    by_webdav_path,
    by_webdav_uri,
    by_ssh_uri,
    by_ssh_server,
    by_directory_service,
)
BY_SSH = (by_ssh_uri, by_ssh_server)
# Where nothing is fetched, or only from the sender's own host whatever is written there.
NOT_ELSEWHERE = (by_invite_accept_dialog, by_webdav_path)


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    store, hostile = new_store(tmp_path), Hostile()
    store.run_sync(lambda tx: users.add(tx, "alice", "hash", 0))
    server = await asyncio.start_server(hostile.serve, PEER, 0)
    hostile.port = server.sockets[0].getsockname()[1]
    place = Place(store, hostile, tmp_path)
    yield place
    await place.close()
    server.close()
    await server.wait_closed()
    store.close()


async def connections(place: Place, attempt: Attempt, url: str) -> set[tuple[str, int]]:
    """Return where `attempt` with `url` has connected to, or tried to."""
    global _connected
    place.hostile.members, place.hostile.location = {}, None
    _connected = []
    try:
        with suppress(Refusal, ProtocolError, OutboundError, StorageError):
            await attempt(place, url.format(port=place.hostile.port))
        return set(_connected)
    finally:
        _connected = None


@pytest.mark.parametrize("name", BYPASSES)
async def test_a_bypass_leads_nowhere_from_any_place(place: Place, name: str) -> None:
    peer = {(PEER, port) for port in (22, 80, 443, place.hostile.port)}  # 22 by SSH alone: see below
    reached = {attempt.__name__: await connections(place, attempt, BYPASSES[name]) for attempt in SOURCES}
    assert {source: where for source, where in reached.items() if where - peer} == {}


@pytest.mark.parametrize("url", GOOD)
async def test_from_every_place_a_proper_url_leads_where_it_says(place: Place, url: str) -> None:
    """Otherwise the table would prove nothing."""
    for attempt in BY_SSH:
        address = url.removesuffix("here")
        assert await connections(place, attempt, address) == {(PEER, place.hostile.port)}, attempt.__name__
    for attempt in (source for source in SOURCES if source not in (*NOT_ELSEWHERE, *BY_SSH)):
        if attempt is by_token_end_point and "good" in url:
            continue  # a secret goes to the sender's own host alone
        place.hostile.paths.clear()
        wanted = url.removesuffix("/here") if "server_name" in attempt.__name__ else url
        await connections(place, attempt, wanted)
        paths = [path for path in place.hostile.paths if wanted != url or "/here" in path]
        assert paths, attempt.__name__


async def test_the_port_of_ssh_is_for_ssh_alone(place: Place) -> None:
    reached = {attempt: await connections(place, attempt, BYPASSES["ssh port"]) for attempt in SOURCES}
    assert {attempt for attempt, where in reached.items() if (PEER, 22) in where} == set(BY_SSH)


def test_the_table_is_long_and_says_everything_once() -> None:
    assert len(BYPASSES) >= 40
    assert len(set(BYPASSES.values())) == len(BYPASSES)
