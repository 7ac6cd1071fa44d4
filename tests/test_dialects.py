"""What each product is told, in which body, and what is remembered of it: the Sending Server with every profile."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from dialects import PRODUCTS
from fake_peers import NO_ANSWER
from parts import CHEAP, READ, WRITE
from test_sending import BOB, DAV, SECRET, SERVER, Place

from gateway.ocm.notifications import NotificationType
from gateway.store import peers
from gateway.store.peers import PeerRecord
from gateway.trust import Trust

PRODUCTS_OF_THE_LEGACY_BODY = ("nextcloud-30", "nextcloud-31", "nextcloud-33", "owncloud-10", "seafile", "ocm-stub")
PRODUCTS_OF_THE_MODERN_BODY = ("nextcloud-35", "ocis", "opencloud", "reva", "ocm-go")
FILES_FOR_FOLDERS = ("nextcloud-35", *PRODUCTS_OF_THE_LEGACY_BODY)


@pytest.fixture
async def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Place]:
    monkeypatch.setattr("gateway.users.PasswordHasher", lambda: CHEAP)
    place = Place(tmp_path)
    yield place
    await place.close()


def known(place: Place) -> PeerRecord:
    return place.store.read_sync(lambda tx: peers.get(tx, "peer.example"))


def body_of(place: Place, number: int = -1) -> dict[str, Any]:
    return place.peers.told("/shares")[number]


# --- bodies ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("product", PRODUCTS_OF_THE_LEGACY_BODY)
async def test_the_legacy_body_has_every_member_that_its_readers_demand(place: Place, product: str) -> None:
    """Nextcloud takes the host from `owner` and refuses empty names, Seafile wants `sharedBy` (peers.md §2b)."""
    place.peers.be(product)
    view = await place.create(permissions=WRITE)
    assert view.state == "sent"
    body = body_of(place)
    secret = body["protocol"]["options"].pop("sharedSecret")
    assert len(secret) >= 43
    assert body == {
        "shareWith": BOB,
        "shareType": "user",
        "resourceType": "file",
        "name": "data",
        "description": "",
        "providerId": view.share.provider_id,
        "owner": f"alice@{SERVER}",
        "ownerDisplayName": "alice",
        "sender": f"alice@{SERVER}",
        "senderDisplayName": "alice",
        "sharedBy": f"alice@{SERVER}",
        "sharedByDisplayName": "alice",
        "protocol": {
            "name": "webdav",
            "options": {"permissions": "{http://open-cloud-mesh.org/ns}share-permissions"},
        },
    }


@pytest.mark.parametrize("product", PRODUCTS_OF_THE_MODERN_BODY)
async def test_the_modern_body_has_nothing_that_its_readers_refuse(place: Place, product: str) -> None:
    """OpenCloud and ocm-go refuse `options`, reva other protocols and a null expiration (peers.md §2b)."""
    place.peers.be(product)
    view = await place.create("/home/data/table.csv", permissions=READ)
    assert view.state == "sent", place.problem
    body = body_of(place)
    webdav = body["protocol"].pop("webdav")
    assert body.pop("protocol") == {"name": "multi"}
    assert body == {
        "shareWith": BOB,
        "shareType": "user",
        "resourceType": "file",
        "name": "table.csv",
        "providerId": view.share.provider_id,
        "owner": f"alice@{SERVER}",
        "ownerDisplayName": "alice",
        "sender": f"alice@{SERVER}",
        "senderDisplayName": "alice",
    }
    exchanges = product in ("nextcloud-35", "ocm-go")
    assert len(webdav.pop("sharedSecret")) >= 43
    assert webdav == {
        "uri": view.share.id if product == "ocm-go" else f"{DAV}{view.share.id}",
        "permissions": ["read"],
    } | ({"requirements": ["must-exchange-token"]} if exchanges else {})


@pytest.mark.parametrize("product", ["nextcloud-35", "ocis", "opencloud", "reva"])
async def test_a_folder_is_called_what_the_product_takes(place: Place, product: str) -> None:
    place.peers.be(product)
    view = await place.create()
    assert view.state == "sent", place.problem
    assert body_of(place)["resourceType"] == ("file" if product in FILES_FOR_FOLDERS else "folder")


@pytest.mark.parametrize(
    ("path", "permissions", "advice"),
    [
        ("/home/data", READ, "takes files only: share the files one by one"),
        ("/home/data/table.csv", WRITE, "share it with `--permissions read`"),
    ],
)
async def test_what_ocm_go_would_refuse_is_not_sent(
    place: Place, path: str, permissions: frozenset[Any], advice: str
) -> None:
    place.peers.be("ocm-go")
    view = await place.create(path, permissions=permissions)
    assert view.state == "refused"
    assert place.peers.posts == []
    assert place.problem is not None
    assert advice in place.problem


@pytest.mark.parametrize("status", [200, 201, 202, 204])
async def test_each_answer_that_means_taken_is_taken_for_that(place: Place, status: int) -> None:
    place.peers.answers["/shares"] = (status, b"")
    assert (await place.create()).state == "sent"


@pytest.mark.parametrize("status", [203, 206, 301, 304])
async def test_another_answer_is_not(place: Place, status: int) -> None:
    place.peers.answers["/shares"] = (status, {})
    assert (await place.create()).state == "pending"


# --- the other body -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 501])
@pytest.mark.parametrize(
    ("product", "names"), [("owncloud-10", ["webdav", "multi"]), ("opencloud", ["multi", "webdav"])]
)
async def test_a_body_that_is_refused_is_followed_by_the_other_once(
    place: Place, product: str, names: list[str], status: int
) -> None:
    place.peers.be(product)
    place.peers.answers["/shares"] = [(status, {"message": "NOT_THIS"}), (201, {"recipientDisplayName": "Bob"})]
    view = await place.create()
    assert [body["protocol"]["name"] for body in place.peers.told("/shares")] == names
    assert (view.state, view.share.recipient_display_name) == ("sent", "Bob")
    assert {body["providerId"] for body in place.peers.told("/shares")} == {view.share.provider_id}
    assert view.share.offered_type == body_of(place)["resourceType"]


async def test_a_second_refusal_is_the_end_and_the_first_says_why(place: Place) -> None:
    place.peers.be("nextcloud-30")
    place.peers.answers["/shares"] = [(400, {"message": "NO_SUCH_USER"}), (501, {"message": "NOT_THIS_BODY"})]
    view = await place.create()
    assert (view.state, len(place.peers.posts)) == ("refused", 2)
    assert place.problem == "peer.example answered 400: NO_SUCH_USER"
    assert known(place).body is None


@pytest.mark.parametrize("status", [401, 403, 404, 409, 413, 429, 500, 503])
async def test_other_refusals_say_nothing_of_the_body(place: Place, status: int) -> None:
    place.peers.be("nextcloud-30")
    place.peers.answers["/shares"] = (status, {})
    await place.create()
    assert len(place.peers.posts) == 1


async def test_a_share_that_requires_the_exchange_keeps_its_requirement(place: Place) -> None:
    place.peers.be("nextcloud-35")
    place.peers.answers["/shares"] = (501, {})
    view = await place.create()
    assert (view.state, len(place.peers.posts)) == ("refused", 1)
    assert body_of(place)["protocol"]["webdav"]["requirements"] == ["must-exchange-token"]


async def test_a_body_that_may_have_been_taken_is_not_followed_by_the_other(place: Place) -> None:
    """The answer was lost: the same id in another body would be another Share (wire.md, 409)."""
    place.peers.be("owncloud-10")
    place.peers.answers["/shares"] = [NO_ANSWER, (400, {})]
    await place.create()
    await place.later()
    await place.settled()
    assert [body["protocol"]["name"] for body in place.peers.told("/shares")] == ["webdav", "webdav"]


async def test_a_second_body_without_an_answer_is_the_one_that_is_sent_again(place: Place) -> None:
    place.peers.be("owncloud-10")
    place.peers.answers["/shares"] = [(501, {}), NO_ANSWER, (201, {})]
    view = await place.create()
    assert view.state == "pending"
    await place.later()
    await place.settled()
    assert [body["protocol"]["name"] for body in place.peers.told("/shares")] == ["webdav", "multi", "multi"]
    assert place.get(view.share.id).state == "sent"


# --- what has worked ------------------------------------------------------------------------------------------------


async def test_the_body_that_was_taken_is_the_first_for_the_next_share(place: Place) -> None:
    place.peers.be("owncloud-10")
    place.peers.answers["/shares"] = [(501, {}), (201, {}), (201, {})]
    await place.create()
    assert (known(place).product, known(place).body, known(place).signature) == ("owncloud-10", "modern", "none")
    await place.create()
    assert [body["protocol"]["name"] for body in place.peers.told("/shares")] == ["webdav", "multi", "multi"]


async def test_what_worked_with_another_product_says_nothing(place: Place) -> None:
    place.peers.be("owncloud-10")
    place.peers.answers["/shares"] = [(501, {}), (201, {}), (201, {})]
    await place.create()
    place.store.run_sync(lambda tx: peers.worked(tx, "peer.example", "owncloud-10", way_in="basic_root"))
    place.peers.be("nextcloud-31")
    await place.create()
    assert body_of(place)["protocol"]["name"] == "webdav"
    assert (known(place).product, known(place).body, known(place).way_in) == ("nextcloud-31", "legacy", None)


async def test_forgetting_a_peer_forgets_what_worked(place: Place) -> None:
    place.peers.be("owncloud-10")
    place.peers.answers["/shares"] = [(501, {}), (201, {}), (201, {})]
    await place.create()
    await Trust(place.store, place.clock).forget("peer.example", "operator")
    await place.create()
    assert body_of(place)["protocol"]["name"] == "webdav"


async def test_the_signature_that_was_accepted_is_remembered(place: Place) -> None:
    place.peers.be("ocm-go")
    await place.create("/home/data/table.csv")
    assert known(place).signature == "rfc9421"


@pytest.mark.parametrize("product", ["ocis", "opencloud", "reva", "ocm-go"])
@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_stranger_is_told_to_exchange_an_invite_first(place: Place, product: str, status: int) -> None:
    place.peers.be(product)
    place.peers.answers["/shares"] = (status, {"message": "UNKNOWN_SENDER"})
    await place.create("/home/data/table.csv")
    assert place.problem is not None
    assert place.problem.startswith(f"peer.example answered {status}: UNKNOWN_SENDER. ")
    assert "exchange an invite first" in place.problem


# --- notifications --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("product", ["nextcloud-30", "nextcloud-35", "owncloud-10", "seafile", "ocm-go"])
async def test_a_product_without_the_message_is_not_told_of_new_permissions(place: Place, product: str) -> None:
    """It finds them out by PROPFIND, and would answer with 400 or 501 (peers.md §5)."""
    place.peers.be(product)
    place.put(permissions=WRITE)
    await place.sending.update("alice", "share-1", "alice", permissions=READ)
    await place.sending.revoke("alice", "share-1", "alice")
    await place.settled()
    assert place.peers.types == ["SHARE_UNSHARED"]


async def test_ocis_is_told_the_grantee_and_the_whole_protocol(place: Place) -> None:
    place.peers.be("ocis")
    place.put(permissions=READ, share_with="0d3f@peer.example")
    await place.sending.update("alice", "share-1", "alice", permissions=WRITE)
    await place.settled()
    (told,) = place.peers.told()
    webdav = {"uri": f"{DAV}share-1", "sharedSecret": SECRET, "permissions": ["read", "write"]}
    assert told["notificationType"] == "SHARE_CHANGE_PERMISSION"
    assert told["notification"]["grantee"] == "0d3f"
    assert told["notification"]["protocol"] == {"name": "multi", "webdav": webdav}


async def test_a_message_to_others_has_secret_and_id_in_both_places(place: Place) -> None:
    place.peers.be("nextcloud-30")
    place.put(offered_type="file")
    await place.sending.revoke("alice", "share-1", "alice")
    await place.settled()
    (told,) = place.peers.told()
    assert told == {
        "notificationType": NotificationType.SHARE_UNSHARED.value,
        "senderDomain": SERVER,
        "resourceType": "file",
        "shareType": "user",
        "providerId": "share-1",
        "notification": {"file": {"providerId": "share-1"}, "sharedSecret": SECRET, "grantee": "bob"},
    }


@pytest.mark.parametrize("product", PRODUCTS)
async def test_sender_and_owner_are_the_same_id_in_every_share(place: Place, product: str) -> None:
    """oCIS compares it, byte by byte, with what an invite has told it: user@host, without scheme (trap 21)."""
    place.peers.be(product)
    await place.create("/home/data/table.csv")
    (body,) = place.peers.told("/shares")
    assert body["owner"] == body["sender"] == body.get("sharedBy", body["sender"]) == f"alice@{SERVER}"
