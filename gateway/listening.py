"""How the doors listen: HTTP servers on addresses and sockets, and TLS."""

from __future__ import annotations

import socket
import ssl
import sys
from collections.abc import Iterable
from contextlib import AsyncExitStack
from typing import Any

import structlog
from aiohttp import ClientPayloadError, web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import RequestPayloadError

from gateway.config import Address, TLSConfig

MAX_LINE = 32 * 1024  # bytes of a request line or header field; aiohttp's 8,190 are too few for deep paths
READ_BUFFER = 1024 * 1024  # bytes received ahead of an upload's storage
STOP_TIME = 10.0  # seconds that running requests have to end

# What is wrong with the bytes of a client; their texts quote these bytes, credentials among them.
OF_CLIENTS = (HttpProcessingError, ClientPayloadError, RequestPayloadError)

log = structlog.get_logger()


async def listen(
    stack: AsyncExitStack, app: web.Application, addresses: Iterable[Address], tls: TLSConfig | None = None
) -> list[tuple[str, int]]:
    """Serve `app` on `addresses` until `stack` closes, and return where it really listens; raises OSError."""
    runner = await _runner(stack, app)
    context = _context(tls) if tls else None
    for address in addresses:
        await web.TCPSite(runner, address.host, address.port, ssl_context=context, reuse_address=True).start()
    return [(where[0], where[1]) for where in runner.addresses]


async def listen_on(stack: AsyncExitStack, app: web.Application, listener: socket.socket) -> None:
    """Serve `app` on a bound socket until `stack` closes."""
    await web.SockSite(await _runner(stack, app), listener).start()


async def _runner(stack: AsyncExitStack, app: web.Application) -> web.AppRunner:
    runner = web.AppRunner(
        app,
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
