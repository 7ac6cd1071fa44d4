"""The Receiving Server: what it admits, what a user does with it, and what the sender may still change."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from fake_peers import NO_ANSWER, FakePeers
from parts import NOW, READ, WRITE, Clock, new_store, offer, received, until

from backends.interface import Entry, Kind
from backends.paths import StoragePath
from gateway import receiving as module
from gateway.errors import Busy, Conflict, Invalid, NoSuch, NotAllowed, NotBuilt, Refusal, Unproven
from gateway.expiring import Expiring
from gateway.key_pairs import KeyPairs
from gateway.ocm.notifications import Notification, NotificationType
from gateway.ocm.secret import Secret
from gateway.ocm.shares import Permission, ShareCreated, ShareCreationNotification, parse_share
from gateway.ocm.states import RECEIVED_ON_NOTIFICATION, ReceivedState
from gateway.outbox import BACK_OFF, Outbox
from gateway.proof import Evidence, Peer
from gateway.receiving import Receiving
from gateway.store import events, exchanged_tokens, last_seen, outbox, received_shares, users
from gateway.store.received_shares import ReceivedShare
from gateway.store.sealing import Sealer, secret_hash

SERVER = "gateway.example"
SECRET = "shared-secret-of-a-share"
SIGNED = Peer("peer.example", Evidence.RFC9421)
UNSIGNED = Peer("peer.example", Evidence.NONE)
T = NotificationType


class FakeRemote:
    """Has the shape of `Remote` as far as this use case goes."""

    def __init__(self) -> None:
        self.problem: str | None = None
        self.probed: list[str] = []
        self.forgotten: list[str] = []

    async def probe(self, share_id: str, timeout: float) -> str | None:
        self.probed.append(share_id)
        return self.problem

    def forget(self, share_id: str) -> None:
        self.forgotten.append(share_id)


class Place:
    """The use case over a real state, with peers and Remote Resources that do as the test says."""

    def __init__(self, directory: Path) -> None:
        self.clock = Clock()
        self.store = new_store(directory)
        self.store.run_sync(lambda tx: [users.add(tx, name, "hash", 0) for name in ("alice", "bob")])
        self.peers = FakePeers()
        self.remote = FakeRemote()
        self.sealer = Sealer(b"k" * 32)
        self.outbox = Outbox(self.store, self.clock)
        self.receiving = Receiving(
            *(self.store, self.peers, self.outbox, self.remote, self.sealer),
            KeyPairs(self.store, self.sealer, self.clock),
            server=SERVER,
            clock=self.clock,
        )
        self.outbox.start()

    async def close(self) -> None:
        await self.outbox.stop()
        self.store.close()

    def all(self) -> list[ReceivedShare]:
        return self.store.read_sync(lambda tx: received_shares.of_user(tx, None))

    def get(self, share_id: str = "received-1") -> ReceivedShare:
        found = self.store.read_sync(lambda tx: received_shares.get(tx, share_id))
        assert found is not None
        return found

    def put(self, share_id: str = "received-1", secret: str = SECRET, **changes: Any) -> ReceivedShare:
        """Store a Share as if it had been received before."""
        share = received(share_id, **changes)
        sealed = self.sealer.seal(secret, share.id)
        self.store.run_sync(lambda tx: received_shares.add(tx, share, secret_hash(secret), sealed))
        return share

    def has_secret(self, share_id: str = "received-1") -> bool:
        return self.store.read_sync(lambda tx: received_shares.sealed_secret(tx, share_id)) is not None

    def actions(self, share_id: str = "received-1") -> list[str]:
        return [event.action for event in self.store.read_sync(lambda tx: events.about(tx, share_id))]

    def pending(self) -> list[str]:
        messages = self.store.read_sync(outbox.everything)
        return [message.kind for message in messages if message.state == "pending"]

    async def settled(self) -> None:
        await until(lambda: self.pending() == [] and not self.outbox._busy)

    async def notify(self, kind: NotificationType, peer: Peer = SIGNED, secret: str | None = None, **more: Any) -> None:
        values: dict[str, Any] = {"provider_id": "provided-1", "resource_type": "folder", "permissions": WRITE} | more
        notification = Notification(type=kind, shared_secret=Secret(secret) if secret else None, **values)
        await self.receiving.notified(peer, notification)


@pytest.fixture
def log() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as lines:
        yield lines


@pytest.fixture
async def place(tmp_path: Path, log: list[Any]) -> AsyncIterator[Place]:
    place = Place(tmp_path)
    yield place
    await place.close()


def offered(webdav: dict[str, Any] | None = None, **changes: Any) -> ShareCreationNotification:
    """Return a Share Creation Notification as the sender's server writes it; None takes a member out."""
    details = {"uri": "remote-1", "sharedSecret": SECRET, "permissions": ["read"]} | (webdav or {})
    webdav = {key: value for key, value in details.items() if value is not None}
    return parse_share(offer({"webdav": webdav}, **changes))


