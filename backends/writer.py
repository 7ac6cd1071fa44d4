"""New content for one path: what every Writer does alike, whatever it writes to."""

from __future__ import annotations

import hashlib
import hmac
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from backends.entries import Entry, Identity
from backends.errors import DigestMismatch, IncompleteWrite, Unsupported


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
    content stays; a Writer whose `write` has failed is aborted, so that a part can never be committed.
    """

    def __init__(self, size: int | None, hashes: tuple[str, ...], start: int = 0) -> None:
        """Expect `size` bytes in all (None: unknown), go on after the first `start` of them, and compute `hashes`
        (names of hashlib) of what is written from there on.
        """
        self._expected = size
        self._hashes = {name: hashlib.new(name) for name in hashes}
        self._open = True
        self._prepared: int | None = None  # bytes that are
        self.start = start  # bytes that were there before
        self.written = start  # bytes in all

    @property
    def is_open(self) -> bool:
        """Tell whether it was neither committed nor parked nor aborted."""
        return self._open

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append `data`; raises IncompleteWrite as soon as there is more than was announced, OutOfSpace."""
        self._require_open()
        try:
            self.written += len(data)
            if self._expected is not None and self.written > self._expected:
                raise IncompleteWrite(f"{self.written} bytes received, {self._expected} announced")
            for digest in self._hashes.values():
                digest.update(data)
            self._write(data)
        except BaseException:
            self.abort()
            raise

    def prepare(self, digests: Mapping[str, bytes] | None = None) -> None:
        """Do all of `commit` that takes long and shows nothing, for whoever looks at something else right before that.

        Raises as `commit`, and is aborted then.
        """
        self._require_open()
        try:
            if self._expected is not None and self.written != self._expected:
                raise IncompleteWrite(f"{self.written} bytes received, {self._expected} announced")
            if digests:
                _compare(self._hashes_of_all(digests) if self.start else self._hashes, digests)
            self._prepare()
        except BaseException:
            self.abort()
            raise
        self._prepared = self.written

    def commit(self, digests: Mapping[str, bytes] | None = None) -> Entry:
        """Make the content durable under its name and return its entry.

        `digests` maps names given as `hashes` to the values that the whole content must have; a Writer that goes on
        with parked content reads all of it again for that.
        Raises IncompleteWrite, DigestMismatch, PreconditionFailed, OutOfSpace and what the storage refuses;
        after any of them the old content is in place and the new is gone. After Unavailable alone either may be
        there, whole: the storage failed between the change of the name and making it durable.
        """
        if digests or self._prepared != self.written:
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
            _compare(self._hashes, digests)
        except BaseException:
            self.abort()
            raise

    def park(self, note: Callable[[Parked], None]) -> Parked:
        """Keep what was written, durable and invisible, for a Writer that goes on with it (feature resumable).

        `note` has to remember the result; it is called when the content is durable and before anybody could take it
        for debris. When `note` or anything else raises, the Writer is aborted. Raises NotFound where the directory
        is another by now, OutOfSpace, Unavailable.
        """
        self._require_open()
        try:
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

    def _hashes_of_all(self, digests: Mapping[str, bytes]) -> dict[str, hashlib._Hash]:
        hashes = {name: hashlib.new(name) for name in digests}
        for piece in self._read_back():
            for digest in hashes.values():
                digest.update(piece)
        return hashes

    def _require_open(self) -> None:
        if not self._open:
            raise ValueError("the Writer is closed")

    @abstractmethod
    def _write(self, data: bytes | bytearray | memoryview) -> None:
        """Append all of `data`."""

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

    def _read_back(self) -> Iterator[bytes]:
        """Give all of the content from its first byte, what was parked before included (feature resumable)."""
        raise Unsupported("this storage takes a content as a whole only")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()
