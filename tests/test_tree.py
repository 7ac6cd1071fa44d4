"""Names become places: what a Grant sees at a path, without asking any disk or peer for the way there."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from parts import NOW, READ, WRITE, Clock, new_store, received

from backends.errors import InvalidPath, NotFound, StorageError, Unavailable
from backends.interface import Entry, Identity, Kind
from backends.memory import MemoryBackend
from backends.paths import StoragePath
from backends.pool import Pool
from gateway import mounts
from gateway import tree as module
from gateway.access import Grant, SharedResource
from gateway.changes import Changes, Touched
from gateway.config import MountConfig
from gateway.mounts import Mounts
from gateway.ocm.shares import Permission
from gateway.store import received_shares, users
from gateway.store.received_shares import ReceivedShare
from gateway.tree import Place, Storage, Tree, VirtualFolder

ALICE = Grant("user:alice", "alice", frozenset(Permission), None)
CAROL = Grant("user:carol", "carol", frozenset(Permission), None)


def path(text: str | bytes) -> StoragePath:
    return StoragePath.parse(text)


class Switch(MemoryBackend):
    """Memory whose answers can be replaced by an error, or kept back; other programs may write there."""

    features = replace(MemoryBackend.features, foreign_changes=True)

    def __init__(self) -> None:
        super().__init__()
        self.error: Exception | None = None
        self.delay = 0.0
        self.asked = 0

    def stat(self, path: StoragePath) -> Entry:
        self.asked += 1
        time.sleep(self.delay)
        if self.error:
            raise self.error
        return super().stat(path)


class Site:
    """Three mounts on one backend and one on another; `own` is a directory of each user's."""

    def __init__(self, directory: Path) -> None:
        self.clock = Clock()
        self.store = new_store(directory)
        self.store.run_sync(lambda tx: [users.add(tx, name, "hash", 0) for name in ("alice", "carol")])
        self.backend, self.other = Switch(), Switch()
        for text in ("data", "data/sub", "users", "users/alice", "lab"):
            self.backend.make_directory(path(text))
        self.storages = {
            "storage": Storage("storage", self.backend, Pool("storage", threads=4)),
            "other": Storage("other", self.other, Pool("other", threads=4)),
        }
        self.mounts = Mounts(
            [
                MountConfig(name="home", backend="storage", path="", rights="write"),
                MountConfig(name="own", backend="storage", path="users/{user}", rights="write"),
                MountConfig(name="lab", backend="storage", path="lab", rights="read", groups=("lab",)),
                MountConfig(name="Übung", backend="other", path="", rights="read", users=("alice",)),
            ],
            {"lab": ["alice"]},
        )
        self.reached: list[str] = []
        self.changes = Changes(self.store)
        self.tree = Tree(self.store, self.mounts, self.storages, self.remote, self.changes, self.clock)

    async def remote(self, share: ReceivedShare) -> Storage:
        self.reached.append(share.id)
        return self.storages["other"]

    def receive(self, share_id: str, **changes: Any) -> None:
        share = received(share_id, **({"state": "accepted", "mount": share_id} | changes))
        self.store.run_sync(lambda tx: received_shares.add(tx, share, share_id.encode(), b"sealed"))

    async def names(self, grant: Grant = ALICE, where: str = "/") -> list[str]:
        folder = await self.tree.resolve(grant, path(where))
        assert isinstance(folder, VirtualFolder)
        return [child.name.decode() for child in folder.children]

    async def place(self, where: str | bytes, grant: Grant = ALICE) -> Place:
        found = await self.tree.resolve(grant, path(where))
        assert isinstance(found, Place)
        return found

    async def top(self) -> VirtualFolder:
        found = await self.tree.resolve(ALICE, StoragePath())
        assert isinstance(found, VirtualFolder)
        return found


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Site]:
    place = Site(tmp_path)
    yield place
    for storage in place.storages.values():
        storage.pool.close()
    place.store.close()


