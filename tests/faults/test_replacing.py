"""COPY and MOVE over a folder, killed before and after each change that they make to the storage."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from parts import new_store
from planted import Shown, disk, plant
from sqlalchemy import Connection

from backends.errors import Unavailable
from backends.local import LocalBackend
from backends.paths import StoragePath
from backends.pool import Pool
from gateway.files import Moves
from gateway.living import Living
from gateway.store import properties, replacements
from gateway.store.engine import Store
from gateway.tree import Storage

from ..dav.test_files import refusing
from .nursery import Nursery

MOST = 40  # changes of storage in one operation here, at most
FOLDER: Shown = {"": None, "/a": b"a", "/deep": None, "/deep/b": b"b"}
OTHER: Shown = {"": None, "/c": b"c", "/d": None}
FILE: Shown = {"": b"file"}


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with Nursery("tests.faults.replacing_child:perform") as nursery:
        yield nursery


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("new", "old"), [(FOLDER, OTHER), (FOLDER, FILE), (FILE, FOLDER)], ids=["dd", "df", "fd"])
@pytest.mark.parametrize("method", ["copy", "move"])
def test_a_kill_at_any_change_leaves_the_old_or_the_new(nursery, tmp_path, method, new, old, after):
    store, root = new_store(tmp_path), tmp_path / "root"
    belonged = set()
    for number in range(1, MOST):
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir()
        source = plant(root, "new", new)
        before = source | plant(root, "old", old)
        finished = {path.replace("new", "old", 1): content for path, content in source.items()}
        if method == "copy":
            finished |= source
        paint(store, "new", "old")
        nursery.fork(directory=str(tmp_path), method=method, number=number, after=after)
        assert list(nursery.last_words()) == []
        with restarted(tmp_path) as (moves, storage):
            moves.replay({"storage": storage})
        assert disk(root) in ([before, finished] if nursery.was_killed else [finished]), number
        if disk(root) == before:
            assert painted(store) == {"new": "new", "old": "old"}
        else:
            belonged.add(painted(store).get("old"))
        if not nursery.was_killed:
            break
    store.close()
    assert "new" in belonged
    assert "old" not in belonged, "what was replaced has left its properties"
    assert 3 < number < MOST - 1, "the operation was not killed at each of its changes"


def paint(store: Store, *names: str) -> None:
    """Give each of these alone a property that tells what it belonged to."""

    def work(tx: Connection) -> None:
        properties.remove_below(tx, "storage", StoragePath())
        for name in names:
            properties.put(tx, "storage", StoragePath.parse(name), {"{my:}name": name})

    store.run_sync(work)


def painted(store: Store) -> dict[str, str]:
    found = store.read_sync(lambda tx: properties.below(tx, "storage", StoragePath()))
    return {str(path): values["{my:}name"] for path, values in found.items()}


@contextlib.contextmanager
def restarted(directory: Path) -> Iterator[tuple[Moves, Storage]]:
    """What the next process has; it leaves nothing in state."""
    store, living = Store(f"sqlite:///{directory / 'state.sqlite'}"), Living(directory / "processes")
    living.bury(lambda: None)
    storage = Storage("storage", LocalBackend(directory / "root", directory / "journals"), Pool("storage"))
    yield Moves(store, living), storage
    assert store.read_sync(replacements.unfinished) == []
    living.close()
    assert list((directory / "processes").iterdir()) == []
    storage.backend.close()
    storage.pool.close()
    store.close()


def interrupted(directory: Path, process: str | None, *, is_copy: bool = True) -> None:
    """Leave what a process leaves that dies after it has set the old content aside."""
    store = new_store(directory)
    names = {name: StoragePath.parse(name) for name in ("target", "aside", "arriving")}
    values = names | {"backend": "storage", "is_copy": is_copy, "identity": None, "process": process}
    store.run_sync(lambda tx: replacements.add(tx, **values))
    store.close()
    (directory / "root").mkdir()
    plant(directory / "root", "aside", FOLDER)
    plant(directory / "root", "arriving", OTHER)


def test_a_row_is_left_alone_while_its_process_lives(tmp_path):
    living = Living(tmp_path / "processes")
    interrupted(tmp_path, living.name)
    before = disk(tmp_path / "root")
    store, other = Store(f"sqlite:///{tmp_path / 'state.sqlite'}"), Living(tmp_path / "processes")
    storage = Storage("storage", LocalBackend(tmp_path / "root", tmp_path / "journals"), Pool("storage"))
    Moves(store, other).replay({"storage": storage})
    assert disk(tmp_path / "root") == before
    living.close()
    Moves(store, other).replay({"storage": storage})
    assert disk(tmp_path / "root") == {f"target{path}": content for path, content in FOLDER.items()}
    store.close()


def test_old_content_whose_name_was_taken_meanwhile_comes_back_beside_it(tmp_path):
    interrupted(tmp_path, "a process that is dead")
    root = tmp_path / "root"
    (root / "target").write_bytes(b"somebody else's")
    with restarted(tmp_path) as (moves, storage):
        moves.replay({"storage": storage})
    assert (root / "target").read_bytes() == b"somebody else's"
    (restored,) = (path for path in root.iterdir() if path.name != "target")
    assert restored.name.startswith("target.restored-")
    assert (restored / "deep" / "b").read_bytes() == b"b"


def test_old_content_is_kept_where_nobody_knows_what_became_of_the_new(tmp_path):
    """A moved folder may have been removed, under either name, by others since."""
    interrupted(tmp_path, None, is_copy=False)
    shutil.rmtree(tmp_path / "root" / "arriving")
    with restarted(tmp_path) as (moves, storage):
        moves.replay({"storage": storage})
    assert disk(tmp_path / "root") == {f"target{path}": content for path, content in FOLDER.items()}


def test_what_cannot_be_settled_is_kept_for_the_next_time(tmp_path):
    interrupted(tmp_path, None)
    with restarted(tmp_path) as (moves, storage):
        before = disk(tmp_path / "root")
        for hung in (refusing(storage, "stat", {"arriving"}, Unavailable("hung")), None):
            moves.replay({} if hung is None else {"storage": hung})
            assert disk(tmp_path / "root") == before
        moves.replay({"storage": storage})
