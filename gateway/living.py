"""Which processes on this state directory are alive: each holds a lock on a file of its own.

The kernel drops an flock(2) with its process, however that ends. So a row that carries the name of a process tells
whether somebody still works on what it speaks of, also after its number was given to another program. A row carries
the name of one piece of work as well: its own process knows when that has ended, though the row could not say so.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import secrets
from collections.abc import Iterator
from pathlib import Path


class Living:
    """The sign of life of this process, and the look at those of others; open it after a fork, not before."""

    def __init__(self, directory: Path) -> None:
        """Give the sign in `directory`, which is made if need be; raises OSError."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.directory = directory
        self._bury()
        self.name, self._descriptor = self._begin()
        self._numbers = itertools.count()
        self._at_work: set[str] = set()

    @contextlib.contextmanager
    def at_work(self) -> Iterator[str]:
        """Give the block a name that is alive until the block ends; to other processes, until this one does."""
        name = f"{self.name}.{next(self._numbers)}"
        self._at_work.add(name)
        try:
            yield name
        finally:
            self._at_work.remove(name)

    def is_alive(self, name: str | None) -> bool:
        """Tell whether the process, or its piece of work, that has this name still runs; None is nobody's."""
        if name is None:
            return False
        process, _, work = name.partition(".")
        return name in self._at_work if process == self.name and work else self._runs(process)

    def close(self) -> None:
        """Take the sign back."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.directory / self.name)
        os.close(self._descriptor)

    def _runs(self, process: str) -> bool:
        try:
            descriptor = os.open(self.directory / process, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            return not _locked(descriptor, fcntl.LOCK_SH)
        finally:
            os.close(descriptor)

    def _begin(self) -> tuple[str, int]:
        while True:
            name = secrets.token_hex(16)
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            descriptor = os.open(self.directory / name, flags, 0o600)
            # Between both calls another process may have looked, and taken it for one of the dead.
            if _locked(descriptor, fcntl.LOCK_EX) and os.fstat(descriptor).st_nlink:
                return name, descriptor
            os.close(descriptor)

    def _bury(self) -> None:
        for name in os.listdir(self.directory):
            if not self._runs(name):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self.directory / name)


def _locked(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
