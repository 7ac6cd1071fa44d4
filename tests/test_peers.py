"""The OCM client: discovery and keys of peers, cached; requests to them; and the proof of who sent theirs."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from aiohttp import web
from parts import Clock, new_store
from peer_servers import SERVER, PeerServer, client, peer_server, proving

from gateway import peers as module
from gateway.errors import Busy, NotAllowed, PeerFailed, Unproven
from gateway.ocm.keys import JWKSet
from gateway.ocm.secret import Secret
from gateway.ocm.signatures import Message, verify
from gateway.peers import DISCOVERY_LIFE, FAILURE_LIFE, FRESH_ENOUGH, REDIRECTS, Answer, Peers
from gateway.proof import Evidence, Peer
from gateway.proving import REPLAY_WINDOW
from gateway.signing_keys import SigningKeys
from gateway.store import peers as records
from gateway.store.engine import Store
from gateway.trust import BLOCKED, TRUSTED, Trust

NOTHING = Secret("")  # was sent
WELL_KNOWN, PROVIDER, JWKS = "/.well-known/ocm", "/ocm-provider/", "/ocm/jwks"


class Place:
    """A gateway's client and one peer."""

    def __init__(self, store: Store, peers: Peers, peer: PeerServer, clock: Clock) -> None:
        self.store = store
        self.peers = peers
        self.peer = peer
        self.clock = clock

    async def discover(self, *, fresh: bool = False) -> Any:
        return await self.peers.discover(self.peer.server, fresh=fresh)

    async def prove_for(self, message: Message, server: str, *, once: bool = False) -> Peer:
        prover = proving(self.store, self.peers, Trust(self.store, self.clock), self.clock)
        return await prover.prove(message, server, once=once)

    async def prove(self, message: Message, *, once: bool = False) -> Peer:
        return await self.prove_for(message, self.peer.server, once=once)

    def record(self) -> records.PeerRecord:
        return self.store.read_sync(lambda tx: records.get(tx, self.peer.server))

    def unsigned(self) -> Message:
        return Message("POST", f"https://{SERVER}/ocm/shares", (("Content-Length", "2"),), b"{}")

    def labelled(self) -> Message:
        """Return a request that is signed as the drafts up to 06 have it: label `ocm`, `date` covered, no tag."""
        from http_message_signatures import HTTPMessageSigner, HTTPSignatureKeyResolver

        key = self.peer.keys.signing_key()
        message = self.peer.message()
        headers = {name: value for name, value in message.headers if not name.startswith("Signature")}
        headers["Date"] = "Fri, 15 Jan 2027 08:00:00 GMT"

        class Resolver(HTTPSignatureKeyResolver):
            def resolve_private_key(self, key_id: str) -> Any:
                return key.private_key

            def resolve_public_key(self, key_id: str) -> Any:
                return key.public().key

        class Request:
            method, url = message.method, message.target_uri

        Request.headers = headers  # the shape that the library reads
        from datetime import UTC, datetime

        HTTPMessageSigner(signature_algorithm=key.algorithm.scheme, key_resolver=Resolver()).sign(
            Request(),
            key_id=key.kid,
            label="ocm",
            created=datetime.fromtimestamp(self.clock(), UTC),
            covered_component_ids=("@method", "@target-uri", "content-digest", "content-length", "date"),
            use_existing_digest=True,
        )
        return Message(message.method, message.target_uri, tuple(headers.items()), message.body)


@pytest.fixture
def log() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as lines:
        yield lines


@pytest.fixture
async def place(tmp_path: Path, log: list[Any]) -> AsyncIterator[Place]:
    clock = Clock()
    store = new_store(tmp_path)
    async with peer_server(tmp_path / "peer", clock) as peer, client(store, tmp_path / "gateway", clock) as peers:
        yield Place(store, peers, peer, clock)
    store.close()


async def failure(attempt: Any) -> PeerFailed:
    with pytest.raises(PeerFailed) as failed:
        await attempt
    return failed.value


async def unproven(attempt: Any) -> str:
    with pytest.raises(Unproven) as refused:
        await attempt
    return refused.value.code


