"""No link leads out of a mount or of a Share, also where it stays in the storage's own root."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from backends.errors import NotFound, StorageError
from backends.linux import Abilities
from backends.local import LocalBackend
from backends.paths import StoragePath

SECRET = b"not for them"


@pytest.fixture(params=["openat2", "walk"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LocalBackend]:
    root = tmp_path / "root"
    (root / "homes/alice/run42/sub").mkdir(parents=True)
    (root / "homes/bob").mkdir()
    (root / "homes/bob/secret.txt").write_bytes(SECRET)
    (root / "homes/alice/private.txt").write_bytes(SECRET)
    (root / "homes/alice/run42/a.txt").write_bytes(b"alpha")
    alice = root / "homes/alice"
    (alice / "to-bob").symlink_to("../bob")
    (alice / "to-secret").symlink_to("../bob/secret.txt")
    (alice / "to-run42").symlink_to("run42/a.txt")
    (alice / "run42/up").symlink_to("../private.txt")
    (alice / "run42/far").symlink_to("../../bob")
    (alice / "run42/inside").symlink_to("a.txt")
    abilities = Abilities.detect() if request.param == "openat2" else Abilities(False, False, False)
    backend = LocalBackend(root, tmp_path / "journals", abilities=abilities)
    yield backend
    backend.close()


MOUNT = StoragePath.parse("homes/alice").bounded()
SHARE = MOUNT.child(b"run42").bounded()

LEADING_OUT = [
    MOUNT.child(b"to-secret"),
    MOUNT.child(b"to-bob"),
    MOUNT.join([b"to-bob", b"secret.txt"]),
    SHARE.child(b"up"),
    SHARE.child(b"far"),
    SHARE.join([b"far", b"secret.txt"]),
    MOUNT.join([b"run42", b"far", b"secret.txt"]),
]


@pytest.mark.parametrize("path", LEADING_OUT, ids=str)
def test_what_leads_out_of_its_bounds_does_not_exist(backend: LocalBackend, path: StoragePath) -> None:
    for look in (backend.stat, backend.open_read, backend.scan):
        with pytest.raises(NotFound):
            look(path)
    try:
        reader = backend.try_open_read(path)
    except NotFound:
        reader = None
    assert reader is None
    names = {entry.name for entry in backend.scan(path.parent)} if path.parent in (MOUNT, SHARE) else set()
    assert path.name not in names


@pytest.mark.parametrize("folder", [MOUNT.child(b"to-bob"), SHARE.child(b"far")], ids=str)
def test_nothing_is_written_moved_or_removed_through_such_a_link(backend: LocalBackend, folder: StoragePath) -> None:
    own = SHARE.child(b"a.txt")
    for write in (
        lambda: backend.open_write(folder.child(b"new.txt")).commit(),
        lambda: backend.make_directory(folder.child(b"new")),
        lambda: backend.remove(folder.child(b"secret.txt")),
        lambda: backend.rename(folder.child(b"secret.txt"), SHARE.child(b"mine"), overwrite=False),
        lambda: backend.rename(own, folder.child(b"theirs"), overwrite=False),
        lambda: backend.copy(folder.child(b"secret.txt"), SHARE.child(b"mine"), overwrite=False),
        lambda: backend.set_modified(folder.child(b"secret.txt"), 0),
    ):
        with pytest.raises(StorageError):
            write()
    bob = backend.scan(StoragePath.parse("homes/bob"))
    assert [entry.name for entry in bob] == [b"secret.txt"]
    assert backend.stat(own).size == 5


def test_a_link_that_stays_within_is_followed_by_the_kernels_way_alone(backend: LocalBackend) -> None:
    """The walk knows no links at all; openat2 follows those that stay."""
    for path in (SHARE.child(b"inside"), MOUNT.child(b"to-run42")):
        try:
            with backend.open_read(path) as reader:
                assert reader.read_at(0, 10) == b"alpha"
        except NotFound:
            assert not backend._abilities.openat2


def test_a_shared_file_that_was_replaced_by_a_link_out_of_the_mount_is_gone(
    backend: LocalBackend, tmp_path: Path
) -> None:
    shared = MOUNT.join([b"run42", b"a.txt"]).bounded()
    assert backend.stat(shared).size == 5
    file = tmp_path / "root/homes/alice/run42/a.txt"
    file.unlink()
    os.symlink("../../bob/secret.txt", file)
    with pytest.raises(NotFound):
        backend.open_read(shared)


def test_bounds_are_no_part_of_what_a_path_names() -> None:
    plain = StoragePath.parse("homes/alice/run42")
    assert plain == SHARE
    assert hash(SHARE) == hash(plain)
    assert pieces(SHARE.child(b"x")) == [b"homes/alice", b"run42", b"x"]
    assert pieces(SHARE.parent) == [b"homes/alice"]
    assert pieces(StoragePath().bounded().child(b"x")) == [b"x"]
    assert pieces(StoragePath()) == []


def test_a_walk_goes_through_no_link() -> None:
    directory = SHARE.join([b"a", b"b"]).walked_from(3)
    walked = [(b"homes/alice", True), (b"run42", True), (b"a/b", False)]
    assert list(directory.steps()) == walked
    assert list(directory.child(b"x").parent.steps()) == walked
    assert list(directory.child(b"x").steps()) == [(b"homes/alice", True), (b"run42", True), (b"a/b/x", True)]
    assert list(directory.parent.steps()) == [(b"homes/alice", True), (b"run42", True), (b"a", False)]
    assert list(directory.parent.parent.steps()) == [(b"homes/alice", True), (b"run42", True)]


def test_nothing_is_listed_or_changed_through_a_link_where_a_walk_has_met_a_directory(
    backend: LocalBackend, tmp_path: Path
) -> None:
    run42 = tmp_path / "root/homes/alice/run42"
    (run42 / "link").symlink_to("sub")
    (run42 / "sub" / "kept").write_bytes(b"kept")
    walked = SHARE.child(b"link").walked_from(2)
    for act in (
        lambda: backend.scan(walked),
        lambda: backend.remove(walked.child(b"kept")),
        lambda: backend.rename(walked.child(b"kept"), SHARE.child(b"b"), overwrite=False),
        lambda: backend.make_directory(walked.child(b"new")),
    ):
        with pytest.raises(NotFound):
            act()
    assert [entry.name for entry in backend.scan(SHARE.child(b"sub"))] == [b"kept"]


def pieces(path: StoragePath) -> list[bytes]:
    return [raw for raw, _ in path.steps()]
