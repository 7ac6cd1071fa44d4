"""The SSH keys that local users log in with: added, shown, removed."""

from __future__ import annotations

import time
from collections.abc import Callable

from sqlalchemy import Connection

from gateway.access import Access
from gateway.errors import Full, Invalid, NoSuch
from gateway.ocm.errors import Malformed
from gateway.ocm.ssh_keys import comment_of, is_blank, is_restricted, parse_public_key
from gateway.store import events, user_keys, users
from gateway.store.engine import Store
from gateway.store.user_keys import UserKey

KEYS_MAX = 100  # of one user


class UserKeys:
    """The commands on a user's keys."""

    def __init__(self, store: Store, access: Access, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._access = access
        self._clock = clock

    async def add(self, user: str, content: str, actor: str) -> list[UserKey]:
        """Let a user log in with the keys in `content`, lines of authorized_keys, and return these keys.

        One that is there already stays as it is; unless all can be used, none is taken. Raises Invalid, NoSuch, Full.
        """
        now = int(self._clock())
        given = _read(content, now)

        def work(tx: Connection) -> list[UserKey]:
            _require_user(tx, user)
            known = {mine.key: mine for mine in user_keys.of_user(tx, user)}
            new = [each for each in given if each.key not in known]
            if len(known) + len(new) > KEYS_MAX:
                raise Full("TOO_MANY_KEYS", f"more than {KEYS_MAX} keys for {user}; `user key remove` some first")
            for each in new:
                user_keys.add(tx, user, each)
                _note(tx, now, actor, "user.key.add", user, each.key.fingerprint)
            return [known.get(each.key, each) for each in given]

        return await self._store.run(work)

    async def of_user(self, user: str) -> list[UserKey]:
        """Return the keys of a user, the newest last; raises NoSuch."""

        def work(tx: Connection) -> list[UserKey]:
            _require_user(tx, user)
            return user_keys.of_user(tx, user)

        return await self._store.read(work)

    async def remove(self, user: str, fingerprint: str, actor: str) -> None:
        """Let a key open nothing any more, also where it is in use; raises NoSuch."""
        now = int(self._clock())

        def work(tx: Connection) -> None:
            _require_user(tx, user)
            if not user_keys.remove(tx, user, fingerprint):
                raise NoSuch("NO_SUCH_KEY", f"{user} has no key {fingerprint}; `user key list {user}` shows them")
            _note(tx, now, actor, "user.key.remove", user, fingerprint)

        await self._store.run(work)
        self._access.forget()


def _read(content: str, now: int) -> list[UserKey]:
    """Return the keys in `content`, each once; raises Invalid, which names the line and quotes nothing of it."""
    found: dict[str, UserKey] = {}
    for number, line in enumerate(content.split("\n"), 1):
        if is_blank(line):
            continue
        try:
            key = parse_public_key(line)
            if is_restricted(line):
                reason = "its options allow less than this gateway would; leave them out if that does not matter"
                raise Malformed("SSH_KEY_RESTRICTED", reason)
            found.setdefault(key.fingerprint, UserKey(key, comment_of(line), now))
        except Malformed as error:
            raise Invalid(error.code, f"line {number}: {error.reason}") from error
    if not found:
        raise Invalid("INVALID_SSH_KEY", "there is no key; a public key is one line, in a file that ends in .pub")
    return list(found.values())


def _require_user(tx: Connection, user: str) -> None:
    if users.get(tx, user) is None:
        raise NoSuch("NO_SUCH_USER", f"there is no user {user}; `user list` shows who there is")


def _note(tx: Connection, now: int, actor: str, action: str, user: str, fingerprint: str) -> None:
    events.add(tx, at=now, actor=actor, action=action, subject=user, fingerprint=fingerprint)
