"""What the state keeps with the entries of one listing: locks and dead properties.

Both are looked for once, when the listing is opened, and only if the question can be about them; where there are none
below the folder, nothing more is asked for its entries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from backends.interface import SCAN_BATCH, Entry
from backends.paths import StoragePath
from gateway.belongings import Belongings
from gateway.dav.call import Call
from gateway.dav.lock_xml import Shown
from gateway.dav.properties import Question, Surroundings
from gateway.locks import Lock, Locks

BATCH = 250  # entries at a time where they have properties: each may have 64 KiB of them


class Kept:
    """Used in the storage's threads, one call at a time."""

    def __init__(self, call: Call, question: Question, locks: Locks, belongings: Belongings) -> None:
        self._call = call
        self._question = question
        self._locks = locks
        self._belongings = belongings
        self._shown = Shown(call, locks.seconds_left)
        self._found: list[Lock] = []
        self._has_dead = False

    def look(self, *, deep: bool) -> None:
        """Look what there is; `deep` means the members too."""
        if self._question.wants_locks:
            self._found = self._locks.on(self._call.place, tree=deep)
        if self._question.wants_dead:
            self._has_dead = self._belongings.has_properties(self._call.place)

    @property
    def batch(self) -> int:
        """How many entries are to be read at a time."""
        return BATCH if self._has_dead else SCAN_BATCH

    def of_itself(self, around: Surroundings, entry: Entry) -> Surroundings:
        """Return the surroundings of the resource itself with its locks."""
        own = self._on(self._call.place.path)
        return replace(around, locks=self._shown.text(own, root_is_directory=entry.is_directory))

    def of_members(self, around: Surroundings) -> Surroundings:
        """Return the surroundings of the members with their locks, which differ only if some have one of their own."""
        path = self._call.place.path
        handed_down = [lock for lock in self._found if lock.deep and path.is_within(lock.path)]
        with_own = {lock.path.parts[len(path.parts)] for lock in self._found if lock.path.parent == path != lock.path}
        common = self._shown.text(handed_down, root_is_directory=True)

        def locks_of(entry: Entry) -> str:
            if entry.name not in with_own:
                return common
            return self._shown.text(self._on(path.child(entry.name)), root_is_directory=entry.is_directory)

        return replace(around, locks=common, locks_of=locks_of if with_own else None)

    def dead_of_itself(self) -> Mapping[str, str] | None:
        """Return the dead properties of the resource itself."""
        return self._belongings.properties(self._call.place).get(b"") if self._has_dead else None

    def dead_of(self, entries: Sequence[Entry]) -> Mapping[bytes, Mapping[str, str]]:
        """Return the dead properties of members, by name; what has none is left out."""
        if not self._has_dead or not entries:
            return {}
        return self._belongings.properties(self._call.place, (entry.name for entry in entries))

    def _on(self, path: StoragePath) -> list[Lock]:
        return [lock for lock in self._found if lock.covers(path)]
