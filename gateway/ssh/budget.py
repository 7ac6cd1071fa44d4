"""How many bytes the sessions of one connection may have in memory, but for those on their way: what the client has
sent and nobody has taken yet, what is read ahead, and what has come out of turn."""

from __future__ import annotations


class Budget:
    """Bytes that are taken and given back; who gets none does without."""

    def __init__(self, most: int) -> None:
        self._left = most

    @property
    def is_spent(self) -> bool:
        """Tell whether nothing may be added."""
        return self._left < 0

    def take(self, size: int) -> bool:
        """Take `size` bytes if there are so many."""
        if size > self._left:
            return False
        self._left -= size
        return True

    def add(self, size: int) -> None:
        """Take `size` bytes that are here already, also where there are not so many."""
        self._left -= size

    def give(self, size: int) -> None:
        """Give back what was taken."""
        self._left += size
