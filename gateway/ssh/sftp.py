"""SFTP, version 3, on one channel: each request of the client, in the order in which it came.

What belongs together is done together: READs and WRITEs of one file that follow each other are one call of the
storage. Only CLOSE and fsync commit; a channel that ends without them drops what is open.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import NamedTuple

import structlog

from backends.sftp_packets import VERSION_SPOKEN, Fields, Malformed, Status, Type, string, u32
from gateway.ssh import wire
from gateway.ssh.audit import Audit
from gateway.ssh.errors import REFUSALS, translate
from gateway.ssh.framing import Framing
from gateway.ssh.handles import Handles
from gateway.ssh.requests import DATA_MAX, EXTENSIONS, Requests
from gateway.ssh.stream import TOGETHER, Stream
from gateway.ssh.workspace import Workspace

IN_TURN = 64  # requests before everybody else has a turn
AHEAD = 64  # packets that are taken apart before their turn, and no more bytes of them than about TOGETHER

log = structlog.get_logger()


class _Packet(NamedTuple):
    kind: int
    request: bytes  # the request's id
    body: memoryview


class _Piece(NamedTuple):
    """A READ or WRITE, read as far as it has to be to see what goes with it."""

    request: bytes
    handle: bytes
    offset: int
    size: int
    data: memoryview


class Sftp:
    """One session."""

    def __init__(self, stream: Stream, workspace: Workspace, audit: Audit, handles: int) -> None:
        self._stream = stream
        self._workspace = workspace
        self._framing = Framing()
        self._arrived: deque[bytes] = deque()  # and not taken apart yet
        self._waiting: deque[_Packet] = deque()
        self._ahead = 0  # bytes of those
        self._handles = Handles(handles, audit)
        self._requests = Requests(workspace, self._handles, audit, handles, lambda: stream.is_lost)
        self._is_open = False  # INIT has come
        self._is_answering = False
        self._said: Exception | None = None  # in the log, last

    @property
    def is_idle(self) -> bool:
        return not self._waiting and not self._is_answering and not self._handles

    async def run(self) -> None:
        """Answer until the client ends the channel; raises Malformed for what is no SFTP, Lost."""
        try:
            while arrived := await self._stream.read():
                self._arrived.extend(arrived)
                self._is_answering = True
                answered = 0
                while self._has_next():
                    await self._answer_next()
                    answered += 1
                    if answered % IN_TURN == 0:
                        await asyncio.sleep(0)  # what is in memory makes nobody else's turn come
                self._is_answering = False
        finally:
            await asyncio.shield(asyncio.ensure_future(self._handles.drop_all()))

    def _has_next(self) -> bool:
        """Have packets waiting, as far as they have come and are wanted soon; tell whether there is one."""
        while len(self._waiting) < AHEAD and self._ahead < TOGETHER:
            if not self._arrived:
                self._arrived.extend(self._stream.read_now())
                if not self._arrived:
                    break
            for packet in map(self._split, self._framing.feed(self._arrived.popleft())):
                self._waiting.append(packet)
                self._ahead += len(packet.body)
        return bool(self._waiting)

    def _split(self, packet: memoryview) -> _Packet:
        if packet[0] == Type.INIT:
            return _Packet(Type.INIT, b"", packet[1:])
        if len(packet) < 5:
            raise Malformed("a packet without a request id")
        return _Packet(packet[0], bytes(packet[1:5]), packet[5:])

    async def _answer_next(self) -> None:
        packet = self._waiting.popleft()
        self._ahead -= len(packet.body)
        if (packet.kind == Type.INIT) is self._is_open:
            raise Malformed("a session begins with INIT, once")
        match packet.kind:
            case Type.INIT:
                Fields(packet.body).u32()  # the client's version; what may follow is for others
                self._is_open = True
                await self._stream.write(wire.packet(_version()))
            case Type.READ:
                await self._read(self._together(packet))
            case Type.WRITE:  # one that cannot be read ends the session, or its file would be stored without it
                await self._write(self._together(packet))
            case _:
                await self._stream.write(wire.packet(await self._answer(packet)))

    async def _answer(self, packet: _Packet) -> bytes:
        try:
            return await self._requests.answer(packet.kind, packet.request, Fields(packet.body))
        except REFUSALS as error:
            return self._refusal(packet.request, packet.kind, error)

    def _refusal(self, request: bytes, kind: int, error: Exception) -> bytes:
        refusal = translate(error)
        is_new, self._said = error is not self._said, error  # each WRITE after one that has failed is refused with that
        if is_new and refusal.status is not Status.NO_SUCH_FILE:  # clients ask for what is not there all day
            facts = {"code": refusal.code, "request": kind, "principal": self._workspace.principal}
            log.info("sftp.refused", reason=str(error), **facts)
        return wire.status(request, refusal.status, str(refusal))

    # --- many at once -------------------------------------------------------------------------------------------

    def _together(self, packet: _Packet) -> list[_Piece]:
        """Return the READ or WRITE in `packet` with those that follow it without a gap, as far as they have come."""
        pieces = [_piece(packet)]
        size = pieces[0].size
        while self._waiting and self._waiting[0].kind == packet.kind and size < TOGETHER:
            try:
                piece = _piece(self._waiting[0])
            except Malformed:
                break  # what came before it counts
            last = pieces[-1]
            if piece.handle != last.handle or piece.offset != last.offset + last.size:
                break
            self._ahead -= len(self._waiting.popleft().body)
            pieces.append(piece)
            size += piece.size
        return pieces

    async def _read(self, pieces: list[_Piece]) -> None:
        first = pieces[0]
        try:
            await self._workspace.grant()
            handle = self._handles.get(first.handle)
            data = memoryview(await handle.read(first.offset, sum(piece.size for piece in pieces)))
        except REFUSALS as error:
            for piece in pieces:
                await self._stream.write(wire.packet(self._refusal(piece.request, Type.READ, error)))
            return
        for piece in pieces:
            begin = piece.offset - first.offset
            part = data[begin : begin + piece.size]
            if part:
                await self._stream.write_long(wire.data_head(piece.request, len(part)), part)
            else:
                await self._stream.write(_end(piece.request))

    async def _write(self, pieces: list[_Piece]) -> None:
        first = pieces[0]
        try:
            await self._workspace.require_writing()
            handle = self._handles.get(first.handle)
            await handle.write(first.offset, [piece.data for piece in pieces])
        except REFUSALS as error:
            self._handles.fail(first.handle, error)
            answers = [self._refusal(piece.request, Type.WRITE, error) for piece in pieces]
        else:
            answers = [wire.status(piece.request, Status.OK) for piece in pieces]
        await self._stream.write(b"".join(map(wire.packet, answers)))


def _piece(packet: _Packet) -> _Piece:
    fields = Fields(packet.body)
    handle = fields.string()
    if packet.kind == Type.READ:
        offset = min(fields.u64(), wire.PLACE_MAX)
        size, data = min(fields.u32(), DATA_MAX), packet.body[:0]
    else:
        offset, data = fields.u64(), fields.view()
        size = len(data)
    fields.end()
    return _Piece(packet.request, handle, offset, size, data)


def _version() -> bytes:
    offered = b"".join(string(name) + string(version) for name, version in EXTENSIONS.items())
    return bytes((Type.VERSION,)) + u32(VERSION_SPOKEN) + offered


def _end(request: bytes) -> bytes:
    return wire.packet(wire.status(request, Status.EOF, "End of file"))