def seafile(secret: str, **changes: Any) -> ShareCreationNotification:
    """Return a Share in Seafile's form: one id for everything, and a secret under `options` (peers.md, section 2a)."""
    protocol = {"name": "webdav", "options": {"permissions": "read", "sharedSecret": secret}}
    return offered(protocol=protocol, providerId="constant", sharedBy="carol@peer.example", **changes)


async def refused(attempt: Any) -> Refusal:
    with pytest.raises(Refusal) as error:
        await attempt
    return error.value


# --- admitting ------------------------------------------------------------------------------------------------------


async def test_a_share_waits_for_its_user(place: Place) -> None:
    notification = offered(
        {"requirements": ["must-exchange-token"], "permissions": ["read", "write"]},
        name="../Data\u202e\n",
        description="For you",
        expiration=NOW + 60,
        senderDisplayName="Carol",
        ownerDisplayName="Carol C.",
        encryption={"resourceId": "r", "scheme": "s", "s": {}},
    )
    assert await place.receiving.admit(SIGNED, notification) == ShareCreated("alice")
    (share,) = place.all()
    assert (share.user, share.server, share.provider_id) == ("alice", "peer.example", "provided-1")
    assert (share.name, share.uri, share.mount) == ("..Data", "remote-1", None)
    assert (share.permissions, share.requires_exchange, share.encrypted) == (WRITE, True, True)
    assert (share.state, share.evidence, share.expiration) == ("pending", "rfc9421", NOW + 60)
    assert (share.description, share.sender_display_name, share.owner_display_name) == ("For you", "Carol", "Carol C.")
    sealed = place.store.read_sync(lambda tx: received_shares.sealed_secret(tx, share.id))
    assert sealed is not None
    assert place.sealer.open(sealed, share.id) == SECRET
    (event,) = place.store.read_sync(lambda tx: events.about(tx, share.id))
    assert (event.actor, event.action) == ("peer.example", "share.receive")
    assert SECRET not in repr(event)


async def test_an_unsigned_share_is_admitted_and_marked_as_such(place: Place) -> None:
    """Most products sign nothing; nothing is fetched and nothing is shown as proven until its user accepts."""
    await place.receiving.admit(UNSIGNED, offered())
    assert place.all()[0].evidence == "none"


async def test_the_same_share_again_changes_nothing(place: Place) -> None:
    await place.receiving.admit(SIGNED, offered())
    before = place.all()
    place.clock.advance(60)
    for again in (
        offered(),
        offered(shareWith=f"alice@{SERVER.upper()}"),
        offered(sender="carol@https://peer.example/"),
    ):
        assert await place.receiving.admit(SIGNED, again) == ShareCreated("alice")
    assert place.all() == before


@pytest.mark.parametrize(
    "other",
    [
        {"name": "other"},
        {"shareWith": f"bob@{SERVER}"},
        {"expiration": NOW + 1},
        {"resourceType": "file"},
        {"description": "new"},
        {"webdav": {"permissions": ["read", "write"]}},
        {"webdav": {"sharedSecret": "another-secret"}},
        {"webdav": {"uri": "remote-2"}},
        {"webdav": {"requirements": ["must-exchange-token"]}},
    ],
)
@pytest.mark.parametrize("state", ["pending", "accepted"])
async def test_another_share_under_the_same_id_is_a_conflict_and_the_stored_one_stays(
    place: Place, other: dict[str, Any], state: str
) -> None:
    await place.receiving.admit(SIGNED, offered())
    share_id = place.all()[0].id
    place.store.run_sync(lambda tx: received_shares.set_state(tx, share_id, state, NOW))
    before = place.all()
    error = await refused(place.receiving.admit(SIGNED, offered(**other)))
    assert (type(error), error.code) == (Conflict, "SHARE_ALREADY_EXISTS")
    assert place.all() == before


