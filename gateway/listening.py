"""How the doors listen: HTTP servers on addresses and sockets, also of several processes on one port, and TLS."""

from __future__ import annotations

import asyncio
import socket
import ssl
import sys
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from typing import Any

import structlog
from aiohttp import ClientPayloadError, web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import RequestPayloadError
from aiohttp.web_urldispatcher import MaskDomain, MatchedSubAppResource, MatchInfoError

from gateway.config import Address, TLSConfig

MAX_LINE = 32 * 1024  # bytes of a request line or header field; aiohttp's 8,190 are too few for deep paths
WALK_MAX = 20_000_000  # bytes; the deepest path there can be, 2,048 names that are all escaped, needs 17 million
READ_BUFFER = 1024 * 1024  # bytes received ahead of an upload's storage
STOP_TIME = 10.0  # seconds that running requests have to end
BACKLOG = 511  # connections that wait to be accepted, also while a worker is replaced; the kernel may allow fewer
UNREAD_TIME = (
    300.0  # seconds that a client may leave what was sent to it unread; as long as downloads have (dav/stream)
)

# What is wrong with the bytes of a client; their texts quote these bytes, credentials among them.
OF_CLIENTS = (HttpProcessingError, ClientPayloadError, RequestPayloadError)

# Makes what stands between a transport and aiohttp's protocol of a connection.
Before = Callable[[web.RequestHandler], asyncio.Protocol]

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Doors:
    """The sockets of one process: bound, and not listening before they are served."""

    http: tuple[socket.socket, ...]
    metrics: tuple[socket.socket, ...]
    admin: socket.socket
    ssh: tuple[socket.socket, ...] = ()

    def close(self) -> None:
        """Close this process's descriptors of the sockets."""
        for listener in (*self.own, *self.metrics, self.admin):
            listener.close()

    @property
    def own(self) -> tuple[socket.socket, ...]:
        """The sockets that no other process of the gateway serves."""
        return *self.http, *self.ssh


def bind(address: Address, *, unread_time: float = UNREAD_TIME) -> list[socket.socket]:
    """Return a socket for each IP address that `address` means; raises OSError, as when somebody listens there.

    TCP_USER_TIMEOUT (tcp(7)) goes on to the connections: the kernel ends one whose client acknowledges nothing, or
    keeps its window shut, for `unread_time` seconds, and what is kept for it is free. A slow client's kernel opens the
    window again when much of a full receive buffer is read (RFC 9293 §3.8.6.2.2), so that is what the time is for.
    """
    bound = []
    for family, kind, protocol, _, where in socket.getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    ):
        listener = socket.socket(family, kind | socket.SOCK_NONBLOCK, protocol)
        bound.append(listener)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(unread_time * 1000))
            listener.bind(where)
        except OSError:
            for each in bound:
                each.close()
            raise
    return bound


def siblings(listener: socket.socket, count: int) -> list[socket.socket]:
    """Return `listener` and `count` - 1 more sockets on its address, among which the kernel spreads connections.

    SO_REUSEPORT (socket(7)) is set once `listener` has its port: so taking a port where another program listens fails
    as it always does, also if that is a gateway with several workers.
    """
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    found = [listener]
    for _ in range(count - 1):
        other = socket.socket(listener.family, listener.type | socket.SOCK_NONBLOCK, listener.proto)
        found.append(other)
        for level, option in _SHARED_OPTIONS:
            if level != socket.IPPROTO_IPV6 or listener.family == socket.AF_INET6:
                other.setsockopt(level, option, listener.getsockopt(level, option))
        other.bind(listener.getsockname())
    return found


_SHARED_OPTIONS = (
    (socket.SOL_SOCKET, socket.SO_REUSEADDR),
    (socket.SOL_SOCKET, socket.SO_REUSEPORT),
    (socket.IPPROTO_IPV6, socket.IPV6_V6ONLY),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT),
)


