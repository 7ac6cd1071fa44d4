"""The Remote Resource: which way leads to it, with which credential, and what is remembered of it."""

from __future__ import annotations

import asyncio
import base64
import gc
import re
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import structlog
from aiohttp import web
from dialects import SHARES, documents
from parts import NOW, READ, WRITE, Clock, new_store, received, until
from peer_servers import LOOPBACK, PeerServer, client, peer_server
from sqlalchemy import Connection

from backends.errors import PermissionDenied, StorageError, Unavailable
from backends.interface import Kind
from backends.paths import StoragePath
from gateway import peers as peers_module
from gateway import remote as module
from gateway.key_pairs import KeyPairs
from gateway.legacy import Legacy, Way
from gateway.ocm.secret import Secret
from gateway.ocm.shares import parse_share
from gateway.outbound import Guard, SyncOutbound
from gateway.peers import FRESH_ENOUGH
from gateway.remote import Remote
from gateway.ssh_shares import SSHShares
from gateway.store import events, exchanged_tokens, peers, received_shares, users
from gateway.store.engine import Store
from gateway.store.received_shares import ReceivedShare
from gateway.store.sealing import Sealer, secret_hash
from gateway.turns import Turns

SECRET = "shared-secret-of-a-share"
BEARER = f"Bearer {SECRET}"
BASIC = "Basic " + base64.b64encode(f"{SECRET}:".encode()).decode()
ROOT = StoragePath()
DOCUMENT = """<d:multistatus xmlns:d="DAV:"><d:response><d:href>{path}</d:href><d:propstat><d:prop>
<d:resourcetype>{kind}</d:resourcetype><d:getcontentlength>7</d:getcontentlength><d:getetag>"e1"</d:getetag>
<d:getlastmodified>Fri, 15 Jan 2027 08:00:00 GMT</d:getlastmodified>{told}</d:prop><d:status>HTTP/1.1 200 OK</d:status>
</d:propstat></d:response></d:multistatus>"""

TOLD = {
    "bits": '<share-permissions xmlns="http://open-collaboration-services.org/ns">{}</share-permissions>',
    "words": '<share-permissions xmlns="http://open-cloud-mesh.org/ns">{}</share-permissions>',
}


class Place:
    """Accepted Shares of one peer, which opens to the credentials that the test says."""

    def __init__(self, store: Store, remote: Remote, peer: PeerServer, clock: Clock, sealer: Sealer) -> None:
        self.store = store
        self.remote = remote
        self.peer = peer
        self.clock = clock
        self.sealer = sealer
        self.opens: dict[str, set[str]] = {"/dav/ocm/remote-1": set()}  # by path: what opens it
        self.kind = "<d:collection/>"
        self.seen: list[tuple[str, str]] = []  # path and credential of each PROPFIND
        self.tokens = 0
        self.expires_in = 300
        self.only_last_token = False
        self.told: dict[str, str] = {}  # of permissions: bits, words
        self.before_answer: Callable[[], object] = lambda: None
        peer.answers["/ocm/token"] = self.exchange

    def put(self, share_id: str = "received-1", **changes: Any) -> ReceivedShare:
        values = {"server": self.peer.server, "state": "accepted", "mount": share_id} | changes
        share = received(share_id, **values)
        sealed = self.sealer.seal(SECRET, share.id)
        self.store.run_sync(lambda tx: received_shares.add(tx, share, secret_hash(SECRET), sealed))
        self.peer.answers[f"/dav/ocm/{share.uri}" if share.uri else "/dav/ocm/"] = self.dav
        self.peer.answers["/dav/ocm/"] = self.dav
        return share

    def get(self, share_id: str = "received-1") -> ReceivedShare:
        found = self.store.read_sync(lambda tx: received_shares.get(tx, share_id))
        assert found is not None
        return found

    def end(self, share_id: str) -> None:
        """End the Share as SHARE_UNSHARED does."""

        def work(tx: Connection) -> None:
            received_shares.set_state(tx, share_id, "revoked", NOW)
            received_shares.set_mount(tx, share_id, None)
            exchanged_tokens.forget(tx, share_id)

        self.store.run_sync(work)
        self.remote.forget(share_id)

    def open_to(self, *credentials: str, path: str = "/dav/ocm/remote-1") -> None:
        self.opens[path] = set(credentials)

    async def dav(self, request: web.Request, _body: bytes) -> web.StreamResponse:
        given = request.headers.get("Authorization", "")
        self.seen.append((request.path, given))
        if given not in self.opens.get(request.path, set()):
            return web.Response(status=401)
        self.before_answer()
        told = "".join(TOLD[form].format(value) for form, value in self.told.items())
        text = DOCUMENT.format(path=request.path, kind=self.kind, told=told)
        return web.Response(status=207, text=text, content_type="application/xml")

    async def exchange(self, _request: web.Request, _body: bytes) -> web.StreamResponse:
        self.tokens += 1
        opened = self.opens.setdefault("/dav/ocm/remote-1", set())
        if self.only_last_token:
            opened -= {credential for credential in opened if credential.startswith("Bearer token-")}
        opened.add(f"Bearer token-{self.tokens}")
        granted = {"access_token": f"token-{self.tokens}", "token_type": "Bearer", "expires_in": self.expires_in}
        return web.json_response(granted)

    async def stat(self, share_id: str = "received-1") -> Any:
        storage = await self.remote.storage(self.get(share_id))
        return await storage.pool.run(storage.backend.stat, ROOT)