async def test_the_same_id_of_another_server_is_another_share(place: Place) -> None:
    await place.receiving.admit(SIGNED, offered())
    theirs = offered(owner="carol@other.example", sender="carol@other.example")
    await place.receiving.admit(Peer("other.example", Evidence.RFC9421), theirs)
    assert {share.server for share in place.all()} == {"peer.example", "other.example"}


async def test_seafiles_one_id_stands_for_many_shares_and_the_secret_tells_them_apart(place: Place) -> None:
    await place.receiving.admit(UNSIGNED, seafile("c2VjcmV0LW9uZQ=="))
    await place.receiving.admit(UNSIGNED, seafile("c2VjcmV0LXR3bw==", name="second"))
    await place.receiving.admit(UNSIGNED, seafile("c2VjcmV0LW9uZQ=="))
    assert sorted(share.name for share in place.all()) == ["data", "second"]
    assert isinstance(await refused(place.receiving.admit(UNSIGNED, seafile("c2VjcmV0LW9uZQ==", name="x"))), Conflict)
    await place.notify(T.SHARE_UNSHARED, UNSIGNED, "c2VjcmV0LXR3bw==", provider_id="constant")
    assert {share.name: share.state for share in place.all()} == {"data": "pending", "second": "revoked"}


async def test_an_id_may_come_again_after_its_share_has_ended(place: Place) -> None:
    await place.receiving.admit(SIGNED, offered())
    await place.notify(T.SHARE_UNSHARED)
    await place.receiving.admit(SIGNED, offered({"sharedSecret": "another-secret"}))
    assert sorted(share.state for share in place.all()) == ["pending", "revoked"]


WEBAPP = {
    "uri": "https://peer.example/app",
    "sharedSecret": SECRET,
    "targets": ["blank"],
    "permissions": ["view"],
    "requirements": ["must-exchange-token"],
}
BAD_SHARES: dict[str, tuple[dict[str, Any], type[Refusal], str]] = {
    "nobody of that name": ({"shareWith": f"nobody@{SERVER}"}, Invalid, "RECIPIENT_NOT_FOUND"),
    "a disabled user": ({"shareWith": f"bob@{SERVER}"}, Invalid, "RECIPIENT_NOT_FOUND"),
    "a name in capitals": ({"shareWith": f"Alice@{SERVER}"}, Invalid, "RECIPIENT_NOT_FOUND"),
    "somebody at another server": ({"shareWith": "alice@other.example"}, Invalid, "WRONG_SERVER"),
    "somebody at another port": ({"shareWith": f"alice@{SERVER}:8443"}, Invalid, "WRONG_SERVER"),
    "an owner elsewhere": ({"owner": "carol@other.example"}, NotAllowed, "OWNER_MISMATCH"),
    "an owner at another port": ({"owner": "carol@peer.example:8443"}, NotAllowed, "OWNER_MISMATCH"),
    "a second factor": ({"webdav": {"requirements": ["must-use-mfa"]}}, Invalid, "REQUIREMENT_NOT_SUPPORTED"),
    "a second factor by its old name": (
        {"webdav": {"requirements": ["mfa-enforced", "must-exchange-token"]}},
        Invalid,
        "REQUIREMENT_NOT_SUPPORTED",
    ),
    "a group": ({"shareType": "group"}, NotBuilt, "SHARE_TYPE_NOT_SUPPORTED"),
    "a web application alone": ({"protocol": {"name": "multi", "webapp": WEBAPP}}, NotBuilt, "PROTOCOL_NOT_SUPPORTED"),
    "fetching alone": ({"webdav": {"accessTypes": ["datatx"]}}, NotBuilt, "ACCESS_TYPE_NOT_SUPPORTED"),
}


@pytest.mark.parametrize("why", BAD_SHARES)
async def test_what_cannot_be_received_is_refused_and_not_stored(place: Place, why: str) -> None:
    changes, kind, code = BAD_SHARES[why]
    place.store.run_sync(lambda tx: users.set_disabled(tx, "bob", True))
    error = await refused(place.receiving.admit(SIGNED, offered(**changes)))
    assert (type(error), error.code) == (kind, code)
    assert place.all() == []


