"""Requests that other servers make over a real socket: what is taken and refused, and that nobody learns anything."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from parts import NOW

from gateway import requesting
from gateway.admitting import Admitting
from gateway.store import contacts, share_requests, users
from gateway.store.share_requests import RequestRecord
from gateway.trust import BLOCKED

from .served import BASE, ORIGIN, SERVER, Reply, Served


@pytest.fixture
def asked(fresh: Served) -> Iterator[Served]:
    """The door, at which nobody has asked for anything, in a second of its own: no signature comes again."""
    fresh.clock.advance(1)
    fresh.store.run_sync(lambda tx: tx.exec_driver_sql("DELETE FROM share_requests"))
    yield fresh
    fresh.store.run_sync(lambda tx: tx.exec_driver_sql("DELETE FROM share_requests"))


def stored(served: Served) -> list[RequestRecord]:
    return served.store.read_sync(lambda tx: share_requests.of_user(tx, None))


def request(served: Served, **changes: Any) -> dict[str, Any]:
    """Return REQUEST_SHARE of carol's; `changes` are of its file."""
    file = {
        "owner": f"alice@{SERVER}",
        "shareWith": f"carol@{served.peer.server}",
        "shareId": "/home/data",
        "permissions": ["read", "write"],
    } | changes
    return {
        "notificationType": "REQUEST_SHARE",
        "senderDomain": served.peer.server,
        "resourceType": "file",
        "notification": {"file": file},
    }


def old(served: Served, **changes: Any) -> dict[str, Any]:
    """Return the same in the form of API 1.4."""
    body = {"owner": f"alice@{SERVER}", "shareWith": f"carol@{served.peer.server}", "share": "/home/data"}
    return body | changes


def answer(reply: Reply) -> tuple[int, Any]:
    return reply.status, reply.json


@pytest.mark.parametrize("endpoint", ["notifications", "request-share"])
def test_a_request_waits_for_the_owner(asked: Served, endpoint: str) -> None:
    body = request(asked) if endpoint == "notifications" else old(asked)
    assert answer(asked.post(endpoint, body)) == (201, {})
    (found,) = stored(asked)
    assert (found.user, found.share_with, found.resource) == ("alice", f"carol@{asked.peer.server}", "/home/data")
    assert (found.state, found.direction, found.server) == ("pending", "incoming", asked.peer.server)
    assert sorted(found.permissions) == (["read", "write"] if endpoint == "notifications" else ["read"])


def test_the_same_again_changes_nothing(asked: Served) -> None:
    for _ in range(2):
        asked.clock.advance(1)
        assert asked.post("notifications", request(asked)).status == 201
    assert len(stored(asked)) == 1
    assert asked.post("notifications", request(asked, shareId="/home/other")).status == 201
    assert len(stored(asked)) == 2


@pytest.mark.parametrize("endpoint", ["notifications", "request-share"])
def test_a_signature_counts_once(asked: Served, endpoint: str) -> None:
    body = json.dumps(request(asked) if endpoint == "notifications" else old(asked)).encode()
    message = asked.peer.message(f"{BASE}/ocm/{endpoint}", body, to=ORIGIN)
    assert asked.send(message).status == 201
    refused = (401, {"message": "SIGNATURE_REPLAYED"})
    assert answer(asked.send(message)) == (refused if endpoint == "notifications" else (404, refused[1]))


def test_who_is_unknown_here_is_answered_like_everybody(asked: Served, log: list[Any]) -> None:
    """Neither users nor paths can be found out: nothing is looked up at the storage, nothing is said."""
    replies = [
        asked.post("notifications", request(asked, owner=f"{name}@{SERVER}", shareId=path))
        for name in ("alice", "nobody", "group")
        for path in ("/home/data", "/etc/shadow", "received/x")
    ]
    assert {answer(reply) == (201, {}) for reply in replies} == {True}
    assert {found.user for found in stored(asked)} == {"alice"}
    unseen = [line for line in log if "shown to nobody" in line["event"]]
    assert {line["owner"] for line in unseen} == {f"nobody@{SERVER}", f"group@{SERVER}"}


