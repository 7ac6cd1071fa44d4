"""Errors of the operating system as errors of the storage contract: one table, applied in one place."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from types import MappingProxyType

from backends.errors import (
    AlreadyExists,
    DirectoryNotEmpty,
    InvalidPath,
    IsADirectory,
    NotADirectory,
    NotFound,
    OutOfSpace,
    PermissionDenied,
    StorageError,
    Unavailable,
    Unsupported,
)

# What is absent here (EIO, ESTALE, ETIMEDOUT, EMFILE, ENOMEM, ...) says nothing about the request: Unavailable.
# Source: errno(3), and the manual pages of the calls named.
ERRORS: Mapping[int, type[StorageError]] = MappingProxyType(
    {
        errno.ENOENT: NotFound,
        errno.ELOOP: NotFound,  # a link that must not be followed, or links in a circle
        errno.ENXIO: NotFound,  # open(2): a socket, or a FIFO without a reader
        errno.ENODEV: NotFound,  # open(2): a device without a driver
        errno.EEXIST: AlreadyExists,
        errno.ENOTDIR: NotADirectory,
        errno.EISDIR: IsADirectory,
        errno.ENOTEMPTY: DirectoryNotEmpty,
        errno.EPERM: PermissionDenied,
        errno.EACCES: PermissionDenied,
        errno.EROFS: PermissionDenied,
        errno.EBUSY: PermissionDenied,  # rename(2), rmdir(2): a mount point
        errno.EINVAL: InvalidPath,  # open(2), rename(2): a name that this file system cannot hold, a loop
        errno.EILSEQ: InvalidPath,
        errno.ENAMETOOLONG: InvalidPath,
        errno.ENOSPC: OutOfSpace,
        errno.EDQUOT: OutOfSpace,
        errno.EFBIG: OutOfSpace,  # more than this file system, or a limit on the process, allows for one file
        errno.EMLINK: OutOfSpace,  # mkdir(2): no room for another subdirectory
        errno.EXDEV: Unsupported,  # rename(2), link(2): another file system
        errno.EOPNOTSUPP: Unsupported,
        errno.ENOSYS: Unsupported,
    }
)

_NO_EXCEPTIONS: Mapping[int, type[StorageError]] = MappingProxyType({})


def translate(
    error: OSError, subject: object, differing: Mapping[int, type[StorageError]] = _NO_EXCEPTIONS
) -> StorageError:
    """Return the error of the contract for `error` at `subject`; `differing` goes before the table."""
    number = error.errno or 0
    kind = differing.get(number) or ERRORS.get(number, Unavailable)
    if kind is Unavailable:
        return Unavailable(f"{subject}: {errno.errorcode.get(number, number)}, {os.strerror(number)}")
    return kind(f"{subject}: {os.strerror(number)}")


class StorageErrors:
    """Lets only errors of the contract out of its block; `differing` maps errno where a call means another.

    A class, because every operation passes here and a generator would cost three times as much.
    """

    __slots__ = ("_differing", "_subject")

    def __init__(self, subject: object, differing: Mapping[int, type[StorageError]] = _NO_EXCEPTIONS) -> None:
        self._subject = subject
        self._differing = differing

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise translate(error, self._subject, self._differing) from error
