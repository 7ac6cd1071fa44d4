"""Generations of folders: each change gives every folder above it a value that it never had, in every process alike."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from parts import new_store, until

from backends.errors import NotFound, Unavailable
from backends.interface import Entry, Kind
from backends.local import LocalBackend
from backends.memory import MemoryBackend
from backends.paths import StoragePath
from backends.pool import Pool
from gateway import changes as module
from gateway.changes import Changes, Touched
from gateway.files import remove_tree
from gateway.living import Living
from gateway.noticing import Noticed
from gateway.store import changes as table
from gateway.store.engine import Store
from gateway.tree import Place, Storage

ROOT = StoragePath()


def path(text: str) -> StoragePath:
    return StoragePath.parse(text)


class Process:
    """One of the processes that work on a state."""

    def __init__(self, directory: Path, store: Store, **options: int) -> None:
        self.store = store
        self.living = Living(directory / "processes")
        self.changes = Changes(store, **options)
        self.changes.start(["storage"], self.living)

    def change(self, *places: str, tree: bool = False, storage: str = "storage") -> None:
        asyncio.run(self.changes.made([Touched(storage, path(place), tree) for place in places]))

    def of(self, place: str = "", storage: str = "storage") -> int:
        return self.changes.generation(storage, path(place)).own

    def end(self) -> None:
        self.changes.close()
        self.living.close()

    def die(self) -> None:
        self.living.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = new_store(tmp_path)
    yield store
    store.close()


@pytest.fixture
def process(tmp_path: Path, store: Store) -> Process:
    return Process(tmp_path, store)


def test_every_folder_above_a_change_is_renewed_and_no_other(process: Process) -> None:
    assert [process.of(place) for place in ("", "a", "a/b")] == [0, 0, 0]
    process.change("a/b/file")
    assert process.of() == process.of("a") == process.of("a/b") > 0
    assert [process.of(place) for place in ("a/b/file", "a/c", "ab", "b")] == [0, 0, 0, 0]
    assert process.of(storage="other") == 0
    first = process.of("a/b")
    process.change("a/c/file")
    assert process.of() == process.of("a") == process.of("a/c") > process.of("a/b") == first


def test_a_tree_renews_all_that_is_in_it_whether_it_was_ever_changed_or_not(process: Process) -> None:
    process.change("a/b/file")
    process.change("a", tree=True)
    assert len({process.of(place) for place in ("", "a", "a/b", "a/b/c", "a/never/seen")}) == 1
    assert process.of("b") == 0
    entries = [Entry(name, Kind.DIRECTORY, 0, 0, "e") for name in (b"b", b"new")]
    above = process.changes.generation("storage", path("a"))
    for entry, shown in zip(entries, process.changes.members("storage", path("a"), above, entries), strict=True):
        whole = path("a").child(entry.name)
        assert shown == module.shown(entry, process.changes.generation("storage", whole).own)
    process.change("a/b/file")
    assert process.of("a/b") > process.of("a/b/c")


def test_a_file_is_shown_as_it_is(process: Process) -> None:
    process.change("a/file")
    above = process.changes.generation("storage", path("a"))
    files = [Entry(b"file", Kind.FILE, 1, 0, "e")]
    assert process.changes.members("storage", path("a"), above, files) == files


def test_changes_that_come_together_are_written_down_together(process: Process) -> None:
    """Each is answered after its row is there, and the values grow from one writing to the next."""
    seen: list[tuple[str, int]] = []

    async def change(name: str) -> None:
        await process.changes.made([Touched("storage", path(f"{name}/file"))])
        seen.append((name, process.of(name)))

    async def burst() -> None:
        await asyncio.gather(*(change(f"f{number}") for number in range(50)))

    asyncio.run(burst())
    assert sorted(seen) == sorted((f"f{number}", process.of(f"f{number}")) for number in range(50))
    assert all(value > 0 for _, value in seen)
    assert process.of() == max(value for _, value in seen)
    assert len({value for _, value in seen}) < 50


def test_a_change_that_was_cut_off_at_the_end_is_made_up_for(tmp_path: Path, store: Store, process: Process) -> None:
    process.change("a/file")
    before = process.of("a")

    async def cut() -> None:
        async with process.changes._turn:  # another batch is being written
            asking = asyncio.ensure_future(process.changes.made([Touched("storage", path("a/file"))]))
            await asyncio.sleep(0.01)
            asking.cancel()

    asyncio.run(cut())
    process.end()
    assert Process(tmp_path, store).of("a") > before


def test_values_grow_though_the_clock_does_not(tmp_path: Path, store: Store) -> None:
    process = Process(tmp_path, store, clock=lambda: 5)
    seen = []
    for _ in range(3):
        process.change("a/file")
        seen.append(process.of("a"))
    assert seen == [5, 6, 7]


def test_two_processes_see_each_others_changes_at_once(tmp_path: Path, store: Store, process: Process) -> None:
    other_store = Store(str(store._engine.url))
    other = Process(tmp_path, other_store)
    seen = {process.of()}
    for number in range(20):
        (process, other)[number % 2].change("a/b/file")
        assert process.of("a/b") == other.of("a/b") == process.of() == other.of()
        seen.add(process.of())
    assert len(seen) == 21
    other.end()
    other_store.close()


def test_a_pruned_folder_shows_a_new_value(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PRUNE_EVERY", 10)
    process = Process(tmp_path, store, rows=50)
    process.change("never/pruned", storage="other")
    kept = process.of("never", storage="other")
    seen: dict[str, set[int]] = {place: {0} for place in ("f0", "f1", "untouched")}
    last = dict.fromkeys(seen, 0)
    for number in range(120):
        process.change(f"f{number}/file")
        assert store.read_sync(lambda tx: len(tx.execute(table.changes.select()).all())) <= 62
        for place in seen:
            if (now := process.of(place)) != last[place]:
                assert now not in seen[place]
                seen[place].add(now)
                last[place] = now
    assert len(seen["untouched"]) in (2, 3), "once for each time that rows were dropped"
    assert process.of("never", storage="other") == kept


def test_nothing_changes_with_a_good_end(tmp_path: Path, store: Store, process: Process) -> None:
    process.change("a/file")
    before = [process.of(place) for place in ("", "a", "b")]
    process.end()
    assert list((tmp_path / "processes").iterdir()) == []
    again = Process(tmp_path, store)
    assert [again.of(place) for place in ("", "a", "b")] == before


def test_everything_changes_once_when_a_process_has_died(tmp_path: Path, store: Store, process: Process) -> None:
    process.change("a/file")
    process.change("file", storage="received:x")
    living = Process(tmp_path, store)
    places = [("", "storage"), ("a", "storage"), ("never", "storage"), ("", "received:x")]
    before = [process.of(*place) for place in places]
    process.die()
    assert [living.of(*place) for place in places] == before
    third = Process(tmp_path, store)
    after = [third.of(*place) for place in places]
    assert all(new > old for new, old in zip(after, before, strict=True))
    fourth = Process(tmp_path, store)
    assert [fourth.of(*place) for place in places] == after, "the dead are forgotten, the living are none"


def test_a_change_that_could_not_be_written_is_made_up_for(process: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    process.change("a/file")
    before = process.of("a")
    with monkeypatch.context() as patch:

        def full(*_args: object) -> int:
            raise Unavailable("the state is full")

        patch.setattr(table, "touch", full)
        process.change("a/file")
    assert process.of("a") == before
    process.change("b/file")
    assert process.of("a") > before


async def test_a_change_is_written_down_though_no_thread_is_free_to_look(process: Process) -> None:
    class Busy:
        async def own_change(self, _path: object, *, tree: bool) -> None:
            raise Unavailable("the line of waiting operations is full")

    process.changes._noticing["storage"] = Busy()
    await process.changes.made([Touched("storage", path("a/file"))])
    assert process.of("a") > 0


async def test_what_is_owed_is_written_down_without_another_change(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TRY_AGAIN", 0.05)
    with monkeypatch.context() as patch:

        def full(*_args: object) -> int:
            raise Unavailable("the state is full")

        patch.setattr(table, "touch", full)
        await process.changes.made([Touched("storage", path("a/file"))])
        await asyncio.sleep(0.12)
        assert process.of("a") == 0
    await until(lambda: process.of("a") > 0)


def test_a_change_that_never_could_be_written_is_one_for_the_next_process(
    tmp_path: Path, store: Store, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    process.change("a/file")
    before = process.of("a")
    with monkeypatch.context() as patch:

        def full(*_args: object) -> int:
            raise Unavailable("the state is full")

        patch.setattr(table, "touch", full)
        process.change("a/file")
        process.end()
    assert Process(tmp_path, store).of("a") > before


def test_a_row_answers_for_what_was_noticed_before_it_and_for_nothing_else(tmp_path: Path, store: Store) -> None:
    now = 100
    process = Process(tmp_path, store, clock=lambda: now)
    process.change("a/file")  # at 100
    now = 1000

    def noticed(at: int, *, tree: bool = False) -> bool:
        before = process.of("a/in it" if tree else "a")
        process.changes._noticed("storage", [Noticed(path("a"), at, tree)])
        return process.of("a/in it" if tree else "a") != before

    assert not noticed(100)
    assert noticed(101)  # and written down at 1000
    now = 2000
    assert not noticed(1000)
    assert noticed(1000, tree=True), "the row was for the folder alone"
    now = 3000
    assert not noticed(2000, tree=True)
    now = 50  # the clock was set back
    assert noticed(50)
    assert noticed(50)


NAMES = st.sampled_from(["a", "b", "c"])
FOLDERS = st.lists(NAMES, max_size=3).map("/".join)


@settings(max_examples=60, stateful_step_count=30, deadline=None)
class Model(RuleBasedStateMachine):
    """Random operations by two processes, deaths and prunings; what clients have seen is the model.

    A folder's content is a number that grows with every change below it. Whoever has seen a folder's ETag with one
    content must never see it with another; and where nothing happens, none changes.
    """

    @initialize()
    def begin(self) -> None:
        self.directory = Path(tempfile.mkdtemp())
        self.store = new_store(self.directory)
        self.backend = MemoryBackend()
        self.pool = Pool("model", threads=1)
        self.processes = [Process(self.directory, self.store) for _ in range(2)]
        self.content: dict[StoragePath, int] = {}
        self.seen: dict[tuple[StoragePath, str], int] = {}
        self.operations = 0

    def made(self, who: int, place: StoragePath, *, tree: bool = False) -> None:
        """Tell a process of it, and let the content of every folder above be another one."""
        asyncio.run(self.processes[who].changes.made([Touched("storage", place, tree)]))
        self.operations += 1
        folder = place
        while not folder.is_root:
            folder = folder.parent
            self.content[folder] = self.operations

    def is_folder(self, place: StoragePath) -> bool:
        return self.exists(place) and self.backend.stat(place).is_directory

    def exists(self, place: StoragePath) -> bool:
        try:
            self.backend.stat(place)
        except NotFound:
            return False
        return True

    @rule(who=st.integers(0, 1), folder=FOLDERS, name=NAMES)
    def make_folder(self, who: int, folder: str, name: str) -> None:
        place = path(folder).child(name.encode())
        if self.is_folder(place.parent) and not self.exists(place):
            self.backend.make_directory(place)
            self.made(who, place)

    @rule(who=st.integers(0, 1), folder=FOLDERS)
    def write(self, who: int, folder: str) -> None:
        place = path(folder).child(b"file")
        if self.is_folder(place.parent):
            with self.backend.open_write(place) as writer:
                writer.commit()
            self.made(who, place)

    @rule(who=st.integers(0, 1), source=FOLDERS, into=FOLDERS, name=NAMES)
    def move(self, who: int, source: str, into: str, name: str) -> None:
        old, new = path(source), path(into).child(name.encode())
        fits = self.is_folder(old) and not old.is_root and self.is_folder(new.parent) and not new.is_within(old)
        if fits and not self.exists(new):
            self.backend.rename(old, new, overwrite=False)
            for place in (old, new):
                self.made(who, place, tree=True)
            for folder in [folder for folder in self.content if folder.is_within(old)]:
                self.content[new.join(folder.relative_to(old))] = self.content.pop(folder)

    @rule(who=st.integers(0, 1), folder=FOLDERS)
    def remove(self, who: int, folder: str) -> None:
        place = path(folder)
        if self.is_folder(place) and not place.is_root:
            remove_tree(Place(Storage("storage", self.backend, self.pool), place, ROOT, frozenset()))
            self.content = {path: value for path, value in self.content.items() if not path.is_within(place)}
            self.made(who, place)

    @rule(who=st.integers(0, 1))
    def die(self, who: int) -> None:
        self.processes[who].die()
        self.processes[who] = Process(self.directory, self.store)

    @rule(who=st.integers(0, 1))
    def restart(self, who: int) -> None:
        before = self.shown(who)
        self.processes[who].end()
        self.processes[who] = Process(self.directory, self.store)
        assert self.shown(who) == before

    @rule()
    def prune(self) -> None:
        self.store.run_sync(lambda tx: table.prune(tx, "storage", 2, 0))

    def folders(self, place: StoragePath = ROOT) -> Iterator[StoragePath]:
        yield place
        with self.backend.scan(place) as scan:
            for entry in scan:
                if entry.is_directory:
                    yield from self.folders(place.child(entry.name))

    def shown(self, who: int) -> dict[StoragePath, str]:
        changes = self.processes[who].changes
        return {folder: changes.look("storage", self.backend, folder).etag for folder in self.folders()}

    @invariant()
    def both_see_the_same_and_never_an_old_etag_for_new_content(self) -> None:
        if not hasattr(self, "processes"):
            return
        shown = self.shown(0)
        assert shown == self.shown(1)
        for folder, etag in shown.items():
            content = self.content.get(folder, 0)
            assert self.seen.setdefault((folder, etag), content) == content, f"{folder}: an ETag came back"

    def teardown(self) -> None:
        self.pool.close()
        self.store.close()
        shutil.rmtree(self.directory)


TestModel = Model.TestCase


def test_only_storage_that_others_write_to_is_followed(tmp_path: Path, process: Process) -> None:
    pool = Pool("storage", threads=1)
    process.changes.follow("memory", MemoryBackend(), pool, 8)
    (tmp_path / "data").mkdir()
    process.changes.follow("storage", LocalBackend(tmp_path / "data", tmp_path / "journals"), pool, 8)
    assert process.changes._noticing.keys() == {"storage"}
    process.end()
    pool.close()
