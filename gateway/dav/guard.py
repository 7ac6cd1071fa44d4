"""What a request wants to write is compared with the locks there are: one table for every method.

Asked by the door before a method's own file, and again where the method takes effect, in the storage's threads.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from backends.errors import NotFound
from backends.paths import StoragePath
from gateway.dav.call import Call, address
from gateway.dav.errors import locked
from gateway.dav.if_header import State
from gateway.dav.paths import Location
from gateway.errors import Locked
from gateway.locks import Locks, Touch
from gateway.tree import Place

# RFC 4918 §7.4, §7.5 and §9. What is not here writes nothing at the address of the request; COPY writes elsewhere.
TOUCHES: Mapping[str, Touch] = MappingProxyType(
    {
        "PUT": Touch.CONTENT | Touch.NEW_NAME,
        "MKCOL": Touch.CONTENT | Touch.NEW_NAME,
        "LOCK": Touch.NEW_NAME,
        "PROPPATCH": Touch.CONTENT,
        "DELETE": Touch.CONTENT | Touch.NAME | Touch.TREE,
        "MOVE": Touch.CONTENT | Touch.NAME | Touch.TREE,
    }
)
DESTINATION = Touch.CONTENT | Touch.NAME | Touch.TREE  # of MOVE and COPY: what is there is replaced


class Guard:
    """Locks in the words of this door."""

    def __init__(self, locks: Locks) -> None:
        self._locks = locks

    def require(self, call: Call) -> None:
        """Make sure that no lock is in the way of the method; raises DavError 423."""
        if touch := TOUCHES.get(call.request.method):
            self._require(call, call.place, call.location, touch)

    def require_destination(self, call: Call, place: Place, location: Location) -> None:
        """Do the same for where a MOVE or COPY goes."""
        self._require(call, place, location, DESTINATION)

    def state(self, call: Call, place: Place) -> State:
        """Return what conditions of an If header are compared with."""
        try:
            etag = call.changes.look(place.storage.name, place.backend, place.path).etag
        except NotFound:
            etag = None
        return State(etag, frozenset(lock.token for lock in self._locks.on(place) if lock.covers(place.path)))

    def _require(self, call: Call, place: Place, location: Location, touch: Touch) -> None:
        try:
            self._locks.require(place, touch, call.holder)
        except Locked as error:
            raise locked(error, "lock-token-submitted", hrefs(place, location, error.roots)) from None


def hrefs(place: Place, location: Location, roots: Iterable[bytes]) -> list[str]:
    """Return the addresses of locked places, as the caller has to name them in an If header."""
    return [
        address(place, location, path).href(is_directory=path != place.path and place.path.is_within(path))
        for path in map(StoragePath.parse, roots)
    ]
