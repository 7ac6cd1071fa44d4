"""Listing one directory: a few READDIRs are on their way, and links are looked through together."""

from __future__ import annotations

import contextlib
import stat
import time
from collections import deque

from backends import temporaries
from backends.errors import InvalidPath, NotFound, StorageError, Unavailable
from backends.interface import Entry, Scan
from backends.paths import StoragePath, check_name
from backends.sftp.answers import Answer
from backends.sftp.connections import Lease
from backends.sftp.leftovers import Leftovers
from backends.sftp.statuses import EndOfData
from backends.sftp.tree import Found, Tree, below
from backends.sftp.versions import entry_of
from backends.sftp_packets import Attributes, Type, string

AHEAD = 8  # requests; OpenSSH answers each with 100 names
TOGETHER = 100  # names that are sorted out together; an answer has room for tens of thousands


class SFTPScan(Scan):
    """Entries as they arrive; the directory stays open until the end or `close`."""

    def __init__(
        self, lease: Lease, tree: Tree, leftovers: Leftovers, path: StoragePath, place: bytes, batch: int
    ) -> None:
        """List the directory at `place`, and give `lease` back at the end; raises NotFound, Unavailable."""
        self._lease = lease
        self._session = lease.session
        self._tree = tree
        self._leftovers = leftovers
        self._path = path
        self._place = place
        self._batch = batch
        self._asked: deque[int] = deque()
        self._named: deque[tuple[bytes, Attributes]] = deque()  # to be sorted out
        self._ready: deque[Entry] = deque()
        self._failure: StorageError | None = None
        self._handle: bytes | None = self._session.ask(f"/{path}", Type.OPENDIR, string(place)).string()

    def next(self) -> list[Entry]:
        if self._failure is not None:  # an empty list would say that this was all
            raise self._failure
        try:
            self._fill(time.monotonic() + self._session.patience)
        except StorageError as error:
            self._failure = error
            self.close()
            raise
        return [self._ready.popleft() for _ in range(min(self._batch, len(self._ready)))]

    def close(self) -> None:
        self._named.clear()
        self._ready.clear()
        self._end()

    def _end(self) -> None:
        handle, self._handle = self._handle, None
        if handle is not None:
            self._session.forget(self._asked)
            self._session.close_handle(handle)
            self._lease.release()

    def _fill(self, deadline: float) -> None:
        """Take what makes up a batch, or has come in time: nobody can call off a thread that waits for more."""
        while len(self._ready) < self._batch and self._handle is not None:
            if time.monotonic() > deadline:
                if self._ready:
                    return
                name, patience = self._session.name, self._session.patience
                raise Unavailable(f"{name}: /{self._path}: nothing to show within {patience:g} s")
            self._take_some(self._handle)

    def _take_some(self, handle: bytes) -> None:
        if self._named:
            self._sort_out([self._named.popleft() for _ in range(min(TOGETHER, len(self._named)))])
            return
        while len(self._asked) < AHEAD:
            self._asked.append(self._session.begin(f"/{self._path}", Type.READDIR, string(handle)))
        try:
            self._named.extend(_names(self._session.end(self._asked.popleft())))
        except EndOfData:
            self._end()

    def _sort_out(self, named: list[tuple[bytes, Attributes]]) -> None:
        """Keep what can be shown; sweep temporaries that nobody writes any more."""
        links: list[StoragePath] = []
        for name, attributes in named:
            if temporaries.is_hidden(name, self._tree.hidden):
                self._sweep(name, attributes)
                continue
            try:
                check_name(name)  # `.` and `..` are among them
                if stat.S_ISLNK(attributes.mode or 0):
                    links.append(self._path.child(name))
                else:
                    self._ready.append(entry_of(name, attributes))
            except (InvalidPath, NotFound):  # impossible to address, or of a special type
                continue
        if links:
            found = self._tree.looks(self._session, links)
            self._ready.extend(one.entry for one in found if isinstance(one, Found))

    def _sweep(self, name: bytes, attributes: Attributes) -> None:
        place = below(self._place, name)
        is_temporary = temporaries.is_temporary(name, self._tree.hidden)
        if is_temporary and self._leftovers.is_stale(place, attributes):
            with contextlib.suppress(StorageError):  # another was faster, or it is not ours to remove
                self._session.ask(f"/{self._path}", Type.REMOVE, string(place))


def _names(answer: Answer) -> list[tuple[bytes, Attributes]]:
    """Return the names in a part of a list, without how the server would print them."""
    named = []
    for _ in range(answer.u32()):
        name, _, attributes = answer.string(), answer.string(), answer.attributes()
        named.append((name, attributes))
    return named
