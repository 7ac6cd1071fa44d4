"""Changes in directories of a local tree, as inotify(7) tells them, whoever makes them.

A directory is watched through a descriptor that was opened beneath the root, so no link leads a watch out of it. The
kernel tells of a directory's own names and of the files under them, not of what is further down, and only of changes
made on this machine: a network file system is not watched.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import struct
import threading
from collections import OrderedDict, defaultdict
from typing import Self

from backends import linux, temporaries
from backends.errors import StorageError
from backends.interface import Watcher
from backends.linux import Descriptor
from backends.local_tree import LocalTree
from backends.paths import StoragePath

# linux/inotify.h
_IN_MODIFY, _IN_ATTRIB, _IN_CLOSE_WRITE = 0x2, 0x4, 0x8
_IN_MOVED_FROM, _IN_MOVED_TO, _IN_CREATE, _IN_DELETE, _IN_MOVE_SELF = 0x40, 0x80, 0x100, 0x200, 0x800
_IN_Q_OVERFLOW, _IN_IGNORED = 0x4000, 0x8000
_IN_ONLYDIR, _IN_EXCL_UNLINK, _IN_ISDIR = 0x1000000, 0x4000000, 0x40000000

_NAMES = _IN_CREATE | _IN_DELETE | _IN_MOVED_FROM | _IN_MOVED_TO
# Unlinked files are left out: an upload of ours has no name before it is whole.
_MASK = _NAMES | _IN_MODIFY | _IN_ATTRIB | _IN_CLOSE_WRITE | _IN_MOVE_SELF | _IN_ONLYDIR | _IN_EXCL_UNLINK
_EVENT = struct.Struct("iIII")  # watch, mask, cookie, length of the name that follows
_BUFFER = 65_536  # bytes

Changed = dict[StoragePath, bool]  # and whether all that is in it has


class LocalWatcher(Watcher):
    """The watches of one local tree; the directory that was added last stays the longest."""

    @classmethod
    def open(cls, tree: LocalTree, limit: int) -> Self | None:
        """Return a watcher, or None where this user has no more of them (fs.inotify.max_user_instances)."""
        try:
            return cls(tree, limit, Descriptor(linux.inotify_init()))
        except OSError:
            return None

    def __init__(self, tree: LocalTree, limit: int, events: Descriptor) -> None:
        self._tree = tree
        self._limit = limit
        self._events = events
        self._woken = Descriptor(os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC))
        self._lock = threading.Lock()
        self._closed = False
        self._watches: OrderedDict[StoragePath, int] = OrderedDict()
        self._paths: defaultdict[int, set[StoragePath]] = defaultdict(set)  # several where links lead to one directory

    def add(self, path: StoragePath) -> None:
        with self._lock:
            if path in self._watches or self._closed:
                if path in self._watches:
                    self._watches.move_to_end(path)
                return
        with contextlib.suppress(OSError, StorageError):
            root, directory = self._tree.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            with directory:
                device = os.fstat(directory.fileno()).st_dev
                if root.file_system(device, directory.fileno()).is_local:
                    self._add(path, directory)

    def watches(self, path: StoragePath) -> bool:
        return path in self._watches

    def drop(self, path: StoragePath) -> None:
        with self._lock:
            self._drop(path)

    def wait(self, seconds: float | None) -> None:
        poll = select.poll()
        with self._lock:
            if self._closed:
                return
            poll.register(self._events.fileno(), select.POLLIN)
            poll.register(self._woken.fileno(), select.POLLIN)
        poll.poll(None if seconds is None else seconds * 1000)
        with contextlib.suppress(BlockingIOError, ValueError):
            os.eventfd_read(self._woken.fileno())

    def wake(self) -> None:
        with contextlib.suppress(BlockingIOError, ValueError):  # woken already, or closed
            os.eventfd_write(self._woken.fileno(), 1)

    def collect(self) -> list[tuple[StoragePath, bool]]:
        changed: Changed = {}
        with self._lock:
            while not self._closed:
                try:
                    self._read(os.read(self._events.fileno(), _BUFFER), changed)
                except BlockingIOError:
                    break
        return list(changed.items())

    def close(self) -> None:
        self.wake()
        with self._lock:
            self._closed = True
            self._watches.clear()
            self._paths.clear()
            self._events.close()

    def _add(self, path: StoragePath, directory: Descriptor) -> None:
        with self._lock:
            while len(self._watches) >= self._limit:
                self._remove(next(iter(self._watches)))
            while not self._closed:
                try:
                    watch = linux.inotify_add_watch(self._events.fileno(), directory.fileno(), _MASK)
                except OSError as error:
                    if error.errno != errno.ENOSPC or not self._watches:
                        raise
                    # The user's limit (fs.inotify.max_user_watches) is lower than ours, or others use it up.
                    self._remove(next(iter(self._watches)))
                else:
                    self._watches[path] = watch
                    self._paths[watch].add(path)
                    return

    def _drop(self, path: StoragePath) -> None:
        for watched in [watched for watched in self._watches if watched.is_within(path)]:
            self._remove(watched)

    def _remove(self, path: StoragePath) -> None:
        watch = self._watches.pop(path)
        self._paths[watch].discard(path)
        if not self._paths[watch]:
            del self._paths[watch]
            linux.inotify_rm_watch(self._events.fileno(), watch)

    def _read(self, data: bytes, changed: Changed) -> None:
        position = 0
        while position < len(data):
            watch, mask, _, length = _EVENT.unpack_from(data, position)
            position += _EVENT.size + length
            if mask & _IN_Q_OVERFLOW:
                changed.update({path: changed.get(path, False) for path in self._watches})
                continue
            self._understand(watch, mask, data[position - length : position].rstrip(b"\0"), changed)

    def _understand(self, watch: int, mask: int, name: bytes, changed: Changed) -> None:
        paths = self._paths.get(watch, ())
        if mask & (_IN_IGNORED | _IN_MOVE_SELF):  # it is gone, or somewhere else
            for path in list(paths):
                self._remove(path)
            return
        if name.startswith(temporaries.PREFIX):
            return
        for path in list(paths):
            changed.setdefault(path, False)
            if mask & _IN_ISDIR and mask & (_IN_MOVED_FROM | _IN_MOVED_TO):
                with contextlib.suppress(StorageError):
                    self._moved(path.child(name), mask, changed)

    def _moved(self, path: StoragePath, mask: int, changed: Changed) -> None:
        """A directory has come to this name with all that is in it, or has left it."""
        if mask & _IN_MOVED_TO:
            changed[path] = True
        else:
            self._drop(path)