async def test_the_field_that_is_wrong_is_named(place: Place) -> None:
    for changes, field in (
        ({"shareWith": f"nobody@{SERVER}"}, "shareWith"),
        ({"shareWith": "alice@other.example"}, "shareWith"),
        ({"webdav": {"requirements": ["must-use-mfa"]}}, "protocol.webdav.requirements"),
    ):
        error = await refused(place.receiving.admit(SIGNED, offered(**changes)))
        assert isinstance(error, Invalid)
        assert error.field == field


async def test_other_protocols_beside_webdav_do_no_harm(place: Place) -> None:
    protocol = {
        "name": "multi",
        "webdav": {"uri": "remote-1", "sharedSecret": SECRET, "accessTypes": ["remote", "datatx"]},
        "ssh": {"uri": "user@peer.example:22/x"},
    }
    await place.receiving.admit(SIGNED, offered(protocol=protocol))
    assert place.all()[0].permissions == READ


# --- accepting ------------------------------------------------------------------------------------------------------


async def test_accepting_mounts_the_share_and_tells_its_sender(place: Place) -> None:
    place.put()
    view, problem = await place.receiving.accept("alice", "received-1", "alice")
    assert problem is None
    assert (view.state, view.share.mount, view.waiting) == ("accepted", "data", None)
    ((server, path, body),) = place.peers.posts
    assert (server, path) == ("peer.example", "/notifications")
    assert body == {
        "notificationType": "SHARE_ACCEPTED",
        "senderDomain": SERVER,
        "resourceType": "folder",
        "shareType": "user",
        "providerId": "provided-1",
        "notification": {"file": {"providerId": "provided-1"}, "sharedSecret": SECRET},
    }
    assert place.remote.probed == ["received-1"]
    assert place.actions() == ["share.accept", "SHARE_ACCEPTED delivered"]


async def test_accepting_twice_is_accepting_once(place: Place) -> None:
    place.put()
    for _ in range(2):
        view, _ = await place.receiving.accept("alice", "received-1", "alice")
        assert (view.state, view.share.mount) == ("accepted", "data")
    assert place.peers.types == ["SHARE_ACCEPTED"]
    assert place.remote.probed == ["received-1"] * 2, "the second time looks again"


async def test_a_sender_or_a_content_that_does_not_answer_is_no_obstacle(place: Place) -> None:
    place.put()
    place.peers.answers["/notifications"] = NO_ANSWER
    place.remote.problem = "no answer within 15 s"
    view, problem = await place.receiving.accept("alice", "received-1", "alice")
    assert (view.state, view.waiting, problem) == ("accepted", str(NO_ANSWER), "no answer within 15 s")
    place.peers.answers["/notifications"] = (200, {"status": "ok"})
    await until(lambda: not place.outbox._busy)
    place.clock.advance(BACK_OFF[0])
    place.outbox.kick()
    await place.settled()
    assert (await place.receiving.show("alice", "received-1")).waiting is None


@pytest.mark.parametrize("state", ["declined", "left", "revoked", "expired"])
async def test_an_ended_share_cannot_be_accepted(place: Place, state: str) -> None:
    place.put(state=state)
    error = await refused(place.receiving.accept("alice", "received-1", "alice"))
    assert (type(error), error.code) == (Conflict, "WRONG_STATE")
    assert (place.get().state, place.pending()) == (state, [])


async def test_an_expired_share_cannot_be_accepted(place: Place) -> None:
    place.put(expiration=NOW)
    assert (await refused(place.receiving.accept("alice", "received-1", "alice"))).code == "SHARE_EXPIRED"
    assert (await place.receiving.show("alice", "received-1")).state == "expired"


@pytest.mark.parametrize(
    ("name", "second", "third"),
    [
        ("data", "data (2)", "data (3)"),
        ("table.csv", "table (2).csv", "table (3).csv"),
        ("archive.tar.gz", "archive.tar (2).gz", "archive.tar (3).gz"),
        (".bashrc", ".bashrc (2)", ".bashrc (3)"),
        (".a.b", ".a (2).b", ".a (3).b"),
        ("ends.", "ends (2).", "ends (3)."),
        ("data (2)", "data (2) (2)", "data (2) (3)"),
        ("x" * 200, "x" * 200 + " (2)", "x" * 200 + " (3)"),
    ],
)
async def test_a_later_share_never_shadows_an_earlier_one(place: Place, name: str, second: str, third: str) -> None:
    for number in range(3):
        place.put(f"received-{number}", f"{number}-{SECRET}", provider_id=str(number), name=name)
    for number, expected in enumerate((name, second, third)):
        view, _ = await place.receiving.accept("alice", f"received-{number}", "alice")
        assert view.share.mount == expected


