"""Starting one process of the gateway, and what the one that leads does beside."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import AsyncExitStack
from functools import partial

import structlog

from gateway.admin.calling import Command
from gateway.admin.metrics import Metrics
from gateway.admin.socket import AdminSocket
from gateway.app.background import Background
from gateway.app.commands import command_table, doctor_commands
from gateway.app.doors import open_doors
from gateway.app.ground import Ground, Seat, lay_ground
from gateway.app.outside import go_outside
from gateway.app.sharing import Sharing, build_sharing
from gateway.config import Config
from gateway.directories import Directories, sources
from gateway.files import Moves
from gateway.listening import listen_on
from gateway.roots import (
    Roots,
    as_service,
    require_ownership,
    settle,
)
from gateway.settling import Settling
from gateway.ssh.version import require_version
from gateway.tree import Storage

SETTLE_TIME = 5.0  # seconds that those who want something of a storage wait until it is settled
COPIES_TIME = 5.0  # seconds that copies of received Shares have to end


log = structlog.get_logger()


def check(config: Config) -> None:
    """Refuse what the configuration asks for and this process has no rights, or libraries, for; raises ConfigError."""
    require_ownership(config)
    require_version(config)
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
    background = Background(stack)
    settled = _settle(background, moves, ground)
    settling = Settling(ground.store, moves, ground.storages, sharing.remote.named)
    background.begin(settling.run(), "settling")
    background.begin(sharing.watch.run(), "watch")
    background.begin(sharing.remote.forget_in_time(), "forget")
    background.begin(sharing.last_seen.run(), "last seen")
    background.begin(roots.follow(), "roots")
    metrics = Metrics(
        ground.store,
        config.proxy.trusted,
        tally=seat.tally,
        team=seat.team,
        worker=seat.number,
        breakers=outside.peers.breakers,
    )
    await open_doors(stack, config, ground, outside, sharing, moves, metrics, seat)
    doctor = doctor_commands(stack, config, ground, outside, sharing)
    commands = {**command_table(config, ground, outside, sharing, roots, seat), **doctor.table}
    return partial(_lead, ground.storages, outside.directories, sharing, metrics, commands, seat, settled)


async def _lead(
    storages: Mapping[str, Storage],
    directories: Directories,
    sharing: Sharing,
    metrics: Metrics,
    commands: Mapping[str, Command],
    seat: Seat,
    settled: Collection[asyncio.Task[None]],
    stack: AsyncExitStack,
) -> None:
    """Deliver messages, look at received Shares, and answer the operator, until `stack` closes.

    Returns once each storage is settled, or hangs.
    """
    team, loop = seat.team, asyncio.get_running_loop()

    def hear() -> None:
        team.hear()
        sharing.outbox.kick()

    await sharing.copies.start()
    stack.push_async_callback(sharing.copies.close, COPIES_TIME)
    # Before the outbox looks for the first time: what is written after that look rings, and is heard.
    loop.add_reader(team.bell, hear)
    stack.callback(loop.remove_reader, team.bell)
    background = Background(stack)
    background.begin(sharing.remote.refresh(), "refresh")
    background.begin(sharing.expiring.run(), "expiring")
    background.begin(directories.run(), "directories")
    background.begin(sharing.group_shares.run(), "group shares")
    for name, storage in storages.items():
        background.begin(sharing.uploads.run(as_service(storage)), f"uploads {name}")
    background.begin(sharing.uploads.run_without(storages), "uploads elsewhere")
    sharing.outbox.start()
    stack.push_async_callback(sharing.outbox.stop)
    await listen_on(stack, metrics.app(), *seat.doors.metrics)
    await listen_on(stack, AdminSocket(commands).app, seat.doors.admin)
    if settled:
        await asyncio.wait(settled, timeout=SETTLE_TIME)


def _settle(background: Background, moves: Moves, ground: Ground) -> list[asyncio.Task[None]]:
    """Let each storage settle what a crash has left, in its own threads, before it is used; nobody else waits.

    Where other processes of the gateway run, that is only what is provably of the dead.
    """

    def work(storage: Storage) -> None:
        settle(storage, ground.store)
        moves.replay({storage.name: as_service(storage)})
        ground.changes.watch_shares(storage.name)

    return [
        background.begin(storage.pool.run_first(SETTLE_TIME, work, storage), f"settle {storage.name}")
        for storage in ground.storages.values()
    ]
