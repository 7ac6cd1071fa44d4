"""Permissions, space, the two ways to read without waiting, and errors in the middle of things."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from backends import linux, renaming
from backends.errors import NotFound, OutOfSpace, PermissionDenied, StorageError, Unavailable, Unsupported
from backends.fresh import FreshFile
from backends.journal import Journal
from backends.local import LocalBackend
from backends.local_tree import etag_of
from backends.system_errors import StorageErrors

from ..conformance.actions import ROOT, get, names, path, put
from .place import Place

FULL_DISK = Path(__file__).with_name("full_disk.py")


class ContentTests:
    @pytest.fixture
    def umask(self) -> Iterator[None]:
        before = os.umask(0o027)
        yield
        os.umask(before)

    @pytest.mark.usefixtures("umask")
    def test_a_new_file_has_the_mode_of_the_umask(self, place: Place, backend: LocalBackend) -> None:
        assert put(backend, "file").mode == 0o640
        assert backend.make_directory(path("folder")).mode == 0o750

    @pytest.mark.parametrize(("before", "after"), [(0o604, 0o604), (0o444, 0o444), (0o4755, 0o755), (0o2770, 0o770)])
    def test_a_replaced_file_keeps_its_permissions(
        self, place: Place, backend: LocalBackend, before: int, after: int
    ) -> None:
        """But not set-uid and set-gid: the content is another's now."""
        put(backend, "file", b"old")
        (place.root / "file").chmod(before)
        assert put(backend, "file", b"new").mode == after
        assert backend.stat(path("file")).owner == (os.getuid(), (place.root / "file").stat().st_gid)

    def test_identity_and_owner_are_those_of_the_disk(self, place: Place, backend: LocalBackend) -> None:
        entry = put(backend, "file")
        found = (place.root / "file").stat()
        assert entry.identity is not None
        assert (entry.identity.inode, entry.owner) == (found.st_ino, (found.st_uid, found.st_gid))
        assert entry.identity.device == backend.identity.filesystem

    def test_a_change_in_place_changes_the_etag(self, place: Place, backend: LocalBackend) -> None:
        """By another program, with the same size and the time set back."""
        old = put(backend, "file", b"old")
        with open(place.root / "file", "r+b") as file:
            file.write(b"new")
        os.utime(place.root / "file", ns=(old.modified, old.modified))
        new = backend.stat(path("file"))
        assert (new.size, new.modified) == (old.size, old.modified)
        assert new.etag != old.etag

    @pytest.mark.parametrize("position", ["st_ino", "st_size", "st_mtime_ns", "st_ctime_ns"])
    def test_each_of_four_facts_changes_the_etag(self, position: str) -> None:
        """Each alone: the others may stay the same by chance, a coarse clock, or by intent."""
        same = {"st_mtime_ns": 10**18, "st_ctime_ns": 10**18}
        etags = set()
        for change in (0, 1):
            times = {name: value + change * (name == position) for name, value in same.items()}
            size, inode = 5 + change * (position == "st_size"), 7 + change * (position == "st_ino")
            etags.add(etag_of(os.stat_result((0o100644, inode, 1, 1, 0, 0, size, 0, 0, 0), times)))
        assert len(etags) == 2

    def test_times_beyond_all_dates_are_brought_back(self, place: Place, backend: LocalBackend) -> None:
        put(backend, "file")
        for seconds in (-(10**11), 10**12):
            os.utime(place.root / "file", (seconds, seconds))
            assert -(10**11) < backend.stat(path("file")).modified // 10**9 < 10**12

    def test_cached_content_is_read_without_waiting(self, backend: LocalBackend) -> None:
        """Just written, so in the page cache, if this file system answers such questions (overlayfs does not)."""
        content = os.urandom(100_000)
        put(backend, "file", content)
        with backend.open_read(path("file")) as reader:
            descriptor = reader.fileno()
            magic = linux.filesystem_magic(descriptor)
            local = magic in linux.LOCAL_MAGICS
            answers = local and (magic == linux.TMPFS_MAGIC or _answers_without_waiting(descriptor))
            assert reader.read_cached(10, 50_000) == (content[10:50_010] if answers else None)
            assert reader.read_cached(99_999, 50_000) == (content[99_999:] if answers else None)
        backend.stat(path("file"))
        quick = backend.try_open_read(path("file"))
        assert (quick is not None) == (local and self.abilities.openat2)
        if quick is not None:
            with quick:
                assert quick.read_at(0, 200_000) == content

    def test_what_is_not_cached_is_left_to_a_thread(
        self, place: Place, backend: LocalBackend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put(backend, "file", b"content")
        with backend.open_read(path("file")) as reader:
            for number in (errno.EAGAIN, errno.EOPNOTSUPP):
                monkeypatch.setattr(os, "preadv", _failing(number))
                assert reader.read_cached(0, 7) in (None, b"content")
            monkeypatch.setattr(os, "preadv", lambda *arguments: 3)  # the cache ends before the file does
            assert reader.read_cached(0, 7) in (None, b"content")
            monkeypatch.setattr(linux, "LOCAL_MAGICS", frozenset())
        with backend.open_read(path("file")) as reader:
            assert backend.try_open_read(path("file")) is None

    def test_more_than_the_disk_holds_is_refused_before_the_first_byte(
        self, place: Place, backend: LocalBackend
    ) -> None:
        with pytest.raises(OutOfSpace):
            backend.open_write(path("file"), size=backend.space().total + 1)
        assert place.everything() == []

    def test_a_digest_that_nobody_can_compute_leaves_nothing(self, place: Place, backend: LocalBackend) -> None:
        with pytest.raises(ValueError, match="unsupported hash"):
            backend.open_write(path("file"), hashes=("rot13",))
        assert place.everything() == []

    def test_a_full_disk_leaves_the_old_content(self, place: Place) -> None:
        """In a process that may write files of 1 MiB at most, which is how a disk fills up for any user."""
        arguments = [str(place.root), str(place.journals), str(int(self.abilities.openat2))]
        subprocess.run([sys.executable, str(FULL_DISK), *arguments], check=True, timeout=60)
        assert place.everything() == ["file"]
        assert (place.root / "file").read_bytes() == b"old"

    @pytest.mark.parametrize("name", ["file", "new"])
    @pytest.mark.parametrize(
        ("number", "error"),
        [(errno.EIO, Unavailable), (errno.ENOSPC, OutOfSpace), (errno.EDQUOT, OutOfSpace)],
    )
    def test_content_that_cannot_be_made_durable_is_not_shown(
        self,
        place: Place,
        backend: LocalBackend,
        monkeypatch: pytest.MonkeyPatch,
        name: str,
        number: int,
        error: type[StorageError],
    ) -> None:
        put(backend, "file", b"old")
        with backend.open_write(path(name)) as writer:
            writer.write(b"new")
            monkeypatch.setattr(os, "fsync", _failing(number))
            with pytest.raises(error):
                writer.commit()
            monkeypatch.undo()
        assert place.everything() == ["file"]
        assert get(backend, "file") == b"old"

    def test_the_content_is_durable_before_its_name_and_the_name_before_the_answer(
        self, place: Place, backend: LocalBackend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put(backend, "first", b"x")
        put(backend, "first", b"y")  # the journal knows the directory now
        with Recorder(monkeypatch) as events:
            put(backend, "new", b"new")
            assert events == ["fsync file", "name", "fsync directory"]
            events.clear()
            put(backend, "new", b"replaced")
            assert events == ["fsync file", "name", "fsync directory"]
            for act, names_changed in (
                (lambda: backend.make_directory(path("folder")), ["name", "fsync directory"]),
                (lambda: backend.set_modified(path("new"), 0), ["fsync file"]),
                (lambda: backend.remove(path("first")), ["name", "fsync directory"]),
            ):
                events.clear()
                act()
                assert events == names_changed
            events.clear()
            backend.rename(path("new"), path("folder/new"), overwrite=True)
            assert events == ["name", "fsync directory", "fsync directory"]

    def test_a_name_that_cannot_be_made_durable_is_not_acknowledged(
        self, place: Place, backend: LocalBackend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put(backend, "file", b"old")
        fsync = os.fsync

        def fail_for_the_root(descriptor: int) -> None:
            if os.path.samestat(os.fstat(descriptor), place.root.stat()):
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            fsync(descriptor)

        monkeypatch.setattr(os, "fsync", fail_for_the_root)
        for act in (
            lambda: put(backend, "file", b"new"),
            lambda: backend.make_directory(path("folder")),
            lambda: backend.rename(path("file"), path("renamed"), overwrite=False),
            lambda: backend.remove(path("renamed")),
        ):
            with pytest.raises(Unavailable, match="EIO"):
                act()

    def test_a_file_cut_by_another_program_is_not_committed(self, place: Place, backend: LocalBackend) -> None:
        """The bytes on the disk are counted, not only those that were written."""
        with backend.open_write(path("file")) as writer:
            writer.write(b"content")
            for descriptor in os.listdir("/proc/self/fd"):
                target = os.path.realpath(f"/proc/self/fd/{descriptor}")
                if target.startswith(str(place.root) + "/") and os.path.basename(target) != "root":
                    os.truncate(f"/proc/self/fd/{descriptor}", 3)
            with pytest.raises(Unavailable, match="3 bytes are on the disk"):
                writer.commit()
        assert place.everything() == []

    def test_a_directory_removed_in_the_moment_of_writing_is_not_found(self, place: Place) -> None:
        """Not PermissionDenied, which is what ext4 says there of unnamed files."""
        (place.root / "folder").mkdir()
        directory = linux.Descriptor(os.open(place.root / "folder", os.O_RDONLY))
        (place.root / "folder").rmdir()
        journal = Journal(place.journals, "local")
        with pytest.raises(NotFound), StorageErrors("folder/file"):
            FreshFile(directory, path("folder"), journal, place.abilities)
        journal.close()
        assert list(place.journals.iterdir()) == []

    def test_another_file_system_has_to_be_copied_to(
        self, backend: LocalBackend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put(backend, "file", b"content")
        monkeypatch.setattr(os, "rename", _failing(errno.EXDEV))
        with pytest.raises(Unsupported):
            backend.rename(path("file"), path("new"), overwrite=True)
        monkeypatch.undo()
        assert names(backend) == [b"file"]

    def test_what_the_kernel_cannot_copy_is_read_and_written(
        self, backend: LocalBackend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        content = os.urandom(9 * 1024 * 1024 + 1)
        put(backend, "source", content)
        for number in (errno.EXDEV, errno.EOPNOTSUPP, errno.ENOSYS):
            monkeypatch.setattr(os, "copy_file_range", _failing(number))
            backend.copy(path("source"), path("target"), overwrite=True)
            assert get(backend, "target") == content

    def test_a_copy_that_fails_half_way_leaves_the_old_content(
        self, place: Place, backend: LocalBackend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put(backend, "source", b"source")
        put(backend, "target", b"target")
        monkeypatch.setattr(os, "copy_file_range", _failing(errno.ENOSPC))
        with pytest.raises(OutOfSpace):
            backend.copy(path("source"), path("target"), overwrite=True)
        monkeypatch.undo()
        assert get(backend, "target") == b"target"
        assert place.everything() == ["source", "target"]

    def test_a_lock_that_another_program_keeps_makes_the_storage_unavailable(
        self, place: Place, backend: LocalBackend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put(backend, "file", b"old")
        monkeypatch.setattr(renaming, "_PATIENCE", 0.05)
        directory = os.open(place.root, os.O_RDONLY)
        fcntl.flock(directory, fcntl.LOCK_EX)
        try:
            with pytest.raises(Unavailable, match="ETIMEDOUT"):
                put(backend, "file", b"new")
        finally:
            os.close(directory)
        assert get(backend, "file") == b"old"
        assert place.everything() == ["file"]

    def test_a_read_only_file_system_refuses(self, place: Place) -> None:
        """/proc takes no files from anybody, root included."""
        backend = LocalBackend("/proc/self", place.journals, abilities=place.abilities)
        for act in (
            lambda: put(backend, "new"),
            lambda: backend.make_directory(path("new")),
            lambda: backend.remove(path("status")),
        ):
            with pytest.raises((PermissionDenied, NotFound)):
                act()
        backend.close()

    def test_a_descriptor_is_not_left_open(self, backend: LocalBackend) -> None:
        """Not by any operation, whether it works or fails."""
        for content in (b"old", b"new"):  # a replacement begins the journal, which stays open
            put(backend, "file", content)
        before = len(os.listdir("/proc/self/fd"))
        for act in (
            lambda: put(backend, "file", b"y"),
            lambda: backend.open_write(path("file"), if_none_match=True),
            lambda: backend.open_write(path("file")).abort(),
            lambda: backend.open_write(path("file"), size=1).commit(),
            lambda: backend.open_read(ROOT),
            lambda: backend.open_read(path("file")),
            lambda: backend.copy(path("file"), path("missing/x"), overwrite=True),
            lambda: backend.rename(path("file"), path("missing/x"), overwrite=True),
            lambda: backend.stat(path("missing")),
            lambda: names(backend),
        ):
            try:
                act()
            except StorageError:
                continue
        assert len(os.listdir("/proc/self/fd")) == before


class Recorder:
    """Takes down what is made durable and when names change."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self._events: list[str] = []

    def __enter__(self) -> list[str]:
        fsync = os.fsync

        def record_fsync(descriptor: int) -> None:
            fsync(descriptor)
            is_directory = stat.S_ISDIR(os.fstat(descriptor).st_mode)
            self._events.append("fsync directory" if is_directory else "fsync file")

        self._monkeypatch.setattr(os, "fsync", record_fsync)
        for name in ("link", "rename", "unlink", "mkdir", "rmdir"):
            self._monkeypatch.setattr(os, name, self._recording(getattr(os, name)))
        return self._events

    def _recording(self, change: Callable[..., None]) -> Callable[..., None]:
        def record(*arguments: object, **named: object) -> None:
            change(*arguments, **named)
            if self._events[-1:] != ["name"]:  # one step or several, as the file system can
                self._events.append("name")

        return record

    def __exit__(self, *exception: object) -> None:
        self._monkeypatch.undo()


def _answers_without_waiting(descriptor: int) -> bool:
    try:
        return os.preadv(descriptor, [bytearray(1)], 0, os.RWF_NOWAIT) == 1
    except OSError:
        return False


def _failing(number: int) -> object:
    def fail(*arguments: object, **named: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail
