"""Users, peers, tokens, signatures, moves, roots and events: each does what its sentence says."""

from __future__ import annotations

import pytest
from parts import NOW, received
from sqlalchemy.exc import IntegrityError

from backends.interface import Identity
from backends.paths import StoragePath
from gateway.store import (
    backend_roots,
    events,
    exchanged_tokens,
    moves,
    peers,
    received_shares,
    seen_signatures,
    users,
)
from gateway.store.engine import Store
from gateway.store.events import Event
from gateway.store.exchanged_tokens import StoredToken
from gateway.store.moves import Move
from gateway.store.peers import PeerRecord
from gateway.store.users import User


def test_a_disabled_user_has_no_password_until_enabled(store: Store) -> None:
    assert store.read_sync(lambda tx: users.password_hash(tx, "alice")) == "hash"
    assert store.run_sync(lambda tx: users.set_disabled(tx, "alice", True))
    assert store.read_sync(lambda tx: users.password_hash(tx, "alice")) is None
    assert not store.read_sync(lambda tx: users.is_enabled(tx, "alice"))
    assert store.read_sync(lambda tx: users.get(tx, "alice")) == User("alice", disabled=True, created=0)
    assert store.run_sync(lambda tx: users.set_disabled(tx, "alice", False))
    assert store.run_sync(lambda tx: users.set_password_hash(tx, "alice", "new"))
    assert store.read_sync(lambda tx: users.password_hash(tx, "alice")) == "new"


def test_an_unknown_user_is_told_apart_from_a_change(store: Store) -> None:
    assert store.read_sync(lambda tx: users.get(tx, "nobody")) is None
    assert not store.run_sync(lambda tx: users.set_disabled(tx, "nobody", True))
    assert not store.run_sync(lambda tx: users.set_password_hash(tx, "nobody", "hash"))
    assert not store.read_sync(lambda tx: users.is_enabled(tx, "nobody"))
    with pytest.raises(IntegrityError):
        store.run_sync(lambda tx: users.add(tx, "alice", "other", 1))
    assert [user.name for user in store.read_sync(users.everybody)] == ["alice", "bob"]


def test_what_is_known_of_a_peer_grows_column_by_column(store: Store) -> None:
    assert store.read_sync(lambda tx: peers.get(tx, "peer.example")) == PeerRecord("peer.example")
    assert not store.read_sync(lambda tx: peers.is_known(tx, "peer.example"))
    store.run_sync(lambda tx: peers.put(tx, "peer.example", trust="blocked"))
    store.run_sync(lambda tx: peers.put(tx, "peer.example", signed_as="rfc9421", seen=NOW))
    store.run_sync(lambda tx: peers.put(tx, "a.example", discovery="{}"))
    expected = PeerRecord("peer.example", trust="blocked", signed_as="rfc9421", seen=NOW)
    assert store.read_sync(lambda tx: peers.get(tx, "peer.example")) == expected
    assert [record.server for record in store.read_sync(peers.everyone)] == ["a.example", "peer.example"]
    assert store.run_sync(lambda tx: peers.forget(tx, "peer.example"))
    assert not store.run_sync(lambda tx: peers.forget(tx, "peer.example"))


def test_the_token_of_a_share_is_replaced_and_forgotten(store: Store) -> None:
    for share_id in ("one", "two"):
        share = received(share_id)
        store.run_sync(lambda tx, share=share: received_shares.add(tx, share, None, None))
        store.run_sync(lambda tx, share=share: exchanged_tokens.put(tx, share.id, b"first", NOW, NOW + 1))
    store.run_sync(lambda tx: exchanged_tokens.put(tx, "one", b"second", NOW + 1, NOW + 300))
    store.run_sync(lambda tx: exchanged_tokens.forget_expired(tx, NOW + 1))
    expected = StoredToken(b"second", NOW + 1, NOW + 300)
    assert store.read_sync(lambda tx: exchanged_tokens.get(tx, "one")) == expected
    assert store.read_sync(lambda tx: exchanged_tokens.get(tx, "two")) is None
    store.run_sync(lambda tx: exchanged_tokens.forget(tx, "one"))
    assert store.read_sync(lambda tx: exchanged_tokens.get(tx, "one")) is None


def test_a_token_belongs_to_a_share_that_exists(store: Store) -> None:
    with pytest.raises(IntegrityError):
        store.run_sync(lambda tx: exchanged_tokens.put(tx, "none", b"token", NOW, NOW + 1))


def test_a_signature_counts_once_for_its_window(store: Store) -> None:
    def remember(value: bytes, now: int) -> bool:
        return store.run_sync(lambda tx: seen_signatures.remember(tx, value, now + 600, now))

    assert remember(b"one", NOW)
    assert not remember(b"one", NOW + 599)
    assert remember(b"two", NOW + 599)
    assert remember(b"one", NOW + 600)
    assert not remember(b"two", NOW + 600)


def test_a_signature_that_two_processes_get_at_once_counts_once(store: Store) -> None:
    other = Store(str(store._engine.url))
    answers = [
        one._submit(lambda tx, number=number: seen_signatures.remember(tx, bytes([number]), NOW + 600, NOW))
        for number in range(20)
        for one in (store, other)
    ]
    assert sum(answer.result(20) for answer in answers) == 20
    other.close()


def test_unfinished_moves_come_back_in_the_order_in_which_they_were_begun(store: Store) -> None:
    source, target = StoragePath((b"caf\xe9", b"a")), StoragePath((b"\xff",))
    identity = Identity(2**64 - 1, 5)
    first = store.run_sync(lambda tx: moves.add(tx, "storage", source, target, identity))
    second = store.run_sync(lambda tx: moves.add(tx, "storage", target, source, None))
    expected = [Move(first, "storage", source, target, identity), Move(second, "storage", target, source, None)]
    assert store.read_sync(moves.unfinished) == expected
    store.run_sync(lambda tx: moves.remove(tx, first))
    assert store.read_sync(moves.unfinished) == expected[1:]


def test_the_identity_of_a_root_is_the_one_recorded_last(store: Store) -> None:
    assert store.read_sync(lambda tx: backend_roots.get(tx, "storage")) is None
    store.run_sync(lambda tx: backend_roots.put(tx, "storage", "1:2"))
    store.run_sync(lambda tx: backend_roots.put(tx, "storage", "3:4"))
    assert store.read_sync(lambda tx: backend_roots.get(tx, "storage")) == "3:4"


def test_the_history_of_one_subject_is_in_order(store: Store) -> None:
    for at, subject in ((NOW, "one"), (NOW, "two"), (NOW, "one")):
        store.run_sync(
            lambda tx, at=at, subject=subject: events.add(
                tx, at=at, actor="alice", action="made", subject=subject, n=at
            )
        )
    assert store.read_sync(lambda tx: events.about(tx, "one")) == [Event(NOW, "alice", "made", {"n": NOW})] * 2
    assert store.read_sync(lambda tx: events.about(tx, "three")) == []