async def test_a_name_is_free_again_when_its_share_has_ended(place: Place) -> None:
    place.put("one", "one", provider_id="1")
    place.put("two", "two", provider_id="2")
    await place.receiving.accept("alice", "one", "alice")
    await place.receiving.leave("alice", "one", "alice")
    view, _ = await place.receiving.accept("alice", "two", "alice")
    assert view.share.mount == "data"


async def test_each_user_has_names_of_ones_own(place: Place) -> None:
    place.put("one", "one", provider_id="1")
    place.put("two", "two", provider_id="2", user="bob")
    for user, share_id in (("alice", "one"), ("bob", "two")):
        view, _ = await place.receiving.accept(user, share_id, user)
        assert view.share.mount == "data"


# --- declining and leaving ------------------------------------------------------------------------------------------


async def test_declining_tells_the_sender_and_forgets_the_secret(place: Place) -> None:
    place.put()
    view = await place.receiving.decline("alice", "received-1", "alice")
    assert view.state == "declined"
    await place.settled()
    assert place.peers.types == ["SHARE_DECLINED"]
    assert place.peers.told()[0]["notification"]["sharedSecret"] == SECRET
    assert not place.has_secret()
    assert place.actions() == ["share.decline", "SHARE_DECLINED delivered"]


async def test_leaving_says_declined_and_takes_the_share_away_at_once(place: Place) -> None:
    """SHARE_UNSHARED is the sender's word (wire.md, Notifications)."""
    place.put(state="accepted", mount="data")
    place.store.run_sync(lambda tx: exchanged_tokens.put(tx, "received-1", b"token", NOW, NOW + 300))
    place.peers.answers["/notifications"] = NO_ANSWER
    view = await place.receiving.leave("alice", "received-1", "alice")
    assert (view.state, view.share.mount, view.waiting) == ("left", None, str(NO_ANSWER))
    assert place.store.read_sync(lambda tx: exchanged_tokens.get(tx, "received-1")) is None
    assert "received-1" in place.remote.forgotten
    assert place.has_secret(), "the sender may want it back"
    place.peers.answers["/notifications"] = (201, {})
    await until(lambda: not place.outbox._busy)
    place.clock.advance(BACK_OFF[0])
    place.outbox.kick()
    await until(lambda: not place.has_secret())
    assert place.peers.types == ["SHARE_DECLINED"] * 2


@pytest.mark.parametrize(("gesture", "before"), [("decline", "pending"), ("leave", "accepted")])
async def test_a_gesture_that_is_repeated_is_done_once(place: Place, gesture: str, before: str) -> None:
    place.put(state=before, mount="data" if before == "accepted" else None)
    act = getattr(place.receiving, gesture)
    states = [(await act("alice", "received-1", "alice")).state for _ in range(2)]
    assert len(set(states)) == 1
    await place.settled()
    assert place.peers.types == ["SHARE_DECLINED"]


@pytest.mark.parametrize(
    ("gesture", "state"),
    [("decline", state) for state in ("accepted", "left", "revoked", "expired")]
    + [("leave", state) for state in ("pending", "declined", "revoked", "expired")],
)
async def test_a_gesture_that_does_not_fit_is_a_conflict(place: Place, gesture: str, state: str) -> None:
    place.put(state=state)
    error = await refused(getattr(place.receiving, gesture)("alice", "received-1", "alice"))
    assert (type(error), error.code) == (Conflict, "WRONG_STATE")
    assert (place.get().state, place.pending()) == (state, [])


async def test_accepting_and_leaving_at_once_arrive_in_that_order(place: Place) -> None:
    place.put()
    place.peers.let_go.clear()
    accepting = asyncio.create_task(place.receiving.accept("alice", "received-1", "alice"))
    await until(lambda: place.peers.posts)
    leaving = asyncio.create_task(place.receiving.leave("alice", "received-1", "alice"))
    await until(lambda: place.get().state == "left")
    place.peers.let_go.set()
    await asyncio.gather(accepting, leaving)
    await place.settled()
    assert place.peers.types == ["SHARE_ACCEPTED", "SHARE_DECLINED"]
    assert place.get().state == "left"
    assert not place.has_secret()


