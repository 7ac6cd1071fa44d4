"""Rows of Shares come back as they went in, and are found by what identifies them and by nothing less."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from parts import NOW, READ, WRITE, received, sent
from sqlalchemy.exc import IntegrityError

from backends.interface import Entry, Identity, Kind
from backends.paths import StoragePath
from gateway.ocm.shares import Permission
from gateway.ocm.states import SENT_OPEN
from gateway.store import received_shares, sent_shares
from gateway.store.engine import Store
from gateway.store.received_shares import ReceivedShare
from gateway.store.sent_shares import SentShare


def put(store: Store, *shares: SentShare | ReceivedShare) -> None:
    """Add Shares; the hash of the secret of each is its id."""
    for share in shares:
        table: Any = sent_shares if isinstance(share, SentShare) else received_shares
        store.run_sync(lambda tx, share=share, table=table: table.add(tx, share, share.id.encode(), b"sealed"))


# --- sent -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "share",
    [
        sent(),
        sent(permissions=frozenset(Permission), expiration=NOW + 1, recipient_display_name="Bob 🐦", state="sent"),
        sent(ssh_login="s-" + "x" * 22),
        sent(path=StoragePath(), identity=Identity(0, 1), resource_type="file", requires_exchange=True),
        sent(path=StoragePath((b"caf\xe9", b"\xff\xfe \x01%41")), identity=Identity(2**64 - 1, 2**64 - 1)),
        sent(identity=Identity(2**63, 2**63 - 1)),
    ],
)
def test_a_sent_share_comes_back_as_it_went_in(store: Store, share: SentShare) -> None:
    put(store, share)
    assert store.read_sync(lambda tx: sent_shares.get(tx, share.id)) == share
    assert store.read_sync(lambda tx: sent_shares.by_secret_hash(tx, b"share-1")) == share
    assert store.read_sync(lambda tx: sent_shares.of_owner(tx, "alice")) == [share]
    assert store.read_sync(lambda tx: sent_shares.of_owner(tx, None)) == [share]
    assert store.read_sync(lambda tx: sent_shares.of_owner(tx, "bob")) == []


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
@settings(max_examples=20, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_identity_of_the_kernel_fits(store: Store, device: int, inode: int) -> None:
    """Both numbers are unsigned 64-bit there, and a database has signed ones."""
    share = sent(f"{device}-{inode}", identity=Identity(device, inode))
    if store.read_sync(lambda tx: sent_shares.get(tx, share.id)) is None:
        put(store, share)
    found = store.read_sync(lambda tx: sent_shares.get(tx, share.id))
    assert found is not None
    assert found.identity == share.identity


def test_a_provider_id_and_a_secret_belong_to_one_share(store: Store) -> None:
    put(store, sent("one"))
    with pytest.raises(IntegrityError):
        put(store, sent("two", provider_id="one"))
    with pytest.raises(IntegrityError):
        store.run_sync(lambda tx: sent_shares.add(tx, sent("three"), b"one", b"sealed"))


def test_a_share_has_an_owner_that_exists(store: Store) -> None:
    with pytest.raises(IntegrityError):
        put(store, sent(owner="nobody"))


def test_a_share_is_found_for_its_own_server_alone(store: Store) -> None:
    put(store, sent("one"), sent("two", server="other.example"))
    read = store.read_sync
    assert read(lambda tx: sent_shares.by_provider_id(tx, "one", "peer.example")) is not None
    assert read(lambda tx: sent_shares.by_provider_id(tx, "one", "other.example")) is None
    assert read(lambda tx: sent_shares.by_provider_id_and_secret(tx, "one", b"one")) is not None
    assert read(lambda tx: sent_shares.by_provider_id_and_secret(tx, "one", b"two")) is None
    assert read(lambda tx: sent_shares.by_provider_id_and_secret(tx, "two", b"one")) is None


def test_a_wiped_secret_finds_nothing_and_many_may_be_wiped(store: Store) -> None:
    put(store, sent("one"), sent("two"))
    for share_id in ("one", "two"):
        store.run_sync(lambda tx, share_id=share_id: sent_shares.wipe_secret(tx, share_id))
    assert store.read_sync(lambda tx: sent_shares.by_secret_hash(tx, b"one")) is None
    assert store.read_sync(lambda tx: sent_shares.sealed_secret(tx, "one")) is None


def test_each_change_changes_what_it_says(store: Store) -> None:
    put(store, sent(), sent("other"))
    place = StoragePath((b"new", b"\xff"))
    store.run_sync(lambda tx: sent_shares.set_state(tx, "share-1", "revoked", NOW + 1))
    store.run_sync(lambda tx: sent_shares.set_permissions(tx, "share-1", WRITE, NOW + 2))
    store.run_sync(lambda tx: sent_shares.set_expiration(tx, "share-1", NOW + 9, NOW + 3))
    store.run_sync(lambda tx: sent_shares.set_recipient_display_name(tx, "share-1", "Bob"))
    offered = {"requires_exchange": True, "resource_type": "file", "form": "legacy", "protocols": ("webdav", "ssh")}
    store.run_sync(lambda tx: sent_shares.set_offered(tx, "share-1", **offered, ssh_login="s-x"))
    store.run_sync(lambda tx: sent_shares.set_location(tx, "share-1", "second", place, Identity(1, 2**64 - 1)))
    expected = sent(
        state="revoked",
        permissions=WRITE,
        expiration=NOW + 9,
        recipient_display_name="Bob",
        requires_exchange=True,
        offered_type="file",
        offered_form="legacy",
        offered_protocols=("webdav", "ssh"),
        ssh_login="s-x",
        backend="second",
        path=place,
        identity=Identity(1, 2**64 - 1),
        updated=NOW + 3,
    )
    assert store.read_sync(lambda tx: sent_shares.get(tx, "share-1")) == expected
    assert store.read_sync(lambda tx: sent_shares.get(tx, "other")) == sent("other")
    store.run_sync(lambda tx: sent_shares.set_path(tx, "share-1", StoragePath()))
    found = store.read_sync(lambda tx: sent_shares.get(tx, "share-1"))
    assert found == dataclasses.replace(expected, path=StoragePath())


@pytest.mark.parametrize("state", ["pending", "sent", "accepted", "declined", "refused", "revoked"])
def test_what_opens_is_what_has_not_ended_and_not_expired(state: str) -> None:
    share = sent(state=state, expiration=NOW)
    assert share.opens(NOW - 1) == (state in SENT_OPEN)
    assert not share.opens(NOW)
    assert sent(state=state).opens(2**40) == (state in SENT_OPEN)


PATHS = [
    b"",
    b"a",
    b"a/b",
    b"a/b/c",
    b"ab",
    b"a0",
    b"a.b",
    b"a-",
    b"a\xff",
    b"a/\xff",
    b"a/\xff/\xfe",
    b"\xff",
    b"\xff/a",
    b"\xff\xff",
    b"b",
    b"A",
]


@pytest.mark.parametrize("looked_at", [*PATHS, b"a/b/c/d", b"nothing", b"\xfe"])
def test_within_finds_the_path_and_what_lies_below_it_by_whole_components(store: Store, looked_at: bytes) -> None:
    put(store, *(sent(f"share-{number}", path=StoragePath.parse(path)) for number, path in enumerate(PATHS)))
    put(store, sent("elsewhere", backend="other", path=StoragePath.parse(looked_at)))
    where = StoragePath.parse(looked_at)
    found = store.read_sync(lambda tx: sent_shares.within(tx, "storage", where))
    expected = {path for path in PATHS if StoragePath.parse(path).is_within(where)}
    assert {bytes(share.path) for share in found} == expected
    assert len(found) == len(expected)


COMPONENTS = st.lists(st.binary(min_size=1, max_size=3), max_size=3)


@given(st.lists(COMPONENTS, max_size=8), COMPONENTS)
@settings(max_examples=30, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_within_agrees_with_the_paths_themselves(store: Store, many: list[list[bytes]], one: list[bytes]) -> None:
    def path(parts: list[bytes]) -> StoragePath:
        return StoragePath(tuple(part.replace(b"/", b"0").replace(b"\0", b"1").strip(b".\\") or b"x" for part in parts))

    backend = f"backend-{len(store.read_sync(lambda tx: sent_shares.of_owner(tx, None)))}"
    shares = [sent(f"{backend}-{number}", backend=backend, path=path(parts)) for number, parts in enumerate(many)]
    put(store, *shares)
    found = store.read_sync(lambda tx: sent_shares.within(tx, backend, path(one)))
    assert sorted(share.id for share in found) == sorted(
        share.id for share in shares if share.path.is_within(path(one))
    )


def test_within_passes_over_what_has_ended(store: Store) -> None:
    states = ("pending", "sent", "accepted", "declined", "refused", "revoked")
    put(store, *(sent(state, state=state) for state in states))
    found = store.read_sync(lambda tx: sent_shares.within(tx, "storage", StoragePath()))
    assert {share.state for share in found} == set(SENT_OPEN)


# --- received -------------------------------------------------------------------------------------------------------


def test_a_received_share_comes_back_as_it_went_in(store: Store) -> None:
    full = received(
        "full",
        owner_display_name="Caröl",
        description="two\nlines",
        permissions=frozenset(Permission),
        requires_exchange=True,
        uri=None,
        encrypted=True,
        expiration=NOW,
        state="accepted",
        mount="data (2)",
        access="token",
        root_kind="file",
        root_size=2**40,
        root_modified=NOW * 1_000_000_000,
        root_etag="abc",
        probed=NOW,
    )
    put(store, received(), full)
    assert store.read_sync(lambda tx: received_shares.get(tx, "received-1")) == received()
    assert store.read_sync(lambda tx: received_shares.get(tx, "full")) == full
    assert store.read_sync(lambda tx: received_shares.get(tx, "none")) is None


def test_accepted_are_the_live_ones_of_one_user_by_mount(store: Store) -> None:
    put(
        store,
        received("live", state="accepted", mount="live"),
        received("ending", state="accepted", mount="ending", expiration=NOW + 1),
        received("ended", state="accepted", mount="ended", expiration=NOW),
        received("pending"),
        received("revoked", state="revoked"),
        received("bobs", user="bob", state="accepted", mount="live"),
    )
    found = store.read_sync(lambda tx: received_shares.accepted(tx, "alice", NOW))
    assert {name: share.id for name, share in found.items()} == {"live": "live", "ending": "ending"}
    everybodys = store.read_sync(received_shares.every_accepted)
    assert {share.id for share in everybodys} == {"live", "ending", "ended", "bobs"}
    assert store.read_sync(lambda tx: received_shares.taken_mounts(tx, "alice")) == {"live", "ending", "ended"}


def test_a_mount_is_one_share_of_one_user(store: Store) -> None:
    put(store, received("one", mount="data"), received("two", user="bob", mount="data"), received("three"))
    with pytest.raises(IntegrityError):
        store.run_sync(lambda tx: received_shares.set_mount(tx, "three", "data"))
    store.run_sync(lambda tx: received_shares.set_mount(tx, "one", None))
    store.run_sync(lambda tx: received_shares.set_mount(tx, "three", "data"))


def test_one_provider_id_may_stand_for_several_shares_and_the_secret_tells_them_apart(store: Store) -> None:
    """Seafile has one id for everything (peers.md, section 2a)."""
    put(store, received("one"), received("two", created=NOW + 1), received("three", server="other.example"))
    found = store.read_sync(lambda tx: received_shares.by_provider_id(tx, "peer.example", "provided-1"))
    assert [share.id for share in found] == ["one", "two"]
    by_secret = store.read_sync(lambda tx: received_shares.by_provider_id_and_secret(tx, "provided-1", b"two"))
    assert by_secret is not None
    assert by_secret.id == "two"
    assert store.read_sync(lambda tx: received_shares.with_secret(tx, "one", b"one"))
    assert not store.read_sync(lambda tx: received_shares.with_secret(tx, "one", b"two"))


def test_a_root_that_was_never_seen_shows_as_an_empty_folder(store: Store) -> None:
    put(store, received(resource_type="file"))
    entry = received(resource_type="file").root_entry(b"data")
    assert (entry.name, entry.kind, entry.size) == (b"data", Kind.DIRECTORY, 0)
    assert entry.modified == NOW * 1_000_000_000
    root = Entry(b"", Kind.FILE, 7, 123, "etag")
    store.run_sync(lambda tx: received_shares.set_root(tx, "received-1", root, NOW + 5))
    share = store.read_sync(lambda tx: received_shares.get(tx, "received-1"))
    assert share is not None
    assert share.root_entry(b"data") == Entry(b"data", Kind.FILE, 7, 123, "etag")
    assert share.probed == NOW + 5


def test_each_change_of_a_received_share_changes_what_it_says(store: Store) -> None:
    put(store, received())
    store.run_sync(lambda tx: received_shares.set_state(tx, "received-1", "accepted", NOW + 1))
    store.run_sync(lambda tx: received_shares.set_permissions(tx, "received-1", WRITE, NOW + 2))
    store.run_sync(lambda tx: received_shares.set_evidence(tx, "received-1", "callback"))
    store.run_sync(lambda tx: received_shares.set_access(tx, "received-1", "token"))
    expected = received(state="accepted", permissions=WRITE, evidence="callback", access="token", updated=NOW + 2)
    assert store.read_sync(lambda tx: received_shares.of_user(tx, "alice")) == [expected]
    assert store.read_sync(lambda tx: received_shares.sealed_secret(tx, "received-1")) == b"sealed"
    store.run_sync(lambda tx: received_shares.wipe_secret(tx, "received-1"))
    assert store.read_sync(lambda tx: received_shares.sealed_secret(tx, "received-1")) is None
    assert expected.permissions != READ
