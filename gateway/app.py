"""The composition root: builds everything from the configuration, starts it, and stops it in the reverse order.

Nothing else constructs what it uses: every part gets its neighbours as constructor arguments.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from aiohttp import web

from backends.interface import StorageBackend
from backends.pool import Pool
from gateway import __version__, systemd
from gateway.access import Access
from gateway.admin.commands import Commands
from gateway.admin.metrics import Metrics
from gateway.admin.socket import AdminSocket, bind
from gateway.api.door import ApiDoor
from gateway.changes import Changes
from gateway.config import Config, LocalConfig
from gateway.dav.door import DavDoor
from gateway.expiring import Expiring
from gateway.files import Moves
from gateway.issuing import Issuing
from gateway.listening import STOP_TIME, listen, listen_on
from gateway.mounts import Mounts
from gateway.ocm.discovery import describe
from gateway.outbound import AsyncOutbound, Guard, SyncOutbound
from gateway.outbox import Outbox
from gateway.own_paths import OwnPaths
from gateway.peers import Peers
from gateway.receiving import Receiving
from gateway.remote import Remote
from gateway.roots import Roots, open_backend, require_roots, settle
from gateway.sending import Sending
from gateway.signing_keys import SigningKeys
from gateway.store.engine import Store
from gateway.store.lifesigns import LifeSign
from gateway.store.sealing import Sealer, key_file
from gateway.tree import Storage, Tree
from gateway.trust import Trust
from gateway.upstream.door import UpstreamDoor
from gateway.users import Passwords, Users
from gateway.watch import Watch
from gateway.web.door import WebDoor

USER_AGENT = f"ocm-gateway/{__version__}"
CAPABILITIES = ("exchange-token", "http-sig", "notifications", "protocol-object")
SETTLE_TIME = 5.0  # seconds that the start waits for storage

log = structlog.get_logger()


class AlreadyRunning(Exception):
    """Another gateway works on this state directory."""


@dataclass(frozen=True, slots=True)
class Running:
    """A started gateway: where its doors listen."""

    http: list[tuple[str, int]]
    metrics: list[tuple[str, int]]
    admin: Path


@asynccontextmanager
async def running(config: Config, clock: Callable[[], float] = time.time) -> AsyncIterator[Running]:
    """Run a gateway until the block ends; raises AlreadyRunning, OSError when an address is taken."""
    async with AsyncExitStack() as stack:
        _private_directory(config.state_dir)
        stack.enter_context(_lock(config.state_dir))
        yield await _start(stack, config, clock)
        systemd.notify("STOPPING=1")


async def serve(config: Config) -> None:
    """Run a gateway until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    async with running(config) as gateway:
        log.info(
            "ocm-gateway is ready",
            version=__version__,
            public_url=config.public_url,
            listening=[_where(address) for address in gateway.http],
            admin=str(gateway.admin),
        )
        systemd.notify("READY=1")
        watchdog = asyncio.create_task(systemd.keep_alive())
        await stop.wait()
        watchdog.cancel()
        log.info("stopping", seconds_for_running_requests=STOP_TIME)


async def _start(stack: AsyncExitStack, config: Config, clock: Callable[[], float]) -> Running:
    ground = _ground(stack, config, clock)
    outside = _outside(stack, config, ground)
    sharing = _sharing(stack, config, ground, outside)
    moves = Moves(ground.store)
    await _settle(stack, moves, ground)
    _background(stack, sharing.watch.run(), "watch")
    _background(stack, sharing.remote.refresh(), "refresh")
    expiring = Expiring(ground.store, sharing.sending, sharing.receiving, clock)
    _background(stack, expiring.run(), "expiring")
    sharing.outbox.start()
    stack.push_async_callback(sharing.outbox.stop)
    return await _open_doors(stack, config, ground, outside, sharing, moves)


@dataclass(frozen=True, slots=True)
class _Ground:
    """What everything stands on: state, keys, storage."""

    clock: Callable[[], float]
    store: Store
    sealer: Sealer
    keys: SigningKeys
    storages: Mapping[str, Storage]
    changes: Changes
    mounts: Mounts
    passwords: Passwords
    access: Access


@dataclass(frozen=True, slots=True)
class _Outside:
    """The ways to other servers."""

    trust: Trust
    peers: Peers
    streaming: SyncOutbound


@dataclass(frozen=True, slots=True)
class _Sharing:
    """The use cases."""

    outbox: Outbox
    remote: Remote
    tree: Tree
    watch: Watch
    sending: Sending
    receiving: Receiving
    issuing: Issuing


def _ground(stack: AsyncExitStack, config: Config, clock: Callable[[], float]) -> _Ground:
    keys_directory = config.state_dir / "keys"
    store = Store(config.database_url)
    stack.callback(store.close)
    require_roots(config, store)
    keys = SigningKeys(keys_directory, config.origin, clock)
    storages = {name: _storage(stack, store, config, name) for name in config.backends}
    mounts = Mounts(config.mounts, config.groups)
    passwords = Passwords(store)
    stack.callback(passwords.close)
    return _Ground(
        clock=clock,
        store=store,
        sealer=Sealer(key_file(keys_directory / "state.key", lambda: os.urandom(32))),
        keys=keys,
        storages=storages,
        changes=_changes(stack, config, store, storages),
        mounts=mounts,
        passwords=passwords,
        access=Access(store, mounts, passwords, issuer=config.origin, token_keys=keys.public, clock=clock),
    )


