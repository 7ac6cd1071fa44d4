"""Keys of users and of the receivers of Shares: each belongs to one, and goes with it."""

from __future__ import annotations

import pytest
from parts import sent
from sqlalchemy.exc import IntegrityError
from ssh_lines import new_key

from gateway.store import sent_shares, share_keys, user_keys
from gateway.store.engine import Store
from gateway.store.user_keys import UserKey

ONE, TWO = new_key(), new_key()
LOGIN = "s-" + "x" * 22


def test_users_have_keys_of_their_own(store: Store) -> None:
    first, second = UserKey(ONE, "laptop 💻", 1), UserKey(TWO, "", 2)
    store.run_sync(lambda tx: [user_keys.add(tx, "alice", key) for key in (second, first)])
    store.run_sync(lambda tx: user_keys.add(tx, "bob", UserKey(ONE, "shared", 3)))
    assert store.read_sync(lambda tx: user_keys.of_user(tx, "alice")) == [first, second]
    assert store.read_sync(lambda tx: user_keys.exists(tx, "bob", ONE.fingerprint))
    assert not store.read_sync(lambda tx: user_keys.exists(tx, "bob", TWO.fingerprint))
    assert store.run_sync(lambda tx: user_keys.remove(tx, "alice", ONE.fingerprint))
    assert not store.run_sync(lambda tx: user_keys.remove(tx, "alice", ONE.fingerprint))
    assert store.read_sync(lambda tx: user_keys.exists(tx, "bob", ONE.fingerprint))
    store.run_sync(lambda tx: user_keys.remove_of(tx, "bob"))
    assert store.read_sync(lambda tx: [user_keys.of_user(tx, name) for name in ("alice", "bob")]) == [[second], []]


def test_a_key_is_there_once_and_for_somebody(store: Store) -> None:
    store.run_sync(lambda tx: user_keys.add(tx, "alice", UserKey(ONE, "", 1)))
    for user in ("alice", "nobody"):
        with pytest.raises(IntegrityError):
            store.run_sync(lambda tx, user=user: user_keys.add(tx, user, UserKey(ONE, "", 2)))


def test_a_share_has_the_keys_that_its_receiver_named_last(store: Store) -> None:
    share = sent(ssh_login=LOGIN)
    store.run_sync(lambda tx: sent_shares.add(tx, share, b"1", b"sealed"))
    store.run_sync(lambda tx: sent_shares.add(tx, sent("share-2"), b"2", b"sealed"))
    store.run_sync(lambda tx: share_keys.put(tx, "share-1", [ONE, ONE]))
    assert store.read_sync(lambda tx: sent_shares.by_ssh_key(tx, LOGIN, ONE.fingerprint)) == share
    store.run_sync(lambda tx: share_keys.put(tx, "share-1", [TWO]))
    assert store.read_sync(lambda tx: share_keys.of_share(tx, "share-1")) == [TWO]
    assert store.read_sync(lambda tx: share_keys.exists(tx, "share-1", TWO.fingerprint))
    assert not store.read_sync(lambda tx: share_keys.exists(tx, "share-1", ONE.fingerprint))
    assert not store.read_sync(lambda tx: share_keys.exists(tx, "share-2", TWO.fingerprint))
    for login, key in ((LOGIN, ONE), (LOGIN + "x", TWO), ("", TWO)):
        assert store.read_sync(lambda tx, at=(login, key): sent_shares.by_ssh_key(tx, at[0], at[1].fingerprint)) is None
    store.run_sync(lambda tx: share_keys.put(tx, "share-1", []))
    assert store.read_sync(lambda tx: share_keys.of_share(tx, "share-1")) == []


def test_a_log_in_name_is_of_one_share(store: Store) -> None:
    store.run_sync(lambda tx: sent_shares.add(tx, sent(ssh_login=LOGIN), b"1", b"sealed"))
    with pytest.raises(IntegrityError):
        store.run_sync(lambda tx: sent_shares.add(tx, sent("share-2", ssh_login=LOGIN), b"2", b"sealed"))
