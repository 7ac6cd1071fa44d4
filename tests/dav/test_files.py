"""Removing, copying and moving of trees, as every door does it, and what becomes of the Shares in them."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from parts import new_store

from backends.errors import (
    AlreadyExists,
    NotFound,
    OutOfSpace,
    PermissionDenied,
    StorageError,
    Unavailable,
    Unsupported,
)
from backends.local import LocalBackend
from backends.memory import MemoryBackend
from backends.paths import StoragePath
from backends.pool import Pool
from gateway.errors import Conflict, NotAllowed
from gateway.files import Moves
from gateway.living import Living
from gateway.ocm.shares import Permission
from gateway.removing import Incomplete, remove_tree
from gateway.store import moves as moves_table
from gateway.store import replacements, sent_shares
from gateway.tree import READ_WRITE, Place, Storage

from .served import Served

ROOT = StoragePath()


def place(storage: Storage, path: str) -> Place:
    return Place(storage, StoragePath.parse(path), ROOT, READ_WRITE)


@pytest.fixture
def local(tmp_path) -> Storage:
    (tmp_path / "root").mkdir()
    return Storage("local", LocalBackend(tmp_path / "root", tmp_path / "journals"), Pool("local"))


@pytest.fixture
def moves(tmp_path) -> Iterator[Moves]:
    """Copying and moving with a state of its own."""
    store, living = new_store(tmp_path), Living(tmp_path / "processes")
    yield Moves(store, living)
    assert store.read_sync(replacements.unfinished) == []
    living.close()
    store.close()


@pytest.fixture
def data(local, tmp_path) -> Path:
    return tmp_path / "root"


@pytest.fixture
def memory() -> Storage:
    return Storage("memory", MemoryBackend(), Pool("memory"))


def plant(directory: Path) -> None:
    (directory / "tree" / "deep" / "deeper").mkdir(parents=True)
    (directory / "tree" / "empty").mkdir()
    (directory / "tree" / "one").write_bytes(b"1" * 3_000_000)
    (directory / "tree" / "deep" / "two").write_bytes(b"2")
    (directory / "tree" / "deep" / "deeper" / os.fsdecode(b"\xff")).write_bytes(b"3")


def shown(backend, path: StoragePath = ROOT) -> dict[str, int]:
    """Return every file and folder below `path` with its size, -1 for folders."""
    found = {}
    with backend.scan(path) as scan:
        for entry in list(scan):
            child = path.child(entry.name)
            found[str(child)] = -1 if entry.is_directory else entry.size
            if entry.is_directory:
                found |= shown(backend, child)
    return found


class Refusing:
    """A backend that refuses `method` for the paths given, with `error`."""

    def __init__(self, inner, method: str, paths: set[str], error: StorageError) -> None:
        self._inner, self._method, self._paths, self._error = inner, method, paths, error

    def __getattr__(self, name):
        inner = getattr(self._inner, name)
        if name != self._method:
            return inner

        def refuse(path, *arguments, **options):
            if str(path) in self._paths:
                raise self._error
            return inner(path, *arguments, **options)

        return refuse


def refusing(storage: Storage, method: str, paths: set[str], error: StorageError) -> Storage:
    return replace(storage, backend=Refusing(storage.backend, method, paths, error))


def test_a_tree_is_removed_with_everything_in_it(local, data):
    plant(data)
    remove_tree(place(local, "tree"))
    assert shown(local.backend) == {}
    with pytest.raises(NotFound):
        remove_tree(place(local, "tree"))


def test_a_link_is_removed_and_not_what_it_leads_to(local, data):
    plant(data)
    (data / "links").mkdir()
    (data / "links" / "to-tree").symlink_to("../tree")
    (data / "links" / "to-itself").symlink_to(".")
    (data / "links" / "out").symlink_to("/etc")
    with pytest.raises((Incomplete, StorageError)):  # a link that leaves cannot be seen, and so not be removed
        remove_tree(place(local, "links"))
    (data / "links" / "out").unlink()
    remove_tree(place(local, "links"))
    assert not (data / "links").exists()
    assert (data / "tree" / "deep" / "two").read_bytes() == b"2"


@pytest.fixture
def little_recursion() -> Iterator[int]:
    """Let Python recurse 150 levels more than now, so that a deep tree need not be a huge one."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack(0)) + 150)
    yield 200
    sys.setrecursionlimit(limit)


