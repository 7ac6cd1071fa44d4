"""Storage in memory: the contract with nothing else around it, the reference that others are compared with.

One lock makes every operation atomic. Durable here means until the process ends.
"""

from __future__ import annotations

import itertools
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from backends.checks import check_kinds, check_rename, require_below_root
from backends.errors import (
    AlreadyExists,
    DirectoryNotEmpty,
    InUse,
    IsADirectory,
    NotADirectory,
    NotFound,
    NothingParked,
    OutOfSpace,
    PreconditionFailed,
)
from backends.interface import (
    SCAN_BATCH,
    Entry,
    Features,
    Identity,
    Kind,
    Parked,
    Reader,
    Scan,
    StorageBackend,
    Writer,
    check_modified,
    check_preconditions,
)
from backends.paths import StoragePath

GAP_MAX = 256 * 1024 * 1024  # bytes that one call may add without sending them

_versions = itertools.count(1)  # across all backends, so that no etag ever comes twice


@dataclass(slots=True, kw_only=True, eq=False)
class _Node:
    inode: int
    modified: int  # nanoseconds since the epoch
    version: int

    def touch(self) -> None:
        self.modified = time.time_ns()
        self.version = next(_versions)


@dataclass(slots=True, kw_only=True, eq=False)
class _File(_Node):
    content: bytes


@dataclass(slots=True, kw_only=True, eq=False)
class _Directory(_Node):
    children: dict[bytes, _File | _Directory] = field(default_factory=dict)
    is_removed: bool = False


def _new_directory() -> _Directory:
    return _Directory(inode=next(_versions), modified=time.time_ns(), version=next(_versions))


def _entry(name: bytes, node: _File | _Directory) -> Entry:
    kind, size = (Kind.FILE, len(node.content)) if isinstance(node, _File) else (Kind.DIRECTORY, 0)
    return Entry(name, kind, size, node.modified, f"m{node.version}", Identity(0, node.inode))


class MemoryReader(Reader):
    """The content as it was when it was opened."""

    def __init__(self, entry: Entry, content: bytes) -> None:
        self.entry = entry
        self._content: bytes | None = content

    def read_at(self, offset: int, size: int) -> bytes:
        if self._content is None:
            raise ValueError("the Reader is closed")
        return self._content[offset : offset + size]

    def read_cached(self, offset: int, size: int) -> bytes:
        return self.read_at(offset, size)

    def close(self) -> None:
        self._content = None


class MemoryScan(Scan):
    """The names as they were when it was opened, less those that are gone since."""

    def __init__(self, directory: _Directory, lock: threading.RLock, batch: int) -> None:
        self._directory = directory
        self._lock = lock
        self._batch = batch
        self._names: Iterator[bytes] = iter(list(directory.children))

    def next(self) -> list[Entry]:
        with self._lock:
            present = ((name, self._directory.children.get(name)) for name in self._names)
            entries = (_entry(name, node) for name, node in present if node is not None)
            return list(itertools.islice(entries, self._batch))

    def close(self) -> None:
        self._names = iter(())


