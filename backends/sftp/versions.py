"""Etags from what SFTP tells: the size, and the time of modification in whole seconds.

Two contents of one size within a second would look alike. So what the gateway puts under a name is always newer, by at
least a second, than what it found there or knows to have been there; its time may lie a little in the future then.
What other programs write is theirs: one that keeps the size and writes twice within a second, or sets the time back
as rsync -t does, cannot be noticed over SFTP, nor by its own clients.
"""

from __future__ import annotations

import stat
import threading
from hashlib import blake2b

from backends.errors import NotFound
from backends.interface import Entry, Kind
from backends.sftp_packets import LATEST, Attributes

SECOND = 1_000_000_000  # nanoseconds
DRIFT = 3600  # seconds; a file from further in the future cannot be mistaken for one that is written now
_REMEMBERED = 10_000  # names

_KINDS = {stat.S_IFREG: Kind.FILE, stat.S_IFDIR: Kind.DIRECTORY}


def entry_of(name: bytes, attributes: Attributes) -> Entry:
    """Return the entry of a file or directory; raises NotFound for anything else, also what is of no known kind."""
    mode = attributes.mode or 0
    kind = _KINDS.get(stat.S_IFMT(mode))
    if kind is None:
        raise NotFound("neither a file nor a directory")
    size = (attributes.size or 0) if kind is Kind.FILE else 0
    modified = attributes.modified or 0
    etag = blake2b(f"{kind.value} {size} {modified}".encode(), digest_size=16).hexdigest()
    return Entry(name, kind, size, modified * SECOND, etag, None, stat.S_IMODE(mode), attributes.owner)


class Versions:
    """Remembers, of names that were removed or moved away lately, the second of what was there."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._gone: dict[bytes, int] = {}
        self._redated: dict[tuple[int | None, int], int] = {}  # by size and second, the second that it was given

    def left(self, place: bytes, modified: int) -> None:
        """Note that nothing is at `place` any more, and when what was there had been modified."""
        with self._lock:
            self._gone.pop(place, None)
            self._gone[place] = modified
            if len(self._gone) > _REMEMBERED:
                del self._gone[next(iter(self._gone))]

    def redate(self, content: Attributes) -> int:
        """Return the second to give to a content that would look like another at its new name.

        Whoever has it open must not take that for a change (`is_same`); so this comes before the server is told.
        """
        before = content.modified or 0
        with self._lock:
            self._redated.pop((content.size, before), None)
            self._redated[content.size, before] = before + 1
            if len(self._redated) > _REMEMBERED:
                del self._redated[next(iter(self._redated))]
        return before + 1

    def is_same(self, then: Attributes, now: Attributes) -> bool:
        """Tell whether an open file is what it was, but for being dated anew by a rename of ours."""
        modified = then.modified or 0
        with self._lock:
            while modified != (now.modified or 0) and (then.size, modified) in self._redated:
                modified = self._redated[then.size, modified]
        return (then.size, modified) == (now.size, now.modified or 0)

    def after(self, place: bytes, present: int, own: int) -> int:
        """Return the second to show for a content that was written at `own` and comes to `place`, where that of what
        is shown now is `present`, 0 for nothing."""
        with self._lock:
            known = [self._gone.get(place, 0), present]
        latest = max((second for second in known if second <= own + DRIFT), default=0)
        return min(max(own, latest + 1), LATEST)

    def resembles(self, content: Attributes, place: bytes, present: Attributes | None) -> bool:
        """Tell whether a content that comes to `place` as it is would look like what is or was there."""
        with self._lock:
            was_there = self._gone.get(place) == content.modified
        is_there = present is not None and (present.size, present.modified) == (content.size, content.modified)
        return was_there or is_there
