"""The key that the gateway logs in with for a user, where somebody shares by SSH: one for each, made at first need.

The private part is sealed in the state like every other secret, and unsealed in the thread that logs in. Which keys a
sender is told are this one and those that the user has added (`user key add`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from sqlalchemy import Connection

from backends.errors import Unavailable
from gateway.ocm.ssh_keys import parse_public_key
from gateway.store import key_pairs, user_keys
from gateway.store.engine import Store
from gateway.store.sealing import Sealer

OWN_KEYS = 20  # of one user's that are told; a sender keeps no more of one user


class KeyPairs:
    """Makes, seals and unseals them."""

    def __init__(self, store: Store, sealer: Sealer, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._sealer = sealer
        self._clock = clock

    def public(self, tx: Connection, user: str) -> str:
        """Return the public key of `user`, a line of authorized_keys, and make the pair if there is none yet."""
        known = key_pairs.public(tx, user)
        if known is not None:
            return known
        private = Ed25519PrivateKey.generate()
        text = private.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
        public = private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
        line = parse_public_key(public).line
        key_pairs.add(tx, user, line, self._sealer.seal(text, _context(user)), int(self._clock()))
        return line

    def private(self, user: str) -> str:
        """Return the private key of `user` in OpenSSH's form; for worker threads. Raises Unavailable."""
        sealed = self._store.read_sync(lambda tx: key_pairs.sealed_private(tx, user))
        if sealed is None:
            raise Unavailable(f"{user} has no key pair")
        try:
            return self._sealer.open(sealed, _context(user))
        except ValueError as error:
            raise Unavailable(f"the key pair of {user}: {error}") from error

    def told(self, tx: Connection, users: Collection[str]) -> tuple[str, ...]:
        """Return the public keys with which `users` come: first those that are ours, then those that they have added.

        Where a sender takes only so many, the gateway itself gets in for everybody.
        """
        ours = [self.public(tx, user) for user in users]
        own = [mine.key.line for user in users for mine in user_keys.of_user(tx, user)[: OWN_KEYS - 1]]
        return tuple(dict.fromkeys((*ours, *own)))


def _context(user: str) -> str:
    return f"key-pair:{user}"