class MemoryWriter(Writer):
    """Collects the content and puts it under its name at once."""

    def __init__(
        self,
        backend: MemoryBackend,
        directory: _Directory,
        path: StoragePath,
        *,
        size: int | None,
        if_match: str | None,
        if_none_match: bool,
        hashes: tuple[str, ...],
        resume: Parked | None,
        old: bytes | None = None,
    ) -> None:
        super().__init__(size, hashes, resume.size if resume else 0, None if old is None else len(old))
        self._backend = backend
        self._directory = directory
        self._path = path
        self._if_match = if_match
        self._if_none_match = if_none_match
        self._token = resume.token if resume else None
        self.check()
        self._content = backend.take_up(resume) if resume else bytearray()
        self._old_content = old or b""

    def check(self) -> None:
        """Compare what is there now with what was expected."""
        present = self._directory.children.get(self._path.name)
        entry = None if present is None else _entry(self._path.name, present)
        check_preconditions(entry, self._if_match, self._if_none_match)

    def _write(self, data: bytes | bytearray | memoryview) -> None:
        self._content += data

    def _write_at(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        self._fill(offset)
        self._content[offset : offset + len(data)] = data

    def _read_at(self, offset: int, size: int) -> bytes:
        return bytes(self._content[offset : offset + size])

    def _truncate(self, size: int) -> None:
        self._fill(size)
        del self._content[size:]

    def _copy(self, begin: int, end: int) -> None:
        self._content[begin:end] = self._old_content[begin:end]

    def _fill(self, end: int) -> None:
        """Add zeros up to there, as far as that can be meant: memory has no holes."""
        gap = end - len(self._content)
        if gap > GAP_MAX:
            raise OutOfSpace(f"{gap} bytes of nothing are too much for memory")
        self._content.extend(bytes(max(gap, 0)))

    def _commit(self) -> Entry:
        with self._backend.lock:
            if self._directory.is_removed:
                raise NotFound(f"{self._path.parent} was removed")
            self.check()
            node = _File(
                inode=next(_versions), modified=time.time_ns(), version=next(_versions), content=bytes(self._content)
            )
            self._directory.children[self._path.name] = node
            self._directory.touch()
            self._backend.put_down(self._token, None)
            return _entry(self._path.name, node)

    def _park(self, note: Callable[[Parked], None]) -> Parked:
        if self._directory.is_removed:
            raise NotFound(f"{self._path.parent} was removed")
        parked = Parked(self._token or secrets.token_hex(16), self.written)
        note(parked)
        self._backend.put_down(parked.token, self._content)
        return parked

    def _abort(self) -> None:
        self._backend.put_down(self._token, self._content[: self.start])
        self._content = bytearray()


class MemoryBackend(StorageBackend):
    """A tree of dictionaries."""

    features = Features(
        atomic_replace=True,
        server_side_copy=True,
        random_write=True,
        set_modified=True,
        identity=True,
        conditional_write=True,
        resumable=True,
        modified_precision=1,
    )

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._root = _new_directory()
        self._parked: dict[str, bytearray | None] = {}  # by token; None while a Writer goes on with it

    def stat(self, path: StoragePath) -> Entry:
        with self.lock:
            return _entry(path.name, self._existing(path))

    def scan(self, path: StoragePath, batch: int = SCAN_BATCH) -> MemoryScan:
        with self.lock:
            node = self._existing(path)
            if isinstance(node, _File):
                raise NotADirectory(f"{path} is not a directory")
            return MemoryScan(node, self.lock, batch)

    def open_read(self, path: StoragePath) -> MemoryReader:
        with self.lock:
            node = self._existing(path)
            if isinstance(node, _Directory):
                raise IsADirectory(f"{path} is a directory")
            return MemoryReader(_entry(path.name, node), node.content)

    def try_open_read(self, path: StoragePath) -> MemoryReader:
        return self.open_read(path)

    def open_write(
        self,
        path: StoragePath,
        *,
        size: int | None = None,
        if_match: str | None = None,
        if_none_match: bool = False,
        hashes: tuple[str, ...] = (),
        resume: Parked | None = None,
    ) -> MemoryWriter:
        if path.is_root:
            raise IsADirectory("the root cannot be written as a file")
        with self.lock:
            return MemoryWriter(
                self,
                self._directory(path.parent),
                path,
                size=size,
                if_match=if_match,
                if_none_match=if_none_match,
                hashes=hashes,
                resume=resume,
            )

    def open_update(self, path: StoragePath) -> MemoryWriter:
        with self.lock, self.open_read(path) as present:
            return MemoryWriter(
                self,
                self._directory(path.parent),
                path,
                size=None,
                if_match=present.entry.etag,
                if_none_match=False,
                hashes=(),
                resume=None,
                old=present.read_at(0, present.entry.size),
            )

    def discard(self, path: StoragePath, token: str) -> None:
        with self.lock:
            if token in self._parked and self._parked[token] is None:
                raise InUse(f"{path}: a writer goes on with this")
            self._parked.pop(token, None)

    def take_up(self, parked: Parked) -> bytearray:
        """Return the parked content for its next Writer; raises NothingParked, InUse."""
        with self.lock:
            content = self._parked.get(parked.token, bytearray())
            if content is None:
                raise InUse("another writer goes on with this")
            if parked.token not in self._parked or len(content) < parked.size:
                raise NothingParked("nothing is parked under this token")
            self._parked[parked.token] = None
            return content[: parked.size]

    def put_down(self, token: str | None, content: bytearray | None) -> None:
        """Park `content` under its token, or forget that (None)."""
        with self.lock:
            if content is None:
                self._parked.pop(token or "", None)
            elif token is not None:
                self._parked[token] = content

    def make_directory(self, path: StoragePath) -> Entry:
        with self.lock:
            parent = self._directory(path.parent)
            if path.is_root or path.name in parent.children:
                raise AlreadyExists(f"{path}: the name is taken")
            parent.children[path.name] = directory = _new_directory()
            parent.touch()
            return _entry(path.name, directory)

    def remove(self, path: StoragePath) -> None:
        require_below_root(path)
        with self.lock:
            node = self._existing(path)
            self._drop(node, path)
            parent = self._directory(path.parent)
            del parent.children[path.name]
            parent.touch()

    def rename(self, source: StoragePath, target: StoragePath, *, overwrite: bool) -> None:
        check_rename(source, target)
        with self.lock:
            node = self._existing(source)
            old, new = self._directory(source.parent), self._directory(target.parent)
            if source == target:
                return
            in_the_way = new.children.get(target.name)
            if in_the_way is not None:
                if not overwrite:
                    raise AlreadyExists(f"{target}: the name is taken")
                self._replace(node, in_the_way, target)
            del old.children[source.name]
            new.children[target.name] = node
            old.touch()
            new.touch()

    def copy(self, source: StoragePath, target: StoragePath, *, overwrite: bool) -> Entry:
        with self.lock, self.open_read(source) as reader:
            try:
                with self.open_write(target, if_none_match=not overwrite) as writer:
                    writer.write(reader.read_at(0, reader.entry.size))
                    return writer.commit()
            except PreconditionFailed as error:
                raise AlreadyExists(f"{target}: the name is taken") from error

    def set_modified(self, path: StoragePath, modified: int) -> Entry:
        check_modified(modified)
        with self.lock:
            node = self._existing(path)
            node.modified, node.version = modified, next(_versions)
            return _entry(path.name, node)

    def _existing(self, path: StoragePath) -> _File | _Directory:
        """Return what is at `path`; raises NotFound, also where a parent is a file."""
        node: _File | _Directory = self._root
        for name in path.parts:
            child = node.children.get(name) if isinstance(node, _Directory) else None
            if child is None:
                raise NotFound(f"{path}: nothing there")
            node = child
        return node

    def _directory(self, path: StoragePath) -> _Directory:
        """Return the directory at `path`, where something is to be created; NotADirectory where a parent is a file."""
        node: _File | _Directory = self._root
        for name in path.parts:
            if isinstance(node, _File):
                break
            child = node.children.get(name)
            if child is None:
                raise NotFound(f"{path}: nothing there")
            node = child
        if isinstance(node, _File):
            raise NotADirectory(f"{path} is not a directory")
        return node

    def _replace(self, node: _File | _Directory, in_the_way: _File | _Directory, target: StoragePath) -> None:
        to_directory = isinstance(in_the_way, _Directory)
        check_kinds(target, from_directory=isinstance(node, _Directory), to_directory=to_directory)
        self._drop(in_the_way, target)

    def _drop(self, node: _File | _Directory, path: StoragePath) -> None:
        """Mark a directory as removed; raises DirectoryNotEmpty."""
        if isinstance(node, _Directory):
            if node.children:
                raise DirectoryNotEmpty(f"{path} is not empty")
            node.is_removed = True
