"""The composition root: builds everything from the configuration, starts it, and stops it in the reverse order.

Nothing else constructs what it uses: every part gets its neighbours as constructor arguments.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_network
from typing import Any

import structlog
from aiohttp import web

from backends.interface import StorageBackend
from backends.pool import Pool
from gateway import __version__
from gateway.access import Access
from gateway.admin.calling import Command
from gateway.admin.commands import Commands
from gateway.admin.departure_commands import DepartureCommands
from gateway.admin.directory_commands import DirectoryCommands
from gateway.admin.doctor_commands import DoctorCommands
from gateway.admin.explain_commands import ExplainCommands
from gateway.admin.invite_commands import InviteCommands
from gateway.admin.metrics import Metrics
from gateway.admin.request_commands import RequestCommands
from gateway.admin.socket import AdminSocket
from gateway.admin.tally import Tally
from gateway.admitting import CRITERIA, Admitting
from gateway.api.door import ApiDoor
from gateway.api.echo import EchoDoor
from gateway.belongings import Belongings
from gateway.breaker import Breakers
from gateway.changes import Changes
from gateway.config import Config, FederationConfig, LegacyConfig, LocalConfig, is_open
from gateway.contacts import Contacts
from gateway.dav.door import DavDoor
from gateway.departing import Departing
from gateway.directories import Directories, sources
from gateway.doctor.itself import Itself, Self
from gateway.doctor.peer import PeerDoctor
from gateway.doctor.replay import Replay
from gateway.doctor.tickets import Tickets
from gateway.expiring import Expiring
from gateway.explaining import Explaining
from gateway.files import Moves
from gateway.first_contacts import FirstContacts
from gateway.group_shares import GroupShares
from gateway.hinting import Hints
from gateway.inviting import Inviting
from gateway.issuing import Issuing
from gateway.last_seen import LastSeen
from gateway.legacy import Legacy, Policy, Way
from gateway.limiting import client_of, limiter
from gateway.limits import LIMITED, Limits
from gateway.listening import STOP_TIME, Doors, listen_on
from gateway.living import Living
from gateway.locks import Locks
from gateway.logins import Logins
from gateway.mounts import Mounts
from gateway.ocm.discovery import describe
from gateway.outbound import AsyncOutbound, Guard, SyncOutbound
from gateway.outbox import Outbox
from gateway.own_paths import ACCEPT_INVITE, OwnPaths
from gateway.peers import Peers
from gateway.proving import Proving
from gateway.receiving import Receiving
from gateway.remote import Remote
from gateway.requesting import Requesting
from gateway.resharing import Resharing
from gateway.roots import (
    Roots,
    as_service,
    open_backend,
    require_ownership,
    require_roots,
    settle,
    view_of,
)
from gateway.sending import Sending
from gateway.settling import Settling
from gateway.signing import Signing
from gateway.signing_keys import SigningKeys
from gateway.store.engine import Store
from gateway.store.sealing import Sealer, key_file
from gateway.team import Team
from gateway.traces import Traces
from gateway.tree import Storage, Tree
from gateway.trust import Trust
from gateway.turns import Turns
from gateway.uploads import Uploads
from gateway.upstream.door import UpstreamDoor
from gateway.users import Passwords, Users
from gateway.verifying import Verifying
from gateway.watch import Watch
from gateway.wayf import Wayf
from gateway.web.door import WebDoor
from gateway.web.forms import FormTokens
from gateway.web.inviting import AcceptInvitePage
from gateway.web.wayf import WayfPage

USER_AGENT = f"ocm-gateway/{__version__}"
CAPABILITIES = ("exchange-token", "http-sig", "invite-wayf", "invites", "notifications", "protocol-object")
EVERYWHERE = (ip_network("0.0.0.0/0"), ip_network("::/0"))
SETTLE_TIME = 5.0  # seconds that the start waits for storage

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Seat:
    """The place of this process among those of its gateway."""

    team: Team
    tally: Tally
    doors: Doors
    number: int  # 0 and up
    is_first: bool  # no other process of the gateway runs yet


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
    ground = _ground(stack, config, seat, clock)
    outside = _outside(stack, config, ground)
    sharing = _sharing(stack, config, ground, outside, seat.team)
    moves, roots = Moves(ground.store, ground.living), Roots(ground.store, ground.storages, ground.clock)
    await _settle(stack, moves, ground)
    settling = Settling(ground.store, moves, ground.storages, sharing.remote.named)
    _background(stack, settling.run(), "settling")
    _background(stack, sharing.watch.run(), "watch")
    _background(stack, sharing.remote.forget_in_time(), "forget")
    _background(stack, sharing.last_seen.run(), "last seen")
    _background(stack, roots.follow(), "roots")
    metrics = Metrics(
        ground.store,
        config.proxy.trusted,
        tally=seat.tally,
        team=seat.team,
        worker=seat.number,
        breakers=outside.peers.breakers,
    )
    await _open_doors(stack, config, ground, outside, sharing, moves, metrics, seat)
    # aiohttp waits for running requests, asks them to end, and waits as long again: a transfer does not hear it.
    stack.callback(asyncio.get_running_loop().call_later, STOP_TIME, sharing.watch.cut_all)
    doctor = _doctor(stack, config, ground, outside, sharing)
    commands = {**_commands(config, ground, outside, sharing, roots, seat), **doctor.table}
    return partial(_lead, ground.storages, outside.directories, sharing, metrics, commands, seat)


async def _lead(
    storages: Mapping[str, Storage],
    directories: Directories,
    sharing: _Sharing,
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

    _background(stack, sharing.remote.refresh(), "refresh")
    # Before the outbox looks for the first time: what is written after that look rings, and is heard.
    loop.add_reader(team.bell, hear)
    stack.callback(loop.remove_reader, team.bell)
    _background(stack, sharing.expiring.run(), "expiring")
    _background(stack, directories.run(), "directories")
    _background(stack, sharing.group_shares.run(), "group shares")
    for name, storage in storages.items():
        _background(stack, sharing.uploads.run(as_service(storage)), f"uploads {name}")
    _background(stack, sharing.uploads.run_without(storages), "uploads elsewhere")
    sharing.outbox.start()
    stack.push_async_callback(sharing.outbox.stop)
    await listen_on(stack, metrics.app(), *seat.doors.metrics)
    await listen_on(stack, AdminSocket(commands).app, seat.doors.admin)


@dataclass(frozen=True, slots=True)
class _Ground:
    """What everything stands on: state, keys, storage."""

    clock: Callable[[], float]
    store: Store
    sealer: Sealer
    keys: SigningKeys
    storages: Mapping[str, Storage]
    living: Living
    changes: Changes
    mounts: Mounts
    passwords: Passwords
    legacy: Legacy
    access: Access
    tickets: Tickets


@dataclass(frozen=True, slots=True)
class _Outside:
    """The ways to other servers."""

    trust: Trust
    directories: Directories
    peers: Peers
    proving: Proving
    streaming: SyncOutbound
    asking: AsyncOutbound
    traces: Traces
    wayf: Wayf


@dataclass(frozen=True, slots=True)
class _Sharing:
    """The use cases."""

    outbox: Outbox
    remote: Remote
    last_seen: LastSeen
    tree: Tree
    watch: Watch
    uploads: Uploads
    sending: Sending
    receiving: Receiving
    requesting: Requesting
    resharing: Resharing
    departing: Departing
    hints: Hints
    issuing: Issuing
    expiring: Expiring
    inviting: Inviting
    contacts: Contacts
    group_shares: GroupShares


def _ground(stack: AsyncExitStack, config: Config, seat: Seat, clock: Callable[[], float]) -> _Ground:
    keys_directory = config.state_dir / "keys"
    store = Store(config.database_url)
    stack.callback(store.close)
    require_roots(config, store)
    living = Living(config.state_dir / "processes")
    stack.callback(living.close)
    living.adopt(config.state_dir / "alive")
    keys = SigningKeys(keys_directory, config.origin, clock)
    keys.cavage_key()  # so that no request has to wait until it is made
    storages = {name: _storage(stack, store, config, name) for name in config.backends}
    mounts = Mounts(config.mounts, config.groups)
    passwords = Passwords(store)
    stack.callback(passwords.close)
    legacy = Legacy(store, _policy(config.federation.legacy), count=seat.tally.ways.counter(seat.number), clock=clock)
    return _Ground(
        clock=clock,
        store=store,
        sealer=Sealer(key_file(keys_directory / "state.key", lambda: os.urandom(32))),
        keys=keys,
        storages=storages,
        living=living,
        changes=_changes(stack, config, store, storages, living),
        mounts=mounts,
        passwords=passwords,
        legacy=legacy,
        access=Access(
            store, mounts, passwords, issuer=config.origin, token_keys=keys.public, legacy=legacy, clock=clock
        ),
        tickets=Tickets(key_file(keys_directory / "doctor.key", lambda: os.urandom(32))),
    )


def _outside(stack: AsyncExitStack, config: Config, ground: _Ground) -> _Outside:
    lists = config.federation
    guard = Guard(lists.allow_networks, lists.http_allowed, lists.denies)
    authorities = lists.authorities
    asking = AsyncOutbound(guard, user_agent=USER_AGENT, authorities=authorities)
    stack.push_async_callback(asking.close)
    streaming = SyncOutbound(guard, user_agent=USER_AGENT, authorities=authorities)
    stack.callback(streaming.close)
    directories = Directories(ground.store, asking, sources(lists.directories), ground.clock)
    trust = Trust(ground.store, ground.clock, lists=lists, is_member=directories.is_member)
    traces = Traces(config.state_dir / "traces", ground.clock)
    breakers = Breakers(ground.clock)
    peers = Peers(
        ground.store,
        asking,
        trust,
        Signing(ground.keys, ground.legacy, ground.clock),
        server=config.server,
        http_allowed=lists.http_allowed,
        first_contacts=FirstContacts(lists.first_contacts.per_source, lists.first_contacts.per_target),
        traces=traces,
        clock=ground.clock,
        breakers=breakers,
    )
    wayf = Wayf(peers, directories, server=config.server, check_url=guard.check_url)
    proving = _proving(config, ground, peers, trust)
    return _Outside(trust, directories, peers, proving, streaming, asking, traces, wayf)


def _policy(legacy: LegacyConfig) -> Policy:
    """Return which ways are open to whom."""
    openness = {
        Way.BASIC: legacy.basic,
        Way.BEARER_SECRET: legacy.bearer_secret,
        Way.UNSIGNED: legacy.unsigned,
        Way.CAVAGE: legacy.cavage,
    }
    return lambda way, server: is_open(openness[way], server)


def _proving(config: Config, ground: _Ground, peers: Peers, trust: Trust) -> Proving:
    verifying = Verifying(ground.store, peers, ground.clock)
    must_sign = "must-use-http-sig" in _criteria(config.federation)
    return Proving(
        ground.store, peers, verifying, trust, ground.legacy, must_use_http_sig=must_sign, clock=ground.clock
    )


def _sharing(stack: AsyncExitStack, config: Config, ground: _Ground, outside: _Outside, team: Team) -> _Sharing:
    store, sealer, clock, peers = ground.store, ground.sealer, ground.clock, outside.peers
    outbox = Outbox(store, clock, team.ring)
    hop = asyncio.get_running_loop().call_soon_threadsafe
    peers.breakers.when_returned(lambda server: hop(outbox.returned, server))
    turns = Turns(config.state_dir / "turns")
    stack.callback(turns.close)
    remote = Remote(
        store, peers, outside.streaming, sealer, turns, server=config.server, legacy=ground.legacy, clock=clock
    )
    stack.callback(remote.close)
    tree = Tree(store, ground.mounts, ground.storages, remote.storage, ground.changes, clock)
    sending = Sending(
        store,
        tree,
        ground.access,
        outside.trust,
        peers,
        outbox,
        sealer,
        **_names(config),
        clock=clock,
    )
    policy = Admitting(config.federation.accept, config.federation.auto_accept, outside.trust.is_listed)
    receiving = Receiving(
        *(store, peers, outbox, remote, sealer),
        server=config.server,
        policy=policy,
        groups=config.groups,
        clock=clock,
    )
    requesting = Requesting(
        *(store, sending, receiving, ground.access, outside.trust, peers, outbox), server=config.server, clock=clock
    )
    departing = Departing(
        *(store, sending, receiving, remote, ground.access, peers, outbox), server=config.server, clock=clock
    )
    hints = Hints(store, receiving, remote, peers, clock)
    stack.push_async_callback(hints.close)
    return _Sharing(
        outbox=outbox,
        remote=remote,
        last_seen=LastSeen(store, clock),
        tree=tree,
        watch=Watch(ground.access),
        uploads=Uploads(store, ground.access, ground.mounts, clock, parked=team.parked),
        sending=sending,
        receiving=receiving,
        requesting=requesting,
        resharing=Resharing(
            *(store, tree, sending, receiving, requesting, outside.trust, peers, outbox, sealer),
            server=config.server,
            clock=clock,
        ),
        issuing=Issuing(store, ground.keys, origin=config.origin, clock=clock),
        expiring=Expiring(store, sending, receiving, clock),
        inviting=Inviting(store, peers, server=config.server, public_url=config.public_url, policy=policy, clock=clock),
        contacts=Contacts(store, server=config.server, clock=clock),
        departing=departing,
        hints=hints,
        group_shares=GroupShares(store, receiving, departing, sealer, config.groups, clock),
    )


async def _settle(stack: AsyncExitStack, moves: Moves, ground: _Ground) -> None:
    """Let each storage settle what a crash has left, in its own threads; one that hangs delays nobody.

    Where other processes of the gateway run, that is only what is provably of the dead.
    """

    def work(storage: Storage) -> None:
        settle(storage, ground.store)
        moves.replay({storage.name: as_service(storage)})
        ground.changes.watch_shares(storage.name)

    storages = ground.storages.values()
    tasks = [_background(stack, storage.pool.run(work, storage), f"settle {storage.name}") for storage in storages]
    if tasks:
        await asyncio.wait(tasks, timeout=SETTLE_TIME)


async def _open_doors(
    stack: AsyncExitStack,
    config: Config,
    ground: _Ground,
    outside: _Outside,
    sharing: _Sharing,
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
        document=_document(config),
        shows_cavage_key=config.federation.legacy.cavage != "deny",
        origin=config.origin,
        base_path=config.base_path,
        limits=limits,
        trusted_proxies=config.proxy.trusted,
    ).add_routes(public.router)
    dav = DavDoor(
        *(ground.access, sharing.tree, moves, sharing.watch, ground.changes, sharing.uploads),
        Locks(ground.store, ground.clock),
        Belongings(ground.store),
        base_path=config.base_path,
        origin=config.origin,
        like=metrics.like,
        logins=Logins(limits),
        client=partial(client_of, trusted=trusted),
        last_seen=sharing.last_seen,
    )
    stack.push_async_callback(dav.close, STOP_TIME)
    dav.add_routes(public.router)
    WebDoor(config, own_paths.pages).add_routes(public)
    WayfPage(
        outside.wayf,
        provider=config.provider,
        server=config.server,
        base_path=config.base_path,
        http_allowed=bool(config.federation.allow_http),
        trusted_proxies=config.proxy.trusted,
    ).add_routes(public)
    tokens = FormTokens(key_file(config.state_dir / "keys" / "forms.key", lambda: os.urandom(32)), ground.clock)
    AcceptInvitePage(config, ground.access, sharing.inviting, tokens).add_routes(public.router)
    await listen_on(stack, public, *seat.doors.http, tls=config.tls, before=dav.quick.before)


def _limits(config: Config, seat: Seat) -> Limits:
    rows = {name: getattr(config.limits, name) for name in LIMITED} if config.limits.enabled else {}
    bounds = {name: (row.burst, row.rate) for name, row in rows.items()}
    return Limits(bounds, partial(seat.tally.count_limited, seat.number))


def _names(config: Config) -> dict[str, str]:
    """Return what other servers know this one by: its name, and the URL of its webdav root."""
    return {"server": config.server, "dav_url": f"{config.public_url}/dav/ocm/"}


def _commands(
    config: Config, ground: _Ground, outside: _Outside, sharing: _Sharing, roots: Roots, seat: Seat
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
    explaining = Explaining(ground.store, sharing.sending, outside.peers, **_names(config))
    return {
        **commands.table,
        **InviteCommands(ground.access, sharing.inviting, sharing.contacts).table,
        **RequestCommands(ground.access, sharing.requesting, sharing.resharing).table,
        **DepartureCommands(sharing.departing).table,
        **DirectoryCommands(outside.directories).table,
        **ExplainCommands(ground.access, explaining).table,
    }


def _doctor(
    stack: AsyncExitStack, config: Config, ground: _Ground, outside: _Outside, sharing: _Sharing
) -> DoctorCommands:
    # To our own public URL alone, which the operator has chosen: it may well be a private address seen from here.
    home = AsyncOutbound(Guard(EVERYWHERE, lambda _host: True), user_agent=USER_AGENT)
    stack.push_async_callback(home.close)
    this = Self(config.public_url, config.origin, _document(config))
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
    return DoctorCommands(itself, peer, Replay(outside.peers), outside.traces)


def _storage(stack: AsyncExitStack, store: Store, config: Config, name: str) -> Storage:
    backend: StorageBackend = open_backend(name, config.backends[name], store, config.state_dir)
    pool = Pool(f"backend-{name}")
    stack.callback(backend.close)
    stack.callback(pool.close)
    return Storage(name, backend, pool, view_of(backend))


def _changes(
    stack: AsyncExitStack, config: Config, store: Store, storages: Mapping[str, Storage], living: Living
) -> Changes:
    changes = Changes(store)
    changes.start(storages, living)
    stack.callback(changes.close)
    for name, storage in storages.items():
        backend = config.backends[name]
        watches = backend.watch if isinstance(backend, LocalConfig) else 0
        changes.follow(name, as_service(storage).backend, storage.pool, watches)
    return changes


def _document(config: Config) -> dict[str, object]:
    """Return our own discovery document; it advertises only what works."""
    api = f"{config.public_url}/ocm"
    return describe(
        public_url=config.public_url,
        provider=config.provider,
        capabilities=CAPABILITIES,
        criteria=_criteria(config.federation),
        share_types=("user", "group") if config.groups else ("user",),
        token_end_point=f"{api}/token",
        jwks_uri=f"{api}/jwks",
        invite_accept_dialog=f"{config.public_url}{ACCEPT_INVITE}",
        object_values=not config.federation.plain_discovery,
    )


def _criteria(lists: FederationConfig) -> tuple[str, ...]:
    """Return what keeps others out, only where the operator has said so: most of today's products stumble over any."""
    words = dict.fromkeys(CRITERIA[word] for word in lists.accept)
    words |= dict.fromkeys((*(("allowlist",) if lists.is_closed else ()), *(("denylist",) if lists.denylist else ())))
    return tuple(words)


def _background(stack: AsyncExitStack, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
    """Run `work` until the gateway stops; an error of ours in it is logged and ends that work alone."""
    task = asyncio.create_task(work, name=name)

    async def stop() -> None:
        task.cancel()
        await asyncio.wait([task], timeout=STOP_TIME)

    task.add_done_callback(_report)
    stack.push_async_callback(stop)
    return task


def _report(task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("a background task has failed", task=task.get_name(), exc_info=error)