async def test_a_user_touches_the_users_own_shares_only_and_the_operator_all(place: Place) -> None:
    place.put()
    for share_id in ("received-1", "none"):
        for attempt in (
            place.receiving.show("bob", share_id),
            place.receiving.accept("bob", share_id, "bob"),
            place.receiving.decline("bob", share_id, "bob"),
            place.receiving.leave("bob", share_id, "bob"),
        ):
            assert (await refused(attempt)).code == "NO_SUCH_SHARE"
    assert await place.receiving.list("bob") == []
    assert [view.share.id for view in await place.receiving.list("alice")] == ["received-1"]
    assert [view.share.id for view in await place.receiving.list(None)] == ["received-1"]
    view, _ = await place.receiving.accept(None, "received-1", "operator")
    assert view.state == "accepted"
    assert view.history[0].actor == "operator"


# --- what the sender says -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [state.value for state in ReceivedState])
@pytest.mark.parametrize("kind", [T.SHARE_UNSHARED, T.SHARE_CHANGE_PERMISSION, T.SHARE_ACCEPTED, T.SHARE_DECLINED])
async def test_a_notification_does_what_the_table_says_and_nothing_else(
    place: Place, state: str, kind: NotificationType
) -> None:
    place.put(state=state)
    after = RECEIVED_ON_NOTIFICATION.get((ReceivedState(state), kind))
    if after is None:
        assert isinstance(await refused(place.notify(kind)), Conflict)
        assert place.get() == received(state=state)
    else:
        await place.notify(kind)
        assert place.get().state == after
        assert place.get().permissions == (WRITE if kind is T.SHARE_CHANGE_PERMISSION else READ)


async def test_a_revoked_share_is_gone_with_all_that_belonged_to_it(place: Place) -> None:
    place.put(state="accepted", mount="data")
    place.store.run_sync(lambda tx: exchanged_tokens.put(tx, "received-1", b"token", NOW, NOW + 300))
    await place.notify(T.SHARE_UNSHARED, message="over")
    share = place.get()
    assert (share.state, share.mount) == ("revoked", None)
    assert not place.has_secret()
    assert place.store.read_sync(lambda tx: exchanged_tokens.get(tx, "received-1")) is None
    assert place.remote.forgotten == ["received-1"]
    (event,) = place.store.read_sync(lambda tx: events.about(tx, "received-1"))
    assert (event.actor, event.action, event.detail) == ("peer.example", "SHARE_UNSHARED", {"message": "over"})


async def test_a_revoked_share_keeps_its_secret_while_an_answer_to_it_is_on_its_way(place: Place) -> None:
    place.put()
    place.peers.answers["/notifications"] = NO_ANSWER
    await place.receiving.accept("alice", "received-1", "alice")
    await place.notify(T.SHARE_UNSHARED)
    assert place.has_secret()
    place.peers.answers["/notifications"] = (404, {})
    await until(lambda: not place.outbox._busy)
    place.clock.advance(BACK_OFF[0])
    place.outbox.kick()
    await until(lambda: not place.has_secret())


async def test_changed_permissions_need_to_be_named(place: Place) -> None:
    place.put()
    for permissions in (None, frozenset()):
        error = await refused(place.notify(T.SHARE_CHANGE_PERMISSION, permissions=permissions))
        assert error.code == "MISSING_PERMISSIONS"
    everything = frozenset(Permission)
    await place.notify(T.SHARE_CHANGE_PERMISSION, permissions=everything)
    assert place.get().permissions == everything
    assert place.remote.forgotten == ["received-1"]


async def test_a_signed_sender_needs_no_secret_and_a_wrong_one_does_no_harm(place: Place) -> None:
    place.put()
    await place.notify(T.SHARE_CHANGE_PERMISSION)
    await place.notify(T.SHARE_CHANGE_PERMISSION, Peer("peer.example", Evidence.LABELLED), "wrong")
    assert place.get().permissions == WRITE


async def test_an_unsigned_sender_has_to_know_id_and_secret(place: Place) -> None:
    place.put()
    assert isinstance(await refused(place.notify(T.SHARE_UNSHARED, UNSIGNED)), Unproven)
    assert isinstance(await refused(place.notify(T.SHARE_UNSHARED, UNSIGNED, "wrong")), NoSuch)
    assert isinstance(await refused(place.notify(T.SHARE_UNSHARED, UNSIGNED, SECRET, provider_id="x")), NoSuch)
    assert place.get().state == "pending"
    await place.notify(T.SHARE_UNSHARED, UNSIGNED, SECRET)
    assert place.get().state == "revoked"


