"""The composition root: builds everything from the configuration, starts it, and stops it in the reverse order.

Nothing else constructs what it uses: every part gets its neighbours as constructor arguments.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator
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
from gateway.config import Address, Config
from gateway.dav.door import DavDoor
from gateway.files import Moves
from gateway.ocm.discovery import describe
from gateway.outbound import AsyncOutbound, Guard, SyncOutbound
from gateway.outbox import Outbox
from gateway.peers import Peers
from gateway.receiving import Receiving
from gateway.remote import Remote
from gateway.roots import Roots, open_backend
from gateway.sending import Sending
from gateway.signing_keys import SigningKeys
from gateway.store.engine import Store
from gateway.store.sealing import Sealer, key_file
from gateway.tree import Mounts, Storage, Tree
from gateway.trust import Trust
from gateway.users import Passwords, Users
from gateway.watch import Watch
from gateway.web.door import WebDoor

USER_AGENT = f"ocm-gateway/{__version__}"
CAPABILITIES = ("exchange-token", "http-sig", "notifications", "protocol-object")
MAX_LINE = 32 * 1024  # bytes of a request line or header field; aiohttp's 8,190 are too few for deep paths
READ_BUFFER = 1024 * 1024  # bytes received ahead of an upload's storage
STOP_TIME = 10.0  # seconds that running requests have to end

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
    keys_directory = config.state_dir / "keys"
    store = Store(config.database_url)
    stack.callback(store.close)
    sealer = Sealer(key_file(keys_directory / "state.key", lambda: os.urandom(32)))
    keys = SigningKeys(keys_directory, config.origin, clock)

    storages = {name: _storage(stack, store, config, name) for name in config.backends}
    mounts = Mounts(config.mounts, config.groups)
    passwords = Passwords(store)
    stack.callback(passwords.close)
    access = Access(store, mounts, passwords, issuer=config.origin, token_keys=keys.public, clock=clock)

    guard = Guard(config.federation.allow_networks, config.federation.http_allowed)
    outbound = AsyncOutbound(guard, user_agent=USER_AGENT)
    stack.push_async_callback(outbound.close)
    sync_outbound = SyncOutbound(guard, user_agent=USER_AGENT)
    stack.callback(sync_outbound.close)
    trust = Trust(store, clock)
    peers = Peers(
        store,
        outbound,
        trust,
        keys,
        server=config.server,
        http_allowed=config.federation.http_allowed,
        clock=clock,
    )
    outbox = Outbox(store, clock)
    remote = Remote(store, peers, sync_outbound, sealer, server=config.server, clock=clock)
    stack.callback(remote.close)
    tree = Tree(store, mounts, storages, remote.storage, clock)
    sending = Sending(
        store,
        tree,
        access,
        trust,
        peers,
        outbox,
        keys,
        sealer,
        server=config.server,
        origin=config.origin,
        dav_url=f"{config.public_url}/dav/ocm/",
        clock=clock,
    )
    receiving = Receiving(store, peers, outbox, remote, sealer, server=config.server, clock=clock)

    moves = Moves(store)
    await asyncio.to_thread(moves.replay, storages)

    metrics = Metrics(store, config.proxy.trusted)
    watch = Watch(access)
    commands = Commands(
        Users(store, passwords, clock),
        access,
        sending,
        receiving,
        trust,
        peers,
        outbox,
        keys,
        Roots(store, storages, clock),
        _status,
    )
    api = ApiDoor(
        sending,
        receiving,
        peers,
        keys,
        document=_document(config),
        origin=config.origin,
        base_path=config.base_path,
    )
    dav = DavDoor(access, tree, moves, watch, base_path=config.base_path, origin=config.origin)

    public = web.Application(middlewares=[metrics.middleware], client_max_size=0)
    api.add_routes(public.router)
    dav.add_routes(public.router)
    WebDoor(config).add_routes(public)

    admin = bind(config.listen.admin)
    stack.callback(config.listen.admin.unlink, missing_ok=True)
    _background(stack, watch.run(), "watch")
    _background(stack, remote.refresh(), "refresh")
    outbox.start()
    stack.push_async_callback(outbox.stop)
    http = await _listen(stack, public, [config.listen.http], _tls(config))
    measured = await _listen(stack, metrics.app(), [config.listen.metrics] if config.listen.metrics else [], None)
    await _listen_on(stack, AdminSocket(commands).app, admin)
    return Running(http, measured, config.listen.admin)


def _storage(stack: AsyncExitStack, store: Store, config: Config, name: str) -> Storage:
    backend: StorageBackend = open_backend(name, config.backends[name], store, config.state_dir)
    pool = Pool(f"backend-{name}")
    stack.callback(backend.close)
    stack.callback(pool.close)
    return Storage(name, backend, pool)


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


def _background(stack: AsyncExitStack, work: Any, name: str) -> None:
    """Run `work` until the gateway stops; an error of ours there is logged and stops the gateway's task alone."""
    task = asyncio.create_task(work, name=name)

    async def stop() -> None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    task.add_done_callback(_report)
    stack.push_async_callback(stop)


def _report(task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("a background task has failed", task=task.get_name(), exc_info=error)


async def _listen(
    stack: AsyncExitStack, app: web.Application, addresses: list[Address], tls: ssl.SSLContext | None
) -> list[tuple[str, int]]:
    """Serve `app` on `addresses` and return where it really listens."""
    if not addresses:
        return []
    runner = await _runner(stack, app)
    for address in addresses:
        await web.TCPSite(runner, address.host, address.port, ssl_context=tls, reuse_address=True).start()
    return [(where[0], where[1]) for where in runner.addresses]


async def _listen_on(stack: AsyncExitStack, app: web.Application, listener: socket.socket) -> None:
    await web.SockSite(await _runner(stack, app), listener).start()


async def _runner(stack: AsyncExitStack, app: web.Application) -> web.AppRunner:
    # aiohttp would otherwise gunzip uploads silently.
    runner = web.AppRunner(
        app,
        access_log=None,
        auto_decompress=False,
        max_line_size=MAX_LINE,
        max_field_size=MAX_LINE,
        read_bufsize=READ_BUFFER,
        shutdown_timeout=STOP_TIME,
        handle_signals=False,
    )
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    return runner


def _tls(config: Config) -> ssl.SSLContext | None:
    if config.tls is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(config.tls.certificate, config.tls.key)
    return context


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
