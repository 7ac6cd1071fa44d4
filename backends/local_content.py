"""Content of files in a local tree: LocalReader, LocalWriter, and LocalScan for the content of directories."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass

from backends import linux, temporaries
from backends.errors import InvalidPath, IsADirectory, NothingParked, PermissionDenied, StorageError, Unavailable
from backends.fresh import FreshFile
from backends.interface import Entry, Identity, Parked, Reader, Scan, Writer, check_preconditions
from backends.journal import Journal
from backends.linux import Abilities, Descriptor
from backends.local_bytes import copy_range, read_all, write_all
from backends.local_tree import TYPE_BITS, LocalTree, Opened, entry_at, etag_of, read_cached
from backends.ownership import NewFiles
from backends.paths import StoragePath, check_name
from backends.system_errors import StorageErrors, translate

WRITE_BACK = 8 * 1024 * 1024  # bytes; the disk begins to write while the rest still arrives


class LocalReader(Reader):
    """A descriptor of its own; what is read stays the file that was opened, whatever happens to its name."""

    def __init__(self, path: StoragePath, opened: Opened) -> None:
        """Read what was opened; raises FileNotFoundError for what must not be seen, IsADirectory."""
        self.entry, self._file_system = opened.look(path.name)
        if self.entry.is_directory:
            raise IsADirectory(f"{path} is a directory")
        self._path = path
        self._file = opened.file

    def read_at(self, offset: int, size: int) -> bytes:
        try:
            return read_all(self._file.fileno(), offset, size, self.entry.size)
        except OSError as error:
            raise translate(error, self._path) from error

    def read_cached(self, offset: int, size: int) -> bytes | None:
        try:
            return read_cached(self._file.fileno(), offset, size, self.entry.size, self._file_system)
        except OSError as error:
            raise translate(error, self._path) from error

    def fileno(self) -> int:
        return self._file.fileno()

    @property
    def allocated(self) -> int:
        """The bytes of the disk that it takes: fewer than its size where it has holes; raises OSError."""
        return os.fstat(self._file.fileno()).st_blocks * 512  # stat(2)

    def has_changed(self) -> bool:
        """Tell whether the file, whatever has its name by now, is another than `entry` says; raises OSError."""
        return etag_of(os.fstat(self._file.fileno())) != self.entry.etag

    def close(self) -> None:
        self._file.close()


@dataclass(frozen=True, slots=True)
class Source:
    """A file that a new content begins with, and the error for what happens when it has changed since it was opened."""

    reader: LocalReader
    changed: StorageError


class LocalScan(Scan):
    """Streams a directory; one fstatat for each entry, one more look for links and mount points."""

    def __init__(
        self, tree: LocalTree, path: StoragePath, opened: Opened, batch: int, is_kept: temporaries.IsKept
    ) -> None:
        self._is_kept = is_kept
        self._tree = tree
        self._path = path
        self._opened = opened
        self._batch = batch
        self._entries = os.scandir(opened.file.fileno())

    def next(self) -> list[Entry]:
        batch: list[Entry] = []
        with StorageErrors(self._path):
            for found in self._entries:
                entry = self._entry(found)
                if entry is not None:
                    batch.append(entry)
                    if len(batch) == self._batch:
                        break
        return batch

    def close(self) -> None:
        self._entries.close()
        self._opened.file.close()

    def _entry(self, found: os.DirEntry[str]) -> Entry | None:
        name = os.fsencode(found.name)
        if name.startswith(temporaries.PREFIX):  # in line: this runs for every name of every listing
            self._sweep(name)
            return None
        try:
            if b"\\" in name:
                check_name(name)
            status = found.stat(follow_symlinks=False)
            if status.st_mode & TYPE_BITS == stat.S_IFLNK:
                return self._tree.look_through(self._path.child(name))
            return entry_at(self._opened.root, self._opened.file, name, status)
        except (FileNotFoundError, InvalidPath):  # vanished, of a special type, or impossible to address
            return None

    def _sweep(self, name: bytes) -> None:
        with contextlib.suppress(OSError, StorageError):
            if temporaries.is_temporary(name):
                temporaries.reap(self._opened.file.fileno(), name, temporaries.STALE_AFTER, self._is_kept)


class Target:
    """The name that a write is for, in its open directory, and what the writer expects to be there."""

    def __init__(
        self, tree: LocalTree, path: StoragePath, parent: Descriptor, if_match: str | None, if_none_match: bool
    ) -> None:
        self.tree = tree
        self.path = path
        self.parent = parent
        self._if_match = if_match
        self._if_none_match = if_none_match

    @property
    def must_exist(self) -> bool:
        """Tell whether a file has to be there, which lends its permissions."""
        return self._if_match is not None

    def present(self) -> Entry | None:
        """Return the file that is there now; raises PreconditionFailed, IsADirectory, PermissionDenied."""
        taken = self.tree.taken(self.parent, self.path)
        if taken is not None and taken.entry is None:
            raise PermissionDenied(f"{self.path}: the name is taken by something that is not served")
        entry = None if taken is None else taken.entry
        check_preconditions(entry, self._if_match, self._if_none_match)
        return entry

    def open(self) -> Descriptor:
        """Open the file that is there now, not for its content; raises FileNotFoundError."""
        return self.tree.open(self.path, os.O_PATH).file


class LocalWriter(Writer):
    """Writes a FreshFile: fsync in `prepare`; in `commit` compare and rename under a lock, and fsync of the name."""

    def __init__(
        self,
        target: Target,
        journal: Journal,
        abilities: Abilities,
        new_files: NewFiles,
        *,
        size: int | None,
        hashes: tuple[str, ...],
        resume: Parked | None = None,
        source: Source | None = None,
    ) -> None:
        """Go on with `resume`, or begin with the content of `source`, which is closed with the Writer."""
        super().__init__(size, hashes, resume.size if resume else 0, source.reader.entry.size if source else None)
        self._target = target
        self._source = source
        token = resume.token if resume else None
        place = target.parent, target.path.parent
        self._fresh = FreshFile(*place, journal, abilities, new_files, token, private=target.must_exist)
        self._unasked = 0  # bytes written since the disk was asked to write
        self._resumed = resume is not None
        if resume is not None:
            self._go_on(resume)

    def _go_on(self, parked: Parked) -> None:
        """Continue after what was parked; raises NothingParked where that is not the file, or not all of it."""
        file = self._fresh.file
        status = os.fstat(file.fileno())
        if (
            not stat.S_ISREG(status.st_mode)
            or status.st_nlink != 1  # else another name would show what is written
            or status.st_size < parked.size
            or self._identity() != parked.identity
        ):
            self._fresh.close()
            raise NothingParked(f"{self._target.path}: what was parked is not there any more")
        os.ftruncate(file.fileno(), parked.size)

    def _write(self, data: bytes | bytearray | memoryview) -> None:
        self._write_at(self.written - len(data), data)

    def _write_at(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        with StorageErrors(self._target.path):
            write_all(self._fresh.fileno(), offset, data)
        self._unasked += len(data)
        if self._unasked >= WRITE_BACK:
            linux.start_write_back(self._fresh.fileno())
            self._unasked = 0

    def _read_at(self, offset: int, size: int) -> bytes:
        with StorageErrors(self._target.path):
            return read_all(self._fresh.fileno(), offset, size, self.written)

    def _truncate(self, size: int) -> None:
        with StorageErrors(self._target.path):
            os.ftruncate(self._fresh.fileno(), size)

    def _copy(self, begin: int, end: int) -> None:
        assert self._source is not None
        with StorageErrors(self._target.path):
            copy_range(self._source.reader.fileno(), self._fresh.fileno(), begin, end)
            if self._source.reader.has_changed():
                raise self._source.changed

    def _prepare(self) -> None:
        target = self._target
        with StorageErrors(target.path):
            target.tree.root.open()
            self._resemble(target.present())
            self._sync()

    def _commit(self) -> Entry:
        target = self._target
        with StorageErrors(target.path):
            root = target.tree.root.open()
            with target.tree.exclusively((target.parent, target.path.parent)):
                self._give_name()
            os.fsync(target.parent.fileno())
            # Linking and renaming have moved ctime, which is in the etag: only now is the entry what stat shows.
            entry = Opened(root, self._fresh.file).entry(target.path.name)
        self._close()
        return entry

    def _park(self, note: Callable[[Parked], None]) -> Parked:
        """Leave it under a hidden name; until it is closed, its lock keeps every sweep away."""
        target = self._target
        with StorageErrors(target.path):
            taken = target.tree.taken(target.parent, target.path)
            # So that it can be read by nobody who could not read what it is going to be.
            self._resemble(taken.entry if taken else None)
            self._fresh.let_reopen()
            self._sync()
            with target.tree.exclusively((target.parent, target.path.parent)):
                hidden = self._fresh.hide()
            os.fsync(target.parent.fileno())
            parked = Parked(temporaries.token_of(hidden), self.written, self._identity())
        note(parked)
        self._fresh.stay()
        self._close()
        return parked

    def _identity(self) -> Identity | None:
        return Opened(self._target.tree.root.open(), self._fresh.file).entry(b"").identity

    def _sync(self) -> None:
        """Make what was written durable; raises Unavailable where that is not all there."""
        os.fsync(self._fresh.fileno())
        self._require_whole()

    def _resemble(self, replaced: Entry | None) -> None:
        """Take over from the old file, if it is still there, what a change of its content would leave."""
        with contextlib.suppress(FileNotFoundError):
            if replaced is not None:
                with self._target.open() as old:
                    self._fresh.resemble(old)
                return
        self._fresh.settle()

    def _require_whole(self) -> None:
        size = os.fstat(self._fresh.fileno()).st_size
        if size != self.written:
            raise Unavailable(f"{self._target.path}: {size} bytes are on the disk, {self.written} were written")

    def _give_name(self) -> None:
        name = self._target.path.name
        if self._target.present() is None:
            try:
                self._fresh.appear(name)
                return
            except FileExistsError:  # by another program, which does not take our lock
                self._target.present()
        self._fresh.replace(name)

    def _abort(self) -> None:
        if self._resumed:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fresh.fileno(), self.start)
            self._fresh.let_reopen()  # a commit that failed may have made it resemble the old file
        self._close()

    def _close(self) -> None:
        self._fresh.close()
        self._target.parent.close()
        if self._source is not None:
            self._source.reader.close()
