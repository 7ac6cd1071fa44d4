"""The journal of directories that may hold temporaries: append-only, and durable before the temporary appears.

Each process writes a file of its own, `<backend>.<random>.journal`, and holds a lock on it while it lives. A
journal without that lock was left by the dead: its directories are swept and it is deleted. A record is a
relative path between two NUL bytes, so that a torn one can spoil no other.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from backends import temporaries
from backends.errors import InvalidPath, Unavailable
from backends.linux import Descriptor
from backends.paths import StoragePath

_LIMIT = 10_000  # directories; then a new file begins, with those that hold a temporary now


class Journal:
    """The journals of one backend in `directory`, which is created when there is something to write."""

    def __init__(
        self,
        directory: Path,
        backend: str,
        limit: int = _LIMIT,
        as_service: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._directory = directory
        self._as_service = as_service  # whoever the thread works for, the journal is the service's
        self._prefix = backend.replace("/", "%2F")
        self._limit = limit
        self._lock = threading.Lock()
        self._file: Descriptor | None = None
        self._name = b""
        self._noted: set[StoragePath] = set()
        self._held: Counter[StoragePath] = Counter()  # by temporaries that may exist now

    def enter(self, path: StoragePath) -> None:
        """Note durably that the directory `path` may hold a temporary until `leave`; raises Unavailable."""
        with self._lock:
            try:
                self._note(path)
            except OSError as error:
                raise Unavailable(f"the journal in {self._directory}: {error.strerror}") from error
            self._held[path] += 1

    def leave(self, path: StoragePath) -> None:
        """Say that the temporary of one `enter` is gone."""
        with self._lock:
            self._held[path] -= 1
            if not self._held[path]:
                del self._held[path]

    def left_by_the_dead(self) -> Iterator[list[StoragePath]]:
        """Give the directories of each journal whose process is gone; it is deleted when the loop comes back."""
        if not self._directory.is_dir():
            return
        mine = re.compile(re.escape(self._prefix) + r"\.[0-9a-f]{32}\.journal")
        with self._open_directory() as directory:
            for name in filter(mine.fullmatch, sorted(os.listdir(directory.fileno()))):
                with contextlib.suppress(FileNotFoundError):
                    yield from _last_will(directory.fileno(), os.fsencode(name))

    def close(self) -> None:
        """Delete the journal of this process if it has no temporary left."""
        with self._lock:
            if self._file is not None and not self._held:
                self._forget(self._file, self._name)
                self._file = None

    def _note(self, path: StoragePath) -> None:
        if path in self._noted:
            return
        if self._file is None or len(self._noted) >= self._limit:
            with self._as_service():
                self._begin({*self._held, path})
        else:
            _append(self._file, {path})
            self._noted.add(path)

    def _begin(self, paths: set[StoragePath]) -> None:
        """Begin a new file with these directories, and only then delete the one before."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._open_directory() as directory:
            file, name = temporaries.create_locked(directory.fileno(), self._new_name, 0o600)
            _append(file, paths)
            os.fsync(directory.fileno())
        old, old_name = self._file, self._name
        self._file, self._name, self._noted = file, name, paths
        if old is not None:
            self._forget(old, old_name)

    def _forget(self, file: Descriptor, name: bytes) -> None:
        with self._open_directory() as directory, contextlib.suppress(OSError):
            os.unlink(name, dir_fd=directory.fileno())
        file.close()

    def _new_name(self) -> bytes:
        return os.fsencode(f"{self._prefix}.{secrets.token_hex(16)}.journal")

    def _open_directory(self) -> Descriptor:
        return Descriptor(os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY))


def _append(file: Descriptor, paths: set[StoragePath]) -> None:
    data = b"".join(b"\0" + (bytes(path) or b"/") + b"\0" for path in paths)
    if os.write(file.fileno(), data) < len(data):
        raise OSError(errno.ENOSPC, "no room for a whole record")
    os.fsync(file.fileno())


def _last_will(directory: int, name: bytes) -> Iterator[list[StoragePath]]:
    file = temporaries.open_dead(directory, name)
    if file is not None:
        with file, open(file.fileno(), "rb", closefd=False) as records:
            yield list(_directories(records.read()))
            os.unlink(name, dir_fd=directory)


def _directories(records: bytes) -> Iterator[StoragePath]:
    for record in filter(None, records.split(b"\0")):
        with contextlib.suppress(InvalidPath):  # torn in a `..name`: nothing was ever created for it
            yield StoragePath.parse(record)
