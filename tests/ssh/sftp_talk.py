"""Sessions of SFTP without SSH below: a test says packets, and reads what is answered."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from backends.sftp_packets import Malformed
from gateway.ssh.audit import Audit
from gateway.ssh.budget import Budget
from gateway.ssh.sftp import Sftp
from gateway.ssh.stream import Lost, Stream
from gateway.ssh.workspace import Workspace

from .raw_client import string, strings, u32
from .served import SshServed

INIT, VERSION, OPEN, CLOSE, READ, WRITE, LSTAT, FSTAT, SETSTAT, FSETSTAT, OPENDIR, READDIR = range(1, 13)
REMOVE, MKDIR, RMDIR, REALPATH, STAT, RENAME, READLINK, SYMLINK = range(13, 21)
STATUS, HANDLE, DATA, NAME, ATTRS, EXTENDED, EXTENDED_REPLY = 101, 102, 103, 104, 105, 200, 201
OK, EOF, NO_SUCH_FILE, PERMISSION_DENIED, FAILURE, BAD_MESSAGE, OP_UNSUPPORTED = 0, 1, 2, 3, 4, 5, 8
READING, WRITING, APPENDING, CREATING, TRUNCATING, EXCLUSIVE = 1, 2, 4, 8, 16, 32
NEW = WRITING | CREATING | TRUNCATING

GREETING = u32(5) + bytes((INIT,)) + u32(3)
NO_ATTRIBUTES = u32(0)


def u64(number: int) -> bytes:
    return struct.pack(">Q", number)


def packet(kind: int, request: int, *fields: bytes) -> bytes:
    body = bytes((kind,)) + u32(request) + b"".join(fields)
    return u32(len(body)) + body


def handle(number: int) -> bytes:
    """Return the name that the door gives to the handle that is opened as this one in a session."""
    return string(u32(number))


@dataclass
class Answer:
    """One answer; `body` is what stands behind the request's id."""

    kind: int
    request: int
    body: bytes

    @property
    def status(self) -> int | None:
        """The code of a STATUS, None for what is no status."""
        return int.from_bytes(self.body[:4], "big") if self.kind == STATUS else None

    @property
    def text(self) -> str:
        return next(strings(self.body[4:])).decode()

    @property
    def data(self) -> bytes:
        """The content of DATA, and the name of HANDLE."""
        assert self.kind in (DATA, HANDLE), self
        return next(strings(self.body))

    @property
    def names(self) -> list[bytes]:
        """The names of NAME."""
        assert self.kind == NAME, self
        found, rest = [], self.body[4:]
        for _ in range(int.from_bytes(self.body[:4], "big")):
            name = next(strings(rest))
            rest = rest[4 + len(name) :]
            rest = rest[4 + len(next(strings(rest))) :]
            flags = int.from_bytes(rest[:4], "big")
            found.append(name)
            rest = rest[4 + 8 * bool(flags & 1) + 8 * bool(flags & 2) + 4 * bool(flags & 4) + 8 * bool(flags & 8) :]
        assert not rest
        return found

    @property
    def size(self) -> int:
        """The size in ATTRS."""
        assert self.kind == ATTRS, self
        return int.from_bytes(self.body[4:12], "big")


@dataclass
class Channel:
    """What asyncssh's channel would be."""

    sent: bytearray = field(default_factory=bytearray)
    paused: int = 0

    def write(self, data: Any) -> None:
        self.sent += data

    def pause_reading(self) -> None:
        self.paused += 1

    def resume_reading(self) -> None:
        self.paused -= 1


@dataclass
class Ended:
    """How a session went."""

    answers: list[Answer]
    reason: str  # why the door has ended it; empty where its client has


class Talk:
    """Sessions at a door's storage, each begun anew."""

    def __init__(self, served: SshServed, who: str = "alice", *, handles: int = 1000, in_flight: int = 1 << 24) -> None:
        self.served = served
        self._grant = served.run(served.access.of_user(who))
        self._handles = handles
        self._in_flight = in_flight

    def say(self, *pieces: bytes) -> Ended:
        """Send all of it, in these pieces, and then the end."""
        return self.served.run(self._say(pieces))  # type: ignore[no-any-return]

    def ask(self, *packets: bytes) -> list[Answer]:
        """Greet, send well-formed packets, and return their answers."""
        ended = self.say(GREETING, *packets)
        assert not ended.reason, ended
        return ended.answers

    def session(self) -> tuple[Sftp, Stream, Channel]:
        """Return one that has not begun; call this on the loop."""
        channel, has_room = Channel(), asyncio.Event()
        has_room.set()
        budget = Budget(self._in_flight)
        stream = Stream(channel, budget, has_room)
        audit = Audit("user:alice", None, "127.0.0.1", lambda _what, _much: None)
        workspace = Workspace(self.served.ssh.site, self._grant, budget)
        return Sftp(stream, workspace, audit, self._handles), stream, channel

    async def _say(self, pieces: Sequence[bytes]) -> Ended:
        sftp, stream, channel = self.session()
        for piece in pieces:
            stream.feed(piece)
        stream.feed_eof()
        try:
            await asyncio.wait_for(sftp.run(), 30)
            reason = ""
        except (Malformed, Lost) as error:
            reason = str(error)
        assert not sftp._handles
        return Ended(split(bytes(channel.sent)), reason)


def split(sent: bytes) -> list[Answer]:
    """Take apart what a door has sent; the greeting is left out."""
    answers = []
    while sent:
        size = int.from_bytes(sent[:4], "big")
        body, sent = sent[4 : 4 + size], sent[4 + size :]
        assert len(body) == size
        if body[0] != VERSION:
            answers.append(Answer(body[0], int.from_bytes(body[1:5], "big"), body[5:]))
    return answers
