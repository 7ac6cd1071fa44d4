"""`make bench`: this gateway against its peers, in one run on the same files; prints ratios, never absolutes alone.

The status is not 0 when a target was missed. BENCH_ROUNDS and BENCH_DIR change the number of rounds and where the
files lie; BENCH_ONLY measures the works alone whose names hold that text.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import door, federation_speed, isolation, ssh, storage
from bench.crowd import Crowd, crowd
from bench.servers import AUTHORIZATION, Apache, Gateway, Nginx, Rclone, Server, WsgiDAV
from bench.work import GIB, MIB, Work, table

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "9"))
ONLY = os.environ.get("BENCH_ONLY", "")
SMALL_SECONDS = 3  # of load by small GETs, in each measurement

# Each asks for the next of a hundred files, so that no answer can be kept from the one before.
SMALL_FILES = """
local number = 0
local path = wrk.path
request = function()
  number = (number + 1) % 100
  return wrk.format(nil, path .. number .. ".bin")
end
"""
CROWD_MEMORY = 200 * MIB  # at most, in each process, with 500 slow downloads
CROWD_SECONDS = 0.1  # at most, for 99 of 100 listings meanwhile
COLUMNS = ("WsgiDAV", "rclone", "Apache", "nginx", Gateway.name)


def get_large(server: Server) -> float:
    return door.get(server, "large.bin")


def put_large(server: Server) -> float:
    """Upload a new file of 1 GiB; what earlier measurements left to be written is on the disk first."""
    target = server.data / f"upload-{server.directory.name}.bin"
    target.unlink(missing_ok=True)
    os.sync()
    seconds = door.put(server, target.name, server.data / "large.bin")
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
    return door.propfind(server, "many/")


def make_large(file: Path) -> None:
    block = os.urandom(MIB)
    with file.open("wb") as target:
        for _ in range(GIB // len(block)):
            target.write(block)


def make_files(data: Path, *, small: bool = True) -> Path:
    data.mkdir(parents=True)
    make_large(data / "large.bin")
    for name, count, content in (("small", 100, os.urandom(4096)), ("many", 10_000, b"x")) if small else ():
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
        Work("GET 1 GiB", get_large, own, all_peers, {"WsgiDAV": 1.0, "rclone": 1.0, "nginx": 1.2}, bounded=True),
        Work("GET 4 KiB, 32 connections", get_small, own, all_peers, {"WsgiDAV": 8.0, "rclone": 1.5}),
        Work("PROPFIND Depth 1, 10,000 entries", list_many, own, all_peers, {"rclone": 1 / 0.7, "Apache": 1.0}),
        Work("PUT 1 GiB, ours with fsync", put_large, own, all_peers, {"WsgiDAV": 1.0, "rclone": 1.3}, bounded=True),
        Work("PUT 1 GiB on tmpfs", put_large, in_memory, [apache_in_memory], {"Apache": 0.8}),
        Work("GET 1 GiB over TLS", get_large, tls, [rclone_tls], {"rclone": 1.5}),
        Work("PUT 1 GiB over TLS", put_large, tls, [rclone_tls], {"rclone": 1.5}),
        Work("GET 4 KiB by two processes", get_small, two, [own], {Gateway.name: 1.7}),
    ]


def run(directory: Path, memory: Path) -> list[str]:
    """Measure, print the tables, and return what was missed."""
    print(heading())
    sentences = beside_servers(directory, memory)
    sentences += by_ssh(directory / "ssh", memory / "ssh")
    sentences += in_front_of_storage(directory / "storage", memory / "storage")
    if ONLY:
        return sentences
    flows = federation_speed.measure(directory / "federation")
    print(f"\n{federation_speed.table(flows)}")
    seen = isolation.measure(directory / "isolation")
    print(f"\n{isolation.table(*seen)}")
    return [*sentences, *federation_speed.missed(flows), *isolation.missed(*seen)]


def beside_servers(directory: Path, memory: Path) -> list[str]:
    """Measure what other WebDAV servers do as well."""
    with ExitStack() as stack:
        measured = in_rounds(works(stack, directory, memory))
        slow = crowd(measured[0].own, "large.bin", "small/") if not ONLY else None
    print(f"\n{table(measured, COLUMNS)}" if measured else "")
    print(f"\n{told(slow)}" if slow else "")
    return list(missed(measured, slow))


def by_ssh(directory: Path, memory: Path) -> list[str]:
    """Measure what other SFTP servers do as well, and many sessions at once."""
    memory.mkdir()
    large = memory / "large.bin"
    make_large(large)
    with ExitStack() as stack:
        sides = ssh.Sides(stack, directory, memory / "served", large)
        measured = in_rounds(sides.works())
        seen = ssh.together(sides) if not ONLY else None
    large.unlink()
    print(f"\n{table(measured, ssh.COLUMNS)}" if measured else "")
    print(f"\n{seen.told()}" if seen else "")
    return [*missed(measured, None), *(seen.missed() if seen else ())]


def in_front_of_storage(directory: Path, memory: Path) -> list[str]:
    """Measure what other clients of the same storage do as well."""
    with ExitStack() as stack:
        measured = in_rounds(storage.works(stack, directory, memory))
    print(f"\n{table(measured, storage.COLUMNS)}" if measured else "")
    return list(missed(measured, None))


def in_rounds(chosen: Iterable[Work]) -> list[Work]:
    measured = [work for work in chosen if ONLY in work.name]
    for work in measured:
        work.weigh()
    for work in measured:
        for number in range(ROUNDS):
            work.round()
            print(f"{work.name}: round {number + 1} of {ROUNDS}", file=sys.stderr, flush=True)
    return measured


def missed(measured: Iterable[Work], slow: Crowd | None) -> Iterator[str]:
    """Yield a sentence for each target that was not reached."""
    for work in measured:
        yield from work.missed()
    if slow is not None and slow.resident > CROWD_MEMORY:
        yield f"memory with slow downloads: {slow.resident / MIB:.0f} MiB, has to be at most {CROWD_MEMORY / MIB:.0f}"
    if slow is not None and slow.listing > CROWD_SECONDS:
        yield f"a listing beside slow downloads: {slow.listing:.3f} s, has to be at most {CROWD_SECONDS} s"


def heading() -> str:
    machine = f"{os.cpu_count()} cores, {platform.system()} {platform.release()}, Python {platform.python_version()}"
    when = f"{datetime.now(UTC):%Y-%m-%d}, {machine}"
    return f"\n{when}, medians of {ROUNDS} interleaved rounds; above 1: we are faster; in brackets: the target."


def told(slow: Crowd) -> str:
    return (
        f"With {slow.clients} downloads at {slow.rate / 1024:.0f} KiB/s each, {slow.resident / MIB:.0f} MiB were "
        f"resident, and 99 of 100 listings took at most {slow.listing * 1000:.0f} ms."
    )


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