def test_a_tree_deeper_than_python_recurses_is_copied_and_removed(memory, little_recursion, moves):
    depth = little_recursion
    path = ROOT
    for _ in range(depth):
        path = path.child(b"d")
        memory.backend.make_directory(path)
    assert moves.copy(place(memory, "d"), place(memory, "e"), overwrite=False)
    assert memory.backend.stat(StoragePath((b"e", *path.parts[1:]))).is_directory
    for name in ("d", "e"):
        remove_tree(place(memory, name))
        with pytest.raises(NotFound):
            memory.backend.stat(StoragePath.parse(name))


def test_what_cannot_be_removed_is_named_and_the_rest_is_gone(local, data):
    plant(data)
    storage = refusing(local, "remove", {"tree/one", "tree/deep/two"}, PermissionDenied("no"))
    with pytest.raises(Incomplete) as raised:
        remove_tree(place(storage, "tree"))
    assert {str(failure.place.path) for failure in raised.value.failures} == {"tree/one", "tree/deep/two"}
    assert set(shown(local.backend)) == {"tree", "tree/one", "tree/deep", "tree/deep/two"}


def test_a_root_that_cannot_be_removed_is_the_error_itself(local, data):
    plant(data)
    with pytest.raises(PermissionDenied):
        remove_tree(place(refusing(local, "remove", {"tree/one"}, PermissionDenied("no")), "tree/one"))
    with pytest.raises(Unavailable):
        remove_tree(place(refusing(local, "remove", {"tree/deep/two"}, Unavailable("gone")), "tree"))


@pytest.mark.parametrize("other", [False, True])
def test_a_tree_is_copied_whole(local, memory, data, other, moves):
    plant(data)
    target = memory if other else local
    assert moves.copy(place(local, "tree"), place(target, "copy"), overwrite=False) is True
    expected = {name.replace("tree", "copy", 1): size for name, size in shown(local.backend).items() if "tree" in name}
    found = {name: size for name, size in shown(target.backend).items() if name.startswith("copy")}
    assert found == expected
    with target.backend.open_read(StoragePath.parse("copy/one")) as reader:
        assert reader.read_at(0, 4_000_000) == b"1" * 3_000_000


def test_a_shallow_copy_of_a_folder_is_an_empty_one(local, data, moves):
    plant(data)
    moves.copy(place(local, "tree"), place(local, "copy"), overwrite=False, recurse=False)
    assert shown(local.backend, StoragePath.parse("copy")) == {}


def test_what_is_there_is_replaced_only_when_that_is_wanted(local, data, moves):
    plant(data)
    (data / "file").write_bytes(b"f")
    (data / "folder").mkdir()
    (data / "folder" / "old").write_bytes(b"o")
    for source, target in (("file", "folder"), ("tree", "folder"), ("tree", "file"), ("file", "tree/one")):
        with pytest.raises(AlreadyExists):
            moves.copy(place(local, source), place(local, target), overwrite=False)
    assert moves.copy(place(local, "tree"), place(local, "folder"), overwrite=True) is False
    assert "folder/old" not in shown(local.backend)
    assert moves.copy(place(local, "file"), place(local, "folder"), overwrite=True) is False
    assert shown(local.backend)["folder"] == 1
    assert moves.copy(place(local, "tree/deep"), place(local, "file"), overwrite=True) is False
    assert shown(local.backend)["file/two"] == 1


def test_nothing_is_copied_or_moved_into_itself_or_over_what_holds_it(local, data, moves):
    plant(data)
    before = shown(local.backend)
    for source, target in (("tree", "tree"), ("tree", "tree/deep/x"), ("tree/deep", "tree")):
        with pytest.raises(NotAllowed):
            moves.copy(place(local, source), place(local, target), overwrite=True)
    for target in ("gone/x", "tree/one/x"):
        with pytest.raises(Conflict):
            moves.copy(place(local, "tree/deep"), place(local, target), overwrite=True)
    assert shown(local.backend) == before


