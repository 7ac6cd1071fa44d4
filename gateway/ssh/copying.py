"""`copy-data` of OpenSSH: from one open file into another, without the bytes on the wire."""

from __future__ import annotations

from collections.abc import Callable

from backends.sftp_packets import Status
from gateway.ssh.errors import REFUSALS, SftpError
from gateway.ssh.handles import Handle
from gateway.ssh.stream import Lost
from gateway.ssh.workspace import Workspace

PIECE = 1 << 20  # bytes


class Copying:
    """Copies for one session, as long as its client is there."""

    def __init__(self, workspace: Workspace, is_lost: Callable[[], bool]) -> None:
        self._workspace = workspace
        self._is_lost = is_lost

    async def copy(self, source: Handle, begin: int, size: int, target: Handle, to: int) -> None:
        """Copy `size` bytes from `begin` on, all that is there for 0, to the offset `to`; raises one of REFUSALS, Lost.

        After a refusal the target is not committed: a part of what was asked for would look like all of it.
        """
        if source is target:
            raise SftpError(Status.FAILURE, "SAME_FILE", "A file is not copied into itself")
        try:
            await self._copy(source, begin, size, target, to)
        except REFUSALS as error:
            target.fail(error)
            raise

    async def _copy(self, source: Handle, begin: int, size: int, target: Handle, to: int) -> None:
        left = size or None
        while left is None or left > 0:
            if self._is_lost():
                raise Lost("the client is gone")
            await self._workspace.require_writing()
            data = await source.read(begin, PIECE if left is None else min(PIECE, left))
            if not data:
                return
            await target.write(to, [memoryview(data)])
            begin, to = begin + len(data), to + len(data)
            left = None if left is None else left - len(data)
