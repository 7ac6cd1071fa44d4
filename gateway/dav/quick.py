"""GET of a small file just like one before: the same bytes of a request, but for the name at the end of its path.

Who reads many small files asks that thousands of times in a second, and nearly all that an answer costs is to find out
again who asks and where that is: parsing, a task, a request, a response. So what aiohttp has parsed and the door has
answered is remembered by its bytes, and a request of the same bytes in the same folder is answered from them. Nothing
is parsed here: what differs in anything but a plain name goes the whole way, and so does each when its Grant is due to
be read again.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple, cast

from aiohttp import HttpVersion11, web
from aiohttp.http import SERVER_SOFTWARE

from backends.errors import StorageError
from gateway.access import Access, Grant
from gateway.changes import Changes
from gateway.dav.call import Call
from gateway.dav.conditions import http_date
from gateway.dav.get import SMALL, headers_of
from gateway.tree import Place

MOST = 1_000  # requests that are remembered
LONGEST = 8 * 1024  # bytes of a request that is looked at
DEEPEST = 1024  # bytes of a folder's path that is remembered
AGAIN = 60.0  # seconds after which a connection goes the whole way again, so that aiohttp does not take it for idle

_NAME = re.compile(rb"[A-Za-z0-9_~-][A-Za-z0-9_.~-]{0,200}")  # which is its own encoding, and that of no hidden name
_NOT_ALIKE = re.compile(rb"If|If-.*|Range|Expect|Content-.*|Transfer-Encoding|Upgrade", re.IGNORECASE)
_END = b"\r\n\r\n"

# Counts and logs an answer to one kind of request: its path, status and seconds.
Note = Callable[[str, int, float], None]


@dataclass(frozen=True, slots=True)
class _Known:
    grant: Grant
    folder: Place
    note: Note


class _Parts(NamedTuple):
    folder: bytes  # with the slash at its end
    name: bytes
    rest: bytes
    peer: bytes  # the client's address, for the log


class Quick:
    """What is remembered, for all connections of this process."""

    def __init__(self, access: Access, changes: Changes, like: Callable[[web.Request], Note]) -> None:
        """`like` returns how requests like the one that it is given are counted and logged."""
        self._access = access
        self._changes = changes
        self._like = like
        self._known: dict[bytes, _Known] = {}

    def before(self, protocol: web.RequestHandler) -> asyncio.Protocol:
        """Return a protocol that answers what it can by itself, and leaves the rest to aiohttp's."""
        return _Connection(self, protocol)

    def learn(self, call: Call) -> None:
        """Remember a request that is being answered the whole way, if those like it may be answered here."""
        request, place = call.request, call.place
        connection = request.transport.get_protocol() if request.transport is not None else None
        if not isinstance(connection, _Connection) or any(
            _NOT_ALIKE.fullmatch(field) for field, _ in request.raw_headers
        ):
            return
        head = connection.is_between_after(request)
        parts = _split(head, connection.peer) if head else None
        # A Share has to be looked at each time, and what was received lies with another server: both may wait.
        if parts is None or place.is_root or place.shared is not None or place.received is not None:
            return
        if b"?" in parts.folder or len(parts.folder) > DEEPEST:
            return
        if len(self._known) >= MOST:
            self._known.clear()
        folder = replace(place, path=place.path.parent)
        self._known[self._key(parts)] = _Known(call.grant, folder, self._like(request))

    def answer(self, head: bytes, peer: bytes) -> bytes | None:
        """Return the whole answer to a request from the address `peer`; None where it has to go the whole way."""
        begun = time.monotonic()
        if (parts := _split(head, peer)) is None:
            return None
        known = self._known.get(self._key(parts))
        if known is None or not self._access.is_fresh(known.grant):
            return None
        place = known.folder
        try:
            path = place.path.child(parts.name)
            found = place.backend.try_read(path, SMALL)
        except StorageError:
            return None
        if found is None:
            return None
        entry, content = found
        self._changes.passed(place.storage.name, path)
        shown = (parts.folder + parts.name).decode("utf-8", "surrogateescape")
        known.note(shown, 200, time.monotonic() - begun)
        return _head(headers_of(entry, entry.name, entry.size)) + content

    def _key(self, parts: _Parts) -> bytes:
        """Return what the request is known by, which tells nothing of its credential."""
        return self._access.digest(b"\0".join((parts.peer, parts.folder, parts.rest)))


class _Connection(asyncio.Protocol):
    """Stands between a transport and aiohttp's protocol, and hands on everything that it does not answer."""

    def __init__(self, quick: Quick, inner: web.RequestHandler) -> None:
        self._quick = quick
        self._inner = inner
        self._transport: asyncio.Transport | None = None
        self.peer = b""  # its address
        self._last = b""  # the bytes that were handed on last, if they may be one request for a file
        self._is_between = False  # they were one, so that what comes next begins another
        self._handed_on = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self.peer = str((transport.get_extra_info("peername") or [""])[0]).encode()
        self._inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        if self._is_between and self._is_at_rest() and (answer := self._quick.answer(data, self.peer)) is not None:
            assert self._transport is not None
            self._transport.write(answer)
            return
        looks_whole = data.startswith(b"GET /") and data.endswith(_END) and len(data) <= LONGEST
        self._last, self._is_between, self._handed_on = data if looks_whole else b"", False, time.monotonic()
        self._inner.data_received(data)

    def eof_received(self) -> None:
        self._inner.eof_received()

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._inner.connection_lost(exc)

    def is_between_after(self, request: web.Request) -> bytes | None:
        """Return the bytes handed on last if they are this very request, nothing less or more; else None.

        The lines are as many as it has header fields, so that nothing of them belongs to another.
        """
        head, self._last = self._last, b""
        line = b"GET %s HTTP/1.1\r\n" % request.raw_path.encode("utf-8", "surrogateescape")
        lines = len(request.raw_headers) + 2
        is_alone = head.startswith(line) and head.count(_END) == 1
        has_lines = head.count(b"\n") == head.count(b"\r\n") == lines
        is_last = not self._inner._messages  # noqa: SLF001 -- the same once more may wait there
        persists = request.version == HttpVersion11 and request.keep_alive and not request.body_exists
        self._is_between = is_alone and has_lines and is_last and persists
        return head if self._is_between else None

    def _is_at_rest(self) -> bool:
        """Tell whether aiohttp has answered what was handed on, which it has no public way to ask, and that is sent.

        Once the gateway stops it drops what still comes, so that nothing tells what was answered.
        """
        transport = self._transport
        return (
            not self._inner._request_in_progress  # noqa: SLF001
            and not self._inner._close  # noqa: SLF001
            and transport is not None
            and not transport.is_closing()
            and not transport.get_write_buffer_size()
            and time.monotonic() - self._handed_on < AGAIN
        )


def _split(head: bytes, peer: bytes) -> _Parts | None:
    """Split a request for a plain name below a folder in origin-form; None for anything else."""
    if not head.startswith(b"GET /"):
        return None
    end = head.find(b" HTTP/1.1\r\n")
    begin = head.rfind(b"/", 0, end) + 1
    name = head[begin:end]
    if end < 0 or not _NAME.fullmatch(name):
        return None
    return _Parts(head[4:begin], name, head[end:], peer)


def _head(headers: dict[str, str]) -> bytes:
    """Return a status line and header fields as aiohttp would send them."""
    headers["Date"], headers["Server"] = http_date(time.time_ns()), SERVER_SOFTWARE
    fields = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 200 OK\r\n{fields}\r\n".encode()
