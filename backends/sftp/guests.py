"""Whom somebody else's server lets in by a key, such as the receiver of a Share: nothing of it is configured here.

The caller opens the connection, since the address is another's, and watches over it; the host key that is believed is
the one that its user has accepted.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import paramiko

from backends import temporaries
from backends.errors import PermissionDenied, Unavailable
from backends.sftp.connecting import PATIENCE, Entrance, Link
from backends.sftp.known_hosts import HostKeys

WINDOW = 8 * 1024 * 1024  # bytes: twice what a reader asks for ahead, and no more than a stranger should make us hold

# The kinds of host keys that may be accepted, the first that a server has is shown.
KINDS = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa")


class KeyRefused(PermissionDenied):
    """The server does not let this key in, or not any more."""


class OtherHostKey(Unavailable):
    """The server has another host key than the one that was accepted."""


@dataclass(frozen=True, kw_only=True)
class Guest(Entrance):
    """`user` at a server that `dial` connects to, which raises StorageError; `address` is what errors say of it.

    `private_key` returns the key in OpenSSH's form, and may raise Unavailable; both are called in worker threads. The
    `host_key` is a blob, None before one is accepted. `watch` is a context around what makes a connection.
    """

    name: str
    address: str
    user: str
    dial: Callable[[], Link]
    private_key: Callable[[], str]
    host_key: bytes | None
    watch: Callable[[], AbstractContextManager[None]] = nullcontext
    silent: Callable[[str, float], None] = lambda _why, _seconds: None
    patience: float = PATIENCE
    pulse: float | None = None
    beginning: float = PATIENCE
    window: int = WINDOW
    where: str = "that was accepted"
    hidden: bytes = temporaries.GUEST_PREFIX

    def __str__(self) -> str:
        """Return a form for errors, without secrets."""
        return f"{self.name}: {self.address}"

    def known(self) -> HostKeys:
        if self.host_key is None:
            raise self.refused("no host key of the server was accepted yet")
        kind = paramiko.Message(self.host_key).get_string().decode("ascii", "replace")
        return HostKeys((kind,), frozenset({self.host_key}), frozenset())

    def refused(self, sentence: str) -> Unavailable:
        return OtherHostKey(f"{self}: {sentence}")

    def open_socket(self) -> Link:
        return self.dial()

    def prove(self, transport: paramiko.Transport) -> None:
        key = paramiko.Ed25519Key.from_private_key(io.StringIO(self.private_key()))
        try:
            transport.auth_publickey(self.user, key)
        except paramiko.AuthenticationException as error:
            raise KeyRefused(f"{self}: the server does not let our key in, or not any more") from error

    def calling(self) -> AbstractContextManager[None]:
        return self.watch()

    def fell_silent(self, why: str, seconds: float) -> None:
        self.silent(why, seconds)
