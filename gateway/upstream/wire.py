"""HTTP/1.1 as the server behind speaks it: heads, and bodies in their three framings (RFC 9112). Pure, no I/O.

Strict where two readers could disagree about where a message ends, since the answer is framed anew for the client.
Bytes that mean nothing to this hop are kept as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from gateway.upstream.errors import Malformed
from gateway.upstream.fields import Field, tokens

HEAD_MAX = 64 * 1024  # bytes of a head, and of all trailers
LINE_MAX = 8 * 1024  # bytes of a line in a chunked body

_END_OF_HEAD = re.compile(rb"\r?\n\r?\n")
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: ([^\x00-\x08\x0a-\x1f\x7f]*))?")
_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_FOLD = re.compile(rb"\r?\n[ \t]+")  # RFC 9112 §5.2: a space takes its place
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?")
_DIGITS = re.compile(rb"[0-9]{1,18}")

Piece = bytes | memoryview


@dataclass(frozen=True, slots=True)
class Head:
    """The start of an answer; `minor` is that of its HTTP version."""

    minor: int
    status: int
    reason: bytes
    fields: tuple[Field, ...]

    @property
    def persists(self) -> bool:
        """Tell whether the connection may be used again after this answer (RFC 9112 §9.3)."""
        options = tokens(self.fields, b"connection")
        return b"close" not in options and (self.minor == 1 or b"keep-alive" in options)


class Framing(Enum):
    """How the end of a body is known, when it is not by its length."""

    CHUNKED = "chunked"
    UNTIL_CLOSE = "until close"


def end_of_head(received: bytes) -> int | None:
    """Return where the body begins, None while the head is incomplete; raises Malformed when it is too long."""
    found = _END_OF_HEAD.search(received)
    if (found.end() if found else len(received)) > HEAD_MAX:
        raise Malformed(f"a head of more than {HEAD_MAX} bytes")
    return found.end() if found else None


def parse_head(raw: bytes) -> Head:
    """Parse a whole head; raises Malformed."""
    first, *lines = _lines(raw)
    status = _STATUS_LINE.fullmatch(first)
    if status is None:
        raise Malformed("something else than an HTTP/1 answer")
    return Head(int(status[1]), int(status[2]), status[3] or b"", _fields(lines))


def framing(method: str, head: Head) -> int | Framing:
    """Return the length of the body in bytes, or how else its end is known (RFC 9112 §6.3); raises Malformed."""
    length = _length(head)
    codings = tokens(head.fields, b"transfer-encoding")
    if codings and (codings != [b"chunked"] or length is not None or head.minor == 0):
        raise Malformed("a transfer coding that was not asked for, or a length beside it")
    if method == "HEAD" or head.status < 200 or head.status in (204, 304):
        return 0
    if codings:
        return Framing.CHUNKED
    return Framing.UNTIL_CLOSE if length is None else length


def length_fields(head: Head) -> list[Field]:
    """Return Content-Length as one field, if any; without a body it says how long one would be (RFC 9110 §8.6)."""
    length = None if head.status == 204 else _length(head)
    return [] if length is None else [(b"Content-Length", b"%d" % length)]


def _length(head: Head) -> int | None:
    lengths = set(tokens(head.fields, b"content-length"))
    if not lengths:
        return None
    if len(lengths) > 1 or not _DIGITS.fullmatch(length := lengths.pop()):
        raise Malformed("a Content-Length that is no single number")
    return int(length)


def write_head(first: bytes, fields: Iterable[Field]) -> bytes:
    """Return a head on the wire; `first` is its first line without the line's end."""
    return b"".join(
        (first, b"\r\n", *(part for name, value in fields for part in (name, b": ", value, b"\r\n")), b"\r\n")
    )


def chunk(piece: Piece) -> bytes:
    """Return one chunk with `piece`, which is not empty."""
    return b"".join((b"%x\r\n" % len(piece), piece, b"\r\n"))


def last_chunk(trailers: Iterable[Field]) -> bytes:
    """Return the end of a chunked body."""
    return write_head(b"0", trailers)


class Body:
    """A body until the connection closes, and what the two others have in common; fed with what arrives."""

    def __init__(self) -> None:
        self.is_complete = False
        self.trailers: tuple[Field, ...] = ()
        self.surplus: Piece = b""  # what has come behind the end

    def feed(self, received: Piece) -> Sequence[Piece]:
        """Return the content in the bytes that have arrived, which are some; raises Malformed."""
        return (received,)

    def end(self) -> Sequence[Piece]:
        """Take note that nothing more comes."""
        self.is_complete = True
        return ()


class _Sized(Body):
    """A body of a given length."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self._rest = length
        self.is_complete = not length

    def feed(self, received: Piece) -> Sequence[Piece]:
        content, self.surplus = received[: self._rest], received[self._rest :]
        self._rest -= len(content)
        self.is_complete = not self._rest
        return (content,)


class _Chunked(Body):
    """A body in chunks (RFC 9112 §7.1)."""

    def __init__(self) -> None:
        super().__init__()
        self._rest = 0  # bytes of the present chunk that are still to come
        self._line = b""  # what has come of the next line
        self._next = self._begin_chunk  # what the next line means
        self._trailer_lines: list[bytes] = []

    def feed(self, received: Piece) -> Sequence[Piece]:
        view, at, content = memoryview(received), 0, list[Piece]()
        while at < len(view) and not self.is_complete:
            if self._rest:
                content.append(view[at : at + self._rest])
                at += len(content[-1])
                self._rest -= len(content[-1])
            else:
                at = self._feed_line(view, at)
        self.surplus = view[at:]
        return content

    def _feed_line(self, view: memoryview, at: int) -> int:
        """Take what has come of a line and return where the bytes behind it begin."""
        line, end, _ = bytes(view[at : at + LINE_MAX]).partition(b"\n")
        at += len(line) + len(end)
        self._line += line + end
        if len(self._line) > LINE_MAX:
            raise Malformed(f"a line of more than {LINE_MAX} bytes in a chunked body")
        if end:
            whole, self._line = self._line, b""
            if not whole.endswith(b"\r\n"):
                raise Malformed("a line in a chunked body that ends in LF alone")
            self._next(whole[:-2])
        return at

    def _begin_chunk(self, line: bytes) -> None:
        size = _CHUNK_LINE.fullmatch(line)
        if size is None:
            raise Malformed("a chunk without a size")
        self._rest = int(size[1], 16)
        self._next = self._end_chunk if self._rest else self._add_trailer

    def _end_chunk(self, line: bytes) -> None:
        if line:
            raise Malformed("a chunk that is longer than it says")
        self._next = self._begin_chunk

    def _add_trailer(self, line: bytes) -> None:
        if not line:
            self.trailers = _fields(self._trailer_lines)
            self.is_complete = True
            return
        self._trailer_lines.append(line)
        if sum(map(len, self._trailer_lines)) > HEAD_MAX:
            raise Malformed(f"more than {HEAD_MAX} bytes of trailers")


def body(framing: int | Framing) -> Body:
    """Return what takes such a body apart."""
    return _Sized(framing) if isinstance(framing, int) else _Chunked() if framing is Framing.CHUNKED else Body()


def _lines(raw: bytes) -> list[bytes]:
    return [line.removesuffix(b"\r") for line in _FOLD.sub(b" ", raw).rstrip(b"\r\n").split(b"\n")]


def _fields(lines: Iterable[bytes]) -> tuple[Field, ...]:
    found = []
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not _TOKEN.fullmatch(name) or b"\r" in value or b"\0" in value:
            raise Malformed("a header that is none")
        found.append((name, value.strip(b" \t")))
    return tuple(found)
