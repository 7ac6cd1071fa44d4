"""Signatures of all generations, with a peer on a real socket: what proves whom, what is expected from then on, what is
sent to whom, and what the operator sees of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import structlog
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from parts import Clock, new_store
from peer_servers import SERVER, PeerServer, client, peer_server, proving
from test_peers import Place

from gateway.errors import Busy, NotAllowed, PeerFailed, Unproven
from gateway.legacy import NOTED_EVERY, Legacy, Way
from gateway.ocm import cavage
from gateway.ocm.cavage import CavageKey, CavageSigningKey
from gateway.ocm.errors import Malformed
from gateway.ocm.keys import JWKSet
from gateway.ocm.signatures import Message, verify
from gateway.peers import FRESH_ENOUGH, Peers
from gateway.proof import Evidence, Peer
from gateway.store import contacts, users
from gateway.store import peers as records
from gateway.store.contacts import Contact
from gateway.store.engine import Store
from gateway.trust import TRUSTED, Trust

WELL_KNOWN = "/.well-known/ocm"


class Site(Place):
    """A gateway whose operator can close ways, and a peer that is a Nextcloud 31 to begin with."""

    def __init__(self, store: Store, peers: Peers, peer: PeerServer, clock: Clock, closed: set[Way]) -> None:
        super().__init__(store, peers, peer, clock)
        self.closed = closed
        self.used: list[str] = []
        self.trust = Trust(store, clock)
        self.legacy = Legacy(store, lambda way, _: way not in closed, count=self.used.append, clock=clock)
        self.prover = proving(store, peers, self.trust, clock, self.legacy)

    async def prove_for(self, message: Message, server: str, *, once: bool = False) -> Peer:
        return await self.prover.prove(message, server, once=once)

    async def forget(self) -> None:
        await self.trust.forget(self.peer.server, "operator")
        self.clock.advance(FRESH_ENOUGH + 1)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    clock, closed = Clock(), set[Way]()
    store = new_store(tmp_path)
    async with AsyncExitStack() as stack:
        peer = await stack.enter_async_context(peer_server(tmp_path / "peer", clock))
        legacy = Legacy(store, lambda way, _: way not in closed, clock=clock)
        peers = await stack.enter_async_context(client(store, tmp_path / "gateway", clock, legacy=legacy))
        peer.become_nextcloud()
        yield Site(store, peers, peer, clock, closed)
    store.close()


@pytest.fixture
def log() -> Any:
    with structlog.testing.capture_logs() as lines:
        yield lines


@pytest.fixture(scope="module")
def other_rsa() -> Any:
    return generate_private_key(65537, 2048)


async def refusal(awaitable: Any) -> Unproven | NotAllowed | Malformed:
    with pytest.raises((Unproven, NotAllowed, Malformed)) as caught:
        await awaitable
    return caught.value


# --- draft-cavage ---------------------------------------------------------------------------------------------------


async def test_a_nextcloud_is_proved_by_the_key_in_its_discovery(site: Site) -> None:
    assert await site.prove(site.peer.cavage_message()) == Peer(site.peer.server, Evidence.CAVAGE)
    record, key = site.record(), site.peer.keys.cavage_key()
    assert record.signed_as == "cavage"
    assert record.pinned_key is not None
    assert record.pinned_key["key_id"] == key.kid
    assert site.used == ["cavage"]


async def test_a_draft_cavage_signature_may_prove_but_never_more_than_the_others() -> None:
    order = [Evidence.SECRET, Evidence.CAVAGE, Evidence.LABELLED, Evidence.RFC9421]
    assert order == sorted(order)
    assert [Evidence.of(evidence.word) for evidence in order] == order


async def test_the_signature_is_of_this_request_to_this_gateway(site: Site) -> None:
    for changed in (
        site.peer.cavage_message(to="https://other.example"),
        site.peer.cavage_message("/ocm/notifications"),
    ):
        message = replace(changed, target_uri=f"https://{SERVER}/ocm/shares")
        assert (await refusal(site.prove(message))).code == "SIGNATURE_INVALID"


async def test_a_signature_in_the_name_of_another_server_proves_nothing(site: Site) -> None:
    """The keys are those of the host that the payload speaks for; the name of the key has to be of it, too."""
    foreign = replace(site.peer.keys.cavage_key(), kid="https://other.example/ocm#rsa-sha512-1")
    assert (await refusal(site.prove(site.peer.cavage_message(key=foreign)))).code == "KEYID_MISMATCH"


async def test_nobody_makes_us_forget_that_the_server_of_a_contact_signs(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its discovery does not say that it does, and whoever names many servers fills the memory for strangers."""
    monkeypatch.setattr("gateway.peers.STRANGERS_KEPT", 0)
    address = f"carol@{site.peer.server}"
    contact = Contact("alice", address, "carol", None, None, "invite sent", False, False, 0)
    site.store.run_sync(lambda tx: users.add(tx, "alice", "hash", 0))
    site.store.run_sync(lambda tx: contacts.add(tx, contact))
    assert await site.prove(site.peer.cavage_message()) == Peer(site.peer.server, Evidence.CAVAGE)
    await site.peers.discover(f"localhost:{site.peer.port}")
    unsigned = replace(site.peer.cavage_message(), headers=())
    assert (await refusal(site.prove(unsigned))).code == "SIGNATURE_REQUIRED"


