"""The doors: what other servers and users meet."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING

from aiohttp import web

from gateway.admin.metrics import Metrics
from gateway.api.door import ApiDoor
from gateway.api.echo import EchoDoor
from gateway.app.ground import Ground, Seat
from gateway.app.outside import Outside, criteria_of
from gateway.app.sharing import Sharing, ssh_of
from gateway.belongings import Belongings
from gateway.config import Config
from gateway.dav.door import DavDoor
from gateway.files import Moves
from gateway.limiting import client_of, limiter
from gateway.limits import LIMITED, Limits
from gateway.listening import STOP_TIME, listen_on
from gateway.locks import Locks
from gateway.logins import Logins
from gateway.ocm.discovery import describe
from gateway.own_paths import ACCEPT_INVITE, OwnPaths
from gateway.upstream.door import UpstreamDoor
from gateway.web.door import WebDoor
from gateway.web.inviting import AcceptInvitePage
from gateway.web.wayf import WayfPage

if TYPE_CHECKING:
    from gateway.ssh.door import SshDoor

KEEP_TIME = 3.0  # seconds in which what was cut off at the end is kept, to be resumed

CAPABILITIES = ("exchange-token", "http-sig", "invite-wayf", "invites", "notifications", "protocol-object")


async def open_doors(
    stack: AsyncExitStack,
    config: Config,
    ground: Ground,
    outside: Outside,
    sharing: Sharing,
    moves: Moves,
    metrics: Metrics,
    seat: Seat,
) -> None:
    limits = _limits(config, seat)
    trusted = config.proxy.trusted
    middlewares = [limiter(limits, trusted), metrics.middleware]
    public = web.Application(middlewares=middlewares, client_max_size=0)
    own_paths = OwnPaths(config.base_path, has_upstream=config.upstream is not None)
    if config.upstream is not None:
        upstream = UpstreamDoor(config.upstream, own_paths, server=config.server, trusted_proxies=trusted)
        stack.callback(upstream.close)
        upstream.add_routes(public)
    _add_api(public, config, ground, outside, sharing, limits)
    logins, client = Logins(limits), partial(client_of, trusted=trusted)
    dav = DavDoor(
        *(ground.access, sharing.tree, moves, sharing.watch, ground.changes, sharing.uploads),
        Locks(ground.store, ground.clock),
        Belongings(ground.store),
        base_path=config.base_path,
        origin=config.origin,
        like=metrics.like,
        logins=logins,
        client=client,
        last_seen=sharing.last_seen,
    )
    stack.push_async_callback(dav.close, STOP_TIME)
    dav.add_routes(public.router)
    WebDoor(config, own_paths.pages).add_routes(public)
    AcceptInvitePage(config, ground.access, sharing.inviting, ground.tickets, logins, client).add_routes(public.router)
    _add_wayf(public, config, outside)
    ssh = await _open_ssh(stack, config, ground, sharing, moves, limits, logins, seat)
    await listen_on(stack, public, *seat.doors.http, tls=config.tls, before=dav.quick.before)
    if ssh is not None:
        stack.callback(ssh.stop_listening)
    later = asyncio.get_running_loop().call_later
    # aiohttp waits for running requests, asks them to end, and waits as long again: a transfer does not hear it, and
    # neither does a call of a storage that hangs.
    stack.callback(later, STOP_TIME, sharing.watch.cut_all)
    for abandon in (dav.abandon, sharing.remote.close, *(storage.pool.abandon for storage in ground.storages.values())):
        stack.callback(later, STOP_TIME + KEEP_TIME, abandon)


async def _open_ssh(
    stack: AsyncExitStack,
    config: Config,
    ground: Ground,
    sharing: Sharing,
    moves: Moves,
    limits: Limits,
    logins: Logins,
    seat: Seat,
) -> SshDoor | None:
    if ground.host_keys is None:
        return None
    from gateway.ssh.door import SshDoor  # asyncssh takes a fifth of a second, and most gateways have no such door
    from gateway.ssh.workspace import Site

    site = Site(
        *(ground.access, sharing.tree, moves, ground.changes, sharing.uploads),
        Locks(ground.store, ground.clock),
        Belongings(ground.store),
    )
    count = seat.tally.ssh.counter(seat.number)
    door = SshDoor(site, sharing.watch, limits, logins, ground.host_keys.private(), config.ssh, count)
    await door.listen(stack, seat.doors.ssh)
    return door


def _add_api(
    public: web.Application, config: Config, ground: Ground, outside: Outside, sharing: Sharing, limits: Limits
) -> None:
    EchoDoor(
        ground.tickets,
        ground.keys,
        origin=config.origin,
        base_path=config.base_path,
        trusted_proxies=config.proxy.trusted,
        clock=ground.clock,
    ).add_routes(public.router)
    ApiDoor(
        sharing.sending,
        sharing.receiving,
        sharing.requesting,
        sharing.resharing,
        sharing.departing,
        sharing.hints,
        sharing.issuing,
        outside.proving,
        ground.keys,
        sharing.inviting,
        outside.traces,
        outside.peers.is_acquainted,
        document=document_of(config),
        shows_cavage_key=config.federation.legacy.cavage != "deny",
        origin=config.origin,
        base_path=config.base_path,
        limits=limits,
        trusted_proxies=config.proxy.trusted,
    ).add_routes(public.router)


def _add_wayf(public: web.Application, config: Config, outside: Outside) -> None:
    WayfPage(
        outside.wayf,
        provider=config.provider,
        server=config.server,
        base_path=config.base_path,
        http_allowed=bool(config.federation.allow_http),
        trusted_proxies=config.proxy.trusted,
    ).add_routes(public)


def _limits(config: Config, seat: Seat) -> Limits:
    rows = {name: getattr(config.limits, name) for name in LIMITED} if config.limits.enabled else {}
    bounds = {name: (row.burst, row.rate) for name, row in rows.items()}
    return Limits(bounds, partial(seat.tally.count_limited, seat.number))


def document_of(config: Config) -> dict[str, object]:
    """Return our own discovery document; it advertises only what works."""
    api = f"{config.public_url}/ocm"
    return describe(
        public_url=config.public_url,
        provider=config.provider,
        capabilities=CAPABILITIES,
        criteria=criteria_of(config.federation),
        share_types=("user", "group") if config.groups else ("user",),
        token_end_point=f"{api}/token",
        jwks_uri=f"{api}/jwks",
        invite_accept_dialog=f"{config.public_url}{ACCEPT_INVITE}",
        ssh=ssh_of(config),
        object_values=not config.federation.plain_discovery,
    )