async def test_ocis_is_not_told_what_it_does_not_understand(place: Place) -> None:
    """It answers 400 to an acceptance (peers.md, section 5)."""
    place.peers.be("ocis")
    place.put()
    await place.receiving.accept("alice", "received-1", "alice")
    await place.receiving.leave("alice", "received-1", "alice")
    assert place.peers.posts == []
    assert place.get().state == "left"


@pytest.mark.parametrize("evidence", list(Evidence))
@pytest.mark.parametrize("secret", [None, SECRET, "wrong"])
async def test_another_host_may_not_speak_about_a_share(place: Place, evidence: Evidence, secret: str | None) -> None:
    """Not even with the right secret (wire.md, Binding)."""
    place.put()
    for server in ("evil.example", "peer.example:8443", "sub.peer.example"):
        for kind in (T.SHARE_UNSHARED, T.SHARE_CHANGE_PERMISSION):
            error = await refused(place.notify(kind, Peer(server, evidence), secret))
            assert isinstance(error, NoSuch if secret or evidence >= Evidence.SECRET else Unproven)
    assert place.get() == received()


async def test_one_id_for_several_shares_needs_the_secret_also_when_signed(place: Place) -> None:
    place.put("one", "secret-one")
    place.put("two", "secret-two")
    assert isinstance(await refused(place.notify(T.SHARE_UNSHARED)), NoSuch)
    await place.notify(T.SHARE_UNSHARED, secret="secret-two")
    assert (place.get("one").state, place.get("two").state) == ("pending", "revoked")


async def test_who_may_speak_is_found_by_id_and_secret_where_the_message_does_not_say(place: Place) -> None:
    place.put()

    def spoken(provider_id: str, secret: str | None) -> Notification:
        shared = Secret(secret) if secret else None
        return Notification(type=T.SHARE_UNSHARED, provider_id=provider_id, shared_secret=shared)

    assert await place.receiving.server_of(spoken("provided-1", SECRET)) == "peer.example"
    for provider_id, secret in (("provided-1", "wrong"), ("x", SECRET)):
        assert isinstance(await refused(place.receiving.server_of(spoken(provider_id, secret))), NoSuch)
    assert isinstance(await refused(place.receiving.server_of(spoken("x", None))), Unproven)


async def test_who_may_speak_is_found_by_the_one_live_share_where_not_even_a_secret_is_given(place: Place) -> None:
    """The signature decides then whether it is that server (wire.md, Whose keys)."""
    notification = Notification(type=T.SHARE_UNSHARED, provider_id="provided-1")
    place.put("over", "secret-one", server="former.example", state="revoked")
    place.put("live", "secret-two")
    assert await place.receiving.server_of(notification) == "peer.example"
    place.put("other", "secret-three", server="other.example")
    assert isinstance(await refused(place.receiving.server_of(notification)), Unproven)


async def test_who_proves_nothing_does_not_learn_which_shares_there_are(place: Place) -> None:
    place.put()
    errors = [
        await refused(place.notify(T.SHARE_UNSHARED, UNSIGNED, provider_id=provider_id))
        for provider_id in ("provided-1", "none", "")
    ]
    assert {(type(error), error.code, str(error)) for error in errors} == {
        (Unproven, "SIGNATURE_REQUIRED", str(errors[0]))
    }


@pytest.mark.parametrize("ended", ["revoked", "declined", "left"])
async def test_a_share_that_has_ended_does_not_hide_the_live_one_under_its_id(place: Place, ended: str) -> None:
    """Otherwise the sender would take 404 for "it knows already", and the live Share would stay for ever."""
    place.put("over", "secret-one", state=ended)
    place.put("live", "secret-two", state="accepted", mount="data")
    await place.notify(T.SHARE_UNSHARED)
    assert (place.get("over").state, place.get("live").state) == (ended, "revoked")
    await place.notify(T.SHARE_UNSHARED)


