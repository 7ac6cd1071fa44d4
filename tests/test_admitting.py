"""Whose Shares are taken, and which are accepted without asking: what the operator and the user have said."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from fake_peers import FakePeers
from parts import NOW, Clock, new_store, offer, until

from gateway.admitting import CRITERIA, Admitting
from gateway.config.accepting import Demand
from gateway.errors import Invalid, NotAllowed
from gateway.key_pairs import KeyPairs
from gateway.ocm.shares import parse_share
from gateway.outbox import Outbox
from gateway.proof import Evidence, Peer
from gateway.receiving import Receiving
from gateway.store import contacts, events, received_shares, users
from gateway.store.contacts import Contact
from gateway.store.received_shares import ReceivedShare
from gateway.store.sealing import Sealer

SERVER, PEER = "gateway.example", "peer.example"
SIGNED, LABELLED, UNSIGNED = (Peer(PEER, evidence) for evidence in (Evidence.RFC9421, Evidence.LABELLED, Evidence.NONE))


class Looks:
    """Stands for Remote, and keeps what it was asked to look at."""

    def __init__(self) -> None:
        self.at: list[str] = []

    async def probe(self, share_id: str, _timeout: float) -> None:
        self.at.append(share_id)


class Place:
    """The Receiving Server of alice, with the policy of the test."""

    def __init__(self, directory: Path) -> None:
        self.store = new_store(directory)
        self.store.run_sync(lambda tx: users.add(tx, "alice", "hash", 0))
        self.looks = Looks()
        self.peers = FakePeers()
        self.outbox = Outbox(self.store, Clock())
        self.count = 0

    def policy(self, *accept: str, auto: tuple[str, ...] = (), listed: frozenset[str] = frozenset()) -> None:
        async def is_listed(server: str) -> bool:
            return server in listed

        admitting = Admitting(accept, auto, is_listed)
        sealer = Sealer(b"k" * 32)
        arguments = (self.store, self.peers, self.outbox, self.looks, sealer, KeyPairs(self.store, sealer))
        self.receiving = Receiving(*arguments, server=SERVER, policy=admitting, clock=Clock())

    def know(self, address: str, *, auto_accept: bool = False) -> None:
        contact = Contact("alice", address, "x", None, None, "by hand", False, auto_accept, NOW)
        self.store.run_sync(lambda tx: contacts.add(tx, contact))

    async def send(self, peer: Peer = SIGNED, sender: str = f"carol@{PEER}", to: str = "alice") -> ReceivedShare:
        """Send a Share and return it as it is stored."""
        self.count += 1
        webdav = {"uri": "x", "sharedSecret": "s" * 32, "permissions": ["read"]}
        body = offer({"webdav": webdav}, sender, shareWith=f"{to}@{SERVER}", providerId=f"provided-{self.count}")
        self.shown = (await self.receiving.admit(peer, parse_share(body))).recipient_display_name
        return self.shares()[-1]

    def shares(self) -> list[ReceivedShare]:
        shares = self.store.read_sync(lambda tx: received_shares.of_user(tx, None))
        return sorted(shares, key=lambda share: share.provider_id)

    async def refusal(self, **how: Any) -> str:
        with pytest.raises(NotAllowed) as refused:
            await self.send(**how)
        assert self.shares() == []
        return refused.value.code


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    place = Place(tmp_path)
    place.policy()
    place.outbox.start()
    yield place
    await place.outbox.stop()
    place.store.close()


def test_every_demand_of_the_configuration_is_advertised() -> None:
    assert set(CRITERIA) == set(Demand.__args__)


async def test_by_default_a_share_of_anybody_waits_for_its_user(place: Place) -> None:
    for peer in (SIGNED, UNSIGNED):
        assert (await place.send(peer)).state == "pending"
    assert place.looks.at == []


# As owner and sender, in the dialects of peers.md section 2a.
@pytest.mark.parametrize(
    "sender", [f"carol@{PEER}", f"carol@https://{PEER}/", f"carol@{PEER}@{PEER}", f"carol@https://{PEER}@{PEER}"]
)
async def test_contacts_may_send_and_nobody_else(place: Place, sender: str) -> None:
    place.policy("contacts")
    assert await place.refusal(sender=sender) == "NOT_A_CONTACT"
    assert await place.refusal(to="nobody") == "NOT_A_CONTACT", "who is here is told to contacts alone"
    place.know(f"carol@{PEER}")
    assert (await place.send(sender=sender)).state == "pending"
    with pytest.raises(NotAllowed):
        await place.send(sender=f"Carol@{PEER}")


async def test_without_contacts_an_unknown_user_is_said_to_be_one(place: Place) -> None:
    with pytest.raises(Invalid) as refused:
        await place.send(to="nobody")
    assert refused.value.code == "RECIPIENT_NOT_FOUND"


async def test_the_sender_is_told_whom_it_has_reached(place: Place) -> None:
    """draft-07, Share Creation Notification, Response: recipientDisplayName."""
    place.store.run_sync(lambda tx: users.set_identity(tx, "alice", display_name="Alice A."))
    await place.send()
    assert place.shown == "Alice A."


async def test_listed_servers_may_send_and_no_other(place: Place) -> None:
    place.policy("allowlist", listed=frozenset({"other.example"}))
    assert await place.refusal() == "UNTRUSTED_PROVIDER"
    place.policy("allowlist", listed=frozenset({PEER}))
    assert (await place.send()).state == "pending"


async def test_all_that_is_demanded_has_to_be_met(place: Place) -> None:
    place.policy("contacts", "allowlist", listed=frozenset({PEER}))
    assert await place.refusal() == "NOT_A_CONTACT"
    place.know(f"carol@{PEER}")
    place.policy("contacts", "allowlist")
    assert await place.refusal() == "UNTRUSTED_PROVIDER"


@pytest.mark.parametrize(
    ("auto", "peer", "sender", "at_once"),
    [
        ((PEER,), SIGNED, f"carol@{PEER}", True),
        ((PEER,), LABELLED, f"carol@{PEER}", True),
        ((PEER,), UNSIGNED, f"carol@{PEER}", False),
        ((f"carol@{PEER}",), SIGNED, f"carol@{PEER}", True),
        ((f"dan@{PEER}", "other.example"), SIGNED, f"carol@{PEER}", False),
        ((f"{PEER}:8443",), SIGNED, f"carol@{PEER}", False),
    ],
)
async def test_chosen_senders_are_accepted_at_once_if_they_are_proved(
    place: Place, auto: tuple[str, ...], peer: Peer, sender: str, at_once: bool
) -> None:
    place.policy(auto=auto)
    share = await place.send(peer, sender)
    assert (share.state, share.mount) == (("accepted", "data") if at_once else ("pending", None))


@pytest.mark.parametrize(("peer", "at_once"), [(SIGNED, True), (UNSIGNED, False)])
async def test_a_chosen_contact_is_accepted_at_once_if_it_is_proved(place: Place, peer: Peer, at_once: bool) -> None:
    place.know(f"carol@{PEER}", auto_accept=True)
    place.know(f"dan@{PEER}")
    assert ((await place.send(peer)).state == "accepted") == at_once
    assert (await place.send(peer, f"dan@{PEER}")).state == "pending"


async def test_accepting_at_once_tells_the_sender_and_looks_at_the_content(place: Place) -> None:
    place.policy(auto=(PEER,))
    share = await place.send()
    await until(lambda: place.peers.types == ["SHARE_ACCEPTED"] and place.looks.at == [share.id])
    history = place.store.read_sync(lambda tx: events.about(tx, share.id))
    assert [(event.actor, event.action) for event in history][:2] == [
        (PEER, "share.receive"),
        ("(automatic)", "share.accept"),
    ]
    second = await place.send()
    assert second.mount == "data (2)"
