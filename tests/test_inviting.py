"""Accepting the invites of each product, and making some: what is sent, what is kept, what is said when it fails."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import structlog
from fake_peers import NO_ANSWER, FakePeers
from parts import NOW, Clock, new_store

from gateway.admitting import Admitting
from gateway.contacts import Contacts
from gateway.errors import Conflict, Invalid, NoSuch, NotAllowed, PeerFailed, Refusal
from gateway.inviting import LIFE, LIFE_MAX, Inviting
from gateway.ocm.invites import InviteAcceptance, InviteString, Party
from gateway.store import contacts, users
from gateway.store.contacts import Contact
from gateway.store.engine import Store

SERVER, PEER = "gateway.example:8443", "peer.example"
TOKEN = "a55a966e-15c1-4cb9-a39d-4e4c54399baf"


class Place:
    """Alice's gateway, and peers that answer as the test says."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.clock = Clock()
        self.peers = FakePeers()
        self.inviting = Inviting(store, self.peers, server=SERVER, public_url=f"https://{SERVER}", clock=self.clock)
        self.contacts = Contacts(store, server=SERVER, clock=self.clock)

    def answer(self, status: int, body: Any) -> None:
        self.peers.answers["/invite-accepted"] = (status, body)

    async def accept(self, text: str = f"{TOKEN}@{PEER}") -> Contact:
        return await self.inviting.accept("alice", self.inviting.read(text), "alice")

    def met(self) -> list[Contact]:
        return self.store.read_sync(lambda tx: contacts.of_user(tx, "alice"))


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    store = new_store(tmp_path)
    store.run_sync(lambda tx: [users.add(tx, name, "hash", 0) for name in ("alice", "bob")])
    yield Place(store)
    store.close()


# --- accepting ------------------------------------------------------------------------------------------------------


async def test_all_that_some_product_needs_is_sent(place: Place) -> None:
    """Nextcloud: five strings, none empty, userId too; oCIS: the id of later Shares; the port belongs to the name."""
    place.answer(200, {"userID": "carol", "email": "carol@peer.example", "name": "Carol"})
    contact = await place.accept()
    assert place.peers.posts == [
        (
            PEER,
            "/invite-accepted",
            {
                "recipientProvider": SERVER,
                "token": TOKEN,
                "userID": "alice",
                "userId": "alice",
                "email": "alice@gateway.example",
                "name": "alice",
            },
        )
    ]
    assert contact == Contact(
        *("alice", "carol@peer.example", "carol", "Carol", "carol@peer.example", "invite accepted", True, False, NOW)
    )
    assert place.met() == [contact]


@pytest.mark.parametrize(
    ("status", "body", "address", "name"),
    [
        (200, {"userID": "carol", "email": "", "name": ""}, "carol@peer.example", None),
        (201, {"userId": "carol", "email": "c@x", "name": "C"}, "carol@peer.example", "C"),
        (200, {"userID": "uuid@https://peer.example:9200", "name": "C"}, "uuid@peer.example", "C"),
        (200, {"userID": "uuid@idp.example", "name": "C"}, "uuid@idp.example@peer.example", "C"),
        (200, {"userID": "Y2Fyb2xAcGVlci5leGFtcGxl", "name": "C"}, "Y2Fyb2xAcGVlci5leGFtcGxl@peer.example", "C"),
        (409, {"message": "INVITE_ALREADY_ACCEPTED", "userID": "carol", "name": "C"}, "carol@peer.example", "C"),
    ],
    ids=["reva", "userId", "OpenCloud", "oCIS", "opencloudmesh-go", "known already"],
)
async def test_each_products_answer_makes_a_contact(
    place: Place, status: int, body: dict[str, Any], address: str, name: str | None
) -> None:
    place.answer(status, body)
    contact = await place.accept()
    assert (contact.address, contact.name, contact.user_id) == (address, name, body.get("userID") or body["userId"])


