"""The storage contract: a small mandatory part, and features that a backend declares.

Everything here is synchronous and may be called from any thread, one operation at a time for each Reader,
Writer and Scan; `pool.py` brings it to the event loop. Every method raises only the errors of `errors.py`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Self

from backends.entries import MODIFIED_MAX, MODIFIED_MIN, Entry, Identity, Kind, check_modified
from backends.errors import IsADirectory, PreconditionFailed, Unsupported
from backends.paths import StoragePath
from backends.writer import Parked, Writer

__all__ = [
    "MODIFIED_MAX",
    "MODIFIED_MIN",
    "SCAN_BATCH",
    "Entry",
    "Features",
    "Identity",
    "Kind",
    "Parked",
    "Reader",
    "Scan",
    "Space",
    "StorageBackend",
    "Watcher",
    "Writer",
    "check_modified",
    "check_preconditions",
]

SCAN_BATCH = 1000  # entries per hop to a worker thread


@dataclass(frozen=True, slots=True)
class Space:
    """Bytes free to the service, and in all."""

    free: int
    total: int


@dataclass(frozen=True, slots=True)
class Features:
    """Frozen facts about a backend; what is not declared is not called."""

    atomic_replace: bool = False  # a reader sees the old content or the new, never a mixture
    server_side_copy: bool = False  # copy() exists
    random_write: bool = False  # write_at(), read_at() and truncate() of a Writer, and open_update() exist
    set_modified: bool = False  # set_modified() exists
    case_sensitive: bool = True
    empty_directories: bool = True  # a directory exists without anything in it
    quota: bool = False  # space() exists
    identity: bool = False  # Entry.identity is set and survives a rename
    foreign_changes: bool = False  # other programs write here too; a directory's etag tells when its names change
    conditional_write: bool = False  # the storage itself compares if_match and if_none_match, whoever else writes
    resumable: bool = False  # Writer.park(), open_write(resume=...) and discard() exist
    modified_precision: int = 1_000_000_000  # nanoseconds
    checksums: frozenset[str] = field(default_factory=frozenset)


def check_preconditions(present: Entry | None, if_match: str | None, if_none_match: bool) -> None:
    """Compare what is there now with what `open_write` was told to expect; raises IsADirectory, PreconditionFailed."""
    if present is not None and present.is_directory:
        raise IsADirectory("a directory cannot be written as a file")
    if if_none_match and present is not None:
        raise PreconditionFailed("the file exists already")
    if if_match is not None and (present is None or if_match not in ("*", present.etag)):
        raise PreconditionFailed("the file is not the one expected")


class Scan(ABC):
    """One level of a directory as batches of entries, in no promised order; each batch is one hop."""

    @abstractmethod
    def next(self) -> list[Entry]:
        """Return the next entries, at most the batch asked for; an empty list is the end."""

    @abstractmethod
    def close(self) -> None:
        """Release the directory; may be called more than once."""

    def __iter__(self) -> Iterator[Entry]:
        while batch := self.next():
            yield from batch

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class Reader(ABC):
    """An open file; `entry` describes exactly the content that is read, even if the name is replaced meanwhile."""

    entry: Entry

    @property
    def digests(self) -> Mapping[str, bytes]:
        """Return what the storage itself says of the whole content, as digests by names of hashlib.

        Empty where it says nothing, and until something was read.
        """
        return {}

    @abstractmethod
    def read_at(self, offset: int, size: int) -> bytes:
        """Return up to `size` bytes from `offset`; fewer only at the end of the file, b"" beyond it."""

    @abstractmethod
    def close(self) -> None:
        """Release the file; may be called more than once."""

    def read_cached(self, offset: int, size: int) -> bytes | None:
        """Return what `read_at` would if that is in memory now, else None; never blocks, so the event loop may call it.

        None means: use a thread.
        """
        return None

    def fileno(self) -> int | None:
        """Return a descriptor that preadv and sendfile work on, or None."""
        return None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class Watcher(ABC):
    """Tells in which of some directories something was changed, by whomever; may be called from any thread."""

    @abstractmethod
    def add(self, path: StoragePath) -> None:
        """Watch the directory at `path` itself, instead of the one that was added first if there are too many.

        Nothing happens where that cannot be done.
        """

    @abstractmethod
    def watches(self, path: StoragePath) -> bool:
        """Tell whether the directory at `path` is watched."""

    @abstractmethod
    def drop(self, path: StoragePath) -> None:
        """Watch neither the directory at `path` nor any below it any longer."""

    @abstractmethod
    def wait(self, seconds: float | None) -> None:
        """Wait until there is something to collect, `wake` is called, or `seconds` have passed (None: for ever)."""

    @abstractmethod
    def wake(self) -> None:
        """End a `wait`."""

    @abstractmethod
    def collect(self) -> list[tuple[StoragePath, bool]]:
        """Return, without waiting, the directories that were changed, and whether all that is in them was."""

    @abstractmethod
    def close(self) -> None:
        """Stop watching and end a `wait`; may be called more than once."""


class StorageBackend(ABC):
    """A tree of files and directories below one root.

    A path that leads out of the root, to a special file or to a temporary of our own does not exist.
    """

    features: Features

    @abstractmethod
    def stat(self, path: StoragePath) -> Entry:
        """Return the entry at `path`; raises NotFound (also where a parent is a file), Unavailable."""

    @abstractmethod
    def scan(self, path: StoragePath, batch: int = SCAN_BATCH) -> Scan:
        """Open one level of the directory at `path`; raises NotFound, NotADirectory.

        Entries that vanish while the scan runs are left out, and so are names that no StoragePath can hold.
        """

    @abstractmethod
    def open_read(self, path: StoragePath) -> Reader:
        """Open the file at `path`; raises NotFound, IsADirectory, PermissionDenied."""

    def try_open_read(self, path: StoragePath) -> Reader | None:
        """Open the file if that needs nothing but caches, else return None; never blocks, so the event loop
        may call it. Raises as open_read."""
        return None

    def try_read(self, path: StoragePath, most: int) -> tuple[Entry, bytes] | None:
        """Return the entry and the whole content of the file if that is at most `most` bytes and needs nothing but
        caches, else None, as for what is not there or no file; never blocks. Raises Unavailable."""
        return None

    @abstractmethod
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
        """Begin new content for `path`, creating the file or replacing the one that is there.

        `resume`: what a Writer for the same path has parked; the new one goes on after its first `resume.size` bytes
        and drops the rest. Raises NothingParked, InUse while another Writer goes on with it, and Unsupported where it
        is no feature (resumable).

        `if_match`: the etag that the present file must have, `"*"` for any; `if_none_match`: there must be none.
        Both are checked here and again, atomically with the change of name, in commit (PreconditionFailed).
        Raises NotFound when the parent does not exist, NotADirectory when it is a file, IsADirectory, InvalidPath,
        PermissionDenied (also where the name is taken by something that must not be seen), OutOfSpace when `size`
        cannot fit.
        """

    def open_update(self, path: StoragePath) -> Writer:
        """Begin new content for the file at `path`: the present one, until it is changed (feature random_write).

        What every Writer's is: invisible, and in `commit` it replaces the file as a whole, keeping of it what replacing
        keeps. Where the file is another by then, or was changed, `commit` raises PreconditionFailed, as may each call
        before it: nobody's change is lost unseen. Raises as `open_read`, and as `open_write` for what may not be
        written.
        """
        raise Unsupported("this storage takes a content as a whole only")

    @abstractmethod
    def make_directory(self, path: StoragePath) -> Entry:
        """Create the directory, durably; raises AlreadyExists, NotFound (no parent), NotADirectory."""

    @abstractmethod
    def remove(self, path: StoragePath) -> None:
        """Remove the file or the empty directory, durably; raises NotFound, DirectoryNotEmpty; the root is
        PermissionDenied.

        A link is removed itself, even one to a directory that is not empty. So whoever removes a tree calls this
        first and descends only on DirectoryNotEmpty: then nothing beyond a link is ever removed.
        """

    @abstractmethod
    def rename(self, source: StoragePath, target: StoragePath, *, overwrite: bool) -> None:
        """Give `source` the name `target`, atomically and durably.

        With `overwrite` a file or an empty directory at `target` is replaced by one of its own kind; without, a name
        that is taken is AlreadyExists; onto itself nothing happens. Raises NotFound (also when the parent of `target`
        does not exist), IsADirectory, NotADirectory, DirectoryNotEmpty, InvalidPath (`target` lies below `source`),
        PermissionDenied for the root, Unsupported where the caller has to copy instead.
        """

    def discard(self, path: StoragePath, token: str) -> None:
        """Remove what a Writer for `path` has parked; nothing there is no error (feature resumable).

        Raises InUse while a Writer goes on with it.
        """
        raise Unsupported("this storage takes a content as a whole only")

    def copy(self, source: StoragePath, target: StoragePath, *, overwrite: bool) -> Entry:
        """Copy one file inside the storage, durably and all or nothing (feature server_side_copy).

        Raises as `open_read` of `source` and `open_write` of `target`; AlreadyExists without `overwrite`.
        """
        raise Unsupported("this storage does not copy by itself")

    def set_modified(self, path: StoragePath, modified: int) -> Entry:
        """Set the modification time in nanoseconds since the epoch, durably (feature set_modified).

        The entry shows what the storage has kept of it. Raises NotFound, PermissionDenied, Unsupported for a time
        outside of MODIFIED_MIN to MODIFIED_MAX.
        """
        raise Unsupported("this storage keeps its own modification times")

    def require_writable(self, path: StoragePath) -> None:
        """Make sure that the storage lets what is at `path` be changed or replaced, and change nothing.

        For what concerns it and is not kept in the storage; where every path has the same rights nothing happens.
        Raises PermissionDenied, and NotFound where nothing is there.
        """

    def space(self) -> Space:
        """Return the space on the storage (feature quota)."""
        raise Unsupported("this storage does not tell its free space")

    def watch(self, limit: int) -> Watcher | None:
        """Return a Watcher over at most `limit` directories; None where the storage tells nothing by itself."""
        return None

    def sweep(self) -> int:
        """Remove what provably dead processes have left and return how much that was; raises Unavailable."""
        return 0

    def close(self) -> None:
        """Release what the backend holds; open Readers and Writers become invalid."""
