"""Uploads in parts that nobody will end: a crash leaves them in the bucket, invisible, and they are paid for.

Each is noted in the journal of this process before it begins, by its path or that of a directory above it, and by its
id as soon as that is known. Of what the dead have noted is dropped: the upload of that id, and, at a path that was
noted, uploads without any part, as the crash may have come before the id was noted. Uploads of others at the same key
stay; one without any part that has begun lately may be theirs, so it is left to a later start.
"""

from __future__ import annotations

import hashlib
import time

from backends.journal import Journal
from backends.paths import StoragePath
from backends.s3.bucket import Bucket
from backends.s3.keys import Keys

_MARK = b".upload-"  # begins the name below a path that stands for an id; ids are of any length and any characters
_ABANDONED_AFTER = 3600  # seconds in which the first part of an upload arrives


def _mark(upload: str) -> bytes:
    return _MARK + hashlib.sha256(upload.encode()).hexdigest().encode()


class Note:
    """What the journal holds of one upload."""

    def __init__(self, journal: Journal, path: StoragePath) -> None:
        self._journal = journal
        self._paths = [path]
        journal.enter(path)

    def name(self, upload: str) -> None:
        """Note the upload's id, durably; raises Unavailable."""
        path = self._paths[0].child(_mark(upload))
        self._journal.enter(path)
        self._paths.append(path)

    def leave(self) -> None:
        """Say that the upload is complete or dropped."""
        for path in self._paths:
            self._journal.leave(path)
        self._paths = []

    def keep(self) -> None:
        """Leave it to the next start: nobody here will end the upload any more."""
        self._paths = []


class Leftovers:
    """The uploads of this process, and the end of those of dead ones."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def enter(self, path: StoragePath) -> Note:
        """Note durably that an upload to `path` begins; raises Unavailable."""
        return Note(self._journal, path)

    def sweep(self, bucket: Bucket, keys: Keys) -> int:
        """Drop what the dead have left and return how much that was; raises Unavailable, to be tried again."""
        dropped = 0
        for paths in self._journal.left_by_the_dead():
            marks = {path.name for path in paths if path.name.startswith(_MARK)}
            for path in paths:
                if not path.name.startswith(_MARK):
                    dropped += self._drop(bucket, keys.of(path), path, marks)
        return dropped

    def _drop(self, bucket: Bucket, key: str, path: StoragePath, marks: set[bytes]) -> int:
        dropped = 0
        for upload in bucket.uploads(key):
            if _mark(upload.id) not in marks:
                if upload.key != key or bucket.has_parts(key, upload.id):
                    continue
                if upload.begun is None or time.time() - upload.begun < _ABANDONED_AFTER:
                    self._journal.enter(path)
                    continue
            bucket.abort(upload.key, upload.id)
            dropped += 1
        return dropped

    def close(self) -> None:
        self._journal.close()
