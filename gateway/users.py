"""Local users and their passwords (argon2id, RFC 9106)."""

from __future__ import annotations

import hmac
import os
import re
import time
from base64 import b64encode
from collections.abc import Callable

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.low_level import ARGON2_VERSION
from sqlalchemy import Connection

from backends.pool import Pool
from gateway.errors import Conflict, Invalid, NoSuch
from gateway.ocm.text import is_identifier
from gateway.single_flight import SingleFlight
from gateway.store import events, locks, sent_shares, users
from gateway.store.engine import Store
from gateway.store.users import User

USER_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
SHARE_LOGIN = re.compile(r"s-[0-9A-Za-z_-]{22,}")  # the SSH door's name space for Shares; no user may stand in it
PASSWORD_MINIMUM = 8  # characters; NIST SP 800-63B-4 asks for no less, and for no other rule
EMAIL = re.compile(r"[^\s@<>()\",;:\\]{1,64}@[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")
EMAIL_MAX = 254  # characters; RFC 5321 section 4.5.3.1.3, less the brackets
DISPLAY_NAME_MAX = 100  # characters
REMEMBERED = 300  # seconds that a verified password is not hashed again
REMEMBERED_LIMIT = 10_000  # users


class Passwords:
    """Checks passwords: one argon2id run costs 0.1 s and 64 MiB, so few run at once and a right answer is kept.

    What is kept is an HMAC under a key of this process over password and stored hash: a changed password makes it
    worthless at once.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._hasher = PasswordHasher()
        self._pool = Pool("passwords", threads=2, waiting=64)
        self._key = os.urandom(32)
        self._known: dict[str, tuple[float, bytes]] = {}
        self._checks: SingleFlight[bool] = SingleFlight()
        # Verified for unknown users, so that they take as long as known ones.
        self._nobody = _hash_of_nothing(self._hasher)

    async def hash(self, password: str) -> str:
        """Return the argon2id hash; raises Invalid for a password that is too short, or that nobody can send."""
        if len(password) < PASSWORD_MINIMUM:
            raise Invalid("PASSWORD_TOO_SHORT", f"the password needs at least {PASSWORD_MINIMUM} characters")
        try:
            encoded = password.encode()
        except UnicodeEncodeError:  # a lone surrogate; HTTP Basic has UTF-8 (RFC 7617)
            raise Invalid("INVALID_PASSWORD", "the password is not text in UTF-8") from None
        return await self._pool.run(self._hasher.hash, encoded)

    async def verify(self, name: str, password: str) -> bool:
        """Tell whether `password` is that of the enabled user `name`; raises Unavailable when too many ask."""
        stored = await self._store.read(lambda tx: users.password_hash(tx, name))
        proof = hmac.digest(self._key, f"{stored}\0{password}".encode("utf-8", "surrogatepass"), "sha256")
        known = self._known.get(name)
        if stored and known and time.monotonic() < known[0] and hmac.compare_digest(known[1], proof):
            return True
        # With the name, or two unknown users with one password would cost one check, and two known ones two.
        hashed = stored or self._nobody
        right = await self._checks.run((name, proof), lambda: self._check(name, proof, hashed, password))
        return right and stored is not None

    def close(self) -> None:
        self._pool.close()

    async def _check(self, name: str, proof: bytes, hashed: str, password: str) -> bool:
        """Tell whether it matches, and keep a right answer before anybody could ask anew; nothing matches `_nobody`."""
        right = await self._pool.run(self._matches, hashed, password)
        if right:
            if len(self._known) >= REMEMBERED_LIMIT:
                self._known.clear()
            self._known[name] = (time.monotonic() + REMEMBERED, proof)
        return right

    def _matches(self, stored: str, password: str) -> bool:
        try:
            return self._hasher.verify(stored, password.encode("utf-8", "surrogatepass"))
        except (VerificationError, InvalidHashError):
            return False


def _hash_of_nothing(hasher: PasswordHasher) -> str:
    """Return what looks like a hash of `hasher`, and costs as much to verify, but was made of no password.

    So no start of the gateway has to wait for one. The form is that of the reference implementation (argon2(1)).
    """
    salt, made = (b64encode(os.urandom(size)).decode().rstrip("=") for size in (hasher.salt_len, hasher.hash_len))
    costs = f"m={hasher.memory_cost},t={hasher.time_cost},p={hasher.parallelism}"
    return f"$argon2id$v={ARGON2_VERSION}${costs}${salt}${made}"


class Users:
    """The operator's commands on users."""

    def __init__(self, store: Store, passwords: Passwords, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._passwords = passwords
        self._clock = clock

    async def add(
        self, name: str, password: str, actor: str, *, email: str | None = None, display_name: str | None = None
    ) -> User:
        """Create an enabled user; raises Invalid, and Conflict when the name is taken."""
        identity = _identity(email, display_name)
        if not USER_NAME.fullmatch(name) or SHARE_LOGIN.fullmatch(name):
            raise Invalid(
                "INVALID_USER_NAME",
                f"{name!r} cannot be a user name: up to 64 of a-z 0-9 . _ -, beginning with a letter or digit",
            )
        hashed = await self._passwords.hash(password)
        now = int(self._clock())

        def work(tx: Connection) -> None:
            if users.get(tx, name):
                raise Conflict("USER_EXISTS", f"there is a user {name} already; `user passwd` sets a new password")
            if users.is_taken(tx, name):
                sentence = f"there was a user {name}, whose address other servers may know; choose another name"
                raise Conflict("USER_REMOVED", sentence)
            users.add(tx, name, hashed, now, **identity)
            events.add(tx, at=now, actor=actor, action="user.add", subject=name)

        await self._store.run(work)
        return User(name, disabled=False, created=now, **identity)

    async def everybody(self) -> list[User]:
        return await self._store.read(users.everybody)

    async def set_password(self, name: str, password: str, actor: str) -> None:
        """Replace the password; raises Invalid, NoSuch."""
        hashed = await self._passwords.hash(password)
        await self._change(name, actor, "user.passwd", lambda tx: users.set_password_hash(tx, name, hashed))

    async def set_identity(self, name: str, actor: str, *, email: str | None, display_name: str | None) -> None:
        """Set what people at other servers see of a user, as far as it is given; raises Invalid, NoSuch."""
        identity = _identity(email, display_name)
        if not identity:
            raise Invalid("NOTHING_TO_CHANGE", "say what to change: the name, the e-mail address, or both")
        await self._change(name, actor, "user.update", lambda tx: users.set_identity(tx, name, **identity))

    async def set_disabled(self, name: str, disabled: bool, actor: str) -> None:
        """Disable or enable: a disabled user logs in nowhere, and nothing the user has shared opens.

        The locks of whoever is shut out by that end: nobody else could release them.
        """

        def change(tx: Connection) -> bool:
            if disabled:
                shut_out = [sent_shares.principal(share.id) for share in sent_shares.of_owner(tx, name)]
                for principal in (users.principal(name), *shut_out):
                    locks.remove_of(tx, principal)
            return users.set_disabled(tx, name, disabled)

        await self._change(name, actor, "user.disable" if disabled else "user.enable", change)

    async def _change(self, name: str, actor: str, action: str, change: Callable[[Connection], bool]) -> None:
        now = int(self._clock())

        def work(tx: Connection) -> None:
            if not change(tx):
                raise NoSuch("NO_SUCH_USER", f"there is no user {name}; `user list` shows who there is")
            events.add(tx, at=now, actor=actor, action=action, subject=name)

        await self._store.run(work)


def _identity(email: str | None, display_name: str | None) -> dict[str, str]:
    """Return what is given of a user's identity, checked; raises Invalid.

    Whoever gets it shows it, and some products look whether the address is one (peers.md section 7).
    """
    identity: dict[str, str] = {}
    if email is not None:
        if len(email) > EMAIL_MAX or not EMAIL.fullmatch(email):
            raise Invalid("INVALID_EMAIL", f"{email[:100]!r} is no e-mail address, as in alice@example.org")
        identity["email"] = email
    if display_name is not None:
        if not is_identifier(display_name, DISPLAY_NAME_MAX) or not display_name.strip():
            raise Invalid("INVALID_DISPLAY_NAME", f"a name has 1 to {DISPLAY_NAME_MAX} characters that can be shown")
        identity["display_name"] = display_name
    return identity
