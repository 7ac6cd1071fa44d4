"""PUT: everything that can be refused is refused before the body, the body is held by the storage's Writer alone.

What comes in parts (`parts.py`), and what is cut off, is left in the storage to be resumed (`gateway.uploads`).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from aiohttp import web

from backends.errors import DigestMismatch, NotADirectory, NotFound
from backends.interface import Entry, Writer
from gateway.access import Access
from gateway.arriving import Arriving
from gateway.dav import parts
from gateway.dav.call import Call, in_pool, invite_body, receiving
from gateway.dav.conditions import expectation
from gateway.dav.errors import REFUSALS, DavError
from gateway.dav.guard import Guard
from gateway.dav.parts import Part, Question
from gateway.dav.stream import reset
from gateway.ocm.digests import HASHLIB_NAMES, parse_digest
from gateway.ocm.errors import ProtocolError
from gateway.ocm.shares import Permission
from gateway.tree import Place, Tree
from gateway.uploads import Upload, Uploads
from gateway.watch import Watch

PIECE = 1 << 20  # bytes that go to the storage at a time, while the next ones arrive

log = structlog.get_logger()


class Put:
    """Answers PUT."""

    def __init__(
        self,
        access: Access,
        tree: Tree,
        watch: Watch,
        uploads: Uploads,
        guard: Guard,
        arriving: Arriving,
        body_time: float,
    ) -> None:
        """Wait `body_time` seconds for any one piece of a body."""
        self._access = access
        self._tree = tree
        self._watch = watch
        self._uploads = uploads
        self._guard = guard
        self._arriving = arriving
        self._body_time = body_time

    async def __call__(self, call: Call) -> web.StreamResponse:
        _refuse_coding(call.request)
        wanted = parts.asked(call.request.headers, call.request.content_length if call.request.body_exists else 0)
        if isinstance(wanted, Question):
            return await in_pool(call.place, self._tell, call, wanted)
        opening = await in_pool(call.place, self._begin, call, wanted, _Digests.of(call.request, wanted))
        try:
            await invite_body(call.request)
            with self._watch.over(call.grant, Permission.WRITE, lambda: reset(call.request.transport)):
                await _receive(call, opening.writer, self._body_time, wanted)
            await self._require_still_allowed(call)
            return await in_pool(call.place, self._end, call, opening)
        except BaseException as error:
            await asyncio.shield(asyncio.ensure_future(self._leave(call, opening, error)))
            if not isinstance(error, OSError):
                raise
            log.info("dav.upload.cut", principal=call.grant.principal, path=str(call.location.path), reason=str(error))
            return _gone(call.request)

    def _tell(self, call: Call, question: Question) -> web.Response:
        """Say how much of an upload is stored, after a look whether it really is."""
        if not call.place.backend.features.resumable:
            raise parts.not_offered()
        upload = self._uploads.find(call.grant.principal, call.place, question.total)
        size = upload.parked.size if upload else 0
        if upload is not None and not self._uploads.is_there(upload, call.place):
            size = 0
        return parts.stored(size)

    def _begin(self, call: Call, part: Part | None, digests: _Digests) -> _Opening:
        """Look at what is there, check the preconditions, and open the Writer; runs in the storage's threads."""
        place, request = call.place, call.request
        try:
            present: Entry | None = place.backend.stat(place.path)
        except NotFound:
            present = None
        if present is not None and present.is_directory:
            raise DavError(405, "IS_A_DIRECTORY", "a folder has no content of its own")
        expected = expectation(request.headers, present)
        total = part.total if part else request.content_length
        options: dict[str, Any] = {
            "size": total,
            "if_match": expected.if_match,
            "if_none_match": expected.if_none_match,
            "hashes": tuple(digests.of_part if part and not part.is_whole else digests.of_whole),
        }
        try:
            if part is None or part.is_whole:
                return _Opening(place.backend.open_write(place.path, **options), present, part, digests, total)
            writer, known = self._open_part(call, part, options)
        except (NotFound, NotADirectory):
            raise DavError(409, "PARENT_MISSING", "the folder that the file would be in does not exist") from None
        return _Opening(writer, present, part, digests, total, known)

    def _open_part(self, call: Call, part: Part, options: Mapping[str, Any]) -> tuple[Writer, Upload | None]:
        """Open a Writer that goes on where the part begins; raises DavError 416 and 501."""
        place, principal = call.place, call.grant.principal
        if not place.backend.features.resumable:
            raise parts.not_offered()
        known = self._uploads.find(principal, place, part.total)
        if part.first == 0:
            if known is None:
                self._uploads.require_room(principal)
            return place.backend.open_write(place.path, **options), known
        if known is None or part.first > known.parked.size:
            raise parts.gap(known.parked.size if known else 0)
        writer = self._uploads.resume(known, part.first, place, **options)
        if writer is None:
            raise parts.gap(0)
        return writer, known

    def _end(self, call: Call, opening: _Opening) -> web.Response:
        """Commit what is complete and park what is not; runs in the storage's threads."""
        writer, part, digests = opening.writer, opening.part, opening.digests
        principal = call.grant.principal
        if part is not None and not part.is_whole:
            writer.verify(digests.of_part)
        if part is not None and not part.is_last:
            self._guard.require(call)  # again: a part may have lasted hours
            upload = self._uploads.keep(writer, principal, call.place, part.total, opening.known)
            return parts.stored(upload.parked.size)
        try:
            writer.prepare(digests.of_whole)
        except DigestMismatch:
            if opening.known is not None:  # nothing that is added could make it right
                self._uploads.drop(call.place.backend, opening.known)
            raise
        self._guard.require(call)  # again: what came before this may have lasted hours, and the change of name does not
        entry = self._arriving.commit(writer, call.place, principal, is_new=opening.present is None)
        return web.Response(status=201 if opening.present is None else 204, headers={"ETag": f'"{entry.etag}"'})

    async def _leave(self, call: Call, opening: _Opening, error: BaseException) -> None:
        """Keep what has come of an upload that was cut off, and drop what has failed."""
        close = opening.writer.abort
        if _is_cut(error) and opening.total is not None and await self._is_still_allowed(call):
            close = functools.partial(self._keep, call, opening)
        await call.place.storage.release(close)

    def _keep(self, call: Call, opening: _Opening) -> None:
        assert opening.total is not None
        self._uploads.leave(
            *(opening.writer, call.grant.principal, call.place, opening.total),
            present=opening.present,
            known=opening.known,
        )

    async def _is_still_allowed(self, call: Call) -> bool:
        try:
            await self._require_still_allowed(call)
        except REFUSALS:
            return False
        return True

    async def _require_still_allowed(self, call: Call) -> None:
        """Read the Grant and the place anew: an upload may have lasted hours. Raises Unproven, DavError."""
        grant = await self._access.renew(call.grant)
        place = await self._tree.resolve(grant, call.location.path)
        if not isinstance(place, Place) or not place.may_write:
            raise DavError(403, "READ_ONLY", "you may no longer write here")
        if place.path != call.place.path or place.storage.name != call.place.storage.name:
            raise DavError(409, "MOVED", "what was shared has been moved meanwhile; send the file again")


