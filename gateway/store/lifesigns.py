"""Which processes of this state have ended without a farewell: each holds the lock of a file of its own while it lives.

The kernel drops the lock with the process, however that ends. A file without its lock tells that what its process had
not brought to the disk may be lost, or what it had just changed not be written down.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Callable
from pathlib import Path


class LifeSign:
    """The sign of this process among those in `directory`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._path: Path | None = None
        self._lock = -1

    def begin(self) -> None:
        """Give the sign, durably; raises OSError."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        while True:
            self._path = self._directory / f"{secrets.token_hex(16)}.alive"
            self._lock = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            if os.fstat(self._lock).st_nlink:
                break
            self.drop()  # between both calls another process has taken it for one of the dead
        os.fsync(self._lock)
        _sync(self._directory)

    def end(self) -> None:
        """Take the sign back: nothing of this process is left to be written down."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)
            _sync(self._directory)
            self._path = None
        self.drop()

    def drop(self) -> None:
        """Leave the sign as the dead do: what this process has done is in doubt."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def bury(self, mourn: Callable[[], None]) -> int:
        """Call `mourn` once if any process has died, and only then forget the dead; returns how many there were."""
        with contextlib.ExitStack() as held:
            dead = [path for path in sorted(self._directory.glob("*.alive")) if _is_dead(path, held)]
            if dead:
                mourn()
            for path in dead:
                path.unlink(missing_ok=True)
        return len(dead)


def _is_dead(path: Path, held: contextlib.ExitStack) -> bool:
    """Tell whether nobody holds the lock; then it is ours as long as `held`, so that nobody else takes it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False  # it has just ended well
    held.callback(os.close, descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return os.fstat(descriptor).st_nlink > 0  # else another process has just buried it


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
