"""Trees that others change while they are moved, and destinations that must survive what fails."""

from __future__ import annotations

import contextlib
import os
from dataclasses import replace
from pathlib import Path

import pytest

from backends.errors import NotFound, OutOfSpace, PermissionDenied, Unsupported
from backends.paths import StoragePath
from gateway.files import Cancelled
from gateway.removing import Incomplete, remove_tree
from gateway.tree import Storage

from .served import Served
from .test_files import Refusing, place, plant, refusing, shown


@pytest.fixture
def served(tmp_path):
    with Served(tmp_path / "site") as door:
        plant(door.data)
        yield door


class Meddling(Refusing):
    """A storage in which another program is at work whenever a file has been opened for reading."""

    def __init__(self, inner, meddle) -> None:
        super().__init__(inner, "", set(), NotFound(""))
        self._meddle = meddle

    def open_read(self, path):
        reader = self._inner.open_read(path)
        self._meddle(path)
        return reader


def meddled(served: Served, meddle) -> Storage:
    storage = served.storages["storage"]
    return Storage(storage.name, Meddling(storage.backend, meddle), storage.pool)


def failed(raised) -> set[str]:
    return {str(failure.place.path) for failure in raised.value.failures}


def test_what_is_created_or_renamed_during_a_move_to_another_storage_stays(served):
    def meddle(path: StoragePath) -> None:
        if path.name == b"\xff":  # the last one
            (served.data / "tree" / "deep" / "new").write_bytes(b"new")
            (served.data / "tree" / "one").rename(served.data / "tree" / "renamed")

    with pytest.raises(Incomplete) as raised:
        served.moves.move(
            place(meddled(served, meddle), "tree"), place(served.storages["memory"], "there"), overwrite=False
        )
    assert shown(served.local) == {"tree": -1, "tree/renamed": 3_000_000, "tree/deep": -1, "tree/deep/new": 3}
    assert failed(raised) == {"tree/deep"}


@pytest.mark.parametrize("name", ["tree/one", "tree/deep/two"])
def test_what_is_changed_after_it_was_copied_stays(served, name):
    def meddle(path: StoragePath) -> None:
        if str(path) == name:
            (served.data / name).write_bytes(b"newer")

    for source in ("tree", name):
        if not (served.data / source).exists():
            plant(served.data)
        target = place(served.storages["memory"], source.replace("/", "-"))
        with pytest.raises(Incomplete) as raised:
            served.moves.move(place(meddled(served, meddle), source), target, overwrite=False)
        assert failed(raised) == {name}
        assert (served.data / name).read_bytes() == b"newer"


def test_what_is_listed_but_cannot_be_had_fails_the_move_and_stays(served):
    storage = refusing(served.storages["storage"], "open_read", {"tree/one"}, NotFound("404"))
    with pytest.raises(Incomplete):
        served.moves.move(place(storage, "tree"), place(served.storages["memory"], "there"), overwrite=False)
    assert (served.data / "tree" / "one").exists()
    assert (served.data / "tree" / "deep" / "two").exists()
    assert shown(served.memory) == {}


def test_links_and_second_names_go_with_a_move_and_what_a_link_leads_to_stays(served):
    (served.data / "outside").mkdir()
    (served.data / "outside" / "file").write_bytes(b"kept")
    (served.data / "tree" / "link").symlink_to("../outside")
    os.link(served.data / "tree" / "one", served.data / "tree" / "deep" / "again")
    assert served.moves.move(
        place(served.storages["storage"], "tree"), place(served.storages["memory"], "there"), overwrite=False
    )
    assert shown(served.local) == {"outside": -1, "outside/file": 4}
    assert shown(served.memory)["there/deep/again"] == 3_000_000


@pytest.mark.parametrize("source", ["tree", "tree/one"])
@pytest.mark.parametrize("error", [OutOfSpace("full"), PermissionDenied("no")])
@pytest.mark.parametrize("method", ["copy", "move"])
def test_a_destination_survives_a_copy_or_move_that_fails(served, source, error, method):
    memory = served.storages["memory"]
    memory.backend.make_directory(StoragePath.parse("old"))
    with memory.backend.open_write(StoragePath.parse("old/kept")) as writer:
        writer.write(b"kept")
        writer.commit()
    before, unread = shown(memory.backend), refusing(served.storages["storage"], "open_read", {"tree/one"}, error)
    work = served.moves.copy if method == "copy" else served.moves.move
    with pytest.raises((type(error), Incomplete)) as raised:
        work(place(unread, source), place(memory, "old"), overwrite=True)
    if isinstance(raised.value, Incomplete):
        assert failed(raised) == {"old/one"}
    assert shown(memory.backend) == before
    assert (served.data / "tree" / "one").exists()


def test_a_destination_survives_a_rename_that_fails(served):
    (served.data / "old").mkdir()
    (served.data / "old" / "kept").write_bytes(b"kept")
    before = shown(served.local)
    storage = refusing(served.storages["storage"], "rename", {"tree"}, PermissionDenied("no"))
    with pytest.raises(PermissionDenied):
        served.moves.move(place(storage, "tree"), place(storage, "old"), overwrite=True)
    assert shown(served.local) == before


def test_a_move_that_has_to_copy_within_one_storage_keeps_the_times(served):
    storage = refusing(served.storages["storage"], "rename", {"tree"}, Unsupported("another file system"))
    os.utime(served.data / "tree" / "deep" / "two", ns=(0, 86_400_000_000_000))
    served.moves.move(place(storage, "tree"), place(storage, "new"), overwrite=False)
    assert (served.data / "new" / "deep" / "two").stat().st_mtime_ns == 86_400_000_000_000


def test_a_cancelled_copy_ends_at_the_next_piece(served):
    answers = iter([False] * 4)

    def cancelled() -> bool:
        return next(answers, True)

    target = place(served.storages["memory"], "there")
    with pytest.raises(Cancelled):
        served.moves.move(place(served.storages["storage"], "tree"), target, overwrite=False, cancelled=cancelled)
    assert shown(served.memory) == {}
    assert Path(served.data / "tree" / "one").exists()


@pytest.mark.parametrize("swapped", ["tree", "tree/deep"])
def test_a_folder_that_becomes_a_link_while_it_is_removed_costs_nobody_anything(served, swapped):
    """Within the same bounds a link may be followed; but what is removed is what was named, and nothing beyond it."""
    (served.data / "other").mkdir()
    (served.data / "other" / "kept").write_bytes(b"kept")
    aside = served.data / "aside"

    class Swapping(Refusing):
        def scan(self, path, batch=1000):
            if str(path) == swapped and not aside.exists():
                (served.data / swapped).rename(aside)
                (served.data / swapped).symlink_to("../" * swapped.count("/") + "other")
            return self._inner.scan(path, batch)

    storage = replace(served.storages["storage"], backend=Swapping(served.local, "", set(), NotFound("")))
    with contextlib.suppress(Incomplete, NotFound):
        remove_tree(place(storage, "tree"))
    assert (served.data / "other" / "kept").read_bytes() == b"kept"
    assert list(aside.iterdir())