def _outside(stack: AsyncExitStack, config: Config, ground: _Ground) -> _Outside:
    guard = Guard(config.federation.allow_networks, config.federation.http_allowed)
    asking = AsyncOutbound(guard, user_agent=USER_AGENT)
    stack.push_async_callback(asking.close)
    streaming = SyncOutbound(guard, user_agent=USER_AGENT)
    stack.callback(streaming.close)
    trust = Trust(ground.store, ground.clock)
    peers = Peers(
        ground.store,
        asking,
        trust,
        ground.keys,
        server=config.server,
        http_allowed=config.federation.http_allowed,
        clock=ground.clock,
    )
    return _Outside(trust, peers, streaming)


def _sharing(stack: AsyncExitStack, config: Config, ground: _Ground, outside: _Outside) -> _Sharing:
    store, sealer, clock, peers = ground.store, ground.sealer, ground.clock, outside.peers
    outbox = Outbox(store, clock)
    remote = Remote(store, peers, outside.streaming, sealer, server=config.server, clock=clock)
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
        server=config.server,
        dav_url=f"{config.public_url}/dav/ocm/",
        clock=clock,
    )
    return _Sharing(
        outbox=outbox,
        remote=remote,
        tree=tree,
        watch=Watch(ground.access),
        sending=sending,
        receiving=Receiving(store, peers, outbox, remote, sealer, server=config.server, clock=clock),
        issuing=Issuing(store, ground.keys, origin=config.origin, clock=clock),
    )


async def _settle(stack: AsyncExitStack, moves: Moves, ground: _Ground) -> None:
    """Let each storage settle what a crash has left, in its own threads; one that hangs delays nobody."""

    def work(storage: Storage) -> None:
        settle(storage, ground.store)
        moves.replay({storage.name: storage})
        ground.changes.watch_shares(storage.name)

    storages = ground.storages.values()
    tasks = [_background(stack, storage.pool.run(work, storage), f"settle {storage.name}") for storage in storages]
    if tasks:
        await asyncio.wait(tasks, timeout=SETTLE_TIME)


async def _open_doors(
    stack: AsyncExitStack, config: Config, ground: _Ground, outside: _Outside, sharing: _Sharing, moves: Moves
) -> Running:
    metrics = Metrics(ground.store, config.proxy.trusted)
    public = web.Application(middlewares=[metrics.middleware], client_max_size=0)
    own_paths = OwnPaths(config.base_path, has_upstream=config.upstream is not None)
    if config.upstream is not None:
        trusted = config.proxy.trusted
        upstream = UpstreamDoor(config.upstream, own_paths, server=config.server, trusted_proxies=trusted)
        stack.callback(upstream.close)
        upstream.add_routes(public.router)
    ApiDoor(
        sharing.sending,
        sharing.receiving,
        sharing.issuing,
        outside.peers,
        ground.keys,
        document=_document(config),
        origin=config.origin,
        base_path=config.base_path,
    ).add_routes(public.router)
    dav = DavDoor(
        ground.access,
        sharing.tree,
        moves,
        sharing.watch,
        ground.changes,
        base_path=config.base_path,
        origin=config.origin,
    )
    stack.callback(dav.close)
    dav.add_routes(public.router)
    WebDoor(config, own_paths.pages).add_routes(public)
    admin = bind(config.listen.admin)
    stack.callback(config.listen.admin.unlink, missing_ok=True)
    http = await listen(stack, public, [config.listen.http], config.tls)
    measured = await listen(stack, metrics.app(), [config.listen.metrics] if config.listen.metrics else [])
    await listen_on(stack, AdminSocket(_commands(ground, outside, sharing)).app, admin)
    return Running(http, measured, config.listen.admin)


def _commands(ground: _Ground, outside: _Outside, sharing: _Sharing) -> Commands:
    return Commands(
        Users(ground.store, ground.passwords, ground.clock),
        ground.access,
        sharing.sending,
        sharing.receiving,
        outside.trust,
        outside.peers,
        sharing.outbox,
        ground.keys,
        Roots(ground.store, ground.storages, ground.clock),
        _status,
    )


def _storage(stack: AsyncExitStack, store: Store, config: Config, name: str) -> Storage:
    backend: StorageBackend = open_backend(name, config.backends[name], store, config.state_dir)
    pool = Pool(f"backend-{name}")
    stack.callback(backend.close)
    stack.callback(pool.close)
    return Storage(name, backend, pool)


def _changes(stack: AsyncExitStack, config: Config, store: Store, storages: Mapping[str, Storage]) -> Changes:
    changes = Changes(store, LifeSign(config.state_dir / "alive"))
    changes.start(storages)
    stack.callback(changes.close)
    for name, storage in storages.items():
        backend = config.backends[name]
        watches = backend.watch if isinstance(backend, LocalConfig) else 0
        changes.follow(name, storage.backend, storage.pool, watches)
    return changes


def _document(config: Config) -> dict[str, object]:
    """Return our own discovery document; it advertises only what works."""
    api = f"{config.public_url}/ocm"
    return describe(
        public_url=config.public_url,
        provider=config.provider,
        capabilities=CAPABILITIES,
        criteria=(),  # each shuts out most of today's products (wire.md, Discovery)
        token_end_point=f"{api}/token",
        jwks_uri=f"{api}/jwks",
    )


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


def _private_directory(path: Path) -> None:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)


@contextmanager
def _lock(state_dir: Path) -> Iterator[None]:
    """Hold the state directory: two gateways on one state would each believe to be the only outbox."""
    descriptor = os.open(state_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise AlreadyRunning(f"another gateway is running with the state directory {state_dir}") from None
    finally:
        os.close(descriptor)


def _status() -> dict[str, Any]:
    return {"version": __version__, "pid": os.getpid()}


def _where(address: tuple[str, int]) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