async def test_a_replay_is_refused_where_it_would_do_harm(site: Site) -> None:
    message = site.peer.cavage_message()
    await site.prove(message, once=True)
    assert (await refusal(site.prove(message, once=True))).code == "SIGNATURE_REPLAYED"


@pytest.mark.parametrize("public_key", [None, "-----BEGIN RSA PUBLIC KEY-----", {"keyId": "x"}])
async def test_a_signature_that_cannot_be_matched_counts_as_none(
    site: Site, public_key: object, log: list[dict[str, Any]]
) -> None:
    """ocm-stub signs in its own way and publishes a bare PEM text (peers.md section 6): logged, never verified."""
    site.peer.become_nextcloud(publicKey=public_key)
    message = site.peer.cavage_message()
    garbled = replace(message, headers=(*message.headers[:-1], ("Signature", "home-made")))
    for each in (message, garbled):
        assert (await site.prove(each)).evidence is Evidence.NONE
    assert [line["peer"] for line in log if line["event"] == "a Signature header counts as none"] == [
        site.peer.server,
        site.peer.server,
    ]


async def test_a_malformed_header_is_refused_as_nextcloud_refuses_it(site: Site) -> None:
    message = site.peer.cavage_message()
    error = await refusal(site.prove(replace(message, headers=(*message.headers[:-1], ("Signature", "home-made")))))
    assert isinstance(error, Malformed)
    assert (error.code, error.status_hint) == ("SIGNATURE_MALFORMED", 400)


async def test_a_server_that_has_begun_to_sign_is_discovered_anew(site: Site) -> None:
    site.peer.become_nextcloud(publicKey=None)
    await site.discover()
    site.clock.advance(FRESH_ENOUGH)
    site.peer.become_nextcloud()
    assert (await site.prove(site.peer.cavage_message())).evidence is Evidence.CAVAGE


# --- keys that change -----------------------------------------------------------------------------------------------


async def test_a_new_name_brings_a_new_key_with_one_look_at_discovery(site: Site) -> None:
    await site.prove(site.peer.cavage_message())
    site.clock.advance(FRESH_ENOUGH)
    site.peer.keys.rotate()
    site.peer.become_nextcloud()
    looks = site.peer.count(WELL_KNOWN)
    for _ in range(2):
        assert (await site.prove(site.peer.cavage_message())).evidence is Evidence.CAVAGE
    assert site.peer.count(WELL_KNOWN) == looks + 1
    pinned = site.record().pinned_key
    assert pinned is not None
    assert pinned["key_id"].endswith("#rsa-sha512-2")


