"""Which processes on this state directory are alive: each holds a lock on a file of its own.

The kernel drops an flock(2) with its process, however that ends. So a row that carries the name of a process tells
whether somebody still works on what it speaks of, also after its number was given to another program.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from pathlib import Path


class Living:
    """The sign of life of this process, and the look at those of others; open it after a fork, not before."""

    def __init__(self, directory: Path) -> None:
        """Give the sign in `directory`, which is made if need be; raises OSError."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.directory = directory
        self._bury()
        self.name, self._descriptor = self._begin()

    def is_alive(self, name: str | None) -> bool:
        """Tell whether the process that gave itself this name still runs; None is nobody's."""
        if name is None:
            return False
        try:
            descriptor = os.open(self.directory / name, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            return not _locked(descriptor, fcntl.LOCK_SH)
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Take the sign back."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.directory / self.name)
        os.close(self._descriptor)

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
            if not self.is_alive(name):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self.directory / name)


def _locked(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
