"""The Linux calls that the standard library lacks, by ctypes, each raising OSError as `os` does."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

_libc = ctypes.CDLL(None, use_errno=True)

AT_FDCWD = -100  # linux/fcntl.h

# openat2(2), linux/openat2.h; the number is the same on every architecture that Python supports
_SYS_OPENAT2 = 437
RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_CACHED = 0x20

# faccessat2(2), linux/fcntl.h; this number too is the same everywhere
_SYS_FACCESSAT2 = 439
_AT_EACCESS = 0x200
_AT_EMPTY_PATH = 0x1000

_RENAME_NOREPLACE = 1  # renameat2(2), linux/fs.h
_SYNC_FILE_RANGE_WRITE = 2  # sync_file_range(2), linux/fs.h

TMPFS_MAGIC = 0x01021994
# statfs(2) and linux/magic.h; ZFS from OpenZFS. On these an open and a page cache read never wait for a network.
LOCAL_MAGICS = frozenset(
    {
        0xEF53,  # ext2, ext3, ext4
        0x58465342,  # XFS
        0x9123683E,  # btrfs
        TMPFS_MAGIC,
        0x794C7630,  # overlayfs
        0x2FC12FC1,  # ZFS
    }
)


class _OpenHow(ctypes.Structure):
    """struct open_how of openat2(2)."""

    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


_OPEN_HOW_SIZE = ctypes.sizeof(_OpenHow)


def _function(name: str, *argument_types: Any) -> Callable[..., int] | None:
    """Return a function of the C library that answers -1 and errno, or None where this library lacks it."""
    function = getattr(_libc, name, None)
    if function is not None:
        function.argtypes = argument_types
        function.restype = ctypes.c_long if name == "syscall" else ctypes.c_int
    return function


_syscall = _function("syscall", ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t)
_renameat2 = _function(
    "renameat2", ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint
)  # glibc 2.28
_sync_file_range = _function("sync_file_range", ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
_fstatfs = _function("fstatfs", ctypes.c_int, ctypes.c_char_p)
_inotify_init1 = _function("inotify_init1", ctypes.c_int)
_inotify_add_watch = _function("inotify_add_watch", ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32)
_inotify_rm_watch = _function("inotify_rm_watch", ctypes.c_int, ctypes.c_int)


def _call(function: Callable[..., int] | None, *arguments: Any) -> int:
    if function is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    while (result := function(*arguments)) < 0:
        number = ctypes.get_errno()
        if number != errno.EINTR:  # PEP 475, which `os` keeps too
            raise OSError(number, os.strerror(number))
    return result


@functools.cache
def _open_how(flags: int, resolve: int) -> tuple[int, _OpenHow]:
    """Return the address of a struct, and the struct to keep it there; the kernel only reads it."""
    how = _OpenHow(flags | os.O_CLOEXEC, 0, resolve)
    return ctypes.addressof(how), how


def openat2(directory: int, path: bytes, flags: int, resolve: int) -> int:
    """Open `path` below the descriptor `directory` under the rules `resolve`; returns a descriptor."""
    address, _ = _open_how(flags, resolve)
    return _call(_syscall, _SYS_OPENAT2, directory, path, address, _OPEN_HOW_SIZE)


def access_in_effect(descriptor: int, mode: int) -> None:
    """Raise OSError where who the thread acts for may not do `mode` (os.R_OK and the like) to what is open."""
    _call(_syscall, _SYS_FACCESSAT2, descriptor, b"", mode, _AT_EACCESS | _AT_EMPTY_PATH)


def rename_noreplace(source_directory: int, source: bytes, target_directory: int, target: bytes) -> None:
    """Rename unless the target name is taken (EEXIST); EINVAL or ENOSYS where that cannot be done in one step."""
    _call(_renameat2, source_directory, source, target_directory, target, _RENAME_NOREPLACE)


def start_write_back(descriptor: int) -> None:
    """Ask the kernel to begin writing to the disk what it holds of a file, so that a later fsync is short; a hint."""
    with contextlib.suppress(OSError):
        _call(_sync_file_range, descriptor, 0, 0, _SYNC_FILE_RANGE_WRITE)  # a size of 0: to the end


def filesystem_magic(descriptor: int) -> int:
    """Return what statfs(2) calls f_type: the first field, a long on the 64-bit architectures."""
    buffer = ctypes.create_string_buffer(256)
    _call(_fstatfs, descriptor, buffer)
    return int.from_bytes(buffer.raw[: ctypes.sizeof(ctypes.c_long)], sys.byteorder) & 0xFFFFFFFF


def inotify_init() -> int:
    """Return a descriptor on which events can be read without waiting; EMFILE when the user has too many."""
    return _call(_inotify_init1, os.O_NONBLOCK | os.O_CLOEXEC)


def inotify_add_watch(inotify: int, directory: int, mask: int) -> int:
    """Watch an open directory, whatever its name may lead to by now; ENOSPC when the user has too many watches."""
    return _call(_inotify_add_watch, inotify, b"/proc/self/fd/%d" % directory, mask)


def inotify_rm_watch(inotify: int, watch: int) -> None:
    """Watch it no longer; a watch that the kernel has dropped by itself is no error."""
    with contextlib.suppress(OSError):
        _call(_inotify_rm_watch, inotify, watch)


class Descriptor:
    """An open file descriptor that is closed exactly once, at the latest when nothing refers to it any more.

    So a thread that still works on it cannot find that its number has come to mean another file.
    """

    __slots__ = ("_number",)

    def __init__(self, number: int) -> None:
        self._number = number

    def fileno(self) -> int:
        """Return the number; raises ValueError after close."""
        if self._number < 0:
            raise ValueError("the descriptor is closed")
        return self._number

    def is_same(self, other: Descriptor) -> bool:
        """Tell whether both are open on the same file or directory."""
        return os.path.samestat(os.fstat(self.fileno()), os.fstat(other.fileno()))

    def close(self) -> None:
        """Close it; may be called more than once."""
        number, self._number = self._number, -1
        if number >= 0:
            try:
                os.close(number)
            except OSError:
                return  # fsync has already told whatever close could still tell

    def __del__(self) -> None:
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


@dataclass(frozen=True, slots=True)
class Abilities:
    """What the kernel and its sandbox allow; everything has a fallback, which tests choose by saying False."""

    openat2: bool = True
    unnamed_files: bool = True  # O_TMPFILE, given a name through /proc/self/fd
    rename_noreplace: bool = True
    access_in_effect: bool = True

    @classmethod
    def detect(cls) -> Abilities:
        """Try openat2 (Linux 5.6) and faccessat2 (5.8), and look for /proc."""
        return cls(
            openat2=_is_known(lambda: openat2(-1, b".", os.O_PATH, RESOLVE_BENEATH)),
            unnamed_files=os.path.isdir("/proc/self/fd"),
            access_in_effect=_is_known(lambda: access_in_effect(-1, os.F_OK)),
        )


def _is_known(call: Callable[[], object]) -> bool:
    """Tell whether a call exists that was given -1 for a descriptor: ENOSYS, or EPERM from a seccomp filter, if not."""
    try:
        call()
    except OSError as error:
        return error.errno == errno.EBADF
    return True