@pytest.fixture
def log() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as lines:
        yield lines


@pytest.fixture
async def place(tmp_path: Path, log: list[Any]) -> AsyncIterator[Place]:
    clock, sealer = Clock(), Sealer(b"k" * 32)
    store = new_store(tmp_path)
    store.run_sync(lambda tx: users.add(tx, "alice", "hash", 0))
    guard = Guard(LOOPBACK, lambda host: host == "127.0.0.1")
    outbound = SyncOutbound(guard, user_agent="test")
    turns = Turns(tmp_path / "turns")
    async with peer_server(tmp_path / "peer", clock) as peer, client(store, tmp_path / "gateway", clock) as peers:
        ssh = SSHShares(outbound, peers.breakers, KeyPairs(store, sealer, clock), tmp_path / "journals")
        remote = Remote(store, peers, outbound, sealer, turns, ssh, server="gateway.example", clock=clock)
        yield Place(store, remote, peer, clock, sealer)
        remote.close()
        outbound.close()
    turns.close()
    store.close()


# --- ways in --------------------------------------------------------------------------------------------------------


async def test_a_share_that_requires_the_exchange_is_opened_by_a_token_alone(place: Place) -> None:
    place.put(requires_exchange=True)
    place.open_to(BEARER, BASIC)
    assert await place.remote.probe("received-1", 5) is None
    assert place.seen == [("/dav/ocm/remote-1", "Bearer token-1")]
    assert place.get().access == "token"
    request = next(asked for asked in place.peer.asked if asked.path == "/ocm/token")
    assert request.header("signature") is not None
    assert request.body == f"grant_type=authorization_code&client_id=gateway.example&code={SECRET}".encode()


async def test_what_is_seen_is_remembered(place: Place) -> None:
    place.put(requires_exchange=True, evidence="none")
    place.kind = ""
    await place.remote.probe("received-1", 5)
    share = place.get()
    assert (share.root_kind, share.root_size, share.probed, share.evidence) == ("file", 7, NOW, "callback")
    assert share.root_entry(b"x").kind is Kind.FILE


@pytest.mark.parametrize("evidence", ["rfc9421", "labelled", "callback"])
async def test_seeing_it_makes_no_stronger_evidence_weaker(place: Place, evidence: str) -> None:
    place.put(evidence=evidence)
    place.open_to(BEARER)
    await place.remote.probe("received-1", 5)
    assert place.get().evidence == evidence


@pytest.mark.parametrize(
    ("opens", "path", "way"),
    [
        ({"/dav/ocm/remote-1": {BEARER}}, "/dav/ocm/remote-1", "bearer"),
        ({"/dav/ocm/remote-1": {BASIC}}, "/dav/ocm/remote-1", "basic"),
        ({"/dav/ocm/": {BASIC}}, "/dav/ocm/", "basic_root"),
    ],
)
async def test_without_an_exchange_the_ways_of_all_products_are_tried(
    place: Place, opens: dict[str, set[str]], path: str, way: str
) -> None:
    """Bearer at the uri, Basic at the uri, Basic at the root (peers.md, section 4)."""
    place.peer.document = place.peer.describe("notifications")
    place.put()
    place.opens = opens
    assert await place.remote.probe("received-1", 5) is None
    assert place.get().access == way
    assert place.seen[-1][0] == path
    assert (await place.stat()).kind is Kind.DIRECTORY
    place.seen.clear()
    await place.remote.probe("received-1", 5)
    assert {seen for seen, _ in place.seen} == {path}, "the next time the way that worked comes first"


WAYS = {
    "nextcloud-30": ["/public.php/webdav/ Basic"],
    "owncloud-10": ["/public.php/webdav/ Basic"],
    "seafile": ["/seafdav/ Basic"],
    "nextcloud-35": ["/public.php/webdav/ Basic"],
    "ocis": ["/dav/ocm/17 Bearer"],
    "opencloud": ["/dav/ocm/17 Bearer"],
    "reva": ["/remote.php/dav/ocm/17 Bearer", "/remote.php/dav/ocm/ Basic"],
    "ocm-go": ["/webdav/ocm/0d3f-17 Bearer"],
}