async def test_another_key_under_the_old_name_is_refused_until_the_peer_is_forgotten(
    site: Site, other_rsa: Any, log: list[dict[str, Any]]
) -> None:
    await site.prove(site.peer.cavage_message())
    site.clock.advance(FRESH_ENOUGH)
    other = CavageSigningKey(site.peer.keys.cavage_key().kid, other_rsa)
    site.peer.become_nextcloud(publicKey=other.published())
    message = site.peer.cavage_message(key=other)
    error = await refusal(site.prove(message))
    assert error.code == "KEY_CHANGED"
    assert f"peer forget {site.peer.server}" in str(error)
    assert (await refusal(site.prove(message))).code == "KEY_CHANGED"  # and it stays so
    await site.forget()
    assert (await site.prove(message)).evidence is Evidence.CAVAGE


async def test_old_keys_that_are_still_in_the_cache_are_looked_at_anew_once(site: Site, other_rsa: Any) -> None:
    """Nobody can make us ask for discovery again and again with signatures that are wrong."""
    stranger = CavageSigningKey(site.peer.keys.cavage_key().kid, other_rsa)
    for _ in range(5):
        assert (await refusal(site.prove(site.peer.cavage_message(key=stranger)))).code == "SIGNATURE_INVALID"
    assert site.peer.count(WELL_KNOWN) == 1


# --- who has signed goes on -----------------------------------------------------------------------------------------


def message_of(site: Site, kind: str) -> Message:
    makers = {"unsigned": site.unsigned, "cavage": site.peer.cavage_message, "labelled": site.labelled}
    return site.peer.message() if kind == "rfc9421" else makers[kind]()


KINDS = ("unsigned", "cavage", "labelled", "rfc9421")


@pytest.mark.parametrize("before", KINDS[1:])
@pytest.mark.parametrize("now", KINDS)
async def test_a_peer_goes_on_with_at_least_what_it_has_once_sent(site: Site, before: str, now: str) -> None:
    """wire.md, Older peers; `peer forget` ends it."""
    site.peer.become_nextcloud(jwksUri=f"{site.peer.url}/ocm/jwks")  # so that no capability decides
    await site.prove(message_of(site, before))
    if KINDS.index(now) >= KINDS.index(before):
        assert (await site.prove(message_of(site, now))).evidence.word == now
        assert site.record().signed_as == now
        return
    assert (await refusal(site.prove(message_of(site, now)))).code == "SIGNATURE_REQUIRED"
    assert site.record().signed_as == before
    await site.forget()
    assert (await site.prove(message_of(site, now))).evidence.word in (now, "none")


@pytest.mark.parametrize("kind", KINDS)
async def test_only_a_tagged_signature_is_enough_under_must_use_http_sig(site: Site, kind: str) -> None:
    site.peer.become_nextcloud(jwksUri=f"{site.peer.url}/ocm/jwks")
    site.prover = proving(site.store, site.peers, site.trust, site.clock, site.legacy, must_use_http_sig=True)
    if kind == "rfc9421":
        assert (await site.prove(message_of(site, kind))).evidence is Evidence.RFC9421
    else:
        assert (await refusal(site.prove(message_of(site, kind)))).code == "SIGNATURE_REQUIRED"


async def test_a_peer_that_lists_http_sig_may_still_sign_by_draft_cavage(site: Site) -> None:
    """Nextcloud 35 does so until it has seen that we list it, too (wire.md, When)."""
    site.peer.become_nextcloud(capabilities=["http-sig"], jwksUri=f"{site.peer.url}/ocm/jwks")
    assert (await site.prove(site.peer.cavage_message())).evidence is Evidence.CAVAGE


