"""`make bench`: this gateway against its peers, in one run on the same files; prints ratios, never absolutes alone.

Every round measures the gateway, each peer, and the gateway once more: the last against the first is the A/A run,
which shows how much of a ratio is noise. A ratio is the peer's time divided by the gateway's: above 1, the gateway
is faster. The status is not 0 when a target was missed. BENCH_ROUNDS and BENCH_DIR change the number of rounds and
where the files lie.
"""

from __future__ import annotations

import math
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.servers import PASSWORD, USER, Gateway, Rclone, Server, WsgiDAV
from memory import memory_growth

MIB, GIB = 1024**2, 1024**3
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "9"))
SMALL_SECONDS = 3  # of load by small GETs, in each measurement
PROPFIND = (
    '<propfind xmlns="DAV:"><prop><resourcetype/><getcontentlength/><getlastmodified/><getetag/><getcontenttype/>'
    "<displayname/><creationdate/><quota-available-bytes/></prop></propfind>"
)

GET_LARGE, PUT_LARGE = "GET 1 GiB", "PUT 1 GiB (ours with fsync)"

# What has to be reached: the ratio against each peer, and bytes of memory.
FASTER_THAN_PEERS = {GET_LARGE: 1.0, PUT_LARGE: 1.0}  # at least
MEMORY_GROWTH = {GET_LARGE: 64 * MIB, PUT_LARGE: 64 * MIB}  # less than


@dataclass
class Work:
    """One thing that is measured: `measure` returns seconds, for a whole or for one of many."""

    name: str
    measure: Callable[[Server], float]
    seconds: dict[str, list[float]] = field(default_factory=dict)

    def ratio(self, other: str) -> float:
        """Return the median of how many times as long `other` took; above 1, the gateway is faster."""
        pairs = zip(self.seconds[other], self.seconds[Gateway.name], strict=True)
        return statistics.median(theirs / ours for theirs, ours in pairs)

    def row(self, peers: Sequence[str]) -> str:
        cells = [self.ratio(other) for other in (*peers, "A/A")]
        own = _shown(self.seconds[Gateway.name])
        return f"| {self.name} | {' | '.join(f'{cell:.2f}' for cell in cells)} | {own} |"


def curl(server: Server, path: str, *arguments: str) -> float:
    """Return the seconds that curl needed."""
    command = ["curl", "--silent", "--show-error", "--fail", "--user", f"{USER}:{PASSWORD}", "--output", "/dev/null"]
    command += ["--write-out", "%{time_total}", *arguments, server.url + path]
    return float(subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout)


def get_large(server: Server) -> float:
    return curl(server, "large.bin")


def put_large(server: Server) -> float:
    """Upload a new file of 1 GiB; what earlier measurements left to be written is on the disk first."""
    target = server.data / f"upload-{server.name}.bin"
    target.unlink(missing_ok=True)
    os.sync()
    seconds = curl(server, target.name, "--upload-file", str(server.data / "large.bin"))
    assert target.stat().st_size == GIB, f"{server.name} has stored another size"
    target.unlink()
    return seconds


def get_small(server: Server) -> float:
    """Return the seconds per GET of 4 KiB, over 32 connections."""
    authorization = "Authorization: Basic " + _basic()
    command = ["wrk", "--threads", "1", "--connections", "32", "--duration", f"{SMALL_SECONDS}s"]
    command += ["--header", authorization, server.url + "small/17.bin"]
    output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    assert "Non-2xx" not in output, output
    rate = next(line for line in output.splitlines() if line.startswith("Requests/sec:"))
    return 1 / float(rate.split()[1])


def list_many(server: Server) -> float:
    return curl(server, "many/", "--request", "PROPFIND", "--header", "Depth: 1", "--data", PROPFIND)


