"""PROPFIND of Depth 0 and 1, streamed: one hop to the storage's threads for each batch of entries."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace

import structlog
from aiohttp import web

from backends.errors import NotADirectory, StorageError, Unavailable
from backends.interface import Entry, Kind, Scan, Space
from gateway.access import Grant
from gateway.belongings import Belongings
from gateway.changes import Generation, shown
from gateway.dav.call import Call, in_pool, read_body
from gateway.dav.errors import DavError
from gateway.dav.kept import Kept
from gateway.dav.paths import Location, quote
from gateway.dav.properties import CLOSING, OPENING, Form, Question, Surroundings
from gateway.dav.stale import mark, stale_text
from gateway.dav.stream import ResponseOutlet, reset
from gateway.dav.xml import CONTENT_TYPE, BadXml, parse_body
from gateway.last_seen import ENTRIES, LastSeen
from gateway.locks import Locks
from gateway.ocm.shares import Permission
from gateway.tree import VirtualFolder
from gateway.watch import Watch

MULTI_STATUS = 207

log = structlog.get_logger()


class Propfind:
    """Answers PROPFIND."""

    def __init__(
        self, watch: Watch, idle: float, locks: Locks, belongings: Belongings, last_seen: LastSeen | None
    ) -> None:
        """Give a client up that takes nothing for `idle` seconds; without `last_seen` no listing is kept."""
        self._last_seen = last_seen
        self._watch = watch
        self._idle = idle
        self._locks = locks
        self._belongings = belongings

    async def __call__(self, call: Call) -> web.StreamResponse:
        question, deep = await _question(call.request)
        kept = Kept(call, question, self._locks, self._belongings)
        try:
            listing = await in_pool(call.place, _open, call, question, kept, deep)
        except Unavailable:
            if (stale := await self._stale(call, question, deep)) is None:
                raise
            return stale
        try:
            answer = await self._answer(call, listing)
        finally:
            await call.place.storage.release(listing.close)
        self._keep(call, listing)
        return answer

    def _keep(self, call: Call, listing: _Listing) -> None:
        """Remember a received folder that was listed to its end."""
        share, own, seen = call.place.received, listing.own, listing.seen
        if self._last_seen is not None and share and listing.is_complete and own is not None and seen is not None:
            self._last_seen.keep(share, call.place.path, own, seen)

    async def _stale(self, call: Call, question: Question, deep: bool) -> web.Response | None:
        """Answer for a received folder whose server does not; None when it was not seen before."""
        if self._last_seen is None or call.place.received is None:
            return None
        seen = await self._last_seen.find(call.place.received, call.place.path, deep=deep)
        return None if seen is None else mark(_whole(stale_text(call, question, seen)), seen, time.time())

    async def virtual(
        self, request: web.Request, location: Location, folder: VirtualFolder, grant: Grant
    ) -> web.StreamResponse:
        """Answer for a folder that is only names."""
        question, deep = await _question(request)
        shown = [(location, replace(folder.entry, name=location.path.name))]
        if deep:
            shown.extend((location.below((child.name,)), child) for child in folder.children)
        around = Surroundings(None, is_root=True)
        return _whole(
            "".join(
                Form(question, entry.kind, around).fill(where.href(is_directory=entry.is_directory), entry)
                for where, entry in shown
            )
        )

    async def _answer(self, call: Call, listing: _Listing) -> web.StreamResponse:
        if listing.is_complete:
            return _whole(listing.text)
        response = web.StreamResponse(status=MULTI_STATUS, headers={"Content-Type": CONTENT_TYPE})
        pool = call.place.storage.pool
        outlet = ResponseOutlet(call.request, response, self._idle)
        try:
            await response.prepare(call.request)
            with self._watch.over(call.grant, Permission.READ, outlet.abort):
                await outlet.send(OPENING + listing.text.encode())
                while text := await pool.run(listing.next):
                    await outlet.send(text.encode())
                await outlet.send(CLOSING)
        except (StorageError, OSError) as error:
            reset(call.request.transport)
            log.info("dav.listing.cut", principal=call.grant.principal, path=str(call.location.path), reason=str(error))
        return response


async def _question(request: web.Request) -> tuple[Question, bool]:
    """Return what is asked, and whether the members are meant too.

    Without a Depth it is 1: Seafile sends none and means that (peers.md §3b), the RFC's infinity is refused anyway.
    """
    depth = request.headers.get("Depth", "1").strip().lower()
    if depth == "infinity":
        raise DavError(403, "FINITE_DEPTH", "a listing has Depth 0 or 1 here", condition="propfind-finite-depth")
    if depth not in ("0", "1"):
        raise DavError(400, "INVALID_DEPTH", "Depth is 0, 1 or infinity")
    body = await read_body(request)
    try:
        return Question.parse(parse_body(body, "propfind") if body else None), depth == "1"
    except BadXml as error:
        raise DavError(400, "INVALID_XML", str(error)) from None


def _whole(text: str) -> web.Response:
    body = OPENING + text.encode() + CLOSING
    return web.Response(status=MULTI_STATUS, body=body, headers={"Content-Type": CONTENT_TYPE})


def _open(call: Call, question: Question, kept: Kept, deep: bool) -> _Listing:
    """Look at the resource and at its first members; runs in the storage's threads."""
    place = call.place
    backend = place.backend
    entry = backend.stat(place.path)
    generation = Generation(0, 0)
    call.changes.listed(place.storage.name, place.path, entry)
    if entry.is_directory:
        generation = call.changes.generation(place.storage.name, place.path)  # before its members are read
    kept.look(deep=deep and entry.is_directory)
    space = backend.space() if question.wants_space and entry.is_directory and backend.features.quota else None
    scan: Scan | None = None
    if deep and entry.is_directory:
        try:
            scan = place.scan(kept.batch)
        except NotADirectory:  # a file has just taken its name
            return _open(call, question, kept, deep=False)
    listing = _Listing(call, question, kept, space, scan, generation)
    try:
        listing.begin(shown(entry, generation.own))
    except BaseException:
        listing.close()
        raise
    return listing


