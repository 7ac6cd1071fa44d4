"""Writer.park, open_write(resume=...) and discard: content that is left unfinished, and gone on with."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace

import pytest

from backends.errors import (
    DigestMismatch,
    IncompleteWrite,
    InUse,
    NotFound,
    NothingParked,
    PreconditionFailed,
    StorageError,
    Unsupported,
)
from backends.interface import Parked, StorageBackend, Writer

from .actions import get, make, names, path, put

CONTENT = os.urandom(300_001)
HALF = 150_000


def forget(_parked: Parked) -> None:
    """Note nothing: the test itself has the token."""


def park(backend: StorageBackend, where: str, content: bytes = CONTENT[:HALF], size: int = len(CONTENT)) -> Parked:
    with backend.open_write(path(where), size=size) as writer:
        writer.write(content)
        return writer.park(forget)


def put_the_rest(writer: Writer, content: bytes) -> None:
    with writer:
        writer.write(content)
        writer.commit()


class UnresumableConformance:
    def test_without_the_feature_nothing_is_parked(self, backend: StorageBackend) -> None:
        if backend.features.resumable:
            assert isinstance(self, ResumingConformance), "what is claimed is tested"
            return
        with backend.open_write(path("file")) as writer:
            writer.write(b"abc")
            with pytest.raises(Unsupported):
                writer.park(forget)
        for call in (
            lambda: backend.open_write(path("file"), resume=Parked("0" * 32, 1)),
            lambda: backend.discard(path("file"), "0" * 32),
        ):
            with pytest.raises(Unsupported):
                call()
        assert names(backend) == []


class ResumingConformance:
    @pytest.fixture
    def resumable(self, backend: StorageBackend) -> StorageBackend:
        return backend

    def test_parked_content_is_invisible_and_gone_on_with(self, resumable: StorageBackend) -> None:
        put(resumable, "old", b"old")
        for name in ("old", "new"):
            parked = park(resumable, name)
            assert (parked.size, names(resumable), get(resumable, "old")) == (HALF, [b"old"], b"old")
            with resumable.open_write(path(name), size=len(CONTENT), resume=parked) as writer:
                assert (writer.start, writer.written) == (HALF, HALF)
                writer.write(CONTENT[HALF:])
                assert writer.commit() == resumable.stat(path(name))
            assert get(resumable, name) == CONTENT
            resumable.remove(path(name))
            put(resumable, "old", b"old")

    def test_what_resumes_it_is_noted_while_the_writer_still_has_it(self, resumable: StorageBackend) -> None:
        noted: list[Parked] = []

        def note(parked: Parked) -> None:
            noted.append(parked)
            with pytest.raises(StorageError):
                resumable.open_write(path("file"), resume=parked)

        with resumable.open_write(path("file")) as writer:
            writer.write(b"abc")
            assert [writer.park(note)] == noted
            assert not writer.is_open
        resumable.discard(path("file"), noted[0].token)

    def test_what_could_not_be_noted_is_not_kept(self, resumable: StorageBackend) -> None:
        noted: list[Parked] = []

        def fail(parked: Parked) -> None:
            noted.append(parked)
            raise ConnectionError("the state is gone")

        with resumable.open_write(path("file")) as writer:
            writer.write(b"abc")
            with pytest.raises(ConnectionError):
                writer.park(fail)
            with pytest.raises(ValueError, match="closed"):
                writer.commit()
        with pytest.raises(NothingParked):
            resumable.open_write(path("file"), resume=noted[0])

    def test_it_can_be_parked_again_and_again_under_one_token(self, resumable: StorageBackend) -> None:
        parked = park(resumable, "file", b"", size=6)
        for number in range(6):
            with resumable.open_write(path("file"), size=6, resume=parked) as writer:
                writer.write(b"%d" % number)
                again = writer.park(forget)
            assert again == replace(parked, size=number + 1)
            parked = again
        with resumable.open_write(path("file"), size=6, resume=parked) as writer:
            writer.commit()
        assert get(resumable, "file") == b"012345"
        with pytest.raises(NothingParked):
            resumable.open_write(path("file"), resume=parked)

    def test_what_was_written_since_is_dropped_by_an_abort(self, resumable: StorageBackend) -> None:
        parked = park(resumable, "file")
        with resumable.open_write(path("file"), resume=parked) as writer:
            writer.write(b"x" * 1_000_000)
        with resumable.open_write(path("file"), resume=parked) as writer:
            writer.write(CONTENT[HALF:])
            writer.commit()
        assert get(resumable, "file") == CONTENT

    def test_going_on_earlier_drops_what_comes_after(self, resumable: StorageBackend) -> None:
        parked = park(resumable, "file", b"abcdef", size=9)
        with resumable.open_write(path("file"), size=4, resume=replace(parked, size=2)) as writer:
            writer.write(b"x")
            shorter = writer.park(forget)
        assert shorter.size == 3
        with pytest.raises(NothingParked):
            resumable.open_write(path("file"), resume=parked)
        with resumable.open_write(path("file"), size=4, resume=shorter) as writer:
            writer.write(b"y")
            writer.commit()
        assert get(resumable, "file") == b"abxy"

    def test_only_one_writer_goes_on_at_a_time(self, resumable: StorageBackend) -> None:
        parked = park(resumable, "file")
        with resumable.open_write(path("file"), resume=parked):
            with pytest.raises(InUse):
                resumable.open_write(path("file"), resume=parked)
            with pytest.raises(InUse):
                resumable.discard(path("file"), parked.token)
        with resumable.open_write(path("file"), resume=parked) as writer:
            writer.write(CONTENT[HALF:])
            writer.commit()
        assert get(resumable, "file") == CONTENT

    def test_what_is_discarded_is_gone_and_may_be_so_twice(self, resumable: StorageBackend) -> None:
        parked = park(resumable, "file")
        resumable.discard(path("file"), parked.token)
        resumable.discard(path("file"), parked.token)
        resumable.discard(path("nowhere/file"), parked.token)
        for token in (parked.token, "0" * 32):
            with pytest.raises(NothingParked):
                resumable.open_write(path("file"), resume=replace(parked, token=token))

    def test_the_digest_of_the_whole_covers_what_was_parked(self, resumable: StorageBackend) -> None:
        digests = {name: hashlib.new(name, CONTENT).digest() for name in ("sha256", "sha512")}
        put(resumable, "file", b"old")
        other = bytes([CONTENT[0] ^ 1]) + CONTENT[1:HALF]
        for first, right in ((other, False), (CONTENT[:HALF], True)):
            parked = park(resumable, "file", first)
            with resumable.open_write(path("file"), size=len(CONTENT), resume=parked) as writer:
                writer.write(CONTENT[HALF:])
                if right:
                    writer.commit(digests)
                else:
                    with pytest.raises(DigestMismatch):
                        writer.commit(digests)
                    resumable.discard(path("file"), parked.token)
            assert get(resumable, "file") == (CONTENT if right else b"old")

    def test_the_digest_of_a_part_covers_that_part_alone(self, resumable: StorageBackend) -> None:
        parked = park(resumable, "file")
        for content in (b"another", CONTENT[HALF:]):
            with resumable.open_write(path("file"), resume=parked, hashes=("sha256",)) as writer:
                writer.write(content)
                digest = {"sha256": hashlib.sha256(CONTENT[HALF:]).digest()}
                if content == b"another":
                    with pytest.raises(DigestMismatch):
                        writer.verify(digest)
                    with pytest.raises(ValueError, match="closed"):
                        writer.park(forget)
                else:
                    writer.verify(digest)
                    writer.commit()
        assert get(resumable, "file") == CONTENT

    @pytest.mark.parametrize("more", [HALF - 1, HALF + 2])
    def test_the_length_of_the_whole_is_checked(self, resumable: StorageBackend, more: int) -> None:
        parked = park(resumable, "file")
        writer = resumable.open_write(path("file"), size=len(CONTENT), resume=parked)
        with pytest.raises(IncompleteWrite):
            put_the_rest(writer, b"x" * more)
        assert names(resumable) == []
        resumable.discard(path("file"), parked.token)

    def test_preconditions_hold_when_it_is_complete(self, resumable: StorageBackend) -> None:
        old = put(resumable, "file", b"old")
        parked = park(resumable, "file")
        with resumable.open_write(path("file"), resume=parked, if_match=old.etag) as writer:
            writer.write(CONTENT[HALF:])
            put(resumable, "file", b"meanwhile")
            with pytest.raises(PreconditionFailed):
                writer.commit()
        with pytest.raises(PreconditionFailed):
            resumable.open_write(path("file"), resume=parked, if_match=old.etag)
        assert get(resumable, "file") == b"meanwhile"
        resumable.discard(path("file"), parked.token)

    def test_a_directory_that_was_removed_keeps_nothing(self, resumable: StorageBackend) -> None:
        make(resumable, "folder")
        with resumable.open_write(path("folder/file")) as writer:
            writer.write(b"abc")
            try:
                resumable.remove(path("folder"))
            except StorageError:  # its temporary is there
                return
            with pytest.raises(NotFound):
                writer.park(forget)
