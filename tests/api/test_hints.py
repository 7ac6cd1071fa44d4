"""oCIS's notifications over a real socket: they prove nothing, so they make us look, and only that (peers.md §5)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from dialects import PRODUCTS, documents
from parts import WRITE, until

from gateway import hinting
from gateway.legacy import NOTED_EVERY
from gateway.limits import Allowance
from gateway.store import peers

from .served import SECRET, Reply, Served

numbers = itertools.count()


@pytest.fixture
def ocis(fresh: Served) -> Iterator[Served]:
    """The door, and a peer that signs nothing; nothing was looked at."""
    fresh.peer.document = fresh.peer.describe("invites", provider="oCIS", apiVersion="1.1.0")
    fresh.remote.looked.clear()
    yield fresh
    fresh.remote.gone.clear()


def share(served: Served, **changes: Any) -> str:
    share_id = f"hinted-{next(numbers)}"
    served.put_received(share_id, **({"state": "accepted", "mount": share_id} | changes))
    return share_id


def hint(served: Served, share_id: str, kind: str = "SHARE_UNSHARED", **notification: Any) -> Reply:
    """Let somebody say what oCIS says."""
    details = {"grantee": "4c510ada-c86b-4815-8820-42cdf82c3d51"} | notification
    body = {"notificationType": kind, "resourceType": "file", "providerId": share_id, "notification": details}
    return served.post("notifications", body, signed=False)


def looked(served: Served, *share_ids: str) -> None:
    served.run(until(lambda: served.remote.looked == [*share_ids]))


@pytest.mark.parametrize("state", ["pending", "accepted"])
def test_a_share_that_is_really_gone_ends(ocis: Served, state: str) -> None:
    gone = share(ocis, state=state)
    ocis.remote.gone.add(gone)
    reply = hint(ocis, gone)
    assert (reply.status, reply.json) == (201, {})
    ocis.run(until(lambda: ocis.state_of(gone) == "revoked"))


def test_a_share_that_is_still_there_stays(ocis: Served) -> None:
    stays = share(ocis)
    permissions = {"name": "multi", "webdav": {"permissions": ["read", "write"], "uri": "https://o.example/x"}}
    assert hint(ocis, stays, "SHARE_CHANGE_PERMISSION", protocol=permissions).status == 201
    looked(ocis, stays)
    assert ocis.state_of(stays) == "accepted"
    (found,) = [each for each in ocis.received() if each.id == stays]
    assert found.permissions != WRITE, "the root says what is permitted, not the message"


def test_nobody_learns_whether_there_is_such_a_share(ocis: Served) -> None:
    known, pending = share(ocis), share(ocis, state="pending", mount=None)
    replies = [hint(ocis, share_id) for share_id in (known, pending, "unknown")]
    assert {(reply.status, reply.body) for reply in replies} == {(201, b"{}")}
    ocis.run(until(lambda: set(ocis.remote.looked) == {known, pending}))
    assert ocis.state_of(pending) == "pending"


def test_one_share_is_looked_at_once_in_a_while(ocis: Served) -> None:
    known = share(ocis)
    for _ in range(5):
        assert hint(ocis, known).status == 201
    looked(ocis, known)


def test_what_is_said_too_soon_is_looked_at_later(ocis: Served) -> None:
    """After new permissions the Share may end at once, and nothing is said again."""
    ocis.hints._allowed = Allowance(1, 2)
    known = share(ocis)
    assert hint(ocis, known, "SHARE_CHANGE_PERMISSION").status == 201
    looked(ocis, known)
    ocis.remote.gone.add(known)
    for _ in range(3):
        assert hint(ocis, known).status == 201
    ocis.run(until(lambda: ocis.state_of(known) == "revoked"))
    assert ocis.remote.looked == [known, known]


def test_only_so_many_wait_for_a_look(ocis: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hinting, "WAITING", 0)
    with structlog.testing.capture_logs() as lines:
        assert hint(ocis, share(ocis)).status == 201
    assert "a hint about a Share was passed over" in [line["event"] for line in lines]


def test_what_a_server_that_signs_seems_to_say_is_no_reason_to_look(ocis: Served) -> None:
    known = share(ocis)

    def signs(kind: str | None) -> None:
        note = "INSERT OR REPLACE INTO peers (server, signed_as, failures) VALUES (?, ?, 0)"
        ocis.store.run_sync(lambda tx: tx.exec_driver_sql(note, (ocis.peer.server, kind)))

    signs("rfc9421")
    with structlog.testing.capture_logs() as lines:
        assert hint(ocis, known).status == 201
    assert "a hint about a Share was passed over" in [line["event"] for line in lines]
    signs(None)
    assert hint(ocis, known).status == 201
    looked(ocis, known)


@pytest.mark.parametrize("product", [product for product in PRODUCTS if product != "ocis"])
def test_no_other_product_is_heard_without_proof(ocis: Served, product: str) -> None:
    ocis.peer.document = documents(ocis.peer.url)[product]
    known = share(ocis)
    ocis.remote.gone.add(known)
    with structlog.testing.capture_logs() as lines:
        assert hint(ocis, known).status == 201
        ocis.run(until(lambda: any("other ways" in line["event"] for line in lines)))
    assert (ocis.remote.looked, ocis.state_of(known)) == ([], "accepted")


def test_where_only_signed_messages_count_nothing_unsigned_is_heard(
    ocis: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ocis.proving, "_must_use_http_sig", True)
    gone = share(ocis)
    ocis.remote.gone.add(gone)
    replies = [hint(ocis, share_id) for share_id in (gone, "unknown")]
    assert {(reply.status, reply.code) for reply in replies} == {(401, "SIGNATURE_REQUIRED")}
    assert (ocis.remote.looked, ocis.state_of(gone)) == ([], "accepted")


def test_a_server_that_must_not_go_unsigned_is_not_heard_either(ocis: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ocis.legacy, "_policy", lambda way, server: (way, server) != ("unsigned", ocis.peer.server))
    gone = share(ocis)
    ocis.remote.gone.add(gone)
    with structlog.testing.capture_logs() as lines:
        assert hint(ocis, gone).status == 201, "nobody learns whether there is such a Share"
        ocis.run(until(lambda: any("federation.legacy.unsigned" in line.get("reason", "") for line in lines)))
    assert (ocis.remote.looked, ocis.state_of(gone)) == ([], "accepted")


def test_a_hint_is_a_use_of_the_unsigned_way(ocis: Served) -> None:
    ocis.clock.advance(NOTED_EVERY)
    known = share(ocis)
    assert hint(ocis, known).status == 201
    looked(ocis, known)
    assert "unsigned" in (ocis.store.read_sync(lambda tx: peers.get(tx, ocis.peer.server)).legacy_used or {})


@pytest.mark.parametrize("kind", ["SHARE_DECLINED", "SHARE_ACCEPTED"])
def test_other_news_need_their_proof(ocis: Served, kind: str) -> None:
    assert hint(ocis, share(ocis), kind).status == 401


def test_with_a_secret_it_is_no_hint_and_with_a_wrong_one_nothing(ocis: Served) -> None:
    known = share(ocis)
    assert hint(ocis, known, sharedSecret="wrong").status == 404
    assert hint(ocis, known, sharedSecret=f"{SECRET}-{known}").status == 201
    assert (ocis.state_of(known), ocis.remote.looked) == ("revoked", [])


def test_a_group_share_that_is_gone_ends_for_all_members(ocis: Served) -> None:
    mine = share(ocis, share_type="group", provider_id="of-a-group", payload_digest="group")
    other = share(ocis, share_type="group", provider_id="of-a-group", payload_digest="group", user="bob", mount="x")
    declined = share(
        ocis, share_type="group", provider_id="of-a-group", payload_digest="group", state="declined", mount=None
    )
    ocis.remote.gone |= {mine, other}
    assert hint(ocis, "of-a-group").status == 201
    ocis.run(until(lambda: {ocis.state_of(mine), ocis.state_of(other)} == {"revoked"}))
    assert ocis.state_of(declined) == "declined"
