"""User name -> the credentials of the account of that name on this machine.

Names come from wherever the machine has them (files, LDAP, Active Directory: nsswitch.conf(5)), which may take long:
never ask on the event loop.
"""

from __future__ import annotations

import ctypes
import errno
import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from backends.credentials import NO_ID, Credentials
from backends.errors import NoAccount, Unavailable

MINIMUM_UID = 1000  # login.defs(5), UID_MIN: below are the system's own accounts
KNOWN_FOR = 60.0  # seconds; so long a change of an account or of its groups may go unnoticed
UNKNOWN_FOR = 5.0  # seconds; who has just been given an account does not wait long
LIMIT = 10_000  # names that are remembered

# nobody's, whatever the configuration says: root, the overflow uid that stands for unknown owners, and (uid_t) -1
_NEVER = frozenset({0, 65_534, NO_ID})

# getpwnam(3): what it may answer when there is no such name; anything else says that it could not be looked up.
_NOT_FOUND = frozenset({0, errno.ENOENT, errno.ESRCH, errno.EBADF, errno.EPERM})

_libc = ctypes.CDLL(None)
# Not pwd.getpwnam: that one takes a directory server that does not answer for a name that does not exist.
_getpwnam_r = _libc["getpwnam_r"]
_getpwnam_r.restype = ctypes.c_int
_getpwnam_r.argtypes = (ctypes.c_char_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p)
# Not os.getgrouplist: that one keeps the interpreter's lock, and the whole process would wait for a directory server.
_getgrouplist = _libc["getgrouplist"]
_getgrouplist.restype = ctypes.c_int
_getgrouplist.argtypes = (ctypes.c_char_p, ctypes.c_uint32, ctypes.c_void_p, ctypes.c_void_p)


class _Passwd(ctypes.Structure):
    """struct passwd of glibc and musl (pwd.h)."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("password", ctypes.c_char_p),
        ("uid", ctypes.c_uint32),
        ("gid", ctypes.c_uint32),
        ("gecos", ctypes.c_char_p),
        ("directory", ctypes.c_char_p),
        ("shell", ctypes.c_char_p),
    )


@dataclass(frozen=True, slots=True)
class Account:
    """What the machine knows of one account."""

    uid: int
    gid: int
    groups: tuple[int, ...]  # as initgroups(3) would set them, the primary one included


def look_up(name: str) -> Account | None:
    """Ask the machine for the account `name`; None if there is none. Raises Unavailable."""
    found, result, room = _Passwd(), ctypes.c_void_p(), 1024
    while True:
        buffer = ctypes.create_string_buffer(room)
        code = _getpwnam_r(name.encode(), ctypes.byref(found), buffer, room, ctypes.byref(result))
        if result.value:
            return Account(found.uid, found.gid, _groups(name, found.gid))
        if code in _NOT_FOUND:
            return None
        if code != errno.ERANGE:  # the entry is longer
            raise Unavailable(f"the account {name} cannot be looked up: {os.strerror(code)}")
        room *= 4


def _groups(name: str, gid: int) -> tuple[int, ...]:
    count = ctypes.c_int(64)
    while True:
        room = count.value
        groups = (ctypes.c_uint32 * room)()
        if _getgrouplist(name.encode(), gid, groups, ctypes.byref(count)) >= 0:
            return tuple(groups[: count.value])
        count.value = max(count.value, 2 * room)  # getgrouplist(3) says how many there are; musl does not


class Accounts:
    """The accounts of users, remembered for a short while; may be asked from any thread."""

    def __init__(
        self,
        minimum_uid: int = MINIMUM_UID,
        look_up: Callable[[str], Account | None] = look_up,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._minimum = minimum_uid
        self._look_up = look_up
        self._clock = clock
        self._known: dict[str, tuple[float, Account | None]] = {}

    def credentials_of(self, user: str) -> Credentials:
        """Return the credentials with which `user` works on files; may wait for a directory server.

        Raises NoAccount, which says what the operator has to do, and Unavailable where nobody answers.
        """
        account = self._account(user)
        if account is None:
            raise NoAccount(
                f"{user} has no account on this machine (getent passwd {user} finds none), and files belong to the "
                "accounts of their users here: make one, or choose another ownership.mode"
            )
        if account.uid in _NEVER or account.uid < self._minimum:
            raise NoAccount(
                f"{user} has the uid {account.uid} on this machine, and nobody acts as root, as uid 65534 or as a uid "
                f"below {self._minimum}: ownership.minimum_uid says from which on"
            )
        return Credentials(account.uid, account.gid, tuple(sorted({*account.groups, account.gid})))

    def _account(self, user: str) -> Account | None:
        now = self._clock()
        until, account = self._known.get(user, (now, None))
        if now < until:
            return account
        account = self._look_up(user)
        if len(self._known) >= LIMIT:
            self._known.clear()
        self._known[user] = (now + (UNKNOWN_FOR if account is None else KNOWN_FOR), account)
        return account
