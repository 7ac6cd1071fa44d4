"""The WebDAV door: which request is for whom and where, and which file of this package answers it.

The credential is resolved before the place, and rights before anything else of the request counts. Two roots below
public_url: `dav/ocm/` for Shares, where the credential names the Share, and `dav/files/<user>/` for local users.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence

import structlog
from aiohttp import web

from backends.errors import NotFound
from backends.paths import printable
from backends.pool_parts import Parts
from gateway.access import Access, Grant
from gateway.arriving import Arriving
from gateway.belongings import Belongings
from gateway.changes import Changes, Touched
from gateway.dav import credentials, if_header
from gateway.dav.call import BODY_TIME, Call, in_pool, refuse_body
from gateway.dav.errors import (
    CHANGED,
    REFUSALS,
    DavError,
    may_have_changed,
    nothing_is_created_here,
    response,
    root_stays,
    translate,
)
from gateway.dav.get import Get
from gateway.dav.guard import TOUCHES, Guard
from gateway.dav.locking import Locking
from gateway.dav.longtail import LongTail
from gateway.dav.moving import Moving
from gateway.dav.paths import Addresses, Location, Root
from gateway.dav.propfind import Propfind
from gateway.dav.put import Put
from gateway.dav.quick import Note, Quick
from gateway.dav.stream import IDLE, reset
from gateway.errors import Unproven
from gateway.files import Moves
from gateway.last_seen import LastSeen
from gateway.limits import Limits
from gateway.locks import Locks
from gateway.logins import Logins
from gateway.tree import Place, Tree, VirtualFolder
from gateway.uploads import Uploads
from gateway.watch import Watch

ACROSS = 64  # threads for work between two storages
ACROSS_EACH, ACROSS_WAITING = 2, 64  # of those, what any two storages may hold, and work that waits for that

Handler = Callable[[Call], Awaitable[web.StreamResponse]]

_COMPLIANCE = {"DAV": "1, 2, 3", "MS-Author-Via": "DAV"}  # RFC 4918 §18
_WRITING = frozenset({"PUT", "MKCOL", "DELETE", "MOVE", "PROPPATCH", "LOCK"})
_CHANGING = _WRITING  # the resource itself; what COPY and MOVE make elsewhere they say themselves
_WITH_BODY = frozenset({"PUT", "PROPFIND", "PROPPATCH", "LOCK"})
_READING = ("OPTIONS", "GET", "HEAD", "PROPFIND", "COPY", "UNLOCK")
_ON_FILE = (*_READING, "PUT", "DELETE", "MOVE", "PROPPATCH", "LOCK")
_ON_FOLDER = ("OPTIONS", "PROPFIND", "COPY", "UNLOCK", "DELETE", "MOVE", "PROPPATCH", "LOCK")
_ON_NOTHING = ("OPTIONS", "PUT", "MKCOL", "LOCK")
_ON_NAMES = ("OPTIONS", "PROPFIND")
_ALL = (*_ON_FILE, "MKCOL")
# What counts the failures of each root, and what checks a credential there.
_WAYS_IN = {Root.SHARES: ("secrets", credentials.share_grant), Root.FILES: ("logins", credentials.user_grant)}

log = structlog.get_logger()


def _address(request: web.Request) -> str:
    return request.remote or ""


class DavDoor:
    """Answers everything below `dav/`."""

    def __init__(
        self,
        access: Access,
        tree: Tree,
        moves: Moves,
        watch: Watch,
        changes: Changes,
        uploads: Uploads,
        locks: Locks,
        belongings: Belongings,
        *,
        base_path: str,
        origin: str,
        like: Callable[[web.Request], Note],
        logins: Logins | None = None,
        client: Callable[[web.Request], str] = _address,
        last_seen: LastSeen | None = None,
        body_time: float = BODY_TIME,
        idle: float = IDLE,
    ) -> None:
        """`base_path` is the path of public_url, which every href carries, and `origin` its scheme and authority.
        `like` returns how requests like the one that it is given are counted and logged, `client` whose failed
        log-ins `logins` counts together.
        `last_seen` has what is shown of received folders whose server does not answer; without it, nothing is.

        A client that sends nothing of a body for `body_time` seconds, or takes nothing for `idle`, is given up.
        """
        self._access = access
        self._logins = logins or Logins(Limits({}))
        self._client = client
        self._tree = tree
        self._changes = changes
        self._addresses = Addresses(base_path, origin)
        self._across = Parts("dav-across", threads=ACROSS, each=ACROSS_EACH, waiting=ACROSS_WAITING)
        self.quick = Quick(access, changes, like)
        self._running = 0  # requests
        self._ended: asyncio.Future[None] | None = None  # somebody waits until none runs
        self._propfind = Propfind(watch, idle, locks, belongings, last_seen)
        self._guard = guard = Guard(locks)
        get, longtail = Get(watch, idle), LongTail(moves, belongings, guard)
        moving = Moving(access, tree, moves, watch, self._addresses, self._across, guard)
        locking = Locking(locks, belongings, guard)
        self._handlers: Mapping[str, Handler] = {
            "OPTIONS": self._options,
            "GET": get,
            "HEAD": get,
            "PUT": Put(access, tree, watch, uploads, guard, Arriving(uploads, belongings), body_time),
            "PROPFIND": self._propfind,
            "MOVE": moving.move,
            "COPY": moving.copy,
            "MKCOL": longtail.make_collection,
            "DELETE": longtail.delete,
            "PROPPATCH": longtail.patch_properties,
            "LOCK": locking.lock,
            "UNLOCK": locking.unlock,
        }

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Serve both roots with everything below them, doubled slashes or not."""
        for root in Root:
            before, _, name = self._addresses.prefix(root).rpartition("/")
            # A name may hold any byte, also a line feed: `.` would stop there.
            path = f"{before}/{{below:/*{name}(?:/[\\s\\S]*)?}}"
            router.add_route("*", path, self.handle, name=name, expect_handler=_expect_later)
        router.register_resource(_Unexpected("/{anywhere:[\\s\\S]*}"))

    def abandon(self) -> None:
        """Let nobody wait for work between storages, and begin none, at the end of the process."""
        self._across.abandon()

    async def close(self, wait: float) -> None:
        """Let at most `wait` seconds pass until all that runs has ended, and take no more work between storages.

        aiohttp's own waiting forgets a request as soon as its connection is lost (web_protocol.py), though what came
        of an upload is to be kept then.
        """
        if self._running:
            self._ended = asyncio.get_running_loop().create_future()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ended, wait)
        self.abandon()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request; nothing but a lost connection comes out of here as an exception."""
        self._running += 1
        try:
            return await self._answer(request)
        finally:
            self._running -= 1
            if self._ended is not None and not self._running and not self._ended.done():
                self._ended.set_result(None)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        asked = _Asked(request)
        try:
            return await self._serve(request, asked)
        except REFUSALS as error:
            return self._refuse(request, asked, error)
        except Exception as error:
            if isinstance(error, OSError) and (request.transport is None or request.transport.is_closing()):
                return web.Response(status=400)  # the client is gone: this goes nowhere
            log.exception("dav.failed", **asked.facts())  # a mistake of ours, and honestly 500
            return _failed(request)

    async def _serve(self, request: web.Request, asked: _Asked) -> web.StreamResponse:
        target = self._addresses.parse(request.raw_path)
        asked.root = target.root
        handler = self._handlers.get(request.method)
        if handler is None:
            raise _not_offered(_ALL)
        if request.method == "OPTIONS" and not credentials.is_given(request.headers):
            return _offer(_ALL)  # clients ask this before they log in
        asked.grant = grant = await self._grant(target.root, request)
        request.match_info["principal"] = grant.principal  # for the log of requests
        asked.location = location = self._addresses.locate(target, grant)
        place = await self._resolve(request, grant, location)
        if isinstance(place, VirtualFolder):
            return await self._virtual(request, location, place, grant)
        if request.method in _WRITING and not place.may_write:
            raise DavError(403, "READ_ONLY", "this is read-only for you")
        if request.headers.get("Expect", "100-continue").lower() != "100-continue":
            raise DavError(417, "UNKNOWN_EXPECTATION", "only 100-continue can be expected")
        if request.method not in _WITH_BODY:
            refuse_body(request)
        conditions = _conditions(request)
        call = Call(request, grant, location, place, self._changes, if_header.submitted(conditions))
        await self._require_if(call, conditions)
        if request.method in TOUCHES:
            await in_pool(place, self._guard.require, call)
        return await self._recorded(call, handler)

    async def _recorded(self, call: Call, handler: Handler) -> web.StreamResponse:
        """Run a handler, and have written down what it has changed before that is answered."""
        method, place = call.request.method, call.place
        if method == "GET":
            self.quick.learn(call)
        if method in ("GET", "HEAD"):
            self._changes.passed(place.storage.name, place.path)
        if method in _CHANGING:
            call.touched.append(Touched(place.storage.name, place.path))
        try:
            answer = await handler(call)
        except BaseException as error:
            if call.touched and (call.begun.is_set() or may_have_changed(error)):
                await asyncio.shield(self._changes.made(call.touched))
            raise
        if call.touched and answer.status in CHANGED:
            await asyncio.shield(self._changes.made(call.touched))
        return answer

    async def _grant(self, root: Root, request: web.Request) -> Grant:
        headers = request.headers
        credentials.require_one(headers)
        name, grant = _WAYS_IN[root]
        user = credentials.user_of(headers) if root is Root.FILES else ""
        digest = self._access.digest(headers["Authorization"].encode("utf-8", "surrogateescape"))
        return await self._logins.attempt(
            name, self._client(request), user, digest, lambda: grant(self._access, headers)
        )

    async def _resolve(self, request: web.Request, grant: Grant, location: Location) -> Place | VirtualFolder:
        try:
            return await self._tree.resolve(grant, location.path)
        except NotFound:
            if request.method in ("PUT", "MKCOL"):
                raise nothing_is_created_here() from None
            raise

    async def _virtual(
        self, request: web.Request, location: Location, folder: VirtualFolder, grant: Grant
    ) -> web.StreamResponse:
        """Answer for `/` and `/received`, which exist only as names."""
        if request.method == "PROPFIND":
            return await self._propfind.virtual(request, location, folder, grant)
        if request.method == "OPTIONS":
            return _offer(_ON_NAMES)
        if request.method in ("DELETE", "MOVE", "PROPPATCH", "COPY"):
            raise root_stays()
        raise _not_offered(_ON_NAMES)

    async def _options(self, call: Call) -> web.StreamResponse:
        methods: tuple[str, ...] = _ON_NOTHING
        with contextlib.suppress(NotFound):
            entry = await in_pool(call.place, call.place.backend.stat, call.place.path)
            methods = _ON_FOLDER if entry.is_directory else _ON_FILE
        if not call.place.may_write:
            methods = tuple(method for method in methods if method not in _WRITING)
        elif call.place.is_root:
            methods = tuple(method for method in methods if method not in ("DELETE", "MOVE"))
        return _offer(methods)

    async def _require_if(self, call: Call, lists: Sequence[if_header.TaggedList]) -> None:
        """Evaluate the If header; raises DavError 412."""
        states = {tag: await self._state(call, tag) for tag in {tagged.tag for tagged in lists}}
        if lists and not if_header.holds(lists, states.__getitem__):
            raise DavError(412, "PRECONDITION_FAILED", "the If header does not hold")

    async def _state(self, call: Call, tag: str | None) -> if_header.State:
        """Return what the resource that a tag names has now; nothing where the caller sees nothing."""
        try:
            place: Place | VirtualFolder = call.place
            if tag is not None:
                location = self._addresses.locate(self._addresses.parse_reference(tag, call.request.host), call.grant)
                place = await self._tree.resolve(call.grant, location.path)
        except (NotFound, DavError):
            return if_header.State()
        if isinstance(place, VirtualFolder):
            return if_header.State(place.entry.etag)
        return await in_pool(place, self._guard.state, call, place)

    def _refuse(self, request: web.Request, asked: _Asked, error: Exception) -> web.StreamResponse:
        refusal = translate(error)
        # Clients ask for what is not there all day, and the line of the request says it; what is too much has a line
        # of its own, one for many requests.
        if refusal.code not in ("NOT_FOUND", "TOO_MANY_REQUESTS"):
            write = log.error if refusal.status >= 500 else log.info
            write("dav.refused", status=refusal.status, code=refusal.code, reason=str(error), **asked.facts())
        if refusal.status == 405:
            refusal.headers.setdefault("Allow", ", ".join(_ON_FOLDER))
        answer = response(refusal)
        if isinstance(error, Unproven):
            credentials.challenge(answer, credentials.CHALLENGES[asked.root or Root.SHARES])
        if not request.content.is_eof():
            answer.force_close()  # what is left of the body must not be taken for the next request
        return answer


class _Asked:
    """What is known of a request so far, for the log; never the credential, nor a path that could hold one."""

    def __init__(self, request: web.Request) -> None:
        self._request = request
        self.root: Root | None = None
        self.grant: Grant | None = None
        self.location: Location | None = None

    def facts(self) -> dict[str, str | None]:
        return {
            "method": printable(self._request.method.encode("utf-8", "surrogateescape")),
            "principal": self.grant.principal if self.grant else None,
            "root": self.root.value.decode() if self.root else None,
            "path": str(self.location.path) if self.location else None,
        }


def _conditions(request: web.Request) -> list[if_header.TaggedList]:
    """Return what the If header says, nothing without one; raises DavError 400."""
    lines = request.headers.getall("If", [])
    return if_header.parse_if(", ".join(lines)) if lines else []


def _failed(request: web.Request) -> web.StreamResponse:
    if request.writer.output_size:  # half an answer is out: only a reset tells the client
        reset(request.transport)
    answer = response(DavError(500, "INTERNAL_ERROR", "this is our mistake; the operator finds it in the log"))
    answer.force_close()
    return answer


class _Unexpected(web.DynamicResource):
    """Meets unknown expectations wherever no route does: aiohttp's own answer fails where they are not UTF-8."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.add_route("*", _refuse_expectation, expect_handler=_expect_later)

    async def resolve(self, request: web.Request) -> tuple[web.UrlMappingMatchInfo | None, set[str]]:
        if request.headers.get("Expect", "100-continue").lower() == "100-continue":
            return None, set()
        return await super().resolve(request)


async def _refuse_expectation(_request: web.Request) -> web.StreamResponse:
    answer = response(DavError(417, "UNKNOWN_EXPECTATION", "only 100-continue can be expected"))
    answer.force_close()
    return answer


async def _expect_later(request: web.Request) -> None:
    """Leave 100 Continue to whoever reads the body: credential, rights and preconditions come first."""


def _offer(methods: tuple[str, ...]) -> web.Response:
    return web.Response(headers={**_COMPLIANCE, "Allow": ", ".join(methods)})


def _not_offered(methods: tuple[str, ...]) -> DavError:
    return DavError(405, "METHOD_NOT_ALLOWED", "this method is not offered here", headers={"Allow": ", ".join(methods)})