@pytest.mark.parametrize(
    ("status", "body", "kind", "code"),
    [
        (400, {"message": "TOKEN_EXPIRED"}, Invalid, "INVITE_REFUSED"),
        (404, b"not found", Invalid, "INVITE_REFUSED"),
        (403, {"message": "UNTRUSTED_PROVIDER"}, NotAllowed, "NOT_TRUSTED_THERE"),
        (409, {"message": f"used {TOKEN}"}, Conflict, "INVITE_ALREADY_ACCEPTED"),
        (401, {"message": f"{TOKEN}"}, PeerFailed, "REFUSED_BY_PEER"),
        (500, b"", PeerFailed, "REFUSED_BY_PEER"),
        (200, b"<html>", PeerFailed, "BAD_ANSWER"),
        (200, {"userID": "http://x"}, PeerFailed, "BAD_ANSWER"),
        (200, {"userID": 7.5}, PeerFailed, "BAD_ANSWER"),
    ],
)
async def test_a_refusal_is_said_with_what_to_do_and_nothing_is_kept(
    place: Place, status: int, body: Any, kind: type[Refusal], code: str
) -> None:
    place.answer(status, body)
    with pytest.raises(kind) as refused:
        await place.accept()
    assert refused.value.code == code
    assert PEER in str(refused.value)
    assert TOKEN not in str(refused.value)
    assert place.met() == []


async def test_a_server_that_does_not_answer_makes_nobody_a_contact(place: Place) -> None:
    place.peers.answers["/invite-accepted"] = NO_ANSWER
    with pytest.raises(PeerFailed):
        await place.accept()
    assert place.met() == []


async def test_what_the_user_has_decided_about_a_contact_survives_a_second_invite(place: Place) -> None:
    await place.contacts.add("alice", f"carol@{PEER}", "My Carol", None, "alice")
    await place.contacts.set_auto_accept("alice", f"carol@{PEER}", True, "alice")
    place.answer(200, {"userID": "carol", "email": "carol@uni.example", "name": "Carol Dee"})
    contact = await place.accept()
    assert (contact.source, contact.auto_accept, contact.verified) == ("by hand", True, True)
    assert (contact.name, contact.email) == ("Carol Dee", "carol@uni.example")


def test_an_invite_from_here_is_for_nobody_here(place: Place) -> None:
    """You cannot invite yourself (wire.md, Invites)."""
    for text, provider in ((f"{TOKEN}@{SERVER}", None), (TOKEN, f"https://{SERVER}/")):
        with pytest.raises(Invalid) as refused:
            place.inviting.read(text, provider)
        assert refused.value.code == "SAME_SERVER"


@pytest.mark.parametrize("text", ["", TOKEN, "https://peer.example/wayf", "@peer.example"])
def test_what_is_no_invite_is_said_with_what_is_one(place: Place, text: str) -> None:
    with pytest.raises(Invalid) as refused:
        place.inviting.read(text)
    assert refused.value.code == "INVALID_INVITE_STRING"
    assert "TOKEN@SERVER" in str(refused.value)


async def test_only_listed_servers_are_met_where_that_is_demanded(place: Place) -> None:
    """draft-07, Invite Acceptance Request Details: a policy comes before the request."""

    async def is_listed(server: str) -> bool:
        return server != PEER

    url = f"https://{SERVER}"
    place.inviting = Inviting(
        place.store, place.peers, server=SERVER, public_url=url, policy=Admitting(["allowlist"], (), is_listed)
    )
    with pytest.raises(NotAllowed) as refused:
        await place.accept()
    assert (refused.value.code, place.peers.posts) == ("UNTRUSTED_PROVIDER", [])
    token = InviteString.decode(
        (await place.inviting.create("alice", None, None, "alice")).invite_string.reveal()
    ).token
    for server, allowed in ((PEER, False), ("other.example", True)):
        acceptance = InviteAcceptance(server, token, Party("carol", None, None))
        with nullcontext() if allowed else pytest.raises(NotAllowed):
            await place.inviting.require_open(acceptance)


# --- making ---------------------------------------------------------------------------------------------------------


async def test_an_invite_has_a_token_that_nobody_guesses_and_an_end(place: Place) -> None:
    first, second = [await place.inviting.create("alice", " for Bob\n", None, "alice") for _ in range(2)]
    read = InviteString.decode(first.invite_string.reveal())
    assert read == InviteString.read(first.link.reveal())
    assert read.provider == SERVER
    assert len(read.token.reveal()) >= 43  # 256 bits in base64
    assert read.token != InviteString.decode(second.invite_string.reveal()).token
    assert (first.view.invite.note, first.view.invite.expires, first.view.state) == ("for Bob", NOW + LIFE, "open")
    assert read.token.reveal() not in repr(first)
    place.clock.advance(LIFE)
    assert {view.state for view in await place.inviting.list("alice")} == {"expired"}


