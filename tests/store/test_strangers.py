"""Peers that nobody here has dealt with: who is one, and how many are remembered."""

from __future__ import annotations

import pytest
from parts import NOW, READ, received, sent
from sqlalchemy import Connection

from gateway.store import contacts, peers, received_shares, sent_shares, share_requests
from gateway.store.contacts import Contact
from gateway.store.engine import Store
from gateway.store.share_requests import INCOMING, OUTGOING, RequestRecord

SERVER = "peer.example"


def request(direction: str) -> RequestRecord:
    return RequestRecord(
        id="request-1",
        direction=direction,
        kind="REQUEST_SHARE",
        user="alice",
        server=SERVER,
        owner=f"carol@{SERVER}",
        share_with="alice@gateway.example",
        resource="/data",
        share=None,
        permissions=READ,
        state="pending",
        granted=None,
        created=NOW,
        updated=NOW,
    )


def is_stranger(store: Store) -> bool:
    return store.read_sync(lambda tx: peers.is_stranger(tx, SERVER))


def test_a_server_is_a_stranger_until_somebody_here_deals_with_it(store: Store) -> None:
    assert is_stranger(store)
    store.run_sync(lambda tx: peers.put(tx, SERVER, discovery="{}", seen=NOW, signed_as="rfc9421"))
    assert is_stranger(store), "it has answered, which anybody can"
    store.run_sync(lambda tx: received_shares.add(tx, received(server=SERVER), b"h", b"s"))
    assert is_stranger(store), "it has sent a Share, which anybody can"
    store.run_sync(lambda tx: received_shares.set_state(tx, "received-1", "accepted", NOW))
    assert not is_stranger(store)


def test_a_share_sent_there_makes_an_acquaintance(store: Store) -> None:
    store.run_sync(lambda tx: sent_shares.add(tx, sent(server=SERVER, state="pending"), b"h", b"s"))
    assert not is_stranger(store)


def test_a_contact_there_makes_an_acquaintance(store: Store) -> None:
    """However it came: an invite is dealt with at both servers before anything is shared."""
    contact = Contact("alice", f"Carol@x@{SERVER}", "Carol@x", None, None, "invite sent", False, False, NOW)
    store.run_sync(lambda tx: contacts.add(tx, contact))
    assert not is_stranger(store)
    store.run_sync(lambda tx: contacts.remove(tx, "alice", contact.address))
    assert is_stranger(store)


@pytest.mark.parametrize(("direction", "strange"), [(OUTGOING, False), (INCOMING, True)])
def test_whom_a_user_has_asked_for_a_share_is_no_stranger(store: Store, direction: str, strange: bool) -> None:
    store.run_sync(lambda tx: share_requests.add(tx, request(direction)))
    assert is_stranger(store) is strange


@pytest.mark.parametrize("trust", ["trusted", "blocked"])
def test_whom_the_operator_has_decided_about_is_no_stranger(store: Store, trust: str) -> None:
    store.run_sync(lambda tx: peers.put(tx, SERVER, trust=trust))
    assert not is_stranger(store)


def test_strangers_are_forgotten_but_for_those_seen_last(store: Store) -> None:
    def work(tx: Connection) -> None:
        for number in range(6):
            peers.put(tx, f"stranger-{number}.example", seen=NOW + number, discovery="{}")
        peers.put(tx, "never-seen.example", signed_as="rfc9421")
        peers.put(tx, "blocked.example", trust="blocked")
        for server in ("sent.example", "accepted.example"):
            peers.put(tx, server, seen=0)
        sent_shares.add(tx, sent(server="sent.example", state="revoked"), b"h", b"s")
        received_shares.add(tx, received(server="accepted.example", state="accepted"), b"h", b"s")
        peers.forget_strangers(tx, 2)

    store.run_sync(work)
    kept = [record.server for record in store.read_sync(peers.everyone)]
    acquaintances = ["accepted.example", "blocked.example", "sent.example"]
    assert kept == [*acquaintances, "stranger-4.example", "stranger-5.example"]
