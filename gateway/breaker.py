"""When to stop asking a server that does not answer: a circuit breaker for each, shared by every way we talk to it.

Closed: calls pass. Open: they are refused at once, so that nobody waits for a server that is known to be silent. When
its time is over, one call passes as a probe (half-open); its answer closes the breaker, another silence opens it for
longer. Any answer counts, also a refusal: this is about silence, not about being right.

The memory is each process's own and ends with it: what a new process does not know costs it one wait of `PATIENCE`,
while a state that all shared would cost a transaction for every call to every server.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

from gateway.errors import PeerFailed

PATIENCE = 5.0  # seconds that a request of a user waits for a first sign of life
HANG = 4.0  # seconds; a call that was silent for so long opens the breaker alone: the next would be as slow
FAILURES = 3  # in a row, however quick, open it too
OPEN = (5, 15, 30, 60)  # seconds, the last again and again
PROBE_TIME = 30.0  # seconds after which a probe that nobody has reported on counts no more
KEPT = 1000  # servers that have failed; anybody can name hosts that do not answer

Stopwatch = Callable[[], float]


class BreakerState(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(frozen=True, slots=True)
class Standing:
    """How a server stands; times are in seconds since the epoch, None where all is well."""

    state: BreakerState = BreakerState.CLOSED
    failures: int = 0  # in a row
    since: int | None = None  # when it failed first after its last answer
    retry: int | None = None  # when the next call passes
    reason: str | None = None


@dataclass(slots=True)
class _Breaker:
    """One server that has failed since its last answer."""

    since: float
    failures: int = 0
    opened: int = 0  # times in a row
    until: float = 0.0
    probing: float | None = None  # since when a probe is out, by the stopwatch
    reason: str = ""


WELL = Standing()


class Breakers:
    """The breakers of all servers, by host[:port]; safe for several threads."""

    def __init__(self, clock: Callable[[], float] = time.time, stopwatch: Stopwatch = time.monotonic) -> None:
        """`clock` says when a breaker opens and closes; `stopwatch` how long a call has taken."""
        self._clock = clock
        self._stopwatch = stopwatch
        self._lock = threading.Lock()
        self._failing: dict[str, _Breaker] = {}  # in the order of their last failure
        self._returned: list[Callable[[str], object]] = []

    def when_returned(self, tell: Callable[[str], object]) -> None:
        """Have `tell` called, in whatever thread, with each server that answers after its breaker was open."""
        self._returned.append(tell)

    @contextmanager
    def call(self, server: str) -> Iterator[None]:
        """Let the block call `server`, and note whether that answers.

        PeerFailed with the code PEER_UNREACHABLE, or TimeoutError, out of the block is silence; anything else came
        after an answer. Raises PeerFailed at once, with `retry_after`, while the breaker is open.
        """
        self.admit(server)
        begun = self._stopwatch()
        try:
            yield
        except TimeoutError:
            self.silent(server, "no answer in time", self._stopwatch() - begun)
            raise
        except PeerFailed as error:
            if error.code == "PEER_UNREACHABLE":
                self.silent(server, str(error), self._stopwatch() - begun)
            else:
                self.answered(server)
            raise
        except Exception:  # whatever we make of it, it was an answer
            self.answered(server)
            raise
        except BaseException:
            self._given_up(server)
            raise
        self.answered(server)

    def admit(self, server: str) -> None:
        """Return if a call may pass; the caller reports how it went. Raises PeerFailed while the breaker is open."""
        with self._lock:
            breaker = self._failing.get(server)
            if breaker is None or not breaker.opened:
                return
            wait = breaker.until - self._clock()
            probing = breaker.probing is not None and self._stopwatch() - breaker.probing < PROBE_TIME
            if wait <= 0 and not probing:
                breaker.probing = self._stopwatch()
                return
            raise _unreachable(server, breaker, wait)

    def answered(self, server: str) -> None:
        """Note any answer of `server`."""
        if server not in self._failing:  # nearly always; no lock for that
            return
        with self._lock:
            breaker = self._failing.pop(server, None)
        if breaker is not None and breaker.opened:
            for tell in self._returned:
                tell(server)

    def silent(self, server: str, reason: str, seconds: float) -> None:
        """Note that `server` gave no answer, for `seconds`."""
        with self._lock:
            breaker = self._failing.pop(server, None) or _Breaker(since=self._clock())
            self._failing[server] = breaker
            breaker.failures += 1
            breaker.reason = reason
            breaker.probing = None
            is_open = breaker.until > self._clock()  # a call that began before it opened
            if (breaker.opened or seconds >= HANG or breaker.failures >= FAILURES) and not is_open:
                breaker.until = self._clock() + OPEN[min(breaker.opened, len(OPEN) - 1)]
                breaker.opened += 1
            if len(self._failing) > KEPT:
                del self._failing[next(iter(self._failing))]

    def standing(self, server: str) -> Standing:
        """Return how `server` stands now."""
        with self._lock:
            breaker = self._failing.get(server)
            if breaker is None:
                return WELL
            state, retry = BreakerState.CLOSED, None
            if breaker.opened:
                waits = breaker.until > self._clock()
                state = BreakerState.OPEN if waits else BreakerState.HALF_OPEN
                retry = int(breaker.until) if waits else None
            return Standing(state, breaker.failures, int(breaker.since), retry, breaker.reason)

    def count(self) -> dict[BreakerState, int]:
        """Return how many servers are in each state, those that never failed left out."""
        with self._lock:
            servers = list(self._failing)
        found = [self.standing(server).state for server in servers]
        return {state: found.count(state) for state in BreakerState}

    def forget(self, server: str) -> None:
        """Let the next call pass, as for a server that has never failed."""
        with self._lock:
            self._failing.pop(server, None)

    def _given_up(self, server: str) -> None:
        """A probe was cancelled and says nothing: the next call is one."""
        with self._lock:
            if breaker := self._failing.get(server):
                breaker.probing = None


def _unreachable(server: str, breaker: _Breaker, wait: float) -> PeerFailed:
    retry_after = max(1, int(wait + 0.999))
    sentence = f"{server} does not answer ({breaker.reason}); it is asked again in {retry_after} s"
    return PeerFailed("PEER_UNREACHABLE", sentence, retry_after=retry_after)
