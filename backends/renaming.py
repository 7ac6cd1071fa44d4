"""Changing names without losing anybody's file: one at a time in a directory, and onto free names only."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator

from backends import linux

_PATIENCE = 10.0  # seconds; the lock is held for microseconds, unless another program takes it
_FIRST_PAUSE, _LONGEST_PAUSE = 0.000_2, 0.02  # seconds

# How a file system or kernel says that it cannot do this one thing: renameat2(2), link(2)
_NOT_IN_ONE_STEP = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})
_NO_HARD_LINK = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})


@contextlib.contextmanager
def exclusively(*directories: int) -> Iterator[None]:
    """Keep every other writer of a gateway out of these directories: compare a name and change it in here.

    flock(2) on descriptors that were opened for reading; it also excludes other processes. Foreign programs do
    not take it. Raises OSError (ETIMEDOUT) after 10 s.
    """
    with contextlib.ExitStack() as held:
        for directory in _in_one_order(directories):
            _lock(directory)
            held.callback(fcntl.flock, directory, fcntl.LOCK_UN)
        yield


def _in_one_order(directories: tuple[int, ...]) -> list[int]:
    """Return one descriptor for each directory, in an order that is the same for all, so that none wait in a ring."""
    unique: dict[tuple[int, int], int] = {}
    for directory in directories:
        status = os.fstat(directory)
        unique[status.st_dev, status.st_ino] = directory
    return [unique[key] for key in sorted(unique)]


def _lock(directory: int) -> None:
    """Take the lock by asking again and again: a blocking flock(2) could be held up for ever by any other program."""
    deadline, pause = time.monotonic() + _PATIENCE, _FIRST_PAUSE
    while True:
        try:
            return fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise TimeoutError(errno.ETIMEDOUT, "another program holds the directory's lock") from None
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


def rename_to_free_name(
    source_directory: int, source: bytes, target_directory: int, target: bytes, *, in_one_step: bool
) -> None:
    """Rename in directories held `exclusively`; raises FileExistsError where the target name is taken.

    Where the file system cannot do it in one step (NFS), a file is linked and unlinked, which no other program
    can come between either; a directory, or anything on a file system without hard links, is looked at first.
    """
    if in_one_step:
        try:
            return linux.rename_noreplace(source_directory, source, target_directory, target)
        except OSError as error:
            if error.errno not in _NOT_IN_ONE_STEP:
                raise
    try:
        os.link(source, target, src_dir_fd=source_directory, dst_dir_fd=target_directory, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_HARD_LINK:
            raise
        _rename_after_a_look(source_directory, source, target_directory, target)
    else:
        os.unlink(source, dir_fd=source_directory)


def _rename_after_a_look(source_directory: int, source: bytes, target_directory: int, target: bytes) -> None:
    try:
        os.stat(target, dir_fd=target_directory, follow_symlinks=False)
    except FileNotFoundError:
        os.rename(source, target, src_dir_fd=source_directory, dst_dir_fd=target_directory)
    else:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
