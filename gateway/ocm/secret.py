"""Secret: a string that opens something, and therefore prints as `Secret(***)` wherever it turns up by accident."""

from __future__ import annotations

import hmac


class Secret:
    """Holds a shared secret, an access token or an Invite Token; only `reveal()` gives it away."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the secret itself, for the one place that sends or hashes it."""
        return self._value

    def __eq__(self, other: object) -> bool:
        """Compare in constant time: how much of a guess was right must not show."""
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(_encoded(self), _encoded(other))

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __bool__(self) -> bool:
        return bool(self._value)

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__


def _encoded(secret: Secret) -> bytes:
    return secret.reveal().encode("utf-8", "surrogatepass")  # compare_digest takes text in ASCII only
