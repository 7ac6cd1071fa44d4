"""`serve`: one process that is the whole gateway, or a supervisor and several alike, on one port and one state.

Each worker runs all that `app.start` builds. What only one may do (the outbox, looking at received Shares, the admin
socket, metrics) is done by the one that leads; the sockets of all are bound here, before the first worker, and stay
bound while one is replaced.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import structlog
import uvloop

from gateway import __version__, app, logs, systemd
from gateway.admin.socket import bind as bind_admin
from gateway.admin.tally import Tally
from gateway.app import Seat
from gateway.config import Config, ConfigError
from gateway.leading import leading
from gateway.listening import STOP_TIME, Doors, spread
from gateway.supervisor import Line, Supervisor
from gateway.team import Team

log = structlog.get_logger()


class AlreadyRunning(Exception):
    """Another gateway works on this state directory."""


def serve(config: Config) -> int:
    """Run the gateway until SIGTERM or SIGINT, and return its exit status.

    Raises AlreadyRunning, ConfigError, and OSError when an address is taken.
    """
    app.check(config)
    with ExitStack() as stack:
        _private_directory(config.state_dir)
        stack.enter_context(_lock(config.state_dir))
        team, tally = Team(config.listen.workers), Tally(config.listen.workers)
        stack.callback(team.close)
        doors = _bind(stack, config)
        if team.size == 1:
            seat = Seat(team, tally, doors[0], number=0, is_first=True)
            uvloop.run(_alone(config, seat))
            return 0
        return _supervise(config, team, tally, doors)


async def _alone(config: Config, seat: Seat) -> None:
    def ready() -> None:
        seat.team.mark(seat.number, serving=True)
        _announce(config, [seat.doors])
        systemd.notify("READY=1")

    await _run(config, seat, ready, systemd.keep_alive)


def _supervise(config: Config, team: Team, tally: Tally, doors: list[Doors]) -> int:
    def work(number: int, first: bool, line: Line) -> int:
        for other, their_doors in enumerate(doors):
            if other != number:  # each answers for its own; those of all stay bound in the supervisor
                for listener in their_doors.own:
                    listener.close()
        logs.configure(config.log.format, config.log.level, worker=number)
        seat = Seat(team, tally, doors[number], number, is_first=first)
        try:
            uvloop.run(_worker(config, seat, line))
        except (ConfigError, OSError) as error:
            log.error("this worker cannot start", reason=str(error))  # noqa: TRY400 -- a sentence, not a trace
            return 1
        return 0

    def stopping() -> None:
        for each in doors:
            each.close()  # so that nobody waits in a socket that no worker serves any more

    return Supervisor(team, work, ready=partial(_announce, config, doors), stopping=stopping).run()


async def _worker(config: Config, seat: Seat, line: Line) -> None:
    await _run(config, seat, line.ready, line.keep_alive, line.watch)


async def _run(
    config: Config,
    seat: Seat,
    ready: Callable[[], None],
    signs: Callable[[], Coroutine[Any, Any, None]],
    watch: Callable[[Callable[[], None]], None] | None = None,
) -> None:
    """Be one process of the gateway until it is told to stop; `signs` tells until all is closed that it lives."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    if watch is not None:
        watch(stop.set)
    async with AsyncExitStack() as life, AsyncExitStack() as stack:
        lead = await app.start(stack, config, seat)
        leads = asyncio.Event()
        leading_task = asyncio.create_task(_lead(config, lead, leads))
        stack.push_async_callback(_end, leading_task)
        if seat.is_first:
            await _until(leads, leading_task)
        ready()
        life.push_async_callback(_end, asyncio.create_task(signs()))
        await _until(stop, leading_task)
        if watch is None:
            log.info("stopping", seconds_for_running_requests=STOP_TIME)
            systemd.notify("STOPPING=1")


async def _lead(config: Config, lead: Callable[[AsyncExitStack], Awaitable[None]], leads: asyncio.Event) -> None:
    """Wait until this process leads, and do what the leader does until cancelled."""
    async with leading(config.state_dir / "leader"), AsyncExitStack() as stack:
        await lead(stack)
        leads.set()
        log.info("this process leads", pid=os.getpid())
        await asyncio.Event().wait()


async def _until(event: asyncio.Event, task: asyncio.Task[None]) -> None:
    """Wait for `event`; raises what ends `task` before."""
    waiting = asyncio.create_task(event.wait())
    await asyncio.wait({waiting, task}, return_when=asyncio.FIRST_COMPLETED)
    if not waiting.done():
        waiting.cancel()
        task.result()


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def _bind(stack: ExitStack, config: Config) -> list[Doors]:
    """Return the sockets of each worker: those of its own, and those of whoever leads; raises OSError."""
    admin = bind_admin(config.listen.admin)
    stack.callback(admin.close)
    stack.callback(config.listen.admin.unlink, missing_ok=True)
    count = config.listen.workers
    (metrics,) = spread(stack, config.listen.metrics, 1)
    http, ssh = (spread(stack, address, count) for address in (config.listen.http, config.listen.ssh))
    return [Doors(http[number], metrics, admin, ssh[number]) for number in range(count)]


def _announce(config: Config, doors: list[Doors]) -> None:
    log.info(
        "ocm-gateway is ready",
        version=__version__,
        public_url=config.public_url,
        listening=[_where(listener.getsockname()) for listener in doors[0].http],
        **({"ssh": [_where(listener.getsockname()) for listener in doors[0].ssh]} if doors[0].ssh else {}),
        workers=len(doors),
        admin=str(config.listen.admin),
    )


def _where(address: tuple[Any, ...]) -> str:
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _private_directory(path: Path) -> None:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)


@contextmanager
def _lock(state_dir: Path) -> Iterator[None]:
    """Hold the state directory: two gateways on one state would each believe to be the only outbox.

    Workers inherit the descriptor and so the lock: as long as one is left, no other gateway starts.
    """
    descriptor = os.open(state_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise AlreadyRunning(f"another gateway is running with the state directory {state_dir}") from None
    finally:
        os.close(descriptor)
