"""What strangers make the gateway fetch: bounded for whoever causes it, and for whoever it hits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from ipaddress import ip_network
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from parts import Clock, new_store, sent
from peer_servers import PeerServer, client, peer_server, proving
from sqlalchemy import Connection

from gateway.causing import causing
from gateway.errors import Busy, Refusal
from gateway.first_contacts import FirstContacts, caused_by
from gateway.ocm.signatures import Message
from gateway.peers import FRESH_ENOUGH, Peers
from gateway.store import sent_shares, users
from gateway.store.engine import Store
from gateway.trust import TRUSTED, Trust

MINUTE = 60


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = new_store(tmp_path)
    yield store
    store.close()


@pytest.fixture
async def peer(tmp_path: Path) -> AsyncIterator[PeerServer]:
    async with peer_server(tmp_path / "peer", Clock()) as peer:
        yield peer


def refused(contacts: FirstContacts, server: str) -> Busy:
    with pytest.raises(Busy) as busy:
        contacts.require(server)
    assert busy.value.code == "TOO_MANY_LOOKUPS"
    return busy.value


# --- who counts as one ----------------------------------------------------------------------------------------------


def test_a_host_is_one_target_whatever_the_port() -> None:
    clock = Clock()
    contacts = FirstContacts(100, 3, clock)
    for server in ("victim.example", "victim.example:8443", "victim.example:9000"):
        contacts.require(server)
    assert refused(contacts, "victim.example:1234").retry_after == 20
    contacts.require("other.example")
    clock.advance(MINUTE / 3)
    contacts.require("victim.example")


@pytest.mark.parametrize(
    ("first", "second", "is_one"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("2001:db8::1", "2001:db8::ffff:2", True),  # a site has a /64 at least
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("192.0.2.1", None, False),  # ourselves
        ("unknown", "unknown", True),  # whatever a proxy writes
    ],
)
def test_a_client_is_an_address_or_a_network_of_ipv6(first: str, second: str | None, is_one: bool) -> None:
    contacts = FirstContacts(1, 100)
    with caused_by(first):
        contacts.require("a.example")
    with caused_by(second):
        if is_one:
            refused(contacts, "b.example")
        else:
            contacts.require("b.example")


async def test_what_a_request_begins_counts_for_its_client_also_behind_a_proxy() -> None:
    contacts = FirstContacts(1, 100)

    async def handler(request: web.Request) -> web.Response:
        async def look_up() -> str:
            try:
                contacts.require(request.query["server"])
            except Busy as busy:
                return busy.code
            return "fetched"

        return web.Response(text=await asyncio.create_task(look_up()))

    app = web.Application()
    app.router.add_get("/", causing(handler, [ip_network("127.0.0.0/8")]))
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    said = []
    try:
        async with aiohttp.ClientSession() as session:
            for number, address in enumerate(("192.0.2.1", "192.0.2.2", "192.0.2.1", "10.0.0.1, 192.0.2.2")):
                server = {"server": f"{number}.example"}
                async with session.get(url, params=server, headers={"X-Forwarded-For": address}) as answer:
                    said.append(await answer.text())
    finally:
        await runner.cleanup()
    assert said == ["fetched", "fetched", "TOO_MANY_LOOKUPS", "TOO_MANY_LOOKUPS"]


# --- before the first byte ------------------------------------------------------------------------------------------


async def claims(peers: Peers, store: Store, peer: PeerServer, server: str, address: str) -> None:
    """Let a client send a message in the name of `server`."""
    prover = proving(store, peers, Trust(store), peer.clock)
    with caused_by(address):
        await prover.prove(peer.message(), server)


async def test_a_client_cannot_send_us_to_host_after_host(tmp_path: Path, store: Store, peer: PeerServer) -> None:
    async with client(store, tmp_path, peer.clock, first_contacts=FirstContacts(2, 100)) as peers:
        await claims(peers, store, peer, peer.server, "192.0.2.1")  # its discovery, and its keys
        peer.asked.clear()
        with pytest.raises(Busy) as busy:
            await claims(peers, store, peer, f"localhost:{peer.port}", "192.0.2.1")
        assert (busy.value.code, busy.value.retry_after) == ("TOO_MANY_LOOKUPS", 30)
        assert peer.asked == []
        await claims(peers, store, peer, peer.server, "192.0.2.1")  # known by now: nothing is fetched
        assert peer.asked == []
        await claims(peers, store, peer, f"localhost:{peer.port}", "192.0.2.2")
        assert peer.count("/.well-known/ocm") == 1


async def test_nobody_can_send_us_to_one_host_again_and_again(tmp_path: Path, store: Store, peer: PeerServer) -> None:
    """A signature that does not verify makes us look for new keys: not more often than the host may be asked."""
    message = peer.message()
    forged = Message(message.method, f"{message.target_uri}/elsewhere", message.headers, message.body)
    codes = []
    async with client(store, tmp_path, peer.clock, first_contacts=FirstContacts(100, 5)) as peers:
        prover = proving(store, peers, Trust(store), peer.clock)
        for number in range(6):
            peer.clock.advance(FRESH_ENOUGH + 1)
            with caused_by(f"192.0.2.{number}"), pytest.raises(Refusal) as refusal:
                await prover.prove(forged, peer.server)
            codes.append(refusal.value.code)
    assert codes == ["SIGNATURE_INVALID"] * 2 + ["TOO_MANY_LOOKUPS"] * 4
    assert len(peer.asked) == 5


async def test_keys_at_another_host_count_for_that_host(tmp_path: Path, store: Store, peer: PeerServer) -> None:
    elsewhere = f"http://localhost:{peer.port}/ocm/jwks"
    peer.document = peer.describe(jwksUri=elsewhere)
    contacts = FirstContacts(100, 1)
    contacts.require("localhost")
    async with client(store, tmp_path, peer.clock, first_contacts=contacts) as peers:
        with pytest.raises(Busy):
            await peers.jwks(peer.server)
    assert [asked.path for asked in peer.asked] == ["/.well-known/ocm"]


@pytest.mark.parametrize("known", ["shared", "trusted"])
async def test_servers_that_people_here_deal_with_are_free(
    tmp_path: Path, store: Store, peer: PeerServer, known: str
) -> None:
    if known == "trusted":
        await Trust(store).set(peer.server, TRUSTED, "operator")
    else:
        await store.run(lambda tx: _share_with(tx, peer.server))
    contacts = FirstContacts(1, 1)
    with caused_by("192.0.2.1"):
        contacts.require("127.0.0.1")
    async with client(store, tmp_path, peer.clock, first_contacts=contacts) as peers:
        await claims(peers, store, peer, peer.server, "192.0.2.1")
    assert peer.count("/ocm/jwks") == 1


def _share_with(tx: Connection, server: str) -> None:
    users.add(tx, "alice", "hash", 0)
    sent_shares.add(tx, sent(server=server, share_with=f"bob@{server}"), b"hash", b"sealed")