@pytest.mark.parametrize("expires", [NOW - 1, NOW, NOW + LIFE_MAX + 1])
async def test_an_invite_ends_within_a_year(place: Place, expires: int) -> None:
    with pytest.raises(Invalid) as refused:
        await place.inviting.create("alice", None, expires, "alice")
    assert refused.value.code == "INVALID_EXPIRATION"
    assert (await place.inviting.create("alice", None, NOW + LIFE_MAX, "alice")).view.state == "open"


async def test_a_note_is_short(place: Place) -> None:
    with pytest.raises(Invalid):
        await place.inviting.create("alice", "x" * 201, None, "alice")
    assert await place.inviting.list(None) == []


async def test_only_its_sender_and_the_operator_revoke_an_invite(place: Place) -> None:
    invite = (await place.inviting.create("alice", None, None, "alice")).view.invite
    for user, wanted in (("bob", invite.id), ("alice", "unknown")):
        with pytest.raises(NoSuch):
            await place.inviting.revoke(user, wanted, "x")
    for user in ("alice", "alice", None):  # again is the same
        assert (await place.inviting.revoke(user, invite.id, "x")).state == "revoked"
    assert await place.inviting.list("bob") == []


# --- address books --------------------------------------------------------------------------------------------------


async def test_a_contact_is_entered_by_hand_once(place: Place) -> None:
    contact = await place.contacts.add("alice", f"carol@{PEER.upper()}", "Carol", None, "alice")
    assert (contact.address, contact.source, contact.verified) == (f"carol@{PEER}", "by hand", False)
    with pytest.raises(Conflict):
        await place.contacts.add("alice", f"carol@{PEER}", None, None, "alice")
    for raw in ("carol", "", f"carol@{SERVER}", "carol@a/b"):
        with pytest.raises(Invalid):
            await place.contacts.add("alice", raw, None, None, "alice")
    assert await place.contacts.everyone("bob") == []


@pytest.mark.parametrize("gesture", ["show", "remove", "auto-accept"])
async def test_a_contact_that_is_not_there_is_said_to_be_none(place: Place, gesture: str) -> None:
    await place.contacts.add("bob", f"carol@{PEER}", None, None, "bob")
    gestures = {
        "show": lambda: place.contacts.show("alice", f"carol@{PEER}"),
        "remove": lambda: place.contacts.remove("alice", f"carol@{PEER}", "alice"),
        "auto-accept": lambda: place.contacts.set_auto_accept("alice", f"carol@{PEER}", True, "alice"),
    }
    with pytest.raises(NoSuch) as refused:
        await gestures[gesture]()
    assert refused.value.code == "NO_SUCH_CONTACT"


async def test_an_address_book_is_taken_along_and_trust_only_when_that_is_said(place: Place) -> None:
    place.answer(200, {"userID": "carol", "email": "carol@uni.example", "name": "Carol"})
    await place.accept()
    await place.contacts.set_auto_accept("alice", f"carol@{PEER}", True, "alice")
    await place.contacts.add("alice", "dan@b.example", None, None, "alice")
    cards = await place.contacts.export("alice")
    assert [card["ietf.org:ocmAddresses"]["primary"].get("source") for card in cards] == ["invite", "direct entry"]
    assert cards == await place.contacts.export("alice"), "uid and all stay the same"
    unusable = [{"@type": "Card"}, {"@type": "Card", "ietf.org:ocmAddresses": {"a": {"address": f"x@{SERVER}"}}}]
    done = await place.contacts.take_in("bob", [*cards, *unusable], "bob")
    assert (done.new, done.known, done.unusable) == (2, 0, 2)
    assert [one.auto_accept for one in await place.contacts.everyone("bob")] == [False, False]
    await place.contacts.remove("bob", f"carol@{PEER}", "bob")
    done = await place.contacts.take_in("bob", cards, "bob", trusted=True)
    assert (done.new, done.known) == (1, 1)
    carol = await place.contacts.show("bob", f"carol@{PEER}")
    assert (carol.auto_accept, carol.source, carol.verified, carol.email) == (
        True,
        "imported",
        False,
        "carol@uni.example",
    )
    with pytest.raises(Invalid):
        await place.contacts.take_in("bob", {"@type": "Group"}, "bob")


async def test_nothing_secret_is_logged(place: Place) -> None:
    place.answer(200, {"userID": "carol"})
    with structlog.testing.capture_logs() as lines:
        await place.accept()
    assert lines
    assert TOKEN not in repr(lines)
