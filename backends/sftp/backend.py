"""The storage contract on SFTP.

Links are as in a local tree: a visible one is read through; removing, renaming and replacing act on the link itself,
and it is renamed only within its directory. Looking and acting are two requests: among the threads of one backend
they are held together by a lock for each name, while other processes and programs may come in between.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from backends.checks import check_kinds, check_rename, require_below_root
from backends.errors import (
    AlreadyExists,
    DirectoryNotEmpty,
    IncompleteWrite,
    IsADirectory,
    NotADirectory,
    OutOfSpace,
    PermissionDenied,
    PreconditionFailed,
    StorageError,
    Unavailable,
    Unsupported,
)
from backends.interface import SCAN_BATCH, Entry, Features, Parked, Space, StorageBackend
from backends.journal import Journal
from backends.name_locks import NameLocks
from backends.paths import StoragePath
from backends.sftp.connecting import Entrance, connect
from backends.sftp.connections import Connections, Lease
from backends.sftp.leftovers import Leftovers
from backends.sftp.naming import make_name_durable, rename_to_free_name, replace, steady
from backends.sftp.opening import open_file
from backends.sftp.reading import SFTPReader
from backends.sftp.scanning import SFTPScan
from backends.sftp.session import COPY_DATA, POSIX_RENAME, STATVFS, Session
from backends.sftp.space import file_system, is_full
from backends.sftp.statuses import Failure
from backends.sftp.tree import Taken, Tree, below
from backends.sftp.versions import Versions
from backends.sftp.writing import SFTPWriter, Source, Target
from backends.sftp_packets import Attributes, Type, string

CONNECTIONS = 4
TRIES = 3  # of a change of names that fails and nobody can see why

T = TypeVar("T")


class SFTPBackend(StorageBackend):
    """The tree below `root` on a server; nothing is asked of the server before it is used.

    `features` are those of the server, and none that depends on it before it has been spoken to.
    """

    def __init__(
        self,
        account: Entrance,
        root: str,
        journal_dir: Path,
        *,
        connections: int = CONNECTIONS,
        may_be_file: bool = False,
    ) -> None:
        """`journal_dir` is on a disk of this machine and shared by the processes that serve the same root.

        With `may_be_file` the root may be a file, which can be read: a write needs a directory beside it.
        """
        self.features = Features(random_write=True)
        self._account = account
        self._may_be_file = may_be_file
        self._tree = Tree(root.encode("utf-8", "surrogateescape"), account.hidden)
        self._connections = Connections(self._connect, connections, account.beginning)
        self._journal = Journal(journal_dir, account.name)
        self._leftovers = Leftovers(self._journal, self._connections, self._tree)
        self._locks: NameLocks[bytes] = NameLocks()
        self._versions = Versions()

    def _connect(self) -> Session:
        session = connect(self._account)
        self.features = Features(
            atomic_replace=session.offers(POSIX_RENAME),
            server_side_copy=session.offers(COPY_DATA),
            random_write=True,
            quota=session.offers(STATVFS),
        )
        return session

    def sweep(self) -> int:
        """Remove the temporaries that dead processes left; returns how many. Raises Unavailable."""
        return self._leftovers.sweep()

    # Reading

    def stat(self, path: StoragePath) -> Entry:
        return self._connections.twice(lambda session: self._stat(session, path))

    def _stat(self, session: Session, path: StoragePath) -> Entry:
        entry = self._tree.look(session, path).entry
        if path.is_root and not entry.is_directory and not self._may_be_file:
            self._tree.require_root(session)
        return entry

    def scan(self, path: StoragePath, batch: int = SCAN_BATCH) -> SFTPScan:
        def begin(lease: Lease) -> SFTPScan:
            found = self._tree.look(lease.session, path)
            if not found.entry.is_directory:
                raise NotADirectory(f"/{path} is not a directory")
            return SFTPScan(lease, self._tree, self._leftovers, path, found.place, batch)

        return self._connections.keeping(begin)

    def open_read(self, path: StoragePath) -> SFTPReader:
        return SFTPReader(self._connections, self._tree, self._versions, path)

    def space(self) -> Space:
        return self._connections.twice(lambda session: file_system(session, self._tree.root).space)

    # Writing

    def open_write(
        self,
        path: StoragePath,
        *,
        size: int | None = None,
        if_match: str | None = None,
        if_none_match: bool = False,
        hashes: tuple[str, ...] = (),
        resume: Parked | None = None,
    ) -> SFTPWriter:
        if resume is not None:
            raise Unsupported(f"{self._account}: an upload is not gone on with")
        if path.is_root:
            if self._may_be_file and not self.stat(path).is_directory:
                raise PermissionDenied(f"{self._account}: a single file cannot be replaced safely, only in its folder")
            raise IsADirectory("the root cannot be written as a file")
        self._leftovers.tidy()
        target = Target(self._tree, path, if_match, if_none_match)
        return self._connections.keeping(lambda lease: self._writer(lease, target, size=size, hashes=hashes))

    def open_update(self, path: StoragePath) -> SFTPWriter:
        if path.is_root:
            raise IsADirectory("the root cannot be written as a file")
        self._leftovers.tidy()

        def begin(lease: Lease) -> SFTPWriter:
            session = lease.session
            changed = PreconditionFailed(f"{session.name}: /{path} has changed since it was opened")
            present = open_file(session, self._tree, self._versions, path)
            try:
                target = Target(self._tree, path, present.entry.etag, False)
                return self._writer(lease, target, source=Source(present, changed))
            except BaseException:
                present.close()
                raise

        return self._connections.keeping(begin)

    def _writer(
        self,
        lease: Lease,
        target: Target,
        *,
        size: int | None = None,
        hashes: tuple[str, ...] = (),
        source: Source | None = None,
    ) -> SFTPWriter:
        ours = self._leftovers, self._locks, self._versions
        return SFTPWriter(lease, target, *ours, size=size, hashes=hashes, source=source)

    def make_directory(self, path: StoragePath) -> Entry:
        if path.is_root:
            raise AlreadyExists("the root exists")
        with self._connections.take() as session:
            parent = self._tree.parent(session, path)
            place = below(parent, path.name)
            with self._locks.held(place):
                _try_again(lambda: self._make_directory(session, path, parent, place))
                return self._tree.look(session, path).entry

    def _make_directory(self, session: Session, path: StoragePath, parent: bytes, place: bytes) -> None:
        try:
            session.ask(f"/{path}", Type.MKDIR, string(place), Attributes().to_bytes())
        except Failure as error:
            if self._tree.taken(session, path, parent) is not None:
                raise AlreadyExists(f"/{path}: the name is taken") from error
            raise _explained(session, parent, error) from error

    def remove(self, path: StoragePath) -> None:
        require_below_root(path)
        with self._connections.take() as session:
            parent = self._tree.parent_of_existing(session, path)
            place = below(parent, path.name)
            with self._locks.held(place):
                entry, taken = self._tree.visible(session, path, parent)
                if entry.is_directory and not taken.is_link:
                    self._remove_directory(session, path, place)
                else:
                    session.ask(f"/{path}", Type.REMOVE, string(place))
                    self._versions.left(place, taken.attributes.modified or 0)

    def _remove_directory(self, session: Session, path: StoragePath, place: bytes) -> None:
        """Remove a directory that is empty but for what dead writers have left in it, which a listing sweeps."""
        try:
            session.ask(f"/{path}", Type.RMDIR, string(place))
        except Failure as error:
            with self.scan(path) as scan:
                is_empty = not scan.next()
            if not is_empty:
                raise DirectoryNotEmpty(f"/{path} is not empty") from error
            try:
                session.ask(f"/{path}", Type.RMDIR, string(place))
            except Failure:  # a living writer has its temporary in it
                raise DirectoryNotEmpty(f"/{path} is not empty") from error

    def rename(self, source: StoragePath, target: StoragePath, *, overwrite: bool) -> None:
        check_rename(source, target)
        with self._connections.take() as session:
            old = self._tree.parent_of_existing(session, source)
            self._tree.visible(session, source, old)
            if source == target:
                return
            new = self._tree.parent(session, target)
            with self._locks.held(below(old, source.name), below(new, target.name)):
                entry = _try_again(lambda: self._rename(session, source, old, target, new, overwrite=overwrite))
            if not entry.is_directory:
                make_name_durable(session, target, below(new, target.name))

    def _rename(
        self, session: Session, source: StoragePath, old: bytes, target: StoragePath, new: bytes, *, overwrite: bool
    ) -> Entry:
        entry, what = self._tree.visible(session, source, old)
        if what.is_link and old != new:
            raise Unsupported(f"/{source}: a link leads elsewhere from another directory; copy what it shows")
        present = self._tree.taken(session, target, new)
        if present is not None:
            _require_replaceable(entry, present, target, overwrite=overwrite)
        origin, place = below(old, source.name), below(new, target.name)
        before = present.attributes if present else None
        is_file = not entry.is_directory and not what.is_link
        if is_file and self._versions.resembles(what.attributes, place, before):
            newer = Attributes(modified=self._versions.redate(what.attributes))
            session.ask(f"/{target}", Type.SETSTAT, string(origin), newer.to_bytes())
        try:
            with steady(session, self._locks):
                if present is None:
                    rename_to_free_name(session, target, origin, place)
                elif entry.is_directory and not session.offers(POSIX_RENAME):
                    session.ask(f"/{target}", Type.RMDIR, string(place))
                    rename_to_free_name(session, target, origin, place)
                else:
                    replace(session, target, origin, place, self._tree.hidden)
        except Failure as error:
            now = self._tree.taken(session, target, new)
            if now is not None and now.entry is not None:
                _require_replaceable(entry, now, target, overwrite=overwrite)
                raise DirectoryNotEmpty(f"/{target} is not empty") from error
            raise _explained(session, new, error) from error
        if entry.is_directory:
            self._leftovers.moved(origin, place)
        else:
            self._versions.left(origin, what.attributes.modified or 0)
        return entry

    def copy(self, source: StoragePath, target: StoragePath, *, overwrite: bool) -> Entry:
        with self._connections.take() as session:
            if not session.offers(COPY_DATA):
                raise Unsupported(f"{session.name}: the server does not copy by itself")
            changed = Unavailable(f"{session.name}: /{source} changed while it was copied", retry_after=5)
            file = open_file(session, self._tree, self._versions, source)
            try:
                return self._copy(Source(file, changed), target, overwrite=overwrite)
            except IncompleteWrite as error:
                raise changed from error
            except PreconditionFailed as error:
                raise AlreadyExists(f"/{target}: the name is taken") from error
            finally:
                file.close()

    def _copy(self, source: Source, target: StoragePath, *, overwrite: bool) -> Entry:
        if target.is_root:
            raise IsADirectory("the root cannot be written as a file")
        self._leftovers.tidy()
        lease = Lease(source.file.session, lambda _: None)  # handles are good on their own session alone
        wanted = Target(self._tree, target, None, not overwrite)
        with self._writer(lease, wanted, size=source.file.entry.size, source=source) as writer:
            return writer.commit()

    @property
    def is_idle(self) -> bool:
        """Tell whether it has no connection now."""
        return self._connections.is_idle

    def close_idle(self, seconds: float) -> None:
        """End connections that nobody has used for so long; the next call makes one again."""
        self._connections.close_idle(seconds)

    def close(self) -> None:
        self._connections.close()
        self._journal.close()


def _require_replaceable(source: Entry, present: Taken, target: StoragePath, *, overwrite: bool) -> None:
    if not overwrite:
        raise AlreadyExists(f"/{target}: the name is taken")
    if present.entry is None:
        raise PermissionDenied(f"/{target}: the name is taken by something that is not served")
    check_kinds(target, from_directory=source.is_directory, to_directory=present.entry.is_directory)


def _try_again(change: Callable[[], T]) -> T:
    """Make a change of names; what was in its way may have gone with its directory before anybody could look at it."""
    for _ in range(TRIES - 1):
        with contextlib.suppress(Failure):
            return change()
    return change()


def _explained(session: Session, directory: bytes, failure: Failure) -> StorageError:
    """Return why the server could not make something, if that is to be found out."""
    if is_full(session, directory):
        return OutOfSpace(f"{session.name}: no space left")
    return failure
