"""Which servers may be dealt with: lists by host and suffix, the operator's commands, and what decides first."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from parts import Clock, new_store
from peer_servers import PeerServer, client, peer_server
from pydantic import ValidationError

from gateway.config import FederationConfig
from gateway.errors import NotAllowed, PeerFailed
from gateway.ocm.address import canonical_server, normalise_server
from gateway.store.engine import Store
from gateway.trust import BLOCKED, TRUSTED, Trust

# --- what an entry means --------------------------------------------------------------------------------------------

MEANS = [
    # entry, servers that it means, servers that it does not
    (
        "cloud.example.org",
        ["cloud.example.org", "CLOUD.Example.ORG", "cloud.example.org.", "cloud.example.org:8443"],
        ["example.org", "a.cloud.example.org", "evilcloud.example.org", "cloud.example.org.evil.net"],
    ),
    (
        ".example.org",
        ["cloud.example.org", "a.b.example.org:8443", "cloud.example.org."],
        ["example.org", "evilexample.org", "example.org.evil.net", "cloud.example.orgs"],
    ),
    ("cloud.example.org:8443", ["cloud.example.org:8443"], ["cloud.example.org", "cloud.example.org:443"]),
    ("cloud.example.org:443", ["cloud.example.org", "cloud.example.org:443"], ["cloud.example.org:8443"]),
    (".example.org:8443", ["a.example.org:8443"], ["a.example.org", "example.org:8443", "a.example.org:84"]),
    ("CLOUD.Example.org", ["cloud.example.org"], ["cloud.example.net"]),
    (".xn--mnchen-3ya.example", ["cloud.münchen.example", "cloud.xn--mnchen-3ya.example"], ["cloud.munchen.example"]),
    ("my_cloud.example.org", ["my_cloud.example.org"], ["my-cloud.example.org"]),
    ("192.0.2.1", ["192.0.2.1", "192.0.2.1:8443"], ["192.0.2.10", "1.192.0.2.1.example"]),
    ("192.0.2.1:8443", ["192.0.2.1:8443"], ["192.0.2.1"]),
    ("[2001:db8::1]", ["[2001:db8::1]", "[2001:DB8:0::1]:8443"], ["[2001:db8::10]", "[2001:db8::1:8443]"]),
    ("2001:DB8:0::1", ["[2001:db8::1]:8443"], ["[2001:db8::2]"]),
    ("[2001:db8::1]:8443", ["[2001:db8::1]:8443"], ["[2001:db8::1]"]),
]


@pytest.mark.parametrize(("entry", "meant", "others"), MEANS, ids=[entry for entry, _, _ in MEANS])
def test_an_entry_means_a_host_or_all_hosts_below_a_suffix(entry: str, meant: list[str], others: list[str]) -> None:
    lists = FederationConfig.model_validate({"denylist": [entry], "allowlist": [entry]})
    for server in meant:
        assert lists.denies(canonical_server(server)), server
        assert lists.allows(normalise_server(f"https://{server}/")), server
    for server in others:
        assert not lists.denies(canonical_server(server)), server


@pytest.mark.parametrize(
    "entry",
    [
        *("", ".", "..", "*", "*.example.org", "..example.org", "example..org", "example.org.", "-a.example", "a b"),
        *("https://example.org", "example.org/path", "user@example.org", "example.org:", "example.org:0"),
        *("example.org:65536", "example.org:x", "münchen.example", ".0.0.1", ".1", "[::1", "::1]", "[fe80::1%eth0]"),
        *(7, None, [], {}),
    ],
)
def test_an_entry_that_could_mean_anything_is_refused(entry: object) -> None:
    with pytest.raises(ValidationError) as refused:
        FederationConfig.model_validate({"denylist": [entry]})
    assert "a host, or '.' and a suffix of hosts" in str(refused.value)


# --- what decides ---------------------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = new_store(tmp_path)
    yield store
    store.close()


async def member(server: str) -> bool:
    return server.startswith("member.")


DECIDED = [
    # server, what `peer` said, whether the allowlist is closed, what decides, whether it is admitted and listed
    ("denied.allowed.example", BLOCKED, True, "blocked", False, False),
    ("denied.allowed.example", TRUSTED, True, "denylist", False, False),
    ("denied.allowed.example", None, True, "denylist", False, False),
    ("cloud.allowed.example", BLOCKED, True, "blocked", False, False),
    ("cloud.allowed.example", TRUSTED, True, "trusted", True, True),
    ("cloud.allowed.example", None, True, "allowlist", True, True),
    ("member.example", None, True, "directory", True, True),
    ("member.example", BLOCKED, True, "blocked", False, False),
    ("member.denied.example", None, True, "denylist", False, False),
    ("stranger.example", TRUSTED, True, "trusted", True, True),
    ("stranger.example", None, True, "unlisted", False, False),
    ("stranger.example", None, False, "unlisted", True, False),
    ("member.example", None, False, "directory", True, True),
    ("member.denied.example", None, False, "denylist", False, False),
    ("stranger.example", BLOCKED, False, "blocked", False, False),
]


@pytest.mark.parametrize(("server", "said", "closed", "decides", "admitted", "listed"), DECIDED)
async def test_block_goes_before_denylist_before_trust_before_allowlist(
    store: Store, server: str, said: str | None, closed: bool, decides: str, admitted: bool, listed: bool
) -> None:
    written: dict[str, Any] = {"denylist": ["denied.allowed.example", ".denied.example"]}
    if closed:
        written["allowlist"] = [".allowed.example"]
    trust = Trust(store, Clock(), lists=FederationConfig.model_validate(written), is_member=member)
    if said:
        await trust.set(server, said, "operator")
    assert await trust.standing(server) == decides
    assert await trust.is_listed(server) is listed
    if admitted:
        await trust.require(server)
        return
    with pytest.raises(NotAllowed) as refused:
        await trust.require(server)
    assert refused.value.code == "UNTRUSTED_PROVIDER"
    assert server in str(refused.value)


async def test_an_empty_allowlist_is_closed_and_none_is_open(store: Store) -> None:
    await Trust(store, lists=FederationConfig(allowlist=None)).require("cloud.example.org")
    with pytest.raises(NotAllowed):
        await Trust(store, lists=FederationConfig(allowlist=())).require("cloud.example.org")


# --- nothing leaves before that -------------------------------------------------------------------------------------


@pytest.fixture
async def peer(tmp_path: Path) -> AsyncIterator[PeerServer]:
    async with peer_server(tmp_path / "peer", Clock()) as peer:
        yield peer


def lists(**written: Any) -> FederationConfig:
    return FederationConfig.model_validate(written)


@pytest.mark.parametrize("port", [True, False])
async def test_a_denied_server_gets_no_byte(tmp_path: Path, store: Store, peer: PeerServer, port: bool) -> None:
    denied = lists(denylist=[peer.server if port else "127.0.0.1"])
    async with client(store, tmp_path, Clock(), denied) as peers:
        with pytest.raises(NotAllowed):
            await peers.discover(peer.server)
    assert peer.asked == []


async def test_a_server_off_the_allowlist_gets_no_byte_until_it_is_trusted(
    tmp_path: Path, store: Store, peer: PeerServer
) -> None:
    closed = lists(allowlist=["cloud.example.org"])
    async with client(store, tmp_path, Clock(), closed) as peers:
        with pytest.raises(NotAllowed):
            await peers.discover(peer.server)
        assert peer.asked == []
        await Trust(store).set(peer.server, TRUSTED, "operator")
        assert (await peers.discover(peer.server)).enabled


async def test_a_peer_cannot_send_us_to_a_denied_server(tmp_path: Path, store: Store, peer: PeerServer) -> None:
    async with peer_server(tmp_path / "victim", Clock()) as victim:
        peer.document = peer.describe(jwksUri=f"{victim.url}/ocm/jwks", endPoint=f"{victim.url}/ocm")
        async with client(store, tmp_path, Clock(), lists(denylist=[victim.server])) as peers:
            for attempt in (peers.jwks(peer.server), peers.post(peer.server, "/shares", {})):
                with pytest.raises(PeerFailed) as failed:
                    await attempt
                assert "federation.denylist" in str(failed.value)
        assert victim.asked == []
