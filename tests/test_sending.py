"""The Sending Server: what an owner may share, what the peer is told and may say, and when a secret is gone."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from fake_peers import MODERN, NO_ANSWER, FakePeers
from parts import CHEAP, NOW, READ, WRITE, Clock, new_store, received, sent, until

from backends.errors import Unavailable
from backends.memory import MemoryBackend
from backends.paths import StoragePath
from backends.pool import Pool
from gateway import sending as module
from gateway.access import Access
from gateway.changes import Changes
from gateway.config import MountConfig
from gateway.errors import Conflict, Invalid, NoSuch, NotAllowed, Refusal, Unproven
from gateway.expiring import GRACE, Expiring
from gateway.mounts import Mounts
from gateway.ocm.keys import JWKSet
from gateway.ocm.notifications import Notification, NotificationType
from gateway.ocm.secret import Secret
from gateway.ocm.shares import LATEST_EXPIRATION, Permission, ShareType
from gateway.ocm.states import SENT_ON_NOTIFICATION, SentState
from gateway.outbox import BACK_OFF, Outbox
from gateway.proof import Evidence, Peer
from gateway.sending import Sending, SentShareView, ShareRequest
from gateway.store import events, outbox, received_shares, sent_shares, users
from gateway.store.sealing import Sealer, secret_hash
from gateway.store.sent_shares import SentShare
from gateway.tree import Storage, Tree
from gateway.trust import BLOCKED, Trust
from gateway.users import Passwords

SERVER = "gateway.example"
DAV = f"https://{SERVER}/base/dav/ocm/"
BOB = "bob@peer.example"
SECRET = "shared-secret-of-a-share"
SIGNED = Peer("peer.example", Evidence.RFC9421)
UNSIGNED = Peer("peer.example", Evidence.NONE)
T = NotificationType

MOUNTS = (
    MountConfig(name="home", backend="storage", path="", rights="write"),
    MountConfig(name="frozen", backend="storage", path="", rights="read"),
    MountConfig(name="own", backend="storage", path="users/{user}", rights="write"),
)


class Place:
    """The use cases over a real state and memory, with peers that do as the test says."""

    def __init__(self, directory: Path, ssh: str | None = None) -> None:
        self.clock = Clock()
        self.store = new_store(directory)
        self.store.run_sync(lambda tx: [users.add(tx, name, "hash", 0) for name in ("alice", "bob")])
        self.backend = MemoryBackend()
        for path in ("data", "data/sub", "users", "users/alice", "users/alice/x"):
            self.backend.make_directory(StoragePath.parse(path))
        self.write("data/table.csv")
        self.storages = {"storage": Storage("storage", self.backend, Pool("storage", threads=2))}
        self.peers = FakePeers()
        self.sealer = Sealer(b"k" * 32)
        self.passwords = Passwords(self.store)
        keys = JWKSet(())
        mounts = Mounts(MOUNTS, {})
        self.access = Access(
            self.store, mounts, self.passwords, issuer=SERVER, token_keys=lambda: keys, clock=self.clock
        )
        self.tree = Tree(self.store, mounts, self.storages, self._remote, Changes(self.store), self.clock)
        self.outbox = Outbox(self.store, self.clock)
        self.trust = Trust(self.store, self.clock)
        self.sending = Sending(
            self.store,
            self.tree,
            self.access,
            self.trust,
            self.peers,
            self.outbox,
            self.sealer,
            server=SERVER,
            dav_url=DAV,
            ssh=ssh,
            clock=self.clock,
        )
        self.outbox.start()

    async def _remote(self, _share: object) -> Storage:
        return self.storages["storage"]

    async def close(self) -> None:
        await self.outbox.stop()
        self.passwords.close()
        self.storages["storage"].pool.close()
        self.store.close()

    def write(self, path: str, content: bytes = b"1,2") -> None:
        with self.backend.open_write(StoragePath.parse(path)) as writer:
            writer.write(content)
            writer.commit()

    async def create(self, path: str = "/home/data", share_with: str = BOB, **more: Any) -> SentShareView:
        view, self.problem = await self.sending.create(
            await self.access.of_user("alice"), ShareRequest(StoragePath.parse(path), share_with, **more), "alice"
        )
        return view

    def put(self, **changes: Any) -> SentShare:
        """Store a Share as if it had been sent before; its secret is SECRET."""
        share = sent(**changes)
        sealed = self.sealer.seal(SECRET, share.id)
        self.store.run_sync(lambda tx: sent_shares.add(tx, share, secret_hash(SECRET), sealed))
        return share

    def get(self, share_id: str = "share-1") -> SentShare:
        found = self.store.read_sync(lambda tx: sent_shares.get(tx, share_id))
        assert found is not None
        return found

    def has_secret(self, share_id: str = "share-1") -> bool:
        sealed = self.store.read_sync(lambda tx: sent_shares.sealed_secret(tx, share_id))
        return sealed is not None

    def actions(self, share_id: str = "share-1") -> list[str]:
        return [event.action for event in self.store.read_sync(lambda tx: events.about(tx, share_id))]

    def pending(self) -> list[str]:
        messages = self.store.read_sync(outbox.everything)
        return [message.kind for message in messages if message.state == "pending"]

    def offer_again(self) -> None:
        """Queue the offer of `put`'s Share as a crash leaves it: an attempt may have been made that nobody counted."""
        add = {"server": "peer.example", "kind": "share", "role": "sending", "share": "share-1"}
        self.store.run_sync(lambda tx: outbox.add(tx, now=NOW, **add))
        self.outbox.kick()

    async def settled(self) -> None:
        """Wait until nothing is left to be said."""
        await until(lambda: self.pending() == [] and not self.outbox._busy)

    async def later(self) -> None:
        """Let the first back-off pass, once what was before is recorded."""
        await until(lambda: not self.outbox._busy)
        self.clock.advance(BACK_OFF[0])
        self.outbox.kick()

    async def notify(self, kind: NotificationType, peer: Peer = SIGNED, secret: str | None = None, **more: Any) -> None:
        values: dict[str, Any] = {"provider_id": "share-1", "resource_type": "folder"} | more
        notification = Notification(type=kind, shared_secret=Secret(secret) if secret else None, **values)
        await self.sending.notified(peer, notification)


