"""Writing: the content streams in one PUT, of which the last piece is held back until the commit.

So a content that is cut off, or has another length or digest than announced, never becomes a complete request.
What the server does with an incomplete one is its own affair: good ones keep the old content, and where it is not
known to be good the PUT goes aside.
"""

from __future__ import annotations

from backends.errors import NotFound, PreconditionFailed, StorageError, Unavailable
from backends.interface import Entry, Writer, check_preconditions
from backends.name_locks import NameLocks
from backends.paths import StoragePath
from backends.webdav.answers import OddAnswer
from backends.webdav.aside import Aside, require_size
from backends.webdav.multistatus import Resource
from backends.webdav.reading import entry_of
from backends.webdav.session import Answer, Session
from backends.webdav.transport import Upload

STORED = frozenset({200, 201, 204})


class WebDAVWriter(Writer):
    """A content that is small enough to come in one piece is not sent before the commit at all."""

    def __init__(
        self,
        session: Session,
        path: StoragePath,
        locks: NameLocks[bytes],
        *,
        size: int | None,
        if_match: str | None,
        if_none_match: bool,
        hashes: tuple[str, ...],
        aside: Aside | None = None,
    ) -> None:
        """`locks`: those of the backend's paths; with `aside` the PUT goes to a place beside `path`."""
        super().__init__(size, hashes)
        self._session = session
        self._path = path
        self._locks = locks
        self._size = size
        self._if_match = if_match
        self._if_none_match = if_none_match
        self._aside = aside
        self._place = aside.place_for(path) if aside else path
        self._litter = False  # something may be at the place beside
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
        if self._aside:
            return {}  # they would be about the place beside
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
            self._upload = self._session.upload(self._place, self._conditions, size)
            self._litter = self._aside is not None
        if not self._upload.send(piece):
            raise self._early_answer(self._upload)

    def _early_answer(self, upload: Upload) -> StorageError:
        """Return why the server did not take the whole body."""
        self._upload = None
        answer = self._session.finish(upload, self._place)
        refused = self._refusal(answer)
        if answer.status in STORED:
            return Unavailable(f"{answer.what}: the server has not waited for the whole content")
        return refused

    def _commit(self) -> Entry:
        with self._locks.held(bytes(self._path)):
            # Once it has begun, some servers show what they have got so far.
            if self._upload is None and self._aside is None:
                self._conditions = self.check()
            self._send(self._held, self.written if self._upload is None else self._size)
            upload, self._upload = self._upload, None
            assert upload is not None
            answer = self._session.finish(upload, self._place)
            if answer.status not in STORED:
                raise self._refusal(answer)
            answer.close()
            if self._aside is not None:
                require_size(self._session, self._place, self.written)
                self._move(self._aside)
            return entry_of(require_size(self._session, self._path, self.written), self._path.name)

    def _move(self, aside: Aside) -> None:
        """Let the content take its name, unless that is not as expected any more."""
        self.check()
        try:
            self._take_name(aside)
        except StorageError:
            self._litter = self.is_new or aside.is_there(self._path)
            raise
        self._litter = False

    def _take_name(self, aside: Aside) -> None:
        try:
            aside.move(self._place, self._path, replace=not self.is_new)
        except PreconditionFailed:
            self.check()  # it was made a moment ago, and only what may be replaced is
            aside.move(self._place, self._path, replace=True)

    def _refusal(self, answer: Answer) -> StorageError:
        """Say why the server has not taken a content, which many leave unclear."""
        refused = answer.refusal()
        if answer.status == 405 and self._aside:  # rclone, by golang.org/x/net/webdav, for all that fails in storing
            return Unavailable(f"{answer.what}: the content was not stored, perhaps for want of space (405)")
        if isinstance(refused, OddAnswer) and self.is_new and self._session.find(self._path.parent) is None:
            return NotFound(f"/{self._path.parent}: nothing there")  # nginx: 500
        configured = self._session.configured
        return configured.about_upload(refused) if self._aside and configured else refused

    def _abort(self) -> None:
        upload, self._upload, self._held = self._upload, None, b""
        if upload is not None:
            upload.abort()
        if self._aside is not None and self._litter:
            self._aside.drop(self._place)


def _if_match(present: Resource) -> dict[str, str]:
    """A weak etag never matches (RFC 9110 section 13.1.1), so it is compared on this side alone."""
    etag = present.etag
    return {"If-Match": etag} if etag is not None and etag.startswith('"') else {}
