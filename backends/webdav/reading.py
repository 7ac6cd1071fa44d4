"""Reading: one GET is kept open and read on; a jump opens another with Range."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import replace

from backends.errors import Unavailable, Unsupported
from backends.interface import Entry, Kind, Reader
from backends.paths import StoragePath
from backends.webdav.digests import digest_of
from backends.webdav.multistatus import Resource, number_of, time_of
from backends.webdav.session import Answer, Session

SKIP_MAX = 64 * 1024 * 1024  # bytes read for nothing where the server cannot begin in the middle
GAP_MAX = 256 * 1024  # bytes; over a smaller gap it is cheaper to read on than to ask again
PIECE = 256 * 1024  # bytes

_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19}|\*)")


def entry_of(resource: Resource, name: bytes) -> Entry:
    """Describe a resource; its etag is made of all that the server tells, since that may be weak, long or missing."""
    kind = Kind.DIRECTORY if resource.is_collection else Kind.FILE
    size = resource.size or 0
    opaque = (resource.etag or "").removeprefix("W/")
    etag = hashlib.sha256(f"{opaque}\0{size}\0{resource.modified}".encode()).hexdigest()[:40]
    return Entry(name, kind, size, resource.modified, etag)


class WebDAVReader(Reader):
    """The file as it was when it was opened: what changes while it is read is Unavailable, never a mixture."""

    def __init__(self, session: Session, path: StoragePath, resource: Resource) -> None:
        self.entry = entry_of(resource, path.name)
        self._session = session
        self._path = path
        self._resource = resource
        self._answer: Answer | None = None
        self._position = 0  # in the open answer
        self._version: tuple[str | None, str | None] | None = None  # ETag and Last-Modified of the first answer
        self._digests: Mapping[str, bytes] = {}  # as the first answer says
        self._closed = False

    @property
    def digests(self) -> Mapping[str, bytes]:
        return self._digests

    def read_at(self, offset: int, size: int) -> bytes:
        if self._closed:
            raise ValueError("the Reader is closed")
        size = min(size, self.entry.size - offset)
        if size <= 0:
            return b""
        continued = self._answer is not None and 0 <= offset - self._position <= GAP_MAX
        try:
            return self._read(offset, size)
        except Unavailable:
            self._drop()
            if not continued:
                raise
            # The server may have closed a connection that nobody read from for a while.
            return self._read(offset, size)

    def close(self) -> None:
        self._closed = True
        self._drop()

    def _read(self, offset: int, size: int) -> bytes:
        if self._answer is None or not 0 <= offset - self._position <= GAP_MAX:
            self._drop()
            self._open(offset)
        self._skip(offset - self._position)
        data = self._take(size)
        if self._position == self.entry.size:
            assert self._answer is not None
            if self._answer.read(1):
                raise self._changed("it is longer than it was listed")
            self._drop()
        return data

    def _take(self, size: int) -> bytes:
        assert self._answer is not None
        data = self._answer.read(size)
        self._position += len(data)
        if len(data) < size:
            raise Unavailable(f"{self._answer.what}: cut off after {self._position} of {self.entry.size} bytes")
        return data

    def _skip(self, gap: int) -> None:
        if gap > SKIP_MAX:
            raise Unsupported(f"{self._session.host} cannot begin in the middle of /{self._path}")
        while gap > 0:
            gap -= len(self._take(min(gap, PIECE)))

    def _open(self, offset: int) -> None:
        # With an end: XRootD 5 answers a range without one with nothing.
        part = {"Range": f"bytes={offset}-{self.entry.size - 1}"} if offset else None
        answer = self._session.request("GET", self._path, part)
        if answer.status not in (200, 206):
            raise answer.refusal()
        self._answer = answer
        total = number_of(answer.headers.get("Content-Length", ""))
        self._position = 0
        if answer.status == 206:
            span = _CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", ""))
            if span is None or int(span[1]) != offset or not offset:
                raise Unavailable(f"{answer.what}: the server sends another range than the one asked for")
            self._position, total = offset, number_of(span[3])
        if total not in (None, self.entry.size):
            raise self._changed(f"it has {total} bytes now, {self.entry.size} were listed")
        self._check_version(answer)

    def _check_version(self, answer: Answer) -> None:
        """Compare an answer with the one before, or the first with the listing."""
        version = (answer.headers.get("ETag"), answer.headers.get("Last-Modified"))
        if version == (None, None):  # XRootD tells neither with a content
            self._require_as_listed()
            return
        if self._version is not None:
            if any(None not in pair and pair[0] != pair[1] for pair in zip(version, self._version, strict=True)):
                raise self._changed("it is another version than at the beginning")
            return
        listed, modified = self._resource, time_of(version[1] or "")
        same_time = 0 in (modified, listed.modified) or modified == listed.modified
        same_etag = None in (version[0], listed.etag) or version[0] == listed.etag
        if not (same_time and same_etag):
            # A server may write its etags differently here and there; then the listing is still what it was.
            self._require_as_listed()
        self._version, self._digests = version, digest_of(answer.headers)

    def _require_as_listed(self) -> None:
        present = self._session.find(self._path)
        if present is None or entry_of(present, self._path.name) != self.entry:
            raise self._changed("it is another version than the one listed")

    def _changed(self, how: str) -> Unavailable:
        return Unavailable(f"{self._session.host}: /{self._path} changed while it was read: {how}", retry_after=1)

    def _drop(self) -> None:
        if self._answer is not None:
            self._answer.close()
            self._answer = None


def with_size(session: Session, path: StoragePath, resource: Resource) -> Resource:
    """Ask for the size of a file that was listed without one (HEAD): read as empty, it would be cut off silently."""
    answer = session.request("HEAD", path)
    if answer.status != 200:
        raise answer.refusal()
    answer.close()
    size = number_of(answer.headers.get("Content-Length", ""))
    if size is None:
        raise Unavailable(f"{answer.what}: the server does not tell the size of this file")
    return replace(resource, size=size)