@pytest.fixture
def log() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as lines:
        yield lines


@pytest.fixture
async def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: list[Any]) -> AsyncIterator[Place]:
    monkeypatch.setattr("gateway.users.PasswordHasher", lambda: CHEAP)
    place = Place(tmp_path)
    yield place
    await place.close()


async def refused(attempt: Any) -> Refusal:
    with pytest.raises(Refusal) as error:
        await attempt
    return error.value


# --- creating -------------------------------------------------------------------------------------------------------


async def test_a_share_is_stored_sent_and_taken(place: Place) -> None:
    place.peers.answers["/shares"] = (201, {"recipientDisplayName": "Bob B."})
    view = await place.create(permissions=WRITE, expiration=NOW + 3600)
    assert place.problem is None
    share = view.share
    assert (view.state, view.path, view.waiting) == ("sent", "/home/data", None)
    assert (share.owner, share.share_with, share.server, share.name) == ("alice", BOB, "peer.example", "data")
    assert (share.mount, share.backend, bytes(share.path)) == ("home", "storage", b"data")
    assert share.identity == place.backend.stat(StoragePath.parse("data")).identity
    assert (share.permissions, share.expiration, share.resource_type) == (WRITE, NOW + 3600, "folder")
    assert (share.recipient_display_name, share.requires_exchange) == ("Bob B.", True)
    assert place.actions(share.id) == ["share.create", "share delivered"]


async def test_the_peer_is_told_what_the_share_is(place: Place) -> None:
    share = (await place.create(permissions=WRITE, expiration=NOW + 3600)).share
    ((server, path, body),) = place.peers.posts
    assert (server, path) == ("peer.example", "/shares")
    secret = body["protocol"]["webdav"].pop("sharedSecret")
    assert len(secret) >= 43, "256 bits"
    assert body == {
        "shareWith": BOB,
        "name": "data",
        "providerId": share.provider_id,
        "owner": f"alice@{SERVER}",
        "ownerDisplayName": "alice",
        "sender": f"alice@{SERVER}",
        "senderDisplayName": "alice",
        "shareType": "user",
        "resourceType": "folder",
        "expiration": NOW + 3600,
        "protocol": {
            "name": "multi",
            "webdav": {
                "uri": share.id,
                "permissions": ["read", "write"],
                "requirements": ["must-exchange-token"],
            },
        },
    }
    found = place.store.read_sync(lambda tx: sent_shares.by_secret_hash(tx, secret_hash(secret)))
    assert found == share


async def test_the_receiver_is_shown_the_owners_display_name(place: Place) -> None:
    place.store.run_sync(lambda tx: users.set_identity(tx, "alice", display_name="Alice A."))
    await place.create()
    (body,) = place.peers.told("/shares")
    assert (body["ownerDisplayName"], body["senderDisplayName"]) == ("Alice A.", "Alice A.")
    assert (body["owner"], body["sender"]) == (f"alice@{SERVER}", f"alice@{SERVER}")


async def test_ids_and_secrets_never_come_twice_and_need_no_escape(place: Place) -> None:
    shares = [(await place.create()).share for _ in range(5)]
    secrets = {body["protocol"]["webdav"]["sharedSecret"] for body in place.peers.told("/shares")}
    assert len(secrets) == len({share.id for share in shares}) == 5
    assert all(share.id.isalnum() and share.id == share.provider_id for share in shares)


async def test_a_peer_that_cannot_exchange_is_not_asked_to(place: Place) -> None:
    place.peers.advertise("notifications", "protocol-object")
    share = (await place.create()).share
    assert "requirements" not in place.peers.told("/shares")[0]["protocol"]["webdav"]
    assert not share.requires_exchange


async def test_an_absolute_uri_is_for_peers_that_do_not_say_relative(place: Place) -> None:
    folder = {"name": "folder", "shareTypes": ["user"], "protocols": {"webdav": "/dav/"}}
    place.peers.advertise(*MODERN, resourceTypes=[folder])
    share = (await place.create()).share
    assert place.peers.told("/shares")[0]["protocol"]["webdav"]["uri"] == f"{DAV}{share.id}"


async def test_an_old_peer_gets_the_body_that_it_reads_and_the_same_type_ever_after(place: Place) -> None:
    """Nextcloud up to 34 knows files only and means folders as well (peers.md, section 10, trap 2)."""
    place.peers.advertise_old()
    share = (await place.create()).share
    body = place.peers.told("/shares")[0]
    assert body["resourceType"] == "file"
    assert body["protocol"]["name"] == "webdav"
    assert set(body["protocol"]["options"]) == {"sharedSecret", "permissions"}
    assert share.resource_type == "folder"
    place.peers.advertise(*MODERN)  # it has become another product since
    await place.sending.revoke("alice", share.id, "alice")
    await place.settled()
    assert place.peers.told()[0]["resourceType"] == "file"


