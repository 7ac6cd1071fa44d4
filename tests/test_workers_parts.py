"""What the workers of one gateway share, with real processes: the bell, who serves, counts, turns and who leads."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from gateway.admin.tally import DOORS, METHODS, Tally
from gateway.leading import leading
from gateway.outbox import Outbox
from gateway.store import outbox
from gateway.store.engine import Store
from gateway.store.outbox import Message
from gateway.team import Team
from gateway.turns import Turns

WAIT = 20.0  # seconds


@contextmanager
def process(work: Callable[[], None]) -> Iterator[int]:
    """Run `work` in a forked process and kill that at the end."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the test runner has threads; the forked part uses none
        pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(0)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def ended(pid: int) -> bool:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT) is not None


def has_rung(team: Team) -> bool:
    return bool(select.select([team.bell], [], [], 0)[0])


def test_a_bell_that_was_rung_in_a_process_that_is_gone_is_heard() -> None:
    team = Team(2)
    assert not has_rung(team)
    with process(lambda: [team.ring() for _ in range(3)]) as pid:
        assert ended(pid)
    assert has_rung(team)
    team.hear()
    assert not has_rung(team)
    team.hear()  # quiet already: nothing is waited for
    team.close()


def test_who_serves_is_seen_by_all() -> None:
    team = Team(3)
    assert team.missing() == [0, 1, 2]
    with process(lambda: team.mark(1, serving=True)) as pid:
        assert ended(pid)
    assert team.missing() == [0, 2]
    team.mark(1, serving=False)
    assert team.missing() == [0, 1, 2]
    team.close()


def shown(tally: Tally) -> dict[str, float]:
    registry = CollectorRegistry()
    registry.register(tally)
    lines = [line.rpartition(" ") for line in generate_latest(registry).decode().splitlines() if line[:1] != "#"]
    return {name: float(value) for name, _, value in lines}


def test_counts_of_all_workers_are_added_up_also_of_one_that_was_killed() -> None:
    tally = Tally(2)
    tally.count(0, "files", "GET", 200, 0.02)

    def count_and_hang() -> None:
        for _ in range(5):
            tally.count(1, "files", "GET", 200, 0.3)
        tally.count(1, "api", "BREW", 418, 100.0)
        signal.pause()

    def counted() -> float:
        return shown(tally).get('ocm_gateway_request_seconds_count{door="api"}', 0)

    with process(count_and_hang):
        deadline = time.monotonic() + WAIT
        while not counted():
            assert time.monotonic() < deadline
    found = shown(tally)
    assert found['ocm_gateway_requests_total{door="files",method="GET",status="200"}'] == 6
    assert found['ocm_gateway_requests_total{door="api",method="OTHER",status="418"}'] == 1
    bucket = 'ocm_gateway_request_seconds_bucket{door="files",le="%s"}'
    assert [found[bucket % bound] for bound in ("0.01", "0.025", "0.25", "0.5", "+Inf")] == [0, 1, 1, 6, 6]
    assert found['ocm_gateway_request_seconds_sum{door="files"}'] == pytest.approx(1.52)
    assert found['ocm_gateway_request_seconds_bucket{door="api",le="10.0"}'] == 0
    assert found['ocm_gateway_request_seconds_bucket{door="api",le="+Inf"}'] == 1


def test_every_count_has_a_place_of_its_own() -> None:
    tally = Tally(1)
    wanted = {}
    for number, (door, method, status) in enumerate((d, m, s) for d in DOORS for m in METHODS for s in (100, 207, 599)):
        wanted[f'ocm_gateway_requests_total{{door="{door}",method="{method}",status="{status}"}}'] = number + 1
        for _ in range(number + 1):
            tally.count(0, door, method, status, 1.0)
    found = {name: value for name, value in shown(tally).items() if name.startswith("ocm_gateway_requests")}
    assert found == wanted


def test_a_status_that_http_does_not_know_breaks_nothing() -> None:
    tally = Tally(1)
    for status in (0, 99, 600, 999):
        tally.count(0, "web", "GET", status, 0.0)
    assert sum(value for name, value in shown(tally).items() if name.startswith("ocm_gateway_requests")) == 4


