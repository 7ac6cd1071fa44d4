"""The pool: bounded, never cancelled half-way, never in the way of the interpreter's end."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import AsyncIterator, Callable
from typing import Self

import pytest

from backends.errors import NotFound, Unavailable
from backends.pool import Pool


class Gate:
    """A call that says when it has begun and ends when it is let go."""

    def __init__(self, result: object = "result") -> None:
        self.begun = threading.Event()
        self.let_go = threading.Event()
        self.ended = threading.Event()
        self._result = result

    def __call__(self) -> object:
        self.begun.set()
        assert self.let_go.wait(20)
        self.ended.set()
        return self._result

    async def wait_begun(self) -> None:
        await until(self.begun.is_set)


class Opened:
    """Stands for a Reader, Writer or Scan."""

    def __init__(self) -> None:
        self.closed = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.closed.set()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.001)


@pytest.fixture
async def pool() -> AsyncIterator[Pool]:
    pool = Pool("test", threads=1, waiting=2)
    yield pool
    pool.close()


async def test_a_call_returns_its_result(pool: Pool) -> None:
    assert await pool.run(divmod, 17, 5) == (3, 2)
    assert await pool.run(dict, a=1) == {"a": 1}


async def test_a_call_raises_its_error(pool: Pool) -> None:
    def fail() -> None:
        raise NotFound("nothing there")

    with pytest.raises(NotFound, match="nothing there"):
        await pool.run(fail)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
async def test_an_error_that_would_end_a_thread_reaches_the_caller(pool: Pool, error: type[BaseException]) -> None:
    def fail() -> None:
        raise error

    waiting = asyncio.ensure_future(_caught(pool.run(fail)))
    assert isinstance(await waiting, error)
    assert await pool.run(lambda: "alive") == "alive"


async def _caught(awaitable: object) -> BaseException | None:
    try:
        await awaitable  # type: ignore[misc]  # any awaitable
    except BaseException as error:
        return error
    return None


async def test_stop_iteration_is_an_error_like_any_other(pool: Pool) -> None:
    """No Future can carry it: the caller would wait for ever."""
    async with asyncio.timeout(20):
        with pytest.raises(RuntimeError, match="StopIteration"):
            await pool.run(next, iter(()))


async def test_calls_do_not_run_on_the_loop(pool: Pool) -> None:
    assert await pool.run(threading.current_thread) is not threading.current_thread()


async def test_cancelling_waits_for_the_running_call(pool: Pool) -> None:
    gate = Gate()
    task = asyncio.ensure_future(pool.run(gate))
    await gate.wait_begun()
    for _ in range(3):  # however often
        task.cancel()
        await asyncio.sleep(0.01)
        assert not task.done()
    gate.let_go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert gate.ended.is_set()


async def test_a_timeout_waits_for_the_running_call(pool: Pool) -> None:
    gate = Gate()
    asyncio.get_running_loop().call_later(0.1, gate.let_go.set)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await pool.run(gate)
    assert gate.ended.is_set()


async def test_a_cancelled_call_in_line_is_dropped(pool: Pool) -> None:
    gate, dropped = Gate(), Gate()
    running = asyncio.ensure_future(pool.run(gate))
    await gate.wait_begun()
    waiting = asyncio.ensure_future(pool.run(dropped))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting  # at once: the gate is still shut
    gate.let_go.set()
    assert await running == "result"
    assert await pool.run(lambda: "next") == "next"
    assert not dropped.begun.is_set()


async def test_what_a_cancelled_call_has_opened_is_closed(pool: Pool) -> None:
    opened = Opened()
    gate = Gate(opened)
    task = asyncio.ensure_future(pool.run(gate))
    await gate.wait_begun()
    task.cancel()
    gate.let_go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(opened.closed.is_set)


async def test_what_was_opened_in_the_moment_of_cancelling_is_closed(pool: Pool) -> None:
    """The result is there, but the task has not been woken up with it when it is cancelled."""
    opened = Opened()
    gate = Gate(opened)
    task = asyncio.ensure_future(pool.run(gate))
    await gate.wait_begun()
    gate.let_go.set()
    gate.ended.wait()
    time.sleep(0.05)  # the loop is not running meanwhile: the result waits to be noticed
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(opened.closed.is_set)


async def test_the_error_of_a_cancelled_call_is_dropped(pool: Pool) -> None:
    gate = Gate()

    def fail() -> None:
        gate()
        raise NotFound("nobody hears this")

    task = asyncio.ensure_future(pool.run(fail))
    await gate.wait_begun()
    task.cancel()
    gate.let_go.set()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_full_line_is_unavailable(pool: Pool) -> None:
    gate = Gate()
    tasks = [asyncio.ensure_future(pool.run(gate)) for _ in range(3)]  # one thread, two in line
    await gate.wait_begun()
    with pytest.raises(Unavailable, match=r"^test: .*full") as refused:
        await pool.run(gate)
    assert refused.value.retry_after == 5
    gate.let_go.set()
    assert await asyncio.gather(*tasks) == ["result"] * 3
    assert await pool.run(lambda: "again") == "again"


async def test_as_many_calls_as_threads_and_line_are_taken_at_once() -> None:
    """Before any thread has had the time to take the first."""
    pool, gate = Pool("test", threads=4, waiting=2), Gate()
    tasks = [asyncio.ensure_future(pool.run(gate)) for _ in range(6)]
    await asyncio.sleep(0)
    with pytest.raises(Unavailable):
        await pool.run(gate)
    gate.let_go.set()
    assert await asyncio.gather(*tasks) == ["result"] * 6
    pool.close()


async def test_a_hung_call_does_not_hold_up_the_next() -> None:
    """A thread is added for each unfinished call, also when one has just been idle."""
    pool = Pool("test", threads=8)
    for _ in range(50):
        await pool.run(lambda: None)
    gates = [Gate() for _ in range(7)]
    tasks = [asyncio.ensure_future(pool.run(gate)) for gate in gates]
    for gate in gates:
        await gate.wait_begun()
    assert await pool.run(lambda: "eighth") == "eighth"
    for gate in gates:
        gate.let_go.set()
    await asyncio.gather(*tasks)
    pool.close()


async def test_no_more_threads_run_than_allowed() -> None:
    pool, most, running = Pool("test", threads=3, waiting=100), [0], [0]
    lock = threading.Lock()

    def work() -> None:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        time.sleep(0.002)
        with lock:
            running[0] -= 1

    await asyncio.gather(*(pool.run(work) for _ in range(60)))
    assert 1 <= most[0] <= 3
    pool.close()


async def test_an_idle_pool_keeps_no_result_alive(pool: Pool) -> None:
    """A megabyte in each idle thread would add up; nor may an error's traceback keep open what its call had opened."""
    kept: list[weakref.ref[Opened]] = []

    def work(fail: bool) -> Opened:
        opened = Opened()
        kept.append(weakref.ref(opened))
        if fail:
            raise NotFound("nothing there")
        return opened

    gc.disable()  # reference counts alone must do
    try:
        await pool.run(work, False)
        assert isinstance(await _caught(pool.run(work, True)), NotFound)
        await until(lambda: [reference() for reference in kept] == [None, None])
    finally:
        gc.enable()


