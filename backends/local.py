"""A directory tree of this machine, or of a NAS that is mounted here, served where it lies.

    linux           the system calls that Python lacks            temporaries   names and signs of life
    beneath         opening without leaving the root              journal       where temporaries may be
    root            is it still the recorded one?                 fresh         a file before it has its name
    local_tree      what is visible, as entries                   renaming      names changed under a lock
    local_content   reading, scanning, writing                    local_bytes   of open files, and from one to another
    ownership       whose new files are                           mapped        one account for each user
    permission      may the thread write?                         local_watcher who else changes something
    system_errors   errno -> StorageError

Links: a visible one is read through, and its permissions, times and etag are those of what it leads to; removing,
renaming and replacing act on the link itself, so a PUT onto a link puts a file in its place and leaves what it
led to alone. A link is renamed only within its directory, as elsewhere it would lead to something else.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path

from backends import temporaries
from backends.beneath import confinement
from backends.checks import check_kinds, check_rename, require_below_root
from backends.errors import (
    AlreadyExists,
    InUse,
    IsADirectory,
    OutOfSpace,
    PermissionDenied,
    PreconditionFailed,
    StorageError,
    Unavailable,
    Unsupported,
)
from backends.interface import SCAN_BATCH, Entry, Features, Parked, Space, StorageBackend, check_modified
from backends.journal import Journal
from backends.linux import Abilities, Descriptor
from backends.local_content import LocalReader, LocalScan, LocalWriter, Source, Target
from backends.local_tree import ABSENT_BELOW_A_FILE, LocalTree, Taken
from backends.local_watcher import LocalWatcher
from backends.ownership import BY_THE_KERNEL, NewFiles
from backends.paths import StoragePath
from backends.permission import may_write
from backends.renaming import rename_to_free_name
from backends.root import Root, RootIdentity
from backends.system_errors import StorageErrors


class LocalBackend(StorageBackend):
    """The tree below `root`; every path is opened beneath its descriptor and nowhere else."""

    features = Features(
        atomic_replace=True,
        server_side_copy=True,
        random_write=True,
        set_modified=True,
        quota=True,
        identity=True,
        foreign_changes=True,
        resumable=True,
        modified_precision=1,  # what the kernel carries; a coarse file system keeps less, and entries show that
    )

    def __init__(
        self,
        root: Path | str,
        journal_dir: Path,
        *,
        root_identity: RootIdentity | None = None,
        name: str = "local",
        abilities: Abilities | None = None,
        clock: Callable[[], float] = time.monotonic,
        look: bool = True,
        new_files: NewFiles = BY_THE_KERNEL,
        as_service: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext,
        is_kept: temporaries.IsKept = temporaries.nobody,
    ) -> None:
        """Serve `root` if it is the one with `root_identity`, or the one found first if that is None.

        `journal_dir` is on a disk of this machine and shared by the processes that serve the same root; `abilities`
        leaves out what the kernel could do; `clock` gives seconds. A root that is away is no error here, but every
        operation then raises Unavailable. Without `look` the root, which may hang, is not touched before it is used.
        In threads that act for users `as_service` gives back, for a block, what the gateway's own work needs.
        `is_kept` tells by its token whether what a Writer has parked is to be resumed; what is not kept is debris.
        """
        self._is_kept = is_kept
        self._abilities = abilities or Abilities.detect()
        self._new_files = new_files
        self._as_service = as_service
        opened = Root(os.fsencode(root), root_identity, name, clock, as_service)
        self._tree = LocalTree(opened, confinement(self._abilities))
        self._journal = Journal(journal_dir, name, as_service=as_service)
        self._sweep_is_due = True
        if look:
            with contextlib.suppress(Unavailable):
                self._sweep_once()

    @property
    def identity(self) -> RootIdentity:
        """The identity of the root, to be recorded; raises Unavailable if the root was never seen."""
        return self._tree.root.identity

    def accept_root(self) -> RootIdentity:
        """Take the root that is there now for the recorded one, after a real change; returns its identity.

        Raises Unavailable if there is none.
        """
        return self._tree.root.accept()

    def expect_root(self, identity: RootIdentity) -> bool:
        """Serve only the root with this identity, as another process has recorded it; never waits.

        False when the root is being looked at right now: then try again.
        """
        return self._tree.root.expect(identity)

    def sweep(self) -> int:
        """Remove the temporaries that dead processes left; returns how many. Raises Unavailable."""
        swept = 0
        self._tree.root.open()
        with self._as_service():
            for directories in self._journal.left_by_the_dead():
                for path in directories:
                    swept += self._sweep(path)
        return swept

    def _sweep_once(self) -> None:
        """Sweep at the start, or before the first write if the root was away then."""
        if self._sweep_is_due:
            self.sweep()
            self._sweep_is_due = False

    def _sweep(self, path: StoragePath) -> int:
        try:
            with StorageErrors(path), self._tree.open_directory(path) as directory:
                return temporaries.sweep(directory.fileno(), self._is_kept)
        except Unavailable:
            raise
        except StorageError:  # the directory is gone or closed to us: scan will meet what is in it
            return 0

    # Reading

    def stat(self, path: StoragePath) -> Entry:
        with StorageErrors(path, ABSENT_BELOW_A_FILE):
            return self._tree.look(path)

    def scan(self, path: StoragePath, batch: int = SCAN_BATCH) -> LocalScan:
        with StorageErrors(path):
            try:
                opened = self._tree.open(path, os.O_RDONLY | os.O_DIRECTORY)
            except NotADirectoryError:
                self.stat(path)  # NotFound where that is a file further up, or nothing visible
                raise
            return LocalScan(self._tree, path, opened, batch, self._is_kept)

    def open_read(self, path: StoragePath) -> LocalReader:
        with StorageErrors(path, ABSENT_BELOW_A_FILE):
            return LocalReader(path, self._tree.open_content(path))

    def try_open_read(self, path: StoragePath) -> LocalReader | None:
        with StorageErrors(path, ABSENT_BELOW_A_FILE):
            opened = self._tree.try_open_content(path)
            return None if opened is None else LocalReader(path, opened)

    def try_read(self, path: StoragePath, most: int) -> tuple[Entry, bytes] | None:
        try:
            return self._tree.try_read(path, most)
        except OSError:  # the slower ways say what is wrong
            return None

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
    ) -> LocalWriter:
        return self._begin(path, if_match, if_none_match, size=size, hashes=hashes, resume=resume)

    def open_update(self, path: StoragePath) -> LocalWriter:
        present = self.open_read(path)
        try:
            changed = PreconditionFailed(f"{path}: it has changed since it was opened")
            return self._begin(path, present.entry.etag, source=Source(present, changed))
        except BaseException:
            present.close()
            raise

    def _begin(
        self,
        path: StoragePath,
        if_match: str | None = None,
        if_none_match: bool = False,
        *,
        size: int | None = None,
        hashes: tuple[str, ...] = (),
        resume: Parked | None = None,
        source: Source | None = None,
    ) -> LocalWriter:
        if path.is_root:
            raise IsADirectory("the root cannot be written as a file")
        self._sweep_once()
        with StorageErrors(path):
            parent = self._tree.open_parent(path)
            target = Target(self._tree, path, parent, if_match, if_none_match)
            target.present()
            _require_space(parent, _needed(size, resume, source))
            return LocalWriter(
                target,
                self._journal,
                self._abilities,
                self._new_files,
                size=size,
                hashes=hashes,
                resume=resume,
                source=source,
            )

    def discard(self, path: StoragePath, token: str) -> None:
        gone = contextlib.suppress(FileNotFoundError, NotADirectoryError)
        with StorageErrors(path), gone, self._tree.open_directory(path.parent) as parent:
            name = temporaries.name_of(token)
            status = os.stat(name, dir_fd=parent.fileno(), follow_symlinks=False)
            if not stat.S_ISREG(status.st_mode):
                return  # something else has come to have its name
            if not temporaries.reap(parent.fileno(), name):
                raise InUse(f"{path}: a writer goes on with this")
            os.fsync(parent.fileno())

    def make_directory(self, path: StoragePath) -> Entry:
        if path.is_root:
            raise AlreadyExists("the root exists")
        with StorageErrors(path), self._tree.open_parent(path) as parent:
            self._new_files.make_directory(parent, path.name)
            os.fsync(parent.fileno())
            return self._tree.visible(parent, path)[0]

    def remove(self, path: StoragePath) -> None:
        require_below_root(path)
        with StorageErrors(path), self._tree.open_parent_of_existing(path) as parent:
            with self._tree.exclusively((parent, path.parent)):
                entry, taken = self._tree.visible(parent, path)
                if entry.is_directory and not taken.is_link:
                    self._remove_directory(parent, path)
                else:
                    os.unlink(path.name, dir_fd=parent.fileno())
            os.fsync(parent.fileno())

    def _remove_directory(self, parent: Descriptor, path: StoragePath) -> None:
        """Remove a directory that is empty but for what was parked in it, which nobody can see."""
        try:
            os.rmdir(path.name, dir_fd=parent.fileno())
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):  # rmdir(2)
                raise
            with self._tree.open_directory(path) as directory:
                if not temporaries.clear(directory.fileno(), self._is_kept):
                    raise
            os.rmdir(path.name, dir_fd=parent.fileno())

    def rename(self, source: StoragePath, target: StoragePath, *, overwrite: bool) -> None:
        check_rename(source, target)
        with StorageErrors(source), self._tree.open_parent_of_existing(source) as old:
            self._tree.visible(old, source)
            with StorageErrors(target), self._tree.open_parent(target) as new:
                with self._tree.exclusively((old, source.parent), (new, target.parent)):
                    self._rename(old, source, new, target, overwrite)
                os.fsync(new.fileno())
            os.fsync(old.fileno())

    def _rename(
        self, old: Descriptor, source: StoragePath, new: Descriptor, target: StoragePath, overwrite: bool
    ) -> None:
        entry, what = self._tree.visible(old, source)
        if source == target:
            return
        if what.is_link and not old.is_same(new):
            raise Unsupported(f"{source}: a link leads elsewhere from another directory; copy what it shows")
        in_the_way = self._tree.taken(new, target)
        if not overwrite:
            in_one_step = self._abilities.rename_noreplace
            rename_to_free_name(old.fileno(), source.name, new.fileno(), target.name, in_one_step=in_one_step)
        elif in_the_way is not None and _is_hard_link(what, in_the_way):
            os.unlink(source.name, dir_fd=old.fileno())  # rename(2) would keep both names
        else:
            _require_replaceable(entry, in_the_way, target)
            os.rename(source.name, target.name, src_dir_fd=old.fileno(), dst_dir_fd=new.fileno())

    def copy(self, source: StoragePath, target: StoragePath, *, overwrite: bool) -> Entry:
        with self.open_read(source) as reader:
            changed = Unavailable(f"{source}: it changed while it was copied", retry_after=5)
            begins = Source(reader, changed)
            try:
                with self._begin(target, None, not overwrite, size=reader.entry.size, source=begins) as writer:
                    return writer.commit()
            except PreconditionFailed as error:
                raise AlreadyExists(f"{target}: the name is taken") from error

    def set_modified(self, path: StoragePath, modified: int) -> Entry:
        check_modified(modified)
        with StorageErrors(path, ABSENT_BELOW_A_FILE):
            opened = self._tree.open_content(path)
            with opened.file as file:
                opened.entry(path.name)  # refuses what must not be seen
                os.utime(file.fileno(), ns=(os.fstat(file.fileno()).st_atime_ns, modified))
                os.fsync(file.fileno())
                return opened.entry(path.name)

    def require_writable(self, path: StoragePath) -> None:
        with StorageErrors(path, ABSENT_BELOW_A_FILE):
            with (present := self._tree.open(path, os.O_PATH)).file:
                present.require_shown()
                allowed = may_write(present.file, self._abilities)
            if not allowed and (path.is_root or not self._may_replace(path)):
                raise PermissionDenied(f"{path}: its permissions let it neither be changed nor be replaced")

    def _may_replace(self, path: StoragePath) -> bool:
        """Tell whether the directory lets everybody who may write to it replace what is in it."""
        with self._tree.open_parent(path) as parent:
            # In a sticky one the owners alone may (inode(7)), who by their own permissions are known already.
            return not os.fstat(parent.fileno()).st_mode & stat.S_ISVTX and may_write(parent, self._abilities)

    def space(self) -> Space:
        with StorageErrors("the root"):
            facts = os.fstatvfs(self._tree.root.open().fileno())
            return Space(free=facts.f_bavail * facts.f_frsize, total=facts.f_blocks * facts.f_frsize)

    def watch(self, limit: int) -> LocalWatcher | None:
        return LocalWatcher.open(self._tree, limit)

    def close(self) -> None:
        self._tree.root.close()
        self._journal.close()


def _needed(size: int | None, resume: Parked | None, source: Source | None) -> int | None:
    """Return how many bytes of the disk a content of an announced size still takes, as far as that is known."""
    if size is None:
        return None
    if source is not None:
        return min(size, source.reader.allocated)
    return size if resume is None else size - resume.size


def _require_space(directory: Descriptor, size: int | None) -> None:
    facts = os.fstatvfs(directory.fileno())
    # Some file systems do not tell: then there are no blocks at all.
    if size is not None and facts.f_blocks and size > facts.f_bavail * facts.f_frsize:
        raise OutOfSpace(f"{size} bytes announced, {facts.f_bavail * facts.f_frsize} are free")


def _require_replaceable(source: Entry, in_the_way: Taken | None, target: StoragePath) -> None:
    """Refuse what rename(2) would do to something invisible, or to a link of the other kind."""
    if in_the_way is None:
        return
    if in_the_way.entry is None:
        raise PermissionDenied(f"{target}: the name is taken by something that is not served")
    check_kinds(target, from_directory=source.is_directory, to_directory=in_the_way.entry.is_directory)


def _is_hard_link(one: Taken, other: Taken) -> bool:
    return os.path.samestat(one.status, other.status) and one.status.st_nlink > 1
