"""Listing one directory: a few READDIRs are on their way, and links are looked through together."""

from __future__ import annotations

import contextlib
import stat
from collections import deque

from backends import temporaries
from backends.errors import InvalidPath, NotFound, StorageError
from backends.interface import Entry, Scan
from backends.paths import StoragePath, check_name
from backends.sftp.connections import Lease
from backends.sftp.leftovers import Leftovers
from backends.sftp.packets import OPENDIR, READDIR, REMOVE, Attributes, Fields, string
from backends.sftp.statuses import EndOfData
from backends.sftp.tree import Found, Tree, below
from backends.sftp.versions import entry_of

AHEAD = 8  # requests; OpenSSH answers each with 100 names


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
        self._ready: deque[Entry] = deque()
        self._failure: StorageError | None = None
        self._handle: bytes | None = self._session.ask(f"/{path}", OPENDIR, string(place)).string()

    def next(self) -> list[Entry]:
        if self._failure is not None:  # an empty list would say that this was all
            raise self._failure
        try:
            while len(self._ready) < self._batch and self._handle is not None:
                self._take_some(self._handle)
        except StorageError as error:
            self._failure = error
            self.close()
            raise
        return [self._ready.popleft() for _ in range(min(self._batch, len(self._ready)))]

    def close(self) -> None:
        self._ready.clear()
        self._end()

    def _end(self) -> None:
        handle, self._handle = self._handle, None
        if handle is not None:
            self._session.forget(self._asked)
            self._session.close_handle(handle)
            self._lease.release()

    def _take_some(self, handle: bytes) -> None:
        while len(self._asked) < AHEAD:
            self._asked.append(self._session.begin(f"/{self._path}", READDIR, string(handle)))
        try:
            self._sort_out(self._session.end(self._asked.popleft()))
        except EndOfData:
            self._end()

    def _sort_out(self, answer: Fields) -> None:
        """Keep what can be shown; sweep temporaries that nobody writes any more."""
        links: list[StoragePath] = []
        for _ in range(answer.u32()):
            name, _, attributes = answer.string(), answer.string(), answer.attributes()
            if temporaries.is_hidden(name):
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
        if temporaries.is_temporary(name) and self._leftovers.is_stale(place, attributes):
            with contextlib.suppress(StorageError):  # another was faster, or it is not ours to remove
                self._session.ask(f"/{self._path}", REMOVE, string(place))