@pytest.mark.parametrize("product", WAYS)
async def test_each_product_is_asked_in_its_own_ways_alone(place: Place, product: str) -> None:
    """Under Basic, OpenCloud takes the user name for an id, and Nextcloud knows no uri (peers.md, section 4)."""
    place.peer.document = documents(place.peer.url)[product]
    webdav = parse_share(SHARES[product][0]).webdav
    assert webdav is not None
    uri = webdav.uri and re.sub(r"https://[^/]+", place.peer.url, webdav.uri)
    place.put(uri=uri, name="data", requires_exchange=False)
    for path in ("/public.php/webdav/", "/seafdav/", "/remote.php/dav/ocm/", "/remote.php/dav/ocm/17", "/dav/ocm/17"):
        place.peer.answers[path] = place.dav
    place.peer.answers["/webdav/ocm/0d3f-17"] = place.dav
    place.opens = {}
    place.peer.serve("/ocm/token", {"error": "invalid_grant"}, status=400)
    assert await place.remote.probe("received-1", 5) is not None
    asked = [f"{path} {credential.partition(' ')[0]}" for path, credential in place.seen]
    assert list(dict.fromkeys(asked)) == WAYS[product]


async def test_the_way_that_worked_with_a_peer_comes_first_for_its_next_share(place: Place) -> None:
    place.peer.document = place.peer.describe("notifications")
    place.put()
    place.opens = {"/dav/ocm/": {BASIC}}
    await place.remote.probe("received-1", 5)
    assert place.store.read_sync(lambda tx: peers.get(tx, place.peer.server)).way_in == "basic_root"
    place.put("received-2", uri="remote-2")
    place.seen.clear()
    assert await place.remote.probe("received-2", 5) is None
    assert {path for path, _ in place.seen} == {"/dav/ocm/"}


async def test_a_way_that_worked_never_keeps_from_asking_for_a_token(place: Place) -> None:
    """The token is the safest: a peer that could not exchange then may do so now."""
    place.put()
    place.open_to(BEARER)
    place.store.run_sync(lambda tx: peers.worked(tx, place.peer.server, "ocm", way_in="bearer"))
    await place.remote.probe("received-1", 5)
    assert place.get().access == "token"


@pytest.mark.parametrize(("product", "believed"), [("nextcloud-30", True), ("owncloud-10", True), ("seafile", False)])
@pytest.mark.parametrize("bits", ["15", "1"])
async def test_permissions_that_no_message_tells_are_read_from_the_storage(
    place: Place, product: str, believed: bool, bits: str
) -> None:
    """The literal in the legacy body grants nothing: PROPFIND says more (peers.md, sections 2a and 5)."""
    place.peer.document = documents(place.peer.url)[product]
    place.put(uri=None, permissions=WRITE if bits == "1" else READ)
    before = place.get().permissions
    path = "/seafdav/" if product == "seafile" else "/public.php/webdav/"
    told = f'<p:share-permissions xmlns:p="http://open-collaboration-services.org/ns">{bits}</p:share-permissions>'
    place.kind = f"<d:collection/></d:resourcetype>{told}<d:resourcetype>"
    place.peer.answers[path] = place.dav
    place.open_to(BASIC, path=path)
    assert await place.remote.probe("received-1", 5) is None
    now = WRITE if bits == "15" else READ
    assert place.get().permissions == (now if believed else before)
    actions = [event.action for event in place.store.read_sync(lambda tx: events.about(tx, "received-1"))]
    assert actions == (["share.permissions"] if believed else [])
    await place.remote.probe("received-1", 5)
    assert place.get().permissions == (now if believed else before)


@pytest.mark.parametrize(
    ("members", "resource_type", "found"),
    [
        (["a b.txt"], "file", "file"),
        (["a b.txt", "other"], "file", "directory"),
        (["other"], "file", "directory"),
        ([], "file", "directory"),
        (["a b.txt"], "folder", "directory"),
    ],
)
async def test_a_file_alone_in_a_folder_of_nextcloud_is_the_file(
    place: Place, members: list[str], resource_type: str, found: str
) -> None:
    """The file is the root itself, or a child with its name (peers.md, section 4)."""
    place.peer.document = documents(place.peer.url)["nextcloud-30"]
    place.put(uri=None, name="a b.txt", resource_type=resource_type)
    root = "/public.php/webdav/"

    async def dav(request: web.Request, _body: bytes) -> web.StreamResponse:
        hrefs = [(root, "<d:collection/>"), *((root + quote(name), "") for name in members)]
        depth, at = request.headers["Depth"], quote(request.path)
        told = [DOCUMENT.format(path=path, kind=kind, told="") for path, kind in hrefs if path == at or depth == "1"]
        inner = "".join(text.partition(">")[2].removesuffix("</d:multistatus>") for text in told)
        return web.Response(status=207, text=f'<d:multistatus xmlns:d="DAV:">{inner}</d:multistatus>')

    place.peer.answers |= {root: dav, root + "a b.txt": dav}
    assert await place.remote.probe("received-1", 5) is None
    share = place.get()
    assert (share.root_kind, share.access) == (found, "basic_file" if found == "file" else "basic_root")
    place.remote.forget("received-1")
    assert (await place.stat()).kind.value == found


