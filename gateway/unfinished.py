"""Names beside a destination for what is not finished: a copy that is being made, and what it is to replace.

`Tree` keeps the one rule for them: no door shows such a name, takes it, or makes it. Which of them exist is in state
(`store/replacements.py`), so nothing is ever removed because of its name.
"""

from __future__ import annotations

import secrets

from backends.interface import Entry, Scan

_HERE = b".ocm-unfinished-"
# On a received Share: its server may be a gateway like this one, which would not let us make the other.
_THERE = b".ocm-arriving-"


def prefix(*, received: bool) -> bytes:
    """Return how such names begin on storage of our own, or on that of a received Share."""
    return _THERE if received else _HERE


def new_name(*, received: bool) -> bytes:
    """Return a new name, 128 bits of it random."""
    return prefix(received=received) + secrets.token_hex(16).encode()


class FinishedScan(Scan):
    """A Scan without the entries whose names begin with `hidden`."""

    def __init__(self, scan: Scan, hidden: bytes) -> None:
        self._scan = scan
        self._hidden = hidden

    def next(self) -> list[Entry]:
        while batch := self._scan.next():
            if shown := [entry for entry in batch if not entry.name.startswith(self._hidden)]:
                return shown
        return []

    def close(self) -> None:
        self._scan.close()