@dataclass(frozen=True, slots=True)
class _Digests:
    """What the content must have, by names in hashlib: this part of it, and the whole."""

    of_part: Mapping[str, bytes]
    of_whole: Mapping[str, bytes]

    @classmethod
    def of(cls, request: web.Request, part: Part | None) -> _Digests:
        """Read Content-Digest and Repr-Digest, which are the same where there are no parts (RFC 9530 §2, §3).

        Raises DavError 400.
        """
        if part is None or part.is_whole:
            return cls({}, _digests(request, "Content-Digest", "Repr-Digest"))
        return cls(_digests(request, "Content-Digest"), _digests(request, "Repr-Digest"))


@dataclass(frozen=True, slots=True)
class _Opening:
    """A Writer, and what it is for; closes as a Writer does, for a call that is cancelled meanwhile."""

    writer: Writer
    present: Entry | None  # the file as it was before
    part: Part | None
    digests: _Digests
    total: int | None  # bytes that the whole has, where that was announced
    known: Upload | None = None  # what was stored of it before

    def __enter__(self) -> Writer:
        return self.writer

    def __exit__(self, *exception: object) -> None:
        self.writer.abort()


def _is_cut(error: BaseException) -> bool:
    """Tell whether the body has ended early: the connection is lost, it was idle, or the gateway stops."""
    return isinstance(error, OSError | asyncio.CancelledError) or (isinstance(error, DavError) and error.status == 408)


async def _receive(call: Call, writer: Writer, body_time: float, part: Part | None) -> None:
    """Hand the body, which is `part` alone, to the storage, one piece at a time, while the next one arrives.

    Raises OSError when the connection is lost, DavError 408 and 400, and what the storage says.
    """
    length = 0
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
            length += len(piece)
            if part is not None and (length > part.length if piece else length < part.length):
                raise parts.wrong_length(part)
            if not piece:
                return
            writing = asyncio.ensure_future(pool.run(writer.write, piece))
    finally:
        if writing is not None:  # abort() must not overlap it
            with contextlib.suppress(Exception):
                await writing


def _refuse_coding(request: web.Request) -> None:
    """Refuse what would store something else than the plain content (RFC 9110 §8.4)."""
    if request.headers.get("Content-Encoding", "identity").strip().lower() not in ("", "identity"):
        raise DavError(415, "CONTENT_ENCODING", "content is taken as it is, without a coding")


def _digests(request: web.Request, *fields: str) -> dict[str, bytes]:
    """Return the digests in these headers, by their names in hashlib (RFC 9530); raises DavError 400."""
    digests: dict[str, bytes] = {}
    for field in fields:
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
