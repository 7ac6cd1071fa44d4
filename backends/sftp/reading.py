"""Reading: requests for what comes next are on their way while a reader goes straight on; after a jump there are none.

What was read counts only when the file has not changed meanwhile: each group of requests is followed by a look at
the open file, which the server takes in turn, so it costs no time of its own.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from backends.errors import Unavailable
from backends.interface import Reader
from backends.paths import StoragePath
from backends.sftp.connections import Connections, Lease
from backends.sftp.opening import OpenFile, open_file
from backends.sftp.session import Session
from backends.sftp.statuses import EndOfData, Lost
from backends.sftp.tree import Tree
from backends.sftp.versions import Versions
from backends.sftp_packets import Type, string, u32, u64

DEPTH = 16  # requests on their way: with 255 KiB each the fastest on loopback, and 4 MiB in 100 ms far away


@dataclass(slots=True)
class Look:
    """A look at the file after a group of requests; `number` is None when it was found unchanged."""

    number: int | None


@dataclass(slots=True)
class Piece:
    """A part of the file, on its way or here, and the look that comes after it."""

    offset: int
    size: int
    number: int
    look: Look
    data: bytes | None = None

    @property
    def end(self) -> int:
        return self.offset + self.size


class SFTPReader(Reader):
    """An open file: if its name is replaced it stays what it was; if it is changed in place, reading is Unavailable."""

    def __init__(self, connections: Connections, tree: Tree, versions: Versions, path: StoragePath) -> None:
        """Open the file; raises NotFound, IsADirectory, PermissionDenied, Unavailable."""
        self._connections = connections
        self._tree = tree
        self._versions = versions
        self._path = path
        self._what = f"/{path}"
        self._ahead: deque[Piece] = deque()  # without gaps
        self._next = 0  # the offset at which a reader goes straight on
        self._depth = 1  # pieces to ask for beyond what is wanted now
        self._closed = False
        self._lease, self._file = connections.keeping(self._open)
        self.entry = self._file.entry

    def read_at(self, offset: int, size: int) -> bytes:
        if self._closed:
            raise ValueError("the Reader is closed")
        size = min(size, self.entry.size - offset)
        if size <= 0:
            return b""
        try:
            return self._read(offset, size)
        except Lost:
            self._reopen()
            return self._read(offset, size)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._drop()
            self._file.close()
            self._lease.release()

    @property
    def _session(self) -> Session:
        return self._file.session

    def _reopen(self) -> None:
        """Open the file on another connection; raises Unavailable where it is not the same any more."""
        self._lease.release()
        self._lease, self._file = self._connections.keeping(self._open)
        if self._file.entry != self.entry:
            self.close()
            raise self._changed()

    def _open(self, lease: Lease) -> tuple[Lease, OpenFile]:
        return lease, open_file(lease.session, self._tree, self._versions, self._path)

    def _read(self, offset: int, size: int) -> bytes:
        end = offset + size
        if offset == self._next:
            self._depth = min(2 * self._depth, self._most())
        else:
            self._drop()
            self._depth = 0
        ahead = min(end + self._depth * self._session.read_size, self.entry.size)
        parts: list[bytes] = []
        try:
            while offset < end:
                self._ask(offset, max(end, ahead))
                piece = self._ahead[0]
                parts.append(self._content(piece)[offset - piece.offset : end - piece.offset])
                offset += len(parts[-1])
                if offset == piece.end:
                    self._ahead.popleft()
        except BaseException:
            self._drop()  # its looks may be spent, so that nothing would show any more that it has changed
            raise
        self._next = end
        self._depth = max(self._depth, 1)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _most(self) -> int:
        """Return how many answers a reader may leave untaken: a server whose window is full takes no request."""
        return min(DEPTH, self._session.reads_ahead // max(self._session.load, 1))

    def _ask(self, offset: int, end: int) -> None:
        """Ask for what is not on its way yet, up to `end`, in groups of at least half of the depth."""
        begin = self._ahead[-1].end if self._ahead else offset
        most = max(2, self._most())
        if begin >= end or len(self._ahead) > most // 2:
            return
        look = Look(None)
        while begin < end and len(self._ahead) < most:
            size = min(self._session.read_size, end - begin)
            self._ahead.append(Piece(begin, size, self._begin_read(begin, size), look))
            begin += size
        look.number = self._begin_look()

    def _content(self, piece: Piece) -> bytes:
        if piece.data is None:
            piece.data = self._answer(piece.number, piece.size)
            while len(piece.data) < piece.size:  # a server may send less than it was asked for
                missing = piece.size - len(piece.data)
                number = self._begin_read(piece.offset + len(piece.data), missing)
                look = self._begin_look()
                piece.data += self._answer(number, missing)
                self._require_unchanged(Look(look))
            self._require_unchanged(piece.look)
        return piece.data

    def _answer(self, number: int, size: int) -> bytes:
        try:
            data = self._session.end(number).data(size)
        except EndOfData:
            data = b""
        if not data:
            raise self._changed()
        return data

    def _require_unchanged(self, look: Look) -> None:
        number, look.number = look.number, None
        if number is not None and not self._file.is_described_by(self._session.end(number).attributes()):
            raise self._changed()

    def _begin_read(self, offset: int, size: int) -> int:
        return self._session.begin(self._what, Type.READ, string(self._file.handle), u64(offset), u32(size))

    def _begin_look(self) -> int:
        return self._session.begin(self._what, Type.FSTAT, string(self._file.handle))

    def _changed(self) -> Unavailable:
        return Unavailable(f"{self._session.name}: {self._what} changed while it was read", retry_after=1)

    def _drop(self) -> None:
        """Do without what is on its way."""
        looks = {id(piece.look): piece.look.number for piece in self._ahead}
        numbers = [piece.number for piece in self._ahead if piece.data is None]
        self._session.forget([*numbers, *(number for number in looks.values() if number is not None)])
        self._ahead.clear()
