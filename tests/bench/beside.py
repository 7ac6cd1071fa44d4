"""What some requests wait longer while others are made beside them: of servers that answer, and of ones that do not."""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from aiohttp import ClientSession, ClientTimeout
from bench.servers import AUTHORIZATION, USER
from sites import Site

ROUNDS = 9
SECONDS = 3.0  # of each measurement, of which a round has three
CLIENTS = 8
THINKING = 0.1  # seconds between two requests of one client: waiting is to be measured, and not a busy core

STATUS = {"GET": 200, "PROPFIND": 207}

Measure = Callable[[], float]


class Ask(NamedTuple):
    """A request below the user's own root."""

    method: str
    path: str
    body: bytes | None = None


@dataclass(frozen=True)
class Isolation:
    """Ratios of 99th percentiles, one for each round: with dead servers, and in the A/A run."""

    name: str
    dead: Sequence[float]
    again: Sequence[float]
    milliseconds: float  # the 99th percentile itself, where all answer

    @property
    def ratio(self) -> float:
        return statistics.median(self.dead)

    @property
    def noise(self) -> float:
        return statistics.median(self.again)


def reads(paths: Sequence[str]) -> list[Ask]:
    """Return a listing of each path that ends with a slash, and of the top, which has no name; a GET of each other."""
    return [Ask("PROPFIND" if path.endswith("/") or not path else "GET", path) for path in paths]


def compare(name: str, well: Measure, dead: Measure) -> Isolation:
    """Measure in turn with answering, dead, and answering servers beside the others."""
    well()  # everything has been asked once
    dead()
    rounds = [[measure() for measure in (well, dead, well)] for _ in range(ROUNDS)]
    # Every other round backwards: a machine that gets faster or slower meanwhile favours neither.
    rounds = [each[:: 1 if number % 2 else -1] for number, each in enumerate(rounds)]
    ratios = [(beside / first, again / first) for first, beside, again in rounds]
    usual = statistics.median(first for first, _, _ in rounds)
    return Isolation(name, [ratio for ratio, _ in ratios], [ratio for _, ratio in ratios], usual * 1000)


def load(site: Site, asks: Sequence[Ask], beside: Sequence[Ask]) -> float:
    """Return the seconds in which 99 of 100 of `asks` are answered, while others make the requests `beside`."""
    return asyncio.run(_load(site, asks, beside))


async def _load(site: Site, asks: Sequence[Ask], beside: Sequence[Ask]) -> float:
    root = f"http://127.0.0.1:{site.port}/dav/files/{USER}/"
    headers, patience = {"Authorization": AUTHORIZATION}, ClientTimeout(total=30)
    async with ClientSession(headers=headers, timeout=patience) as session, asyncio.TaskGroup() as group:
        others = [group.create_task(_ask_again(session, root, ask)) for ask in beside]
        turned = [[*asks[number % len(asks) :], *asks[: number % len(asks)]] for number in range(CLIENTS)]
        clients = [group.create_task(_client(session, root, each)) for each in turned]
        seconds = sorted(itertools.chain.from_iterable([await client for client in clients]))
        for other in others:
            other.cancel()  # in the middle of a wait, if it is for a dead one
    return seconds[int(len(seconds) * 0.99)]


async def _client(session: ClientSession, root: str, asks: Sequence[Ask]) -> list[float]:
    seconds = []
    end = time.monotonic() + SECONDS
    for ask in itertools.cycle(asks):
        if time.monotonic() > end:
            return seconds
        begun = time.monotonic()
        status = await _made(session, root, ask)
        assert status == STATUS[ask.method], (ask.path, status)
        seconds.append(time.monotonic() - begun)
        await asyncio.sleep(THINKING)
    return seconds


async def _ask_again(session: ClientSession, root: str, ask: Ask) -> None:
    """Ask a server that may be dead, whatever the answer is."""
    while True:
        await _made(session, root, ask)
        await asyncio.sleep(THINKING)


async def _made(session: ClientSession, root: str, ask: Ask) -> int:
    async with session.request(ask.method, root + ask.path, data=ask.body, headers={"Depth": "1"}) as answer:
        await answer.read()
        return answer.status
