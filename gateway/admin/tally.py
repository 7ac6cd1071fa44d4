"""How many requests were answered, and in what time: counted by every worker, added up by whoever is asked.

Each worker has a row of numbers in anonymous memory that fork(2) shares, writes only that, and from its event loop
alone; so counting takes no lock. A replaced worker goes on in the row of the one before, so nothing that was counted
is lost. (prometheus_client's own way for several processes maps files: counting would then wait for a busy disk.)
"""

from __future__ import annotations

import mmap
from bisect import bisect_left
from collections.abc import Callable, Iterator
from itertools import product

from prometheus_client import Histogram
from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.legacy import Way
from gateway.limits import LIMITED

DOORS = ("ocm", "files", "well-known", "api", "web", "upstream")
METHODS = (
    *("GET", "HEAD", "PUT", "POST", "OPTIONS", "PROPFIND", "PROPPATCH"),
    *("MKCOL", "DELETE", "COPY", "MOVE", "LOCK", "UNLOCK"),
    "OTHER",  # anything else, so that a client cannot invent labels
)
STATUSES = range(100, 600)  # what HTTP knows (RFC 9110 §15)
BUCKETS = Histogram.DEFAULT_BUCKETS  # seconds; the last one takes everything

# By metric: its words, its label, and by what the door counts the label's value
SSH_METRICS = {
    "ocm_gateway_ssh_logins": ("Log-ins by SSH", "outcome", {"logins": "accepted", "logins_refused": "refused"}),
    "ocm_gateway_ssh_sessions": ("Sessions by SSH", "protocol", {"sessions_sftp": "sftp", "sessions_scp": "scp"}),
    "ocm_gateway_ssh_bytes": ("Content by SSH", "direction", {"bytes_read": "read", "bytes_written": "written"}),
}
_SSH = {what: place for place, what in enumerate(what for *_, values in SSH_METRICS.values() for what in values)}

_DOOR = {door: number for number, door in enumerate(DOORS)}
_OTHER = len(METHODS) - 1
_METHOD = {method: number for number, method in enumerate(METHODS)}
_COUNTS = len(DOORS) * len(METHODS) * len(STATUSES)
_TIMES = len(BUCKETS) + 1  # a door's buckets, then the sum of its times
_REFUSED = _COUNTS + len(DOORS) * _TIMES
_ROW = _REFUSED + len(LIMITED)
_BYTES = 8  # of a double
_WAY = {way.value: place for place, way in enumerate(Way)}


class Uses(Collector):
    """How often each legacy way was used, in memory that all workers share; make it before they are."""

    def __init__(self, workers: int) -> None:
        memory = memoryview(mmap.mmap(-1, workers * len(Way) * _BYTES)).cast("d")
        self._rows = [memory[number * len(Way) : (number + 1) * len(Way)] for number in range(workers)]

    def counter(self, worker: int) -> Callable[[str], None]:
        """Return what counts a use by `worker` of the way that it is given."""

        def count(way: str) -> None:
            self._rows[worker][_WAY[way]] += 1

        return count

    def collect(self) -> Iterator[Metric]:
        """Yield the sums, also of what was never used: that is what an operator wants to see."""
        uses = CounterMetricFamily(
            "ocm_gateway_legacy_uses", "Uses of ways that federation.legacy may close", labels=("way",)
        )
        for way, place in _WAY.items():
            uses.add_metric((way,), sum(row[place] for row in self._rows))
        yield uses


class SshCounts(Collector):
    """What goes on at the SSH door, in memory that all workers share; make it before they are."""

    def __init__(self, workers: int) -> None:
        memory = memoryview(mmap.mmap(-1, workers * len(_SSH) * _BYTES)).cast("d")
        self._rows = [memory[number * len(_SSH) : (number + 1) * len(_SSH)] for number in range(workers)]

    def counter(self, worker: int) -> Callable[[str, int], None]:
        """Return what counts so much of what it is given the name of, as SSH_METRICS has it."""

        def count(what: str, much: int) -> None:
            self._rows[worker][_SSH[what]] += much

        return count

    def collect(self) -> Iterator[Metric]:
        """Yield the sums; nothing while nothing was counted, as where there is no such door."""
        if not any(map(any, self._rows)):
            return
        for name, (words, label, values) in SSH_METRICS.items():
            metric = CounterMetricFamily(name, words, labels=(label,))
            for what, value in values.items():
                metric.add_metric((value,), sum(row[_SSH[what]] for row in self._rows))
            yield metric


class Tally(Collector):
    """The numbers of all workers; make it before they are."""

    def __init__(self, workers: int = 1) -> None:
        memory = memoryview(mmap.mmap(-1, workers * _ROW * _BYTES)).cast("d")
        self._rows = [memory[number * _ROW : (number + 1) * _ROW] for number in range(workers)]
        self.ways = Uses(workers)
        self.ssh = SshCounts(workers)

    def count(self, worker: int, door: str, method: str, status: int, seconds: float) -> None:
        """Count one answer of `worker`; `door` is one of DOORS, and a status out of STATUSES counts as the nearest."""
        row, place = self._rows[worker], _DOOR[door]
        row[(place * len(METHODS) + _METHOD.get(method, _OTHER)) * len(STATUSES) + _status_at(status)] += 1
        times = _COUNTS + place * _TIMES
        row[times + bisect_left(BUCKETS, seconds)] += 1
        row[times + len(BUCKETS)] += seconds

    def count_limited(self, worker: int, limit: str) -> None:
        """Count one refusal of `worker`; `limit` is one of LIMITED."""
        self._rows[worker][_REFUSED + LIMITED.index(limit)] += 1

    def collect(self) -> Iterator[Metric]:
        """Yield the sums, as prometheus_client asks for them; what was never counted is left out."""
        requests = CounterMetricFamily("ocm_gateway_requests", "Requests answered", labels=("door", "method", "status"))
        seconds = HistogramMetricFamily(
            "ocm_gateway_request_seconds", "Time from request to the end of its answer", labels=("door",)
        )
        for place, (door, method) in enumerate(product(DOORS, METHODS)):
            for status, counted in zip(STATUSES, self._sums(place * len(STATUSES), len(STATUSES)), strict=False):
                if counted:
                    requests.add_metric((door, method, str(status)), counted)
        for place, door in enumerate(DOORS):
            if times := self._sums(_COUNTS + place * _TIMES, _TIMES):
                seconds.add_metric((door,), list(_buckets(times)), times[-1])
        limited = CounterMetricFamily(
            "ocm_gateway_limited", "Requests refused because their client asked too often", labels=("endpoint",)
        )
        for place, limit in enumerate(LIMITED):
            if refused := self._sums(_REFUSED + place, 1):
                limited.add_metric((limit,), refused[0])
        yield from (requests, seconds, limited, *self.ways.collect(), *self.ssh.collect())

    def _sums(self, start: int, length: int) -> list[float]:
        """Add up so many numbers of all workers; empty when nobody has counted there, which most do not."""
        parts = [row[start : start + length] for row in self._rows]
        counted = [part for part in parts if part.tobytes() != bytes(part.nbytes)]
        return [sum(numbers) for numbers in zip(*counted, strict=True)]


def _status_at(status: int) -> int:
    return min(max(status, STATUSES.start), STATUSES[-1]) - STATUSES.start


def _buckets(times: list[float]) -> Iterator[tuple[str, float]]:
    """Yield each bucket with what it and those before it hold."""
    held = 0.0
    for bound, counted in zip(BUCKETS, times[:-1], strict=True):
        held += counted
        yield "+Inf" if bound == float("inf") else str(bound), held
