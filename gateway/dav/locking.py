"""LOCK and UNLOCK (RFC 4918 §9.10, §9.11); the rules of locks are in `gateway/locks.py`."""

from __future__ import annotations

import contextlib
import re

from aiohttp import web

from backends.errors import NotADirectory, NotFound, PreconditionFailed
from backends.interface import Entry, Kind
from backends.paths import StoragePath
from gateway.belongings import Belongings
from gateway.dav.call import Call, in_pool, read_body, require_conditions
from gateway.dav.errors import DavError, locked
from gateway.dav.guard import Guard, hrefs
from gateway.dav.lock_xml import Shown, parse_lockinfo, parse_timeout
from gateway.dav.properties import CLOSING, OPENING
from gateway.dav.xml import CONTENT_TYPE, DECLARATION, BadXml, condition_element
from gateway.errors import Conflict, Locked, Refusal
from gateway.locks import Lock, Locks, Wish
from gateway.tree import Place

_CODED_URL = re.compile(r"<([^<>]+)>")  # RFC 4918 §10.1
_DEPTHS = {"0": False, "infinity": True}


class Locking:
    """Answers LOCK and UNLOCK."""

    def __init__(self, locks: Locks, belongings: Belongings, guard: Guard) -> None:
        self._locks = locks
        self._belongings = belongings
        self._guard = guard

    async def lock(self, call: Call) -> web.StreamResponse:
        seconds = parse_timeout(call.request.headers.get("Timeout"))
        body = await read_body(call.request)
        if not body:
            return await in_pool(call.place, self._refresh, call, seconds)
        deep = _DEPTHS.get(call.request.headers.get("Depth", "infinity").strip().lower())
        if deep is None:
            raise DavError(400, "INVALID_DEPTH", "a LOCK has Depth 0 or infinity")
        try:
            wish = parse_lockinfo(body, deep=deep, seconds=seconds)
        except BadXml as error:
            raise DavError(400, "INVALID_XML", str(error)) from None
        try:
            return await in_pool(call.place, self._take, call, wish)
        except Locked as error:
            return _conflict(call, error)

    async def unlock(self, call: Call) -> web.StreamResponse:
        token = _CODED_URL.fullmatch(call.request.headers.get("Lock-Token", "").strip())
        if token is None:
            raise DavError(400, "NO_LOCK_TOKEN", "UNLOCK needs a Lock-Token, in angle brackets")
        try:
            await in_pool(call.place, self._locks.release, call.place, token[1], call.grant.principal)
        except Conflict as error:
            raise _mismatch(409, error) from None
        return web.Response(status=204)

    def _refresh(self, call: Call, seconds: int | None) -> web.Response:
        if not call.tokens:
            raise DavError(400, "NO_LOCK_TOKEN", "a LOCK without a body refreshes the lock in the If header")
        try:
            self._locks.refresh(call.place, seconds, call.holder)
        except Conflict as error:
            raise _mismatch(412, error) from None
        return self._answer(call, 200, _kind(_look(call.place)))

    def _take(self, call: Call, wish: Wish) -> web.Response:
        """Take the lock and then, where nothing is there, make an empty file: whoever has the lock has the name."""
        require_conditions(call)
        self._guard.require(call)
        present = _look(call.place)
        if present is not None:
            call.place.backend.require_writable(call.place.path)
        lock = self._locks.take(call.place, wish, call.holder)
        try:
            is_new = present is None and self._create(call.place)
        except BaseException:
            with contextlib.suppress(Refusal):
                self._locks.release(call.place, lock.token, lock.principal)
            raise
        return self._answer(call, 201 if is_new else 200, _kind(present), lock)

    def _create(self, place: Place) -> bool:
        self._belongings.make_way(place)
        try:
            with place.backend.open_write(place.path, size=0, if_none_match=True) as writer:
                writer.commit()
        except PreconditionFailed:  # somebody has just made one
            return False
        except (NotFound, NotADirectory):
            raise DavError(409, "PARENT_MISSING", "the folder that the file would be in does not exist") from None
        return True

    def _answer(self, call: Call, status: int, kind: Kind, taken: Lock | None = None) -> web.Response:
        shown = Shown(call, self._locks.seconds_left)
        text = shown.text(self._locks.on(call.place), root_is_directory=kind is Kind.DIRECTORY)
        body = f'{DECLARATION}<d:prop xmlns:d="DAV:"><d:lockdiscovery>{text}</d:lockdiscovery></d:prop>\n'
        headers = {"Content-Type": CONTENT_TYPE} | ({"Lock-Token": f"<{taken.token}>"} if taken else {})
        return web.Response(status=status, body=body.encode(), headers=headers)


def _conflict(call: Call, error: Locked) -> web.Response:
    """Answer a lock that does not go with others: on the resource itself, or only on members (RFC 4918 §9.10.3)."""
    here = [root for root in error.roots if call.place.path.is_within(StoragePath.parse(root))]
    if here:
        raise locked(error, "no-conflicting-lock", hrefs(call.place, call.location, here))
    own = call.location.href(is_directory=True)
    text = "".join(
        f"<d:response><d:href>{href}</d:href><d:status>HTTP/1.1 423 Locked</d:status>"
        f"<d:error>{condition_element('no-conflicting-lock', [href])}</d:error></d:response>"
        for href in hrefs(call.place, call.location, error.roots)
    )
    text += f"<d:response><d:href>{own}</d:href><d:status>HTTP/1.1 424 Failed Dependency</d:status></d:response>"
    return web.Response(status=207, body=OPENING + text.encode() + CLOSING, headers={"Content-Type": CONTENT_TYPE})


def _mismatch(status: int, error: Conflict) -> DavError:
    return DavError(status, error.code, str(error), condition="lock-token-matches-request-uri")


def _look(place: Place) -> Entry | None:
    try:
        return place.backend.stat(place.path)
    except NotFound:
        return None


def _kind(entry: Entry | None) -> Kind:
    return Kind.FILE if entry is None else entry.kind
