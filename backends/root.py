"""The root of a local tree, and whether it is still the one that was recorded.

An unmounted NAS looks like an empty directory: whoever lists it would believe that everything was deleted, and
a write would land on the disk below. So the identity of the root is recorded once and compared from then on.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Self

from backends import linux
from backends.errors import Unavailable
from backends.linux import Descriptor

CHECK_EVERY = 1.0  # seconds


@dataclass(frozen=True, slots=True)
class RootIdentity:
    """What tells one root from another: its file system and its inode; `str` and `parse` keep it in state."""

    filesystem: int
    inode: int

    def __str__(self) -> str:
        return f"{self.filesystem:x}.{self.inode:x}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `str` gave; raises ValueError."""
        filesystem, inode = text.split(".")
        return cls(int(filesystem, 16), int(inode, 16))


@dataclass(frozen=True, slots=True)
class FileSystem:
    """What is known of one file system: a number that outlives restarts and new mounts, and its type."""

    number: int
    magic: int  # statfs(2)

    @classmethod
    def of(cls, descriptor: int) -> FileSystem:
        """Ask for the file system on which `descriptor` is open.

        Its number is the fsid where there is one (ext4, btrfs and ZFS derive it from the UUID), or the device where
        that stands for a disk. The devices of NFS and others without a disk (major 0) are numbered anew at each
        mount: there the type must do.
        """
        magic = linux.filesystem_magic(descriptor)
        device = os.fstat(descriptor).st_dev
        return cls(os.fstatvfs(descriptor).f_fsid or (device if os.major(device) else magic), magic)

    @property
    def is_local(self) -> bool:
        """Tell whether opening and reading from the page cache never waits for a network."""
        return self.magic in linux.LOCAL_MAGICS

    @property
    def is_memory(self) -> bool:
        return self.magic == linux.TMPFS_MAGIC


class OpenRoot(Descriptor):
    """One opening of the root, with the file systems that were met at and below it, by st_dev."""

    __slots__ = ("file_systems", "home", "identity")

    def __init__(self, number: int) -> None:
        super().__init__(number)
        status = os.fstat(self.fileno())
        self.home = FileSystem.of(self.fileno())
        self.file_systems = {status.st_dev: self.home}
        self.identity = RootIdentity(self.home.number, status.st_ino)

    def file_system(self, device: int, descriptor: int) -> FileSystem:
        """Return the file system with the st_dev `device`, on which `descriptor` is open."""
        known = self.file_systems.get(device)
        if known is None:
            known = self.file_systems[device] = FileSystem.of(descriptor)
        return known


class Root:
    """Opens the root anew at most every second and refuses while it is not the recorded one."""

    def __init__(
        self,
        path: bytes,
        identity: RootIdentity | None,
        name: str,
        clock: Callable[[], float],
        as_service: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._path = path
        self._as_service = as_service
        self._name = name
        self._clock = clock  # seconds, monotonic
        self._identity = identity
        self._lock = threading.Lock()
        self._checked = float("-inf")
        self._present: OpenRoot | None = None
        self._reason = ""
        self._is_closed = False

    @property
    def identity(self) -> RootIdentity:
        """The recorded identity, or that of the root as it was first seen; raises Unavailable before that."""
        return self._identity or self.open().identity

    def open(self) -> OpenRoot:
        """Return the root, checked within the last second; raises Unavailable."""
        with self._lock:
            if self._is_closed or not self._is_fresh():
                self._check()
                self._checked = self._clock()
            if self._present is None:
                raise Unavailable(f"{self._name}: {self._reason}")
            return self._present

    def open_if_fresh(self) -> OpenRoot | None:
        """Return the root if that needs no look at the disk."""
        return self._present if self._is_fresh() and not self._is_closed else None

    def accept(self) -> RootIdentity:
        """Take the root that is there now for the recorded one, and return its identity; raises Unavailable.

        Where none is there the recorded one stays: else the mount point of a NAS that is away would be next.
        """
        with self._lock:
            recorded, self._identity = self._identity, None
            self._check()
            self._checked = self._clock()
            if self._present is None:
                self._identity = recorded
                raise Unavailable(f"{self._name}: {self._reason}")
            return self._present.identity

    def expect(self, identity: RootIdentity) -> bool:
        """Take `identity` for the recorded one; False, and nothing is done, while the root is being looked at."""
        if not self._lock.acquire(blocking=False):  # opening the root of a NAS that hangs holds it
            return False
        try:
            if identity != self._identity:
                self._identity, self._checked = identity, float("-inf")
            return True
        finally:
            self._lock.release()

    def close(self) -> None:
        """Refuse from now on; waits for no look at the root, and so for no NAS that hangs."""
        self._is_closed = True
        if self._lock.acquire(blocking=False):
            self._check()
            self._lock.release()

    def _is_fresh(self) -> bool:
        return self._clock() - self._checked < CHECK_EVERY

    def _check(self) -> None:
        self._present = None
        if self._is_closed:
            self._reason = "the backend is closed"
            return
        shown = os.fsdecode(self._path)
        try:
            with self._as_service():
                present = OpenRoot(os.open(self._path, os.O_PATH | os.O_DIRECTORY))
        except OSError as error:
            self._reason = f"the root cannot be opened ({error.strerror}); is it mounted? ({shown})"
            return
        if self._identity not in (None, present.identity):
            self._reason = f"the root is not the one recorded; is it mounted? ({shown})"
            return
        self._identity, self._present = present.identity, present
