"""Tickets: what one of our processes gives out, another recognises, and nobody else can make; for a while.

None is remembered: they are signed with a key that all processes have.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable


class Tickets:
    """Issues and accepts tickets under one key."""

    def __init__(self, key: bytes, clock: Callable[[], float] = time.time) -> None:
        self._key = key
        self._clock = clock

    def issue(self, purpose: str, life: int) -> str:
        """Return a ticket that is good for `purpose` alone, for `life` seconds."""
        end = str(int(self._clock()) + life)
        return f"{end}.{self._proof(end, purpose)}"

    def accepts(self, ticket: str, purpose: str) -> bool:
        """Tell whether `ticket` was issued for `purpose`, and its time is not over."""
        end, _, proof = ticket.partition(".")
        if not hmac.compare_digest(_bytes(proof), self._proof(end, purpose).encode()):
            return False
        return self._clock() < int(end)

    def _proof(self, end: str, purpose: str) -> str:
        return hmac.digest(self._key, _bytes(f"{end}.{purpose}"), "sha256").hex()


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")  # headers may hold what is no text