async def test_a_look_whether_a_share_is_gone_sees_its_new_permissions(place: Place) -> None:
    place.peer.document = documents(place.peer.url)["ocis"]
    share = place.put(uri=f"{place.peer.url}/dav/ocm/17")
    place.kind = '<d:collection/></d:resourcetype><o:permissions xmlns:o="http://owncloud.org/ns">CK</o:permissions><d:resourcetype>'
    place.peer.answers["/dav/ocm/17"] = place.dav
    place.open_to(BEARER, path="/dav/ocm/17")
    assert not await place.remote.is_gone(share)
    assert place.get().permissions == WRITE


@pytest.mark.parametrize(
    ("status", "gone"), [(401, True), (404, True), (410, True), (403, False), (429, False), (503, False), (207, False)]
)
async def test_a_share_is_gone_when_its_sender_knows_it_no_more(place: Place, status: int, gone: bool) -> None:
    place.peer.document = documents(place.peer.url)["ocis"]
    share = place.put(uri=f"{place.peer.url}/dav/ocm/17", state="pending", mount=None)
    place.open_to(BEARER, path="/dav/ocm/17")
    place.peer.answers["/dav/ocm/17"] = place.dav
    if status != 207:
        place.peer.serve("/dav/ocm/17", {}, status=status)
    assert await place.remote.is_gone(share) == gone