async def test_a_group_of_an_old_peer_is_one_only_where_it_says_so(place: Place) -> None:
    place.peers.advertise_old()  # as Nextcloud does
    assert (await place.create(share_type=ShareType.GROUP)).state == "sent"
    assert place.peers.told("/shares")[0]["shareType"] == "group"
    owncloud = {"name": "file", "shareTypes": ["user"], "protocols": {"webdav": "/public.php/webdav/"}}
    place.peers.advertise(apiVersion="1.0-proposal1", resourceTypes=[owncloud], capabilities=None)
    assert (await place.create(share_type=ShareType.GROUP)).state == "refused"
    assert len(place.peers.told("/shares")) == 1


async def test_ocis_reads_the_modern_body_whatever_its_version(place: Place) -> None:
    place.peers.advertise(apiVersion="1.1.0", provider="oCIS", capabilities=["/invite-accepted"])
    await place.create()
    assert place.peers.told("/shares")[0]["protocol"]["name"] == "multi"


@pytest.mark.parametrize(
    ("path", "name", "resource_type"),
    [
        ("/home/data/table.csv", "table.csv", "file"),
        ("/home/data/sub", "sub", "folder"),
        ("/home", "home", "folder"),
        ("/own", "own", "folder"),
        ("/own/x", "x", "folder"),
        ("/frozen/data", "data", "folder"),
    ],
)
async def test_files_folders_and_whole_mounts_can_be_shared(
    place: Place, path: str, name: str, resource_type: str
) -> None:
    """Under the name that their owner sees, not that of a directory behind it."""
    view = await place.create(path)
    assert (view.share.name, view.share.resource_type, view.path) == (name, resource_type, path)


async def test_a_name_that_is_not_utf8_is_shared_under_one_that_is(place: Place) -> None:
    place.backend.make_directory(StoragePath((b"caf\xe9 \xe2\x80\xae",)))
    view, _ = await place.sending.create(
        await place.access.of_user("alice"), ShareRequest(StoragePath((b"home", b"caf\xe9 \xe2\x80\xae")), BOB), "alice"
    )
    assert view.share.name == "caf%E9 %E2%80%AE"
    assert view.share.path == StoragePath((b"caf\xe9 \xe2\x80\xae",))


async def test_a_share_may_have_a_name_of_its_own(place: Place) -> None:
    assert (await place.create(name="Meßreihe 7")).share.name == "Meßreihe 7"


BAD_REQUESTS: dict[str, tuple[dict[str, Any], type[Refusal], str]] = {
    "no address": ({"share_with": "bob"}, Invalid, "INVALID_ADDRESS"),
    "an address with a scheme": ({"share_with": "bob@https://peer.example"}, Invalid, "INVALID_ADDRESS"),
    "an address with a path": ({"share_with": "bob@peer.example/x"}, Invalid, "INVALID_ADDRESS"),
    "an address with controls": ({"share_with": "bob\n@peer.example"}, Invalid, "INVALID_ADDRESS"),
    "this server": ({"share_with": f"bob@{SERVER}"}, Invalid, "SAME_SERVER"),
    "this server in capitals": ({"share_with": f"bob@{SERVER.upper()}:443"}, Invalid, "SAME_SERVER"),
    "a blocked server": ({"share_with": "eve@blocked.example"}, NotAllowed, "UNTRUSTED_PROVIDER"),
    "nothing there": ({"path": "/home/nothing"}, NoSuch, "NO_SUCH_PATH"),
    "no such mount": ({"path": "/nowhere/data"}, NoSuch, "NO_SUCH_PATH"),
    "the whole tree": ({"path": "/"}, NotAllowed, "NOT_SHAREABLE"),
    "what is received": ({"path": "/received"}, NotAllowed, "NOT_SHAREABLE"),
    "a received share": ({"path": "/received/theirs"}, NotAllowed, "NO_RESHARING"),
    "something in a received share": ({"path": "/received/theirs/x"}, NotAllowed, "NO_RESHARING"),
    "no received share": ({"path": "/received/none"}, NoSuch, "NO_SUCH_PATH"),
    "write where one may not": ({"path": "/frozen/data", "permissions": WRITE}, NotAllowed, "MOUNT_READ_ONLY"),
    "write alone": ({"permissions": frozenset({Permission.WRITE})}, Invalid, "READ_REQUIRED"),
    "nothing permitted": ({"permissions": frozenset()}, Invalid, "READ_REQUIRED"),
    "ended already": ({"expiration": NOW}, Invalid, "EXPIRED"),
    "ended long ago": ({"expiration": -1}, Invalid, "EXPIRED"),
    "beyond all calendars": ({"expiration": LATEST_EXPIRATION + 1}, Invalid, "EXPIRATION_TOO_LATE"),
    "a name that is a path": ({"name": "../x"}, Invalid, "INVALID_NAME"),
    "a name with controls": ({"name": "a\x1b[31m"}, Invalid, "INVALID_NAME"),
    "a name that no state holds": ({"name": "\udcff"}, Invalid, "INVALID_NAME"),
    "an empty name": ({"name": ""}, Invalid, "INVALID_NAME"),
}


