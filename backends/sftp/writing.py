"""Writing: into a hidden temporary, many requests on their way, and the status of every one is read.

write     WRITE, WRITE, ...                           at most 16 without an answer
update    what of the old content is still needed     copied by the server (copy-data), or read and written
prepare   their statuses, fsync, and the size that the server has now
commit    compare, take over the old permissions, CLOSE, rename, fsync once more for the name
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from backends.errors import IncompleteWrite, NotFound, OutOfSpace, PermissionDenied, StorageError, Unavailable
from backends.interface import Entry, Writer, check_preconditions
from backends.name_locks import NameLocks
from backends.paths import StoragePath
from backends.sftp.answers import Answer
from backends.sftp.connections import Lease
from backends.sftp.leftovers import Leftovers
from backends.sftp.naming import make_name_durable, rename_to_free_name, steady
from backends.sftp.naming import replace as replace_name
from backends.sftp.opening import OpenFile
from backends.sftp.session import COPY_DATA, FSYNC, Request, Session
from backends.sftp.space import is_full, require_space
from backends.sftp.statuses import EndOfData, Failure
from backends.sftp.tree import Taken, Tree, below
from backends.sftp.versions import SECOND, Versions, entry_of
from backends.sftp_packets import Attributes, Type, string, u32, u64

DEPTH = 16  # requests without an answer
COPY_PIECE = 64 * 1024 * 1024  # bytes per copy-data, which the server answers only when it is done
_PRIVATE = 0o600  # until it has the permissions of what it replaces


@dataclass(frozen=True, slots=True)
class Target:
    """The name that a write is for, and what the writer expects to be there."""

    tree: Tree
    path: StoragePath
    if_match: str | None
    if_none_match: bool

    def check(self, present: Taken | None) -> None:
        """Raise PreconditionFailed, IsADirectory, PermissionDenied."""
        if present is not None and present.entry is None:
            raise PermissionDenied(f"/{self.path}: the name is taken by something that is not served")
        check_preconditions(present.entry if present else None, self.if_match, self.if_none_match)

    def directory(self, session: Session) -> bytes:
        return self.tree.parent(session, self.path)

    def present(self, session: Session, directory: bytes) -> Taken | None:
        """Return what has the name now; raises as `check`."""
        present = self.tree.taken(session, self.path, directory)
        self.check(present)
        return present


@dataclass(frozen=True, slots=True)
class Source:
    """A file that a new content begins with, open on the same session, and the error for a change of it since then."""

    file: OpenFile
    changed: StorageError


class SFTPWriter(Writer):
    """Its connection is not replaced when it breaks: what was written has to be proven where it was written."""

    def __init__(
        self,
        lease: Lease,
        target: Target,
        leftovers: Leftovers,
        locks: NameLocks[bytes],
        versions: Versions,
        *,
        size: int | None,
        hashes: tuple[str, ...],
        source: Source | None,
    ) -> None:
        """Make the temporary, and give `lease` back in the end, and close `source`; raises as
        `StorageBackend.open_write`.
        """
        super().__init__(size, hashes, old=source.file.entry.size if source else None)
        self._lease = lease
        self._session = lease.session
        self._target = target
        self._leftovers = leftovers
        self._locks = locks
        self._versions = versions
        self._what = f"/{target.path}"
        self._source = source
        self._held = bytearray()
        self._at = 0  # where in the file what is held, or sent next, belongs
        self._on_the_way: deque[int] = deque()
        self._facts = Attributes()
        self._directory = directory = target.directory(self._session)
        present = target.present(self._session, directory)
        require_space(self._session, directory, size)
        mode = _PRIVATE if present is not None else None
        try:
            self._temporary, self._handle = leftovers.create(self._session, target.path.parent, directory, mode)
        except Failure as error:
            raise self._explained(error) from error

    def _write(self, data: bytes | bytearray | memoryview) -> None:
        self._write_at(self.written - len(data), data)

    def _write_at(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        if offset != self._at + len(self._held):
            self._flush()
            self._at = offset
        rest, most = memoryview(data).cast("B"), self._session.write_size
        while rest:
            if not self._held and len(rest) >= most:
                self._send(rest[:most])
                rest = rest[most:]
                continue
            taken = most - len(self._held)
            self._held += rest[:taken]
            rest = rest[taken:]
            if len(self._held) == most:
                self._flush()

    def _read_at(self, offset: int, size: int) -> bytes:
        self._finish()
        return b"".join(self._content(self._handle, offset, offset + size))

    def _truncate(self, size: int) -> None:
        self._flush()
        self._demand([self._set(Attributes(size=size))])

    def _copy(self, begin: int, end: int) -> None:
        source = self._source
        assert source is not None
        try:
            if self._session.offers(COPY_DATA):
                self._let_copy(source.file, begin, end)
            else:
                for piece in self._content(source.file.handle, begin, end):
                    self._write_at(begin, piece)
                    begin += len(piece)
        except EndOfData as error:
            raise source.changed from error
        except Failure as error:
            raise self._explained(error) from error
        (now,) = self._demand([(Type.FSTAT, string(source.file.handle))])
        if not source.file.is_described_by(now.attributes()):
            raise source.changed

    def _let_copy(self, source: OpenFile, begin: int, end: int) -> None:
        for offset in range(begin, end, COPY_PIECE):
            count = min(COPY_PIECE, end - offset)
            where = string(source.handle), u64(offset), u64(count), string(self._handle), u64(offset)
            self._session.ask(self._what, Type.EXTENDED, string(COPY_DATA), *where)

    def _content(self, handle: bytes, begin: int, end: int) -> Iterator[bytes]:
        """Give these bytes of an open file, many requests at once; raises EndOfData where it ends earlier."""
        most = self._session.read_size
        while begin < end:
            sizes = {offset: min(most, end - offset) for offset in range(begin, min(end, begin + DEPTH * most), most)}
            requests = [(Type.READ, string(handle) + u64(offset) + u32(size)) for offset, size in sizes.items()]
            for answer, (offset, size) in zip(self._demand(requests), sizes.items(), strict=True):
                data = answer.data(size)
                if not data:
                    raise EndOfData(f"{self._session.name}: {self._what}: it ends here")
                yield data
                begin = offset + len(data)
                if len(data) < size:  # a server may send less than it was asked for: go on from there
                    break

    def _flush(self) -> None:
        if self._held:
            self._send(self._held)
            self._held = bytearray()

    def _send(self, data: bytearray | memoryview) -> None:
        while len(self._on_the_way) >= DEPTH:
            self._take_status()
        fields = string(self._handle), u64(self._at), string(bytes(data))
        self._on_the_way.append(self._session.begin(self._what, Type.WRITE, *fields))
        self._at += len(data)

    def _take_status(self) -> None:
        try:
            self._session.end(self._on_the_way.popleft())
        except Failure as error:
            raise self._explained(error) from error

    def _finish(self) -> None:
        """Send what is held, and read the status of all that was sent."""
        self._flush()
        while self._on_the_way:
            self._take_status()

    def _prepare(self) -> None:
        self._finish()
        *_, status = self._demand([*self._fsync(), (Type.FSTAT, string(self._handle))])
        self._require_whole(status.attributes())

    def _commit(self) -> Entry:
        directory = self._target.directory(self._session)
        place = below(directory, self._target.path.name)
        with self._locks.held(place):
            if self._temporary.place.rpartition(b"/")[0] != directory.rstrip(b"/"):
                raise NotFound(f"{self._what}: the directory is another one by now")
            present = self._target.present(self._session, directory)
            facts = self._settle(place, present)
            self._give_name(place, directory, present)
        make_name_durable(self._session, self._target.path, place)
        self._release()
        return entry_of(self._target.path.name, facts)

    def _settle(self, place: bytes, present: Taken | None) -> Attributes:
        """Give the temporary the permissions and the time to show, close it, and return what the server has of it."""
        old = present.entry if present else None  # through a link what that shows: the content may be from there
        own = self._facts.modified or 0
        newer = self._versions.after(place, old.modified // SECOND if old else 0, own)
        requests: list[Request] = []
        if old is not None and old.owner is not None and old.owner != self._facts.owner:
            group_alone = (self._facts.owner or old.owner)[0], old.owner[1]
            wanted = [self._set(Attributes(owner=owner)) for owner in (group_alone, old.owner)]
            self._session.together(self._what, wanted)  # as far as permitted
        if old is not None and old.mode is not None:
            requests.append(self._set(Attributes(mode=old.mode & 0o777)))
        if newer != own:
            requests.append(self._set(Attributes(modified=newer)))
        if requests:
            requests += self._fsync()
        *_, status, _ = self._demand(
            [*requests, (Type.FSTAT, string(self._handle)), (Type.CLOSE, string(self._handle))]
        )
        self._handle = b""
        self._require_whole(status.attributes())
        return self._facts

    def _give_name(self, place: bytes, directory: bytes, present: Taken | None) -> None:
        hidden, path, prefix = self._temporary.place, self._target.path, self._target.tree.hidden
        with steady(self._session, self._locks):
            if present is None:
                try:
                    rename_to_free_name(self._session, path, hidden, place)
                except Failure:
                    if self._target.present(self._session, directory) is None:
                        raise
                    replace_name(self._session, path, hidden, place, prefix)
            else:
                replace_name(self._session, path, hidden, place, prefix)
        self._leftovers.forget(self._temporary)

    def _abort(self) -> None:
        self._session.forget(self._on_the_way)
        if self._handle:
            self._session.close_handle(self._handle)
        self._leftovers.remove(self._session, self._temporary)
        self._release()

    def _release(self) -> None:
        if self._source is not None:
            self._source.file.close()
        self._lease.release()

    def _demand(self, requests: list[Request]) -> list[Answer]:
        try:
            return self._session.all_of(self._what, requests)
        except Failure as error:
            raise self._explained(error) from error

    def _fsync(self) -> list[Request]:
        return [(Type.EXTENDED, string(FSYNC) + string(self._handle))] if self._session.offers(FSYNC) else []

    def _set(self, attributes: Attributes) -> Request:
        return Type.FSETSTAT, string(self._handle) + attributes.to_bytes()

    def _require_whole(self, facts: Attributes) -> None:
        self._facts = facts
        if facts.size != self.written:
            name = self._session.name
            raise IncompleteWrite(f"{name}: {self._what}: {facts.size} of {self.written} bytes are on the server")

    def _explained(self, failure: Failure) -> StorageError:
        """Return why the server could not write, if that is to be found out."""
        if is_full(self._session, self._directory):
            return OutOfSpace(f"{self._session.name}: {self._what}: no space left")
        return Unavailable(str(failure))
