"""One connection's log-in: who it is, what was wrong otherwise, and the sessions that follow.

Whoever is refused is answered alike, whether there is such a name or not; why is in the log alone.
"""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Protocol

import asyncssh
import structlog

from backends.errors import StorageError
from gateway.access import Grant
from gateway.config import SSHConfig
from gateway.errors import Refusal
from gateway.logins import Logins
from gateway.ocm.errors import ProtocolError
from gateway.ocm.shares import Permission
from gateway.ocm.ssh_keys import PublicKey
from gateway.proxies import subscriber
from gateway.ssh.audit import Audit, shown_login
from gateway.ssh.budget import Budget
from gateway.ssh.channel import Channel
from gateway.ssh.pacing import Pacer
from gateway.ssh.session import Session
from gateway.ssh.workspace import Site, Workspace
from gateway.watch import Watch

if TYPE_CHECKING:
    from gateway.ssh.connection import Connection

SESSIONS = 10  # channels of one connection at a time, as in OpenSSH
WINDOW = 2 << 20  # bytes that a client may send on a channel before they are taken
REASON_MAX = 200  # characters of what a client has done wrong, in the log

log = structlog.get_logger()


class Door(Protocol):
    """What a log-in needs of the door that it has come to."""

    site: Site
    watch: Watch
    logins: Logins
    config: SSHConfig
    pacer: Pacer

    def count(self, what: str, much: int, /) -> None:
        """Count something, by its name in `COUNTED` of audit.py."""

    def note_failure(self, address: str) -> None:
        """Count a connection that ends without a log-in."""

    def running(self, login: Login, task: asyncio.Task[None]) -> None:
        """Wait for a session when the gateway stops."""


class Login(asyncssh.SSHServer):
    """What asyncssh asks about one connection."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._grant: Grant | None = None  # of what was tried last
        self._proved: Grant | None = None  # of who is in
        self._audit: Audit | None = None  # once somebody is in
        self._sessions: set[Session] = set()
        self._budget = Budget(door.config.in_flight)  # of all of them
        self._until_lost = ExitStack()
        self._remote = ""  # the client's address
        self._tried = ""  # the name of the last try
        self.connection: Connection

    @property
    def is_idle(self) -> bool:
        """Tell whether no file is open on any of its channels."""
        return all(session.is_idle for session in self._sessions)

    @property
    def is_at_work(self) -> bool:
        """Tell whether a request of the client is with the storage, and so not with the client."""
        return any(session.is_at_work for session in self._sessions)

    def connection_made(self, conn: Any) -> None:
        self.connection = conn
        self._remote = str(conn.get_extra_info("peername")[0])

    def connection_lost(self, exc: Exception | None) -> None:
        self._until_lost.close()
        has_spoken = self.connection.get_extra_info("client_version") is not None  # who looks for a port has not
        if self._audit is None and has_spoken:
            self._door.note_failure(self._remote)
            reason = str(exc or "the client has left")[:REASON_MAX]
            log.info("ssh.login.none", login=shown_login(self._tried), remote=self._remote, reason=reason)

    # --- who it is ----------------------------------------------------------------------------------------------

    def begin_auth(self, username: str) -> bool:
        self._tried = username
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    async def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        """Tell whether `key` opens `username`; asked before and with the signature, which asyncssh verifies."""
        if self._proved is not None:
            return False  # nobody becomes another
        fingerprint = key.get_fingerprint()
        try:
            public = PublicKey.of_blob(key.public_data)
            self._grant = await self._door.site.access.by_key(username, public, subscriber(self._remote))
        except (Refusal, ProtocolError, StorageError) as error:
            return self._refused(username, fingerprint, error)
        return True

    def password_auth_supported(self) -> bool:
        return self._door.config.passwords

    async def validate_password(self, username: str, password: str) -> bool:
        if self._proved is not None:
            return False
        access = self._door.site.access
        digest = access.digest(f"{username}\0{password}".encode("utf-8", "surrogatepass"))
        try:
            self._grant = await self._door.logins.attempt(
                "logins", subscriber(self._remote), username, digest, lambda: access.by_password(username, password)
            )
        except (Refusal, StorageError) as error:
            return self._refused(username, "password", error)
        return True

    def _refused(self, username: str, key: str, error: Exception) -> bool:
        self._door.count("logins_refused", 1)
        facts = {"login": shown_login(username), "key": key, "remote": self._remote}
        log.info("ssh.login.refused", **facts, reason=str(error)[:REASON_MAX])
        if isinstance(error, StorageError):
            sentence = "It cannot be checked now who you are; try again later"
            self.connection.disconnect(asyncssh.DISC_SERVICE_NOT_AVAILABLE, sentence)
        return False

    async def auth_completed(self) -> None:
        # asyncssh has awaited nothing since the key or password was looked at whose proof it has accepted.
        assert self._grant is not None
        grant = self._proved = self._grant
        self._audit = Audit(grant.principal, grant.key, self._remote, self._door.count)
        self._audit.logged_in()
        self._until_lost.enter_context(self._door.watch.over(grant, Permission.READ, self._cut))
        await self._door.site.access.note_use(grant)

    def _cut(self) -> None:
        for session in self._sessions:
            session.lost_because = "the access has ended"
        self.connection.disconnect(asyncssh.DISC_BY_APPLICATION, "Your access has ended")

    # --- what follows -------------------------------------------------------------------------------------------

    def session_requested(self) -> Any:
        if self._proved is None or self._audit is None or len(self._sessions) >= SESSIONS:
            sentence = f"One connection has at most {SESSIONS} sessions; close one, or open another connection"
            raise asyncssh.ChannelOpenError(asyncssh.OPEN_RESOURCE_SHORTAGE, sentence)
        session = Session(
            Workspace(self._door.site, self._proved, self._budget),
            self._audit.of_session(),
            self.connection,
            handles=self._door.config.handles,
            begun=self._begun,
            ended=self._sessions.discard,
        )
        self._sessions.add(session)
        return Channel(self.connection, WINDOW, self._door.pacer), session

    def _begun(self, task: asyncio.Task[None]) -> None:
        self._door.running(self, task)
