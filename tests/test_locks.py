"""Locks in the state: granted once however many ask, kept over a restart, and gone with what they were for."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from parts import NOW, Clock, new_store, sent

from backends.memory import MemoryBackend
from backends.paths import StoragePath
from backends.pool import Pool
from gateway.errors import Locked
from gateway.locks import TIME_DEFAULT, Holder, Lock, Locks, Touch, Wish
from gateway.store import locks as table
from gateway.store import sent_shares
from gateway.store.engine import Store
from gateway.tree import READ_WRITE, Place, Storage

ALICE, CAROL = Holder("user:alice"), Holder(sent_shares.principal("share-1"))
EXCLUSIVE, SHARED = Wish(exclusive=True, deep=True), Wish(exclusive=False, deep=True)


@pytest.fixture
def storage() -> Iterator[Storage]:
    pool = Pool("storage")
    yield Storage("storage", MemoryBackend(), pool)
    pool.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = new_store(tmp_path)
    yield opened
    opened.close()


def at(storage: Storage, path: str) -> Place:
    return Place(storage, StoragePath.parse(path), StoragePath(), READ_WRITE)


def test_of_many_processes_one_gets_an_exclusive_lock(tmp_path: Path, storage: Storage) -> None:
    """Each with a database connection of its own, on the folder, on what is in it and on what it is in."""
    new_store(tmp_path).close()
    stores = [Store(f"sqlite:///{tmp_path / 'state.sqlite'}") for _ in range(4)]
    for round_ in range(10):
        gate = threading.Barrier(len(stores) * 2)
        granted: list[Lock] = []

        def ask(locks: Locks, place: Place, gate: threading.Barrier = gate, granted: list[Lock] = granted) -> None:
            gate.wait(20)
            with contextlib.suppress(Locked):
                granted.append(locks.take(place, EXCLUSIVE, ALICE))

        asking = [
            threading.Thread(target=ask, args=(Locks(store), at(storage, f"{round_}/a{below}")))
            for store in stores
            for below in ("", "/b")
        ]
        for thread in asking:
            thread.start()
        for thread in asking:
            thread.join(30)
        assert len(granted) == 1
    for store in stores:
        store.close()


def test_a_lock_is_there_after_the_database_was_closed(tmp_path: Path, storage: Storage) -> None:
    store = new_store(tmp_path)
    taken = Locks(store).take(at(storage, "a"), Wish(exclusive=False, deep=False, owner="<owner/>"), ALICE)
    store.close()
    again = Store(f"sqlite:///{tmp_path / 'state.sqlite'}")
    assert Locks(again).on(at(storage, "a")) == [taken]
    again.close()


def test_time_is_counted_from_the_grant_and_from_each_refresh(store: Store, storage: Storage) -> None:
    clock = Clock()
    locks, place = Locks(store, clock), at(storage, "a")
    taken = locks.take(place, EXCLUSIVE, ALICE)
    assert locks.seconds_left(taken) == TIME_DEFAULT
    clock.advance(TIME_DEFAULT - 1)
    holder = Holder(ALICE.principal, frozenset({taken.token}))
    locks.refresh(place, None, holder)
    clock.advance(TIME_DEFAULT - 1)
    with pytest.raises(Locked):
        locks.require(place, Touch.CONTENT, CAROL)
    locks.require(place, Touch.CONTENT, holder)
    clock.advance(1)
    locks.require(place, Touch.CONTENT, CAROL)
    assert locks.take(place, EXCLUSIVE, CAROL).expires == int(clock()) + TIME_DEFAULT
    with pytest.raises(Locked):
        locks.require(place, Touch.CONTENT, holder)
    assert store.read_sync(lambda tx: table.get(tx, taken.token, 0)) is None


@pytest.mark.parametrize(
    ("wish", "touch", "path", "is_in_the_way"),
    [
        (EXCLUSIVE, Touch.CONTENT, "a", True),
        (EXCLUSIVE, Touch.CONTENT, "a/b/c", True),
        (EXCLUSIVE, Touch.CONTENT, "ab", False),
        (EXCLUSIVE, Touch.CONTENT, "", False),
        (EXCLUSIVE, Touch.TREE, "", True),
        (EXCLUSIVE, Touch.NAME, "a/b", True),
        (EXCLUSIVE, Touch.NAME, "a", False),
        (EXCLUSIVE, Touch.NEW_NAME, "a/b", True),
        (SHARED, Touch.CONTENT, "a", True),
        (Wish(exclusive=True, deep=False), Touch.CONTENT, "a", True),
        (Wish(exclusive=True, deep=False), Touch.CONTENT, "a/b", False),
        (Wish(exclusive=True, deep=False), Touch.NAME, "a/b", True),
        (Wish(exclusive=True, deep=False), Touch.NAME, "a/b/c", False),
        (Wish(exclusive=True, deep=False), Touch.TREE, "", True),
    ],
)
def test_what_a_lock_on_a_is_in_the_way_of(store, storage, wish, touch, path, is_in_the_way) -> None:
    locks = Locks(store)
    taken = locks.take(at(storage, "a"), wish, ALICE)
    if is_in_the_way:
        with pytest.raises(Locked) as refused:
            locks.require(at(storage, path), touch, CAROL)
        assert refused.value.roots == (b"a",)
    else:
        locks.require(at(storage, path), touch, CAROL)
    locks.require(at(storage, path), touch, Holder(ALICE.principal, frozenset({taken.token})))
    locks.require(at(Storage("other", storage.backend, storage.pool), path), touch, CAROL)


def test_names_that_are_not_utf8_are_locked_like_others(store: Store, storage: Storage) -> None:
    locks = Locks(store)
    place = Place(storage, StoragePath((b"\xff\x00".replace(b"\x00", b"\x01"), b"\xfe")), StoragePath(), READ_WRITE)
    locks.take(place, EXCLUSIVE, ALICE)
    with pytest.raises(Locked) as refused:
        locks.require(place, Touch.CONTENT, CAROL)
    assert refused.value.roots == (b"\xff\x01/\xfe",)


def test_the_row_of_a_lock_is_as_it_was_granted(store: Store) -> None:
    lock = Lock("urn:x:1", "storage", sent().path, True, False, ALICE.principal, None, NOW)
    store.run_sync(lambda tx: table.add(tx, lock))
    assert store.read_sync(lambda tx: table.get(tx, "urn:x:1", NOW - 1)) == lock
    assert store.read_sync(lambda tx: table.get(tx, "urn:x:1", NOW)) is None
