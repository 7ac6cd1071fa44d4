"""write_at, read_at and truncate of a Writer, and open_update: content that is written in any order."""

from __future__ import annotations

import hashlib
import os
import tracemalloc
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backends.errors import (
    DigestMismatch,
    IncompleteWrite,
    IsADirectory,
    NotFound,
    OutOfSpace,
    PreconditionFailed,
    StorageError,
    Unsupported,
)
from backends.interface import Parked, StorageBackend, Writer

from .actions import ROOT, get, make, names, path, put

CONTENT = os.urandom(300_001)
PIECE = 30_011
PIECES = range(0, len(CONTENT), PIECE)
SHUFFLED = sorted(PIECES, key=lambda offset: hashlib.md5(b"%d" % offset).digest())
TERABYTE = 1 << 40

BOUNDED = settings(
    max_examples=15, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
PLACES = st.integers(0, 12)
# What is done to a Writer, its numbers in a unit that the backend chooses
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), PLACES),
        st.tuples(st.just("write_at"), PLACES, PLACES),
        st.tuples(st.just("truncate"), PLACES),
        st.tuples(st.just("read_at"), PLACES, PLACES),
        st.tuples(st.just("prepare")),
        st.tuples(st.just("update")),
        st.tuples(st.just("drop")),
    ),
    max_size=14,
)


def forget(_parked: Parked) -> None:
    """Note nothing."""


def is_closed(writer: Writer) -> bool:
    with pytest.raises(ValueError, match="closed"):
        writer.commit()
    return not writer.is_open


class InOrderConformance:
    """What holds on every storage, also where content is taken from its beginning to its end only."""

    def test_at_the_end_write_at_is_write(self, backend: StorageBackend) -> None:
        digests = {"sha256": hashlib.sha256(CONTENT).digest()}
        with backend.open_write(path("file"), size=len(CONTENT), hashes=("sha256",)) as writer:
            for offset in PIECES:
                writer.write_at(offset, CONTENT[offset : offset + PIECE])
            writer.truncate(len(CONTENT))
            assert writer.commit(digests) == backend.stat(path("file"))
        assert get(backend, "file") == CONTENT

    def test_without_the_feature_nothing_else_is_taken(self, backend: StorageBackend) -> None:
        if backend.features.random_write:
            assert isinstance(self, RandomWritingConformance), "what is claimed is tested"
            return
        put(backend, "file", b"old")
        for change in (
            lambda writer: writer.write_at(2, b"x"),
            lambda writer: writer.write_at(4, b"x"),
            lambda writer: writer.truncate(2),
            lambda writer: writer.truncate(4),
        ):
            with backend.open_write(path("file")) as writer:
                writer.write(b"abc")
                with pytest.raises(Unsupported, match="this storage"):
                    change(writer)
                assert is_closed(writer)
        with backend.open_write(path("file")) as writer:
            writer.write(b"abc")
            with pytest.raises(Unsupported, match="this storage"):
                writer.read_at(0, 3)
        with pytest.raises(Unsupported, match="this storage"):
            backend.open_update(path("file"))
        assert (names(backend), get(backend, "file")) == ([b"file"], b"old")


