"""Names in one folder that some storage takes for one: they differ in capitals, or in how their accents are written."""

from __future__ import annotations

import unicodedata
from array import array
from collections.abc import Iterable
from itertools import pairwise


class Names:
    """The names of one listing, of which a hash each is kept, as most are unlike all others."""

    def __init__(self) -> None:
        self._hashes = array("q")

    def add(self, names: Iterable[bytes]) -> None:
        self._hashes.extend(map(_folded, names))

    def alike(self, again: Iterable[bytes]) -> frozenset[bytes]:
        """Return the names that are not unlike all others; `again` gives all of them once more, if that is needed."""
        shared = {one for one, following in pairwise(sorted(self._hashes)) if one == following}
        return frozenset(name for name in again if _folded(name) in shared) if shared else frozenset()


def _folded(name: bytes) -> int:
    """Return the same for names that are alike: The Unicode Standard, section 3.13, "Canonical caseless matching"."""
    text = unicodedata.normalize("NFD", name.decode("utf-8", "surrogateescape"))
    return hash(unicodedata.normalize("NFD", text.casefold()))
