"""open_write, Writer, and what the writer may expect to find."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable

import pytest

from backends.errors import (
    DigestMismatch,
    DirectoryNotEmpty,
    IncompleteWrite,
    IsADirectory,
    NotADirectory,
    NotFound,
    PreconditionFailed,
    StorageError,
)
from backends.interface import StorageBackend, Writer

from .actions import ROOT, exists, get, make, names, path, put

CONTENT = os.urandom(200_003)


class WritingConformance:
    def test_a_commit_returns_what_stat_shows(self, backend: StorageBackend) -> None:
        assert put(backend, "file", b"abc") == backend.stat(path("file"))
        assert put(backend, "file", b"replaced") == backend.stat(path("file"))

    def test_pieces_of_any_kind_become_one_content(self, backend: StorageBackend) -> None:
        with backend.open_write(path("file"), size=len(CONTENT)) as writer:
            writer.write(CONTENT[:1])
            writer.write(b"")
            writer.write(bytearray(CONTENT[1:70_000]))
            writer.write(memoryview(CONTENT)[70_000:])
            writer.commit()
        assert get(backend, "file") == CONTENT

    def test_new_content_is_invisible_before_the_commit(self, backend: StorageBackend) -> None:
        put(backend, "old", b"old")
        with backend.open_write(path("new")) as new, backend.open_write(path("old")) as replacing:
            new.write(CONTENT)
            replacing.write(CONTENT)
            assert names(backend) == [b"old"]
            assert get(backend, "old") == b"old"
            with pytest.raises(NotFound):
                backend.stat(path("new"))

    def test_prepared_content_is_checked_and_invisible_until_the_commit(self, backend: StorageBackend) -> None:
        put(backend, "file", b"old")
        digests = {"sha256": hashlib.sha256(CONTENT).digest()}
        for name in ("file", "new"):
            for last in (Writer.abort, Writer.commit):
                with backend.open_write(path(name), size=len(CONTENT), hashes=("sha256",)) as writer:
                    writer.write(CONTENT)
                    writer.prepare(digests)
                    assert get(backend, "file") == b"old"
                    assert names(backend) == [b"file"]
                    last(writer)
            assert get(backend, name) == CONTENT
            backend.remove(path(name))
            put(backend, "file", b"old")

    def test_what_is_written_after_preparing_is_part_of_the_content(self, backend: StorageBackend) -> None:
        with backend.open_write(path("file")) as writer:
            writer.write(b"one")
            writer.prepare()
            writer.write(b", two")
            writer.commit()
        assert get(backend, "file") == b"one, two"

    def test_what_cannot_be_prepared_is_aborted(self, backend: StorageBackend) -> None:
        put(backend, "file", b"old")
        for refused, digests in ((IncompleteWrite, {}), (DigestMismatch, {"sha256": bytes(32)})):
            with backend.open_write(path("file"), size=3 + (not digests), hashes=("sha256",)) as writer:
                writer.write(b"abc")
                with pytest.raises(refused):
                    writer.prepare(digests)
                with pytest.raises(ValueError, match="closed"):
                    writer.commit()
        assert (names(backend), get(backend, "file")) == ([b"file"], b"old")

    @pytest.mark.parametrize("leave", [Writer.abort, lambda writer: writer.__exit__(None, None, None)])
    def test_an_aborted_write_leaves_no_trace(self, backend: StorageBackend, leave: Callable[[Writer], None]) -> None:
        put(backend, "old", b"old")
        before = backend.stat(path("old"))
        for name in ("old", "new"):
            writer = backend.open_write(path(name))
            writer.write(CONTENT)
            leave(writer)
            leave(writer)
            with pytest.raises(ValueError, match="closed"):
                writer.commit()
        assert names(backend) == [b"old"]
        assert (backend.stat(path("old")), get(backend, "old")) == (before, b"old")

    def test_a_committed_writer_does_nothing_more(self, backend: StorageBackend) -> None:
        with backend.open_write(path("file")) as writer:
            writer.write(b"abc")
            writer.commit()
            writer.abort()
            for call in (writer.commit, lambda: writer.write(b"x")):
                with pytest.raises(ValueError, match="closed"):
                    call()
        assert get(backend, "file") == b"abc"

    @pytest.mark.parametrize("length", [0, 9])
    def test_a_short_write_is_refused(self, backend: StorageBackend, length: int) -> None:
        put(backend, "file", b"old")
        with backend.open_write(path("file"), size=10) as writer:
            writer.write(b"x" * length)
            with pytest.raises(IncompleteWrite):
                writer.commit()
        assert get(backend, "file") == b"old"

    def test_a_long_write_is_refused_at_once_and_for_good(self, backend: StorageBackend) -> None:
        put(backend, "file", b"old")
        with backend.open_write(path("file"), size=10) as writer:
            writer.write(b"x" * 10)
            with pytest.raises(IncompleteWrite):
                writer.write(b"x")
            with pytest.raises(ValueError, match="closed"):
                writer.commit()
        assert get(backend, "file") == b"old"

    def test_right_digests_are_accepted(self, backend: StorageBackend) -> None:
        digests = {name: hashlib.new(name, CONTENT).digest() for name in ("sha256", "sha512", "md5")}
        with backend.open_write(path("file"), hashes=tuple(digests)) as writer:
            writer.write(CONTENT[:1000])
            writer.write(CONTENT[1000:])
            writer.commit(digests)
        assert get(backend, "file") == CONTENT

    def test_a_wrong_digest_is_refused(self, backend: StorageBackend) -> None:
        put(backend, "file", b"old")
        for name in ("file", "new"):
            with backend.open_write(path(name), hashes=("sha256",)) as writer:
                writer.write(CONTENT)
                with pytest.raises(DigestMismatch):
                    writer.commit({"sha256": hashlib.sha256(b"other").digest()})
        assert names(backend) == [b"file"]
        assert get(backend, "file") == b"old"

    @pytest.mark.parametrize(
        ("where", "error"),
        [
            ("missing/file", NotFound),
            ("missing/deeper/file", NotFound),
            ("file/below", NotADirectory),
            ("file/far/below", NotADirectory),
            ("folder", IsADirectory),
            ("", IsADirectory),
        ],
    )
    def test_a_write_to_an_impossible_place_is_refused(
        self, backend: StorageBackend, where: str, error: type[StorageError]
    ) -> None:
        put(backend, "file", b"old")
        make(backend, "folder")
        with pytest.raises(error):
            backend.open_write(path(where))
        assert names(backend) == [b"file", b"folder"]

    def test_a_directory_made_meanwhile_is_not_replaced(self, backend: StorageBackend) -> None:
        with backend.open_write(path("name")) as writer:
            writer.write(b"abc")
            make(backend, "name")
            with pytest.raises(IsADirectory):
                writer.commit()
        assert backend.stat(path("name")).is_directory

    def test_a_parent_is_not_removed_under_a_write_or_the_write_fails(self, backend: StorageBackend) -> None:
        """Where the storage keeps a temporary in the directory, it is not empty; elsewhere it is gone."""
        if not backend.features.empty_directories:
            pytest.skip("feature: empty_directories")
        make(backend, "folder")
        with backend.open_write(path("folder/file")) as writer:
            writer.write(b"abc")
            try:
                backend.remove(path("folder"))
            except DirectoryNotEmpty:
                writer.commit()
                assert get(backend, "folder/file") == b"abc"
            else:
                with pytest.raises(NotFound):
                    writer.commit()
                assert names(backend) == []

    def test_every_content_has_an_etag_of_its_own(self, backend: StorageBackend) -> None:
        """Twenty contents of one size in quick succession give twenty etags."""
        etags = {put(backend, "file", bytes([number])).etag for number in range(20)}
        assert len(etags) == 20

    def test_of_many_writers_one_content_stays_whole(self, backend: StorageBackend) -> None:
        contents = {bytes([number]) * 100_000 for number in range(6)}
        errors = _race([lambda content=content: put(backend, "file", content) for content in contents])
        assert errors == [None] * 6
        assert get(backend, "file") in contents
        assert names(backend) == [b"file"]


class PreconditionConformance:
    def test_if_none_match_creates_and_never_replaces(self, backend: StorageBackend) -> None:
        put(backend, "file", b"old", if_none_match=True)
        with pytest.raises(PreconditionFailed):
            backend.open_write(path("file"), if_none_match=True)
        assert get(backend, "file") == b"old"

    def test_if_none_match_is_checked_again_at_the_end(self, backend: StorageBackend) -> None:
        with backend.open_write(path("file"), if_none_match=True) as writer:
            writer.write(b"late")
            put(backend, "file", b"first")
            with pytest.raises(PreconditionFailed):
                writer.commit()
        assert get(backend, "file") == b"first"

    def test_if_match_replaces_the_content_it_names(self, backend: StorageBackend) -> None:
        old = put(backend, "file", b"old")
        put(backend, "file", b"new", if_match=old.etag)
        assert get(backend, "file") == b"new"
        put(backend, "file", b"newer", if_match="*")
        assert get(backend, "file") == b"newer"

    def test_if_match_refuses_another_content(self, backend: StorageBackend) -> None:
        old = put(backend, "file", b"old")
        put(backend, "file", b"new")
        with pytest.raises(PreconditionFailed):
            backend.open_write(path("file"), if_match=old.etag)
        assert get(backend, "file") == b"new"

    @pytest.mark.parametrize("etag", ["*", "abc"])
    def test_if_match_refuses_where_nothing_is(self, backend: StorageBackend, etag: str) -> None:
        with pytest.raises(PreconditionFailed):
            backend.open_write(path("file"), if_match=etag)
        assert not exists(backend, "file")

    def test_an_update_is_never_lost(self, backend: StorageBackend) -> None:
        """Content that came while another version was being written is not overwritten unseen."""
        old = put(backend, "file", b"old")
        with backend.open_write(path("file"), if_match=old.etag) as writer:
            writer.write(b"late")
            put(backend, "file", b"between")
            with pytest.raises(PreconditionFailed):
                writer.commit()
        assert get(backend, "file") == b"between"

    @pytest.mark.parametrize("etag", ["*", None])
    def test_if_match_is_checked_again_after_a_removal(self, backend: StorageBackend, etag: str | None) -> None:
        old = put(backend, "file", b"old")
        with backend.open_write(path("file"), if_match=etag or old.etag) as writer:
            writer.write(b"late")
            backend.remove(path("file"))
            with pytest.raises(PreconditionFailed):
                writer.commit()
        assert names(backend) == []

    def test_of_many_creators_exactly_one_wins(self, backend: StorageBackend) -> None:
        for turn in range(5):
            writers = [backend.open_write(path(f"file-{turn}"), if_none_match=True) for _ in range(6)]
            for number, writer in enumerate(writers):
                writer.write(bytes([number]) * 1000)
            outcomes = _race([writer.commit for writer in writers])
            assert _count(outcomes) == (1, 5)
            winner = outcomes.index(None)
            assert get(backend, f"file-{turn}") == bytes([winner]) * 1000

    def test_of_many_updaters_exactly_one_wins(self, backend: StorageBackend) -> None:
        for _ in range(5):
            etag = put(backend, "file", b"old").etag
            writers = [backend.open_write(path("file"), if_match=etag) for _ in range(6)]
            for number, writer in enumerate(writers):
                writer.write(bytes([number]) * 1000)
            outcomes = _race([writer.commit for writer in writers])
            assert _count(outcomes) == (1, 5)
            assert get(backend, "file") == bytes([outcomes.index(None)]) * 1000

    def test_the_root_has_no_content_to_match(self, backend: StorageBackend) -> None:
        with pytest.raises(IsADirectory):
            backend.open_write(ROOT, if_match="*")


def _race(calls: list[Callable[[], object]]) -> list[Exception | None]:
    """Make all calls at the same moment, each in a thread, and return what each raised."""
    outcomes: list[Exception | None] = [AssertionError("did not end")] * len(calls)
    together = threading.Barrier(len(calls))

    def run(number: int) -> None:
        together.wait()
        try:
            calls[number]()
            outcomes[number] = None
        except Exception as error:
            outcomes[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


def _count(outcomes: list[Exception | None]) -> tuple[int, int]:
    """Return how many won and how many lost because of the precondition."""
    return outcomes.count(None), sum(isinstance(outcome, PreconditionFailed) for outcome in outcomes)
