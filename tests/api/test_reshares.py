"""REQUEST_RESHARE over a real socket: who may have a Share shared on, with whom, and with which rights."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from parts import NOW, READ, WRITE

from gateway import resharing
from gateway.errors import NotAllowed
from gateway.ocm.shares import Permission
from gateway.outbox import Outbox
from gateway.store import outbox, sent_shares, share_requests, users
from gateway.store.sent_shares import SentShare
from gateway.trust import BLOCKED

from .served import SECRET, SERVER, Served

SHARING = WRITE | {Permission.SHARE}
THIRD = "dave@third.example"
numbers = itertools.count()


@pytest.fixture
def door(fresh: Served) -> Iterator[Served]:
    """The door, with nothing sent, nothing asked and nothing to say; in a second of its own."""
    fresh.clock.advance(1)

    def clear() -> None:
        for table in ("share_requests", "sent_shares", "outbox"):
            fresh.store.run_sync(lambda tx, table=table: tx.exec_driver_sql(f"DELETE FROM {table}"))

    clear()
    yield fresh
    clear()


def share(served: Served, **changes: Any) -> str:
    """Let alice have shared with bob at the peer, who has accepted."""
    share_id = f"original-{next(numbers)}"
    served.put_sent(share_id, **({"permissions": SHARING, "reshare": "allow"} | changes))
    return share_id


def request(served: Served, share_id: str, third: str = THIRD, **more: Any) -> dict[str, Any]:
    file = {"providerId": share_id, "shareWith": third} | more
    return {
        "notificationType": "REQUEST_RESHARE",
        "senderDomain": served.peer.server,
        "resourceType": "folder",
        "notification": {"file": {key: value for key, value in file.items() if value is not None}},
    }


def reshares(served: Served, share_id: str) -> list[SentShare]:
    return served.store.read_sync(lambda tx: sent_shares.reshares_of(tx, share_id))


def requests(served: Served) -> list[Any]:
    return served.store.read_sync(lambda tx: share_requests.of_user(tx, "alice"))


def test_the_new_share_goes_from_the_owner_straight_to_the_third_party(door: Served) -> None:
    original = share(door, expiration=NOW * 2, ssh_login="s-x", protocols=("ssh",), offered_protocols=("ssh",))
    assert door.post("notifications", request(door, original)).status == 201
    (made,) = reshares(door, original)
    assert (made.ssh_login, made.protocols, made.offered_protocols) == (None, None, None)
    assert (made.owner, made.share_with, made.server, made.state) == ("alice", THIRD, "third.example", "pending")
    assert (made.path, made.expiration, made.share_type) == (door.sent()[0].path, NOW * 2, "user")
    assert made.permissions == WRITE, "the right to share on has to be asked for"
    messages = door.store.read_sync(outbox.everything)
    assert [(message.kind, message.server, message.share) for message in messages] == [
        ("share", "third.example", made.id)
    ]


@pytest.mark.parametrize(
    ("has", "asks", "gets"),
    [
        (SHARING, ["read"], READ),
        (SHARING, ["read", "write", "share"], SHARING),
        (READ | {Permission.SHARE}, ["read", "write"], READ),
        (READ | {Permission.SHARE}, None, READ),
    ],
)
def test_rights_only_shrink(door: Served, has: frozenset[Permission], asks: Any, gets: frozenset[Permission]) -> None:
    original = share(door, permissions=has)
    assert door.post("notifications", request(door, original, permissions=asks)).status == 201
    assert [made.permissions for made in reshares(door, original)] == [gets]


def test_the_owner_is_asked_unless_the_share_says_otherwise(door: Served) -> None:
    original = share(door, reshare="ask")
    for _ in range(2):
        door.clock.advance(1)
        assert door.post("notifications", request(door, original)).status == 201
    assert reshares(door, original) == []
    (asked,) = requests(door)
    assert (asked.kind, asked.share_with, asked.share) == ("REQUEST_RESHARE", THIRD, original)
    door.run(door.requesting.decline("alice", asked.id, "alice"))
    assert [message.kind for message in door.store.read_sync(outbox.everything)] == []


def test_the_same_again_changes_nothing(door: Served) -> None:
    original = share(door)
    for third in (THIRD, THIRD, f"bob@{door.peer.server}"):
        door.clock.advance(1)
        assert door.post("notifications", request(door, original, third)).status == 201
    assert len(reshares(door, original)) == 1


REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], int, str]] = {
    "without the permission": ({"permissions": WRITE}, {}, 403, "RESHARE_NOT_PERMITTED"),
    "not delivered": ({"state": "pending"}, {}, 409, "WRONG_STATE"),
    "ended": ({"state": "revoked"}, {}, 409, "WRONG_STATE"),
    "over": ({"expiration": NOW - 1}, {}, 409, "WRONG_STATE"),
    "sent to another server": ({"server": "other.example"}, {}, 404, "SHARE_NOT_FOUND"),
    "with somebody here": ({}, {"third": f"bob@{SERVER}"}, 400, "SAME_SERVER"),
    "with nobody": ({}, {"third": "dave"}, 400, "INVALID_NOTIFICATION"),
    "without reading": ({}, {"permissions": ["share"]}, 403, "RESHARE_NOT_PERMITTED"),
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_is_not_permitted_is_refused_and_makes_nothing(door: Served, why: str) -> None:
    changes, asked, status, code = REFUSED[why]
    original = share(door, **changes)
    reply = door.post("notifications", request(door, original, **asked))
    assert (reply.status, reply.code) == (status, code)
    assert (reshares(door, original), requests(door)) == ([], [])


def test_a_server_that_is_blocked_here_gets_nothing_that_way(door: Served) -> None:
    original = share(door)
    door.run(door.trust.set("third.example", BLOCKED, "operator"))
    assert door.post("notifications", request(door, original)).code == "UNTRUSTED_PROVIDER"
    assert reshares(door, original) == []


def test_who_cannot_sign_proves_itself_by_the_secret(door: Served) -> None:
    door.peer.document = door.peer.describe("notifications")
    original = share(door)
    body = request(door, original) | {"senderDomain": None, "providerId": original}
    assert door.post("notifications", body, signed=False).status == 401
    for secret, status in (("wrong", 404), (f"{SECRET}-{original}", 201)):
        body["notification"]["sharedSecret"] = secret
        assert door.post("notifications", body, signed=False).status == status
    assert len(reshares(door, original)) == 1


def test_one_share_is_shared_on_only_so_often(door: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resharing, "RESHARES", 2)
    original = share(door)
    replies = [door.post("notifications", request(door, original, f"d{n}@third.example")) for n in range(3)]
    assert [reply.status for reply in replies] == [201, 201, 503]
    assert replies[-1].code == "TOO_MANY_RESHARES"


def test_what_is_shared_on_from_there_counts_too(door: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a chain of servers that ask each other makes us send to anybody, without an end."""
    monkeypatch.setattr(resharing, "RESHARES", 3)
    onwards, replies = share(door), []
    for number in range(4):
        asked = request(door, onwards, f"d{number}@{door.peer.server}", permissions=["read", "share"])
        replies.append(door.post("notifications", asked))
        onwards = door.sent()[-1].id
        door.store.run_sync(lambda tx, each=onwards: sent_shares.set_state(tx, each, "sent", NOW))
        door.clock.advance(1)
    assert [reply.status for reply in replies] == [201, 201, 201, 503]
    assert replies[-1].code == "TOO_MANY_RESHARES"


