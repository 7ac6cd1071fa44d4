"""One channel of a log-in: SFTP or SCP on it, and nothing else; no shell, no terminal, no other command."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import asyncssh
import structlog

from backends.sftp_packets import Malformed
from gateway.ssh.audit import Audit
from gateway.ssh.connection import Connection
from gateway.ssh.scp import Scp, ScpError, parse_command
from gateway.ssh.sftp import Sftp
from gateway.ssh.stream import Lost, Stream
from gateway.ssh.workspace import Workspace

SENT_MOST = 1 << 20  # bytes that wait in the channel for the client's window; nothing is read for it beyond that

WHAT_IS_SERVED = "Only files are served here: use sftp, scp, sshfs or rclone."
_SHOWN = 100  # characters of what a client has asked for, in the log

log = structlog.get_logger()


class Session(asyncssh.SSHServerSession[bytes]):
    """What asyncssh calls for one channel."""

    def __init__(
        self,
        workspace: Workspace,
        audit: Audit,
        connection: Connection,
        *,
        handles: int,
        begun: Callable[[asyncio.Task[None]], None],
        ended: Callable[[Session], None],
    ) -> None:
        """Let at most `handles` be open.

        `begun` hears what serves it, and `ended` when that is over and the channel is closed.
        """
        self._workspace = workspace
        self._audit = audit
        self._most = handles
        self._connection = connection
        self._begun = begun
        self._ended = ended
        self._has_ended = False  # by the client's own wish
        self._is_closed = False
        self.lost_because: str | None = None  # where it is known better than by the client's silence
        self._channel: Any = None
        self._stream: Stream
        self._protocol: Sftp | Scp | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def is_idle(self) -> bool:
        """Tell whether the client has nothing open and waits for nothing."""
        return self._protocol is None or self._protocol.is_idle

    @property
    def is_at_work(self) -> bool:
        """Tell whether something is done that waits neither for the client nor for room on the way to it."""
        return self._task is not None and not self._task.done() and not self._stream.is_waiting

    def connection_made(self, chan: Any) -> None:
        self._channel = chan
        chan.set_write_buffer_limits(high=SENT_MOST, low=SENT_MOST // 2)
        self._stream = Stream(chan, self._workspace.budget, self._connection.has_room)

    def subsystem_requested(self, subsystem: str) -> bool:
        if subsystem != "sftp":
            self._audit.did("refused", asked=f"the subsystem {subsystem[:_SHOWN]!r}")
            return False
        self._protocol = Sftp(self._stream, self._workspace, self._audit, self._most)
        self._audit.began("sftp")
        return True

    def exec_requested(self, command: str) -> bool:
        try:
            asked = parse_command(command)
        except ScpError as error:
            return self._tell_what_is_served(f"the command {command[:_SHOWN]!r}: {error}")
        self._protocol = Scp(self._stream, self._workspace, self._audit, asked)
        self._audit.began("scp")
        return True

    def shell_requested(self) -> bool:
        return self._tell_what_is_served("a shell")

    def _tell_what_is_served(self, asked: str) -> bool:
        """Grant what people ask for by mistake, and answer with a sentence: clients show none for a refusal."""
        self._audit.did("refused", asked=asked)
        return True

    def session_started(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run(), name="ssh session")
        self._task.add_done_callback(self._end_if_over)
        self._begun(self._task)

    def data_received(self, data: bytes, _datatype: Any) -> None:
        self._connection.note_activity()
        self._stream.feed(data)

    def eof_received(self) -> bool:
        self._has_ended = True
        self._stream.feed_eof()
        return True

    def pause_writing(self) -> None:
        self._stream.pause()

    def resume_writing(self) -> None:
        self._stream.resume()

    def connection_lost(self, _error: Exception | None) -> None:
        """Let the protocol end by itself: what is being written must be dropped first."""
        self._stream.lose()
        self._is_closed = True
        self._end_if_over()

    def _end_if_over(self, _task: object = None) -> None:
        if self._is_closed and (self._task is None or self._task.done()):
            self._ended(self)

    async def _run(self) -> None:
        status = 1
        try:
            if self._protocol is None:
                self._channel.tell(WHAT_IS_SERVED)
            else:
                status = await self._serve(self._protocol)
        finally:
            self._stream.end()
            if not self._channel.is_closing():
                self._channel.exit(status)

    async def _serve(self, protocol: Sftp | Scp) -> int:
        """Return the exit status."""
        status, reason = 1, ""
        try:
            await protocol.run()
            status, reason = (
                0,
                self.lost_because or ("ended by the client" if self._has_ended else "the client is gone"),
            )
        except Lost as error:
            reason = self.lost_because or str(error)
        except Malformed as error:
            reason = f"no SFTP: {error}"
        except ScpError as error:
            reason = str(error)
        except Exception:
            reason = "a mistake of ours"
            log.exception("ssh.failed", principal=self._workspace.principal)
        finally:
            self._audit.session_ended(reason)
        return status
