"""stat, scan and open_read."""

from __future__ import annotations

import os
import re
import time
from itertools import pairwise

import pytest

from backends.errors import IsADirectory, NotADirectory, NotFound
from backends.interface import Kind, StorageBackend

from .actions import ROOT, get, make, names, path, put

ETAG = re.compile(r"[0-9A-Za-z.-]{1,40}")
ODD_SIZE = 3 * 1024 * 1024 + 17


class StatConformance:
    def test_the_root_is_a_directory_without_a_name(self, backend: StorageBackend) -> None:
        root = backend.stat(ROOT)
        assert (root.name, root.kind, root.size) == (b"", Kind.DIRECTORY, 0)

    def test_a_file_shows_name_size_and_time(self, backend: StorageBackend) -> None:
        before = time.time_ns()
        name = "dated"  # like no other's: where times are whole seconds, what follows at a name is dated ahead
        put(backend, name, b"12345")
        entry = backend.stat(path(name))
        assert (entry.name, entry.kind, entry.size) == (b"dated", Kind.FILE, 5)
        leeway = 2_000_000_000 + backend.features.modified_precision
        assert before - leeway < entry.modified < time.time_ns() + leeway

    def test_a_directory_has_size_zero(self, backend: StorageBackend) -> None:
        make(backend, "folder")
        entry = backend.stat(path("folder"))
        assert (entry.name, entry.is_directory, entry.size) == (b"folder", True, 0)

    @pytest.mark.parametrize("missing", ["missing", "missing/below", "file/below", "file/far/below", "folder/missing"])
    def test_what_is_not_there_is_not_found(self, backend: StorageBackend, missing: str) -> None:
        make(backend, "folder")
        put(backend, "file")
        with pytest.raises(NotFound):
            backend.stat(path(missing))

    def test_an_etag_is_short_and_of_plain_characters(self, backend: StorageBackend) -> None:
        put(backend, "file", b"x")
        make(backend, "folder")
        for name in ("file", "folder", ""):
            assert ETAG.fullmatch(backend.stat(path(name)).etag)

    def test_an_etag_stays_while_nothing_changes(self, backend: StorageBackend) -> None:
        put(backend, "folder-less", b"x")
        make(backend, "folder")
        for name in ("folder-less", "folder"):
            first = backend.stat(path(name)).etag
            get(backend, "folder-less")
            names(backend, "folder")
            assert backend.stat(path(name)).etag == first


class ScanConformance:
    def test_a_scan_shows_what_stat_shows(self, backend: StorageBackend) -> None:
        make(backend, "folder", "folder/inner")
        put(backend, "folder/file", b"abc")
        with backend.scan(path("folder")) as scan:
            entries = {entry.name: entry for entry in scan}
        assert entries == {name: backend.stat(path(b"folder/" + name)) for name in (b"inner", b"file")}

    def test_an_empty_directory_has_no_entries(self, backend: StorageBackend) -> None:
        make(backend, "folder")
        assert names(backend, "folder") == []

    def test_a_scan_comes_in_batches(self, backend: StorageBackend) -> None:
        """25 entries in batches of 10: none larger, none lost, none twice, and an empty one at the end."""
        make(backend, "folder")
        for number in range(25):
            put(backend, f"folder/{number}")
        with backend.scan(path("folder"), batch=10) as scan:
            batches = [scan.next() for _ in range(4)]
            assert scan.next() == []
        assert [len(batch) for batch in batches] == [10, 10, 5, 0]
        assert {entry.name for batch in batches for entry in batch} == {str(number).encode() for number in range(25)}

    def test_a_closed_scan_may_be_closed_again(self, backend: StorageBackend) -> None:
        put(backend, "file")
        scan = backend.scan(ROOT, batch=1)
        scan.close()
        scan.close()

    def test_entries_that_vanish_are_left_out(self, backend: StorageBackend) -> None:
        make(backend, "folder")
        for number in range(10):
            put(backend, f"folder/{number}")
        with backend.scan(path("folder"), batch=1) as scan:
            first = scan.next()[0].name
            for number in range(10):
                backend.remove(path(f"folder/{number}"))
            assert first not in {entry.name for entry in scan}

    @pytest.mark.parametrize("missing", ["missing", "missing/below", "file/below"])
    def test_a_scan_of_what_is_not_there_is_not_found(self, backend: StorageBackend, missing: str) -> None:
        put(backend, "file")
        with pytest.raises(NotFound):
            backend.scan(path(missing))

    def test_a_file_cannot_be_scanned(self, backend: StorageBackend) -> None:
        put(backend, "file")
        with pytest.raises(NotADirectory):
            backend.scan(path("file"))


