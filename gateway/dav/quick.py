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
DEEPEST = 1024  # bytes of a folder's path that is looked at
AGAIN = 60.0  # seconds after which a connection goes the whole way again, so that aiohttp does not take it for idle

# What aiohttp has no public way to ask (web_protocol.py): does it answer a request, do more wait, is it to end?
_ASKED = ("_request_in_progress", "_messages", "_close")

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


class _Head(NamedTuple):
    """A request for a plain name, without anything that tells its credential."""

    folder: bytes  # with the slash at its end
    name: bytes
    lines: int
    key: bytes  # what all like it have: the same bytes but for the name, and the same address, which the log shows


class Quick:
    """What is remembered, for all connections of this process."""

    def __init__(self, access: Access, changes: Changes, like: Callable[[web.Request], Note]) -> None:
        """`like` returns how requests like the one that it is given are counted and logged."""
        self._access = access
        self._changes = changes
        self._like = like
        self._known: dict[bytes, _Known] = {}  # by their keys; what was used last is last

    def before(self, protocol: web.RequestHandler) -> asyncio.Protocol:
        """Return a protocol that answers what it can by itself, and leaves the rest to aiohttp's."""
        return _Connection(self, protocol) if all(hasattr(protocol, name) for name in _ASKED) else protocol

    def head(self, data: bytes, peer: bytes) -> _Head | None:
        """Return what these bytes from the address `peer` are if they may be one whole request for a plain name."""
        if not data.startswith(b"GET /") or len(data) > LONGEST:
            return None
        end = data.find(b" HTTP/1.1\r\n")
        begin = data.rfind(b"/", 0, max(end, 0)) + 1
        folder, name, rest = data[4:begin], data[begin:end], data[end:]
        if not _NAME.fullmatch(name) or len(folder) > DEEPEST or b"?" in folder:
            return None
        lines = data.count(b"\r\n")
        if data.count(b"\n") != lines or data.find(_END) != len(data) - len(_END):
            return None
        return _Head(folder, name, lines, self._access.digest(b"\0".join((peer, folder, rest))))

    def learn(self, call: Call) -> None:
        """Remember a request that is being answered the whole way, if those like it may be answered here."""
        request, place = call.request, call.place
        connection = request.transport.get_protocol() if request.transport is not None else None
        if not isinstance(connection, _Connection):
            return
        if any(_NOT_ALIKE.fullmatch(field) for field, _ in request.raw_headers):
            return
        head = connection.head_of(request)
        # A Share has to be looked at each time, and what was received lies with another server: both may wait.
        if head is None or place.is_root or place.shared is not None or place.received is not None:
            return
        folder = replace(place, path=place.path.parent)
        self._remember(head.key, _Known(call.grant, folder, self._like(request)))

    def answer(self, head: _Head) -> bytes | None:
        """Return the whole answer to a request; None where it has to go the whole way."""
        begun = time.monotonic()
        known = self._known.get(head.key)
        if known is None or not self._access.is_fresh(known.grant):
            return None
        place = known.folder
        try:
            path = place.path.child(head.name)
            found = place.backend.try_read(path, SMALL)
        except StorageError:
            return None
        if found is None:
            return None
        entry, content = found
        self._remember(head.key, known)
        self._changes.passed(place.storage.name, path)
        shown = (head.folder + head.name).decode("utf-8", "surrogateescape")
        known.note(shown, 200, time.monotonic() - begun)
        return _sent(headers_of(entry, entry.name, entry.size)) + content

    def _remember(self, key: bytes, known: _Known) -> None:
        """Have it forgotten after all others: there are clients of which no request is like another."""
        self._known.pop(key, None)
        while len(self._known) >= MOST:
            del self._known[next(iter(self._known))]
        self._known[key] = known


class _Connection(asyncio.Protocol):
    """Stands between a transport and aiohttp's protocol, and hands on everything that it does not answer."""

    def __init__(self, quick: Quick, inner: web.RequestHandler) -> None:
        self._quick = quick
        self._inner = inner
        self._transport: asyncio.Transport | None = None
        self._peer = b""  # the client's address
        self._last: _Head | None = None  # what was handed on last
        self._is_between = False  # that was one request, so that what comes next begins another
        self._handed_on = 0.0  # when, by the monotonic clock in seconds

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._peer = str((transport.get_extra_info("peername") or [""])[0]).encode()
        self._inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        head = self._quick.head(data, self._peer)
        if head is not None and self._is_at_rest() and (answer := self._quick.answer(head)) is not None:
            assert self._transport is not None
            self._transport.write(answer)
            return
        self._last, self._is_between, self._handed_on = head, False, time.monotonic()
        self._inner.data_received(data)

    def eof_received(self) -> None:
        self._inner.eof_received()

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._inner.connection_lost(exc)

    def head_of(self, request: web.Request) -> _Head | None:
        """Return what was handed on last if that is this very request, nothing less or more; else None.

        It has as many lines as the request has header fields: so none of them came in an earlier packet, which began
        with other bytes and left to this one only the end of what looks like a request.
        """
        head, target = self._last, request.raw_path.encode("utf-8", "surrogateescape")
        self._is_between = (
            head is not None
            and target == head.folder + head.name
            and head.lines == len(request.raw_headers) + 2
            and request.version == HttpVersion11
            and request.keep_alive
            and not request.body_exists
            and not self._inner._messages  # noqa: SLF001 -- see _ASKED; the same once more may wait there
        )
        return head if self._is_between else None

    def _is_at_rest(self) -> bool:
        """Tell whether what was handed on was one request, and its answer is sent.

        Once the gateway stops aiohttp drops what still comes, so that nothing tells what was answered.
        """
        return (
            self._is_between
            and not self._inner._request_in_progress  # noqa: SLF001 -- see _ASKED
            and not self._inner._close  # noqa: SLF001 -- see _ASKED
            and self._transport is not None
            and not self._transport.is_closing()
            and not self._transport.get_write_buffer_size()
            and time.monotonic() - self._handed_on < AGAIN
        )


def _sent(headers: dict[str, str]) -> bytes:
    """Return a status line and header fields as aiohttp would send them."""
    headers["Date"], headers["Server"] = http_date(time.time_ns()), SERVER_SOFTWARE
    fields = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 200 OK\r\n{fields}\r\n".encode()