async def test_a_closed_pool_is_unavailable(pool: Pool) -> None:
    await pool.run(lambda: None)
    pool.close()
    pool.close()
    with pytest.raises(Unavailable, match="shutting down"):
        await pool.run(lambda: None)


async def test_closing_lets_calls_in_line_finish_and_threads_end() -> None:
    pool, gate = Pool("ending", threads=1, waiting=5), Gate()
    tasks = [asyncio.ensure_future(pool.run(gate)) for _ in range(3)]
    await gate.wait_begun()
    pool.close()
    gate.let_go.set()
    assert await asyncio.gather(*tasks) == ["result"] * 3
    await until(lambda: not any(thread.name.startswith("ending-") for thread in threading.enumerate()))


async def test_what_comes_first_is_waited_for_but_not_for_ever() -> None:
    pool, first, order = Pool("test", threads=2), Gate(), []
    beginning = asyncio.create_task(pool.run_first(20, first))
    await first.wait_begun()
    second = asyncio.create_task(pool.run(lambda: order.append("second")))
    await asyncio.sleep(0.02)
    assert not order
    first.let_go.set()
    await second
    assert (order, await beginning) == (["second"], "result")
    late = Gate()
    beginning = asyncio.create_task(pool.run_first(0.02, late))
    await late.wait_begun()
    assert await pool.run(lambda: "no longer") == "no longer"
    late.let_go.set()
    await beginning
    pool.close()


async def test_what_comes_first_and_fails_keeps_nobody_waiting(pool: Pool) -> None:
    def fail() -> None:
        raise NotFound("nothing")

    with pytest.raises(NotFound):
        await pool.run_first(20, fail)
    assert await pool.run(lambda: "on") == "on"


async def test_nobody_waits_for_a_call_that_is_abandoned_and_none_begins() -> None:
    """What has opened something is not closed meanwhile: the call might still write to it."""
    pool, opened, begun = Pool("test", threads=1), Opened(), Gate()
    running = Gate(opened)
    tasks = [asyncio.create_task(_caught(pool.run(call))) for call in (running, begun)]
    await running.wait_begun()
    cancelled = asyncio.create_task(pool.run(begun))
    await asyncio.sleep(0)
    pool.abandon()
    cancelled.cancel()
    assert [str(await task) for task in tasks] == ["test: no answer before the end"] * 2
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    with pytest.raises(Unavailable, match="shutting down"):
        await pool.run(lambda: None)
    running.let_go.set()
    await until(lambda: not any(thread.name.startswith("test-") for thread in threading.enumerate()))
    assert not begun.begun.is_set()
    assert not opened.closed.is_set()


async def test_a_closed_loop_is_no_trouble() -> None:
    """A call may outlast the loop that asked for it; its thread goes on with the next."""
    pool, gate = Pool("test", threads=1), Gate()

    left: list[asyncio.Future[object]] = []

    async def leave() -> None:
        left.append(asyncio.ensure_future(_caught(pool.run(gate))))
        await gate.wait_begun()

    def other_loop() -> None:
        loop = asyncio.new_event_loop()
        loop.run_until_complete(leave())
        loop.close()
        left[0]._log_destroy_pending = False  # that it is left behind is the point

    thread = threading.Thread(target=other_loop)
    thread.start()
    await asyncio.to_thread(thread.join)
    gate.let_go.set()
    assert await pool.run(lambda: "alive") == "alive"
    pool.close()


HUNG = """
import asyncio, threading
from backends.pool import Pool

async def main():
    pool, begun = Pool("hung"), threading.Event()
    def hang():
        begun.set()
        threading.Event().wait()
    task = asyncio.ensure_future(pool.run(hang))
    while not begun.is_set():
        await asyncio.sleep(0.001)
    pool.close()
    print("leaving", flush=True)

loop = asyncio.new_event_loop()
loop.run_until_complete(main())
"""


def test_a_hung_call_does_not_keep_the_interpreter() -> None:
    """A NAS that never answers must not keep the service from stopping."""
    ended = subprocess.run(
        [sys.executable, "-c", HUNG], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=20, text=True
    )
    assert (ended.returncode, ended.stdout) == (0, "leaving\n")