class _Listing:
    """An open directory on its way into text; used in the storage's threads, one call at a time."""

    def __init__(
        self,
        call: Call,
        question: Question,
        kept: Kept,
        space: Space | None,
        scan: Scan | None,
        generation: Generation,
    ) -> None:
        self._location = call.location
        self._place = call.place
        self._changes = call.changes
        self._generation = generation
        self._question = question
        self._kept = kept
        self._space = space
        self._scan = scan
        self._href = call.location.href(is_directory=True)
        members = kept.of_members(Surroundings(call.place.rights, is_root=False, space=space))
        self._file = Form(question, Kind.FILE, members)
        self._folder = Form(question, Kind.DIRECTORY, members)
        self.is_complete = scan is None
        self.text = ""
        self.own: Entry | None = None
        # What was listed of a received folder, to be shown when its server is down; None: not all of it is known.
        self.seen: list[Entry] | None = [] if call.place.received and scan is not None else None

    def __enter__(self) -> _Listing:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def begin(self, entry: Entry) -> None:
        """Put the resource itself first, and after it as many members as one answer may hold without a second hop."""
        self.own = own = replace(entry, name=self._location.path.name or entry.name)
        around = self._kept.of_itself(Surroundings(self._place.rights, self._place.is_root, self._space), entry)
        href = self._location.href(is_directory=entry.is_directory)
        form = Form(self._question, entry.kind, around).with_dead(self._kept.dead_of_itself())
        parts = [form.fill(href, own)]
        count = 0
        while self._scan is not None and count < self._kept.batch:
            batch = self._scan.next()
            if not batch:
                self.is_complete = True
                break
            count += len(batch)
            parts.append(self._render(batch))
        self.text = "".join(parts)

    def next(self) -> str:
        """Return the next members; the empty text is the end."""
        text = self._render(self._scan.next()) if self._scan is not None else ""
        self.is_complete = not text
        return text

    def close(self) -> None:
        if self._scan is not None:
            self._scan.close()

    def _render(self, entries: list[Entry]) -> str:
        place = self._place
        entries = self._changes.members(place.storage.name, place.path, self._generation, entries)
        if self.seen is not None:
            self.seen = [*self.seen, *entries] if len(self.seen) + len(entries) <= ENTRIES else None
        if dead := self._kept.dead_of(entries):
            return "".join(map(self._fill, entries, (dead.get(entry.name) for entry in entries)))
        href, file, folder = self._href, self._file.fill, self._folder.fill
        return "".join(
            file(href + quote(entry.name), entry)
            if entry.kind is Kind.FILE
            else folder(f"{href}{quote(entry.name)}/", entry)
            for entry in entries
        )

    def _fill(self, entry: Entry, dead: Mapping[str, str] | None) -> str:
        form = self._folder if entry.is_directory else self._file
        slash = "/" if entry.is_directory else ""
        return form.with_dead(dead).fill(f"{self._href}{quote(entry.name)}{slash}", entry)
