"""The same work runs once at a time, for whoever asks."""

from __future__ import annotations

import asyncio
import gc

import pytest

from gateway.single_flight import SingleFlight


class Work:
    """Work that runs until it is let go, and counts its runs."""

    def __init__(self, result: object = "done") -> None:
        self.runs = 0
        self.go = asyncio.Event()
        self.result = result

    async def __call__(self) -> object:
        self.runs += 1
        await self.go.wait()
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


async def test_whoever_asks_meanwhile_gets_the_same_result() -> None:
    flight, work = SingleFlight[object](), Work()
    tasks = [asyncio.create_task(flight.run("key", work)) for _ in range(10)]
    await asyncio.sleep(0)
    work.go.set()
    assert await asyncio.gather(*tasks) == ["done"] * 10
    assert work.runs == 1


async def test_other_keys_run_beside_it_and_the_same_key_runs_again_afterwards() -> None:
    flight, work = SingleFlight[object](), Work()
    work.go.set()
    await asyncio.gather(flight.run("one", work), flight.run("two", work))
    await flight.run("one", work)
    assert work.runs == 3


async def test_an_error_is_everybodys_and_is_not_kept() -> None:
    flight, work = SingleFlight[object](), Work(KeyError("no"))
    tasks = [asyncio.create_task(flight.run("key", work)) for _ in range(3)]
    await asyncio.sleep(0)
    work.go.set()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(answer) for answer in answers] == [KeyError] * 3
    work.result = "better"
    assert await flight.run("key", work) == "better"


async def test_a_caller_that_is_cancelled_leaves_the_work_to_the_others() -> None:
    flight, work = SingleFlight[object](), Work()
    tasks = [asyncio.create_task(flight.run("key", work)) for _ in range(2)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    await asyncio.sleep(0)
    work.go.set()
    assert await tasks[1] == "done"
    assert tasks[0].cancelled()


async def test_an_error_that_nobody_waits_for_any_more_is_not_reported_as_lost() -> None:
    lost: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: lost.append(context))
    flight, work = SingleFlight[object](), Work(KeyError("no"))
    task = asyncio.create_task(flight.run("key", work))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    work.go.set()
    await asyncio.sleep(0.01)
    del task, work, flight
    gc.collect()
    await asyncio.sleep(0)
    assert lost == []
