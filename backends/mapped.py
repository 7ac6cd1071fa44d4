"""A local tree in which every user works with the rights of his own account, so that the kernel says what he may.

It refuses everything until it is told for whom: `acting_as` gives the same tree as one user may use it. Each call that
names a path runs in a thread with his credentials; reading goes on with what has been opened. The gateway's own work
(the root's identity, its journals, the sweep of what a crash has left) is done with `service`, as the service.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from backends.accounts import Accounts
from backends.credential_threads import CredentialThreads
from backends.credentials import Credentials
from backends.errors import PermissionDenied, StorageError, Unsupported
from backends.interface import SCAN_BATCH, Entry, Parked, Reader, Scan, Space, StorageBackend, Watcher, Writer
from backends.local import LocalBackend
from backends.paths import StoragePath

T = TypeVar("T")

Run = Callable[..., Any]  # of a function and its arguments, with the credentials of one user


class MappedBackend(StorageBackend):
    """`service` as one user may use it, or as nobody may while it is not known who asks."""

    # What a process that is not root's needs (capabilities(7)): the first two to act for users, the others to put in
    # order what a crash has left in folders that are closed to it, or sticky; none is in effect while it acts for one.
    NEEDED = ("CAP_SETUID", "CAP_SETGID", "CAP_DAC_OVERRIDE", "CAP_FOWNER")

    def __init__(
        self, service: LocalBackend, accounts: Accounts, threads: CredentialThreads, user: str | None = None
    ) -> None:
        self.service = service
        # What is parked is noted in state, which the thread of a user may not open.
        self.features = replace(service.features, resumable=False)
        self._accounts = accounts
        self._threads = threads
        self._user = user

    def acting_as(self, user: str) -> MappedBackend:
        """Return the same tree as `user` may use it; asks nobody: NoAccount comes from the first call."""
        return MappedBackend(self.service, self._accounts, self._threads, user)

    def stat(self, path: StoragePath) -> Entry:
        return self._run(self.service.stat, path)

    def scan(self, path: StoragePath, batch: int = SCAN_BATCH) -> Scan:
        run = self._runner()
        return _MappedScan(run(self.service.scan, path, batch), run)

    def open_read(self, path: StoragePath) -> Reader:
        return self._run(self.service.open_read, path)  # what is open may be read by anybody who holds it

    def open_write(
        self,
        path: StoragePath,
        *,
        size: int | None = None,
        if_match: str | None = None,
        if_none_match: bool = False,
        hashes: tuple[str, ...] = (),
        resume: Parked | None = None,
    ) -> Writer:
        if resume is not None:
            raise Unsupported("uploads are not resumed where files belong to their users")
        run = self._runner()
        inner = run(self.service.open_write, path, size=size, if_match=if_match, if_none_match=if_none_match)
        return _MappedWriter(inner, run, size, hashes)

    def open_update(self, path: StoragePath) -> Writer:
        run = self._runner()
        return _MappedWriter(run(self.service.open_update, path), run, None, ())

    def discard(self, path: StoragePath, token: str) -> None:
        self._credentials()
        raise Unsupported("uploads are not resumed where files belong to their users")

    def make_directory(self, path: StoragePath) -> Entry:
        return self._run(self.service.make_directory, path)

    def remove(self, path: StoragePath) -> None:
        self._run(self.service.remove, path)

    def rename(self, source: StoragePath, target: StoragePath, *, overwrite: bool) -> None:
        self._run(self.service.rename, source, target, overwrite=overwrite)

    def copy(self, source: StoragePath, target: StoragePath, *, overwrite: bool) -> Entry:
        return self._run(self.service.copy, source, target, overwrite=overwrite)

    def set_modified(self, path: StoragePath, modified: int) -> Entry:
        return self._run(self.service.set_modified, path, modified)

    def require_writable(self, path: StoragePath) -> None:
        self._run(self.service.require_writable, path)

    def space(self) -> Space:
        return self._run(self.service.space)

    def watch(self, limit: int) -> Watcher | None:
        """Return a Watcher of the gateway's own: what it tells goes to nobody but into folders' etags."""
        return self.service.watch(limit)

    def close(self) -> None:
        self._threads.close()
        self.service.close()

    def _run(self, function: Callable[..., T], *args: Any, **named: Any) -> T:
        return self._threads.run(self._credentials(), function, *args, **named)

    def _runner(self) -> Run:
        """Return what runs calls with the credentials that the user has now, for all that follows on an opening."""
        credentials = self._credentials()
        return lambda function, *args, **named: self._threads.run(credentials, function, *args, **named)

    def _credentials(self) -> Credentials:
        if self._user is None:
            raise PermissionDenied("files belong to their users here, and it was not said for whom to act")
        return self._accounts.credentials_of(self._user)


class _MappedScan(Scan):
    """Looks at each entry as the user who has opened the directory."""

    def __init__(self, inner: Scan, run: Run) -> None:
        self._inner = inner
        self._run = run

    def next(self) -> list[Entry]:
        batch: list[Entry] = self._run(self._inner.next)
        return batch

    def close(self) -> None:
        self._inner.close()


class _MappedWriter(Writer):
    """Counts and checks as every Writer; writes and copies (quotas), names and drops as the user who has opened it."""

    def __init__(self, inner: Writer, run: Run, size: int | None, hashes: tuple[str, ...]) -> None:
        super().__init__(size, hashes, old=inner.written or None)
        self._inner = inner
        self._run = run

    def _write(self, data: bytes | bytearray | memoryview) -> None:
        self._run(self._inner.write, data)

    def _write_at(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        self._run(self._inner.write_at, offset, data)

    def _read_at(self, offset: int, size: int) -> bytes:
        data: bytes = self._run(self._inner.read_at, offset, size)
        return data

    def _truncate(self, size: int) -> None:
        self._run(self._inner.truncate, size)

    def _copy(self, begin: int, end: int) -> None:
        """Leave it to the inner Writer, which has the old content and knows itself what it still needs of it."""

    def _prepare(self) -> None:
        self._run(self._inner.prepare)

    def _commit(self) -> Entry:
        entry: Entry = self._run(self._inner.commit)
        return entry

    def _abort(self) -> None:
        with contextlib.suppress(StorageError):  # what is left then is in the journal, and swept at the next start
            self._run(self._inner.abort)