# --- discovery ------------------------------------------------------------------------------------------------------


async def test_a_peer_is_discovered_at_its_well_known_path(place: Place) -> None:
    discovery = await place.discover()
    assert discovery.end_point == f"{place.peer.url}/ocm"
    assert "http-sig" in discovery.capabilities
    assert [asked.path for asked in place.peer.asked] == [WELL_KNOWN]
    assert place.record().discovery_url == f"{place.peer.url}{WELL_KNOWN}"
    assert place.record().seen == int(place.clock())


async def test_localhost_is_a_name_like_any_other(place: Place) -> None:
    discovery = await place.peers.discover(f"localhost:{place.peer.port}")
    assert discovery.provider == "Peer"


@pytest.mark.parametrize(
    ("status", "body"),
    [
        *((404, {}), (200, b"<html>Not OCM</html>"), (200, b"[]"), (200, b""), (200, {"message": "not found"})),
        *((301, b""), (302, b""), (500, {}), (403, {})),
    ],
)
async def test_an_old_peer_is_discovered_at_its_old_path(place: Place, status: int, body: Any) -> None:
    """Whatever its server says at the path that it does not know (peers.md, section 1)."""
    place.peer.serve(WELL_KNOWN, body, status, Location=f"{place.peer.url}/elsewhere")
    place.peer.serve(PROVIDER, lambda: place.peer.document)
    assert (await place.discover()).provider == "Peer"
    asked = [asked.path for asked in place.peer.asked if asked.path != "/elsewhere"]
    assert asked == [WELL_KNOWN, PROVIDER]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_document_is_found_where_a_redirect_says(place: Place, status: int) -> None:
    """Sites move `/ocm-provider` and `/.well-known/ocm` behind their index.php, or to https."""
    place.peer.serve("/elsewhere", lambda: place.peer.document)
    place.peer.serve(WELL_KNOWN, b"", status, Location="/elsewhere")
    assert (await place.discover()).provider == "Peer"
    assert place.record().discovery_url == f"{place.peer.url}/elsewhere", "what is relative in it is relative to this"


async def test_keys_are_found_where_a_redirect_says(place: Place) -> None:
    place.peer.serve("/elsewhere", lambda: place.peer.keys.document())
    place.peer.serve("/ocm/jwks", b"", 302, Location="/elsewhere")
    assert await place.peers.jwks(place.peer.server)


async def test_redirects_are_few(place: Place) -> None:
    for path in (WELL_KNOWN, PROVIDER):
        place.peer.serve(path, b"", 302, Location=path)
    await failure(place.discover())
    assert [place.peer.count(path) for path in (WELL_KNOWN, PROVIDER)] == [1 + REDIRECTS] * 2


async def test_what_is_posted_follows_no_redirect(place: Place) -> None:
    """It is signed for one URL, and may hold a secret."""
    place.peer.serve("/ocm/notifications", b"", 307, Location="/elsewhere")
    answer = await place.peers.post(place.peer.server, "/notifications", {"a": 1})
    assert answer.status == 307
    assert place.peer.count("/elsewhere") == 0


@pytest.mark.parametrize(
    "document",
    [
        b"not json",
        b"\xff\xfe",
        b"[" * 10_000,
        b'{"enabled": true}',
        b'{"enabled": "yes", "apiVersion": "1.5.0"}',
        b'{"enabled": true, "apiVersion": 7, "endPoint": "x", "resourceTypes": {}}',
        b'{"enabled": true, "apiVersion": "1.5.0", "endPoint": "ftp://x/", "resourceTypes": []}',
        b'{"enabled": false, "apiVersion": "1.5.0", "endPoint": "https://x/", "resourceTypes": []}',
        b'{"a": "' + b"x" * 70_000 + b'"}',
    ],
)
async def test_a_document_that_is_none_is_no_discovery(place: Place, document: bytes) -> None:
    for path in (WELL_KNOWN, PROVIDER):
        place.peer.serve(path, document)
    error = await failure(place.discover())
    assert error.code == "PEER_UNREACHABLE"
    assert not error.is_final, "the peer may be repaired"
    assert place.record().discovery is None


