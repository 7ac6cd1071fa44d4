"""Many clients that read slowly, and somebody who lists a folder meanwhile."""

from __future__ import annotations

import asyncio
import http.client
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

from bench.servers import AUTHORIZATION, Server
from memory import resident

CLIENTS = 500
RATE = 100 * 1024  # bytes per second that each takes
SECONDS = 15.0
PIECE = 0.1  # seconds between two reads of one client
LIST_EVERY = 0.05  # seconds


@dataclass(frozen=True)
class Crowd:
    """What was seen: bytes resident at the most, and the seconds in which 99 of 100 listings were answered."""

    clients: int
    rate: float  # bytes per second for each client, as measured
    resident: int
    listing: float


def crowd(server: Server, large: str, folder: str) -> Crowd:
    """Let CLIENTS download `large` slowly while `folder` is listed again and again."""
    return asyncio.run(_crowd(server, large, folder))


async def _crowd(server: Server, large: str, folder: str) -> Crowd:
    end = time.monotonic() + SECONDS
    clients = [asyncio.create_task(_download(server.url + large, end)) for _ in range(CLIENTS)]
    await asyncio.sleep(SECONDS / 5)  # until all have begun
    most, listings = 0, []
    while time.monotonic() < end:
        begun = time.monotonic()
        await asyncio.to_thread(_list, server.url + folder)
        listings.append(time.monotonic() - begun)
        most = max(most, resident(server.process.pid))
        await asyncio.sleep(LIST_EVERY)
    taken = [await client for client in clients]
    slowest = sorted(listings)[int(len(listings) * 0.99)]
    return Crowd(CLIENTS, sum(taken) / CLIENTS / SECONDS, most, slowest)


async def _download(url: str, end: float) -> int:
    """Take RATE bytes a second until `end`, and return how many those were."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=64 * 1024)
    head = f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nAuthorization: {AUTHORIZATION}\r\n\r\n"
    writer.write(head.encode())
    taken = 0
    begun = time.monotonic()
    while time.monotonic() < end:
        due = int((time.monotonic() - begun + PIECE) * RATE)
        if taken < due:
            piece = await reader.read(due - taken)
            assert piece, "the server has hung up"
            taken += len(piece)
        await asyncio.sleep(PIECE)
    writer.transport.abort()
    return taken


def _list(url: str) -> None:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=20)
    connection.request("PROPFIND", parts.path, headers={"Depth": "0", "Authorization": AUTHORIZATION})
    answer = connection.getresponse()
    answer.read()
    assert answer.status == 207
    connection.close()