def test_what_was_shared_on_ends_with_the_share(door: Served) -> None:
    """Also when the receiver gives it back, and also what was shared on from there."""
    original = share(door)
    door.post("notifications", request(door, original, permissions=["read", "share"]))
    (first,) = reshares(door, original)
    door.put_sent("second", origin=first.id, server="third.example")
    declined = request(door, original) | {"notificationType": "SHARE_DECLINED"}
    assert door.post("notifications", declined).status == 201
    states = {each.id: each.state for each in door.sent()}
    assert states == {original: "declined", first.id: "revoked", "second": "revoked"}
    said = [(message.kind, message.share) for message in door.store.read_sync(outbox.everything)]
    assert ("SHARE_UNSHARED", first.id) in said
    assert ("SHARE_UNSHARED", "second") in said


def test_the_owner_cannot_lift_what_was_shared_on_above_its_share(door: Served) -> None:
    """It would be narrowed again by the next change of the Share, and outlive it by the days of grace."""
    original = share(door, permissions=READ | {Permission.SHARE}, expiration=NOW * 2)
    door.post("notifications", request(door, original))
    (made,) = reshares(door, original)
    for wider in ({"permissions": WRITE}, {"never_expires": True}, {"expiration": NOW * 2 + 1}):
        with pytest.raises(NotAllowed) as error:
            door.run(door.sending.update("alice", made.id, "alice", **wider))
        assert error.value.code == "BEYOND_ORIGIN"
    door.run(door.sending.update("alice", made.id, "alice", expiration=NOW * 2 - 1))
    (after,) = reshares(door, original)
    assert (after.permissions, after.expiration) == (READ, NOW * 2 - 1)
    door.run(door.sending.update("alice", original, "alice", permissions=SHARING, never_expires=True))
    door.run(door.sending.update("alice", made.id, "alice", permissions=WRITE, never_expires=True))
    (after,) = reshares(door, original)
    assert (after.permissions, after.expiration) == (WRITE, None)


