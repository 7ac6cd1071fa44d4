"""GET and HEAD. The entry of the opened file rules, not an earlier look at its name."""

from __future__ import annotations

import functools
import mimetypes

import structlog
from aiohttp import web

from backends.errors import StorageError
from backends.interface import Entry, Reader
from backends.pool import Pool
from gateway.dav import conditions
from gateway.dav.call import Call, in_pool
from gateway.dav.conditions import ByteRange, http_date
from gateway.dav.stream import CACHED_PIECE, Cut, open_outlet, pump, reset
from gateway.ocm.shares import Permission
from gateway.watch import Watch

SMALL = 64 * 1024  # bytes; up to here a body goes out in one piece with its head

# Content of others is shown under our origin: it may neither run there nor be taken for what it is not called.
_SAFE = {"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "sandbox"}

# What mimetypes tells of a compression; it is part of the file, not a content coding of ours.
_COMPRESSED = {"gzip": "application/gzip", "bzip2": "application/x-bzip2", "xz": "application/x-xz"}
_UNKNOWN = "application/octet-stream"

log = structlog.get_logger()


class Get:
    """Answers GET and HEAD of files."""

    def __init__(self, watch: Watch, idle: float) -> None:
        """Give a client up that takes nothing for `idle` seconds."""
        self._scratch = memoryview(bytearray(CACHED_PIECE))  # of all downloads together
        self._watch = watch
        self._idle = idle

    async def __call__(self, call: Call) -> web.StreamResponse:
        # Without a thread where caches can answer; a Share's place has to be checked, which may block.
        place = call.place
        reader = place.backend.try_open_read(place.path) if place.shared is None else None
        if reader is not None:
            with reader:
                return await self._answer(call, reader)
        reader = await in_pool(place, place.backend.open_read, place.path)
        try:
            return await self._answer(call, reader)
        finally:
            await place.storage.release(reader.close)

    async def _answer(self, call: Call, reader: Reader) -> web.StreamResponse:
        entry = reader.entry
        headers = call.request.headers
        name = call.location.path.name or entry.name  # a storage that is a single file has no name for it
        if conditions.is_not_modified(headers, entry):
            return web.Response(status=304, headers=_validators(entry))
        if call.request.method == "HEAD":
            return web.Response(headers=headers_of(entry, name, entry.size))
        part = conditions.selected_range(headers, entry)
        status, part = (200, ByteRange(0, entry.size)) if part is None else (206, part)
        sent = headers_of(entry, name, part.length)
        if status == 206:
            sent["Content-Range"] = part.content_range(entry.size)
        if part.length <= SMALL:
            piece = await _read(reader, call.place.storage.pool, part)
            if len(piece) == part.length:
                return web.Response(status=status, headers=sent, body=piece)
        return await self._send(call, reader, part, web.StreamResponse(status=status, headers=sent))

    async def _send(
        self, call: Call, reader: Reader, part: ByteRange, response: web.StreamResponse
    ) -> web.StreamResponse:
        pool = call.place.storage.pool
        try:
            outlet = await open_outlet(call.request, response, self._idle)
            try:
                with self._watch.over(call.grant, Permission.READ, outlet.abort):
                    await pump(reader, pool, part, outlet, self._scratch)
            finally:
                outlet.close()
        except (StorageError, Cut, OSError) as error:  # TimeoutError is one
            reset(call.request.transport)
            log.info(
                "dav.download.cut", principal=call.grant.principal, path=str(call.location.path), reason=str(error)
            )
        except BaseException:
            reset(call.request.transport)
            raise
        return response


async def _read(reader: Reader, pool: Pool, part: ByteRange) -> bytes:
    if not part.length:
        return b""
    cached = reader.read_cached(part.start, part.length)
    return await pool.run(reader.read_at, part.start, part.length) if cached is None else cached


def _validators(entry: Entry) -> dict[str, str]:
    return {"ETag": f'"{entry.etag}"', "Last-Modified": http_date(entry.modified)}


def headers_of(entry: Entry, name: bytes, length: int) -> dict[str, str]:
    """Return the header fields of an answer of `length` bytes of a file that is shown as `name`."""
    return {
        **_validators(entry),
        **_SAFE,
        "Accept-Ranges": "bytes",
        "Content-Type": media_type(name),
        "Content-Length": str(length),
    }


def media_type(name: bytes) -> str:
    """Return the media type that the ending of `name` stands for; a leading dot begins no ending."""
    return _media_type(name[dot:]) if (dot := name.rfind(b".")) > 0 else _UNKNOWN


@functools.lru_cache(maxsize=4096)
def _media_type(ending: bytes) -> str:
    if not ending.isascii():
        return _UNKNOWN
    guess, compression = mimetypes.guess_type(f"name{ending.decode().lower()}")
    return guess or _UNKNOWN if compression is None else _COMPRESSED.get(compression, _UNKNOWN)
