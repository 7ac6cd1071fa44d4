"""USER_REMOVED and GROUP_REMOVED over a real socket: what ends, and that it is only what the speaker may end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from parts import NOW

from gateway.store import contacts, share_requests

from .served import SERVER, Served


@pytest.fixture
def door(fresh: Served) -> Iterator[Served]:
    """The door, with a Share of alice's with bob and with the group `lab` at the peer, and one of bob's with alice."""

    def clear() -> None:
        for table in ("sent_shares", "received_shares", "share_requests"):
            fresh.store.run_sync(lambda tx, table=table: tx.exec_driver_sql(f"DELETE FROM {table}"))

    clear()
    peer = fresh.peer.server
    fresh.put_sent("to-bob")
    fresh.put_sent("to-carol", share_with=f"carol@{peer}")
    fresh.put_sent("to-lab", share_with=f"lab@{peer}", share_type="group")
    fresh.put_sent("to-user-lab", share_with=f"lab@{peer}")
    fresh.put_sent("to-other-bob", share_with="bob@other.example", server="other.example")
    fresh.put_received("from-bob", owner=f"bob@{peer}", sender=f"bob@{peer}", state="accepted", mount="data")
    fresh.put_received("by-bob", owner=f"carol@{peer}", sender=f"bob@https://{peer}/")
    fresh.put_received("from-carol", owner=f"carol@{peer}", sender=f"carol@{peer}")
    fresh.put_received("from-other-bob", server="other.example", owner="bob@other.example", sender="bob@other.example")
    yield fresh
    clear()


def states(served: Served) -> dict[str, str]:
    return {share.id: str(share.state) for share in (*served.sent(), *served.received())}


def ended(served: Served, before: dict[str, str]) -> dict[str, str]:
    return {share_id: state for share_id, state in states(served).items() if state != before[share_id]}


def removed(served: Served, word: str, party: str, **changes: Any) -> dict[str, Any]:
    body = {
        "notificationType": f"{word.upper()}_REMOVED",
        "senderDomain": served.peer.server,
        "shareType": word,
        "notification": {word: {f"{word}Id": party}},
    } | changes
    return {name: value for name, value in body.items() if value is not None}


def test_with_a_user_goes_what_was_shared_with_him_and_by_him(door: Served) -> None:
    before = states(door)
    assert door.post("notifications", removed(door, "user", f"bob@{door.peer.server}")).status == 201
    assert ended(door, before) == {"to-bob": "declined", "from-bob": "revoked", "by-bob": "revoked"}
    door.clock.advance(1)
    again = door.post("notifications", removed(door, "user", f"bob@{door.peer.server}"))
    assert (again.status, again.json) == (201, {})


def test_who_is_no_more_is_nobody_s_contact(door: Served) -> None:
    """The next to have the address is somebody else, whose Shares nobody has said to accept."""
    peer = door.peer.server

    def known() -> dict[str, list[str]]:
        found = door.store.read_sync(lambda tx: contacts.of_user(tx, None))
        return {user: [contact.address for contact in found if contact.user == user] for user in ("alice", "bob")}

    for user, address in (("alice", f"bob@{peer}"), ("bob", f"bob@{peer}"), ("alice", "bob@other.example")):
        contact = contacts.Contact(user, address, "bob", None, None, "by hand", True, True, 0)
        door.store.run_sync(lambda tx, contact=contact: contacts.add(tx, contact))
    door.post("notifications", removed(door, "group", f"bob@{peer}"))
    assert known() == {"alice": [f"bob@{peer}", "bob@other.example"], "bob": [f"bob@{peer}"]}
    door.post("notifications", removed(door, "user", f"bob@{peer}"))
    assert known() == {"alice": ["bob@other.example"], "bob": []}


def test_what_he_has_asked_for_is_given_to_nobody_who_has_his_address_next(door: Served) -> None:
    def ask(name: str) -> None:
        file = {"owner": f"alice@{SERVER}", "shareWith": f"{name}@{door.peer.server}", "shareId": f"/{name}"}
        body = {"notificationType": "REQUEST_SHARE", "senderDomain": door.peer.server, "resourceType": "file"}
        asked = body | {"notification": {"file": file | {"permissions": ["read"]}}}
        assert door.post("notifications", asked).status == 201

    def open_requests() -> set[str]:
        return {request.resource for request in door.store.read_sync(lambda tx: share_requests.of_user(tx, "alice"))}

    for name in ("bob", "carol"):
        ask(name)
    door.post("notifications", removed(door, "group", f"bob@{door.peer.server}"))
    assert open_requests() == {"/bob", "/carol"}
    door.post("notifications", removed(door, "user", f"bob@{door.peer.server}"))
    assert open_requests() == {"/carol"}


def test_with_a_group_goes_what_was_shared_with_it(door: Served) -> None:
    before = states(door)
    assert door.post("notifications", removed(door, "group", f"lab@{door.peer.server}")).status == 201
    assert ended(door, before) == {"to-lab": "declined"}


def test_api_1_4_names_the_identifier_alone(door: Served) -> None:
    before = states(door)
    old = {"resourceType": "user", "providerId": "bob", "shareType": None, "notification": {}}
    assert door.post("notifications", removed(door, "user", "", **old)).status == 201
    assert set(ended(door, before)) == {"to-bob", "from-bob", "by-bob"}


def test_who_is_unknown_is_answered_alike(door: Served) -> None:
    before = states(door)
    reply = door.post("notifications", removed(door, "user", f"nobody@{door.peer.server}"))
    assert (reply.status, reply.json, ended(door, before)) == (201, {}, {})


@pytest.mark.parametrize(
    ("party", "status", "code"),
    [
        ("bob@other.example", 403, "WRONG_SERVER"),
        (f"alice@{SERVER}", 403, "WRONG_SERVER"),
        ("bob@", 400, "INVALID_ADDRESS"),
        ("", 400, "INVALID_NOTIFICATION"),
    ],
)
def test_a_server_speaks_of_its_own_users_alone(door: Served, party: str, status: int, code: str) -> None:
    before = states(door)
    reply = door.post("notifications", removed(door, "user", party))
    assert (reply.status, reply.code, ended(door, before)) == (status, code, {})


@pytest.mark.parametrize("domain", [True, False])
def test_an_unsigned_removal_is_not_believed(door: Served, domain: bool) -> None:
    door.peer.document = door.peer.describe("notifications")
    before = states(door)
    changes = {} if domain else {"senderDomain": None}
    reply = door.post("notifications", removed(door, "user", f"bob@{door.peer.server}", **changes), signed=False)
    assert (reply.status, reply.code, ended(door, before)) == (401, "SIGNATURE_REQUIRED", {})


def test_a_removal_that_does_not_say_who_speaks_is_not_believed(door: Served) -> None:
    reply = door.post("notifications", removed(door, "user", "bob", senderDomain=None))
    assert (reply.status, reply.code) == (401, "SIGNATURE_REQUIRED")


def test_nobody_answers_the_requests_of_who_is_no_more(door: Served) -> None:
    """What bob has asked for would be shared with an address that somebody else may have; bob himself answers none."""
    peer = door.peer.server
    for number, (direction, owner, share_with) in enumerate(
        [
            ("incoming", f"alice@{SERVER}", f"bob@{peer}"),
            ("outgoing", f"bob@{peer}", f"alice@{SERVER}"),
            ("incoming", f"alice@{SERVER}", f"carol@{peer}"),
            ("incoming", f"alice@{SERVER}", "bob@other.example"),
        ]
    ):
        asked = request(f"r{number}", direction=direction, owner=owner, share_with=share_with, server=peer)
        door.store.run_sync(lambda tx, asked=asked: share_requests.add(tx, asked))
    answered = request("r-granted", share_with=f"bob@{peer}", server=peer, state="granted")
    door.store.run_sync(lambda tx: share_requests.add(tx, answered))
    door.post("notifications", removed(door, "group", f"bob@{peer}"))
    assert len(requests(door)) == 5
    door.post("notifications", removed(door, "user", f"bob@{peer}"))
    assert requests(door) == ["r-granted", "r2", "r3"]


def request(request_id: str, **changes: Any) -> share_requests.RequestRecord:
    values: dict[str, Any] = {
        "id": request_id,
        "direction": "incoming",
        "kind": "REQUEST_SHARE",
        "user": "alice",
        "owner": f"alice@{SERVER}",
        "resource": "/home/data",
        "share": None,
        "permissions": frozenset(),
        "state": "pending",
        "granted": None,
        "created": NOW,
        "updated": NOW,
    }
    return share_requests.RequestRecord(**values | changes)


def requests(served: Served) -> list[str]:
    return sorted(found.id for found in served.store.read_sync(lambda tx: share_requests.of_user(tx, None)))