def test_nothing_is_shared_on_for_a_disabled_owner(door: Served) -> None:
    """Neither at once nor by the operator's hand: it would open when the owner is enabled again."""
    at_once, asking = share(door), share(door, reshare="ask")
    assert door.post("notifications", request(door, asking)).status == 201
    (asked,) = requests(door)
    door.store.run_sync(lambda tx: users.set_disabled(tx, "alice", True))
    try:
        reply = door.post("notifications", request(door, at_once))
        assert (reply.status, reply.code) == (403, "RESHARE_NOT_PERMITTED")
        with pytest.raises(NotAllowed):
            door.run(door.requesting.grant(None, asked.id, "operator"))
    finally:
        door.store.run_sync(lambda tx: users.set_disabled(tx, "alice", False))
    assert reshares(door, at_once) + reshares(door, asking) == []


def test_a_server_that_was_blocked_after_it_was_asked_for_gets_nothing(door: Served) -> None:
    original = share(door, reshare="ask")
    assert door.post("notifications", request(door, original)).status == 201
    (asked,) = requests(door)
    door.run(door.trust.set("third.example", BLOCKED, "operator"))
    with pytest.raises(NotAllowed) as error:
        door.run(door.requesting.grant("alice", asked.id, "alice"))
    assert error.value.code == "UNTRUSTED_PROVIDER"
    assert reshares(door, original) == []


@pytest.mark.parametrize("kind", ["SHARE_DECLINED", "USER_REMOVED"])
def test_who_has_it_from_there_is_told_at_once(door: Served, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    original = share(door)
    door.put_sent("onward", origin=original, server="third.example", share_with=THIRD)
    kicks: list[int] = []
    monkeypatch.setattr(Outbox, "kick", lambda _self: kicks.append(len(door.store.read_sync(outbox.everything))))
    body = request(door, original) | {"notificationType": kind}
    if kind == "USER_REMOVED":
        body |= {"shareType": "user", "notification": {"user": {"userId": f"bob@{door.peer.server}"}}}
    assert door.post("notifications", body).status == 201
    assert door.state_of("onward") == "revoked"
    assert kicks == [1], "the message is written, and the worker knows"
