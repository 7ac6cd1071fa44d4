"""What one session has open, by the names that the client was given."""

from __future__ import annotations

from typing import Protocol

import structlog

from backends.interface import Entry
from backends.paths import StoragePath
from backends.sftp_packets import Status, u32
from gateway.ssh.audit import Audit
from gateway.ssh.errors import SftpError
from gateway.ssh.writing import Writing

log = structlog.get_logger()


class Handle(Protocol):
    """An open file or folder."""

    path: StoragePath
    count: int

    @property
    def entry(self) -> Entry: ...
    @property
    def may_write(self) -> bool: ...
    async def read(self, offset: int, size: int) -> bytes: ...
    async def write(self, offset: int, pieces: list[memoryview]) -> None: ...
    def fail(self, error: Exception) -> None: ...
    async def close(self) -> None: ...
    async def drop(self) -> None: ...


class Handles:
    """The handles of a session, each closed by its client or dropped at the end."""

    def __init__(self, most: int, audit: Audit) -> None:
        self._most = most
        self._audit = audit
        self._open: dict[bytes, Handle] = {}
        self._number = 0

    def __len__(self) -> int:
        return len(self._open)

    def require_room(self) -> None:
        """Refuse one more handle than a session may have; raises SftpError."""
        if len(self._open) >= self._most:
            sentence = f"You have {self._most} files and folders open; close some"
            raise SftpError(Status.FAILURE, "TOO_MANY_HANDLES", sentence)

    def add(self, handle: Handle) -> bytes:
        """Return the name by which the client knows `handle`; a name never comes again in a session."""
        self._number = (self._number + 1) & 0xFFFF_FFFF
        name = u32(self._number)
        self._open[name] = handle
        self._audit.opened(handle)
        return name

    def get(self, name: bytes) -> Handle:
        """Return what has this name; raises SftpError."""
        handle = self._open.get(name)
        if handle is None:
            raise SftpError(Status.FAILURE, "NO_SUCH_HANDLE", "There is no such handle")
        return handle

    def fail(self, name: bytes, error: Exception) -> None:
        """Have what is open by this name, if anything is, not be committed any more."""
        if name in self._open:
            self._open[name].fail(error)

    def being_written(self, path: StoragePath) -> Writing | None:
        """Return what this session is writing at `path`: it may see that before anybody else does."""
        for handle in self._open.values():
            if isinstance(handle, Writing) and handle.path == path:
                return handle
        return None

    async def close(self, name: bytes) -> None:
        """Close by the client's wish; raises what was wrong with any write, and then nothing of it is stored."""
        handle = self.get(name)
        del self._open[name]
        try:
            await handle.close()
        except BaseException as error:
            self._audit.ended(handle, error)
            await handle.drop()
            raise
        self._audit.ended(handle, None)

    async def drop_all(self) -> None:
        """Release everything at the end of a session; what is being written is not committed."""
        while self._open:
            _, handle = self._open.popitem()
            self._audit.ended(handle, ConnectionError("the session has ended"))
            try:
                await handle.drop()
            except Exception:
                log.exception("ssh.undropped", path=str(handle.path))
