"""A content that is too large for one request goes up in parts, several at a time.

A part is held in memory while it is sent, or, where 10,000 small ones would not do, in an unnamed file: so what a
stream holds in memory is at most (PARALLEL + 1) * IN_MEMORY = 40 MiB, whatever its size.
"""

from __future__ import annotations

import errno
import io
import tempfile
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import BinaryIO

from backends.errors import OutOfSpace, StorageError, Unavailable
from backends.paths import StoragePath
from backends.s3.bucket import Bucket, Parameters
from backends.s3.leftovers import Leftovers
from backends.s3.threads import Threads

MIB = 1024 * 1024
# Amazon S3 User Guide, "Multipart upload limits"
PARTS_MAX = 10_000
PART_MAX = 5 * 1024 * MIB

IN_MEMORY = 8 * MIB
PARALLEL = 4  # parts of one stream on their way at a time

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

# Of a content whose size is not known, the first parts are small; each further step doubles them. 6.7 TiB in all.
FIRST_STEP, STEP = 2000, 900


def part_size(number: int, total: int | None) -> int:
    """Return how many bytes the part `number`, counted from 1, is to have, if `total` are expected (None: unknown)."""
    if total is not None:
        least = -(-total // PARTS_MAX)
        return max(IN_MEMORY, -(-least // MIB) * MIB)
    steps = max(0, (number - FIRST_STEP + STEP - 1) // STEP)
    return int(min(IN_MEMORY << steps, PART_MAX))


class Part:
    """Some bytes of a content, up to `size`, in memory or in a file without a name below `spool`."""

    def __init__(self, size: int, spool: Path) -> None:
        """Raises OSError."""
        self.size = size
        self.length = 0
        self.body: bytearray | BinaryIO = bytearray() if size <= IN_MEMORY else _unnamed(spool)

    @property
    def is_full(self) -> bool:
        return self.length == self.size

    def take(self, data: memoryview) -> int:
        """Append as much of `data` as fits and return how much that was; raises OSError."""
        piece = data[: self.size - self.length]
        if isinstance(self.body, bytearray):
            self.body += piece
        else:
            self.body.write(piece)
        self.length += len(piece)
        return len(piece)

    def content(self) -> bytearray | BinaryIO | Sending:
        """Return the body as it is best sent: for a file botocore first asks the server whether it may (Expect)."""
        if isinstance(self.body, bytearray) and self.length > Sending.PIECE:
            return Sending(self.body)
        return self.body

    def close(self) -> None:
        """Release what it holds; may be called more than once."""
        if not isinstance(self.body, bytearray):
            self.body.close()
        self.body = bytearray()


class Sending:
    """Bytes in memory as a file, without a copy: in one piece, all would have to be sent within one time-out.

    http.client asks for 16 KiB at a time, and sends what it gets: here that is more.
    """

    PIECE = 256 * 1024  # bytes

    def __init__(self, content: bytearray) -> None:
        self._content = memoryview(content)
        self._position = 0

    def read(self, size: int = -1) -> memoryview:
        end = len(self._content) if size < 0 else self._position + max(size, self.PIECE)
        piece = self._content[self._position : end]
        self._position += len(piece)
        return piece

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: len(self._content)}[whence]
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        return self._position


def _unnamed(spool: Path) -> BinaryIO:
    spool.mkdir(mode=0o700, parents=True, exist_ok=True)
    return tempfile.TemporaryFile(dir=spool)


class PartedUpload:
    """An upload in parts, from its beginning to `complete` or `abort`; used by one thread at a time."""

    def __init__(
        self,
        bucket: Bucket,
        key: str,
        path: StoragePath,
        threads: Threads,
        leftovers: Leftovers,
        description: Parameters | None = None,
    ) -> None:
        """Begin it; raises StorageErrors. `path` names it in the journal, `description` goes with the object."""
        self._bucket = bucket
        self._key = key
        self._threads = threads
        self._under_way: deque[Future[Parameters]] = deque()
        self._parts: list[Parameters] = []
        self._number = 0
        self._dropped = False
        self._note = leftovers.enter(path)
        try:
            self.id = bucket.begin(key, **(description or {}))
        except Unavailable:  # perhaps it has begun, and only the answer was lost
            self._note.keep()
            raise
        except BaseException:
            self._note.leave()
            raise
        try:
            self._note.name(self.id)
        except BaseException:
            self.abort()
            raise

    def send(self, part: Part) -> None:
        """Send the part in a thread, and close it then; raises what became of an earlier one."""

        def sent(number: int) -> str:
            try:
                return self._bucket.part(self._key, self.id, number, part.content())
            finally:
                part.close()

        in_memory = isinstance(part.body, bytearray)
        self.do(sent, part.close, PARALLEL if in_memory else 1)

    def do(self, store: Callable[[int], str], drop: Callable[[], None], parallel: int = PARALLEL) -> None:
        """Let a thread call `store` with the number of the next part, for its ETag; `drop` if it is not called."""
        while len(self._under_way) >= parallel:
            self._collect()
        self._number += 1
        self._under_way.append(self._threads.submit(partial(self._store, self._number, store, drop)))

    def wait(self) -> None:
        """Wait for all parts that were sent; raises what became of them."""
        while self._under_way:
            self._collect()

    def complete(self, conditions: Parameters) -> None:
        """Make the parts the content of the object; raises StorageErrors, and then nothing has changed.

        After Unavailable alone it may have.
        """
        self.wait()
        self._bucket.complete(self._key, self.id, self._parts, conditions)
        self._note.leave()

    def abort(self) -> None:
        """Drop the upload; what cannot be dropped now stays in the journal for the next start. Never raises."""
        self._dropped = True
        for future in self._under_way:
            future.exception()  # a part that arrives after the abort would stay, and be paid for
        try:
            self._bucket.abort(self._key, self.id)
        except StorageError:
            self._note.keep()
        else:
            self._note.leave()

    def _store(self, number: int, store: Callable[[int], str], drop: Callable[[], None]) -> Parameters:
        if self._dropped:
            drop()
            raise Unavailable("the upload was dropped")
        return {"PartNumber": number, "ETag": store(number)}

    def _collect(self) -> None:
        self._parts.append(self._under_way.popleft().result())


def new_part(number: int, total: int | None, spool: Path) -> Part:
    """Return an empty part; raises OutOfSpace and Unavailable where there is no place for it on this machine."""
    try:
        return Part(part_size(number, total), spool)
    except OSError as error:
        raise local_refusal(error, spool) from error


def local_refusal(error: OSError, spool: Path) -> StorageError:
    """Return what is wrong with the place for parts on this machine."""
    kind = OutOfSpace if error.errno in _FULL else Unavailable
    return kind(f"a part of an upload does not fit in {spool}: {error.strerror}")