# --- mounts ---------------------------------------------------------------------------------------------------------


def test_mounts_are_for_their_users_and_groups_or_for_everybody(place: Site) -> None:
    assert set(place.mounts.of("alice")) == {b"home", b"own", b"lab", "Übung".encode()}
    assert set(place.mounts.of("carol")) == {b"home", b"own"}
    assert place.mounts.of("alice")[b"own"].path == path("users/alice")
    assert place.mounts.of("carol")[b"own"].path == path("users/carol")


@pytest.mark.parametrize(
    ("user", "mount", "backend", "where", "rights"),
    [
        ("alice", "home", "storage", "data/x", WRITE),
        ("alice", "lab", "storage", "lab/x", READ),
        ("alice", "lab", "storage", "lab", READ),
        ("alice", "lab", "storage", "labour", WRITE),
        ("alice", "lab", "storage", "data", WRITE),
        ("alice", "Übung", "other", "x", READ),
        ("alice", "gone", "other", "x", READ),
        ("alice", "home", "other", "x", READ),
        ("carol", "home", "other", "x", frozenset()),
        ("alice", "home", "gone", "x", frozenset()),
        ("carol", "own", "storage", "users/carol", WRITE),
    ],
)
def test_rights_at_a_place_are_those_of_the_mount_it_was_shared_from_or_of_others_that_lead_there(
    place: Site, user: str, mount: str, backend: str, where: str, rights: frozenset[Permission]
) -> None:
    assert place.mounts.rights_at(user, mount, backend, path(where)) == rights
    assert place.tree.rights_at(user, mount, backend, path(where)) == rights


def test_users_whose_mounts_are_remembered_are_bounded(place: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounts, "USERS_KEPT", 2)
    for number in range(5):
        assert place.mounts.of(f"user{number}")[b"own"].path == path(f"users/user{number}")
    assert len(place.mounts._known) == 2


# --- a user's tree --------------------------------------------------------------------------------------------------


async def test_a_path_leads_through_its_mount(place: Site) -> None:
    found = await place.place("home/data/sub")
    assert (found.storage.name, found.path, found.root) == ("storage", path("data/sub"), StoragePath())
    assert found.rights == WRITE
    assert found.may_write
    assert not found.is_root
    own = await place.place("own")
    assert (own.path, own.root, own.is_root) == (path("users/alice"), path("users/alice"), True)
    lab = await place.place("lab/x")
    assert (lab.path, lab.may_write) == (path("lab/x"), False)


async def test_names_that_are_not_utf8_lead_where_they_say(place: Site) -> None:
    found = await place.place(b"home/caf\xe9/\xff")
    assert found.path == StoragePath((b"caf\xe9", b"\xff"))
    assert (await place.place("Übung/x")).storage.name == "other"


@pytest.mark.parametrize("where", ["none", "Home", "Übung", "lab/x", b"home\xff", "received/none", "received/none/x"])
async def test_what_a_user_does_not_have_is_not_there(place: Site, where: str | bytes) -> None:
    with pytest.raises(NotFound):
        await place.tree.resolve(CAROL, path(where))


async def test_the_way_there_asks_no_storage(place: Site) -> None:
    place.backend.delay = place.other.delay = 5
    begun = time.monotonic()
    await place.place("home/data/sub/x/y")
    await place.place("Übung")
    assert time.monotonic() - begun < 1
    assert place.backend.asked == place.other.asked == 0


async def test_a_path_that_becomes_too_long_is_refused(place: Site) -> None:
    with pytest.raises(InvalidPath):
        await place.tree.resolve(ALICE, path(b"/".join([b"own", *[b"x" * 101] * 40, b"y" * 5])))


# --- the two top levels ---------------------------------------------------------------------------------------------


async def test_the_top_has_the_mounts_and_received(place: Site) -> None:
    assert await place.names() == ["home", "own", "lab", "Übung", "received"]
    top = await place.top()
    assert top.entry.name == b""
    assert {child.kind for child in top.children} == {Kind.DIRECTORY}


