"""What is visible below the root of a local tree: regular files, directories, and links to them that stay inside.

Everything else (a link that leaves, a FIFO, a socket, a device, a temporary of ours) does not exist for reading;
its name can still be taken, and then nothing is created there.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from types import MappingProxyType
from typing import NamedTuple

from backends import temporaries
from backends.beneath import Confinement
from backends.errors import NotFound, PermissionDenied, StorageError
from backends.interface import MODIFIED_MAX, MODIFIED_MIN, Entry, Identity, Kind
from backends.linux import Descriptor
from backends.paths import StoragePath
from backends.renaming import exclusively
from backends.root import FileSystem, OpenRoot, Root
from backends.system_errors import StorageErrors

# For a question about what is there, a file in the middle of the path only means that nothing is.
ABSENT_BELOW_A_FILE: Mapping[int, type[StorageError]] = MappingProxyType({errno.ENOTDIR: NotFound})

_KINDS = {stat.S_IFREG: Kind.FILE, stat.S_IFDIR: Kind.DIRECTORY}
TYPE_BITS = 0o170000  # inode(7), S_IFMT
# O_NONBLOCK: should the type change between the look and the open, a FIFO must not hold the thread
_READING = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY
_FACTS = struct.Struct("<QQQQ")
_64_BITS = (1 << 64) - 1  # times of other programs' making may lie further away from 1970 than nanoseconds reach
# A link that leads to nothing visible, or to something that the service may not reach
_LEADS_NOWHERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES, errno.ENXIO})


def etag_of(status: os.stat_result) -> str:
    """Return a strong etag: 32 hexadecimal digits from inode, size and both times of change in nanoseconds.

    ctime moves where mtime was set back, and every write through the gateway makes a new inode. The known limit:
    a foreign program that writes in place twice within one tick of the clock (up to 10 ms before Linux 6.13, none
    since), keeping the size. No device number: NFS and btrfs change theirs with each mount.
    """
    facts = _FACTS.pack(status.st_ino, status.st_size, status.st_mtime_ns & _64_BITS, status.st_ctime_ns & _64_BITS)
    return blake2b(facts, digest_size=16).hexdigest()


def entry_of(name: bytes, status: os.stat_result, file_system: FileSystem) -> Entry:
    """Return the entry of a regular file or a directory; raises FileNotFoundError for anything else."""
    mode, modified = status.st_mode, status.st_mtime_ns
    kind = _KINDS.get(mode & TYPE_BITS)
    if kind is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    if not MODIFIED_MIN <= modified <= MODIFIED_MAX:
        modified = MODIFIED_MIN if modified < 0 else MODIFIED_MAX
    return Entry(
        name,
        kind,
        status.st_size if kind is Kind.FILE else 0,
        modified,
        etag_of(status),
        Identity(file_system.number, status.st_ino),
        mode & 0o7777,
        (status.st_uid, status.st_gid),
    )


def read_cached(number: int, offset: int, size: int, end: int, file_system: FileSystem) -> bytes | None:
    """Return so many bytes of an open file of `end` bytes, fewer only at its end; None where that could wait.

    tmpfs is memory, yet refuses RWF_NOWAIT, and a network file system is never asked. Raises OSError.
    """
    if file_system.is_memory:
        content = os.pread(number, size, offset)
    elif file_system.is_local:
        buffer = bytearray(size)
        try:
            count = os.preadv(number, [buffer], offset, os.RWF_NOWAIT)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EOPNOTSUPP):
                return None
            raise
        content = bytes(buffer) if count == size else bytes(buffer[:count])
    else:
        return None
    # Where it is shorter, the cache ends there and the file does not.
    return content if len(content) == size or offset + len(content) >= end else None


@dataclass(frozen=True, slots=True)
class Taken:
    """What holds a name: `entry` is what it shows, None if that must not be seen; `status` is not through a link."""

    entry: Entry | None
    status: os.stat_result

    @property
    def is_link(self) -> bool:
        return stat.S_ISLNK(self.status.st_mode)


class Opened(NamedTuple):
    """A file or directory that was opened, and the opening of the root that led to it."""

    root: OpenRoot
    file: Descriptor

    def require_shown(self) -> None:
        """Raise FileNotFoundError where it is neither a regular file nor a directory."""
        if os.fstat(self.file.fileno()).st_mode & TYPE_BITS not in _KINDS:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))

    def entry(self, name: bytes) -> Entry:
        """Return its entry; raises FileNotFoundError where it is neither a regular file nor a directory."""
        return self.look(name)[0]

    def look(self, name: bytes) -> tuple[Entry, FileSystem]:
        """Return its entry and the file system that holds it; raises FileNotFoundError as `entry` does."""
        number = self.file.fileno()
        status = os.fstat(number)
        file_system = self.root.file_system(status.st_dev, number)
        return entry_of(name, status, file_system), file_system


def entry_at(root: OpenRoot, parent: Descriptor, name: bytes, status: os.stat_result) -> Entry:
    """Return the entry of `name` in `parent`, of which fstatat said `status`; raises FileNotFoundError."""
    file_system = root.file_systems.get(status.st_dev)
    if file_system is not None:
        return entry_of(name, status, file_system)
    with Descriptor(os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=parent.fileno())) as file:
        return Opened(root, file).entry(name)


class LocalTree:
    """Paths below the root as descriptors and entries; raises OSError, and Unavailable while the root is gone."""

    def __init__(self, root: Root, confinement: Confinement) -> None:
        self.root = root
        self._confinement = confinement

    def open(self, path: StoragePath, flags: int) -> Opened:
        """Open `path` as far as it is visible by name; what was opened may still be of any type."""
        _require_visible(path)
        root = self.root.open()
        return Opened(root, Descriptor(self._confinement.open(root.fileno(), path, flags)))

    def try_open(self, path: StoragePath, flags: int) -> Opened | None:
        """Open `path` if that needs only caches and a local file system, else return None."""
        _require_visible(path)
        root = self.root.open_if_fresh()
        if root is None or not root.home.is_local:
            return None
        number = self._confinement.try_open(root.fileno(), path, flags)
        return None if number is None else Opened(root, Descriptor(number))

    def open_content(self, path: StoragePath) -> Opened:
        """Open the file or directory at `path` for reading, after a look without opening it.

        For an open is an act on anything else: a writer who waits at a FIFO goes on and loses what it writes, a tape
        is wound back. Raises FileNotFoundError there. The second look, at what was opened, remains with the caller.
        """
        with (found := self.open(path, os.O_PATH)).file:
            found.require_shown()
        return Opened(found.root, Descriptor(self._confinement.open(found.root.fileno(), path, _READING)))

    def try_open_content(self, path: StoragePath) -> Opened | None:
        """Open as `open_content` does if that needs only caches and a local file system, else return None."""
        found = self.try_open(path, os.O_PATH)
        if found is None:
            return None
        with found.file:
            found.require_shown()
        number = self._confinement.try_open(found.root.fileno(), path, _READING)
        return None if number is None else Opened(found.root, Descriptor(number))

    def try_read(self, path: StoragePath, most: int) -> tuple[Entry, bytes] | None:
        """Return the entry and content of a regular file of at most `most` bytes if caches hold all of it, else None.

        This is `try_open_content` and what follows it in one piece and without objects: small files are read that way
        thousands of times in a second, on the event loop.
        """
        _require_visible(path)
        root = self.root.open_if_fresh()
        if root is None or not root.home.is_local:
            return None
        directory, try_open = root.fileno(), self._confinement.try_open
        if (found := try_open(directory, path, os.O_PATH)) is None:
            return None
        try:
            is_file = stat.S_ISREG(os.fstat(found).st_mode)
        finally:
            os.close(found)
        if not is_file or (number := try_open(directory, path, _READING)) is None:
            return None
        try:
            status = os.fstat(number)
            file_system = root.file_system(status.st_dev, number)
            size = status.st_size
            is_file = stat.S_ISREG(status.st_mode)  # as another may have its name by now
            content = read_cached(number, 0, size, size, file_system) if is_file and size <= most else None
        finally:
            os.close(number)
        return None if content is None else (entry_of(path.name, status, file_system), content)

    def open_directory(self, path: StoragePath) -> Descriptor:
        """Open a directory for reading, flock and fsync."""
        return self.open(path, os.O_RDONLY | os.O_DIRECTORY).file

    def open_parent(self, path: StoragePath) -> Descriptor:
        """Open the directory that holds the name of `path`; raises PermissionDenied for a name that is ours alone."""
        if temporaries.is_hidden(path.name):
            raise PermissionDenied(f"{path}: names that begin with {temporaries.PREFIX.decode()} are reserved")
        return self.open_directory(path.parent)

    def open_parent_of_existing(self, path: StoragePath) -> Descriptor:
        """Open the directory that holds the name of `path`; raises NotFound where that cannot exist."""
        with StorageErrors(path, ABSENT_BELOW_A_FILE):
            _require_visible(path)
            return self.open_directory(path.parent)

    @contextlib.contextmanager
    def exclusively(self, *places: tuple[Descriptor, StoragePath]) -> Iterator[None]:
        """Keep other writers out of these open directories, each with its path, while names in them are changed.

        Raises NotFound where one lies elsewhere by now: since it was opened, for an upload hours ago, it may have been
        moved to where the client has no rights, or out of the root.
        """
        with exclusively(*(directory.fileno() for directory, _ in places)):
            for directory, path in places:
                self._require_in_place(directory, path)
            yield

    def _require_in_place(self, directory: Descriptor, path: StoragePath) -> None:
        with StorageErrors(path, ABSENT_BELOW_A_FILE), self.open(path, os.O_PATH | os.O_DIRECTORY).file as present:
            if not present.is_same(directory):
                raise NotFound(f"{path}: another directory is there now")

    def look(self, path: StoragePath) -> Entry:
        """Return the entry at `path`, through links; raises FileNotFoundError for what must not be seen."""
        opened = self.open(path, os.O_PATH)
        with opened.file:
            return opened.entry(path.name)

    def look_through(self, path: StoragePath) -> Entry | None:
        """Return what a link or a mount point at `path` shows, None where it leads to nothing that is visible."""
        try:
            return self.look(path)
        except OSError as error:
            if error.errno in _LEADS_NOWHERE:
                return None
            raise

    def taken(self, parent: Descriptor, path: StoragePath) -> Taken | None:
        """Tell what holds the last name of `path` in its open directory `parent`, if anything does."""
        try:
            status = os.stat(path.name, dir_fd=parent.fileno(), follow_symlinks=False)
            if stat.S_ISLNK(status.st_mode):
                return Taken(self.look_through(path), status)
            if status.st_mode & TYPE_BITS not in _KINDS:
                return Taken(None, status)
            return Taken(entry_at(self.root.open(), parent, path.name, status), status)
        except FileNotFoundError:
            return None

    def visible(self, parent: Descriptor, path: StoragePath) -> tuple[Entry, Taken]:
        """Tell what can be seen under the last name of `path`; raises NotFound."""
        taken = self.taken(parent, path)
        if taken is None or taken.entry is None:
            raise NotFound(f"{path}: {os.strerror(errno.ENOENT)}")
        return taken.entry, taken


def _require_visible(path: StoragePath) -> None:
    if temporaries.hides(path):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
