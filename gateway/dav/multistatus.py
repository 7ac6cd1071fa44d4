"""207 for work on a tree that failed in parts (RFC 4918 §9.6.1, §9.8.5)."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus

from aiohttp import web

from gateway.dav.errors import translate
from gateway.dav.paths import Location
from gateway.dav.properties import CLOSING, OPENING
from gateway.dav.xml import CONTENT_TYPE, escape
from gateway.removing import Failure
from gateway.tree import Place


def multistatus(failures: Sequence[Failure], roots: Sequence[tuple[Place, Location]]) -> web.Response:
    """Name each failure by its address; `roots` are the trees that were worked on."""
    text = "".join(
        f"<d:response><d:href>{href_of(failure.place, roots)}</d:href><d:status>{status_of(failure)}</d:status>"
        f"<d:responsedescription>{escape(str(translate(failure.error)))}</d:responsedescription></d:response>"
        for failure in failures
    )
    return web.Response(status=207, body=OPENING + text.encode() + CLOSING, headers={"Content-Type": CONTENT_TYPE})


def status_of(failure: Failure) -> str:
    status = HTTPStatus(translate(failure.error).status)
    return f"HTTP/1.1 {status.value} {status.phrase}"


def href_of(place: Place, roots: Sequence[tuple[Place, Location]]) -> str:
    """Return the address of a place that lies in one of `roots`."""
    root, location = next(
        (root, location)
        for root, location in roots
        if root.storage.name == place.storage.name and place.path.is_within(root.path)
    )
    return location.below(place.path.relative_to(root.path)).href(is_directory=False)
