"""How many signed messages of another server one process of the gateway answers in a second, and how soon.

The state is SQLite at full durability, on the disk. The peer, whose keys are asked for over loopback, and the load are
this process; what it sends is signed before, so that it leaves the gateway a core.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import uvloop
from aiohttp import web
from parts import CHEAP, sent
from sites import Site, free_port

from gateway.ocm.discovery import describe
from gateway.ocm.signatures import Message, sign
from gateway.signing_keys import SigningKeys
from gateway.store import sent_shares, users
from gateway.store.engine import Store
from gateway.store.sealing import secret_hash

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "9"))
CONNECTIONS = 50
REQUESTS = 1500  # in each round
USERS = 100  # one has room for 200 unanswered Shares of a server
WITHIN = 0.250  # seconds, at most, for 99 of 100 answers
PLENTY = {"burst": 1_000_000, "rate": 1_000_000}  # the limits are at work, and refuse nothing
FORM, JSON = "application/x-www-form-urlencoded", "application/json"

Make = Callable[["Peer", Site], bytes]


@dataclass(frozen=True)
class Round:
    """What one round has measured: requests per second, and the seconds in which 99 of 100 were answered."""

    rate: float
    slowest: float


@dataclass(frozen=True)
class Flow:
    """One kind of message; `least` is how many per second have to be answered."""

    name: str
    least: int
    rounds: Sequence[Round]

    @property
    def rate(self) -> float:
        return statistics.median(each.rate for each in self.rounds)

    @property
    def slowest(self) -> float:
        return statistics.median(each.slowest for each in self.rounds)


class Peer:
    """A server that signs."""

    def __init__(self, directory: Path, server: str) -> None:
        self.server = server
        self._url = f"http://{server}"
        self._keys = SigningKeys(directory / "keys", self._url)

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[None]:
        """Answer for discovery and keys."""
        document = describe(
            public_url=self._url,
            provider="Bench",
            capabilities=("exchange-token", "http-sig", "notifications", "protocol-object"),
            token_end_point=f"{self._url}/ocm/token",
            jwks_uri=f"{self._url}/ocm/jwks",
        )

        async def answer(request: web.Request) -> web.Response:
            return web.json_response(self._keys.document() if request.path == "/ocm/jwks" else document)

        app = web.Application()
        app.router.add_get("/{path:.*}", answer)
        runner = web.AppRunner(app)
        await runner.setup()
        host, _, port = self.server.rpartition(":")
        await web.TCPSite(runner, host, int(port)).start()
        try:
            yield
        finally:
            await runner.cleanup()

    def post(self, url: str, body: bytes, kind: str) -> bytes:
        """Return a whole signed request."""
        key, now, nonce = self._keys.signing_key(), int(time.time()), secrets.token_hex(8)
        headers = sign(Message("POST", url, (), body), key, now, nonce=nonce)
        _, _, rest = url.partition("://")
        host, _, path = rest.partition("/")
        given = {"Host": host, "Content-Type": kind, "Content-Length": str(len(body))} | headers
        lines = "".join(f"{name}: {value}\r\n" for name, value in given.items())
        return f"POST /{path} HTTP/1.1\r\n{lines}\r\n".encode() + body


def new_share(peer: Peer, site: Site) -> bytes:
    """Return a Share Creation Notification that was never sent before."""
    number = secrets.token_hex(8)
    webdav = {"uri": number, "sharedSecret": secrets.token_urlsafe(32), "permissions": ["read", "write"]}
    notification = {
        "shareWith": f"user-{secrets.randbelow(USERS)}@{site.server}",
        "name": f"results-{number}",
        "providerId": number,
        "owner": f"carol@{peer.server}",
        "sender": f"carol@{peer.server}",
        "shareType": "user",
        "resourceType": "folder",
        "protocol": {"name": "multi", "webdav": webdav},
    }
    return peer.post(f"{site.url}/ocm/shares", json.dumps(notification).encode(), JSON)


def exchange(peer: Peer, site: Site) -> bytes:
    """Return a request for an access token of one of CONNECTIONS Shares."""
    code = f"secret-{secrets.randbelow(CONNECTIONS)}"
    form = {"grant_type": "authorization_code", "client_id": peer.server, "code": code}
    return peer.post(f"{site.url}/ocm/token", urlencode(form).encode(), FORM)


FLOWS: tuple[tuple[str, int, Make], ...] = (
    ("signed Share Creation Notifications accepted", 200, new_share),
    ("signed token exchanges", 300, exchange),
)


def measure(directory: Path, rounds: int = ROUNDS) -> list[Flow]:
    """Start a gateway and its peer, and measure in interleaved rounds."""
    directory.mkdir(parents=True)
    peer = Peer(directory / "peer", f"localhost:{free_port()}")
    limits = dict.fromkeys(("shares", "token", "peers"), PLENTY)
    site = Site(directory, log={"level": "warning"}, limits=limits)
    _prepare(directory / "state", peer)
    with site, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        measured = runner.run(_measure(peer, site, rounds))
    return [Flow(name, least, each) for (name, least, _), each in zip(FLOWS, measured, strict=True)]


def missed(flows: Sequence[Flow]) -> Iterator[str]:
    """Yield a sentence for each target that was not reached."""
    for flow in flows:
        if not flow.rate >= flow.least:
            yield f"{flow.name}: {flow.rate:.0f} per second, have to be at least {flow.least}"
        if not flow.slowest <= WITHIN:
            yield f"{flow.name}: 99 of 100 within {flow.slowest * 1000:.0f} ms, have to be within {WITHIN * 1000:.0f}"


def table(flows: Sequence[Flow]) -> str:
    head = f"| one process, {CONNECTIONS} connections | per second | 99 of 100 within |\n|---|---|---|\n"
    return head + "\n".join(
        f"| {flow.name} | {flow.rate:,.0f} (≥ {flow.least}) | {flow.slowest * 1000:.0f} ms (≤ {WITHIN * 1000:.0f}) |"
        for flow in flows
    )


def _prepare(state_dir: Path, peer: Peer) -> None:
    """Have users to send Shares to, and Shares whose secrets can be exchanged."""
    state_dir.mkdir(mode=0o700)
    store = Store(f"sqlite:///{state_dir / 'state.sqlite'}")

    def work(tx: object) -> None:
        for number in range(USERS):
            users.add(tx, f"user-{number}", CHEAP.hash("x"), 0)
        for number in range(CONNECTIONS):
            share = sent(f"share-{number}", owner="user-0", server=peer.server, share_with=f"bob@{peer.server}")
            sent_shares.add(tx, share, secret_hash(f"secret-{number}"), b"not read here")

    store.run_sync(work)
    store.close()


async def _measure(peer: Peer, site: Site, rounds: int) -> list[list[Round]]:
    measured: list[list[Round]] = [[] for _ in FLOWS]
    async with peer.serve():
        for _, _, make in FLOWS:
            await _round(site.port, [make(peer, site) for _ in range(CONNECTIONS)])  # it gets to know the peer
        for number in range(rounds):
            for (name, _, make), results in zip(FLOWS, measured, strict=True):
                results.append(await _round(site.port, [make(peer, site) for _ in range(REQUESTS)]))
                print(f"{name}: round {number + 1} of {rounds}", file=sys.stderr, flush=True)
    return measured


async def _round(port: int, requests: Sequence[bytes]) -> Round:
    """Send `requests` over CONNECTIONS, each as soon as the one before is answered."""
    left, seconds = iter(requests), []

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for request in left:
            begun = time.perf_counter()
            writer.write(request)
            await _answer(reader)
            seconds.append(time.perf_counter() - begun)
        writer.close()

    begun = time.perf_counter()
    async with asyncio.timeout(120), asyncio.TaskGroup() as group:
        for _ in range(CONNECTIONS):
            group.create_task(client())
    taken = time.perf_counter() - begun
    return Round(len(requests) / taken, sorted(seconds)[int(len(seconds) * 0.99)])


async def _answer(reader: asyncio.StreamReader) -> None:
    """Read one answer, which has to be a success."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    body = await reader.readexactly(int(length.partition(b":")[2]))
    assert head.startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 201 ")), head + body


def main() -> None:
    """Measure these alone."""
    with tempfile.TemporaryDirectory(prefix="ocm-bench-", dir=os.environ.get("BENCH_DIR")) as directory:
        flows = measure(Path(directory) / "federation")
    print(table(flows))
    if sentences := list(missed(flows)):
        sys.exit("\n".join(["Targets missed:", *sentences]))


if __name__ == "__main__":
    main()
