"""New content for one path: what every Writer does alike, whatever it writes to.

    in order    write: any storage; digests are computed on the way
    anywhere    write_at, truncate, read_at: where random_write is a feature; digests are read back at the end
    an update   anywhere in a content that begins as a present file's (open_update)

An update takes over the old content only when it has to: what is overwritten from the beginning on, as scp does with
a file that is there, is never copied.
"""

from __future__ import annotations

import hashlib
import hmac
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from backends.entries import Entry, Identity
from backends.errors import DigestMismatch, IncompleteWrite, OutOfSpace, StorageError, Unsupported

SIZE_MAX = (1 << 63) - 1  # bytes; off_t, with which every call of POSIX counts them
PIECE = 8 * 1024 * 1024  # bytes read back at once


@dataclass(frozen=True, slots=True)
class Parked:
    """Content that a Writer has left unfinished, as `open_write` needs it to go on.

    `token` is opaque, of at most 64 characters [0-9a-z]; only the first `size` bytes count.
    """

    token: str
    size: int
    identity: Identity | None = None


def _compare(hashes: Mapping[str, hashlib._Hash], digests: Mapping[str, bytes]) -> None:
    for name, value in digests.items():
        if not hmac.compare_digest(hashes[name].digest(), value):
            raise DigestMismatch(f"the content has another {name} digest than announced")


