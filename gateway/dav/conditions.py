"""Conditional requests and ranges (RFC 9110 §13, §14): pure functions of headers and an entry.

The order is that of §13.2.2. Etags here are strong, so a weak one in If-Match or If-Range never matches.
"""

from __future__ import annotations

import functools
import re
from calendar import timegm
from dataclasses import dataclass
from email.utils import formatdate, parsedate_tz

from multidict import CIMultiDictProxy

from backends.interface import Entry
from gateway.dav.errors import DavError

Headers = CIMultiDictProxy[str]

_SECOND = 1_000_000_000  # nanoseconds
# RFC 9110 §5.6.1.2: elements of a list may be empty
_ENTITY_TAG = re.compile(r'[ \t]*(?:(W/)?"([\x21\x23-\x7e\x80-\U0010ffff]*)"[ \t]*)?(?:,|$)')
_RANGE = re.compile(r"[ \t]*([0-9]*)-([0-9]*)[ \t]*")
_LARGEST = 10**18  # bytes; no file is longer, and int() refuses thousands of digits

CONDITIONAL = ("If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since")


@functools.lru_cache(maxsize=8192)
def _date(seconds: int) -> str:
    return formatdate(seconds, usegmt=True)


def http_date(modified: int) -> str:
    """Return nanoseconds since the epoch as an HTTP-date."""
    return _date(modified // _SECOND)


def parse_http_date(text: str) -> int | None:
    """Return an HTTP-date, in any of its three forms, as seconds since the epoch; None if it is none."""
    try:
        parsed = parsedate_tz(text)
        return None if parsed is None else timegm((*parsed[:6], 0, 0, 0)) - (parsed[9] or 0)
    except (ValueError, OverflowError, IndexError, TypeError):
        return None


@dataclass(frozen=True, slots=True)
class Expectation:
    """What a write must find when it takes effect, in the terms of the storage contract."""

    if_match: str | None = None
    if_none_match: bool = False


def is_not_modified(headers: Headers, entry: Entry) -> bool:
    """Tell whether a GET or HEAD is answered 304; raises DavError 412."""
    _require_match(headers, entry)
    if "If-None-Match" in headers:
        return _matches(headers, "If-None-Match", entry, weak=True)
    since = parse_http_date(headers.get("If-Modified-Since", ""))
    return since is not None and entry.modified // _SECOND <= since


def expectation(headers: Headers, entry: Entry | None) -> Expectation:
    """Check a writing request against what is there now, and return what has to hold until it takes effect.

    Raises DavError 412.
    """
    _require_match(headers, entry)
    if "If-None-Match" in headers:
        if _matches(headers, "If-None-Match", entry, weak=True):
            raise _failed("If-None-Match")
        return Expectation(if_none_match=entry is None)
    if entry is not None and ("If-Match" in headers or _unmodified_since(headers) is not None):
        return Expectation(if_match=entry.etag)
    return Expectation()


@dataclass(frozen=True, slots=True)
class ByteRange:
    """A part of a file, in bytes."""

    start: int
    length: int

    def content_range(self, size: int) -> str:
        return f"bytes {self.start}-{self.start + self.length - 1}/{size}"


def selected_range(headers: Headers, entry: Entry) -> ByteRange | None:
    """Return the part that a GET asks for, None for the whole; raises DavError 416.

    Several ranges, another unit, nonsense and a failed If-Range all give the whole (RFC 9110 §14.2, §13.1.5).
    """
    unit, _, wanted = headers.get("Range", "").partition("=")
    match = _RANGE.fullmatch(wanted)
    if unit.strip().lower() != "bytes" or match is None or not any(match.groups()) or not _if_range(headers, entry):
        return None
    first, last = (_number(digits) for digits in match.groups())
    size = entry.size
    if first is None:
        if last and not size:
            return None  # the last bytes of nothing: there is no Content-Range that could say so
        start, end = max(size - (last or 0), 0), size - 1
    elif last is not None and last < first:
        return None
    else:
        start, end = first, size - 1 if last is None else min(last, size - 1)
    if start > end:
        raise DavError(
            416, "RANGE_NOT_SATISFIABLE", "the range is beyond the end", headers={"Content-Range": f"bytes */{size}"}
        )
    return ByteRange(start, end - start + 1)


def _number(digits: str) -> int | None:
    return None if not digits else int(digits) if len(digits) <= 18 else _LARGEST


def _if_range(headers: Headers, entry: Entry) -> bool:
    value = headers.get("If-Range", "").strip()
    if not value:
        return True
    if value.startswith(('"', "W/")):
        return value == f'"{entry.etag}"'
    return value == http_date(entry.modified)


def _require_match(headers: Headers, entry: Entry | None) -> None:
    if "If-Match" in headers:
        if not _matches(headers, "If-Match", entry, weak=False):
            raise _failed("If-Match")
        return
    since = _unmodified_since(headers)
    if since is not None and entry is not None and entry.modified // _SECOND > since:
        raise _failed("If-Unmodified-Since")


def _unmodified_since(headers: Headers) -> int | None:
    return parse_http_date(headers.get("If-Unmodified-Since", ""))


def _matches(headers: Headers, field: str, entry: Entry | None, *, weak: bool) -> bool:
    """Tell whether the present etag is listed; `*` is any that exists. Raises DavError 400 for what is no list."""
    value = ",".join(headers.getall(field)).strip()
    if value == "*":
        return entry is not None
    tags: list[tuple[bool, str]] = []
    position = 0
    while position < len(value):
        match = _ENTITY_TAG.match(value, position)
        if match is None:
            raise DavError(400, "INVALID_CONDITION", f"{field} is no list of entity tags")
        if match[2] is not None:
            tags.append((match[1] is not None, match[2]))
        position = match.end()
    return entry is not None and any(tag == entry.etag and (weak or not is_weak) for is_weak, tag in tags)


def _failed(field: str) -> DavError:
    return DavError(412, "PRECONDITION_FAILED", f"{field} does not hold")