def test_what_holds_the_source_is_not_replaced_by_it_under_another_name_either(local, tmp_path, data, moves):
    plant(data)
    (data / "here").symlink_to(".")
    within = Storage("within", LocalBackend(data / "tree", tmp_path / "more-journals"), Pool("within"))
    before = shown(local.backend, StoragePath.parse("tree"))
    for source, target in (
        (place(local, "tree/deep/two"), place(local, "here/tree/deep")),
        (place(local, "tree/deep"), place(local, "here/tree")),
        (place(local, "here/tree"), place(local, "tree")),
        (place(local, "tree/deep/two"), place(within, "deep")),
    ):
        with pytest.raises(NotAllowed):
            moves.copy(source, target, overwrite=True)
    assert shown(local.backend, StoragePath.parse("tree")) == before


def test_links_in_a_circle_end_a_copy_but_not_the_rest_of_it(local, data, moves):
    plant(data)
    (data / "tree" / "circle").symlink_to(".")
    (data / "tree" / "into-the-copy").symlink_to("../copy")
    with pytest.raises(Incomplete) as raised:
        moves.copy(place(local, "tree"), place(local, "copy"), overwrite=False)
    failed = {str(failure.place.path) for failure in raised.value.failures}
    assert failed == {"copy/circle", "copy/into-the-copy"}
    assert shown(local.backend)["copy/deep/two"] == 1


def test_a_full_disk_ends_a_copy_and_a_refused_file_does_not(local, memory, data, moves):
    plant(data)
    full = refusing(memory, "open_write", {"copy/one"}, OutOfSpace("full"))
    with pytest.raises(OutOfSpace):
        moves.copy(place(local, "tree"), place(full, "copy"), overwrite=True)
    picky = refusing(memory, "open_write", {"other/one"}, PermissionDenied("no"))
    with pytest.raises(Incomplete):
        moves.copy(place(local, "tree"), place(picky, "other"), overwrite=True)
    assert "other/one" not in shown(memory.backend)
    assert shown(memory.backend)["other/deep/two"] == 1


@pytest.fixture
def served(tmp_path):
    with Served(tmp_path / "site") as door:
        plant(door.data)
        yield door


def test_a_move_takes_the_shares_along_whatever_they_share(served):
    storage = served.storages["storage"]
    folder, inner, file = (served.share(path) for path in ("tree", "tree/deep", "tree/deep/two"))
    sibling = served.share("tree/one", frozenset(Permission))
    (served.data / "treehouse").mkdir()
    beside = served.share("treehouse")
    (served.data / "into").mkdir()
    assert served.moves.move(place(storage, "tree"), place(storage, "into/new"), overwrite=False) is True
    stored = [str(served.stored(share).path) for share in (folder, inner, file, sibling, beside)]
    assert stored == ["into/new", "into/new/deep", "into/new/deep/two", "into/new/one", "treehouse"]
    assert served.store.read_sync(moves_table.unfinished) == []


def test_a_move_replaces_as_a_copy_does(served):
    storage = served.storages["storage"]
    (served.data / "file").write_bytes(b"f")
    (served.data / "full").mkdir()
    (served.data / "full" / "x").write_bytes(b"x")
    with pytest.raises(AlreadyExists):
        served.moves.move(place(storage, "file"), place(storage, "full"), overwrite=False)
    assert served.moves.move(place(storage, "tree"), place(storage, "full"), overwrite=True) is False
    assert (served.data / "full" / "deep" / "two").exists()
    assert not (served.data / "full" / "x").exists()
    assert served.moves.move(place(storage, "file"), place(storage, "full"), overwrite=True) is False
    assert (served.data / "full").read_bytes() == b"f"


def test_a_move_into_another_storage_is_a_copy_and_a_removal_and_keeps_the_times(served):
    storage, memory = served.storages["storage"], served.storages["memory"]
    os.utime(served.data / "tree" / "deep" / "two", ns=(0, 86_400_000_000_000))
    share = served.share("tree/deep")
    assert served.moves.move(place(storage, "tree"), place(memory, "there"), overwrite=False) is True
    assert not (served.data / "tree").exists()
    assert memory.backend.stat(StoragePath.parse("there/deep/two")).modified == 86_400_000_000_000
    assert str(served.stored(share).path) == "tree/deep"


