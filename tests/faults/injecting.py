"""System calls of the storage's threads that fail when a test says so; the state and the sockets are left alone."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from backends import linux

# Each with the errors that its manual page names and a broken or full disk gives.
BROKEN, FULL = (errno.EIO,), (errno.EIO, errno.ENOSPC)
CALLS: dict[tuple[Any, str], tuple[int, ...]] = {
    (os, "fsync"): FULL,  # ENOSPC: NFS, and space that is allocated late
    (os, "pwrite"): FULL,
    (os, "copy_file_range"): FULL,
    (os, "open"): FULL,  # O_TMPFILE and O_CREAT; also directories, where it is the disk
    (os, "link"): FULL,
    (os, "rename"): FULL,
    (os, "mkdir"): FULL,
    (os, "unlink"): BROKEN,
    (os, "rmdir"): BROKEN,
    (os, "stat"): BROKEN,
    (os, "fstat"): BROKEN,
    (os, "fstatvfs"): BROKEN,
    (os, "scandir"): BROKEN,
    (os, "pread"): BROKEN,
    (os, "lseek"): BROKEN,
    (os, "utime"): BROKEN,
    (linux, "openat2"): BROKEN,
    (linux, "rename_noreplace"): FULL,
}


class Fault:
    """The call with this number fails, and every later one if it lasts; `happened` tells whether there was one."""

    def __init__(self, number: int, error: int, *, lasts: bool = False) -> None:
        self._left = number
        self._error = error
        self._lasts = lasts
        self._counting = threading.Lock()
        self.happened = False

    def strike(self) -> None:
        with self._counting:
            self._left -= 1
            if self._left > 0 or (self._left < 0 and not self._lasts):
                return
            self.happened = True
        raise OSError(self._error, os.strerror(self._error))


@contextmanager
def failing(calls: Iterable[tuple[Any, str]], fault: Fault, pool: str = "storage") -> Iterator[None]:
    """Let `fault` strike at any of `calls` for the block, in the threads of `pool` alone."""
    with pytest.MonkeyPatch.context() as patch:
        for module, name in calls:
            patch.setattr(module, name, _injected(getattr(module, name), fault, f"{pool}-"))
        yield


def _injected(call: Callable[..., Any], fault: Fault, threads: str) -> Callable[..., Any]:
    def injected(*arguments: Any, **named: Any) -> Any:
        if threading.current_thread().name.startswith(threads):
            fault.strike()
        return call(*arguments, **named)

    return injected
