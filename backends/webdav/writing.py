"""Writing: the content streams in one PUT, of which the last piece is held back until the commit.

So a content that is cut off, or has another length or digest than announced, never becomes a complete request.
What the server does with an incomplete one is its own affair; good ones keep the old content.
"""

from __future__ import annotations

from threading import Lock

from backends.errors import IncompleteWrite, StorageError, Unavailable
from backends.interface import Entry, Writer, check_preconditions
from backends.paths import StoragePath
from backends.webdav.multistatus import Resource
from backends.webdav.reading import entry_of
from backends.webdav.session import Session
from backends.webdav.transport import Upload

STORED = frozenset({200, 201, 204})


class WebDAVWriter(Writer):
    """A content that is small enough to come in one piece is not sent before the commit at all."""

    def __init__(
        self,
        session: Session,
        path: StoragePath,
        lock: Lock,
        *,
        size: int | None,
        if_match: str | None,
        if_none_match: bool,
        hashes: tuple[str, ...],
    ) -> None:
        """`lock` is held by one commit to this path at a time."""
        super().__init__(size, hashes)
        self._session = session
        self._path = path
        self._lock = lock
        self._size = size
        self._if_match = if_match
        self._if_none_match = if_none_match
        self._held = b""
        self._upload: Upload | None = None
        self._conditions = self.check()

    def check(self) -> dict[str, str]:
        """Compare what is there now with what was expected, and return the headers that let the server do so again.

        Raises NotFound, IsADirectory, PreconditionFailed.
        """
        present = self._session.find(self._path)
        entry = None if present is None else entry_of(present, self._path.name)
        check_preconditions(entry, self._if_match, self._if_none_match)
        self.is_new = present is None
        if self._if_none_match:
            return {"If-None-Match": "*"}
        return _if_match(present) if self._if_match is not None and present is not None else {}

    def _write(self, data: bytes | bytearray | memoryview) -> None:
        if not data:
            return
        if self._held:
            self._send(self._held, self._size)
        self._held = bytes(data)

    def _send(self, piece: bytes, size: int | None) -> None:
        if self._upload is None:
            self._upload = self._session.upload(self._path, self._conditions, size)
        if not self._upload.send(piece):
            raise self._early_answer(self._upload)

    def _early_answer(self, upload: Upload) -> StorageError:
        """Return why the server did not take the whole body."""
        self._upload = None
        answer = self._session.finish(upload, self._path)
        refused = answer.refusal()
        if answer.status in STORED:
            return Unavailable(f"{answer.what}: the server has not waited for the whole content")
        return refused

    def _commit(self) -> Entry:
        with self._lock:
            if self._upload is None:  # once it has begun, some servers show what they have got so far
                self._conditions = self.check()
            self._send(self._held, self.written if self._upload is None else self._size)
            upload, self._upload = self._upload, None
            assert upload is not None
            answer = self._session.finish(upload, self._path)
            if answer.status not in STORED:
                raise answer.refusal()
            answer.close()
            return self._stored()

    def _stored(self) -> Entry:
        """Look at what the server has made of it: some have said 201 to an empty file."""
        present = self._session.look(self._path)
        if present.size is not None and present.size != self.written:
            raise IncompleteWrite(
                f"{self._session.host}: /{self._path}: {present.size} of {self.written} bytes were stored"
            )
        return entry_of(present, self._path.name)

    def _abort(self) -> None:
        upload, self._upload, self._held = self._upload, None, b""
        if upload is not None:
            upload.abort()


def _if_match(present: Resource) -> dict[str, str]:
    """A weak etag never matches (RFC 9110 section 13.1.1), so it is compared on this side alone."""
    etag = present.etag
    return {"If-Match": etag} if etag is not None and etag.startswith('"') else {}