class RandomWritingConformance:
    unit = 1  # bytes; one that goes with the storage's own pieces shows more

    # --- anywhere

    def test_pieces_in_any_order_become_one_content(self, backend: StorageBackend) -> None:
        with backend.open_write(path("file"), size=len(CONTENT)) as writer:
            for offset in SHUFFLED:
                writer.write_at(offset, memoryview(CONTENT)[offset : offset + PIECE])
            assert writer.written == len(CONTENT)
            assert names(backend) == []
            assert writer.commit() == backend.stat(path("file"))
        assert get(backend, "file") == CONTENT

    def test_a_gap_is_filled_with_zeros(self, backend: StorageBackend) -> None:
        with backend.open_write(path("file")) as writer:
            writer.write_at(300_000, b"x")
            writer.write_at(5, b"abc")
            writer.write_at(400_000, b"")  # nothing, as pwrite(2) of nothing
            assert writer.written == 300_001
            writer.commit()
        assert get(backend, "file") == b"\0" * 5 + b"abc" + b"\0" * 299_992 + b"x"

    def test_what_is_written_last_counts_and_writing_goes_on_at_the_end(self, backend: StorageBackend) -> None:
        with backend.open_write(path("file")) as writer:
            writer.write(b"abcdef")
            writer.write_at(2, b"XY")
            writer.write(b"gh")
            writer.write_at(3, bytearray(b"Z"))
            writer.write_at(7, b"HIJ")
            writer.write(b"k")
            assert writer.written == 11
            writer.commit()
        assert get(backend, "file") == b"abXZefgHIJk"

    def test_what_was_just_written_can_be_read(self, backend: StorageBackend) -> None:
        with backend.open_write(path("file")) as writer:
            assert writer.read_at(0, 10) == b""
            writer.write(CONTENT)
            assert writer.read_at(0, len(CONTENT)) == CONTENT
            writer.write_at(10, b"new")
            assert writer.read_at(9, 5) == CONTENT[9:10] + b"new" + CONTENT[13:14]
            assert writer.read_at(len(CONTENT) - 2, 100) == CONTENT[-2:]
            assert writer.read_at(len(CONTENT), 100) == writer.read_at(TERABYTE, 1) == b""
            writer.write(b"end")
            assert writer.read_at(len(CONTENT), 3) == b"end"

    def test_what_was_cut_off_does_not_come_back(self, backend: StorageBackend) -> None:
        with backend.open_write(path("file")) as writer:
            writer.write(CONTENT)
            writer.truncate(3)
            assert (writer.written, writer.read_at(0, 9)) == (3, CONTENT[:3])
            writer.truncate(6)
            assert (writer.written, writer.read_at(0, 9)) == (6, CONTENT[:3] + b"\0" * 3)
            writer.write(b"end")
            writer.truncate(2)
            writer.write_at(4, b"x")
            assert writer.commit() == backend.stat(path("file"))
        assert get(backend, "file") == CONTENT[:2] + b"\0\0x"

    def test_a_change_after_preparing_is_part_of_the_content(self, backend: StorageBackend) -> None:
        """Also one that changes no length."""
        for change, expected in (
            (lambda writer: writer.write_at(1, b"X"), b"aXc"),
            (lambda writer: writer.truncate(1), b"a"),
        ):
            with backend.open_write(path("file")) as writer:
                writer.write(b"abc")
                writer.prepare()
                change(writer)
                assert writer.commit() == backend.stat(path("file"))
            assert get(backend, "file") == expected

    # --- refusals

    @pytest.mark.parametrize("begin", ["new", "old"])
    def test_an_aborted_change_leaves_no_trace(self, backend: StorageBackend, begin: str) -> None:
        put(backend, "old", CONTENT)
        before = backend.stat(path("old"))
        with backend.open_write(path(begin)) as writer:
            writer.write_at(7, b"x")
        with backend.open_update(path("old")) as writer:
            writer.write_at(7, b"x")
            writer.truncate(100)
            writer.prepare()
        assert (names(backend), backend.stat(path("old"))) == ([b"old"], before)
        assert get(backend, "old") == CONTENT

    @pytest.mark.parametrize(
        "change",
        [
            lambda writer: writer.write_at(8, b"xxx"),
            lambda writer: writer.write_at(1 << 30, b"x"),
            lambda writer: writer.truncate(11),
        ],
    )
    def test_more_than_was_announced_is_refused_at_once(
        self, backend: StorageBackend, change: Callable[[Writer], None]
    ) -> None:
        put(backend, "file", b"old")
        with backend.open_write(path("file"), size=10) as writer:
            writer.write(b"x" * 3)
            with pytest.raises(IncompleteWrite):
                change(writer)
            assert is_closed(writer)
        assert get(backend, "file") == b"old"

    def test_less_than_was_announced_is_refused(self, backend: StorageBackend) -> None:
        with backend.open_write(path("file"), size=10) as writer:
            writer.write_at(8, b"x")
            with pytest.raises(IncompleteWrite):
                writer.commit()
        assert names(backend) == []

    @pytest.mark.parametrize("offset", [(1 << 63) - 1, (1 << 64) - 1])  # of a byte
    def test_no_file_is_so_big(self, backend: StorageBackend, offset: int) -> None:
        """Offsets on the wire have 64 bits."""
        for change in (lambda writer: writer.write_at(offset, b"x"), lambda writer: writer.truncate(offset + 1)):
            with backend.open_write(path("file")) as writer:
                with pytest.raises(OutOfSpace):
                    change(writer)
                assert is_closed(writer)
        assert names(backend) == []

    def test_a_big_gap_takes_no_memory(self, backend: StorageBackend) -> None:
        """It is a hole in the file, or refused where there are none."""
        tracemalloc.start()
        with backend.open_write(path("file")) as writer:
            try:
                writer.write_at(TERABYTE, b"x")
                writer.truncate(TERABYTE + 10)
            except OutOfSpace:
                assert is_closed(writer)
                assert names(backend) == []
            else:
                assert writer.read_at(TERABYTE - 2, 100) == b"\0\0x" + b"\0" * 9
                writer.truncate(5)
                writer.commit()
                assert get(backend, "file") == b"\0" * 5
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 10_000_000

    def test_what_was_not_written_in_order_is_not_parked(self, backend: StorageBackend) -> None:
        put(backend, "old", b"old")
        for begin in (
            lambda: backend.open_write(path("new")),
            lambda: backend.open_write(path("old")),
            lambda: backend.open_update(path("old")),
        ):
            with begin() as writer:
                writer.write_at(10, b"x")
                with pytest.raises(Unsupported):
                    writer.park(forget)
                assert is_closed(writer)
        assert (names(backend), get(backend, "old")) == ([b"old"], b"old")

    # --- digests

    def test_digests_are_those_of_the_content_in_whatever_order_it_came(self, backend: StorageBackend) -> None:
        digests = {name: hashlib.new(name, CONTENT).digest() for name in ("sha256", "md5")}
        with backend.open_write(path("file"), hashes=tuple(digests)) as writer:
            for offset in SHUFFLED:
                writer.write_at(offset, CONTENT[offset : offset + PIECE])
            writer.verify(digests)
            writer.commit(digests)
        with backend.open_write(path("file"), hashes=("sha256",)) as writer:
            writer.write(b"x" * len(CONTENT))
            writer.write_at(0, CONTENT)
            writer.commit(digests)
        assert get(backend, "file") == CONTENT

    @pytest.mark.parametrize("check", [Writer.prepare, Writer.commit, Writer.verify])
    def test_a_wrong_digest_is_refused(self, backend: StorageBackend, check: Callable[..., object]) -> None:
        """That of what was sent, too, when it is not what is there."""
        put(backend, "file", b"abXdef")
        digests = {"sha256": hashlib.sha256(b"abcdef").digest()}
        for begin in (
            lambda: backend.open_write(path("file"), hashes=("sha256",)),
            lambda: backend.open_update(path("file")),
        ):
            with begin() as writer:
                writer.write_at(0, b"abcdef")
                writer.write_at(2, b"X")
                with pytest.raises(DigestMismatch):
                    check(writer, digests)
                assert is_closed(writer)
        assert get(backend, "file") == b"abXdef"

    def test_the_digest_of_an_update_covers_what_was_there(self, backend: StorageBackend) -> None:
        put(backend, "file", CONTENT)
        with backend.open_update(path("file")) as writer:
            writer.write_at(PIECE, b"new")
            writer.write(b"end")
            changed = CONTENT[:PIECE] + b"new" + CONTENT[PIECE + 3 :] + b"end"
            writer.commit({"sha512": hashlib.sha512(changed).digest()})
        assert get(backend, "file") == changed

    # --- updates

    def test_an_update_begins_with_the_present_content(self, backend: StorageBackend) -> None:
        old = put(backend, "file", CONTENT)
        with backend.open_update(path("file")) as writer:
            assert (writer.written, writer.start) == (len(CONTENT), 0)
            writer.write_at(200_000, b"new")
            assert writer.read_at(199_999, 5) == CONTENT[199_999:200_000] + b"new" + CONTENT[200_003:200_004]
            assert writer.read_at(290_000, 100_000) == CONTENT[290_000:]
            assert (get(backend, "file"), backend.stat(path("file"))) == (CONTENT, old)
            new = writer.commit()
        assert new == backend.stat(path("file"))
        assert new.etag != old.etag
        assert get(backend, "file") == CONTENT[:200_000] + b"new" + CONTENT[200_003:]

    @pytest.mark.parametrize("old", [b"", b"abc", CONTENT], ids=["empty", "small", "big"])
    def test_an_update_may_append_or_change_nothing(self, backend: StorageBackend, old: bytes) -> None:
        put(backend, "file", old)
        expected = old
        for more in (b"", b"more", b"x" * 300_000):
            with backend.open_update(path("file")) as writer:
                writer.write(more)
                assert writer.commit() == backend.stat(path("file"))
            expected += more
            assert get(backend, "file") == expected

    @pytest.mark.parametrize("length", [0, 4 * PIECE + 1, len(CONTENT), len(CONTENT) + 100_000])
    def test_what_is_overwritten_from_its_beginning_is_what_was_sent(
        self, backend: StorageBackend, length: int
    ) -> None:
        """As scp does: it writes into the present file, and cuts off what is left of that."""
        put(backend, "file", CONTENT)
        content = os.urandom(length)
        with backend.open_update(path("file")) as writer:
            for offset in range(0, length, PIECE):
                writer.write_at(offset, content[offset : offset + PIECE])
            writer.truncate(length)
            writer.commit()
        assert get(backend, "file") == content

    @pytest.mark.parametrize(
        ("where", "error"),
        [
            ("missing", NotFound),
            ("missing/file", NotFound),
            ("file/below", NotFound),
            ("folder", IsADirectory),
            ("", IsADirectory),
        ],
    )
    def test_what_is_no_file_is_not_updated(
        self, backend: StorageBackend, where: str, error: type[StorageError]
    ) -> None:
        put(backend, "file", b"old")
        make(backend, "folder")
        with pytest.raises(error):
            backend.open_update(path(where))
        assert names(backend) == [b"file", b"folder"]

    @pytest.mark.parametrize("touched", [False, True])
    def test_a_change_that_came_meanwhile_is_not_lost(self, backend: StorageBackend, touched: bool) -> None:
        """Whoever comes first: one that replaces the file, or another update of it."""

        def update() -> None:
            with backend.open_update(path("file")) as other:
                other.write_at(1, b"X")
                other.commit()

        for change, expected in ((lambda: put(backend, "file", b"new"), b"new"), (update, b"oXd")):
            put(backend, "file", b"old")
            with backend.open_update(path("file")) as writer:
                if touched:
                    writer.write_at(2, b"late")
                change()
                with pytest.raises(PreconditionFailed):
                    writer.commit()
                assert is_closed(writer)
            assert (names(backend), get(backend, "file")) == ([b"file"], expected)

    def test_a_file_that_is_gone_by_then_does_not_come_back(self, backend: StorageBackend) -> None:
        for away, error, left in (
            (lambda: backend.remove(path("file")), PreconditionFailed, []),
            (
                lambda: backend.rename(path("file"), path("elsewhere"), overwrite=False),
                PreconditionFailed,
                [b"elsewhere"],
            ),
            (lambda: (backend.remove(path("file")), make(backend, "file")), IsADirectory, [b"elsewhere", b"file"]),
        ):
            put(backend, "file", b"old")
            with backend.open_update(path("file")) as writer:
                writer.write_at(0, b"new")
                away()
                with pytest.raises(error):
                    writer.commit()
            assert names(backend) == left
        assert get(backend, "elsewhere") == b"old"

    def test_the_root_is_not_updated(self, backend: StorageBackend) -> None:
        with pytest.raises(IsADirectory):
            backend.open_update(ROOT)

    # --- whatever is done in whatever order

    @BOUNDED
    @given(steps=STEPS, begin=PLACES)
    def test_a_writer_is_as_good_as_an_array_of_bytes(
        self, backend: StorageBackend, steps: list[tuple[str, ...]], begin: int
    ) -> None:
        content = self._some(begin, 0)
        put(backend, "file", bytes(content))
        committed = bytes(content)
        writer = backend.open_update(path("file"))
        for number, (act, *amounts) in enumerate(steps, start=1):
            first, *second = [amount * self.unit for amount in amounts] or [0]
            if act == "write":
                writer.write(more := self._some(amounts[0], number))
                content += more
            elif act == "write_at":
                more = self._some(amounts[1], number)
                writer.write_at(first, more)
                if more:
                    content.extend(bytes(max(0, first - len(content))))
                    content[first : first + len(more)] = more
            elif act == "truncate":
                writer.truncate(first)
                content = content[:first] + bytes(max(0, first - len(content)))
            elif act == "read_at":
                assert writer.read_at(first, second[0]) == content[first : first + second[0]]
            elif act == "prepare":
                writer.prepare()
            else:
                if act == "update":
                    assert writer.commit({"md5": hashlib.md5(content).digest()}).size == len(content)
                    committed = bytes(content)
                writer.abort()
                content = bytearray(committed)
                writer = backend.open_update(path("file"))
            assert writer.written == len(content)
            assert get(backend, "file") == committed
        with writer:
            writer.commit()
        assert get(backend, "file") == content

    def _some(self, amount: int, number: int) -> bytearray:
        """Return so many units of bytes that are unlike those of any other number."""
        return bytearray(hashlib.shake_128(b"%d" % number).digest(amount * self.unit))
