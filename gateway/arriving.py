"""The last step of every new content, whichever way it has come: it gets its name."""

from __future__ import annotations

import contextlib

from backends.errors import StorageError
from backends.interface import Entry, Writer
from gateway.belongings import Belongings
from gateway.tree import Place
from gateway.uploads import Uploads


class Arriving:
    """Synchronous, to be called in the storage's threads, right after a look at the locks."""

    def __init__(self, uploads: Uploads, belongings: Belongings) -> None:
        self._uploads = uploads
        self._belongings = belongings

    def commit(self, writer: Writer, place: Place, principal: str, *, is_new: bool) -> Entry:
        """Commit `writer`, after what something earlier of a new name has left was dropped; raises as `Writer.commit`.

        What `principal` has left unfinished of the same file is dropped: whoever went on with that would mix contents.
        """
        if is_new:
            self._belongings.make_way(place)
        entry = writer.commit()
        with contextlib.suppress(StorageError):  # the file is there, and that is the answer
            self._uploads.finished(principal, place)
        return entry

    def make_directory(self, place: Place) -> Entry:
        """Make a folder in the same way; raises as `StorageBackend.make_directory`."""
        self._belongings.make_way(place)
        return place.backend.make_directory(place.path)
