"""What `make bench` measures, in rounds, and how it shows and judges the ratios.

Every round measures the gateway, each peer, and the gateway once more: the last against the first is the A/A run,
which shows how much of a ratio is noise. A ratio is the peer's time divided by the gateway's: above 1, the gateway
is faster.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from memory import memory_growth

MIB, GIB = 1024**2, 1024**3
MEMORY_GROWTH = 64 * MIB  # less than, while one large file passes in either direction

Measure = Callable[[Any], float]


@dataclass
class Work:
    """One thing that is measured: `measure` returns seconds, for a whole or for one of many.

    `own` and `peers` have a name; own has a process, whose memory is looked at too where that is `bounded`.
    `targets`: by the names of peers, how many times as long they have to take at least.
    """

    name: str
    measure: Measure
    own: Any
    peers: Sequence[Any]
    targets: Mapping[str, float]
    bounded: bool = False
    grown: int = 0  # bytes
    seconds: dict[str, list[float]] = field(default_factory=dict)

    def weigh(self) -> None:
        """Do it once, before it is measured, and note by how much the memory grows."""
        if self.bounded:
            (self.grown,) = memory_growth([self.own.process.pid], lambda: self.measure(self.own))

    def round(self) -> None:
        for name, one in [("own", self.own), *((peer.name, peer) for peer in self.peers), ("A/A", self.own)]:
            self.seconds.setdefault(name, []).append(self.measure(one))

    def ratio(self, other: str) -> float:
        """Return the median of how many times as long `other` took; above 1, the gateway is faster."""
        pairs = zip(self.seconds[other], self.seconds["own"], strict=True)
        return statistics.median(theirs / ours for theirs, ours in pairs)

    def row(self, columns: Sequence[str]) -> str:
        cells = [self._cell(other) for other in (*columns, "A/A")]
        return f"| {self.name} | {' | '.join(cells)} | {_shown(self.seconds['own'])} |"

    def missed(self) -> Iterator[str]:
        """Yield a sentence for each target that was not reached."""
        for peer, least in self.targets.items():
            if not self.ratio(peer) >= least:
                yield f"{self.name} against {peer}: {self.ratio(peer):.3f}, has to be at least {least:.2f}"
        if self.bounded and not self.grown < MEMORY_GROWTH:
            most = MEMORY_GROWTH // MIB
            yield f"memory during {self.name}: {self.grown / MIB:.1f} MiB, has to be less than {most} MiB"

    def _cell(self, other: str) -> str:
        if other not in self.seconds:
            return ""
        least = self.targets.get(other)
        return f"{self.ratio(other):.2f}" + (f" (≥ {least:.2f})" if least is not None else "")


def table(works: Iterable[Work], columns: Sequence[str]) -> str:
    """Return the ratios as a table with these peers, and below how much memory was needed."""
    lines = [f"| work | {' | '.join(columns)} | A/A | ours |", f"|---|{'---|' * (len(columns) + 2)}"]
    lines += [work.row(columns) for work in works]
    grown = [f"{work.grown / MIB:.0f} MiB during {work.name}" for work in works if work.bounded]
    return "\n".join([*lines, "", f"Resident memory grew by {', '.join(grown)}." if grown else ""]).rstrip()


def _shown(seconds: Sequence[float]) -> str:
    median = statistics.median(seconds)
    return f"{1 / median:,.0f}/s" if median < 0.01 else f"{median:.3f} s"
