"""Reading: each request asks for a range of one version, and the ranges grow as long as they are read in order.

So who reads a file from end to end makes a few large requests, and who jumps about makes small ones. A body is taken
from the connection as it is read, never ahead: it costs no memory. The first bytes of the next range are on their way
before the last of this one are read, so that a distant server is waited for once.
"""

from __future__ import annotations

from concurrent.futures import Future

from backends.errors import NotFound, PreconditionFailed, StorageError, Unavailable
from backends.interface import Reader
from backends.paths import StoragePath
from backends.s3.answers import FAILURES, refusal
from backends.s3.bucket import Bucket, Found, Parameters
from backends.s3.threads import Threads
from backends.s3.tree import entry_of

MIB = 1024 * 1024
GROWTH = 8  # times as large as the range before, if that was read to its end
GAP_MAX = 256 * 1024  # bytes; over a smaller gap it is cheaper to read on than to ask again
AHEAD = 32 * MIB  # bytes before the end of a range when the next one is asked for: 300 MB/s from 100 ms away
LOST_MAX = 3  # connections in a row that may be lost without a byte gained


class _Range:
    """An answer: the bytes from `position` to `end` of the object that are still to come.

    `in_order`: the one before it was read to its end, or the object is read from its beginning.
    """

    def __init__(self, answer: Parameters, first: int, end: int, *, in_order: bool) -> None:
        self._body = answer["Body"]
        self.in_order = in_order
        self.first = first
        self.position = first
        self.end = end

    def take(self, size: int) -> bytes:
        """Return up to `size` of the bytes that come next; raises what FAILURES lists."""
        data: bytes = self._body.read(min(size, self.end - self.position))
        self.position += len(data)
        return data

    def close(self) -> None:
        """Give the connection back, or close it where that has bytes left; never raises."""
        self._body.close()


class S3Reader(Reader):
    """The object as it was when it was opened: what replaces it while it is read is Unavailable, never a mixture."""

    def __init__(self, bucket: Bucket, threads: Threads, key: str, path: StoragePath, found: Found) -> None:
        self.entry = entry_of(path.name, found)
        self._bucket = bucket
        self._threads = threads
        self._key = key
        self._found = found
        self._range: _Range | None = None
        self._next: Future[_Range] | None = None  # begins where this one ends
        self._closed = False

    def read_at(self, offset: int, size: int) -> bytes:
        if self._closed:
            raise ValueError("the Reader is closed")
        size = min(size, self.entry.size - offset)
        if size <= 0:
            return b""
        pieces = []
        while size:
            piece = self._read(offset, size)
            pieces.append(piece)
            offset, size = offset + len(piece), size - len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def close(self) -> None:
        self._closed = True
        self._drop()

    def _read(self, offset: int, size: int) -> bytes:
        """Return at least one byte from `offset`; a connection that was lost on the way is made again."""
        lost = 0
        while True:
            try:
                piece = self._at(offset, size).take(size)
                if piece:
                    self._look_ahead()
                    return piece
                failure: Exception = EOFError("the answer was cut off")
            except FAILURES as error:
                failure = error
            self._drop()
            lost += 1
            if lost >= LOST_MAX:
                what = f"{self._bucket.location}: get object /{self._key}"
                if isinstance(failure, EOFError):
                    raise Unavailable(f"{what}: {failure}")
                raise refusal(failure, what) from failure

    def _at(self, offset: int, size: int) -> _Range:
        """Return a range that goes on at `offset`."""
        present = self._range
        if present is not None and 0 <= offset - present.position <= GAP_MAX and offset < present.end:
            while present.position < offset and present.take(offset - present.position):
                pass
            if present.position == offset:
                return present
        if present is None or not offset == present.position == present.end:
            self._drop()
            goes_on = offset == 0 and size > GAP_MAX  # it seems; a small read is a look at a head
            self._range = self._ask(offset, GROWTH * size if goes_on else size, in_order=goes_on)
        elif self._next is not None:
            following, self._next = self._next, None
            self._drop()
            self._range = following.result()
        else:
            length = max(size, GROWTH * (present.end - present.first))
            self._drop()
            self._range = self._ask(offset, length, in_order=True)
        return self._range

    def _look_ahead(self) -> None:
        """Ask for the next range, in a thread, when this one is read in order and nearly at its end."""
        present = self._range
        if present is None or not present.in_order or self._next is not None or present.end == self.entry.size:
            return
        if present.end - present.position <= AHEAD:
            begin, length = present.end, GROWTH * (present.end - present.first)
            self._next = self._threads.submit(lambda: self._ask(begin, length, in_order=True))

    def _ask(self, offset: int, length: int, *, in_order: bool) -> _Range:
        end = min(offset + length, self.entry.size)
        try:
            answer = self._bucket.get(self._key, self._found.etag, offset, end - 1)
        except (PreconditionFailed, NotFound) as error:
            raise self._changed("it is another version than at the beginning") from error
        found = _Range(answer, offset, end, in_order=in_order)
        try:
            self._check(answer, offset, end)
        except StorageError:
            found.close()
            raise
        return found

    def _check(self, answer: Parameters, offset: int, end: int) -> None:
        """Compare an answer with what was asked for: not every server keeps If-Match, or Range."""
        etag = str(answer.get("ETag", "")).strip('"')
        if etag != self._found.etag:
            raise self._changed("it is another version than at the beginning")
        span = str(answer.get("ContentRange", ""))
        whole = not offset and end == self.entry.size
        if span != f"bytes {offset}-{end - 1}/{self.entry.size}" and not (whole and not span):
            raise self._changed(f"the server sends {span or 'all'} instead of {offset}-{end - 1}/{self.entry.size}")
        if answer.get("ContentLength") != end - offset:
            raise self._changed(f"it has {answer.get('ContentLength')} bytes where {end - offset} were")

    def _changed(self, how: str) -> Unavailable:
        return Unavailable(f"{self._bucket.location}: /{self._key} changed while it was read: {how}", retry_after=1)

    def _drop(self) -> None:
        if self._range is not None:
            self._range.close()
            self._range = None
        if self._next is not None:
            self._next.add_done_callback(_close_unread)
            self._next = None


def _close_unread(future: Future[_Range]) -> None:
    if not future.cancelled() and future.exception() is None:
        future.result().close()