class Writer(ABC):
    """New content for one path, invisible until `commit` and gone without a trace after `abort`.

    This class keeps rule 6 of the project for every backend: length and digests are checked before the
    backend's `_prepare` and `_commit`, which returns only when content and name are durable. Whatever fails, the old
    content stays; a Writer that was refused a change is aborted, so that a part can never be committed.
    """

    def __init__(self, size: int | None, hashes: tuple[str, ...], start: int = 0, old: int | None = None) -> None:
        """Expect `size` bytes in all (None: unknown), go on after the first `start` of them, and compute `hashes`
        (names of hashlib) of what is written from there on.

        `old`: begin with the content of a present file of so many bytes, which `_copy` takes over.
        """
        self._expected = size
        self._most = SIZE_MAX if size is None else size  # bytes
        self._hashes = {name: hashlib.new(name) for name in hashes}
        self._open = True
        self._is_prepared = False
        self._in_order = old is None  # all of it was written from the first byte to the last
        self._old = old or 0  # up to here the content is the old file's, and of that
        self._own = 0  # up to here it is this Writer's by now, copied or overwritten
        self.start = start  # bytes that were there before
        self.written = self._old or start  # bytes in all

    @property
    def is_open(self) -> bool:
        """Tell whether it was neither committed nor parked nor aborted."""
        return self._open

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append `data`; raises IncompleteWrite as soon as there is more than was announced, OutOfSpace."""
        self._require_open()
        try:
            if self._own < self._old:
                self._take_over(self._old)
            self.written += len(data)
            if self.written > self._most:
                raise self._too_much(self.written)
            for digest in self._hashes.values():
                digest.update(data)
            self._is_prepared = False
            self._write(data)
        except BaseException:
            self.abort()
            raise

    def write_at(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Put `data` at `offset`, over what is there; a gap before it is filled with zeros, as a hole if possible.

        At the end this is `write`, on every storage; anywhere else it is Unsupported where that is no feature
        (random_write), and so is a change of what was parked before. Raises IncompleteWrite as `write`, OutOfSpace.
        """
        if offset == self.written:
            self.write(data)
            return
        self._require_open()
        if not len(data):
            return
        end = offset + len(data)
        try:
            self._begin_change(offset, end)
            self._take_over(offset)
            self._write_at(offset, data)
        except BaseException:
            self.abort()
            raise
        self._own = max(self._own, end)
        self.written = max(self.written, end)

    def read_at(self, offset: int, size: int) -> bytes:
        """Return what this Writer has from `offset` on, up to `size` bytes; fewer only at its end (random_write)."""
        self._require_open()
        end = min(offset + size, self.written)
        if offset >= end:
            return b""
        self._take_over(end)
        return self._read_at(offset, end - offset)

    def truncate(self, size: int) -> None:
        """Drop all beyond the first `size` bytes, or add zeros up to there (random_write).

        Raises as `write_at`; where it is as long already nothing happens, on every storage.
        """
        self._require_open()
        if size == self.written:
            return
        try:
            self._begin_change(size, size)
            self._truncate(size)
        except BaseException:
            self.abort()
            raise
        self._old, self._own = min(self._old, size), min(self._own, size)
        self.written = size

    def prepare(self, digests: Mapping[str, bytes] | None = None) -> None:
        """Do all of `commit` that takes long and shows nothing, for whoever looks at something else right before that.

        Raises as `commit`, and is aborted then.
        """
        self._require_open()
        try:
            if self._expected is not None and self.written != self._expected:
                raise IncompleteWrite(f"{self.written} bytes received, {self._expected} announced")
            self._take_over(self._old)
            if digests:
                is_known = self._in_order and not self.start
                _compare(self._hashes if is_known else self._hashes_from(0, digests), digests)
            self._prepare()
        except BaseException:
            self.abort()
            raise
        self._is_prepared = True

    def commit(self, digests: Mapping[str, bytes] | None = None) -> Entry:
        """Make the content durable under its name and return its entry.

        `digests` maps names given as `hashes` to the values that the whole content must have; a Writer that goes on
        with parked content, or was not written in order, reads all of it again for that.
        Raises IncompleteWrite, DigestMismatch, PreconditionFailed, OutOfSpace and what the storage refuses;
        after any of them the old content is in place and the new is gone. After Unavailable alone either may be
        there, whole: the storage failed between the change of the name and making it durable.
        """
        if digests or not self._is_prepared:
            self.prepare(digests)
        self._require_open()
        try:
            entry = self._commit()
        except BaseException:
            self.abort()
            raise
        self._open = False
        return entry

    def verify(self, digests: Mapping[str, bytes]) -> None:
        """Compare what this Writer was given, without what it goes on with; raises DigestMismatch and is aborted."""
        self._require_open()
        try:
            _compare(self._hashes if self._in_order else self._hashes_from(self.start, digests), digests)
        except BaseException:
            self.abort()
            raise

    def park(self, note: Callable[[Parked], None]) -> Parked:
        """Keep what was written, durable and invisible, for a Writer that goes on with it (feature resumable).

        `note` has to remember the result; it is called when the content is durable and before anybody could take it
        for debris. Only the beginning of a content can be gone on with: what was not written in order, an update too,
        is Unsupported. When `note` or anything else raises, the Writer is aborted. Raises NotFound where the directory
        is another by now, OutOfSpace, Unavailable.
        """
        self._require_open()
        try:
            if not self._in_order:
                raise Unsupported("what was not written in order is no beginning to go on with")
            parked = self._park(note)
        except BaseException:
            self.abort()
            raise
        self._open = False
        return parked

    def abort(self) -> None:
        """Drop what was written; may be called more than once, and after commit or park it does nothing.

        Of parked content that the Writer goes on with, the first `start` bytes stay parked.
        """
        if self._open:
            self._open = False
            self._abort()

    def _begin_change(self, offset: int, end: int) -> None:
        """Refuse what cannot be changed from `offset` to `end`; what can is no longer in order."""
        if offset < self.start:  # were this process killed now, what was parked would be another content
            raise Unsupported(f"the first {self.start} bytes were parked, and stay as they are")
        if end > self._most:
            raise self._too_much(end)
        self._in_order = self._is_prepared = False
        self._hashes = {}

    def _too_much(self, size: int) -> StorageError:
        if self._expected is None:
            return OutOfSpace(f"no file can have {size} bytes")
        return IncompleteWrite(f"{size} bytes received, {self._expected} announced")

    def _take_over(self, end: int) -> None:
        """Copy what the content has of the old file up to `end`, if that is still to be done."""
        end = min(end, self._old)
        if self._own < end:
            self._copy(self._own, end)
            self._own = end

    def _hashes_from(self, begin: int, names: Iterable[str]) -> dict[str, hashlib._Hash]:
        hashes = {name: hashlib.new(name) for name in names}
        for offset in range(begin, self.written, PIECE):
            piece = self.read_at(offset, PIECE)
            for digest in hashes.values():
                digest.update(piece)
        return hashes

    def _require_open(self) -> None:
        if not self._open:
            raise ValueError("the Writer is closed")

    @abstractmethod
    def _write(self, data: bytes | bytearray | memoryview) -> None:
        """Append all of `data`, which `written` counts already."""

    def _write_at(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Put all of `data`, which is not empty, at `offset`, with zeros in a gap before it (feature random_write)."""
        raise Unsupported("this storage takes a content from its beginning to its end only")

    def _read_at(self, offset: int, size: int) -> bytes:
        """Return so many bytes, all of which were written (features random_write, resumable)."""
        raise Unsupported("this storage gives back no content that is being written")

    def _truncate(self, size: int) -> None:
        """Drop what is beyond, or add zeros up to there (feature random_write)."""
        raise Unsupported("this storage takes a content from its beginning to its end only")

    def _copy(self, begin: int, end: int) -> None:
        """Put these bytes of the old content in their place, where nothing but zeros is yet (feature random_write).

        Raises PreconditionFailed where the old file has changed since it was opened.
        """
        raise Unsupported("this storage takes a content as a whole only")

    def _prepare(self) -> None:
        """Make the content durable, where that can be done before it is visible."""

    @abstractmethod
    def _commit(self) -> Entry:
        """Check the preconditions, make the content visible, that durably, and return its entry."""

    @abstractmethod
    def _abort(self) -> None:
        """Drop what was written; never raises."""

    def _park(self, note: Callable[[Parked], None]) -> Parked:
        """Make the content durable, let `note` remember it, and close (feature resumable)."""
        raise Unsupported("this storage takes a content as a whole only")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()
