"""How much memory a process holds, and how much more it needs for some work: for tests and the benchmarks."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

SAMPLE_EVERY = 0.01  # seconds


def resident(pid: int) -> int:
    """Return the resident memory of a process in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"process {pid} has no VmRSS")


def memory_growth(pids: list[int], work: Callable[[], object]) -> list[int]:
    """Return by how many bytes the resident memory of each process grows, at its highest, while `work` runs."""
    before = [resident(pid) for pid in pids]
    peaks = list(before)
    done = threading.Event()

    def sample() -> None:
        while not done.wait(SAMPLE_EVERY):
            peaks[:] = [max(peak, resident(pid)) for peak, pid in zip(peaks, pids, strict=True)]

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        work()
    finally:
        done.set()
        sampler.join()
    return [peak - start for peak, start in zip(peaks, before, strict=True)]
