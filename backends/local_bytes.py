"""Bytes of open files: read, written, and copied from one to the other, all of them though a call may stop early.

Copies are made by the kernel where it can, and holes stay holes. On XFS and btrfs copy_file_range(2) copies nothing
where whole blocks are asked for: the two files share them.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

_PIECE = 64 * 1024 * 1024  # bytes per copy_file_range, which cannot be interrupted
_READ = 8 * 1024 * 1024  # bytes at once where the kernel will not do it

# How copy_file_range(2) says that these two files or this kernel will not do
_NOT_IN_THE_KERNEL = frozenset({errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF})


def read_all(file: int, offset: int, size: int, end: int) -> bytes:
    """Return so many bytes from `offset` on of a file of `end` bytes, fewer only there; raises OSError."""
    data = os.pread(file, size, offset)
    # pread(2) may stop early, and always does after 0x7ffff000 bytes
    while data and len(data) < size and offset + len(data) < end:
        more = os.pread(file, size - len(data), offset + len(data))
        if not more:
            break
        data += more
    return data


def write_all(target: int, offset: int, data: bytes | bytearray | memoryview) -> None:
    """Write all of `data` at `offset`; raises OSError."""
    rest = memoryview(data)
    while rest:
        count = os.pwrite(target, rest, offset)
        offset, rest = offset + count, rest[count:]


def copy_range(source: int, target: int, begin: int, end: int) -> None:
    """Copy these bytes, where `target` has nothing but zeros, or ends, yet; raises OSError.

    Where `source` ends earlier there are zeros: whoever cannot rule that out has to look at it afterwards.
    """
    for offset, stop in _data(source, begin, end):
        while offset < stop and (copied := _copy(source, target, offset, min(stop - offset, _PIECE - offset % _PIECE))):
            offset += copied
    if os.fstat(target).st_size < end:
        os.ftruncate(target, end)


def _data(file: int, begin: int, end: int) -> Iterator[tuple[int, int]]:
    """Give the parts that are no holes, each with its end (lseek(2), SEEK_DATA)."""
    while begin < end:
        try:
            begin = os.lseek(file, begin, os.SEEK_DATA)
            stop = os.lseek(file, begin, os.SEEK_HOLE)
        except OSError as error:
            if error.errno == errno.ENXIO:  # a hole up to the end, or beyond the end
                return
            if error.errno != errno.EINVAL:
                raise
            stop = end  # a file system that does not tell
        if begin < end:
            yield begin, min(stop, end)
        begin = stop


def _copy(source: int, target: int, offset: int, size: int) -> int:
    """Copy up to so many bytes and return how many; 0 only at the end of `source`."""
    try:
        if count := os.copy_file_range(source, target, size, offset, offset):
            return count
    except OSError as error:
        if error.errno not in _NOT_IN_THE_KERNEL:
            raise
    data = os.pread(source, min(size, _READ), offset)
    write_all(target, offset, data)
    return len(data)
