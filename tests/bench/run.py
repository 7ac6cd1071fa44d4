"""`make bench`: this gateway against its peers, in one run on the same files; prints ratios, never absolutes alone.

Every round measures the gateway, each peer, and the gateway once more: the last against the first is the A/A run,
which shows how much of a ratio is noise. A ratio is the peer's time divided by the gateway's: above 1, the gateway
is faster. The status is not 0 when a target was missed. BENCH_ROUNDS and BENCH_DIR change the number of rounds and
where the files lie; BENCH_ONLY measures the works alone whose names hold that text.
"""

from __future__ import annotations

import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import federation_speed, isolation
from bench.crowd import Crowd, crowd
from bench.servers import AUTHORIZATION, PASSWORD, USER, Apache, Gateway, Nginx, Rclone, Server, WsgiDAV
from memory import memory_growth

MIB, GIB = 1024**2, 1024**3
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "9"))
ONLY = os.environ.get("BENCH_ONLY", "")
SMALL_SECONDS = 3  # of load by small GETs, in each measurement
PROPFIND = (
    '<propfind xmlns="DAV:"><prop><resourcetype/><getcontentlength/><getlastmodified/><getetag/><getcontenttype/>'
    "<displayname/><creationdate/><quota-available-bytes/></prop></propfind>"
)

# Each asks for the next of a hundred files, so that no answer can be kept from the one before.
SMALL_FILES = """
local number = 0
local path = wrk.path
request = function()
  number = (number + 1) % 100
  return wrk.format(nil, path .. number .. ".bin")
end
"""
ONE_PROCESS = "one process"
MEMORY_GROWTH = 64 * MIB  # less than, while 1 GiB passes in either direction
CROWD_MEMORY = 200 * MIB  # at most, in each process, with 500 slow downloads
CROWD_SECONDS = 0.1  # at most, for 99 of 100 listings meanwhile

Measure = Callable[[Server], float]


@dataclass
class Work:
    """One thing that is measured: `measure` returns seconds, for a whole or for one of many.

    `targets`: by the names of peers, how many times as long they have to take at least.
    """

    name: str
    measure: Measure
    own: Server
    peers: Sequence[Server]
    targets: Mapping[str, float]
    seconds: dict[str, list[float]] = field(default_factory=dict)

    def round(self) -> None:
        for name, server in [("own", self.own), *((_name(peer), peer) for peer in self.peers), ("A/A", self.own)]:
            self.seconds.setdefault(name, []).append(self.measure(server))

    def ratio(self, other: str) -> float:
        """Return the median of how many times as long `other` took; above 1, the gateway is faster."""
        pairs = zip(self.seconds[other], self.seconds["own"], strict=True)
        return statistics.median(theirs / ours for theirs, ours in pairs)

    def row(self, columns: Sequence[str]) -> str:
        cells = [self._cell(other) for other in (*columns, "A/A")]
        return f"| {self.name} | {' | '.join(cells)} | {_shown(self.seconds['own'])} |"

    def missed(self) -> list[str]:
        """Return a sentence for each target that was not reached."""
        return [
            f"{self.name} against {peer}: {self.ratio(peer):.3f}, has to be at least {least:.2f}"
            for peer, least in self.targets.items()
            if not self.ratio(peer) >= least
        ]

    def _cell(self, other: str) -> str:
        if other not in self.seconds:
            return ""
        least = self.targets.get(other)
        return f"{self.ratio(other):.2f}" + (f" (≥ {least:.2f})" if least is not None else "")


def _name(server: Server) -> str:
    return ONE_PROCESS if isinstance(server, Gateway) else server.name


def curl(server: Server, path: str, *arguments: str) -> float:
    """Return the seconds that curl needed."""
    command = ["curl", "--silent", "--show-error", "--fail", "--user", f"{USER}:{PASSWORD}", "--output", "/dev/null"]
    command += ["--insecure", "--write-out", "%{time_total}", *arguments, server.url + path]
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
    script = server.directory / "small.lua"
    script.write_text(SMALL_FILES)
    command = ["wrk", "--threads", "1", "--connections", "32", "--duration", f"{SMALL_SECONDS}s"]
    command += ["--script", str(script), "--header", f"Authorization: {AUTHORIZATION}", server.url + "small/"]
    output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    assert "Non-2xx" not in output, output
    rate = next(line for line in output.splitlines() if line.startswith("Requests/sec:"))
    return 1 / float(rate.split()[1])


def list_many(server: Server) -> float:
    return curl(server, "many/", "--request", "PROPFIND", "--header", "Depth: 1", "--data", PROPFIND)


