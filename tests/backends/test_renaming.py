"""Names change one at a time in a directory, and onto free names only, whatever the file system can do."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from backends import linux
from backends.renaming import exclusively, rename_to_free_name

# What a file system may be unable to do: nothing, one step (NFS), hard links too (FAT)
UNABLE: dict[str, dict[str, int]] = {
    "all": {},
    "not in one step": {"one step": errno.EINVAL},
    "an old kernel": {"one step": errno.ENOSYS},
    "no hard links": {"one step": errno.EINVAL, "link": errno.EPERM},
}


@pytest.fixture(params=UNABLE)
def directory(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    for what, number in UNABLE[request.param].items():

        def fail(*arguments: object, number: int = number, **named: object) -> None:
            raise OSError(number, os.strerror(number))

        if what == "link":
            monkeypatch.setattr(os, "link", fail)
        else:
            monkeypatch.setattr(linux, "rename_noreplace", fail)
    (tmp_path / "file").write_bytes(b"file")
    (tmp_path / "folder").mkdir()
    (tmp_path / "taken").write_bytes(b"taken")
    (tmp_path / "taken folder").mkdir()
    descriptor = os.open(tmp_path, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


@pytest.mark.parametrize("source", [b"file", b"folder"])
def test_a_free_name_is_given(directory: int, tmp_path: Path, source: bytes) -> None:
    rename_to_free_name(directory, source, directory, b"new", in_one_step=True)
    names = {name.encode() for name in os.listdir(tmp_path)}
    assert b"new" in names
    assert source not in names


@pytest.mark.parametrize("source", [b"file", b"folder"])
@pytest.mark.parametrize("target", [b"taken", b"taken folder", b"file", b"folder"])
def test_a_taken_name_is_not(directory: int, tmp_path: Path, source: bytes, target: bytes) -> None:
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(FileExistsError):
        rename_to_free_name(directory, source, directory, target, in_one_step=True)
    assert sorted(os.listdir(tmp_path)) == before
    assert (tmp_path / "taken").read_bytes() == b"taken"


def test_what_is_not_there_gets_no_name(directory: int) -> None:
    with pytest.raises(FileNotFoundError):
        rename_to_free_name(directory, b"missing", directory, b"new", in_one_step=True)


def test_one_directory_is_locked_once_however_often_it_is_named(tmp_path: Path) -> None:
    """A second flock on another descriptor of it would wait for the first."""
    one, other = os.open(tmp_path, os.O_RDONLY), os.open(tmp_path, os.O_RDONLY)
    entered = []
    with exclusively(one, other, one):
        entered.append("both")
    with exclusively(other):  # nothing is held any more
        entered.append("other")
    os.close(one)
    os.close(other)
    assert entered == ["both", "other"]


def test_locks_taken_in_opposite_orders_do_not_wait_for_each_other(tmp_path: Path) -> None:
    entered = []
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()

    def work(*names: str) -> None:
        for _ in range(200):
            descriptors = [os.open(tmp_path / name, os.O_RDONLY) for name in names]
            with exclusively(*descriptors):
                entered.append(names)
            for descriptor in descriptors:
                os.close(descriptor)

    threads = [threading.Thread(target=work, args=names) for names in (("a", "b"), ("b", "a"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(entered) == 400


def test_only_one_at_a_time_is_inside(tmp_path: Path) -> None:
    inside, most = [0], [0]

    def work() -> None:
        for _ in range(50):
            descriptor = os.open(tmp_path, os.O_RDONLY)
            with exclusively(descriptor):
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                os.sched_yield()
                inside[0] -= 1
            os.close(descriptor)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, inside) == ([1], [0])
