"""What the operator may ask for on the admin socket."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AsyncExitStack

from gateway import __version__
from gateway.admin.calling import Command
from gateway.admin.commands import Commands
from gateway.admin.departure_commands import DepartureCommands
from gateway.admin.directory_commands import DirectoryCommands
from gateway.admin.doctor_commands import DoctorCommands
from gateway.admin.explain_commands import ExplainCommands
from gateway.admin.invite_commands import InviteCommands
from gateway.admin.keeping_commands import KeepingCommands
from gateway.admin.request_commands import RequestCommands
from gateway.admin.ssh_commands import SSHCommands
from gateway.app.doors import document_of
from gateway.app.ground import Ground, Seat
from gateway.app.outside import USER_AGENT, Outside
from gateway.app.sharing import Sharing, names_of
from gateway.config import Config
from gateway.doctor.itself import Itself, Self
from gateway.doctor.peer import PeerDoctor
from gateway.doctor.replay import Replay
from gateway.explaining import Explaining
from gateway.outbound import EVERYWHERE, AsyncOutbound, Guard
from gateway.roots import (
    Roots,
)
from gateway.user_keys import UserKeys
from gateway.users import Users


def command_table(
    config: Config, ground: Ground, outside: Outside, sharing: Sharing, roots: Roots, seat: Seat
) -> Mapping[str, Command]:
    commands = Commands(
        Users(ground.store, ground.passwords, ground.clock),
        ground.access,
        sharing.sending,
        sharing.receiving,
        outside.trust,
        outside.peers,
        sharing.outbox,
        ground.keys,
        roots,
        lambda: {"version": __version__, "pid": os.getpid(), "workers": seat.team.size, "worker": seat.number},
    )
    explaining = Explaining(ground.store, sharing.sending, outside.peers, **names_of(config))
    return {
        **commands.table,
        **InviteCommands(ground.access, sharing.inviting, sharing.contacts).table,
        **RequestCommands(ground.access, sharing.requesting, sharing.resharing).table,
        **DepartureCommands(sharing.departing).table,
        **DirectoryCommands(outside.directories).table,
        **KeepingCommands(ground.access, sharing.copies).table,
        **ExplainCommands(ground.access, explaining).table,
        **_ssh_commands(config, ground).table,
    }


def _ssh_commands(config: Config, ground: Ground) -> SSHCommands:
    user_keys = UserKeys(ground.store, ground.access, ground.clock)
    host = config.ssh_public.host if config.ssh_public else ""
    return SSHCommands(ground.access, user_keys, ground.host_keys, host)


def doctor_commands(
    stack: AsyncExitStack, config: Config, ground: Ground, outside: Outside, sharing: Sharing
) -> DoctorCommands:
    # To our own public URL alone, which the operator has chosen: it may well be a private address seen from here.
    home = AsyncOutbound(Guard(EVERYWHERE, lambda _host: True), user_agent=USER_AGENT)
    stack.push_async_callback(home.close)
    this = Self(config.public_url, config.origin, document_of(config))
    peer = PeerDoctor(
        outside.peers,
        outside.asking,
        sharing.sending,
        ground.access,
        server=config.server,
        http_allowed=config.federation.http_allowed,
        clock=ground.clock,
    )
    itself = Itself(this, home, ground.keys, ground.tickets, ground.clock)
    return DoctorCommands(itself, peer, Replay(outside.peers, server=config.server), outside.traces)
