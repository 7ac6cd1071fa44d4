"""What lets the doctor ask the gateway, through its public address, how a request has arrived there.

A ticket is the same in all processes, since its key is a file, and it is worthless after a minute.
"""

from __future__ import annotations

import hmac

LIFE = 60  # seconds


class Tickets:
    """Issues and accepts tickets under one key."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def issue(self, now: float) -> str:
        end = str(int(now) + LIFE)
        return f"{end}.{self._proof(end)}"

    def accepts(self, ticket: str, now: float) -> bool:
        end, _, proof = ticket.partition(".")
        right = hmac.compare_digest(proof.encode("utf-8", "replace"), self._proof(end).encode())
        return right and end.isdecimal() and now < int(end) <= now + 2 * LIFE

    def _proof(self, end: str) -> str:
        return hmac.digest(self._key, b"doctor\0" + end.encode("utf-8", "replace"), "sha256").hex()