@pytest.mark.parametrize("why", BAD_REQUESTS)
async def test_what_cannot_be_shared_is_refused_and_leaves_nothing(place: Place, why: str) -> None:
    request, kind, code = BAD_REQUESTS[why]
    await place.trust.set("blocked.example", BLOCKED, "operator")
    theirs = received(state="accepted", mount="theirs", permissions=frozenset(Permission))
    place.store.run_sync(lambda tx: received_shares.add(tx, theirs, None, None))
    error = await refused(place.create(**request))
    assert (type(error), error.code) == (kind, code)
    assert await place.sending.list(None) == []
    assert place.store.read_sync(outbox.everything) == []
    assert place.peers.posts == []


async def test_a_storage_that_does_not_answer_shares_nothing(place: Place) -> None:
    place.storages["storage"].pool.close()
    with pytest.raises(Unavailable):
        await place.create()
    assert await place.sending.list(None) == []


@pytest.mark.parametrize("status", [400, 401, 403, 404, 501])
async def test_a_refusal_is_final_and_says_why(place: Place, status: int) -> None:
    place.peers.answers["/shares"] = (status, {"message": "RECIPIENT_NOT_FOUND"})
    view = await place.create()
    assert view.state == "refused"
    assert place.problem == f"peer.example answered {status}: RECIPIENT_NOT_FOUND"
    assert not place.has_secret(view.share.id)
    await place.later()
    await asyncio.sleep(0.05)
    assert len(place.peers.posts) == 1


@pytest.mark.parametrize("answer", [NO_ANSWER, (500, {}), (503, b"busy"), (302, b""), (429, {})])
async def test_a_peer_that_cannot_answer_is_asked_again(place: Place, answer: Any) -> None:
    place.peers.answers["/shares"] = answer
    view = await place.create()
    assert view.state == "pending"
    assert place.problem
    assert view.waiting == place.problem
    place.peers.answers["/shares"] = (201, {})
    await place.later()
    await until(lambda: place.get(view.share.id).state == "sent")
    first, second = place.peers.told("/shares")
    assert first == second, "the same Share again, which changes nothing at the peer"


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"<html>", b'{"recipientDisplayName": 7}', b"\xff"])
@pytest.mark.parametrize("status", [200, 201])
async def test_whatever_a_peer_writes_under_its_201_the_share_is_sent(place: Place, status: int, body: bytes) -> None:
    place.peers.answers["/shares"] = (status, body)
    view = await place.create()
    assert (view.state, view.share.recipient_display_name) == ("sent", None)


async def test_a_peer_that_cannot_be_discovered_is_asked_again(place: Place) -> None:
    place.peers.discovery = NO_ANSWER
    assert (await place.create()).state == "pending"
    assert place.problem == str(NO_ANSWER)


@pytest.mark.parametrize(
    "changes",
    [
        {"criteria": ["must-exchange-token"], "capabilities": ["protocol-object"]},
        {"resourceTypes": [{"name": "file", "shareTypes": ["user"], "protocols": {"webdav": "/x/"}}]},
        {"resourceTypes": [{"name": "folder", "shareTypes": ["group"], "protocols": {"webdav": "/x/"}}]},
        {"resourceTypes": []},
    ],
)
async def test_what_a_peer_does_not_take_is_not_offered(place: Place, changes: dict[str, Any]) -> None:
    place.peers.advertise(*MODERN, **changes)
    view = await place.create()
    assert view.state == "refused"
    assert place.problem
    assert place.problem.startswith("peer.example d")
    assert place.peers.posts == []