# --- ways that are closed -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("way", "kind", "code"),
    [(Way.CAVAGE, "cavage", "LEGACY_DENIED"), (Way.UNSIGNED, "unsigned", "SIGNATURE_REQUIRED")],
)
async def test_a_way_that_is_closed_is_refused_with_the_key_that_opens_it(
    site: Site, way: Way, kind: str, code: str
) -> None:
    site.closed.add(way)
    error = await refusal(site.prove(message_of(site, kind)))
    assert isinstance(error, Unproven)
    assert error.code == code
    assert f"federation.legacy.{way} opens it" in str(error)
    assert site.used == []
    assert not site.record().signs
    site.closed.clear()
    await site.prove(message_of(site, kind))
    assert site.used == [way]


async def test_nothing_is_sent_by_a_way_that_is_closed(site: Site) -> None:
    for way, public_key in ((Way.UNSIGNED, None), (Way.CAVAGE, site.peer.keys.cavage_key().published())):
        site.closed.clear()
        site.closed.add(way)
        site.peer.become_nextcloud(publicKey=public_key)
        site.clock.advance(FRESH_ENOUGH)
        await site.discover(fresh=True)
        with pytest.raises(PeerFailed, match=rf"federation\.legacy\.{way} opens it") as caught:
            await site.peers.post(site.peer.server, "/shares", {})
        assert (caught.value.code, caught.value.is_final) == ("LEGACY_DENIED", True)
    assert site.peer.count("/index.php/ocm/shares") == 0


async def test_a_use_is_counted_each_time_and_stored_once_a_minute(site: Site) -> None:
    def last() -> int:
        used = site.record().legacy_used
        assert used is not None
        return used["cavage"]

    begun = int(site.clock())
    for seconds in (0, 1, NOTED_EVERY - 2):
        site.clock.advance(seconds)
        await site.prove(site.peer.cavage_message())
    assert (site.used, last()) == (["cavage"] * 3, begun)
    site.clock.advance(1)
    await site.prove(site.peer.cavage_message())
    assert last() == begun + NOTED_EVERY
    assert site.store.read_sync(records.legacy_last_used) == {"cavage": begun + NOTED_EVERY}


async def test_a_server_without_record_gets_none_by_a_use(site: Site) -> None:
    await site.legacy.use(Way.BASIC, "stranger.example")
    assert site.store.read_sync(lambda tx: records.is_known(tx, "stranger.example")) is False
    assert site.used == ["basic"]


# --- what failed ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["cavage", "rfc9421"])
async def test_a_failed_proof_is_logged_and_kept_with_all_that_is_needed_to_understand_it(
    site: Site, kind: str, log: list[dict[str, Any]]
) -> None:
    site.peer.become_nextcloud(jwksUri=f"{site.peer.url}/ocm/jwks")
    message = message_of(site, kind)
    secret = ("Authorization", "Bearer not-for-the-log")
    moved = replace(message, target_uri=f"https://{SERVER}/ocm/notifications", headers=(*message.headers, secret))
    assert (await refusal(site.prove(moved))).code == "SIGNATURE_INVALID"
    (line,) = [line for line in log if line["event"] == "signature refused"]
    kept = site.record().refused
    assert kept is not None
    for facts in (line, kept):
        assert facts["code"] == "SIGNATURE_INVALID"
        assert "/ocm/notifications" in facts["signature_base"]
        assert facts["signature"] == dict(message.headers)["Signature"]
        assert facts["key_id"] == site.peer.keys.cavage_key().kid if kind == "cavage" else facts["signature_input"]
        assert "is not one of this request" in facts["reason"]
        assert "not-for-the-log" not in str(facts)
    assert kept["at"] == int(site.clock())


async def test_an_unsigned_message_of_a_peer_that_signs_is_kept_as_well(site: Site) -> None:
    await site.prove(site.peer.cavage_message())
    await refusal(site.prove(site.unsigned()))
    kept = site.record().refused
    assert kept is not None
    assert (kept["code"], "signature" in kept) == ("SIGNATURE_REQUIRED", False)


async def test_what_is_kept_is_bounded_in_size_and_pace(site: Site) -> None:
    message = site.peer.cavage_message()
    long = f'keyId="{"k" * 3000}",headers="date",signature="AAAA"'
    for number in range(10):
        site.clock.advance(1)
        headers = (*message.headers[:-1], ("Signature", long + f",created={number}"))
        await refusal(site.prove(replace(message, headers=headers)))
    kept = site.record().refused
    assert kept is not None
    assert len(str(kept)) < 8000
    assert int(site.clock()) - kept["at"] == 7  # three at once, then one in ten seconds


async def test_a_server_that_never_answered_gets_no_row_by_what_failed(site: Site) -> None:
    message = site.peer.cavage_message()
    with pytest.raises(Busy, match="cannot be verified"):
        await site.prove_for(message, "127.0.0.1:1")
    assert not site.store.read_sync(lambda tx: records.is_known(tx, "127.0.0.1:1"))


# --- what is sent ---------------------------------------------------------------------------------------------------


async def sent_to(site: Site) -> Message:
    """Return what the peer gets when the gateway speaks to it."""
    path = "/index.php/ocm/shares" if "index.php" in site.peer.document["endPoint"] else "/ocm/shares"
    site.peer.serve(path, {}, 201)
    assert (await site.peers.post(site.peer.server, "/shares", {"a": "\u00fc"})).status == 201
    asked = site.peer.asked[-1]
    return Message(asked.method, site.peer.url + asked.path, asked.headers, asked.body)


async def test_a_nextcloud_of_31_to_34_gets_a_signature_that_it_can_check(site: Site) -> None:
    """It is of the key that our discovery shows, and covers host and path as they arrive."""
    message = await sent_to(site)
    published = CavageKey.published(site.peers._signing.keys.cavage_key().published())
    assert published is not None
    cavage.verify(message, published, SERVER, now=site.clock())
    headers = {name.lower(): value for name, value in message.headers}
    assert headers["host"] == site.peer.server
    assert cavage.find(message.headers).headers == ("(request-target)", *cavage.COVERED)
    assert not {"signature-input", "content-digest"} & headers.keys()


@pytest.mark.parametrize(
    ("changes", "algorithm"),
    [
        ({}, "Ed25519"),
        ({"publicKey": {"keyId": "https://x/y", "publicKeyPem": "no key"}}, "Ed25519"),
        ({"resourceTypes": [{"name": "file", "protocols": {"webdav": "/public.php/webdav/"}}]}, "ES256"),
    ],
)
async def test_a_peer_that_lists_http_sig_gets_one_signature_of_rfc_9421(
    site: Site, changes: dict[str, Any], algorithm: str
) -> None:
    """Never both, and for Nextcloud with the algorithm that its PHP surely has (peers.md section 6)."""
    site.peer.document = site.peer.describe() | changes
    message = await sent_to(site)
    keys = site.peers._signing.keys
    assert verify(message, JWKSet.parse(keys.document()), now=site.clock()).key_id == keys.signing_key(algorithm).kid
    assert "digest" not in {name.lower() for name, _ in message.headers}


@pytest.mark.parametrize("public_key", [None, "-----BEGIN PUBLIC KEY-----"])
async def test_a_peer_that_can_verify_nothing_gets_nothing_to_verify(site: Site, public_key: object) -> None:
    site.peer.become_nextcloud(publicKey=public_key)
    message = await sent_to(site)
    assert not {"signature", "signature-input", "digest"} & {name.lower() for name, _ in message.headers}
    used = site.record().legacy_used
    assert used is not None
    assert list(used) == ["unsigned"]


async def test_a_forgotten_peer_loses_all_that_was_known_of_it(site: Site) -> None:
    await site.prove(site.peer.cavage_message())
    await refusal(site.prove(site.unsigned()))
    await site.trust.set(site.peer.server, TRUSTED, "operator")
    await site.forget()
    assert site.record() == records.PeerRecord(site.peer.server)
