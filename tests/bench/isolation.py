"""What dead servers and backends cost everybody else, and how soon a server that returns has all its messages.

Each figure is a ratio of two 99th percentiles over the same requests: with two more servers that are dead, and with two
more that answer, which users ask as often. The A/A run, answering ones again, shows how much of it is noise. Backends
that hang are in `hung_backends.py`.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import hung_backends
from bench.beside import Isolation, compare, load, reads
from bench.many_peers import document
from bench.servers import PASSWORD, USER
from parts import CHEAP, received
from sites import Site
from sqlalchemy import Connection

from gateway.store import outbox, peers, received_shares, users
from gateway.store.engine import Store
from gateway.store.sealing import Sealer, key_file, secret_hash

PEERS = 50
BEYOND_NOISE = 1.05  # times the A/A run, at most
MESSAGES = 10_000
MESSAGE_SECONDS = 300.0  # at most, for all of them
OTHERS = 20  # servers that get one message each meanwhile
OTHERS_SECONDS = 5.0  # at most, for the slowest of those


@dataclass(frozen=True)
class Backlog:
    """Seconds until all messages were delivered, and until each of the other servers had its own."""

    seconds: float
    others: float
    in_order: bool


def measure(directory: Path) -> tuple[list[Isolation], Backlog]:
    """Run all measurements in new sites below `directory`."""
    isolations = [
        many_peers(directory / "many"),
        two_and_a_blackhole(directory / "two"),
        *hung_backends.measure(directory / "backends"),
    ]
    return isolations, backlog(directory / "backlog")


def missed(isolations: Sequence[Isolation], late: Backlog) -> Iterator[str]:
    """Yield a sentence for each target that was not reached."""
    for each in isolations:
        allowed = BEYOND_NOISE * max(1.0, each.noise)
        if each.ratio > allowed:
            yield f"{each.name}: p99 is {each.ratio:.2f} times as long, may be {allowed:.2f} times"
    if late.seconds > MESSAGE_SECONDS:
        yield f"{MESSAGES:,} messages took {late.seconds:.0f} s, may take {MESSAGE_SECONDS:.0f} s"
    if late.others > OTHERS_SECONDS:
        yield f"messages to others took {late.others:.1f} s beside them, may take {OTHERS_SECONDS:.0f} s"
    if not late.in_order:
        yield "messages of a Share arrived twice or out of order"


def table(isolations: Sequence[Isolation], late: Backlog) -> str:
    lines = ["| p99 of everything else | with dead ones | A/A | ours |", "|---|---|---|---|"]
    lines += [
        f"| {each.name} | {each.ratio:.2f} | {each.noise:.2f} | {each.milliseconds:.1f} ms |" for each in isolations
    ]
    lines += [
        "",
        f"{MESSAGES:,} messages to a server that returned were delivered in {late.seconds:.0f} s, each once and",
    ]
    lines += [f"in the order of its Share; {OTHERS} other servers had theirs after {late.others:.1f} s at most."]
    return "\n".join(lines)


# --- what is measured -----------------------------------------------------------------------------------------------


def many_peers(directory: Path) -> Isolation:
    """50 peers, of which one hangs and one refuses."""
    with ExitStack() as stack:
        ports, hanging, refusing = _peers(stack, PEERS), _hanging(stack), _refusing()
        good, spare = ports[:-2], ports[-2:]
        site = _site(directory, [*ports, hanging, refusing])
        stack.enter_context(site)
        paths = [
            "home/local.bin",
            "received/",
            *(f"received/{port}/1.bin" for port in good[:8]),
            f"received/{good[8]}/",
        ]
        return _compare(f"{PEERS} peers, one hangs, one refuses", site, paths, (hanging, refusing), spare)


def two_and_a_blackhole(directory: Path) -> Isolation:
    """A gateway, another server, and a third whose packets vanish."""
    with ExitStack() as stack:
        good, spare = _peers(stack, 2)
        third = _blackhole(stack)
        site = _site(directory, [good, spare, third])
        stack.enter_context(site)
        paths = ["home/local.bin", "received/", f"received/{good}/1.bin", f"received/{good}/"]
        return _compare("two servers and a blackholed third", site, paths, (third,), (spare,))


def backlog(directory: Path) -> Backlog:
    """A server that returns to 10,000 messages, and others that get theirs meanwhile."""
    with ExitStack() as stack:
        with _many_peers(1 + OTHERS) as (ports, process):
            returned, *others = ports
            site = _site(directory, [])
            shares = [f"{returned}-{number}" for number in range(MESSAGES // 2)]
            _queue(site, returned, shares, ("SHARE_ACCEPTED", "SHARE_DECLINED"))
            begun = time.monotonic()
            stack.enter_context(site)
            _wait(site, MESSAGES * 9 // 10)
            _queue(site, others, [f"{port}-0" for port in others], ("SHARE_ACCEPTED",))
            asked = time.monotonic()
            site.json("outbox", "retry", "--server", f"localhost:{others[0]}")  # wakes the worker, as a use case does
            late = _wait(site, 0, others) - asked
            seconds = _wait(site, 0) - begun
            told = json.loads(process.communicate()[0])
        notes: list[list[str]] = told[str(returned)]
        by_share: dict[str, list[str]] = {}
        for share, kind in notes:
            by_share.setdefault(share, []).append(kind)
        in_order = all(kinds == ["SHARE_ACCEPTED", "SHARE_DECLINED"] for kinds in by_share.values())
        return Backlog(seconds, late, in_order and len(by_share) == len(shares))


def _compare(name: str, site: Site, paths: Sequence[str], dead: Sequence[int], spare: Sequence[int]) -> Isolation:
    """Compare requests for `paths` beside dead servers with the same beside spare ones."""

    def beside(ports: Sequence[int]) -> float:
        return load(site, reads(paths), reads([f"received/{port}/1.bin" for port in ports]))

    return compare(name, partial(beside, spare), partial(beside, dead))


# --- what it is measured on -----------------------------------------------------------------------------------------


def _peers(stack: ExitStack, count: int) -> list[int]:
    ports, _ = stack.enter_context(_many_peers(count))
    return ports


@contextmanager
def _many_peers(count: int) -> Iterator[tuple[list[int], subprocess.Popen[str]]]:
    command = [sys.executable, str(Path(__file__).with_name("many_peers.py")), str(count)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline()), process
        process.kill()


def _hanging(stack: ExitStack) -> int:
    """Return a port where the kernel takes connections and nobody ever reads."""
    listener = stack.enter_context(closing(socket.create_server(("127.0.0.1", 0), backlog=4096)))
    return int(listener.getsockname()[1])


def _refusing() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        return int(listener.getsockname()[1])


def _blackhole(stack: ExitStack) -> int:
    """Return a port that swallows what comes: its backlog is full, so the kernel drops every SYN."""
    listener = stack.enter_context(closing(socket.create_server(("127.0.0.1", 0), backlog=0)))
    port = int(listener.getsockname()[1])
    for _ in range(4):
        filler = stack.enter_context(closing(socket.socket()))
        filler.setblocking(False)
        filler.connect_ex(("127.0.0.1", port))
    return port


def _site(directory: Path, ports: Sequence[int]) -> Site:
    """Return a site, not started yet, with an accepted Share `/received/PORT` of each server."""
    site = Site(directory, log={"level": "error"})
    (site.data / "local.bin").write_bytes(os.urandom(4096))
    with _state(site) as (store, sealer):

        def work(tx: Connection) -> None:
            users.add(tx, USER, CHEAP.hash(PASSWORD), 0)
            for port in ports:
                _know(tx, port)
                _receive(tx, sealer, f"localhost:{port}", str(port), mount=str(port))

        store.run_sync(work)
    return site


def _queue(site: Site, ports: int | Sequence[int], shares: Sequence[str], kinds: Sequence[str]) -> None:
    """Put messages about Shares named PORT-NUMBER into the outbox; those servers are discovered already."""
    with _state(site) as (store, sealer):

        def work(tx: Connection) -> None:
            for port in [ports] if isinstance(ports, int) else ports:
                _know(tx, port)
            for share in shares:
                server = f"localhost:{share.partition('-')[0]}"
                _receive(tx, sealer, server, share, mount=None, state="left")
                for kind in kinds:
                    now = int(time.time())
                    outbox.add(tx, server=server, kind=kind, role="receiving", share=share, now=now)

        store.run_sync(work)


@contextmanager
def _state(site: Site) -> Iterator[tuple[Store, Sealer]]:
    state = site.directory / "state"
    state.mkdir(mode=0o700, exist_ok=True)
    with closing(Store(f"sqlite:///{state}/state.sqlite")) as store:
        yield store, Sealer(key_file(state / "keys" / "state.key", lambda: os.urandom(32)))


def _know(tx: Connection, port: int) -> None:
    url = f"http://localhost:{port}"
    now = int(time.time())
    found = {"discovery": json.dumps(document(url)), "discovery_url": f"{url}/.well-known/ocm", "discovered": now}
    peers.put(tx, urlsplit(url).netloc, **found, seen=now)


def _receive(
    tx: Connection, sealer: Sealer, server: str, share_id: str, *, mount: str | None, state: str = "accepted"
) -> None:
    values = {"server": server, "provider_id": share_id, "uri": share_id, "state": state, "mount": mount}
    share = received(share_id, user=USER, access="bearer", root_kind="directory", **values)
    secret = secrets.token_urlsafe(16)
    received_shares.add(tx, share, secret_hash(secret), sealer.seal(secret, share_id))


def _wait(site: Site, at_most: int, ports: Sequence[int] = ()) -> float:
    """Return when `at_most` messages were pending, all told or to `ports`; it is looked again and again."""
    chosen = f" AND server IN ({','.join(repr(f'localhost:{port}') for port in ports)})" if ports else ""
    query = f"SELECT count(*) FROM outbox WHERE state = 'pending'{chosen}"
    deadline = time.monotonic() + 2 * MESSAGE_SECONDS
    with closing(sqlite3.connect(f"file:{site.directory}/state/state.sqlite?mode=ro", uri=True)) as database:
        while database.execute(query).fetchone()[0] > at_most:
            assert time.monotonic() < deadline, "messages are not delivered"
            time.sleep(0.1)
    return time.monotonic()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="ocm-bench-", dir=os.environ.get("BENCH_DIR")) as made:
        measured = measure(Path(made))
    print(table(*measured))
    sys.exit("\n".join(missed(*measured)) or None)
