"""How often something may happen: a bucket of tokens for each key, filled again at a steady rate.

All is counted in the memory of one process: with several workers, each client may do that often at each of them.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping

import structlog

from gateway.errors import TooMany

# What is limited, each with a row of its own in the configuration, and for each client by itself. A peer is one by its
# proof, over all endpoints; `logins` and `secrets` count what fails: passwords, and credentials of Shares. `repeats`
# counts one credential that fails again and again.
LIMITED = (
    *("discovery", "jwks", "shares", "notifications", "token", "invite_accepted", "request_share", "pages"),
    *("peers", "logins", "secrets", "repeats"),
)
TELL_AGAIN = 60.0  # seconds until the log says again that the same client asks too often

log = structlog.get_logger()


class Allowance:
    """At most `burst` times at once and `rate` times per second, for each key by itself."""

    def __init__(
        self, burst: int, rate: float, *, keys: int = 10_000, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Remember the last `keys` keys; one that is forgotten begins with a full bucket."""
        self._burst = burst
        self._rate = rate
        self._keys = keys
        self._clock = clock
        self._buckets: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()  # tokens, and when that was

    def take(self, key: Hashable) -> float:
        """Take one token and return 0, or return the seconds until there is one."""
        tokens, now = self._tokens(key)
        wait = self._until_one(tokens)
        self._buckets[key] = (tokens if wait else tokens - 1, now)
        self._buckets.move_to_end(key)
        if len(self._buckets) > self._keys:
            self._buckets.popitem(last=False)
        return wait

    def wait(self, key: Hashable) -> float:
        """Return the seconds until there is a token, and take none."""
        return self._until_one(self._tokens(key)[0]) if key in self._buckets else 0.0

    def _tokens(self, key: Hashable) -> tuple[float, float]:
        """Return how many there are now, and the time of now."""
        now = self._clock()
        tokens, then = self._buckets.get(key, (float(self._burst), now))
        return min(self._burst, tokens + (now - then) * self._rate), now

    def _until_one(self, tokens: float) -> float:
        return 0.0 if tokens >= 1 else (1 - tokens) / self._rate


class Limits:
    """The allowances of all that is LIMITED; what has none may happen as often as anybody likes."""

    def __init__(
        self,
        bounds: Mapping[str, tuple[int, float]],
        count: Callable[[str], None] = lambda _name: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`bounds` are the burst and the rate per second of each; `count` hears the name of each that is refused."""
        self._allowances = {name: Allowance(*bound, clock=clock) for name, bound in bounds.items()}
        self._telling = Allowance(1, 1 / TELL_AGAIN, clock=clock)
        self._count = count

    def take(self, name: str, client: Hashable) -> None:
        """Count once of `name` for `client`; raises TooMany when that is more than it may."""
        self._refuse(name, client, allowance.take(client) if (allowance := self._allowances.get(name)) else 0.0)

    def note(self, name: str, client: Hashable) -> None:
        """Count once of `name` for `client`, of what has happened already: nothing is refused."""
        if allowance := self._allowances.get(name):
            allowance.take(client)

    def require(self, name: str, client: Hashable) -> None:
        """Raise TooMany when `client` may do `name` no more now; counts nothing."""
        self._refuse(name, client, self.wait(name, client))

    def wait(self, name: str, client: Hashable) -> float:
        """Return the seconds until `client` may do `name` again."""
        return allowance.wait(client) if (allowance := self._allowances.get(name)) else 0.0

    def _refuse(self, name: str, client: Hashable, wait: float) -> None:
        if not wait:
            return
        self._count(name)
        who = client[0] if isinstance(client, tuple) else client  # what follows could be a credential
        if not self._telling.take((name, who)):
            log.warning("limited", limit=name, client=who, hint=f"allow more under limits.{name}, or block the client")
        raise TooMany("TOO_MANY_REQUESTS", f"{who} asks too often", math.ceil(wait))
