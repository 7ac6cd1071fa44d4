"""User name -> the credentials of the account of that name on this machine.

Names come from wherever the machine has them (files, LDAP, Active Directory: nsswitch.conf(5)), which may take long:
never ask on the event loop.
"""

from __future__ import annotations

import ctypes
import pwd
import time
from collections.abc import Callable
from dataclasses import dataclass

from backends.credentials import NO_ID, Credentials
from backends.errors import NoAccount

MINIMUM_UID = 1000  # login.defs(5), UID_MIN: below are the system's own accounts
KNOWN_FOR = 60.0  # seconds; so long a change of an account or of its groups may go unnoticed
UNKNOWN_FOR = 5.0  # seconds; who has just been given an account does not wait long
LIMIT = 10_000  # names that are remembered

# nobody's, whatever the configuration says: root, the overflow uid that stands for unknown owners, and (uid_t) -1
_NEVER = frozenset({0, 65_534, NO_ID})

# Not os.getgrouplist: that one keeps the interpreter's lock, and the whole process would wait for a directory server.
_getgrouplist = ctypes.CDLL(None, use_errno=True)["getgrouplist"]
_getgrouplist.restype = ctypes.c_int
_getgrouplist.argtypes = (ctypes.c_char_p, ctypes.c_uint32, ctypes.c_void_p, ctypes.POINTER(ctypes.c_int))


@dataclass(frozen=True, slots=True)
class Account:
    """What the machine knows of one account."""

    uid: int
    gid: int
    groups: tuple[int, ...]  # as initgroups(3) would set them, the primary one included


def look_up(name: str) -> Account | None:
    """Ask the machine for the account `name`; None if there is none."""
    try:
        found = pwd.getpwnam(name)
    except KeyError:
        return None
    return Account(found.pw_uid, found.pw_gid, _groups(name, found.pw_gid))


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

        Raises NoAccount, which says what the operator has to do.
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
