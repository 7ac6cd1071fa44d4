"""Listings of received folders are kept as they were, bounded, and end with their Share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from parts import NOW, Clock, new_store, received
from sqlalchemy import Connection

from backends.interface import Entry, Kind
from backends.paths import StoragePath
from gateway import last_seen as module
from gateway.last_seen import ENTRIES, REWRITE, LastSeen, Seen
from gateway.store import last_seen, received_shares, users
from gateway.store.engine import Store
from gateway.store.sealing import secret_hash

ROOT = StoragePath()
FOLDER = Entry(b"data", Kind.DIRECTORY, 0, 5, "f1")
MEMBERS = (
    Entry(b"a.txt", Kind.FILE, 7, NOW * 10**9 + 1, "e1"),
    Entry(b"not \xff utf-8", Kind.FILE, 2**40, -1, 'e"2'),
    Entry(b"sub", Kind.DIRECTORY, 0, 3, "e3"),
)


class Place:
    def __init__(self, store: Store) -> None:
        self.store = store
        self.clock = Clock()
        self.last_seen = LastSeen(store, self.clock)

    def put(self, share_id: str = "received-1") -> None:
        share = received(share_id, provider_id=share_id, state="accepted", mount=share_id)
        self.store.run_sync(lambda tx: received_shares.add(tx, share, secret_hash(share_id), b"sealed"))

    async def keep(self, path: str = "", members: tuple[Entry, ...] = MEMBERS, share: str = "received-1") -> None:
        self.last_seen.keep(share, StoragePath.parse(path) if path else ROOT, FOLDER, members)
        await self.last_seen.write()

    async def find(self, path: str = "", *, deep: bool = True, share: str = "received-1") -> Seen | None:
        return await self.last_seen.find(share, StoragePath.parse(path) if path else ROOT, deep=deep)


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    store = new_store(tmp_path)
    store.run_sync(lambda tx: users.add(tx, "alice", "hash", 0))
    place = Place(store)
    place.put()
    yield place
    store.close()


async def test_a_listing_comes_back_as_it_was(place: Place) -> None:
    await place.keep()
    assert await place.find() == Seen(FOLDER, MEMBERS, NOW)
    assert await place.find(deep=False) == Seen(FOLDER, (), NOW)


async def test_another_process_and_the_next_one_find_it_too(place: Place) -> None:
    await place.keep()
    assert await LastSeen(place.store).find("received-1", ROOT, deep=True) == Seen(FOLDER, MEMBERS, NOW)


async def test_what_was_listed_in_its_folder_is_known_by_itself(place: Place) -> None:
    await place.keep()
    assert await place.find("a.txt") == Seen(MEMBERS[0], (), NOW)
    assert await place.find("sub", deep=False) == Seen(MEMBERS[2], (), NOW)
    assert await place.find("sub") is None, "what is in it was never seen"
    assert await place.find("new.txt") is None
    assert await place.find("a.txt/below") is None


async def test_nothing_is_known_of_another_share(place: Place) -> None:
    await place.keep()
    assert await place.find(share="received-2") is None


async def test_a_newer_listing_takes_the_place_of_the_older(place: Place) -> None:
    await place.keep()
    place.clock.advance(5)
    await place.keep(members=MEMBERS[:1])
    assert await place.find() == Seen(FOLDER, MEMBERS[:1], NOW + 5)


async def test_one_that_has_not_changed_is_written_once_a_minute(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[int] = []
    put = last_seen.put
    monkeypatch.setattr(last_seen, "put", lambda *arguments: (written.append(arguments[4]), put(*arguments)))
    for _ in range(3):
        await place.keep()
    place.clock.advance(REWRITE)
    await place.keep()
    assert written == [NOW, NOW + REWRITE]


async def test_a_folder_that_is_too_large_is_not_kept_and_the_oldest_go(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FOLDERS", 3)
    await place.keep("large", tuple(Entry(b"%d" % n, Kind.FILE, 0, 0, "e") for n in range(ENTRIES + 1)))
    assert await place.find("large") is None
    for number in range(5):
        place.clock.advance(1)
        await place.keep(f"folder-{number}")
    assert [await place.find(f"folder-{number}") is not None for number in range(5)] == [False, False, True, True, True]


async def test_so_many_listings_wait_and_no_more(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAITING", 3)
    for number in range(9):
        place.last_seen.keep("received-1", StoragePath.parse(f"folder-{number}"), FOLDER, MEMBERS)
    assert len(place.last_seen._waiting) == 3


async def test_a_share_that_has_ended_leaves_nothing(place: Place) -> None:
    place.last_seen.keep("received-1", ROOT, FOLDER, MEMBERS)

    def end(tx: Connection) -> None:
        received_shares.set_state(tx, "received-1", "left", NOW)
        last_seen.forget(tx, "received-1")

    place.store.run_sync(end)
    await place.last_seen.write()
    assert await place.find() is None


async def test_what_is_kept_is_written_by_itself(place: Place) -> None:
    running = asyncio.create_task(place.last_seen.run())
    place.last_seen.keep("received-1", ROOT, FOLDER, MEMBERS)
    for _ in range(200):
        if await place.find() is not None:
            break
        await asyncio.sleep(0.01)
    assert await place.find() is not None
    running.cancel()
