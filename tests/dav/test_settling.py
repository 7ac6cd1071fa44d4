"""What could not be finished is settled while its process lives on, and shows; what belongs to files goes with it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from backends.paths import StoragePath
from gateway.settling import Settling
from gateway.store import engine, properties, replacements
from gateway.store import moves as moves_table

from .served import Served
from .test_changes import etag_of_other
from .test_moved_parents import MOST, NEW, OLD, Interrupted, disk, named, plant, send

PATIENCE = 50  # milliseconds that a locked database is waited for
COLOUR = "{my:}colour"


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    monkeypatch.setattr(engine, "BUSY_TIMEOUT", PATIENCE)
    with Served(tmp_path / "site", wrap=Interrupted) as served:
        yield served


def settle(served: Served) -> None:
    """Do what the running gateway does every few minutes."""

    async def gone(_name: str) -> None:
        return None

    served.run(Settling(served.store, served.moves, served.storages, gone).once())


def is_settled(served: Served) -> bool:
    return not any(served.store.read_sync(table.unfinished) for table in (replacements, moves_table))


@contextmanager
def locked_later(served: Served, number: int) -> Iterator[None]:
    """Lock the database after the change of storage with this number, for all of the block that comes then."""
    with closing(
        sqlite3.connect(served.data.parent / "state.db", isolation_level=None, check_same_thread=False)
    ) as state:
        served.backend.at(number, True, lambda: state.execute("BEGIN IMMEDIATE"))
        yield


@pytest.mark.parametrize("method", ["COPY", "MOVE"])
def test_a_replacement_that_could_not_say_that_it_has_ended_is_settled_by_its_own_process(served, method):
    left = 0
    for number in range(1, MOST):
        base = f"round{number}"
        (served.data / base).mkdir()
        source = plant(served.data, f"{base}/new", NEW)
        plant(served.data, f"{base}/old", OLD)
        with locked_later(served, number):
            status = send(served, method, f"{base}/new", f"{base}/old").status
        if not served.backend.has_happened:
            break
        assert status == 503
        left += not is_settled(served)
        settle(served)
        found = {path: content for path, content in disk(served.data).items() if path.split("/")[0] == base}
        done = named(f"{base}/old", NEW) | (source if method == "COPY" else {})
        assert found in ({base: None} | done, {base: None} | source | named(f"{base}/old", OLD))
        assert is_settled(served)
    assert left > 1


def test_a_move_that_could_not_say_that_it_is_done_is_finished_by_its_own_process(served):
    plant(served.data, "folder", NEW)
    share = served.share("folder/deep")
    with locked_later(served, 1):
        assert send(served, "MOVE", "folder", "moved").status == 503
    assert not is_settled(served)
    settle(served)
    assert str(served.stored(share).path) == "moved/deep"
    assert is_settled(served)


def leave(served: Served, *names: str, is_copy: bool = True) -> None:
    """Leave a replacement of `folder/old` in the storage in memory, where a process died; `names` are there."""
    memory = served.memory
    for name in ("folder", *(f"folder/{name}" for name in names)):
        memory.make_directory(StoragePath.parse(name))
        memory.make_directory(StoragePath.parse(f"{name}/of-{name.rpartition('/')[2]}"))
    paths = {name: StoragePath.parse(f"folder/{name}") for name in ("target", "aside", "arriving")}
    values = paths | {"backend": "memory", "is_copy": is_copy, "identity": None, "process": "dead"}
    served.store.run_sync(lambda tx: replacements.add(tx, **values))


def colour(served: Served, *paths: str) -> None:
    for path in map(StoragePath.parse, paths):
        served.store.run_sync(lambda tx, path=path: properties.put(tx, "memory", path, {COLOUR: "<c xmlns='my:'/>"}))


def coloured(served: Served) -> set[str]:
    return set(map(str, served.store.read_sync(lambda tx: properties.below(tx, "memory", StoragePath()))))


@pytest.mark.parametrize("names", [("aside", "arriving"), ("target", "aside")], ids=["undone", "done"])
def test_what_is_settled_shows_in_the_etags_above(served, names):
    leave(served, *names)
    before = etag_of_other(served)
    settle(served)
    assert etag_of_other(served) != before
    after = etag_of_other(served)
    settle(served)
    assert etag_of_other(served) == after


def test_a_move_that_is_settled_shows_in_the_etags_above(served):
    old, new = StoragePath.parse("folder/old"), StoragePath.parse("folder/new")
    for path in (old.parent, new):
        served.memory.make_directory(path)
    identity = served.memory.stat(new).identity
    served.store.run_sync(lambda tx: moves_table.add(tx, "memory", old, new, identity, "dead"))
    before = etag_of_other(served)
    settle(served)
    assert etag_of_other(served) != before


def test_a_copy_that_came_without_what_belongs_to_it_has_nothing_of_what_it_replaced(served):
    leave(served, "target", "aside")
    colour(served, "folder", "folder/target", "folder/target/of-aside", "folder/target2")
    settle(served)
    assert coloured(served) == {"folder", "folder/target2"}


def test_what_a_copy_has_brought_stays_when_only_the_old_content_is_left_to_remove(served):
    leave(served, "target", "aside", is_copy=False)
    colour(served, "folder/target/of-target")
    settle(served)
    assert coloured(served) == {"folder/target/of-target"}
    assert [str(path) for path in everything(served)] == [
        "folder",
        "folder/of-folder",
        "folder/target",
        "folder/target/of-target",
    ]


@pytest.mark.parametrize("names", [("aside", "arriving"), ("target", "arriving"), ("target",)])
def test_what_stays_in_its_place_keeps_what_belongs_to_it(served, names):
    """Also where the copy had not begun yet."""
    leave(served, *names)
    colour(served, "folder/target", "folder/target/of-target")
    settle(served)
    assert coloured(served) == {"folder/target", "folder/target/of-target"}
    assert is_settled(served)


def test_a_row_of_which_nothing_is_found_is_kept_and_said_once(served, log):
    leave(served)
    settle(served)
    settle(served)
    assert not is_settled(served)
    assert [line["path"] for line in log if line["event"] == "replacement.unsettled"] == ["folder/target"]
    served.memory.make_directory(StoragePath.parse("folder/aside"))
    settle(served)
    assert served.memory.stat(StoragePath.parse("folder/target")).is_directory
    assert is_settled(served)


def everything(served: Served) -> list[StoragePath]:
    found, pending = [], [StoragePath()]
    while pending:
        here = pending.pop()
        with served.memory.scan(here) as scan:
            inside = [here.child(entry.name) for entry in scan]
        found += inside
        pending += inside
    return sorted(found)