async def test_a_personal_directory_that_is_missing_hides_its_mount_and_is_not_made(place: Site) -> None:
    assert await place.names(CAROL) == ["home", "received"]
    with pytest.raises(NotFound):
        place.backend.stat(path("users/carol"))
    place.backend.make_directory(path("users/carol"))
    assert await place.names(CAROL) == ["home", "own", "received"]


async def test_a_common_directory_that_is_missing_is_shown(place: Site) -> None:
    """So that it is seen to be missing: perhaps it is not mounted."""
    place.backend.remove(path("lab"))
    assert "lab" in await place.names()


async def test_a_storage_that_hangs_delays_the_top_for_a_moment_only(place: Site) -> None:
    await place.top()
    place.other.delay = 1.5
    begun = time.monotonic()
    top = await place.top()
    assert time.monotonic() - begun < 1
    shown = next(child for child in top.children if child.name == "Übung".encode())
    assert shown.etag == place.changes.look("other", place.other, StoragePath()).etag, "as it was seen last"


async def test_a_storage_that_hangs_is_asked_for_the_top_no_more_until_it_has_answered(
    place: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither do those wait who come later, nor do their questions fill the line that others stand in."""
    released, asked = threading.Event(), []

    def hang(path: StoragePath) -> Entry:
        asked.append(path)
        assert released.wait(20)
        return MemoryBackend.stat(place.other, path)

    before = place.other.asked
    monkeypatch.setattr(place.other, "stat", hang)
    await place.top()
    monkeypatch.setattr(module, "PROBE_WAIT", 20.0)
    begun = time.monotonic()
    for _ in range(5):
        await place.top()
    assert (len(asked), time.monotonic() - begun < 20) == (1, True)
    monkeypatch.undo()
    released.set()
    while place.other.asked == before:
        await place.top()


def hang(place: Site, monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Let looks at the storage `other` wait for the event that is returned."""
    released = threading.Event()
    monkeypatch.setattr(place.other, "stat", lambda _path: released.wait(20) and place.backend.stat(path("lab")))
    return released


async def test_nobody_waits_for_a_root_that_was_seen_and_tells_no_changes(
    place: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is looked at for the next one."""
    monkeypatch.setattr(place.other, "features", MemoryBackend.features)
    before = await place.top()
    released = hang(place, monkeypatch)
    monkeypatch.setattr(module, "PROBE_WAIT", 20.0)
    begun = time.monotonic()
    assert await place.top() == before
    assert time.monotonic() - begun < 20
    released.set()


async def test_a_change_of_our_own_shows_at_once_though_the_storage_hangs_meanwhile(
    place: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(place.other, "features", MemoryBackend.features)
    before = await place.top()
    released = hang(place, monkeypatch)
    await place.changes.made([Touched("other", path("new"))])
    begun = time.monotonic()
    after = [(await place.top()).entry.etag for _ in range(5)]
    assert before.entry.etag != after[0] == after[4]
    assert time.monotonic() - begun < 1
    released.set()


async def test_a_storage_that_has_failed_delays_nobody_because_of_what_we_have_changed_there(
    place: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a dead link one question after the other fails in its time, and so do changes, which may have been made."""
    monkeypatch.setattr(place.other, "features", MemoryBackend.features)
    before = await place.top()
    place.other.error = Unavailable("no answer")
    await place.changes.made([Touched("other", path("one"))])
    assert (await place.top()).entry.etag != before.entry.etag
    released = hang(place, monkeypatch)
    monkeypatch.setattr(module, "PROBE_WAIT", 20.0)
    monkeypatch.setattr(module, "CHANGED_WAIT", 20.0)
    await place.changes.made([Touched("other", path("two"))])
    begun = time.monotonic()
    await place.top()
    assert time.monotonic() - begun < 20
    released.set()


async def test_a_change_of_our_own_shows_once_where_nobody_waits_for_the_root(
    place: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The root's own etag may tell of it too, and is looked at again before that is shown with the new generation."""
    monkeypatch.setattr(module, "CHANGED_WAIT", 20.0)  # however slow this machine is
    place.other.features = MemoryBackend.features
    before = await place.top()
    place.other.make_directory(path("new"))
    await place.changes.made([Touched("other", path("new"))])
    place.other.delay = 0.05
    after = await place.top()
    assert after.entry.etag != before.entry.etag
    for _ in range(3):
        await asyncio.sleep(0.1)
        assert (await place.top()).entry.etag == after.entry.etag


@pytest.mark.parametrize("error", [Unavailable("the NAS is away"), StorageError("odd")])
async def test_a_storage_that_fails_is_shown_as_it_was_seen_last(place: Site, error: Exception) -> None:
    before = await place.top()
    place.other.error = place.backend.error = error
    assert await place.top() == before


async def test_a_storage_that_was_never_seen_is_an_empty_folder(place: Site) -> None:
    place.other.error = Unavailable("the NAS is away")
    shown = next(child for child in (await place.top()).children if child.name == "Übung".encode())
    assert (shown.kind, shown.size, shown.modified, shown.etag) == (Kind.DIRECTORY, 0, 0, "unseen")


async def test_the_tops_etag_changes_when_something_below_it_does(place: Site) -> None:
    etags = [(await place.top()).entry.etag]
    place.backend.make_directory(path("new"))
    etags.append((await place.top()).entry.etag)
    place.receive("one")
    etags.append((await place.top()).entry.etag)
    assert len(set(etags)) == 3
    assert (await place.top()).entry.etag == etags[-1]


# --- received Shares ------------------------------------------------------------------------------------------------


async def test_received_lists_what_is_accepted_and_live_and_asks_no_peer(place: Site) -> None:
    place.receive("one", root_kind="file", root_size=7, root_modified=5, root_etag="e")
    place.receive("two (2)")
    place.receive("pending", state="pending", mount=None)
    place.receive("expired", expiration=NOW)
    place.receive("carols", user="carol")
    folder = await place.tree.resolve(ALICE, path("received"))
    assert isinstance(folder, VirtualFolder)
    assert [(child.name, child.kind) for child in folder.children] == [
        (b"one", Kind.FILE),
        (b"two (2)", Kind.DIRECTORY),
    ]
    assert folder.children[0] == Entry(b"one", Kind.FILE, 7, 5, "e")
    assert await place.names(CAROL, "received") == ["carols"]
    assert place.reached == []


@pytest.mark.parametrize(
    ("permissions", "rights"),
    [(READ, READ), (WRITE, WRITE), (frozenset(Permission), WRITE), (READ | {Permission.SHARE}, READ)],
)
async def test_a_received_share_is_a_place_with_its_own_rights(
    place: Site, permissions: frozenset[Permission], rights: frozenset[Permission]
) -> None:
    place.receive("one", permissions=permissions)
    found = await place.place("received/one/a/b")
    assert (found.storage.name, found.path, found.root) == ("other", path("a/b"), StoragePath())
    assert (found.rights, found.received) == (rights, "one")
    assert place.reached == ["one"]


@pytest.mark.parametrize("where", [b"received/\xff", b"received/one\xff", "received/One", "received/on"])
async def test_only_the_very_name_leads_to_a_received_share(place: Site, where: str | bytes) -> None:
    """Also not what an undecodable byte would be replaced by."""
    place.receive("one")
    place.receive("\N{REPLACEMENT CHARACTER}")
    with pytest.raises(NotFound):
        await place.tree.resolve(ALICE, path(where))
    assert place.reached == []


# --- the Resource of a Share ----------------------------------------------------------------------------------------


def shared(where: str, kind: Kind, identity: Identity | None, *, backend: str = "storage") -> Grant:
    resource = SharedResource("share-1", backend, path(where), kind, identity, "alice")
    return Grant("share:share-1", "bob@peer.example", READ, resource)


async def test_a_share_sees_its_resource_alone_and_as_the_root(place: Site) -> None:
    grant = shared("data", Kind.DIRECTORY, place.backend.stat(path("data")).identity)
    root = await place.place("", grant)
    assert (root.path, root.root, root.is_root, root.rights) == (path("data"), path("data"), True, READ)
    below = await place.place("sub/x", grant)
    assert below.path == path("data/sub/x")
    for where in ("received", "home", "received/one"):
        assert (await place.place(where, grant)).path == path(f"data/{where}")
    below.check()


async def test_a_share_on_a_backend_that_is_not_configured_is_unavailable(place: Site) -> None:
    with pytest.raises(Unavailable, match="not configured"):
        await place.tree.resolve(shared("data", Kind.DIRECTORY, None, backend="gone"), StoragePath())


async def test_another_folder_in_its_place_is_never_served(place: Site) -> None:
    found = await place.place("sub", shared("data", Kind.DIRECTORY, place.backend.stat(path("data")).identity))
    found.check()
    place.backend.rename(path("data"), path("away"), overwrite=False)
    with pytest.raises(Unavailable, match="not in its place"):
        found.check()
    place.backend.make_directory(path("data"))
    with pytest.raises(Unavailable, match="another directory"):
        found.check()


async def test_a_file_may_be_replaced_by_a_file_and_by_nothing_else(place: Site) -> None:
    def write() -> None:
        with place.backend.open_write(path("file")) as writer:
            writer.commit()

    write()
    found = await place.place("", shared("file", Kind.FILE, place.backend.stat(path("file")).identity))
    place.backend.remove(path("file"))
    write()
    found.check()
    place.backend.remove(path("file"))
    place.backend.make_directory(path("file"))
    with pytest.raises(Unavailable):
        found.check()


async def test_a_users_own_place_has_nothing_to_check(place: Site) -> None:
    found = await place.place("home/nothing")
    place.backend.error = Unavailable("away")
    found.check()


# --- looking, and showing -------------------------------------------------------------------------------------------


async def test_a_look_says_what_is_there_or_that_it_is_not_known(place: Site) -> None:
    assert await place.tree.look("alice", "storage", path("data")) == place.backend.stat(path("data"))
    with pytest.raises(NotFound):
        await place.tree.look("alice", "storage", path("nothing"))
    assert await place.tree.look("alice", "gone", path("data")) is None
    place.backend.error = Unavailable("away")
    assert await place.tree.look("alice", "storage", path("data")) is None
    place.backend.error, place.backend.delay = None, 0.5
    begun = time.monotonic()
    assert await place.tree.look("alice", "storage", path("data")) is None
    assert time.monotonic() - begun < 0.45


async def test_a_look_that_nobody_waits_for_any_more_is_not_reported_as_lost(place: Site) -> None:
    lost: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: lost.append(context))
    place.backend.error, place.backend.delay = Unavailable("away"), 0.4
    assert await place.tree.look("alice", "storage", path("data")) is None
    looking = asyncio.create_task(place.tree.look("alice", "storage", path("data")))
    await asyncio.sleep(0.05)
    looking.cancel()
    await asyncio.gather(looking, return_exceptions=True)
    await asyncio.sleep(0.6)
    assert lost == []


@pytest.mark.parametrize(
    ("mount", "where", "shown"),
    [
        ("home", b"data/sub", "/home/data/sub"),
        ("home", b"", "/home"),
        ("own", b"users/alice/x", "/own/x"),
        ("own", b"moved/away", "/own/moved/away"),
        ("gone", b"data", "/gone/data"),
        ("home", b"caf\xe9\n", "/home/caf%E9%0A"),
    ],
)
def test_a_place_is_shown_as_its_user_sees_it(place: Site, mount: str, where: bytes, shown: str) -> None:
    assert place.tree.shown_path("alice", mount, path(where)) == shown