def spread(stack: ExitStack, address: Address | None, count: int) -> list[tuple[socket.socket, ...]]:
    """Return the sockets of each of `count` workers on one address, until `stack` closes; without an address none.

    Raises OSError.
    """
    listeners = bind(address) if address else []
    groups = [siblings(listener, count) if count > 1 else [listener] for listener in listeners]
    for listener in (each for group in groups for each in group):
        stack.callback(listener.close)
    return [tuple(group[number] for group in groups) for number in range(count)]


async def listen(
    stack: AsyncExitStack, app: web.Application, addresses: Iterable[Address], tls: TLSConfig | None = None
) -> list[tuple[str, int]]:
    """Serve `app` on `addresses` until `stack` closes, and return where it really listens; raises OSError."""
    listeners = [listener for address in addresses for listener in bind(address)]
    await listen_on(stack, app, *listeners, tls=tls)
    return [listener.getsockname()[:2] for listener in listeners]


async def listen_on(
    stack: AsyncExitStack,
    app: web.Application,
    *listeners: socket.socket,
    tls: TLSConfig | None = None,
    before: Before | None = None,
) -> None:
    """Serve `app` on bound sockets until `stack` closes; what `before` makes of a connection sees its bytes first."""
    context = _context(tls) if tls else None
    runner = await _runner(stack, app, before)
    for listener in listeners:
        await web.SockSite(runner, listener, ssl_context=context, backlog=BACKLOG).start()


class Runner(web.AppRunner):
    """aiohttp's runner, whose sites make connections that `before` stands in front of."""

    def __init__(self, app: web.Application, before: Before | None, **options: Any) -> None:
        super().__init__(app, **options)
        self._before = before

    @property
    def server(self) -> Any:
        server, before = super().server, self._before
        return server if server is None or before is None else lambda: before(server())


class _TooDeep(MatchedSubAppResource):
    """Refuses a path that would keep the router, and so all other requests, busy: it looks at every beginning of a path
    that ends at a slash, each as long as it is. 30,000 slashes took 150 ms; now nothing takes 10.

    Resources of this kind alone are asked before that (web_urldispatcher.py).
    """

    def __init__(self) -> None:
        super().__init__(MaskDomain("*"), web.Application())

    async def resolve(self, request: web.Request) -> tuple[web.UrlMappingMatchInfo | None, set[str]]:
        path = request.rel_url.path_safe
        if path.count("/") * len(path) <= WALK_MAX:
            return None, set()
        return MatchInfoError(web.HTTPRequestURITooLong()), set()


async def _runner(stack: AsyncExitStack, app: web.Application, before: Before | None) -> web.AppRunner:
    app.router.register_resource(_TooDeep())
    runner = Runner(
        app,
        before,
        access_log=None,
        logger=_ServerLog(),
        auto_decompress=False,  # aiohttp would otherwise gunzip uploads silently
        max_line_size=MAX_LINE,
        max_field_size=MAX_LINE,
        read_bufsize=READ_BUFFER,
        shutdown_timeout=STOP_TIME,
        handle_signals=False,
    )
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    return runner


class _ServerLog:
    """What aiohttp's server logs: a client's bad bytes as one line that quotes nothing, anything else with its trace.

    aiohttp calls these methods alone, as those of a logging.Logger (web_protocol.py, web_server.py).
    """

    def debug(self, message: str, *values: object, exc_info: BaseException | None = None) -> None:
        log.debug(_sentence(message, values), error=type(exc_info).__name__)

    def warning(self, message: str, *values: object) -> None:
        log.warning(_sentence(message, values))

    def exception(self, message: str, *values: object, exc_info: Any = None) -> None:
        error = exc_info if isinstance(exc_info, BaseException) else sys.exception()
        if _quotes_a_client(error):
            log.warning(_sentence(message, values), error=type(error).__name__)
        else:
            log.error(_sentence(message, values), exc_info=error)


def _sentence(message: str, values: tuple[object, ...]) -> str:
    return message % values if values else message


def _quotes_a_client(error: BaseException | None) -> bool:
    """Tell whether a trace of `error` would show the text of one of OF_CLIENTS."""
    while error is not None:
        if isinstance(error, OF_CLIENTS):
            return True
        error = error.__cause__ or error.__context__
    return False


def _context(tls: TLSConfig) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(tls.certificate, tls.key)
    return context