async def test_creating_waits_for_a_slow_peer_only_so_long(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_ATTEMPT", 0.1)
    place.peers.let_go.clear()
    view = await place.create()
    assert (view.state, view.waiting) == ("pending", "not sent yet")
    place.peers.let_go.set()
    await until(lambda: place.get(view.share.id).state == "sent")


async def test_a_repetition_whose_first_answer_was_lost_is_no_refusal(place: Place) -> None:
    """In between the owner has changed the permissions, so to the peer it is another payload (409)."""
    place.peers.answers["/shares"] = NO_ANSWER
    view = await place.create(permissions=WRITE)
    await place.sending.update("alice", view.share.id, "alice", permissions=READ)
    place.peers.answers["/shares"] = (409, {"message": "SHARE_ALREADY_EXISTS"})
    await place.later()
    await place.settled()
    assert place.get(view.share.id).state == "sent"
    assert place.peers.types == ["SHARE_CHANGE_PERMISSION"]


async def test_a_share_that_came_before_a_crash_is_no_refusal(place: Place) -> None:
    """The peer has it, and the state knows of no attempt: in between the permissions have changed."""
    place.put(state="pending")
    place.peers.answers["/shares"] = (409, {"message": "SHARE_ALREADY_EXISTS"})
    place.offer_again()
    await place.settled()
    assert place.get().state == "sent"
    assert place.has_secret()


@pytest.mark.parametrize("status", [400, 503])
async def test_a_peer_that_quotes_the_secret_brings_it_into_no_log(place: Place, log: list[Any], status: int) -> None:
    """wire.md, Share Creation Notification: it never appears in a URL or a log, nor where people look."""
    place.put()
    place.peers.answers["/notifications"] = (status, {"message": f"cannot use sharedSecret={SECRET} of x"})
    await place.sending.revoke("alice", "share-1", "alice")
    await until(lambda: any("cannot use" in str(line) for line in log))
    await until(lambda: not place.outbox._busy)
    (message,) = place.store.read_sync(outbox.everything)
    told = place.store.read_sync(lambda tx: events.about(tx, "share-1"))
    assert message.last_error == f"peer.example answered {status}: cannot use sharedSecret=*** of x"
    assert SECRET not in f"{log} {told} {message}"


@pytest.mark.parametrize("first", [True, False])
async def test_whether_the_exchange_is_required_is_decided_once(place: Place, first: bool) -> None:
    """The first offer may have come, whose answer was lost; what the peer has must stay true."""
    legs = [MODERN, tuple(word for word in MODERN if word != "exchange-token")]
    before, after = legs if first else legs[::-1]
    place.peers.advertise(*before)
    place.peers.answers["/shares"] = NO_ANSWER
    view = await place.create()
    place.peers.advertise(*after)
    place.peers.answers["/shares"] = (201, {})
    await place.later()
    await place.settled()
    assert place.get(view.share.id).requires_exchange is first
    webdavs = [told["protocol"]["webdav"] for told in place.peers.told("/shares")]
    assert ["requirements" in webdav for webdav in webdavs] == [first, first]


async def test_the_decision_about_the_exchange_outlives_a_crash_that_hid_the_attempt(place: Place) -> None:
    place.put(state="pending", requires_exchange=True)
    place.peers.advertise("http-sig", "notifications", "protocol-object")
    place.offer_again()
    await place.settled()
    assert place.get().requires_exchange is True
    assert place.peers.told("/shares")[0]["protocol"]["webdav"]["requirements"] == ["must-exchange-token"]


async def test_a_peer_that_begins_to_demand_the_exchange_is_not_offered_a_share_without_it(place: Place) -> None:
    place.put(state="pending", requires_exchange=False)
    place.peers.advertise(*MODERN, criteria=["must-exchange-token"])
    place.offer_again()
    await place.settled()
    assert (place.get().state, place.peers.told("/shares")) == ("refused", [])


async def test_no_log_line_event_or_view_holds_the_secret(place: Place, log: list[Any]) -> None:
    for answer in ((201, {}), (400, {"message": "no"}), NO_ANSWER):
        place.peers.answers["/shares"] = answer
        view = await place.create()
        secret = place.peers.told("/shares")[-1]["protocol"]["webdav"]["sharedSecret"]
        assert secret not in repr(view)
        assert secret not in repr(log)
        assert secret not in repr(place.store.read_sync(outbox.everything))
    assert log


# --- looking --------------------------------------------------------------------------------------------------------


async def test_an_owner_sees_the_owners_shares_and_the_operator_all(place: Place) -> None:
    place.put()
    bobs = sent("share-2", owner="bob")
    place.store.run_sync(lambda tx: sent_shares.add(tx, bobs, b"other", b"sealed"))
    assert [view.share.id for view in await place.sending.list("alice")] == ["share-1"]
    assert [view.share.id for view in await place.sending.list(None)] == ["share-1", "share-2"]
    assert (await place.sending.show(None, "share-2")).share == bobs
    for owner, share_id in (("alice", "share-2"), ("bob", "share-1"), ("alice", "none"), (None, "none")):
        for attempt in (
            place.sending.show(owner, share_id),
            place.sending.revoke(owner, share_id, "x"),
            place.sending.update(owner, share_id, "x", never_expires=True),
        ):
            assert (await refused(attempt)).code == "NO_SUCH_SHARE"
    assert place.get().state == "accepted"


async def test_a_share_shows_what_time_and_storage_have_made_of_it(place: Place) -> None:
    identity = place.backend.stat(StoragePath.parse("data")).identity
    place.put(identity=identity, expiration=NOW + 10)

    async def state() -> str:
        return str((await place.sending.show("alice", "share-1")).state)

    assert await state() == "accepted"
    place.backend.rename(StoragePath.parse("data"), StoragePath.parse("elsewhere"), overwrite=False)
    assert await state() == "missing"
    place.backend.make_directory(StoragePath.parse("data"))
    assert await state() == "missing", "another folder of the same name"
    place.backend.remove(StoragePath.parse("data"))
    place.backend.rename(StoragePath.parse("elsewhere"), StoragePath.parse("data"), overwrite=False)
    assert await state() == "accepted"
    place.clock.advance(10)
    assert await state() == "expired"


async def test_a_file_may_be_replaced_and_a_folder_in_its_place_is_another_thing(place: Place) -> None:
    identity = place.backend.stat(StoragePath.parse("data/table.csv")).identity
    place.put(path=StoragePath.parse("data/table.csv"), resource_type="file", identity=identity)
    place.backend.remove(StoragePath.parse("data/table.csv"))
    place.write("data/table.csv", b"new")
    assert (await place.sending.show("alice", "share-1")).state == "accepted"
    place.backend.remove(StoragePath.parse("data/table.csv"))
    place.backend.make_directory(StoragePath.parse("data/table.csv"))
    assert (await place.sending.show("alice", "share-1")).state == "missing"


async def test_shares_on_storage_that_is_gone_or_hangs_are_listed_as_they_are(place: Place) -> None:
    place.put(backend="removed-from-the-configuration")
    assert [view.state for view in await place.sending.list("alice")] == ["accepted"]
    place.store.run_sync(lambda tx: sent_shares.set_location(tx, "share-1", "storage", StoragePath(), None))
    place.storages["storage"].pool.close()
    assert [view.state for view in await place.sending.list("alice")] == ["accepted"]


async def test_a_storage_that_hangs_delays_a_listing_once_and_not_for_each_share(place: Place) -> None:
    let_go = asyncio.Event()

    async def hang(_path: object) -> None:
        await let_go.wait()

    place.storages["storage"] = dataclasses.replace(place.storages["storage"], pool=_Hanging(hang))
    for number in range(20):
        share = sent(f"share-{number}")
        place.store.run_sync(lambda tx, share=share: sent_shares.add(tx, share, share.id.encode(), b"sealed"))
    listed = await asyncio.wait_for(place.sending.list(None), 2)
    assert len(listed) == 20
    let_go.set()
    await asyncio.sleep(0)
    place.storages["storage"] = Storage("storage", place.backend, Pool("storage", threads=2))


class _Hanging(Pool):
    """A pool whose every call waits."""

    def __init__(self, wait: Any) -> None:
        super().__init__("hanging")
        self._wait = wait

    async def run(self, function: Any, /, *args: Any, **named: Any) -> Any:
        await self._wait(args)
        return function(*args, **named)


# --- changing -------------------------------------------------------------------------------------------------------


async def test_a_peer_without_a_message_for_new_permissions_reads_them_by_itself(place: Place) -> None:
    """Nextcloud and ownCloud look at each listing, and refuse the message (peers.md, section 5)."""
    place.put(permissions=WRITE)
    place.peers.advertise_old()
    await place.sending.update("alice", "share-1", "alice", permissions=READ)
    await place.settled()
    assert place.peers.told() == []
    assert (await place.access.by_secret(SECRET)).permissions == READ


async def test_new_permissions_hold_at_once_and_the_peer_is_told(place: Place) -> None:
    place.put(permissions=WRITE)
    grant = await place.access.by_secret(SECRET)
    assert grant.permissions == WRITE
    view = await place.sending.update("alice", "share-1", "alice", permissions=READ)
    assert view.share.permissions == READ
    assert (await place.access.by_secret(SECRET)).permissions == READ
    await place.settled()
    (told,) = place.peers.told()
    assert told["notificationType"] == "SHARE_CHANGE_PERMISSION"
    assert told["senderDomain"] == SERVER
    assert (told["providerId"], told["notification"]["file"]) == (
        "share-1",
        {"providerId": "share-1", "permissions": ["read"]},
    )
    assert told["notification"]["sharedSecret"] == SECRET
    assert place.actions() == ["share.update", "SHARE_CHANGE_PERMISSION delivered"]


async def test_the_same_permissions_are_no_news(place: Place) -> None:
    place.put(permissions=WRITE)
    await place.sending.update("alice", "share-1", "alice", permissions=WRITE, expiration=NOW + 5)
    assert place.pending() == []
    assert place.get().expiration == NOW + 5
    await place.sending.update("alice", "share-1", "alice", never_expires=True)
    assert place.get().expiration is None


async def test_an_expired_share_can_be_prolonged(place: Place) -> None:
    place.put(expiration=NOW - 5)
    assert (await place.sending.update("alice", "share-1", "alice", expiration=NOW + 5)).state == "accepted"
    assert (await place.access.by_secret(SECRET)).principal == "share:share-1"


async def test_an_expired_share_ends_for_good_when_nobody_has_prolonged_it(place: Place) -> None:
    place.put(expiration=NOW - 5)
    expiring = Expiring(place.store, place.sending, None, place.clock)
    assert await expiring.end_what_is_over() == 0
    assert place.has_secret()
    place.clock.advance(GRACE)
    assert await expiring.end_what_is_over() == 1
    assert (place.get().state, place.has_secret()) == ("expired", False)
    assert place.actions() == ["share.expire"]
    assert await expiring.end_what_is_over() == 0
    assert (await refused(place.sending.update("alice", "share-1", "x", expiration=NOW * 2))).code == "SHARE_ENDED"


async def test_an_expired_share_keeps_its_secret_until_all_is_said(place: Place) -> None:
    place.put(expiration=NOW - GRACE)
    place.peers.answers["/notifications"] = NO_ANSWER
    await place.sending.update("alice", "share-1", "alice", permissions=WRITE)
    await Expiring(place.store, place.sending, None, place.clock).end_what_is_over()
    assert (place.get().state, place.has_secret()) == ("expired", True)
    place.peers.answers["/notifications"] = (201, {})
    await place.later()
    await until(lambda: not place.has_secret())


@pytest.mark.parametrize(
    ("changes", "update", "code"),
    [
        ({"mount": "frozen"}, {"permissions": WRITE}, "MOUNT_READ_ONLY"),
        ({"mount": "gone", "backend": "gone"}, {"permissions": WRITE}, "MOUNT_READ_ONLY"),
        ({}, {"permissions": frozenset()}, "READ_REQUIRED"),
        ({}, {"permissions": frozenset({Permission.WRITE})}, "READ_REQUIRED"),
        ({}, {"expiration": NOW}, "EXPIRED"),
        ({}, {"expiration": 2**62}, "EXPIRATION_TOO_LATE"),
        ({"state": "revoked"}, {"permissions": WRITE}, "SHARE_ENDED"),
        ({"state": "declined"}, {"expiration": NOW + 5}, "SHARE_ENDED"),
    ],
)
async def test_a_change_that_cannot_be_changes_nothing(
    place: Place, changes: dict[str, Any], update: dict[str, Any], code: str
) -> None:
    share = place.put(**changes)
    assert (await refused(place.sending.update("alice", "share-1", "alice", **update))).code == code
    assert place.get() == share
    assert place.pending() == []
    assert place.actions() == []


# --- revoking -------------------------------------------------------------------------------------------------------


async def test_revoking_ends_access_at_once_and_tells_the_peer(place: Place) -> None:
    place.put()
    await place.access.by_secret(SECRET)
    assert (await place.sending.revoke("alice", "share-1", "alice")).state == "revoked"
    with pytest.raises(Unproven):
        await place.access.by_secret(SECRET)
    await place.settled()
    (told,) = place.peers.told()
    assert told["notificationType"] == "SHARE_UNSHARED"
    assert told["notification"] == {"file": {"providerId": "share-1"}, "sharedSecret": SECRET, "grantee": "bob"}
    assert place.actions() == ["share.revoke", "SHARE_UNSHARED delivered"]


async def test_the_secret_is_kept_until_the_last_message_is_delivered_and_wiped_then(place: Place) -> None:
    """Older peers want it back in SHARE_UNSHARED (wire.md, Notifications)."""
    place.put()
    place.peers.answers["/notifications"] = NO_ANSWER
    await place.sending.revoke("alice", "share-1", "alice")
    await until(lambda: len(place.peers.told()) == 1)
    assert place.has_secret()
    place.peers.answers["/notifications"] = (201, {})
    await until(lambda: place.get().state == "revoked" and not place.outbox._busy)
    await place.later()
    await until(lambda: not place.has_secret())
    assert place.peers.told()[-1]["notification"]["sharedSecret"] == SECRET


@pytest.mark.parametrize("status", [200, 201, 202, 204, 404, 409])
async def test_a_peer_that_knows_already_is_told(place: Place, status: int) -> None:
    place.put()
    place.peers.answers["/notifications"] = (status, b"")
    await place.sending.revoke("alice", "share-1", "alice")
    await place.settled()
    assert place.actions()[-1] == "SHARE_UNSHARED delivered"
    assert not place.has_secret()


@pytest.mark.parametrize("status", [400, 401, 403, 501])
async def test_a_peer_that_does_not_want_to_know_is_told_once(place: Place, status: int) -> None:
    place.put()
    place.peers.answers["/notifications"] = (status, b"")
    await place.sending.revoke("alice", "share-1", "alice")
    await place.settled()
    assert place.actions()[-1] == "SHARE_UNSHARED failed"
    assert not place.has_secret()
    assert place.get().state == "revoked"


async def test_revoking_twice_is_revoking_once(place: Place) -> None:
    place.put()
    for _ in range(2):
        assert (await place.sending.revoke("alice", "share-1", "alice")).state == "revoked"
    await place.settled()
    assert place.peers.types == ["SHARE_UNSHARED"]


@pytest.mark.parametrize("state", ["declined", "refused"])
async def test_revoking_what_the_peer_has_ended_changes_nothing(place: Place, state: str) -> None:
    place.put(state=state)
    assert (await place.sending.revoke("alice", "share-1", "alice")).state == state
    assert (place.pending(), place.actions()) == ([], [])


async def test_a_share_that_never_reached_its_peer_is_not_offered_any_more(place: Place) -> None:
    place.peers.answers["/shares"] = NO_ANSWER
    view = await place.create()
    await place.sending.revoke("alice", view.share.id, "alice")
    await place.later()
    await place.settled()
    assert len(place.peers.told("/shares")) == 1
    assert place.peers.types == ["SHARE_UNSHARED"]
    assert not place.has_secret(view.share.id)


async def test_a_share_that_is_revoked_while_it_is_offered_is_taken_back(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The peer may have stored it already; without a word it would show it for ever."""
    monkeypatch.setattr(module, "FIRST_ATTEMPT", 0.05)
    place.peers.let_go.clear()
    view = await place.create()
    await until(lambda: place.peers.told("/shares"))
    await place.sending.revoke("alice", view.share.id, "alice")
    place.peers.let_go.set()
    await place.settled()
    assert place.get(view.share.id).state == "revoked"
    assert place.peers.types == ["SHARE_UNSHARED"]
    assert not place.has_secret(view.share.id)


async def test_a_share_that_is_revoked_after_a_crash_in_its_first_delivery_is_taken_back(place: Place) -> None:
    """The peer has it, and the state knows of no attempt."""
    share = place.put(state="pending")
    place.store.run_sync(
        lambda tx: outbox.add(tx, server=share.server, kind="share", role="sending", share=share.id, now=NOW + 99)
    )
    await place.sending.revoke("alice", "share-1", "alice")
    await place.settled()
    assert place.peers.types == ["SHARE_UNSHARED"]
    assert place.peers.told("/shares") == []


# --- what the Receiving Server says ---------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [state.value for state in SentState])
@pytest.mark.parametrize("kind", [T.SHARE_ACCEPTED, T.SHARE_DECLINED, T.SHARE_UNSHARED, T.SHARE_CHANGE_PERMISSION])
async def test_a_notification_does_what_the_table_says_and_nothing_else(
    place: Place, state: str, kind: NotificationType
) -> None:
    place.put(state=state)
    after = SENT_ON_NOTIFICATION.get((SentState(state), kind))
    if after is None:
        assert isinstance(await refused(place.notify(kind)), Conflict)
        assert place.get().state == state
    else:
        await place.notify(kind)
        assert place.get().state == after
        assert place.actions() == ([] if after == state else [kind.value])


async def test_declining_wipes_the_secret(place: Place) -> None:
    place.put()
    await place.notify(T.SHARE_DECLINED, message="no\nthanks" * 200)
    assert not place.has_secret()
    (event,) = place.store.read_sync(lambda tx: events.about(tx, "share-1"))
    assert (event.actor, event.action) == ("peer.example", "SHARE_DECLINED")
    assert len(event.detail["message"]) == 500


async def test_the_secret_of_a_declined_share_is_kept_while_something_is_still_to_be_said(place: Place) -> None:
    share = place.put()
    place.store.run_sync(
        lambda tx: outbox.add(tx, server=share.server, kind="SHARE_CHANGE_PERMISSION", role="sending",
                              share=share.id, now=NOW + BACK_OFF[0])
    )  # fmt: skip
    await place.notify(T.SHARE_DECLINED)
    assert place.has_secret()
    await place.later()
    await until(lambda: not place.has_secret())


async def test_a_signed_peer_needs_no_secret_and_a_wrong_one_does_no_harm(place: Place) -> None:
    place.put(state="sent")
    await place.notify(T.SHARE_ACCEPTED)
    await place.notify(T.SHARE_ACCEPTED, secret="wrong")
    await place.notify(T.SHARE_ACCEPTED, Peer("peer.example", Evidence.LABELLED))
    assert place.get().state == "accepted"


async def test_an_unsigned_peer_has_to_know_id_and_secret(place: Place) -> None:
    place.put(state="sent")
    assert isinstance(await refused(place.notify(T.SHARE_ACCEPTED, UNSIGNED)), Unproven)
    assert isinstance(await refused(place.notify(T.SHARE_ACCEPTED, UNSIGNED, "wrong")), NoSuch)
    assert isinstance(await refused(place.notify(T.SHARE_ACCEPTED, UNSIGNED, SECRET, provider_id="x")), NoSuch)
    assert place.get().state == "sent"
    await place.notify(T.SHARE_ACCEPTED, UNSIGNED, SECRET)
    assert place.get().state == "accepted"


@pytest.mark.parametrize("evidence", list(Evidence))
@pytest.mark.parametrize("secret", [None, SECRET, "wrong"])
async def test_another_host_may_not_speak_about_a_share(place: Place, evidence: Evidence, secret: str | None) -> None:
    """Not even with the right secret (wire.md, Binding)."""
    place.put()
    for server in ("evil.example", "peer.example:8443", "sub.peer.example"):
        error = await refused(place.notify(T.SHARE_DECLINED, Peer(server, evidence), secret))
        assert isinstance(error, NoSuch if secret or evidence >= Evidence.SECRET else Unproven)
    assert place.get().state == "accepted"
    assert place.has_secret()


@pytest.mark.parametrize("provider_id", ["share-2", "", "SHARE-1", "share-1\0"])
async def test_an_unknown_share_is_unknown_to_everybody(place: Place, provider_id: str) -> None:
    place.put()
    for peer, secret in ((SIGNED, None), (SIGNED, SECRET), (UNSIGNED, SECRET)):
        error = await refused(place.notify(T.SHARE_DECLINED, peer, secret, provider_id=provider_id))
        assert (type(error), error.code) == (NoSuch, "SHARE_NOT_FOUND")


async def test_who_proves_nothing_does_not_learn_which_shares_there_are(place: Place) -> None:
    place.put()
    errors = [
        await refused(place.notify(T.SHARE_DECLINED, UNSIGNED, provider_id=provider_id))
        for provider_id in ("share-1", "none", "")
    ]
    assert {(type(error), error.code, str(error)) for error in errors} == {
        (Unproven, "SIGNATURE_REQUIRED", str(errors[0]))
    }


async def test_who_may_speak_is_found_by_the_share_where_the_message_does_not_say(place: Place) -> None:
    place.put()
    notification = Notification(type=T.SHARE_ACCEPTED, provider_id="share-1")
    assert await place.sending.server_of(notification) == "peer.example"
    unknown = Notification(type=T.SHARE_ACCEPTED, provider_id="none")
    assert isinstance(await refused(place.sending.server_of(unknown)), Unproven)
    unknown = Notification(type=T.SHARE_ACCEPTED, provider_id="none", shared_secret=Secret(SECRET))
    assert isinstance(await refused(place.sending.server_of(unknown)), NoSuch)


async def test_an_acceptance_that_overtakes_the_answer_to_the_offer_stands(place: Place) -> None:
    place.peers.let_go.clear()
    creating = asyncio.create_task(place.create())
    await until(lambda: place.peers.posts)
    provider_id = place.peers.told("/shares")[0]["providerId"]
    await place.notify(T.SHARE_ACCEPTED, provider_id=provider_id)
    place.peers.let_go.set()
    assert (await creating).state == "accepted"


async def test_a_share_is_of_whoever_asks(place: Place) -> None:
    place.backend.make_directory(StoragePath.parse("users/bob"))
    request = ShareRequest(StoragePath.parse("own"), "carol@peer.example")
    view, _ = await place.sending.create(await place.access.of_user("bob"), request, "bob")
    assert (view.share.owner, bytes(view.share.path)) == ("bob", b"users/bob")
    assert place.peers.told("/shares")[0]["owner"] == f"bob@{SERVER}"
