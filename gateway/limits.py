"""How often something may happen: a bucket of tokens for each key, filled again at a steady rate."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable


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
        now = self._clock()
        tokens, then = self._buckets.pop(key, (float(self._burst), now))
        tokens = min(self._burst, tokens + (now - then) * self._rate)
        wait = 0.0 if tokens >= 1 else (1 - tokens) / self._rate
        self._buckets[key] = (tokens if wait else tokens - 1, now)
        if len(self._buckets) > self._keys:
            self._buckets.popitem(last=False)
        return wait