def take_turns(path: Path, key: str, notes: Path, times: int) -> None:
    """Have the turn so often, and write down beginning and end of each."""

    async def work() -> None:
        turns = Turns(path)
        for _ in range(times):
            async with turns.of(key):
                with notes.open("ab", buffering=0) as file:
                    file.write(b"(")
                    await asyncio.sleep(0.005)
                    file.write(b")")

    asyncio.run(work())


def test_one_at_a_time_over_processes_and_within_one(tmp_path: Path) -> None:
    notes = tmp_path / "notes"

    def two_tasks() -> None:
        async def work() -> None:
            turns = Turns(tmp_path / "turns")

            async def once() -> None:
                async with turns.of("share"):
                    with notes.open("ab", buffering=0) as file:
                        file.write(b"(")
                        await asyncio.sleep(0.005)
                        file.write(b")")

            await asyncio.gather(*(once() for _ in range(10)))

        asyncio.run(work())

    with process(two_tasks) as first, process(lambda: take_turns(tmp_path / "turns", "share", notes, 10)) as second:
        assert ended(first)
        assert ended(second)
    assert notes.read_bytes() == b"()" * 20


async def test_turns_of_other_keys_do_not_wait_and_the_dead_have_none(tmp_path: Path) -> None:
    mine, told = os.pipe()

    def hold() -> None:
        async def work() -> None:
            async with Turns(tmp_path / "turns").of("held"):
                os.write(told, b".")
                signal.pause()

        asyncio.run(work())

    turns = Turns(tmp_path / "turns")
    with process(hold) as pid:
        os.read(mine, 1)
        async with asyncio.timeout(WAIT), turns.of("free"):
            pass
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1), turns.of("held"):
                pass
        os.kill(pid, signal.SIGKILL)
        async with asyncio.timeout(WAIT), turns.of("held"):
            pass
    turns.close()


async def test_another_leads_within_a_second_of_the_leaders_death(tmp_path: Path) -> None:
    mine, told = os.pipe()

    def lead() -> None:
        async def work() -> None:
            async with leading(tmp_path / "leader"):
                os.write(told, b".")
                signal.pause()

        asyncio.run(work())

    with process(lead) as pid:
        os.read(mine, 1)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.6), leading(tmp_path / "leader"):
                pass
        threading.Timer(0.3, os.kill, (pid, signal.SIGKILL)).start()
        begun = time.monotonic()
        async with leading(tmp_path / "leader"):
            assert 0.2 < time.monotonic() - begun < 5, "about a second, on a machine that has time"


async def test_a_message_of_another_process_is_delivered_at_once(tmp_path: Path) -> None:
    """Not after the 60 s in which an outbox that is not told looks again; also one that was written before it ran."""
    url, team = f"sqlite:///{tmp_path / 'state.sqlite'}", Team(2)
    store = Store(url)
    delivered: list[str] = []

    async def deliver(message: Message) -> None:
        delivered.append(message.share)

    def write(share: str) -> None:
        async def work() -> None:
            mine = Store(url)
            values = {"server": "peer.example", "kind": "share", "role": "sending", "share": share, "now": 0}
            message_id = await mine.run(lambda tx: outbox.add(tx, **values))
            other = Outbox(mine, time.time, team.ring)
            assert (await other.attempted(message_id, WAIT)).state == "delivered"
            mine.close()
            os.write(told, b".")

        asyncio.run(work())

    mine, told = os.pipe()
    leader = Outbox(store, time.time, team.ring)
    leader.register("sending", deliver, lambda _tx, _message: None)
    loop = asyncio.get_running_loop()
    with process(lambda: write("early")):
        await asyncio.sleep(0.5)
        assert delivered == []
        loop.add_reader(team.bell, lambda: (team.hear(), leader.kick()))
        leader.start()
        assert await asyncio.to_thread(os.read, mine, 1) == b"."
    begun = time.monotonic()
    with process(lambda: write("late")):
        assert await asyncio.to_thread(os.read, mine, 1) == b"."
    assert time.monotonic() - begun < WAIT
    assert delivered == ["early", "late"]
    loop.remove_reader(team.bell)
    await leader.stop()
    store.close()
    team.close()
