"""XRootD's dialect: names stand as they are where others escape them (XrdHttp of xrootd 5.5, by experiment).

It does not decode a Destination, and does not encode the hrefs of a listing, nor leave out what XML cannot hold: one
name like that makes its whole directory unreadable, so none is made.
"""

from __future__ import annotations

import re

from backends.errors import InvalidPath
from backends.paths import StoragePath

NAME_MAX = 254  # bytes; of longer names a listing lacks the last one
LITERAL = "XrootD/"  # how the header Server begins
_IMPOSSIBLE = re.compile("[\x00-\x1f\x7f?\ufffe\uffff]")  # a `?` would begin what XRootD calls opaque


def is_literal(server: str) -> bool:
    """Tell from the header Server whether this is the dialect."""
    return server.startswith(LITERAL)


def literal_destination(origin: str, parts: tuple[bytes, ...]) -> str:
    """Return the header Destination; the empty query ends the name, of which the last bytes were trimmed otherwise."""
    return f"{origin}/{b'/'.join(parts).decode('latin-1')}?"


def require_literal(path: StoragePath) -> None:
    """Refuse a name that this dialect cannot express; raises InvalidPath."""
    try:
        text = bytes(path).decode()
    except UnicodeDecodeError:
        text = "?"
    if _IMPOSSIBLE.search(text) or len(path.name) > NAME_MAX:
        allowed = f"at most {NAME_MAX} bytes of UTF-8 without '?' and control characters"
        raise InvalidPath(f"/{path}: names on XRootD have {allowed}")