def make_files(data: Path, *, small: bool = True) -> Path:
    data.mkdir(parents=True)
    block = os.urandom(MIB)
    with (data / "large.bin").open("wb") as file:
        for _ in range(GIB // len(block)):
            file.write(block)
    for name, count, content in (("small", 100, block[:4096]), ("many", 10_000, b"x")) if small else ():
        (data / name).mkdir()
        for number in range(count):
            (data / name / f"{number}.bin").write_bytes(content)
    return data


def works(stack: ExitStack, directory: Path, memory: Path) -> list[Work]:
    """Start the servers, on files in `directory` and in memory, and return what is to be measured on them."""

    def start(kind: type[Server], place: str, data: Path, **options: Any) -> Server:
        return stack.enter_context(kind(directory / place, data, **options))

    disk, tmpfs = make_files(directory / "data"), make_files(memory / "data", small=False)
    own = start(Gateway, "own", disk)
    wsgidav, rclone, apache, nginx = (start(kind, kind.name, disk) for kind in (WsgiDAV, Rclone, Apache, Nginx))
    all_peers = [wsgidav, rclone, apache, nginx]
    in_memory = start(Gateway, "own-memory", tmpfs)
    apache_in_memory = start(Apache, "apache-memory", tmpfs)
    tls, rclone_tls = start(Gateway, "own-tls", disk, tls=True), start(Rclone, "rclone-tls", disk, tls=True)
    two = start(Gateway, "own-two", disk, workers=2)
    return [
        Work("GET 1 GiB", get_large, own, all_peers, {"WsgiDAV": 1.0, "rclone": 1.0, "nginx": 1.2}),
        Work("GET 4 KiB, 32 connections", get_small, own, all_peers, {"WsgiDAV": 8.0, "rclone": 1.5}),
        Work("PROPFIND Depth 1, 10,000 entries", list_many, own, all_peers, {"rclone": 1 / 0.7, "Apache": 1.0}),
        Work("PUT 1 GiB, ours with fsync", put_large, own, all_peers, {"WsgiDAV": 1.0, "rclone": 1.3}),
        Work("PUT 1 GiB on tmpfs", put_large, in_memory, [apache_in_memory], {"Apache": 0.8}),
        Work("GET 1 GiB over TLS", get_large, tls, [rclone_tls], {"rclone": 1.5}),
        Work("PUT 1 GiB over TLS", put_large, tls, [rclone_tls], {"rclone": 1.5}),
        Work("GET 4 KiB by two processes", get_small, two, [own], {ONE_PROCESS: 1.7}),
    ]


def run(directory: Path, memory: Path) -> list[str]:
    """Measure, print the table, and return what was missed."""
    with ExitStack() as stack:
        measured = [work for work in works(stack, directory, memory) if ONLY in work.name]
        first = measured[0].own
        growth = {work.name: grown_by(work) for work in measured if work.own is first and "1 GiB" in work.name}
        for work in measured:
            for number in range(ROUNDS):
                work.round()
                print(f"{work.name}: round {number + 1} of {ROUNDS}", file=sys.stderr, flush=True)
        slow = crowd(first, "large.bin", "small/") if not ONLY else None
    report(measured, growth, slow)
    flows = federation_speed.measure(directory / "federation") if not ONLY else []
    print(f"\n{federation_speed.table(flows)}" if flows else "")
    apart_from_dead = apart(directory / "isolation") if not ONLY else []
    return [*missed(measured, growth, slow), *federation_speed.missed(flows), *apart_from_dead]


def apart(directory: Path) -> list[str]:
    """Measure what dead servers cost, print that, and return what was missed."""
    seen = isolation.measure(directory)
    print(f"\n{isolation.table(*seen)}")
    return list(isolation.missed(*seen))


def grown_by(work: Work) -> int:
    """Return by how many bytes the server's memory grows during `work`."""
    (growth,) = memory_growth([work.own.process.pid], lambda: work.measure(work.own))
    return growth


def missed(measured: Iterable[Work], growth: Mapping[str, int], slow: Crowd | None) -> Iterable[str]:
    """Yield a sentence for each target that was not reached."""
    for work in measured:
        yield from work.missed()
    for name, grown in growth.items():
        if not grown < MEMORY_GROWTH:
            yield f"memory during {name}: {grown / MIB:.1f} MiB, has to be less than {MEMORY_GROWTH / MIB:.0f} MiB"
    if slow is not None and slow.resident > CROWD_MEMORY:
        yield f"memory with slow downloads: {slow.resident / MIB:.0f} MiB, has to be at most {CROWD_MEMORY / MIB:.0f}"
    if slow is not None and slow.listing > CROWD_SECONDS:
        yield f"a listing beside slow downloads: {slow.listing:.3f} s, has to be at most {CROWD_SECONDS} s"


def report(measured: Sequence[Work], growth: Mapping[str, int], slow: Crowd | None) -> None:
    machine = f"{os.cpu_count()} cores, {platform.system()} {platform.release()}, Python {platform.python_version()}"
    when = f"{datetime.now(UTC):%Y-%m-%d}, {machine}"
    columns = ["WsgiDAV", "rclone", "Apache", "nginx", ONE_PROCESS]
    print(f"\n{when}, medians of {ROUNDS} interleaved rounds; above 1: we are faster; in brackets: the target.\n")
    print(f"| work | {' | '.join(columns)} | A/A | ours |")
    print(f"|---|{'---|' * (len(columns) + 2)}")
    for work in measured:
        print(work.row(columns))
    for name, size in growth.items():
        print(f"\nResident memory grew by {size / MIB:.0f} MiB during {name}.")
    if slow is not None:
        print(
            f"\nWith {slow.clients} downloads at {slow.rate / 1024:.0f} KiB/s each, {slow.resident / MIB:.0f} MiB were "
            f"resident, and 99 of 100 listings took at most {slow.listing * 1000:.0f} ms."
        )


def _shown(seconds: Sequence[float]) -> str:
    median = statistics.median(seconds)
    return f"{1 / median:,.0f}/s" if median < 0.01 else f"{median:.3f} s"


def main() -> None:
    for tool in ("curl", "wrk"):
        if not shutil.which(tool):
            sys.exit(f"make bench needs {tool}: apt-get install {tool}")
    begun = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="ocm-bench-", dir=os.environ.get("BENCH_DIR")) as directory,
        tempfile.TemporaryDirectory(prefix="ocm-bench-", dir="/dev/shm") as memory,
    ):
        sentences = run(Path(directory), Path(memory))
    print(f"\nThe whole run took {time.monotonic() - begun:.0f} s.", flush=True)
    if sentences:
        sys.exit("\n".join(["Targets missed:", *sentences]))


if __name__ == "__main__":
    main()