def make_files(data: Path) -> None:
    data.mkdir()
    block = os.urandom(1024 * 1024)
    with (data / "large.bin").open("wb") as file:
        for _ in range(GIB // len(block)):
            file.write(block)
    for name, count, content in (("small", 100, block[:4096]), ("many", 10_000, b"x")):
        (data / name).mkdir()
        for number in range(count):
            (data / name / f"{number}.bin").write_bytes(content)


def missed(works: Sequence[Work], peers: Sequence[str], growth: Mapping[str, int]) -> list[str]:
    """Return a sentence for each target that was not reached; one that was not measured is not reached."""
    measured = {work.name: work for work in works}
    sentences = []
    for name, least in FASTER_THAN_PEERS.items():
        for peer in peers:
            ratio = measured[name].ratio(peer) if name in measured else math.nan
            if not ratio >= least:
                sentences.append(f"{name} against {peer}: {ratio:.3f}, has to be at least {least:.2f}")
    for name, limit in MEMORY_GROWTH.items():
        grown = growth.get(name, math.nan)
        if not grown < limit:
            sentences.append(f"memory during {name}: {grown / MIB:.1f} MiB, has to be less than {limit / MIB:.0f} MiB")
    return sentences


def run(directory: Path) -> list[str]:
    """Measure, print the table, and return what was missed."""
    data = directory / "data"
    make_files(data)
    works = [
        Work(GET_LARGE, get_large),
        Work("GET 4 KiB, 32 connections", get_small),
        Work(PUT_LARGE, put_large),
        Work("PROPFIND Depth 1, 10,000 entries", list_many),
    ]
    with ExitStack() as stack:
        gateway = stack.enter_context(Gateway(directory / "gateway", data))
        peers = [stack.enter_context(kind(directory / kind.name, data)) for kind in (WsgiDAV, Rclone)]
        growth = {work.name: grown_by(gateway, work) for work in works if work.name in MEMORY_GROWTH}
        for work in works:
            for number in range(ROUNDS):
                measure_round(work, gateway, peers)
                print(f"{work.name}: round {number + 1} of {ROUNDS}", file=sys.stderr, flush=True)
    names = [peer.name for peer in peers]
    report(works, names, growth)
    return missed(works, names, growth)


def grown_by(server: Server, work: Work) -> int:
    """Return by how many bytes the server's memory grows during `work`."""
    (growth,) = memory_growth([server.process.pid], lambda: work.measure(server))
    return growth


def measure_round(work: Work, gateway: Server, peers: Sequence[Server]) -> None:
    for name, server in [(gateway.name, gateway), *((peer.name, peer) for peer in peers), ("A/A", gateway)]:
        work.seconds.setdefault(name, []).append(work.measure(server))


def report(works: Sequence[Work], peers: Sequence[str], growth: Mapping[str, int]) -> None:
    machine = f"{os.cpu_count()} cores, {platform.system()} {platform.release()}, Python {platform.python_version()}"
    when = f"{datetime.now(UTC):%Y-%m-%d}, {machine}"
    print(f"\n{when}, medians of {ROUNDS} interleaved rounds; above 1: we are faster.\n")
    print(f"| work | {' | '.join(f'against {peer}' for peer in peers)} | A/A | ours |")
    print(f"|---|{'---|' * (len(peers) + 2)}")
    for work in works:
        print(work.row(peers))
    for name, size in growth.items():
        print(f"\nResident memory grew by {size / MIB:.0f} MiB during {name}.")


def _shown(seconds: Sequence[float]) -> str:
    median = statistics.median(seconds)
    return f"{1 / median:,.0f}/s" if median < 0.01 else f"{median:.3f} s"


def _basic() -> str:
    from base64 import b64encode

    return b64encode(f"{USER}:{PASSWORD}".encode()).decode()


def main() -> None:
    for tool in ("curl", "wrk"):
        if not shutil.which(tool):
            sys.exit(f"make bench needs {tool}: apt-get install {tool}")
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="ocm-bench-", dir=os.environ.get("BENCH_DIR")) as directory:
        sentences = run(Path(directory))
    print(f"\nThe whole run took {time.monotonic() - begun:.0f} s.", flush=True)
    if sentences:
        sys.exit("\n".join(["Targets missed:", *sentences]))


if __name__ == "__main__":
    main()