@pytest.mark.parametrize(
    ("bound", "sender"), [("PENDING_FROM_SERVER", "peer.example"), ("PENDING_FOR_USER", "other.example")]
)
async def test_only_so_many_shares_wait_for_an_answer(
    place: Place, monkeypatch: pytest.MonkeyPatch, bound: str, sender: str
) -> None:
    monkeypatch.setattr(module, bound, 2)

    def another(number: int, server: str = sender, user: str = "alice") -> Any:
        notification = offered(
            providerId=f"id-{number}", owner=f"c@{server}", sender=f"c@{server}", shareWith=f"{user}@{SERVER}"
        )
        return place.receiving.admit(Peer(server, Evidence.RFC9421), notification)

    await another(1, "peer.example")
    await another(2)
    await another(2)
    error = await refused(another(3))
    assert (type(error), error.code) == (Busy, "TOO_MANY_PENDING")
    assert len(place.all()) == 2
    await another(2)
    await another(4, user="bob")
    own = next(share for share in place.all() if share.user == "alice")
    await place.receiving.decline("alice", own.id, "alice")
    await another(3)


async def test_a_share_without_a_secret_any_more_is_nobodys_by_an_empty_one(place: Place) -> None:
    place.put(state="revoked")
    place.store.run_sync(lambda tx: received_shares.wipe_secret(tx, "received-1"))
    notification = Notification(type=T.SHARE_UNSHARED, provider_id="provided-1")
    assert isinstance(await refused(place.receiving.server_of(notification)), Unproven)


async def test_no_log_line_or_view_holds_the_secret(place: Place, log: list[Any]) -> None:
    await place.receiving.admit(SIGNED, offered())
    share_id = place.all()[0].id
    for answer in (NO_ANSWER, (400, {"message": "no"})):
        place.peers.answers["/notifications"] = answer
        view, _ = await place.receiving.accept("alice", share_id, "alice")
        await place.outbox.retry()
        await place.settled() if answer is not NO_ANSWER else None
    assert place.peers.told()
    assert SECRET not in repr(log)
    assert SECRET not in repr(view)
    assert log


# --- a sender that is silent ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("gesture", "before"), [("decline", "pending"), ("leave", "accepted")])
async def test_parting_from_a_server_that_hangs_is_done_soon(
    place: Place, monkeypatch: pytest.MonkeyPatch, gesture: str, before: str
) -> None:
    monkeypatch.setattr(module, "PARTING", 0.1)
    place.put(state=before)
    place.peers.let_go.clear()
    begun = time.monotonic()
    view = await getattr(place.receiving, gesture)("alice", "received-1", "alice")
    assert time.monotonic() - begun < 1
    assert view.state in ("declined", "left")
    assert view.waiting == "not sent yet"
    place.peers.let_go.set()
    await place.settled()


async def test_a_user_sees_since_when_a_server_is_silent(place: Place) -> None:
    place.put(state="accepted")
    assert [view.unreachable_since for view in await place.receiving.list("alice")] == [None]
    place.peers.breakers.silent("peer.example", "no answer in time", 5)
    (view,) = await place.receiving.list("alice")
    assert view.unreachable_since == place.peers.breakers.standing("peer.example").since
    await place.receiving.leave("alice", "received-1", "alice")
    assert [view.unreachable_since for view in await place.receiving.list("alice")] == [None], (
        "it is no matter any more"
    )


async def test_what_was_seen_in_a_share_goes_with_it(place: Place) -> None:
    place.put(state="accepted")
    entry = Entry(b"data", Kind.DIRECTORY, 0, 0, "e")
    place.store.run_sync(lambda tx: last_seen.put(tx, "received-1", StoragePath(), [entry], NOW, 10))
    await place.receiving.leave("alice", "received-1", "alice")
    assert place.store.read_sync(lambda tx: last_seen.get(tx, "received-1", StoragePath())) is None


# --- when time is over ----------------------------------------------------------------------------------------------


async def test_an_expired_share_ends_and_makes_room(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PENDING_FROM_SERVER", 1)
    place.put(expiration=NOW + 5)
    place.put("received-2", "another", provider_id="provided-2", state="accepted", mount="data", expiration=NOW + 5)
    expiring = Expiring(place.store, None, place.receiving, place.clock)
    assert await expiring.end_what_is_over() == 0
    place.clock.advance(5)
    assert await expiring.end_what_is_over() == 2
    for share_id in ("received-1", "received-2"):
        assert (place.get(share_id).state, place.get(share_id).mount) == ("expired", None)
        assert not place.has_secret(share_id)
        assert place.actions(share_id) == ["share.expire"]
    await place.receiving.admit(SIGNED, offered(providerId="provided-3"))
