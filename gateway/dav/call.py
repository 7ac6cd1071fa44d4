"""One request, once it is known who asks for what; and its body."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from aiohttp import ClientPayloadError, HttpVersion11, web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import RequestPayloadError

from backends.errors import NotFound
from backends.paths import StoragePath
from gateway.access import Grant
from gateway.changes import Changes, Touched
from gateway.dav.conditions import CONDITIONAL, expectation
from gateway.dav.errors import DavError
from gateway.dav.paths import Location
from gateway.locks import Holder
from gateway.tree import Place
from gateway.tree import in_pool as in_pool  # for the files beside this one

BODY_MAX = 1 << 20  # bytes of an XML body
BODY_TIME = 60.0  # seconds that a whole XML body, or any one piece of a file, may take to arrive


@dataclass(frozen=True, slots=True)
class Call:
    """Who asks, the address as asked for, and the place in storage that it is."""

    request: web.Request
    grant: Grant
    location: Location
    place: Place
    changes: Changes
    tokens: frozenset[str] = frozenset()  # lock tokens in the If header
    touched: list[Touched] = field(default_factory=list)  # what the method may change, for `changes`
    begun: threading.Event = field(default_factory=threading.Event)  # set once it surely has changed some of that

    @property
    def holder(self) -> Holder:
        return Holder(self.grant.principal, self.tokens)


def address(place: Place, location: Location, path: StoragePath) -> Location:
    """Return where the caller, who sees `place` at `location`, sees `path` of the same storage.

    What lies above the root of the caller's mount or Share is shown as that root.
    """
    above = len(location.path.parts) - len(place.path.relative_to(place.root))
    root = replace(location, path=StoragePath(location.path.parts[:above]))
    return root.below(path.relative_to(place.root)) if path.is_within(place.root) else root


def require_conditions(call: Call) -> None:
    """Check If-Match and its family before a method that the storage cannot make conditional; in the storage's threads.

    Raises DavError 412.
    """
    if any(field in call.request.headers for field in CONDITIONAL):
        try:
            present = call.changes.look(call.place.storage.name, call.place.backend, call.place.path)
        except NotFound:
            expectation(call.request.headers, None)
        else:
            expectation(call.request.headers, present)


def has_body(request: web.Request) -> bool:
    """Tell whether the request announces a body of at least one byte, or of unknown length."""
    return request.body_exists and request.content_length != 0


def refuse_body(request: web.Request) -> None:
    """Refuse a body that would be ignored (RFC 4918 §8.4)."""
    if has_body(request):
        raise DavError(415, "UNEXPECTED_BODY", f"{request.method} takes no body")


async def invite_body(request: web.Request) -> None:
    """Send 100 Continue to a client that waits for it: everything that can be known before the body was checked."""
    waits = has_body(request) and request.headers.get("Expect", "").lower() == "100-continue"
    if waits and request.version >= HttpVersion11:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # the response itself has not begun


async def read_body(request: web.Request) -> bytes:
    """Return the whole body, at most BODY_MAX bytes; raises DavError 413, 408, 400."""
    if not has_body(request):
        return b""
    if (request.content_length or 0) > BODY_MAX:
        raise _too_large()
    await invite_body(request)
    body = bytearray()
    async with receiving(request, BODY_TIME):
        while piece := await request.content.read(BODY_MAX):
            body += piece
            if len(body) > BODY_MAX:
                raise _too_large()
    return bytes(body)


@asynccontextmanager
async def receiving(request: web.Request, seconds: float) -> AsyncIterator[None]:
    """Bound the time in which the block receives, and name what is wrong with a body.

    Raises DavError 408, 400, and OSError when the connection is lost.
    """
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise DavError(408, "TOO_SLOW", f"nothing has arrived for {seconds:.0f} s") from None
    except (RequestPayloadError, ClientPayloadError, HttpProcessingError) as error:
        raise DavError(400, "MALFORMED_BODY", "the body's transfer coding is broken") from error
    except RuntimeError as error:
        if request.transport is not None:
            raise
        # aiohttp's word for a connection that was lost before anybody read from it
        raise ConnectionResetError("the connection is lost") from error


def _too_large() -> DavError:
    return DavError(413, "BODY_TOO_LARGE", f"the body has more than {BODY_MAX} bytes")
