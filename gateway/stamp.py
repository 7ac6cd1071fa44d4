"""A value that all worker processes see, and that is one never seen before after any of them has renewed it.

So each may remember what it has read from state, and sees without a look there that it has to read again: who writes
commits first and then renews, who reads takes the value first and then reads. Anonymous memory stays shared across
fork(2). Random, and not counted: no lock is needed, and half of one value and half of another are new as well.
"""

from __future__ import annotations

import mmap
import secrets

_BYTES = 16


class Stamp:
    """Make it before the processes that are to share it."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _BYTES)

    def renew(self) -> None:
        """Let everybody see another value from now on."""
        self._memory[:_BYTES] = secrets.token_bytes(_BYTES)

    def read(self) -> bytes:
        """Return the value that is there now."""
        return self._memory[:_BYTES]