def test_a_move_that_fails_half_way_leaves_the_source_whole_and_no_half_target(served):
    storage, memory = served.storages["storage"], served.storages["memory"]
    before = shown(storage.backend)
    for error in (OutOfSpace("full"), PermissionDenied("no")):
        target = place(refusing(memory, "open_write", {"there/deep/two"}, error), "there")
        with pytest.raises((StorageError, Incomplete)):
            served.moves.move(place(storage, "tree"), target, overwrite=False)
        assert shown(storage.backend) == before
        assert shown(memory.backend) == {}


def test_where_a_rename_is_impossible_a_move_copies(served):
    storage = refusing(served.storages["storage"], "rename", {"tree"}, Unsupported("another file system"))
    share = served.share("tree")
    assert served.moves.move(place(storage, "tree"), place(storage, "new"), overwrite=False) is True
    assert (served.data / "new" / "deep" / "two").exists()
    assert not (served.data / "tree").exists()
    assert str(served.stored(share).path) == "tree"  # another folder, with another identity
    assert served.store.read_sync(moves_table.unfinished) == []


def intend(served: Served, source: str, target: str) -> None:
    """Write what a move has written when the process dies."""
    old, new = StoragePath.parse(source), StoragePath.parse(target)
    identity = served.local.stat(old).identity
    served.store.run_sync(lambda tx: moves_table.add(tx, "storage", old, new, identity))


def replayed(served: Served) -> None:
    Moves(served.store, served.living).replay(served.storages)


def test_a_crash_after_the_rename_is_finished_at_the_next_start(served):
    share = served.share("tree/deep")
    intend(served, "tree", "new")
    served.local.rename(StoragePath.parse("tree"), StoragePath.parse("new"), overwrite=False)
    replayed(served)
    assert str(served.stored(share).path) == "new/deep"
    assert served.store.read_sync(moves_table.unfinished) == []


def test_a_crash_before_the_rename_changes_nothing(served):
    share = served.share("tree/deep")
    intend(served, "tree", "new")
    replayed(served)
    assert str(served.stored(share).path) == "tree/deep"
    assert served.store.read_sync(moves_table.unfinished) == []


def test_a_crash_followed_by_other_peoples_changes_never_opens_another_folder(served):
    share = served.share("tree/deep")
    intend(served, "tree", "new")
    (served.data / "tree").rename(served.data / "elsewhere")
    (served.data / "new" / "deep").mkdir(parents=True)
    replayed(served)
    assert str(served.stored(share).path) == "tree/deep"
    assert served.store.read_sync(moves_table.unfinished) == []


def test_a_move_on_a_storage_that_does_not_answer_is_kept_for_later(served):
    share = served.share("tree/deep")
    intend(served, "tree", "new")
    served.local.rename(StoragePath.parse("tree"), StoragePath.parse("new"), overwrite=False)
    hung = refusing(served.storages["storage"], "stat", {"tree", "new"}, Unavailable("hung"))
    Moves(served.store, served.living).replay({"storage": hung})
    assert len(served.store.read_sync(moves_table.unfinished)) == 1
    Moves(served.store, served.living).replay({})
    assert len(served.store.read_sync(moves_table.unfinished)) == 1
    replayed(served)
    assert str(served.stored(share).path) == "new/deep"


def test_a_rename_that_reports_failure_after_it_happened_is_settled_by_looking(served):
    share = served.share("tree/deep")
    inner = served.local.rename

    class HalfDead(Refusing):
        def rename(self, source, target, *, overwrite):
            inner(source, target, overwrite=overwrite)
            raise Unavailable("the directory could not be made durable")

    storage = replace(served.storages["storage"], backend=HalfDead(served.local, "", set(), Unavailable("")))
    with pytest.raises(Unavailable):
        served.moves.move(place(storage, "tree"), place(storage, "new"), overwrite=False)
    assert str(served.stored(share).path) == "new/deep"


def test_an_ended_share_stays_where_it_was(served):
    share = served.share("tree/deep")
    served.revoke(share)
    served.moves.move(
        place(served.storages["storage"], "tree"), place(served.storages["storage"], "new"), overwrite=False
    )
    assert str(served.stored(share).path) == "tree/deep"
    assert served.store.read_sync(lambda tx: sent_shares.get(tx, share.id)).state == "revoked"
