"""The SSH door: how many may come in, from where, and for how long; as whom is in `login.py`."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from functools import partial

import asyncssh
import structlog
from asyncssh.connection import SSHServerConnectionOptions

from gateway.config import SSHConfig
from gateway.errors import TooMany
from gateway.limits import TELL_AGAIN, Allowance, Limits
from gateway.logins import Logins
from gateway.proxies import subscriber
from gateway.ssh import algorithms
from gateway.ssh.connection import Connection
from gateway.ssh.login import Login
from gateway.ssh.pacing import Entrance, Pacer
from gateway.ssh.refusing import VERSION
from gateway.ssh.workspace import Site
from gateway.watch import Watch

BACKLOG = 511  # connections that wait to be accepted
SENTENCES = 20  # in a second, for clients that are turned away; the others are only closed
KEEPALIVES = 3  # unanswered ones that end a connection
LOOK_IDLE = 4  # looks per idle time
STOP_TIME = 10.0  # seconds that running transfers have when the gateway stops
KEEP_TIME = 3.0  # seconds in which what was cut off then is kept, to be resumed
STOPPING = "The gateway stops; come back in a moment"

log = structlog.get_logger()


class SshDoor:
    """Listens, and knows who is there."""

    def __init__(
        self,
        site: Site,
        watch: Watch,
        limits: Limits,
        logins: Logins,
        host_keys: Iterable[bytes],
        config: SSHConfig,
        count: Callable[[str, int], None] = lambda _what, _much: None,
    ) -> None:
        """`count` hears what is counted (`SSH_METRICS`, gateway/admin/tally.py), and how much."""
        self.site = site
        self.watch = watch
        self.logins = logins
        self.config = config
        self._counted = count
        self._limits = limits
        self._host_keys = [asyncssh.import_private_key(key) for key in host_keys]
        self._connections: dict[Connection, str] = {}  # with the network that each comes from
        self._networks: Counter[str] = Counter()
        self._running: dict[asyncio.Task[None], Login] = {}  # sessions
        self._servers: list[asyncio.Server] = []
        self._entrance = Entrance()
        self.pacer = Pacer()
        self._telling = Allowance(1, 1 / TELL_AGAIN)  # of one limit, and one network
        self._sentences = Allowance(SENTENCES, SENTENCES)
        self._is_stopping = False

    async def listen(self, stack: AsyncExitStack, listeners: Iterable[socket.socket]) -> None:
        """Serve on bound sockets; when `stack` closes, wait for what runs until that has ended or was cut.

        Call `stop_listening` before that.
        """
        options = await self._options()
        loop = asyncio.get_running_loop()
        self._servers = [
            await loop.create_server(
                lambda: Connection(loop, options, self._admit, self._forget, self._entrance),
                sock=listener,
                backlog=BACKLOG,
            )
            for listener in listeners
        ]
        idle = asyncio.create_task(self._end_idle(), name="ssh idle")
        stack.push_async_callback(self._end)
        stack.callback(idle.cancel)

    async def _options(self) -> SSHServerConnectionOptions:
        options: SSHServerConnectionOptions = await SSHServerConnectionOptions.construct(
            None,
            server_factory=partial(Login, self),
            server_host_keys=self._host_keys,
            server_version=VERSION,
            kex_algs=list(algorithms.KEY_EXCHANGE),
            encryption_algs=list(algorithms.ENCRYPTION),
            mac_algs=list(algorithms.MACS),
            signature_algs=list(algorithms.SIGNATURES),
            compression_algs=["none"],  # what is compressed costs us what it saves the client
            login_timeout=self.config.login_time,
            keepalive_interval=self.config.keepalive,
            keepalive_count_max=KEEPALIVES,
            allow_pty=False,
            line_editor=False,
            agent_forwarding=False,
            x11_forwarding=False,
            gss_host=None,
            host_based_auth=False,
            kbdint_auth=False,
        )
        for name in options.server_host_keys.keys() - {name.encode() for name in algorithms.SIGNATURES}:
            del options.server_host_keys[name]  # asyncssh offers an RSA key also with signatures by SHA-1
        return options

    def count(self, what: str, much: int) -> None:
        self._counted(what, much)

    # --- who is there -------------------------------------------------------------------------------------------

    def _admit(self, connection: Connection, address: str) -> str | None:
        """Let a connection in, or return the sentence that its client is sent away with; none in a flood."""
        network = subscriber(address)
        refusal = self._why_not(network)
        if refusal is not None:
            return "" if self._sentences.take(None) else refusal
        self._connections[connection] = network
        self._networks[network] += 1
        return None

    def _why_not(self, network: str) -> str | None:
        if self._is_stopping:
            return STOPPING
        if len(self._connections) >= self.config.connections:
            self._tell_full("connections", network)
            return "Too many are connected now; try again later"
        if self._networks[network] >= self.config.connections_per_address:
            self._tell_full("connections_per_address", network)
            return "Too many connections from your address; close some, or try again later"
        try:
            self._limits.require("logins", network)
        except TooMany as error:
            return f"Too many log-ins from your address have failed; try again in {error.retry_after} s"
        return None

    def _tell_full(self, setting: str, network: str) -> None:
        if not self._telling.take((setting, network)):
            most = getattr(self.config, setting)
            log.warning(
                "ssh.full", limit=f"ssh.{setting}", most=most, client=network, hint=f"allow more: ssh.{setting}"
            )

    def _forget(self, connection: Connection) -> None:
        network = self._connections.pop(connection)
        self._networks[network] -= 1
        if not self._networks[network]:
            del self._networks[network]

    def note_failure(self, address: str) -> None:
        """Count a connection that has ended without a log-in; those of one network are refused after too many."""
        self._limits.note("logins", subscriber(address))

    async def _end_idle(self) -> None:
        """End connections on which nothing moves; one whose request the storage still works on is not idle."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self.config.idle_time / LOOK_IDLE)
            for login in {*self._running.values()}:
                if login.is_at_work:
                    login.connection.note_activity()
            for connection in [*self._connections]:
                if loop.time() - connection.active_at > self.config.idle_time:
                    sentence = f"Nothing was asked for within {self.config.idle_time:g} s; connect again when you like"
                    connection.disconnect(asyncssh.DISC_BY_APPLICATION, sentence)

    # --- the end ------------------------------------------------------------------------------------------------

    def running(self, login: Login, task: asyncio.Task[None]) -> None:
        """Wait for `task`, a session of `login`, when the gateway stops."""
        self._running[task] = login
        task.add_done_callback(self._running.pop)

    def stop_listening(self) -> None:
        """Take no more connections, and end those on which nothing is going on."""
        self._is_stopping = True
        for server in self._servers:
            server.close()
        busy = {login.connection for login in self._running.values() if not login.is_idle}
        for connection in self._connections.keys() - busy:
            connection.disconnect(asyncssh.DISC_BY_APPLICATION, STOPPING)

    async def _end(self) -> None:
        """Wait for what runs, and cut what does not end; what has come of uploads is kept."""
        if self._running:
            await asyncio.wait([*self._running], timeout=STOP_TIME)
        for connection in [*self._connections]:
            connection.abort()
        if self._running:
            await asyncio.wait([*self._running], timeout=KEEP_TIME)
