"""Starting one process of the gateway, and what the one that leads does beside."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from functools import partial

import structlog

from gateway.admin.calling import Command
from gateway.admin.metrics import Metrics
from gateway.admin.socket import AdminSocket
from gateway.app.background import background
from gateway.app.commands import command_table, doctor_commands
from gateway.app.doors import open_doors
from gateway.app.ground import Ground, Seat, lay_ground
from gateway.app.outside import go_outside
from gateway.app.sharing import Sharing, build_sharing
from gateway.config import Config
from gateway.directories import Directories, sources
from gateway.files import Moves
from gateway.listening import STOP_TIME, listen_on
from gateway.roots import (
    Roots,
    as_service,
    require_ownership,
    settle,
)
from gateway.settling import Settling
from gateway.tree import Storage

SETTLE_TIME = 5.0  # seconds that the start waits for storage


log = structlog.get_logger()


def check(config: Config) -> None:
    """Refuse what the configuration asks for and this process has not the rights for; raises ConfigError."""
    require_ownership(config)
    sources(config.federation.directories)


# Does what one process alone does, until the stack that it is given closes.
Lead = Callable[[AsyncExitStack], Awaitable[None]]


async def start(stack: AsyncExitStack, config: Config, seat: Seat, clock: Callable[[], float] = time.time) -> Lead:
    """Run a process of the gateway until `stack` closes, and return what is left for the one that leads.

    Raises ConfigError, OSError, Unavailable.
    """
    ground = lay_ground(stack, config, seat, clock)
    outside = go_outside(stack, config, ground)
    sharing = build_sharing(stack, config, ground, outside, seat.team)
    moves, roots = Moves(ground.store, ground.living), Roots(ground.store, ground.storages, ground.clock)
    await _settle(stack, moves, ground)
    settling = Settling(ground.store, moves, ground.storages, sharing.remote.named)
    background(stack, settling.run(), "settling")
    background(stack, sharing.watch.run(), "watch")
    background(stack, sharing.remote.forget_in_time(), "forget")
    background(stack, sharing.last_seen.run(), "last seen")
    background(stack, roots.follow(), "roots")
    metrics = Metrics(
        ground.store,
        config.proxy.trusted,
        tally=seat.tally,
        team=seat.team,
        worker=seat.number,
        breakers=outside.peers.breakers,
    )
    await open_doors(stack, config, ground, outside, sharing, moves, metrics, seat)
    # aiohttp waits for running requests, asks them to end, and waits as long again: a transfer does not hear it.
    stack.callback(asyncio.get_running_loop().call_later, STOP_TIME, sharing.watch.cut_all)
    doctor = doctor_commands(stack, config, ground, outside, sharing)
    commands = {**command_table(config, ground, outside, sharing, roots, seat), **doctor.table}
    return partial(_lead, ground.storages, outside.directories, sharing, metrics, commands, seat)


async def _lead(
    storages: Mapping[str, Storage],
    directories: Directories,
    sharing: Sharing,
    metrics: Metrics,
    commands: Mapping[str, Command],
    seat: Seat,
    stack: AsyncExitStack,
) -> None:
    """Deliver messages, look at received Shares, and answer the operator, until `stack` closes."""
    team, loop = seat.team, asyncio.get_running_loop()

    def hear() -> None:
        team.hear()
        sharing.outbox.kick()

    await sharing.copies.start()
    stack.push_async_callback(sharing.copies.close, STOP_TIME)
    background(stack, sharing.remote.refresh(), "refresh")
    # Before the outbox looks for the first time: what is written after that look rings, and is heard.
    loop.add_reader(team.bell, hear)
    stack.callback(loop.remove_reader, team.bell)
    background(stack, sharing.expiring.run(), "expiring")
    background(stack, directories.run(), "directories")
    background(stack, sharing.group_shares.run(), "group shares")
    for name, storage in storages.items():
        background(stack, sharing.uploads.run(as_service(storage)), f"uploads {name}")
    background(stack, sharing.uploads.run_without(storages), "uploads elsewhere")
    sharing.outbox.start()
    stack.push_async_callback(sharing.outbox.stop)
    await listen_on(stack, metrics.app(), *seat.doors.metrics)
    await listen_on(stack, AdminSocket(commands).app, seat.doors.admin)


async def _settle(stack: AsyncExitStack, moves: Moves, ground: Ground) -> None:
    """Let each storage settle what a crash has left, in its own threads; one that hangs delays nobody.

    Where other processes of the gateway run, that is only what is provably of the dead.
    """

    def work(storage: Storage) -> None:
        settle(storage, ground.store)
        moves.replay({storage.name: as_service(storage)})
        ground.changes.watch_shares(storage.name)

    storages = ground.storages.values()
    tasks = [background(stack, storage.pool.run(work, storage), f"settle {storage.name}") for storage in storages]
    if tasks:
        await asyncio.wait(tasks, timeout=SETTLE_TIME)
