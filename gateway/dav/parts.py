"""PUT in parts: Content-Range in a request (RFC 9110 §14.4, §14.5), as pure functions of headers.

    PUT, Content-Range: bytes FIRST-LAST/TOTAL      stores this part; FIRST 0 begins anew
    PUT, Content-Range: bytes */TOTAL, no body      asks how much is stored

The first form is what Apache and StoRM take and `curl -T FILE -C OFFSET` sends. A part that does not complete the whole
is answered 202, and like the question tells by Range what is stored from the first byte on.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from aiohttp import web

from gateway.dav.conditions import Headers
from gateway.dav.errors import DavError

_CONTENT_RANGE = re.compile(r"bytes[ \t]+(?:([0-9]{1,18})-([0-9]{1,18})|(\*))/([0-9]{1,18}|\*)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Part:
    """The bytes from `first` to before `end` of a content of `total`."""

    first: int
    end: int
    total: int

    @property
    def is_whole(self) -> bool:
        return self.first == 0 and self.end == self.total

    @property
    def is_last(self) -> bool:
        return self.end == self.total

    @property
    def length(self) -> int:
        return self.end - self.first


@dataclass(frozen=True, slots=True)
class Question:
    """How much of a content of `total` bytes is stored?"""

    total: int


def asked(headers: Headers, length: int | None) -> Part | Question | None:
    """Return what a PUT with a body of `length` bytes (None: not announced) wants to store, None for the whole.

    Raises DavError 400.
    """
    value = headers.get("Content-Range")  # aiohttp refuses a second one
    if value is None:
        return None
    match = _CONTENT_RANGE.fullmatch(value.strip())
    if match is None:
        raise DavError(400, "INVALID_CONTENT_RANGE", "Content-Range is one range, `bytes FIRST-LAST/TOTAL`")
    if match[4] == "*":
        raise DavError(400, "TOTAL_REQUIRED", "say how long the whole is: `bytes FIRST-LAST/TOTAL`")
    total = int(match[4])
    if match[3] is not None:
        if length != 0:
            raise DavError(400, "UNEXPECTED_BODY", "a question for what is stored has no body")
        return Question(total)
    part = Part(int(match[1]), int(match[2]) + 1, total)
    if not part.first < part.end <= total:
        raise DavError(400, "INVALID_CONTENT_RANGE", "FIRST is at most LAST, and LAST less than TOTAL")
    if length is not None and length != part.length:
        raise wrong_length(part)
    return part


def stored(size: int) -> web.Response:
    """Say that the first `size` bytes are stored."""
    return web.Response(status=202, headers=_range(size))


def gap(size: int) -> DavError:
    """Refuse a part that begins after what is stored."""
    sentence = f"{size} bytes of this upload are stored; the next part begins there, or before"
    return DavError(416, "PART_BEYOND_STORED", sentence, headers=_range(size))


def wrong_length(part: Part) -> DavError:
    return DavError(400, "LENGTH_MISMATCH", f"Content-Range announces {part.length} bytes, and the body has another")


def not_offered() -> DavError:
    return DavError(501, "NOT_RESUMABLE", "this storage takes files as a whole only; leave out Content-Range")


def _range(size: int) -> dict[str, str]:
    return {"Range": f"bytes=0-{size - 1}"} if size else {}