class ReadingConformance(StatConformance, ScanConformance):
    @pytest.mark.parametrize("missing", ["missing", "missing/below", "file/below"])
    def test_a_missing_file_cannot_be_opened(self, backend: StorageBackend, missing: str) -> None:
        put(backend, "file")
        with pytest.raises(NotFound):
            backend.open_read(path(missing))

    @pytest.mark.parametrize("directory", ["", "folder"])
    def test_a_directory_cannot_be_opened(self, backend: StorageBackend, directory: str) -> None:
        make(backend, "folder")
        with pytest.raises(IsADirectory):
            backend.open_read(path(directory))

    def test_reads_at_odd_offsets_give_those_bytes(self, backend: StorageBackend) -> None:
        content = os.urandom(ODD_SIZE)
        put(backend, "file", content)
        with backend.open_read(path("file")) as reader:
            for start, end in pairwise([0, 1, 4095, 4097, 65_537, 1_048_575, 2_000_003, ODD_SIZE]):
                assert reader.read_at(start, end - start) == content[start:end]
            assert reader.read_at(ODD_SIZE - 5, 100) == content[-5:]
            assert reader.read_at(0, ODD_SIZE + 1) == content

    def test_beyond_the_end_there_is_nothing(self, backend: StorageBackend) -> None:
        put(backend, "file", b"abc")
        with backend.open_read(path("file")) as reader:
            assert [reader.read_at(offset, 10) for offset in (3, 4, 1 << 40)] == [b"", b"", b""]
            assert reader.read_at(1, 0) == b""

    def test_an_empty_file_reads_empty(self, backend: StorageBackend) -> None:
        put(backend, "file")
        assert get(backend, "file") == b""
        assert backend.stat(path("file")).size == 0

    def test_a_reader_describes_what_it_reads(self, backend: StorageBackend) -> None:
        put(backend, "file", b"abc")
        with backend.open_read(path("file")) as reader:
            assert reader.entry == backend.stat(path("file"))

    def test_a_reader_keeps_its_content_when_the_name_changes_hands(self, backend: StorageBackend) -> None:
        if not backend.features.atomic_replace:
            pytest.skip("feature: atomic_replace")
        put(backend, "file", b"old")
        with backend.open_read(path("file")) as reader:
            put(backend, "file", b"new content")
            assert (reader.entry.size, reader.read_at(0, 100)) == (3, b"old")
            backend.remove(path("file"))
            assert reader.read_at(0, 100) == b"old"

    def test_a_descriptor_reads_the_same(self, backend: StorageBackend) -> None:
        put(backend, "file", b"0123456789")
        with backend.open_read(path("file")) as reader:
            descriptor = reader.fileno()
            assert descriptor is None or os.pread(descriptor, 4, 3) == b"3456"

    def test_a_closed_reader_may_be_closed_again(self, backend: StorageBackend) -> None:
        put(backend, "file", b"abc")
        reader = backend.open_read(path("file"))
        reader.close()
        reader.close()
        with pytest.raises(ValueError, match="closed"):
            reader.read_at(0, 1)

    def test_the_cache_gives_nothing_or_the_same(self, backend: StorageBackend) -> None:
        content = os.urandom(100_001)
        put(backend, "file", content)
        with backend.open_read(path("file")) as reader:
            for offset, size in ((0, 10), (50_000, 50_001), (99_999, 100), (100_001, 10), (500_000, 10)):
                assert reader.read_cached(offset, size) in (None, content[offset : offset + size])

    def test_opening_without_waiting_gives_nothing_or_the_same(self, backend: StorageBackend) -> None:
        put(backend, "file", b"abc")
        backend.stat(path("file"))
        reader = backend.try_open_read(path("file"))
        if reader is not None:
            with reader:
                assert (reader.read_at(0, 10), reader.entry) == (b"abc", backend.stat(path("file")))

    @pytest.mark.parametrize(("most", "is_too_long"), [(3, False), (100, False), (2, True), (0, True)])
    def test_reading_at_once_gives_nothing_or_the_whole(
        self, backend: StorageBackend, most: int, is_too_long: bool
    ) -> None:
        put(backend, "file", b"abc")
        put(backend, "empty", b"")
        make(backend, "folder")
        found = backend.try_read(path("file"), most)
        assert found is None or (found == (backend.stat(path("file")), b"abc") and not is_too_long)
        assert backend.try_read(path("empty"), most) in (None, (backend.stat(path("empty")), b""))
        assert backend.try_read(path("folder"), most) is None
        assert backend.try_read(path("missing"), most) is None
        assert backend.try_read(path("file/below"), most) is None

    @pytest.mark.parametrize(("name", "error"), [("missing", NotFound), ("folder", IsADirectory)])
    def test_opening_without_waiting_refuses_as_opening_does(
        self, backend: StorageBackend, name: str, error: type[Exception]
    ) -> None:
        make(backend, "folder")
        try:
            assert backend.try_open_read(path(name)) is None
        except error:
            return