async def test_a_document_is_believed_for_its_life(place: Place) -> None:
    await place.discover()
    place.clock.advance(DISCOVERY_LIFE - 1)
    await place.discover()
    assert place.peer.count(WELL_KNOWN) == 1
    place.clock.advance(1)
    await place.discover()
    assert place.peer.count(WELL_KNOWN) == 2


async def test_the_cache_is_in_the_state_and_outlives_a_restart(place: Place, tmp_path: Path) -> None:
    first = await place.discover()
    async with client(place.store, tmp_path / "gateway", place.clock) as restarted:
        assert await restarted.discover(place.peer.server) == first
    assert place.peer.count(WELL_KNOWN) == 1


async def test_hosts_that_anybody_names_leave_only_so_many_rows(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STRANGERS_KEPT", 1)
    await place.discover()
    place.clock.advance(1)
    await place.peers.discover(f"localhost:{place.peer.port}")
    assert [record.server for record in await place.peers.everyone()] == [f"localhost:{place.peer.port}"]
    await place.discover()
    assert place.peer.count(WELL_KNOWN) == 3, "it is only asked again"


@pytest.mark.parametrize("trust", [None, TRUSTED])
async def test_the_look_ups_for_strangers_are_told_apart(
    place: Place, monkeypatch: pytest.MonkeyPatch, trust: str | None
) -> None:
    if trust:
        await Trust(place.store, place.clock).set(place.peer.server, trust, "operator")
    told: list[bool] = []
    request = place.peers._outbound.request

    async def noting(*arguments: Any, stranger: bool, **named: Any) -> Any:
        told.append(stranger)
        return await request(*arguments, stranger=stranger, **named)

    monkeypatch.setattr(place.peers._outbound, "request", noting)
    await place.prove(place.peer.message())
    assert set(told) == {trust is None}


async def test_a_fresh_look_asks_again_but_never_often(place: Place) -> None:
    """Otherwise a stranger with a bad signature could make us hammer a host."""
    await place.discover()
    place.peer.document = place.peer.describe("notifications")
    assert "http-sig" in (await place.discover(fresh=True)).capabilities
    place.clock.advance(FRESH_ENOUGH)
    assert "http-sig" not in (await place.discover(fresh=True)).capabilities
    await place.discover(fresh=True)
    assert place.peer.count(WELL_KNOWN) == 2


async def test_many_who_ask_at_once_cost_one_request(place: Place) -> None:
    await asyncio.gather(*(place.discover() for _ in range(20)))
    assert place.peer.count(WELL_KNOWN) == 1


async def test_a_failure_is_remembered_for_a_moment(place: Place) -> None:
    del place.peer.answers[WELL_KNOWN]
    await failure(place.discover())
    asked = len(place.peer.asked)
    assert "asked a moment ago" in str(await failure(place.discover()))
    assert "asked a moment ago" in str(await failure(place.discover(fresh=True)))
    assert len(place.peer.asked) == asked
    place.peer.serve(WELL_KNOWN, lambda: place.peer.document)
    place.clock.advance(FAILURE_LIFE)
    assert (await place.discover()).provider == "Peer"


async def test_servers_that_never_answered_leave_no_row_and_little_memory(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anybody can name hosts that do not exist."""
    monkeypatch.setattr(module, "FAILURES_KEPT", 3)
    for number in range(8):
        await failure(place.peers.discover(f"x{number}.invalid"))
        assert len(place.peers._failed) <= 3
    assert await place.peers.everyone() == []
    assert await place.peers.record("x1.invalid") is None


async def test_the_failures_of_a_known_peer_are_counted_until_it_answers(place: Place) -> None:
    await place.discover()
    good = place.peer.answers.pop(WELL_KNOWN)
    for failures in (1, 2):
        place.clock.advance(DISCOVERY_LIFE)
        await failure(place.discover())
        record = place.record()
        assert record.failures == failures
        assert record.last_error is not None
        assert place.peer.server in record.last_error
        assert record.discovery is not None, "what it said before is kept"
    place.peer.answers[WELL_KNOWN] = good
    place.clock.advance(DISCOVERY_LIFE)
    await place.discover()
    assert (place.record().failures, place.record().last_error, place.record().retry) == (0, None, None)


async def test_a_host_that_hangs_costs_a_bounded_time(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DISCOVERY_TIME", 0.3)
    place.peer.hang(WELL_KNOWN)
    begun = time.monotonic()
    error = await failure(place.discover())
    assert time.monotonic() - begun < 2
    assert place.peer.server in str(error)


async def test_a_host_that_drips_costs_the_same(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DISCOVERY_TIME", 0.3)

    async def drip(request: web.Request, _body: bytes) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        for _ in range(100):
            await answer.write(b" ")
            await asyncio.sleep(0.05)
        return answer

    place.peer.answers[WELL_KNOWN] = drip
    begun = time.monotonic()
    await failure(place.discover())
    assert time.monotonic() - begun < 2


async def test_a_port_that_takes_connections_and_says_nothing_costs_the_same(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "DISCOVERY_TIME", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        begun = time.monotonic()
        await failure(place.peers.discover(f"127.0.0.1:{silent.getsockname()[1]}"))
        assert time.monotonic() - begun < 2


async def test_a_blocked_peer_is_not_contacted(place: Place) -> None:
    await Trust(place.store).set(place.peer.server, BLOCKED, "operator")
    for attempt in (place.discover(), place.prove(place.peer.message()), place.prove(place.unsigned())):
        with pytest.raises(NotAllowed) as refused:
            await attempt
        assert refused.value.code == "UNTRUSTED_PROVIDER"
    assert place.peer.asked == []


async def test_plain_http_is_for_the_hosts_that_the_operator_named(place: Place, tmp_path: Path) -> None:
    place.peers._http_allowed = lambda host: False
    await failure(place.discover())
    assert place.peer.asked == []


@pytest.mark.parametrize("server", ["10.1.2.3", "169.254.169.254", "[::1]:8443", "[fe80::1]", "127.0.0.1:22"])
async def test_the_guard_is_on_the_way(place: Place, server: str) -> None:
    begun = time.monotonic()
    error = await failure(place.peers.discover(server))
    assert time.monotonic() - begun < 2
    assert error.status is None


# --- keys -----------------------------------------------------------------------------------------------------------


async def test_keys_are_fetched_once_for_their_life(place: Place) -> None:
    published = await place.peers.jwks(place.peer.server)
    assert {key.kid for key in published} == {key.kid for key in place.peer.keys.public()}
    await place.peers.jwks(place.peer.server)
    assert place.peer.count(JWKS) == 1
    place.clock.advance(DISCOVERY_LIFE)
    await place.peers.jwks(place.peer.server)
    assert place.peer.count(JWKS) == 2


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (200, b"no keys", "NO_JWKS"),
        (200, {"keys": "none"}, "NO_JWKS"),
        (404, {}, "NO_JWKS"),
        (302, b"", "NO_JWKS"),
        (503, {}, "PEER_UNREACHABLE"),
        (429, {}, "PEER_UNREACHABLE"),
        (200, b'{"keys": "' + b"x" * 300_000 + b'"}', "PEER_UNREACHABLE"),
    ],
)
async def test_keys_that_are_none_are_a_failure(place: Place, status: int, body: Any, code: str) -> None:
    place.peer.serve(JWKS, body, status, Location="/")
    assert (await failure(place.peers.jwks(place.peer.server))).code == code
    assert place.record().jwks is None


async def test_keys_that_hang_cost_a_bounded_time(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    await place.discover()
    monkeypatch.setattr(module, "DISCOVERY_TIME", 0.3)
    place.peer.hang(JWKS)
    begun = time.monotonic()
    await failure(place.peers.jwks(place.peer.server))
    assert time.monotonic() - begun < 2


# --- who sent it ----------------------------------------------------------------------------------------------------


async def test_a_signature_proves_its_server_and_is_remembered_of_it(place: Place) -> None:
    assert await place.prove(place.peer.message()) == Peer(place.peer.server, Evidence.RFC9421)
    assert place.record().signs
    assert (place.peer.count(WELL_KNOWN), place.peer.count(JWKS)) == (1, 1)
    await place.prove(place.peer.message())
    assert (place.peer.count(WELL_KNOWN), place.peer.count(JWKS)) == (1, 1)


async def test_each_of_a_peers_keys_proves_it(place: Place) -> None:
    message = place.peer.message(key=place.peer.keys.signing_key("ES256"))
    assert (await place.prove(message)).evidence is Evidence.RFC9421


async def test_a_signature_of_something_else_proves_nothing(place: Place, log: list[Any]) -> None:
    right = place.peer.message()
    for wrong in (
        Message(right.method, right.target_uri, right.headers, b"[]"),
        Message("PUT", right.target_uri, right.headers, right.body),
        Message(right.method, f"https://{SERVER}/ocm/token", right.headers, right.body),
        Message(right.method, "https://other.example/ocm/shares", right.headers, right.body),
    ):
        assert await unproven(place.prove(wrong)) in ("DIGEST_MISMATCH", "SIGNATURE_INVALID")
    assert not place.record().signs
    lines = [line for line in log if line["event"] == "signature refused"]
    assert len(lines) == 4
    assert all(line["peer"] == place.peer.server for line in lines)


@pytest.mark.parametrize(("seconds", "code"), [(-301, "SIGNATURE_EXPIRED"), (61, "SIGNATURE_IN_FUTURE")])
async def test_a_signature_of_another_time_proves_nothing(place: Place, seconds: int, code: str) -> None:
    assert await unproven(place.prove(place.peer.message(created=place.clock() + seconds))) == code
    within = seconds + (1 if seconds < 0 else -1)
    assert (await place.prove(place.peer.message(created=place.clock() + within))).evidence is Evidence.RFC9421


async def test_a_signature_by_somebody_elses_key_of_the_same_name_proves_nothing(place: Place, tmp_path: Path) -> None:
    foreign = SigningKeys(tmp_path / "foreign", place.peer.url, place.clock).signing_key()
    assert foreign.kid == place.peer.keys.signing_key().kid
    assert await unproven(place.prove(place.peer.message(key=foreign))) == "SIGNATURE_INVALID"


async def test_the_keys_are_those_of_the_server_that_the_payload_names_whatever_keyid_says(
    place: Place, tmp_path: Path
) -> None:
    """A signature that is right for one host does not speak for another (wire.md, Whose keys)."""
    async with peer_server(tmp_path / "other", place.clock) as other:
        message = other.message()
        assert (await place.prove_for(message, other.server)).server == other.server
        assert await unproven(place.prove(message)) == "KEY_NOT_FOUND"


async def test_a_key_that_is_new_is_fetched_once_and_only_once(place: Place) -> None:
    await place.prove(place.peer.message())
    place.peer.keys.rotate()
    new = next(record.key for record in place.peer.keys.records() if record.key.kid.endswith("ed25519-2"))
    place.clock.advance(FRESH_ENOUGH)
    assert (await place.prove(place.peer.message(key=new))).evidence is Evidence.RFC9421
    assert (place.peer.count(WELL_KNOWN), place.peer.count(JWKS)) == (2, 2)
    await place.prove(place.peer.message(key=new))
    assert place.peer.count(JWKS) == 2


async def test_bad_signatures_do_not_make_us_ask_for_keys_again_and_again(place: Place, tmp_path: Path) -> None:
    foreign = SigningKeys(tmp_path / "foreign", place.peer.url, place.clock).signing_key()
    await place.prove(place.peer.message())
    place.clock.advance(FRESH_ENOUGH)
    for _ in range(10):
        assert await unproven(place.prove(place.peer.message(key=foreign))) == "SIGNATURE_INVALID"
    assert (place.peer.count(WELL_KNOWN), place.peer.count(JWKS)) == (2, 2)


async def test_a_peer_that_cannot_sign_may_be_unsigned_and_proves_nothing(place: Place) -> None:
    place.peer.document = place.peer.describe("notifications")
    assert await place.prove(place.unsigned()) == Peer(place.peer.server, Evidence.NONE)
    assert not place.record().signs
    assert place.peer.count(JWKS) == 0


async def test_an_unsigned_request_of_a_peer_that_signs_is_refused_after_one_fresh_look(place: Place) -> None:
    await place.discover()
    place.clock.advance(FRESH_ENOUGH)
    for _ in range(3):
        assert await unproven(place.prove(place.unsigned())) == "SIGNATURE_REQUIRED"
    assert place.peer.count(WELL_KNOWN) == 2


async def test_a_peer_that_has_stopped_signing_is_believed_after_one_fresh_look(place: Place) -> None:
    await place.discover()
    place.peer.document = place.peer.describe("notifications")
    place.clock.advance(FRESH_ENOUGH)
    assert (await place.prove(place.unsigned())).evidence is Evidence.NONE


async def test_a_peer_that_has_signed_once_is_never_believed_unsigned_again(place: Place) -> None:
    await place.prove(place.peer.message())
    asked = len(place.peer.asked)
    place.peer.document = place.peer.describe("notifications")
    place.clock.advance(DISCOVERY_LIFE)
    assert await unproven(place.prove(place.unsigned())) == "SIGNATURE_REQUIRED"
    assert len(place.peer.asked) == asked
    await Trust(place.store).forget(place.peer.server, "operator")
    assert (await place.prove(place.unsigned())).evidence is Evidence.NONE


async def test_a_peer_that_has_begun_to_sign_is_discovered_anew(place: Place) -> None:
    """What is cached of it has no jwksUri yet."""
    place.peer.document = place.peer.describe("notifications")
    await place.discover()
    place.peer.document = place.peer.describe()
    place.clock.advance(FRESH_ENOUGH)
    assert (await place.prove(place.peer.message())).evidence is Evidence.RFC9421


async def test_a_signature_of_a_peer_that_publishes_no_keys_proves_nothing(place: Place) -> None:
    """It has answered and this is its answer, so asking it to come back later would be no help."""
    place.peer.document = place.peer.describe("notifications")
    assert await unproven(place.prove(place.peer.message())) == "KEY_NOT_FOUND"


@pytest.mark.parametrize("hidden", [WELL_KNOWN, JWKS])
async def test_a_peer_that_cannot_be_asked_now_is_busy_and_not_unproven(
    place: Place, monkeypatch: pytest.MonkeyPatch, hidden: str
) -> None:
    monkeypatch.setattr(module, "DISCOVERY_TIME", 0.3)
    place.peer.hang(hidden)
    with pytest.raises(Busy) as busy:
        await place.prove(place.peer.message())
    assert busy.value.code == "SENDER_UNREACHABLE"


async def test_an_unsigned_request_of_a_host_that_does_not_answer_is_busy(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "DISCOVERY_TIME", 0.3)
    place.peer.hang(WELL_KNOWN)
    with pytest.raises(Busy):
        await place.prove(place.unsigned())


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("Signature-Input", "ocm=(", "SIGNATURE_MALFORMED"),
        ("Signature-Input", 'a=("@method");tag="ocm", b=("@method");tag="ocm"', "SIGNATURE_AMBIGUOUS"),
        ("Signature-Input", 'a=("@method");created=1;keyid="k";tag="ocm"', "SIGNATURE_MALFORMED"),
    ],
)
async def test_a_signature_that_makes_no_sense_is_not_taken_for_none(
    place: Place, name: str, value: str, code: str
) -> None:
    place.peer.document = place.peer.describe("notifications")
    message = Message("POST", f"https://{SERVER}/ocm/shares", ((name, value),), b"{}")
    assert await unproven(place.prove(message)) == code


async def test_a_signature_counts_once_where_a_replay_would_do_harm(place: Place) -> None:
    message = place.peer.message()
    await place.prove(message, once=True)
    assert await unproven(place.prove(message, once=True)) == "SIGNATURE_REPLAYED"
    await place.prove(place.peer.message(nonce="another"), once=True)
    assert (await place.prove(message)).evidence is Evidence.RFC9421, "elsewhere a repetition is the same message"


async def test_of_equal_requests_at_once_one_counts(place: Place) -> None:
    await place.discover()
    message = place.peer.message()
    answers = await asyncio.gather(*(place.prove(message, once=True) for _ in range(10)), return_exceptions=True)
    assert sorted(type(answer).__name__ for answer in answers) == ["Peer"] + ["Unproven"] * 9


async def test_a_signature_is_remembered_for_as_long_as_it_is_fresh(place: Place) -> None:
    """The window reaches from the clock of a peer that is ahead to that of a late arrival."""
    assert REPLAY_WINDOW >= 300 + 60
    message = place.peer.message(created=place.clock() + 60)
    await place.prove(message, once=True)
    place.clock.advance(359)
    assert await unproven(place.prove(message, once=True)) == "SIGNATURE_REPLAYED"


async def test_a_signature_of_an_older_draft_is_evidence_of_its_own_kind(place: Place) -> None:
    assert (await place.prove(place.labelled())).evidence is Evidence.LABELLED
    assert place.record().signed_as == "labelled"
    await place.prove(place.peer.message())
    assert place.record().signed_as == "rfc9421"
    assert await unproven(place.prove(place.labelled())) == "SIGNATURE_REQUIRED"


async def test_where_signatures_are_demanded_nothing_less_is_believed(place: Place) -> None:
    """wire.md, HTTP Message Signatures: an unsigned request is refused under must-use-http-sig, whoever sends it."""
    strict = proving(place.store, place.peers, Trust(place.store, place.clock), place.clock, must_use_http_sig=True)
    place.peer.document = place.peer.describe("notifications")
    assert await unproven(strict.prove(place.unsigned(), place.peer.server)) == "SIGNATURE_REQUIRED"
    assert place.peer.asked == [], "nobody is asked for what would not help"
    place.peer.document = place.peer.describe()
    assert await unproven(strict.prove(place.labelled(), place.peer.server)) == "SIGNATURE_REQUIRED"
    assert (await strict.prove(place.peer.message(), place.peer.server)).evidence is Evidence.RFC9421


# --- requests to peers ----------------------------------------------------------------------------------------------


async def post(place: Place, **payload: Any) -> Any:
    return await place.peers.post(place.peer.server, "/shares", payload or {"a": "ü"})


async def test_a_request_is_signed_for_a_peer_that_verifies(place: Place) -> None:
    place.peer.serve("/ocm/shares", {"recipientDisplayName": "Bob"}, 201)
    answer = await post(place)
    assert (answer.status, answer.body) == (201, {"recipientDisplayName": "Bob"})
    asked = place.peer.asked[-1]
    assert asked.header("content-type") == "application/json"
    message = Message(asked.method, place.peer.url + asked.path, asked.headers, asked.body)
    keys = JWKSet.parse(place.peers._signing.keys.document())
    assert verify(message, keys, now=place.clock()).tagged


async def test_two_equal_requests_of_one_second_have_two_signatures(place: Place) -> None:
    """Otherwise the peer takes the second for a replay: Ed25519 draws no random number."""
    place.peer.serve("/ocm/shares", {}, 201)
    await post(place)
    await post(place)
    assert place.peer.asked[-1].header("signature") != place.peer.asked[-2].header("signature")


async def test_a_request_is_not_signed_for_a_peer_that_does_not_verify(place: Place) -> None:
    place.peer.document = place.peer.describe("notifications", endPoint=f"{place.peer.url}/ocm/")
    place.peer.serve("/ocm/shares", {}, 201)
    await post(place)
    asked = place.peer.asked[-1]
    assert asked.path == "/ocm/shares"
    assert asked.header("signature") is asked.header("signature-input") is None


@pytest.mark.parametrize("status", [200, 204, 302, 400, 404, 409, 500, 503])
async def test_every_answer_is_an_answer(place: Place, status: int) -> None:
    body = b"" if status in (204, 302) else {"message": "A\u202eB\x1b[31mC\n"}
    place.peer.serve("/ocm/shares", body, status, Location="/elsewhere")
    answer = await post(place)
    assert answer.status == status
    assert answer.reason(NOTHING) == ("no reason given" if status in (204, 302) else "AB[31mC")
    assert place.peer.count("/elsewhere") == 0


@pytest.mark.parametrize("body", [b"", b"[]", b"<html>", b"\xff", b'"text"', b'{"message": {"a": 1}}'])
async def test_what_is_no_object_says_nothing(place: Place, body: bytes) -> None:
    place.peer.serve("/ocm/shares", body, 400)
    answer = await post(place)
    assert answer.status == 400
    assert isinstance(answer.reason(NOTHING), str)
    assert len(answer.reason(NOTHING)) <= 200


async def test_an_endless_reason_is_cut(place: Place) -> None:
    place.peer.serve("/ocm/shares", {"message": "x " * 10_000}, 400)
    assert len((await post(place)).reason(NOTHING)) == 200


def test_an_endless_code_holds_up_nobody() -> None:
    """All requests wait while a reason is read; this one took three seconds."""
    answer = Answer(400, json.dumps({"message": "A" * 60_000}).encode())
    begun = time.process_time()
    assert answer.reason(NOTHING) == "A" * 200
    assert time.process_time() - begun < 0.5


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ("no such share s3cret/?x", "no such share ***"),
        ("no such share s3cret%2F%3Fx", "no such share ***"),
        (f"token {'aB3_' * 9}== is unknown", "token *** is unknown"),
        ("SHARE_WITH_NOT_FOUND_ON_THIS_SERVER_AT_ALL", "SHARE_WITH_NOT_FOUND_ON_THIS_SERVER_AT_ALL"),
        (f"TOKEN-{'aB3_' * 9}== is unknown", "TOKEN*** is unknown"),
        (f"token {'AB_' * 12}c is unknown", "token *** is unknown"),
    ],
)
def test_a_reason_holds_nothing_that_opens_anything(told: str, reason: str) -> None:
    answer = Answer(400, json.dumps({"message": told}).encode())
    assert answer.reason(Secret("s3cret/?x")) == reason


async def test_a_peer_that_demands_signatures_gets_them_whatever_it_can_do_itself(place: Place) -> None:
    place.peer.document = place.peer.describe("notifications") | {"criteria": ["must-use-http-sig"]}
    place.peer.serve("/ocm/shares", {}, 201)
    await post(place)
    assert place.peer.asked[-1].header("signature") is not None


async def test_an_answer_that_is_too_large_is_none(place: Place) -> None:
    place.peer.serve("/ocm/shares", b"x" * 100_000, 201)
    assert (await failure(post(place))).status is None


async def test_a_peer_that_is_gone_is_a_failure(place: Place) -> None:
    await place.discover()
    await place.peer.stop()
    assert not (await failure(post(place))).is_final
    await place.peer.start()


async def test_a_peer_that_has_begun_to_verify_gets_the_request_again_signed(place: Place) -> None:
    """Discovery is asked once more when a signature is missed (wire.md, Discovery)."""
    place.peer.document = place.peer.describe("notifications")
    await place.discover()
    place.peer.document = place.peer.describe()

    async def strict(request: web.Request, _body: bytes) -> web.StreamResponse:
        return web.json_response({}, status=201 if "Signature" in request.headers else 401)

    place.peer.answers["/ocm/shares"] = strict
    place.clock.advance(FRESH_ENOUGH)
    assert (await post(place)).status == 201
    assert place.peer.count("/ocm/shares") == 2


async def test_a_peer_that_refuses_and_has_nothing_new_to_say_is_not_asked_twice(place: Place) -> None:
    place.peer.serve("/ocm/shares", {"message": "SIGNATURE_INVALID"}, 401)
    place.clock.advance(FRESH_ENOUGH)
    assert (await post(place)).status == 401
    assert place.peer.count("/ocm/shares") == 1
