"""Which processes on this state directory are alive, and which have died: each holds a lock on a file of its own.

The kernel drops an flock(2) with its process, however that ends. So a row that carries the name of a process tells
whether somebody still works on what it speaks of, also after its number was given to another program. A row carries
the name of one piece of work as well: its own process knows when that has ended, though the row could not say so. And a
file without its lock tells that what its process had not brought to the disk may be lost, or what it had just changed
not be written down: it is there until somebody has made up for that.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

from gateway.durable import sync_directory


class Living:
    """The sign of life of this process, and the look at those of others; open it after a fork, not before."""

    def __init__(self, directory: Path) -> None:
        """Give the sign in `directory`, durably; raises OSError."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.directory = directory
        self.in_doubt = False  # whether what this process has changed is all written down
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
        if process == self.name and work:
            return name in self._at_work
        with contextlib.ExitStack() as opened:
            sign = _open(self.directory / process, opened)
            return sign is not None and _is_held(sign)

    def bury(self, mourn: Callable[[], None]) -> int:
        """Call `mourn` once if any process has died, and only then forget the dead; returns how many there were.

        Of two that do so at once both may mourn.
        """
        with contextlib.ExitStack() as opened:
            signs = [(path, _open(path, opened)) for path in self.directory.iterdir()]
            dead = [path for path, sign in signs if sign is not None and not _is_held(sign) and _is_named(sign)]
            if dead:
                mourn()
            for path in dead:
                path.unlink(missing_ok=True)
        return len(dead)

    def adopt(self, earlier: Path) -> None:
        """Take the signs of the dead over from the directory that earlier versions had besides this one."""
        with contextlib.suppress(FileNotFoundError):  # as it is by now, or another process has just done so
            for path in list(earlier.iterdir()):
                path.rename(self.directory / path.name)
            earlier.rmdir()

    def close(self) -> None:
        """Take the sign back, durably; while this process is `in_doubt`, leave it as the dead do."""
        if not self.in_doubt:
            (self.directory / self.name).unlink(missing_ok=True)
            sync_directory(self.directory)
        os.close(self._descriptor)

    def _begin(self) -> tuple[str, int]:
        while True:
            name = secrets.token_hex(16)
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            descriptor = os.open(self.directory / name, flags, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _is_named(descriptor):
                os.fsync(descriptor)
                sync_directory(self.directory)
                return name, descriptor
            os.close(descriptor)  # between both calls another process has taken it for one of the dead


def _open(path: Path, opened: contextlib.ExitStack) -> int | None:
    """Open a sign until `opened` closes; None when it is gone."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    opened.callback(os.close, descriptor)
    return descriptor


def _is_held(sign: int) -> bool:
    """Tell whether its process lives; if not, the lock is shared by all who look, and one who begins waits for them."""
    try:
        fcntl.flock(sign, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def _is_named(sign: int) -> bool:
    """Tell whether it is still there: neither taken back nor buried by now."""
    return os.fstat(sign).st_nlink > 0
