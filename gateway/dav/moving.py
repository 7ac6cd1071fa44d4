"""MOVE and COPY (RFC 4918 §9.8, §9.9); what they do is in `gateway/files.py`."""

from __future__ import annotations

import threading
from collections.abc import Callable

from aiohttp import web

from backends.errors import AlreadyExists, NotFound
from backends.pool import Pool
from backends.pool_parts import Parts
from gateway.access import Access
from gateway.changes import Touched
from gateway.dav.call import Call, require_conditions
from gateway.dav.errors import NO_LONGER_ALLOWED, DavError, nothing_is_created_here, root_stays
from gateway.dav.guard import Guard
from gateway.dav.multistatus import multistatus
from gateway.dav.paths import Addresses, Location
from gateway.files import Cancelled, Moves
from gateway.ocm.shares import Permission
from gateway.removing import Incomplete
from gateway.tree import Place, Storage, Tree, VirtualFolder
from gateway.watch import Watch

Work = Callable[[Place, Callable[[], bool]], bool]  # to the target, unless cancelled; tells whether that is new


class Moving:
    """Answers MOVE and COPY."""

    def __init__(
        self, access: Access, tree: Tree, moves: Moves, watch: Watch, addresses: Addresses, across: Parts, guard: Guard
    ) -> None:
        """Work between two storages is done in threads of `across`, so that neither holds up the other's; any two have
        a part of those, so that one that hangs holds up no work between others.
        """
        self._access = access
        self._tree = tree
        self._moves = moves
        self._watch = watch
        self._addresses = addresses
        self._across = across
        self._guard = guard

    async def move(self, call: Call) -> web.StreamResponse:
        if call.place.is_root:
            raise root_stays()
        if call.request.headers.get("Depth", "infinity").lower() != "infinity":
            raise DavError(400, "INVALID_DEPTH", "a MOVE has Depth infinity")
        overwrite = _overwrite(call.request)

        def work(target: Place, cancelled: Callable[[], bool]) -> bool:
            return self._moves.move(
                call.place, target, overwrite=overwrite, cancelled=cancelled, changed=call.begun.set
            )

        try:
            return await self._answer(call, work)
        finally:
            self._access.forget()  # Grants that are still kept know where Shares were

    async def copy(self, call: Call) -> web.StreamResponse:
        depth = call.request.headers.get("Depth", "infinity").lower()
        if depth not in ("0", "infinity"):
            raise DavError(400, "INVALID_DEPTH", "a COPY has Depth 0 or infinity")
        overwrite, recurse = _overwrite(call.request), depth == "infinity"

        def work(target: Place, cancelled: Callable[[], bool]) -> bool:
            return self._moves.copy(
                *(call.place, target), overwrite=overwrite, recurse=recurse, cancelled=cancelled, changed=call.begun.set
            )

        return await self._answer(call, work)

    async def _answer(self, call: Call, work: Work) -> web.StreamResponse:
        location, target = await self._destination(call)
        pool = self._pool(call.place.storage, target.storage)

        def guarded(target: Place, cancelled: Callable[[], bool]) -> bool:
            self._guard.require(call)
            self._guard.require_destination(call, target, location)
            return work(target, cancelled)

        try:
            is_new = await self._watched(pool, call, target, guarded)
        except AlreadyExists:
            raise DavError(412, "DESTINATION_EXISTS", "the destination exists and must not be overwritten") from None
        except Incomplete as error:
            return multistatus(error.failures, [(target, location), (call.place, call.location)])
        return web.Response(status=201 if is_new else 204)

    def _pool(self, source: Storage, target: Storage) -> Pool:
        if source.name == target.name:
            return source.pool
        return self._across.of(" and ".join(sorted((source.name, target.name))))

    async def _watched(self, pool: Pool, call: Call, target: Place, work: Work) -> bool:
        """Work until it is done or the rights for it are gone; raises DavError 403."""
        ended = threading.Event()
        try:
            with (
                self._watch.over(call.grant, Permission.READ, ended.set),
                self._watch.over(call.grant, Permission.WRITE, ended.set),
            ):
                return await pool.run(_perform, call, target, work, ended.is_set)
        except Cancelled:
            raise DavError(403, NO_LONGER_ALLOWED, "you may no longer do this; it has been stopped") from None

    async def _destination(self, call: Call) -> tuple[Location, Place]:
        """Return where to; raises DavError 400, 502 and 403."""
        header = call.request.headers.get("Destination")
        if not header:
            raise DavError(400, "NO_DESTINATION", f"{call.request.method} needs a Destination")
        reference = self._addresses.parse_reference(header, call.request.host)
        if reference.root is not self._addresses.parse(call.request.raw_path).root:
            raise DavError(403, "OUTSIDE_OF_ROOT", "the destination is outside of what you were given")
        location = self._addresses.locate(reference, call.grant)
        try:
            target = await self._tree.resolve(call.grant, location.path)
        except NotFound:
            raise nothing_is_created_here() from None
        if isinstance(target, VirtualFolder) or target.is_root:
            raise root_stays()
        if not target.may_write:
            raise DavError(403, "READ_ONLY", "the destination is read-only for you")
        return location, target


def _perform(call: Call, target: Place, work: Work, cancelled: Callable[[], bool]) -> bool:
    if cancelled():
        raise Cancelled
    call.place.check()
    target.check()
    require_conditions(call)
    is_directory = call.place.backend.stat(call.place.path).is_directory
    moved = (call.place, target) if call.touched else (target,)  # a COPY leaves its source as it is
    call.touched[:] = [Touched(place.storage.name, place.path, is_directory) for place in moved]
    return work(target, cancelled)


def _overwrite(request: web.Request) -> bool:
    value = request.headers.get("Overwrite", "T").strip().upper()
    if value not in ("T", "F"):
        raise DavError(400, "INVALID_OVERWRITE", "Overwrite is T or F")
    return value == "T"
