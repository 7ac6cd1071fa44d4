"""What the kernel judges a thread's file operations by: file-system uid and gid, groups, capabilities in effect.

All of them belong to one thread, but the functions of the C library (and so those of `os`) change every thread of the
process: hence the raw system calls. Sources: setfsuid(2), setgroups(2), capset(2), capabilities(7), nptl(7).
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

from backends.errors import Unavailable


class _Numbers(NamedTuple):
    """The numbers of the system calls on one architecture."""

    getgroups: int
    setgroups: int
    setfsuid: int
    setfsgid: int
    capget: int
    capset: int


# arch/x86/entry/syscalls/syscall_64.tbl, and asm-generic/unistd.h for the younger architectures. None for processes of
# 32 bits, whose calls of these names know ids of 16 bits only.
_YOUNGER = _Numbers(getgroups=158, setgroups=159, setfsuid=151, setfsgid=152, capget=90, capset=91)
_ARCHITECTURES: Mapping[str, _Numbers] = MappingProxyType(
    {
        "x86_64": _Numbers(getgroups=115, setgroups=116, setfsuid=122, setfsgid=123, capget=125, capset=126),
        "aarch64": _YOUNGER,
        "riscv64": _YOUNGER,
    }
)
_NUMBERS = _ARCHITECTURES.get(platform.machine()) if sys.maxsize > 1 << 32 else None

CAPABILITIES: Mapping[str, int] = MappingProxyType(  # the bits of linux/capability.h
    {
        "CAP_CHOWN": 1 << 0,
        "CAP_DAC_OVERRIDE": 1 << 1,
        "CAP_FOWNER": 1 << 3,
        "CAP_FSETID": 1 << 4,
        "CAP_SETGID": 1 << 6,
        "CAP_SETUID": 1 << 7,
    }
)
NO_ID = 0xFFFF_FFFF  # (uid_t) -1: nobody's; as an argument it asks and changes nothing
_VERSION_3 = 0x2008_0522  # _LINUX_CAPABILITY_VERSION_3
_LOW = 0xFFFF_FFFF
_FEW = 64  # groups that are read at the first attempt

# The item, not the attribute: that one is shared by the process, and has the arguments that `linux.py` has declared.
_syscall = ctypes.CDLL(None, use_errno=True)["syscall"]
_syscall.restype = ctypes.c_long
_syscall.argtypes = (ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)


class _Header(ctypes.Structure):
    """struct __user_cap_header_struct; pid 0 is the calling thread."""

    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Sets(ctypes.Structure):
    """struct __user_cap_data_struct[2]: capabilities 0 to 31, then the others."""

    _fields_ = tuple(
        (f"{name}_{half}", ctypes.c_uint32)
        for half in ("low", "high")
        for name in ("effective", "permitted", "inheritable")
    )


@dataclass(frozen=True, slots=True)
class Credentials:
    """Whose rights a thread has on files: `groups` in ascending order, `capabilities` a bit for each one in effect."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    capabilities: int = 0  # a user has none, whatever the service has

    @classmethod
    def of_thread(cls) -> Credentials:
        """Return those of the calling thread; raises OSError."""
        numbers = _numbers()
        uid, gid = _call(numbers.setfsuid, NO_ID), _call(numbers.setfsgid, NO_ID)
        return cls(uid, gid, _groups(numbers), _effective(_capabilities(numbers)))

    def take(self) -> None:
        """Make them the calling thread's and read them back; raises OSError, and Unavailable where they differ."""
        self.apply()
        if Credentials.of_thread() != self:
            raise Unavailable(f"the kernel does not let a thread of the service act as uid {self.uid}")

    def apply(self) -> None:
        """Make them the calling thread's, of which two calls do not say whether they worked; raises OSError.

        At first every permitted capability is put into effect, as the calls need two of them, and at last none but
        those wanted. Leaving uid 0 would do part of that, but leaving another uid does not, and with CAP_DAC_OVERRIDE
        in effect every file is open, with CAP_SYS_RESOURCE every quota.
        """
        numbers = _numbers()
        sets = _capabilities(numbers)
        permitted = _permitted(sets)
        if _effective(sets) != permitted:
            _put_into_effect(numbers, sets, permitted)
        _call(numbers.setgroups, len(self.groups), (ctypes.c_uint32 * len(self.groups))(*self.groups))
        _call(numbers.setfsgid, self.gid)
        _call(numbers.setfsuid, self.uid)
        _put_into_effect(numbers, sets, self.capabilities & permitted)


@contextmanager
def acting_with(credentials: Credentials) -> Iterator[None]:
    """Let the calling thread act with `credentials` in the block, and afterwards as before.

    Raises as `take`; whoever sees that must not use the thread any more.
    """
    before = Credentials.of_thread()
    if before == credentials:
        yield
        return
    try:
        credentials.take()
        yield
    finally:
        before.take()


def is_supported() -> bool:
    """Tell whether the system calls have known numbers on this architecture."""
    return _NUMBERS is not None


def missing(names: tuple[str, ...]) -> list[str]:
    """Return which of CAPABILITIES the calling thread is not permitted; raises OSError."""
    permitted = _permitted(_capabilities(_numbers()))
    return [name for name in names if not permitted & CAPABILITIES[name]]


def _numbers() -> _Numbers:
    if _NUMBERS is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    return _NUMBERS


def _call(number: int, first: Any, second: Any = None) -> int:
    result: int = _syscall(number, first, second)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def _groups(numbers: _Numbers, room: int = _FEW) -> tuple[int, ...]:
    groups = (ctypes.c_uint32 * room)()
    try:
        return tuple(sorted(groups[: _call(numbers.getgroups, room, groups)]))
    except OSError as error:
        if error.errno != errno.EINVAL:  # getgroups(2): there are more; without room it says how many
            raise
        return _groups(numbers, _call(numbers.getgroups, 0))


def _capabilities(numbers: _Numbers) -> _Sets:
    sets = _Sets()
    _call(numbers.capget, ctypes.byref(_Header(_VERSION_3, 0)), ctypes.byref(sets))
    return sets


def _effective(sets: _Sets) -> int:
    return int(sets.effective_low | sets.effective_high << 32)


def _permitted(sets: _Sets) -> int:
    return int(sets.permitted_low | sets.permitted_high << 32)


def _put_into_effect(numbers: _Numbers, sets: _Sets, capabilities: int) -> None:
    sets.effective_low, sets.effective_high = capabilities & _LOW, capabilities >> 32
    _call(numbers.capset, ctypes.byref(_Header(_VERSION_3, 0)), ctypes.byref(sets))
