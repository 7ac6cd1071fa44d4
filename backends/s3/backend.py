"""The storage contract on a bucket.

S3 replaces and removes one object at a time, and knows no directories: so this side looks first. Between the look and
the act another program may come; where the server compares conditions, content is safe from that, names are not. Among
the threads of one backend, changes of one path come one after the other.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

from backends.checks import check_kinds, check_rename, require_below_root
from backends.errors import (
    AlreadyExists,
    DirectoryNotEmpty,
    InvalidPath,
    IsADirectory,
    NotADirectory,
    NotFound,
    Unsupported,
)
from backends.interface import SCAN_BATCH, Entry, Features, Parked, StorageBackend
from backends.journal import Journal
from backends.name_locks import NameLocks
from backends.paths import StoragePath
from backends.s3.abilities import Probe
from backends.s3.bucket import Bucket, Found
from backends.s3.connection import KeyFiles, Location, Patience
from backends.s3.copying import copy_object
from backends.s3.keys import Keys
from backends.s3.leftovers import Leftovers
from backends.s3.listing import S3Scan
from backends.s3.reading import S3Reader
from backends.s3.renaming import rename_directory, rename_file
from backends.s3.threads import Threads
from backends.s3.tree import DIRECTORY, Directory, Tree, entry_of
from backends.s3.writing import S3Writer, Store

FEATURES = Features(server_side_copy=True)
THREADS = 16  # that send parts and ask ahead, for all streams together


class S3Backend(StorageBackend):
    """The keys below a prefix as a tree."""

    def __init__(
        self,
        location: Location,
        state: Path,
        *,
        keys: KeyFiles | None = None,
        name: str = "s3",
        patience: Patience | None = None,
    ) -> None:
        """Nothing is asked of the server yet. `state` is a directory for the journal of uploads, and for parts that do
        not fit in memory; `name` is that of this backend in the journal.
        """
        self._bucket = Bucket(location, keys, patience or Patience())
        self._keys = Keys(location.prefix)
        self._probe = Probe(self._bucket, self._keys.root)
        self._tree = Tree(self._bucket, self._keys, self._probe)
        self._threads = Threads(f"s3-{name}", THREADS)
        self._leftovers = Leftovers(Journal(state, name))
        self._store = Store(self._bucket, self._tree, self._probe, self._threads, self._leftovers, state)
        self._locks: NameLocks[bytes] = NameLocks()

    @property
    def features(self) -> Features:  # type: ignore[override]  # known when the server has been asked
        known = self._probe.known
        return replace(FEATURES, conditional_write=known is not None and known.all_conditions)

    def sweep(self) -> int:
        """Find out what the server can do, and drop the uploads that a crash has left; raises Unavailable."""
        self._probe.abilities()
        return self._leftovers.sweep(self._bucket, self._keys)

    def close(self) -> None:
        self._threads.close()
        self._leftovers.close()
        self._bucket.close()

    # --- reading --------------------------------------------------------------------------------------------------

    def stat(self, path: StoragePath) -> Entry:
        return entry_of(path.name, self._existing(path))

    def scan(self, path: StoragePath, batch: int = SCAN_BATCH) -> S3Scan:
        try:
            prefix = self._keys.directory(path)
        except InvalidPath as error:
            raise NotFound(str(error)) from error
        first = self._bucket.page(prefix)
        if first.is_empty and not isinstance(self._existing(path), Directory):
            raise NotADirectory(f"/{path} is not a directory")
        return S3Scan(self._bucket, prefix, first, batch)

    def open_read(self, path: StoragePath) -> S3Reader:
        found = self._file(path)
        return S3Reader(self._bucket, self._threads, self._keys.of(path), path, found)

    # --- writing --------------------------------------------------------------------------------------------------

    def open_write(
        self,
        path: StoragePath,
        *,
        size: int | None = None,
        if_match: str | None = None,
        if_none_match: bool = False,
        hashes: tuple[str, ...] = (),
        resume: Parked | None = None,
    ) -> S3Writer:
        if resume is not None:
            raise Unsupported("S3 storage takes a content as a whole only")
        if path.is_root:
            raise IsADirectory("the root cannot be written as a file")
        return S3Writer(
            self._store,
            self._keys.of(path),
            path,
            self._locks,
            size=size,
            if_match=if_match,
            if_none_match=if_none_match,
            hashes=hashes,
        )

    def make_directory(self, path: StoragePath) -> Entry:
        with self._changing(path):
            if path.is_root or self._tree.look(path) is not None:
                raise AlreadyExists(f"/{path}: the name is taken")
            self._tree.require_parent(path)
            self._tree.mark(path)
        return entry_of(path.name, DIRECTORY)

    def remove(self, path: StoragePath) -> None:
        require_below_root(path)
        with self._changing(path):
            if isinstance(self._existing(path), Found):
                self._bucket.delete(self._keys.of(path))
            elif self._tree.is_empty(path):
                self._tree.unmark(path)
            else:
                raise DirectoryNotEmpty(f"/{path} is not empty")
            self._tree.keep(path.parent)

    def rename(self, source: StoragePath, target: StoragePath, *, overwrite: bool) -> None:
        """S3 cannot: what is there is copied and then removed (`renaming.py`), so a crash in between leaves both."""
        check_rename(source, target)
        with self._changing(source, target):
            found = self._existing(source)
            if source == target:
                return
            self._require_replaceable(found, target, overwrite=overwrite)
            if isinstance(found, Found):
                rename_file(self._store, self._keys.of(source), found, self._keys.of(target), target)
            else:
                old, new = self._keys.directory(source), self._keys.directory(target)
                self._tree.mark(source)  # so that there is something to be copied, and the target is there at the end
                rename_directory(self._store, old, new, target)
            self._tree.keep(source.parent)

    def copy(self, source: StoragePath, target: StoragePath, *, overwrite: bool) -> Entry:
        found = self._file(source)
        if target.is_root:
            raise IsADirectory("the root cannot be written as a file")
        with self._changing(target):
            if source == target and overwrite:
                return entry_of(target.name, found)
            self._require_replaceable(found, target, overwrite=overwrite, directory_first=True)
            made = copy_object(self._store, self._keys.of(source), found, self._keys.of(target), target)
        return entry_of(target.name, made)

    # --- looks ----------------------------------------------------------------------------------------------------

    def _existing(self, path: StoragePath) -> Found | Directory:
        try:
            found = self._tree.look(path)
        except InvalidPath as error:  # so it cannot be there
            raise NotFound(str(error)) from error
        if found is None:
            raise NotFound(f"/{path}: nothing there")
        return found

    def _file(self, path: StoragePath) -> Found:
        found = self._existing(path)
        if isinstance(found, Directory):
            raise IsADirectory(f"/{path} is a directory")
        return found

    def _require_replaceable(
        self, found: Found | Directory, target: StoragePath, *, overwrite: bool, directory_first: bool = False
    ) -> None:
        present = self._tree.look(target)
        if present is None:
            self._tree.require_parent(target)
            return
        to_directory = isinstance(present, Directory)
        if overwrite or directory_first:
            check_kinds(target, from_directory=isinstance(found, Directory), to_directory=to_directory)
        if not overwrite:
            raise AlreadyExists(f"/{target}: the name is taken")
        if to_directory and not self._tree.is_empty(target):
            raise DirectoryNotEmpty(f"/{target} is not empty")

    def _changing(self, *paths: StoragePath) -> AbstractContextManager[None]:
        return self._locks.held(*map(bytes, paths))
