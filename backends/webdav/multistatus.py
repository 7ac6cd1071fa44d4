"""The answer to PROPFIND, parsed while it arrives (RFC 4918 section 13): no tree is built, whatever its size.

It comes from somebody else's server: document types are refused, and size, depth and text are bounded.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import NoReturn
from urllib.parse import unquote_to_bytes
from xml.parsers import expat

from backends.errors import Unavailable
from backends.interface import MODIFIED_MAX, MODIFIED_MIN
from backends.webdav.rights import READERS, rights_of

SIZE_MAX = 64 * 1024 * 1024  # bytes of XML
DEPTH_MAX = 64  # elements within each other
TEXT_MAX = 64 * 1024  # characters in one element
PIECE = 64 * 1024  # bytes read at once

PROPERTIES = ("resourcetype", "getcontentlength", "getlastmodified", "getetag")
QUOTA = ("quota-available-bytes", "quota-used-bytes")  # RFC 4331
RIGHTS = tuple('{2} xmlns="{0}"'.format(*name.partition(" ")) for name in READERS)

_SCHEME_AND_AUTHORITY = re.compile(r"\A[A-Za-z][A-Za-z0-9+.-]*://[^/]*")
# Elements by their way from the root, each with the namespace as expat writes it.
_MULTISTATUS = ("DAV: multistatus",)
_RESPONSE = (*_MULTISTATUS, "DAV: response")
_PROPSTAT = (*_RESPONSE, "DAV: propstat")
_PROP = (*_PROPSTAT, "DAV: prop")
_COLLECTION = (*_PROP, "DAV: resourcetype", "DAV: collection")
_HREF, _STATUS, _PROPSTAT_STATUS = (*_RESPONSE, "DAV: href"), (*_RESPONSE, "DAV: status"), (*_PROPSTAT, "DAV: status")
_PROPERTIES = {(*_PROP, f"DAV: {name}"): name for name in (*PROPERTIES[1:], *QUOTA)}
_PROPERTIES |= {(*_PROP, name): name for name in READERS}
_TEXTS = frozenset({_HREF, _STATUS, _PROPSTAT_STATUS, *_PROPERTIES})


@dataclass(frozen=True, slots=True)
class Resource:
    """One <response>: the decoded components of its href, and what is known of it."""

    parts: tuple[bytes, ...]
    is_collection: bool = False
    size: int | None = None  # bytes
    modified: int = 0  # nanoseconds since the epoch
    etag: str | None = None  # as the server writes it, with quotes
    available: int | None = None  # bytes
    used: int | None = None  # bytes
    rights: frozenset[str] | None = None  # of read, write and share, if it was asked and says so


def request_body(names: tuple[str, ...]) -> bytes:
    """Return the body of a PROPFIND for these properties, of DAV: unless another namespace stands beside them."""
    properties = "".join(f"<{name}/>" for name in names)
    return f'<?xml version="1.0" encoding="utf-8"?><propfind xmlns="DAV:"><prop>{properties}</prop></propfind>'.encode()


def resources(read: Callable[[int], bytes], what: str, *, literal: bool = False) -> Iterator[Resource]:
    """Yield the resources of a multistatus body as far as `read` has brought it; `what` names the request in errors.

    `literal`: the names in hrefs are not encoded (`dialect.py`).
    Raises Unavailable for a body that is no multistatus, is cut off, or is beyond the bounds.
    """
    parser = _Parser(literal=literal)
    size = 0
    try:
        while piece := read(PIECE):
            size += len(piece)
            if size > SIZE_MAX:
                raise Unavailable(f"{what}: the listing is larger than {SIZE_MAX} bytes")
            parser.feed(piece)
            while parser.complete:
                yield parser.complete.popleft()
        parser.feed(b"", is_final=True)
    except expat.ExpatError as error:
        raise Unavailable(f"{what}: the listing is not valid XML") from error
    except OutOfBounds as error:
        raise Unavailable(f"{what}: {error}") from error
    yield from parser.complete
    if not parser.is_multistatus:
        raise Unavailable(f"{what}: the answer is not a multistatus")


def path_of(href: str, *, literal: bool = False) -> tuple[bytes, ...] | None:
    """Return the components of an href, an absolute path or a URL, decoded once; None for what is neither.

    The host is not compared: behind a proxy, servers name others, and only names are taken from here.
    """
    text = _SCHEME_AND_AUTHORITY.sub("", href if literal else href.strip(), count=1)
    decode = str.encode if literal else unquote_to_bytes
    return tuple(decode(part) for part in text.split("/") if part) if text.startswith("/") else None


class OutOfBounds(Exception):
    """The listing has what no honest one has."""


@dataclass(slots=True)
class _Response:
    """What has been read of a <response> so far; `properties` are those under a 200."""

    href: str = ""
    status: str = "200"
    properties: dict[str, str] = field(default_factory=dict)
    described: bool = False


class _Parser:
    """Collects what was asked for; anything else, and the same names elsewhere, are passed over."""

    def __init__(self, *, literal: bool) -> None:
        self._literal = literal
        self.complete: deque[Resource] = deque()
        self.is_multistatus = False
        self._open: tuple[str, ...] = ()
        self._text: list[str] | None = None
        self._length = 0
        self._response = _Response()
        self._status = ""
        self._properties: dict[str, str] = {}
        self._expat = expat.ParserCreate(namespace_separator=" ")
        self._expat.buffer_text = True
        # Without a document type there are no entities, and so no bombs and nothing to fetch.
        self._expat.StartDoctypeDeclHandler = _refuse_document_type
        self._expat.StartElementHandler = self._start
        self._expat.CharacterDataHandler = self._characters
        self._expat.EndElementHandler = self._end

    def feed(self, piece: bytes, *, is_final: bool = False) -> None:
        """Parse on; raises ExpatError, OutOfBounds."""
        self._expat.Parse(piece, is_final)

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._open = here = (*self._open, name)
        if len(here) > DEPTH_MAX:
            raise OutOfBounds("the listing is nested too deeply")
        self._text = [] if here in _TEXTS else None
        self._length = 0
        if here == _RESPONSE:
            self._response = _Response()
        elif here == _PROPSTAT:
            self._status, self._properties = "", {}
        elif here == _COLLECTION:
            self._properties["collection"] = ""
        elif here == _MULTISTATUS:
            self.is_multistatus = True

    def _characters(self, content: str) -> None:
        if self._text is not None:
            self._length += len(content)
            if self._length > TEXT_MAX:
                raise OutOfBounds("the listing holds a text that is too long")
            self._text.append(content)

    def _end(self, name: str) -> None:
        here, self._open = self._open, self._open[:-1]
        if self._text is not None:
            text = "".join(self._text)
            self._take(here, text if self._literal and here == _HREF else text.strip())
            self._text = None
        elif here == _PROPSTAT and "200" in self._status.split():
            self._response.properties |= self._properties
            self._response.described = True
        elif here == _RESPONSE:
            self._finish()

    def _take(self, here: tuple[str, ...], text: str) -> None:
        if here in _PROPERTIES:
            self._properties[_PROPERTIES[here]] = text
        elif here == _HREF:
            self._response.href = self._response.href or text
        elif here == _STATUS:
            self._response.status = text
        elif here == _PROPSTAT_STATUS:
            self._status = text

    def _finish(self) -> None:
        parts = path_of(self._response.href, literal=self._literal)
        if parts is not None and self._response.described and "200" in self._response.status.split():
            self.complete.append(_resource(parts, self._response.properties))


def _refuse_document_type(*_declaration: object) -> NoReturn:
    raise OutOfBounds("the listing declares a document type")


def _resource(parts: tuple[bytes, ...], properties: dict[str, str]) -> Resource:
    is_collection = "collection" in properties
    return Resource(
        parts,
        is_collection,
        None if is_collection else number_of(properties.get("getcontentlength", "")),
        time_of(properties.get("getlastmodified", "")),
        properties.get("getetag") or None,
        number_of(properties.get("quota-available-bytes", "")),
        number_of(properties.get("quota-used-bytes", "")),
        rights_of(properties),
    )


def number_of(text: str) -> int | None:
    """Return a number of bytes, None for anything else; Nextcloud writes -1 to -3 for a quota that it does not know."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None


def time_of(text: str) -> int:
    """Return a date of RFC 9110 section 5.6.7 in nanoseconds since the epoch, 0 for anything else."""
    try:
        date = parsedate_to_datetime(text)
        modified = int((date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()) * 1_000_000_000
    except (TypeError, ValueError, OverflowError):
        return 0
    return modified if MODIFIED_MIN <= modified <= MODIFIED_MAX else 0
