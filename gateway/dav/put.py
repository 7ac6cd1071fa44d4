"""PUT: everything that can be refused is refused before the body, the body is held by the storage's Writer alone."""

from __future__ import annotations

import asyncio
import contextlib

import structlog
from aiohttp import web

from backends.errors import NotADirectory, NotFound
from backends.interface import Entry, Writer
from gateway.access import Access
from gateway.dav.call import Call, in_pool, invite_body, receiving, release
from gateway.dav.conditions import expectation
from gateway.dav.errors import DavError
from gateway.dav.stream import reset
from gateway.ocm.digests import HASHLIB_NAMES, parse_digest
from gateway.ocm.errors import ProtocolError
from gateway.ocm.shares import Permission
from gateway.tree import Place, Tree
from gateway.watch import Watch

PIECE = 1 << 20  # bytes that go to the storage at a time, while the next ones arrive
_DIGEST_FIELDS = ("Content-Digest", "Repr-Digest")  # the same here: no content coding, no ranges

log = structlog.get_logger()


class Put:
    """Answers PUT."""

    def __init__(self, access: Access, tree: Tree, watch: Watch, body_time: float) -> None:
        """Wait `body_time` seconds for any one piece of a body."""
        self._access = access
        self._tree = tree
        self._watch = watch
        self._body_time = body_time

    async def __call__(self, call: Call) -> web.StreamResponse:
        _refuse_partial(call.request)
        digests = _digests(call.request)
        opening = await in_pool(call.place, _begin, call.place, call.request, tuple(digests))
        try:
            await invite_body(call.request)
            with self._watch.over(call.grant, Permission.WRITE, lambda: reset(call.request.transport)):
                await _receive(call, opening.writer, self._body_time)
            await self._require_still_allowed(call)
            entry = await in_pool(call.place, opening.writer.commit, digests)
        except BaseException as error:
            await release(call.place.storage, opening.writer.abort)
            if not isinstance(error, OSError):
                raise
            log.info("dav.upload.cut", principal=call.grant.principal, path=str(call.location.path), reason=str(error))
            return _gone(call.request)
        return web.Response(status=201 if opening.is_new else 204, headers={"ETag": f'"{entry.etag}"'})

    async def _require_still_allowed(self, call: Call) -> None:
        """Read the Grant and the place anew: an upload may have lasted hours. Raises Unproven, DavError."""
        grant = await self._access.renew(call.grant)
        place = await self._tree.resolve(grant, call.location.path)
        if not isinstance(place, Place) or not place.may_write:
            raise DavError(403, "READ_ONLY", "you may no longer write here")
        if place.path != call.place.path or place.storage.name != call.place.storage.name:
            raise DavError(409, "MOVED", "what was shared has been moved meanwhile; send the file again")


class _Opening:
    """A Writer, and whether the file is new; closes as a Writer does, for a call that is cancelled meanwhile."""

    def __init__(self, writer: Writer, present: Entry | None) -> None:
        self.writer = writer
        self.is_new = present is None

    def __enter__(self) -> Writer:
        return self.writer

    def __exit__(self, *exception: object) -> None:
        self.writer.abort()


def _begin(place: Place, request: web.Request, hashes: tuple[str, ...]) -> _Opening:
    """Look at what is there, check the preconditions, and open the Writer; runs in the storage's threads."""
    try:
        present: Entry | None = place.backend.stat(place.path)
    except NotFound:
        present = None
    if present is not None and present.is_directory:
        raise DavError(405, "IS_A_DIRECTORY", "a folder has no content of its own")
    expected = expectation(request.headers, present)
    try:
        writer = place.backend.open_write(
            place.path,
            size=request.content_length,
            if_match=expected.if_match,
            if_none_match=expected.if_none_match,
            hashes=hashes,
        )
    except (NotFound, NotADirectory):
        raise DavError(409, "PARENT_MISSING", "the folder that the file would be in does not exist") from None
    return _Opening(writer, present)


async def _receive(call: Call, writer: Writer, body_time: float) -> None:
    """Hand the body to the storage, one piece at a time, while the next one arrives.

    Raises OSError when the connection is lost, DavError 408 and 400, and what the storage says.
    """
    content = call.request.content
    pool = call.place.storage.pool
    writing: asyncio.Future[None] | None = None
    try:
        while True:
            async with receiving(call.request, body_time):
                piece = await content.read(PIECE)
            if writing is not None:
                await writing
                writing = None
            if not piece:
                return
            writing = asyncio.ensure_future(pool.run(writer.write, piece))
    finally:
        if writing is not None:  # abort() must not overlap it
            with contextlib.suppress(Exception):
                await writing


def _refuse_partial(request: web.Request) -> None:
    """Refuse what would store something else than the whole, plain content (RFC 9110 §14.4, §8.4)."""
    if "Content-Range" in request.headers:
        raise DavError(400, "PARTIAL_PUT", "a part of a file cannot be put")
    if request.headers.get("Content-Encoding", "identity").strip().lower() not in ("", "identity"):
        raise DavError(415, "CONTENT_ENCODING", "content is taken as it is, without a coding")


def _digests(request: web.Request) -> dict[str, bytes]:
    """Return the digests that the content must have, by their names in hashlib (RFC 9530); raises DavError 400."""
    digests: dict[str, bytes] = {}
    for field in _DIGEST_FIELDS:
        lines = request.headers.getall(field, [])
        try:
            given = parse_digest(", ".join(lines)) if lines else {}
        except (ProtocolError, UnicodeEncodeError):
            raise DavError(400, "MALFORMED_DIGEST", f"{field} cannot be understood") from None
        for algorithm, value in given.items():
            name = HASHLIB_NAMES.get(algorithm)
            if name is not None and digests.setdefault(name, value) != value:
                raise DavError(400, "DIGEST_MISMATCH", "the two digest headers differ")
    return digests


def _gone(request: web.Request) -> web.Response:
    """Return an answer for nobody: the connection is lost."""
    reset(request.transport)
    return web.Response(status=400)