async def test_a_share_is_not_gone_because_nobody_answers(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HINT_TIME", 0.2)
    place.peer.document = documents(place.peer.url)["ocis"]
    share = place.put(uri=f"{place.peer.url}/dav/ocm/17")
    place.peer.hang("/dav/ocm/17")
    assert not await place.remote.is_gone(share)


async def test_a_share_without_a_uri_is_the_root_itself(place: Place) -> None:
    place.peer.document = place.peer.describe("notifications")
    place.put(uri=None)
    place.opens = {"/dav/ocm/": {BASIC}}
    assert await place.remote.probe("received-1", 5) is None
    assert set(place.seen) == {("/dav/ocm/", BASIC)}


@pytest.mark.parametrize("status", [400, 401, 403, 404, 500, 503])
async def test_an_exchange_that_is_not_required_may_fail(place: Place, status: int) -> None:
    """wire.md, Code Flow: a failed one falls back to the secret."""
    place.put()
    place.open_to(BEARER)
    place.peer.serve("/ocm/token", {"error": "invalid_request"}, status)
    assert await place.remote.probe("received-1", 5) is None
    assert place.get().access == "bearer"


@pytest.mark.parametrize("body", [b"", b"[]", b"<html>", {"access_token": "x"}, {"token_type": "Bearer"}])
async def test_a_token_that_is_none_is_a_failed_exchange(place: Place, body: Any) -> None:
    place.put()
    place.open_to(BEARER)
    place.peer.serve("/ocm/token", body)
    assert await place.remote.probe("received-1", 5) is None
    assert place.get().access == "bearer"


@pytest.mark.parametrize(("status", "kind"), [(400, PermissionDenied), (403, PermissionDenied), (500, Unavailable)])
async def test_an_exchange_that_is_required_may_not_fail(place: Place, status: int, kind: type[StorageError]) -> None:
    place.put(requires_exchange=True)
    place.open_to(BEARER, BASIC)
    place.peer.serve("/ocm/token", {"error": "invalid_grant"}, status)
    problem = await place.remote.probe("received-1", 5)
    assert problem is not None
    assert "gives no token: invalid_grant" in problem
    assert place.seen == []
    assert place.get().access is None
    with pytest.raises(kind):
        await place.stat()


async def test_a_share_that_nothing_opens_says_so(place: Place) -> None:
    place.put()
    place.only_last_token = True
    place.peer.serve("/ocm/token", {"error": "invalid_grant"}, 400)
    problem = await place.remote.probe("received-1", 5)
    assert problem is not None
    assert "not accepted" in problem
    assert [credential.partition(" ")[0] for _, credential in place.seen] == ["Bearer", "Basic", "Basic"]


async def test_storage_trouble_is_no_refusal_and_tries_no_other_credential(place: Place) -> None:
    place.peer.document = place.peer.describe("notifications")
    place.put()
    place.peer.serve("/dav/ocm/remote-1", b"", 503)
    assert "503" in str(await place.remote.probe("received-1", 5))
    assert {asked.header("authorization") for asked in place.peer.asked if asked.method == "PROPFIND"} == {BEARER}


# --- where a secret may go ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("evidence", ["rfc9421", "none"])
async def test_a_secret_goes_to_the_senders_host_alone(place: Place, tmp_path: Path, evidence: str) -> None:
    async with peer_server(tmp_path / "other", place.clock) as other:
        place.peer.document = place.peer.describe("notifications")
        place.put(uri=f"{other.url}/dav/ocm/remote-1", evidence=evidence)
        problem = await place.remote.probe("received-1", 5)
        assert problem is not None
        assert "points to" in problem
        assert other.asked == []


@pytest.mark.parametrize(("evidence", "reached"), [("rfc9421", True), ("labelled", True), ("none", False)])
async def test_a_token_goes_to_another_host_only_if_the_share_was_signed(
    place: Place, tmp_path: Path, evidence: str, reached: bool
) -> None:
    async with peer_server(tmp_path / "other", place.clock) as other:
        place.put(uri=f"{other.url}/remote-1", requires_exchange=True, evidence=evidence)
        other.answers["/remote-1"] = place.dav
        place.opens["/remote-1"] = {"Bearer token-1"}
        problem = await place.remote.probe("received-1", 5)
        assert (problem is None) == reached
        assert bool(other.asked) == reached
        assert all(SECRET not in str(asked) for asked in other.asked)


@pytest.mark.parametrize("required", [True, False])
async def test_a_secret_is_exchanged_at_the_senders_host_alone(place: Place, tmp_path: Path, required: bool) -> None:
    async with peer_server(tmp_path / "other", place.clock) as other:
        other.answers["/ocm/token"] = place.exchange
        place.peer.document = place.peer.describe(tokenEndPoint=f"{other.url}/ocm/token")
        place.put(requires_exchange=required)
        place.open_to(BEARER)
        problem = await place.remote.probe("received-1", 5)
        assert other.asked == []
        assert place.get().access == (None if required else "bearer")
        assert ("token endpoint" in str(problem)) == required


async def test_a_relative_uri_is_at_the_senders_host_wherever_its_api_is(place: Place, tmp_path: Path) -> None:
    """wire.md, Access: sender host, webdav path, uri."""
    async with peer_server(tmp_path / "other", place.clock) as other:
        place.peer.document = place.peer.describe(endPoint=f"{other.url}/ocm")
        place.put(requires_exchange=True, evidence="none")
        assert await place.remote.probe("received-1", 5) is None
        assert place.seen == [("/dav/ocm/remote-1", "Bearer token-1")]
        assert other.asked == []


async def test_an_absolute_uri_at_the_sender_is_taken_as_it_is(place: Place) -> None:
    place.put(uri=f"{place.peer.url}/remote.php/dav/ocm/7", requires_exchange=True)
    place.peer.answers["/remote.php/dav/ocm/7"] = place.dav
    place.opens["/remote.php/dav/ocm/7"] = {"Bearer token-1"}
    assert await place.remote.probe("received-1", 5) is None


# --- tokens ---------------------------------------------------------------------------------------------------------


async def test_one_token_serves_until_shortly_before_its_end(place: Place) -> None:
    place.put(requires_exchange=True, access="token")
    for _ in range(3):
        await place.stat()
    assert place.tokens == 1
    place.clock.advance(300 - module.RENEW_BEFORE - 1)
    await place.stat()
    assert place.tokens == 1
    place.clock.advance(1)
    await place.stat()
    assert place.tokens == 2


async def test_a_token_for_seconds_is_not_exchanged_at_every_request(place: Place) -> None:
    place.expires_in = 20
    place.put(requires_exchange=True, access="token")
    for _ in range(3):
        await place.stat()
    assert place.tokens == 1


async def test_a_token_outlives_a_restart_and_is_sealed(place: Place) -> None:
    place.put(requires_exchange=True, access="token")
    await place.stat()
    stored = place.store.read_sync(lambda tx: exchanged_tokens.get(tx, "received-1"))
    assert stored is not None
    assert b"token-1" not in stored.token_sealed
    assert (stored.obtained, stored.expires) == (NOW, NOW + 300)
    place.remote.forget("received-1")
    await place.stat()
    assert place.tokens == 1


async def test_a_token_that_is_refused_is_exchanged_anew_once(place: Place) -> None:
    place.put(requires_exchange=True, access="token")
    await place.stat()
    place.opens["/dav/ocm/remote-1"].clear()
    place.clock.advance(0.5)
    await place.stat()
    assert place.tokens == 2
    place.clock.advance(0.5)
    place.opens["/dav/ocm/remote-1"].clear()
    place.peer.serve("/ocm/token", {"error": "invalid_grant"}, 400)
    with pytest.raises(PermissionDenied):
        await place.stat()


async def test_many_requests_that_are_refused_at_once_cost_one_exchange(place: Place) -> None:
    """Nextcloud 35 revokes the previous token at each: every second exchange would undo the first."""
    place.only_last_token = True
    place.put(requires_exchange=True, access="token")
    await place.stat()
    place.opens["/dav/ocm/remote-1"].clear()
    place.clock.advance(0.25)
    await asyncio.gather(*(place.stat() for _ in range(4)))
    assert place.tokens == 2


async def test_many_first_requests_cost_one_exchange(place: Place) -> None:
    place.put(requires_exchange=True, access="token")
    await asyncio.gather(*(place.stat() for _ in range(4)))
    assert place.tokens == 1


async def test_a_token_endpoint_that_has_moved_is_found(place: Place) -> None:
    """Discovery is asked once more when an exchange fails (wire.md, Discovery)."""
    place.put(requires_exchange=True, access="token")
    await place.stat()
    moved = place.peer.answers.pop("/ocm/token")
    place.peer.answers["/new/token"] = moved
    place.peer.document = place.peer.describe(tokenEndPoint=f"{place.peer.url}/new/token")
    place.opens["/dav/ocm/remote-1"].clear()
    place.clock.advance(FRESH_ENOUGH)
    await place.stat()
    assert place.peer.count("/new/token") == 1


async def test_a_secret_that_cannot_be_unsealed_is_an_unavailable_share(place: Place) -> None:
    """As when the state was restored without its key."""
    place.put(requires_exchange=True, access="token")
    place.remote._sealer = Sealer(b"x" * 32)
    with pytest.raises(Unavailable, match="does not open"):
        await place.stat()


async def test_no_log_line_and_no_error_holds_a_credential(place: Place, log: list[Any]) -> None:
    place.put()
    place.peer.serve("/ocm/token", {"error": "invalid_grant"}, 400)
    problem = await place.remote.probe("received-1", 5)
    place.put("second", requires_exchange=True, provider_id="second")
    place.peer.answers["/ocm/token"] = place.exchange
    await place.remote.probe("second", 5)
    assert place.tokens
    for credential in (SECRET, "token-1", BASIC):
        assert credential not in repr(log)
        assert credential not in str(problem)
    assert isinstance(await place.remote._secret(place.get()), Secret)


# --- bounds ---------------------------------------------------------------------------------------------------------


async def test_a_probe_of_a_peer_that_hangs_ends_in_time_and_goes_on_behind(place: Place) -> None:
    place.put(requires_exchange=True)
    let_go = asyncio.Event()

    async def slow(request: web.Request, body: bytes) -> web.StreamResponse:
        await let_go.wait()
        return await place.dav(request, body)

    place.peer.answers["/dav/ocm/remote-1"] = slow
    begun = time.monotonic()
    problem = await place.remote.probe("received-1", 0.3)
    assert time.monotonic() - begun < 2
    assert problem is not None
    assert "in the background" in problem
    let_go.set()
    await until(lambda: place.get().probed is not None)


async def test_a_share_that_has_ended_is_not_looked_at(place: Place) -> None:
    place.put(state="revoked", mount=None)
    assert await place.remote.probe("received-1", 5) == "the Share has ended"
    assert await place.remote.probe("none", 5) == "the Share has ended"
    assert place.peer.asked == []


async def test_a_peer_that_cannot_be_discovered_is_unavailable_storage(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers_module, "DISCOVERY_TIME", 0.3)
    place.peer.hang("/.well-known/ocm")
    with pytest.raises(Unavailable, match=place.peer.server):
        await place.remote.storage(place.put())


async def test_a_peer_without_a_webdav_path_is_unavailable_storage(place: Place) -> None:
    place.peer.document = place.peer.describe(resourceTypes=[])
    with pytest.raises(Unavailable, match="no webdav path"):
        await place.remote.storage(place.put())


async def test_a_storage_is_kept_once_its_way_is_known_and_dropped_on_a_change(place: Place) -> None:
    share = place.put(requires_exchange=True, access="token")
    first = await place.remote.storage(share)
    assert await place.remote.storage(share) is first
    place.remote.forget(share.id)
    assert await place.remote.storage(share) is not first


async def test_shares_of_many_hosts_cut_no_transfer_that_runs(place: Place) -> None:
    """However many hosts are looked at in between, a storage that somebody still reads from has its threads."""
    storage = await place.remote.storage(place.put(requires_exchange=True, access="token"))
    release = threading.Event()
    running = asyncio.create_task(storage.pool.run(release.wait, 10))
    for number in range(300):
        await place.remote._threads.of(f"host-{number}.example").run(lambda: None)
    release.set()
    assert await running
    assert (await storage.pool.run(storage.backend.stat, ROOT)).kind is Kind.DIRECTORY
    assert await place.remote.storage(place.get()) is storage


async def test_hosts_of_ended_shares_leave_nothing_behind(place: Place) -> None:
    share = place.put(requires_exchange=True, access="token")
    await place.stat()
    assert list(place.remote._threads) == [share.server]
    place.remote.forget(share.id)
    gc.collect()
    assert list(place.remote._threads) == list(place.remote._turns._here) == []


async def test_a_token_that_another_process_has_obtained_is_taken_for_one_that_is_refused(place: Place) -> None:
    """And none that was refused is ever given again, however young it is."""
    share = place.put(requires_exchange=True, access="token")
    await place.stat()
    refused = {"Authorization": "Bearer token-1"}
    sealed = place.sealer.seal("of-another-process", share.id)
    place.store.run_sync(lambda tx: exchanged_tokens.put(tx, share.id, sealed, NOW, NOW + 300))
    other = await place.remote._authorization(share, "token", refused)
    assert (other, place.tokens) == ({"Authorization": "Bearer of-another-process"}, 1)
    renewed = await place.remote._authorization(share, "token", other)
    assert (renewed, place.tokens) == ({"Authorization": "Bearer token-2"}, 2)


async def test_a_share_that_ends_during_its_exchange_keeps_no_token(place: Place) -> None:
    share = place.put(requires_exchange=True, access="token")
    exchange = place.exchange

    async def ending(request: web.Request, body: bytes) -> web.StreamResponse:
        place.end(share.id)
        return await exchange(request, body)

    place.peer.answers["/ocm/token"] = ending
    with pytest.raises(StorageError, match="ended"):
        await place.stat()
    assert place.store.read_sync(lambda tx: exchanged_tokens.get(tx, share.id)) is None


async def test_a_share_that_ends_while_it_is_looked_at_keeps_no_storage(place: Place) -> None:
    share = place.put(requires_exchange=True)

    async def ending(request: web.Request, body: bytes) -> web.StreamResponse:
        place.end(share.id)
        return await place.dav(request, body)

    place.peer.answers["/dav/ocm/remote-1"] = ending
    assert await place.remote.probe(share.id, 5) == "the Share has ended"
    assert share.id not in place.remote._storages
    assert place.get().probed is None


async def test_a_change_during_an_exchange_begins_no_second_one(place: Place) -> None:
    """SHARE_CHANGE_PERMISSION forgets what is kept in memory; Nextcloud 35 would revoke the token just given."""
    share = place.put(requires_exchange=True, access="token")
    exchange, let_go, asked = place.exchange, asyncio.Event(), asyncio.Event()

    async def slow(request: web.Request, body: bytes) -> web.StreamResponse:
        asked.set()
        await let_go.wait()
        return await exchange(request, body)

    place.peer.answers["/ocm/token"] = slow
    first = asyncio.create_task(place.stat())
    await asked.wait()
    place.remote.forget(share.id)
    second = asyncio.create_task(place.stat())
    await asyncio.sleep(0.05)
    let_go.set()
    await asyncio.gather(first, second)
    assert place.tokens == 1


# --- refreshing -----------------------------------------------------------------------------------------------------


@pytest.fixture
async def refreshing(place: Place, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Callable[[], None]]:
    """A function that begins the refreshing of all Shares, every 50 ms."""
    monkeypatch.setattr(module, "REFRESH", 0.05)
    tasks: list[asyncio.Task[None]] = []
    yield lambda: tasks.append(asyncio.create_task(place.remote.refresh()))
    for task in tasks:
        assert not task.done(), "refreshing has ended"
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_roots_are_looked_at_again_and_again(place: Place, refreshing: Callable[[], None]) -> None:
    place.put(requires_exchange=True)
    refreshing()
    await until(lambda: place.get().probed == NOW)
    place.clock.advance(60)
    place.kind = ""
    await until(lambda: place.get().root_kind == "file")
    assert place.get().probed == NOW + 60


async def test_a_share_that_is_refused_keeps_no_other_back(place: Place, refreshing: Callable[[], None]) -> None:
    for number in range(3):
        place.put(f"share-{number}", uri=f"remote-{number}", provider_id=str(number))
    place.peer.document = place.peer.describe("notifications")
    for path in ("/dav/ocm/remote-1", "/dav/ocm/remote-2"):
        place.open_to(BEARER, path=path)
    refreshing()
    await until(lambda: place.get("share-1").probed and place.get("share-2").probed)
    assert place.get("share-0").probed is None


async def test_one_that_is_never_answered_keeps_no_other_back(place: Place, refreshing: Callable[[], None]) -> None:
    place.peer.document = place.peer.describe("notifications")
    place.put("odd", uri="odd", provider_id="odd")
    place.put("even", uri="even", provider_id="even", probed=NOW - 1)
    place.peer.serve("/dav/ocm/odd", b"", 500)
    place.open_to(BEARER, path="/dav/ocm/even")
    refreshing()
    await until(lambda: place.get("even").probed == NOW)


async def test_a_peer_that_is_gone_is_asked_once_a_round(
    place: Place, refreshing: Callable[[], None], log: list[Any]
) -> None:
    for number in range(5):
        place.put(f"share-{number}", provider_id=str(number))
    await place.peer.stop()
    refreshing()
    await until(lambda: len([line for line in log if "not refreshed" in line["event"]]) >= 2)
    assert len({line["share"] for line in log if "not refreshed" in line["event"]}) == 1
    await place.peer.start()


async def test_expired_and_ended_shares_are_left_alone_and_dead_tokens_are_dropped(
    place: Place, refreshing: Callable[[], None]
) -> None:
    place.put("expired", provider_id="1", expiration=NOW)
    place.put("ended", provider_id="2", state="left", mount=None)
    place.put("live", requires_exchange=True)
    place.store.run_sync(lambda tx: exchanged_tokens.put(tx, "expired", b"sealed", NOW - 300, NOW))
    refreshing()
    await until(lambda: place.get("live").probed)
    assert place.get("expired").probed is place.get("ended").probed is None
    assert place.store.read_sync(lambda tx: exchanged_tokens.get(tx, "expired")) is None


async def test_refreshing_survives_a_state_that_does_not_answer(
    place: Place, refreshing: Callable[[], None], log: list[Any]
) -> None:
    place.put(requires_exchange=True)
    read, failures = place.store.read, [Unavailable("disk I/O error"), KeyError("an error of ours")]

    async def failing(work: Any) -> Any:
        if failures:
            raise failures.pop()
        return await read(work)

    place.store.read = failing
    refreshing()
    await until(lambda: place.get().probed == NOW)
    assert len([line for line in log if line["log_level"] == "error"]) == 2


async def test_only_so_many_hosts_are_refreshed_at_a_time(
    place: Place, refreshing: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REFRESHED_AT_ONCE", 2)
    looking: set[str] = set()
    seen: set[str] = set()
    most = 0

    async def look(share_id: str) -> None:
        nonlocal most
        looking.add(share_id)
        most = max(most, len(looking))
        await asyncio.sleep(0.01)
        looking.discard(share_id)
        seen.add(share_id)

    monkeypatch.setattr(place.remote, "_look", look)
    for number in range(7):
        place.put(f"share-{number}", server=f"host-{number}.example")
    refreshing()
    await until(lambda: len(seen) == 7)
    assert most == 2


# --- ways that the operator has closed ------------------------------------------------------------------------------


def close(place: Place, *ways: Way) -> list[str]:
    """Close ways; return what is counted of the others."""
    used: list[str] = []
    place.remote._legacy = Legacy(place.store, lambda way, _: way not in ways, count=used.append, clock=place.clock)
    return used


@pytest.mark.parametrize(
    ("closed", "way"), [(Way.BEARER_SECRET, "basic"), (Way.BASIC, "bearer")], ids=["bearer_secret", "basic"]
)
async def test_a_way_that_is_closed_is_not_tried(place: Place, closed: Way, way: str) -> None:
    place.peer.document = place.peer.describe("notifications")
    place.put(access={"basic": "bearer", "bearer": "basic"}[way])  # which has worked before it was closed
    place.opens = {"/dav/ocm/remote-1": {BEARER, BASIC}}
    used = close(place, closed)
    assert (await place.stat()).kind is Kind.DIRECTORY
    assert await place.remote.probe("received-1", 5) is None
    assert place.get().access == way
    assert {credential for _, credential in place.seen} == {BASIC if way == "basic" else BEARER}
    assert set(used) == {"basic" if way == "basic" else "bearer_secret"}


async def test_a_share_that_only_closed_ways_lead_to_says_which_key_opens_one(place: Place) -> None:
    place.peer.document = place.peer.describe("notifications")
    place.put()
    place.open_to(BEARER, BASIC)
    close(place, Way.BASIC, Way.BEARER_SECRET)
    said = await place.remote.probe("received-1", 5)
    assert said is not None
    assert "federation.legacy.basic or federation.legacy.bearer_secret opens one" in said
    with pytest.raises(Unavailable, match=r"federation\.legacy\.basic"):
        await place.stat()
    assert place.seen == []


async def test_a_token_is_no_way_that_can_be_closed(place: Place) -> None:
    place.put()
    place.open_to()
    used = close(place, Way.BASIC, Way.BEARER_SECRET)
    assert await place.remote.probe("received-1", 5) is None
    assert (place.get().access, used) == ("token", [])


# --- what its server says of it -------------------------------------------------------------------------------------


@pytest.fixture
def ocis(place: Place) -> Place:
    """A Share of the product that says by WebDAV alone what may be done there."""
    place.peer.document = documents(place.peer.url)["ocis"]
    place.put(uri=f"{place.peer.url}/dav/ocm/remote-1", permissions=WRITE)
    place.peer.answers["/dav/ocm/remote-1"] = place.dav
    place.open_to(BEARER)
    return place


@pytest.mark.parametrize("told", [{}, {"bits": "many"}, {"words": "null"}, {"words": "[" * 5000}])
async def test_who_says_nothing_of_permissions_that_makes_sense_changes_none(ocis: Place, told: dict[str, str]) -> None:
    ocis.told = told
    assert await ocis.remote.probe("received-1", 5) is None
    assert ocis.get().permissions == WRITE


async def test_a_notification_that_comes_during_a_look_stands(ocis: Place) -> None:
    ocis.told = {"bits": "31"}
    ocis.before_answer = lambda: ocis.store.run_sync(
        lambda tx: received_shares.set_permissions(tx, "received-1", READ, NOW)
    )
    assert await ocis.remote.probe("received-1", 5) is None
    assert ocis.get().permissions == READ


async def test_a_server_that_cannot_be_reached_has_not_said_that_a_share_is_gone(ocis: Place) -> None:
    await ocis.peer.stop()
    assert not await ocis.remote.is_gone(ocis.get())
