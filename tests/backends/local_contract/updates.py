"""Content that is written in any order, and updates, on a tree of this machine: what they cost, keep and survive."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from backends import local_bytes
from backends.errors import NothingParked, OutOfSpace, PreconditionFailed, StorageError, Unavailable, Unsupported
from backends.interface import Parked
from backends.local import LocalBackend

from ..conformance.actions import get, make, path, put
from .contents import Recorder
from .place import Place
from .replaced import ACCESS, FOR_ONE_USER

CONTENT = os.urandom(700_001)
TERABYTE = 1 << 40


def failing(number: int) -> Callable[..., Any]:
    def fail(*arguments: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


def allocated(file: Path) -> int:
    return file.stat().st_blocks * 512  # stat(2)


class Copies:
    """Takes down which bytes the kernel was asked to copy; it copies at most so many at once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, most: int = 1 << 30) -> None:
        self.ranges: list[tuple[int, int]] = []
        self._copy = os.copy_file_range
        self._most = most
        monkeypatch.setattr(os, "copy_file_range", self)

    def __call__(self, source: int, target: int, size: int, offset: int, at: int) -> int:
        assert offset == at
        count = self._copy(source, target, min(size, self._most), offset, at)
        self.ranges.append((offset, offset + count))
        return count


class UpdateTests:
    # --- what they keep

    def test_an_update_keeps_what_a_replacement_keeps(self, place: Place, backend: LocalBackend) -> None:
        put(backend, "file", b"old")
        file = place.root / "file"
        os.setxattr(file, "user.comment", b"text")
        os.setxattr(file, ACCESS, FOR_ONE_USER)
        found = file.stat()
        with backend.open_update(path("file")) as writer:
            writer.write(b" and new")
            entry = writer.commit()
        assert (entry.mode, entry.owner) == (0o660, (found.st_uid, found.st_gid))
        assert (os.getxattr(file, "user.comment"), os.getxattr(file, ACCESS)) == (b"text", FOR_ONE_USER)
        assert get(backend, "file") == b"old and new"

    def test_what_it_has_of_a_private_file_is_private_from_the_beginning(
        self, place: Place, backend: LocalBackend
    ) -> None:
        put(backend, "file", CONTENT)
        (place.root / "file").chmod(0o600)
        with backend.open_update(path("file")) as writer:
            assert writer.read_at(0, 10) == CONTENT[:10]
            assert os.fstat(writer._fresh.fileno()).st_mode & 0o077 == 0
            assert writer.commit().mode == 0o600

    def test_an_update_of_a_link_leaves_alone_what_it_leads_to(self, place: Place, backend: LocalBackend) -> None:
        """As replacing it does; and it is no more open than that was."""
        if not self.abilities.openat2:  # else no link is there for anybody
            return
        put(backend, "file", b"old")
        (place.root / "file").chmod(0o600)
        (place.root / "link").symlink_to("file")
        with backend.open_update(path("link")) as writer:
            writer.write_at(0, b"n")
            assert writer.commit().mode == 0o600
        assert not (place.root / "link").is_symlink()
        assert (get(backend, "link"), get(backend, "file")) == (b"nld", b"old")

    # --- other programs

    @pytest.mark.parametrize("touched", [False, True])
    def test_a_change_in_place_that_hides_its_time_is_noticed(
        self, place: Place, backend: LocalBackend, touched: bool
    ) -> None:
        file = place.root / "file"
        put(backend, "file", b"old content")
        times = file.stat()
        with backend.open_update(path("file")) as writer:
            if touched:
                writer.write_at(10, b"T")
            with open(file, "r+b") as other:
                other.write(b"new")
            os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
            with pytest.raises(PreconditionFailed):
                writer.commit()
        assert get(backend, "file") == b"new content"
        assert place.everything() == ["file"]

    @pytest.mark.parametrize(
        "ask", [lambda writer: writer.read_at(0, 10), lambda writer: writer.write(b"x")], ids=["read", "append"]
    )
    def test_a_file_that_changes_while_it_is_taken_over_is_no_mixture(
        self,
        place: Place,
        backend: LocalBackend,
        monkeypatch: pytest.MonkeyPatch,
        ask: Callable[[Any], object],
    ) -> None:
        put(backend, "file", CONTENT)
        put(backend, "other", b"other")
        copy = os.copy_file_range

        def slowly(*arguments: int) -> int:
            count = copy(*arguments)
            os.truncate(place.root / "file", 5)
            return count

        monkeypatch.setattr(os, "copy_file_range", slowly)
        with backend.open_update(path("file")) as writer, pytest.raises(PreconditionFailed):
            ask(writer)
        (place.root / "file").write_bytes(CONTENT)
        with pytest.raises(Unavailable, match="changed while it was copied"):
            backend.copy(path("file"), path("other"), overwrite=True)
        assert get(backend, "other") == b"other"
        assert place.everything() == ["file", "other"]

    def test_a_file_put_in_its_place_by_another_program_stays(self, place: Place, backend: LocalBackend) -> None:
        """Though that has taken none of our locks."""
        put(backend, "file", b"old")
        with backend.open_update(path("file")) as writer:
            writer.write_at(0, b"X")
            writer.prepare()
            (place.base / "theirs").write_bytes(b"old")
            os.rename(place.base / "theirs", place.root / "file")
            with pytest.raises(PreconditionFailed):
                writer.commit()
        assert get(backend, "file") == b"old"
        assert place.everything() == ["file"]

    # --- what they cost

    def test_what_is_overwritten_is_not_copied_before(
        self, backend: LocalBackend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put(backend, "file", CONTENT)
        copies = Copies(monkeypatch)
        for size in (700_001, 600_000):
            with backend.open_update(path("file")) as writer:
                for offset in range(0, size, 32_768):
                    writer.write_at(offset, b"n" * min(32_768, size - offset))
                writer.truncate(size)
                writer.commit()
        assert copies.ranges == []
        with backend.open_update(path("file")) as writer:
            writer.write_at(0, b"x" * 1000)
            writer.write_at(500_000, b"x" * 1000)
            assert copies.ranges == [(1000, 500_000)]
            writer.truncate(550_000)
            writer.commit()
        assert copies.ranges[1:] == [(501_000, 550_000)]
        assert get(backend, "file") == b"x" * 1000 + b"n" * 499_000 + b"x" * 1000 + b"n" * 49_000

    def test_a_small_write_anywhere_is_one_call(self, backend: LocalBackend, monkeypatch: pytest.MonkeyPatch) -> None:
        """sshfs sends 32 KiB at a time: each costs what it costs to append them."""
        calls: list[str] = []
        with backend.open_write(path("file")) as writer, backend.open_write(path("other")) as appending:
            for name in ("pwrite", "pread", "lseek", "fstat", "ftruncate", "stat", "open"):
                call = getattr(os, name)
                monkeypatch.setattr(
                    os, name, lambda *some, name=name, call=call, **more: (calls.append(name), call(*some, **more))[1]
                )
            for number in range(40):
                appending.write(b"x" * 32_768)
                writer.write_at((number * 7 % 40) * 32_768, b"x" * 32_768)
            monkeypatch.undo()
            writer.commit()
        assert calls == ["pwrite"] * 80

    def test_holes_stay_holes(self, place: Place, backend: LocalBackend) -> None:
        with backend.open_write(path("sparse")) as writer:
            writer.write_at(TERABYTE, b"far")
            writer.write_at(1 << 20, b"near")
            writer.truncate(TERABYTE + (1 << 20))
            writer.commit()
        with backend.open_update(path("sparse")) as writer:
            assert writer.read_at(TERABYTE - 2, 7) == b"\0\0far\0\0"
            writer.write(b"end")
            writer.commit()
        backend.copy(path("sparse"), path("copy"), overwrite=False)
        for name in ("sparse", "copy"):
            assert allocated(place.root / name) <= 64 * 1024
            with backend.open_read(path(name)) as reader:
                assert reader.entry.size == TERABYTE + (1 << 20) + 3
                assert reader.read_at(1 << 20, 5) == b"near\0"
                assert reader.read_at(TERABYTE, 4) == b"far\0"
                assert reader.read_at(reader.entry.size - 4, 10) == b"\0end"
            (place.root / name).unlink()

    def test_a_hole_at_the_end_counts(self, place: Place, backend: LocalBackend) -> None:
        with backend.open_write(path("file")) as writer:
            writer.write(b"x")
            writer.truncate(TERABYTE)
            writer.commit()
        backend.copy(path("file"), path("copy"), overwrite=False)
        with backend.open_update(path("file")) as writer:
            writer.write_at(0, b"y")
            writer.commit()
        for name, first in (("file", b"y\0"), ("copy", b"x\0")):
            assert allocated(place.root / name) <= 64 * 1024
            with backend.open_read(path(name)) as reader:
                assert (reader.entry.size, reader.read_at(0, 2)) == (TERABYTE, first)
                assert reader.read_at(TERABYTE - 1, 2) == b"\0"
            (place.root / name).unlink()

    @pytest.mark.parametrize("number", [errno.EXDEV, errno.EOPNOTSUPP, errno.EINVAL, None])
    def test_whatever_the_kernel_can_the_rest_is_read_and_written(
        self, backend: LocalBackend, monkeypatch: pytest.MonkeyPatch, number: int | None
    ) -> None:
        """Also where one call copies less than it was asked for, or the file system does not tell of holes."""
        put(backend, "file", CONTENT)
        monkeypatch.setattr(local_bytes, "_PIECE", 65_536)
        monkeypatch.setattr(local_bytes, "_READ", 10_000)
        copies = Copies(monkeypatch, most=50_000)
        if number is not None:
            monkeypatch.setattr(os, "copy_file_range", failing(number))
            monkeypatch.setattr(os, "lseek", failing(errno.EINVAL))
        with backend.open_update(path("file")) as writer:
            writer.write_at(1000, b"new")
            writer.write_at(400_000, b"newer")
            writer.commit()
        changed = bytearray(CONTENT)
        changed[1000:1003], changed[400_000:400_005] = b"new", b"newer"
        assert get(backend, "file") == changed
        if number is None:  # whole blocks, from the first on, are what a file system can share
            assert (1003, 51_003) in copies.ranges
            assert (51_003, 65_536) in copies.ranges
            assert (65_536, 115_536) in copies.ranges

    # --- what they survive

    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
    @pytest.mark.parametrize(
        ("call", "change"),
        [
            ("copy_file_range", lambda writer: writer.write_at(5000, b"x")),
            ("copy_file_range", lambda writer: writer.commit()),
            ("pwrite", lambda writer: writer.write_at(0, b"x")),
            ("ftruncate", lambda writer: writer.truncate(1_000_000)),
            ("fsync", lambda writer: writer.commit()),
        ],
    )
    def test_a_full_disk_costs_the_change_alone(
        self,
        place: Place,
        backend: LocalBackend,
        monkeypatch: pytest.MonkeyPatch,
        call: str,
        change: Callable[[Any], object],
        number: int,
    ) -> None:
        put(backend, "file", CONTENT)
        with backend.open_update(path("file")) as writer:
            monkeypatch.setattr(os, call, failing(number))
            with pytest.raises(OutOfSpace):
                change(writer)
            assert not writer.is_open
        monkeypatch.undo()
        assert get(backend, "file") == CONTENT
        assert place.everything() == ["file"]

    def test_what_was_written_after_preparing_is_made_durable(
        self, backend: LocalBackend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for content in (b"old", CONTENT):  # a replacement begins the journal
            put(backend, "file", content)
        with backend.open_update(path("file")) as writer:
            writer.prepare()
            writer.write_at(7, b"x")
            with Recorder(monkeypatch) as events:
                writer.commit()
        assert events == ["fsync file", "name", "fsync directory"]

    def test_no_descriptor_is_left_open(self, backend: LocalBackend) -> None:
        for content in (b"old", b"new"):  # a replacement begins the journal, which stays open
            put(backend, "file", content)
        make(backend, "folder")
        before = len(os.listdir("/proc/self/fd"))
        for act in (
            lambda: backend.open_update(path("folder")),
            lambda: backend.open_update(path("missing")),
            lambda: backend.open_update(path("file")).abort(),
            lambda: backend.open_update(path("file")).commit(),
            lambda: backend.open_update(path("file")).park(lambda parked: None),
            lambda: backend.open_update(path("file")).commit({"md5": b""}),
        ):
            try:
                act()
            except StorageError:
                continue
        assert len(os.listdir("/proc/self/fd")) == before

    # --- going on with what was parked

    def test_what_was_parked_is_not_changed_by_who_goes_on_with_it(self, place: Place, backend: LocalBackend) -> None:
        """Killed in the middle, it would leave another content than is noted."""
        with backend.open_write(path("file")) as writer:
            writer.write(b"abcdef")
            parked = writer.park(lambda parked: None)
        hidden = place.root / f".ocm-gateway-{parked.token}"
        for change in (
            lambda writer: writer.write_at(5, b"x"),
            lambda writer: writer.truncate(5),
            lambda writer: writer.write_at(100, b"x") or writer.park(lambda parked: None),
        ):
            with backend.open_write(path("file"), resume=parked) as writer, pytest.raises(Unsupported):
                change(writer)
            assert hidden.read_bytes() == b"abcdef"
        with backend.open_write(path("file"), resume=parked) as writer:
            writer.write_at(8, b"ij")
            writer.write_at(6, b"gh")
            writer.commit()
        assert get(backend, "file") == b"abcdefghij"

    def test_what_was_parked_beyond_the_place_to_go_on_at_is_gone(self, place: Place, backend: LocalBackend) -> None:
        """Else a gap would show it."""
        with backend.open_write(path("file")) as writer:
            writer.write(b"abcdef")
            parked = writer.park(lambda parked: None)
        with backend.open_write(path("file"), resume=Parked(parked.token, 2, parked.identity)) as writer:
            assert writer.read_at(0, 10) == b"ab"
            writer.write_at(5, b"x")
            assert writer.read_at(0, 10) == b"ab\0\0\0x"
        with pytest.raises(NothingParked):
            backend.open_write(path("file"), resume=parked)
        backend.discard(path("file"), parked.token)
        assert place.everything() == []