def test_a_disabled_user_is_as_unknown_as_nobody(asked: Served) -> None:
    asked.store.run_sync(lambda tx: tx.exec_driver_sql("UPDATE users SET disabled = 1 WHERE name = 'bob'"))
    try:
        assert answer(asked.post("notifications", request(asked, owner=f"bob@{SERVER}"))) == (201, {})
    finally:
        asked.store.run_sync(lambda tx: tx.exec_driver_sql("UPDATE users SET disabled = 0 WHERE name = 'bob'"))
    assert stored(asked) == []


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"owner": "alice@elsewhere.example"}, (404, "SHARE_NOT_FOUND")),
        ({"shareWith": "carol@third.example"}, (403, "SHARE_WITH_MISMATCH")),
        ({"shareId": None}, (400, "INVALID_NOTIFICATION")),
        ({"permissions": ["own"]}, (400, "INVALID_NOTIFICATION")),
        ({"shareWith": "nobody"}, (400, "INVALID_NOTIFICATION")),
    ],
)
def test_a_request_that_is_not_for_who_asks_is_refused(
    asked: Served, changes: dict[str, Any], code: tuple[int, str]
) -> None:
    reply = asked.post("notifications", request(asked, **changes))
    assert (reply.status, reply.code) == code
    assert stored(asked) == []


def test_an_unsigned_request_is_not_taken(asked: Served) -> None:
    assert asked.post("notifications", request(asked), signed=False).status == 401
    assert answer(asked.post("request-share", old(asked), signed=False)) == (404, {"message": "SIGNATURE_REQUIRED"})
    asked.peer.document = asked.peer.describe("notifications")
    asked.clock.advance(7200)
    assert asked.post("notifications", request(asked), signed=False).status == 401, "nor from who cannot sign"
    assert stored(asked) == []


def test_a_blocked_server_is_told_that_there_is_nothing(asked: Served) -> None:
    asked.run(asked.trust.set(asked.peer.server, BLOCKED, "operator"))
    assert answer(asked.post("request-share", old(asked))) == (404, {"message": "UNTRUSTED_PROVIDER"})
    assert stored(asked) == []


@pytest.mark.parametrize("body", [{}, {"owner": 1}, [], {"owner": "a@b", "shareWith": "c@d", "share": {}}])
def test_a_body_that_is_none_is_a_400(asked: Served, body: Any) -> None:
    assert asked.post("request-share", body).status == 400


def test_one_server_can_ask_only_so_much(asked: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requesting, "PENDING_FROM_SERVER", 2)
    for number in range(3):
        reply = asked.post("notifications", request(asked, shareId=str(number)))
        assert reply.status == (201 if number < 2 else 503)
    assert (reply.code, reply.headers["retry-after"]) == ("TOO_MANY_PENDING", "3600")
    unknown = asked.post("notifications", request(asked, owner=f"nobody@{SERVER}"))
    assert answer(unknown) == answer(reply)


@pytest.mark.parametrize("limit", ["PENDING_FROM_SERVER", "PENDING_FOR_USER"])
def test_the_limits_do_not_tell_who_is_here(
    asked: Served, now: Any, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    """What is for nobody counts like everything else, and is shown to nobody."""
    monkeypatch.setattr(requesting, limit, 2)
    for name in ("alice", "nobody"):
        now.advance(requesting.UNANSWERED + 1)
        requests = [request(asked, owner=f"{name}@{SERVER}", shareId=f"{limit} {n}") for n in range(3)]
        assert [asked.post("notifications", each).status for each in requests] == [201, 201, 503], name
        asked.clock.advance(1)
        assert asked.post("notifications", requests[0]).status == 201, "the same again changes nothing"
    assert stored(asked) == []
    asked.store.run_sync(lambda tx: users.add(tx, "nobody", "hash", 0))
    try:
        assert asked.store.read_sync(lambda tx: share_requests.of_user(tx, "nobody")) == []
    finally:
        asked.store.run_sync(lambda tx: tx.exec_driver_sql("DELETE FROM users WHERE name = 'nobody'"))


def test_one_user_is_asked_only_so_much(asked: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requesting, "PENDING_FOR_USER", 1)
    assert asked.post("notifications", request(asked)).status == 201
    assert asked.post("notifications", request(asked, shareId="more")).code == "TOO_MANY_PENDING"
    assert asked.post("notifications", request(asked, owner=f"bob@{SERVER}")).status == 201


def test_what_nobody_answers_makes_room_after_a_month(asked: Served, now: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requesting, "PENDING_FROM_SERVER", 1)
    assert asked.post("notifications", request(asked)).status == 201
    now.advance(requesting.UNANSWERED + 1)
    assert asked.post("notifications", request(asked, shareId="newer")).status == 201
    assert [found.resource for found in stored(asked)] == ["newer"]


def outgoing(served: Served, **changes: Any) -> None:
    """Let alice have asked carol for `report`."""
    record = RequestRecord(
        id="asked-1",
        direction="outgoing",
        kind="REQUEST_SHARE",
        user="alice",
        server=served.peer.server,
        owner=f"carol@{served.peer.server}",
        share_with=f"alice@{SERVER}",
        resource="/docs/report",
        share=None,
        permissions=frozenset(),
        state="sent",
        granted=None,
        created=NOW,
        updated=NOW,
    )
    values = {name: getattr(record, name) for name in record.__slots__} | changes
    served.store.run_sync(lambda tx: share_requests.add(tx, RequestRecord(**values)))


def declined(served: Served, resource: str) -> dict[str, Any]:
    return {
        "notificationType": "SHARE_DECLINED",
        "senderDomain": served.peer.server,
        "resourceType": "file",
        "notification": {"file": {"providerId": resource}},
    }


def test_the_owner_s_no_reaches_who_has_asked(asked: Served) -> None:
    outgoing(asked)
    assert asked.post("notifications", declined(asked, "/docs/report")).status == 201
    assert [found.state for found in stored(asked)] == ["declined"]
    assert asked.post("notifications", declined(asked, "/docs/report")).status == 404, "it is no Share of ours"


def test_another_server_cannot_say_it(asked: Served) -> None:
    outgoing(asked, server="other.example")
    assert asked.post("notifications", declined(asked, "/docs/report")).status == 404
    assert [found.state for found in stored(asked)] == ["sent"]


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({"name": "report"}, "granted"),
        ({"providerId": "/docs/report"}, "granted"),
        ({"name": "something else"}, "sent"),
        ({"name": "report", "shareWith": f"bob@{SERVER}"}, "sent"),
    ],
)
def test_the_share_that_comes_of_a_request_is_known(asked: Served, changes: dict[str, Any], state: str) -> None:
    outgoing(asked)
    webdav = {"sharedSecret": f"{changes}".encode().hex()}
    body = asked.share(**{"providerId": f"of-{len(asked.received())}", "webdav": webdav} | changes)
    assert asked.post("shares", body).status == 201
    (found,) = stored(asked)
    assert found.state == state
    assert (found.granted is not None) == (state == "granted")


@pytest.mark.parametrize(("accept", "code"), [("allowlist", "UNTRUSTED_PROVIDER"), ("contacts", "NOT_A_CONTACT")])
def test_whom_the_operator_keeps_out_asks_for_nothing(asked: Served, accept: str, code: str, policy: Any) -> None:
    """`federation.accept` says who may send to our users at all; the answer says nothing of who is here."""
    policy(accept)
    for name in ("alice", "nobody"):
        reply = asked.post("notifications", request(asked, owner=f"{name}@{SERVER}"))
        assert (reply.status, reply.code) == (403, code), name
        asked.clock.advance(1)
        assert answer(asked.post("request-share", old(asked, owner=f"{name}@{SERVER}"))) == (404, {"message": code})
        asked.clock.advance(1)
    assert stored(asked) == []
    policy(accept, listed=True)
    contact = contacts.Contact("alice", f"carol@{asked.peer.server}", "carol", None, None, "by hand", True, False, 0)
    asked.store.run_sync(lambda tx: contacts.add(tx, contact))
    assert asked.post("notifications", request(asked)).status == 201


@pytest.fixture
def policy(asked: Served, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Sets what the operator demands, and whether the peer is listed."""

    def demand(accept: str, *, listed: bool = False) -> None:
        async def is_listed(_server: str) -> bool:
            return listed

        monkeypatch.setattr(asked.requesting, "_policy", Admitting([accept], is_listed=is_listed))

    yield demand
    asked.store.run_sync(lambda tx: contacts.remove_of(tx, "alice"))
