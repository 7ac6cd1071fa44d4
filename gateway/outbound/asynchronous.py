"""The way out for the event loop: whole requests with small answers, on aiohttp."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from contextvars import ContextVar
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self
from urllib.parse import urljoin

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from multidict import CIMultiDictProxy
from yarl import URL

from gateway.outbound.certificates import Certificates
from gateway.outbound.errors import OutboundRefused, PeerUnreachable, Step, in_words
from gateway.outbound.guard import Destination, Guard, check_headers
from gateway.outbound.probing import Probe

CONNECT_SECONDS = 5.0  # for the look-up, and again for each address with its handshake
IDLE_SECONDS = 10.0
CONNECTIONS_PER_HOST = 8
LOOK_UPS = 32  # at the same time
STRANGERS_LOOK_UPS = 16  # beside those, for hosts that anybody may have named
PIECE = 64 * 1024  # bytes
REDIRECTS = frozenset({301, 302, 303, 307, 308})

Resolve = Callable[[str, int], Awaitable[list[str]]]


@dataclass(frozen=True, slots=True)
class Response:
    """A whole answer; the names of `headers` are case-insensitive."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes
    url: str  # that has answered so, after redirects


# The step that the request of this task has reached; resolver, TLS context and tracing each know one transition.
_step: ContextVar[list[Step] | None] = ContextVar("outbound_step", default=None)


# Whether this task's request goes to a host that nobody here knows; the resolver gives those a part of its own.
_to_stranger: ContextVar[bool] = ContextVar("outbound_to_stranger", default=False)


def _reached(step: Step) -> None:
    if (steps := _step.get()) is not None:
        steps[:] = [step]


class _SystemResolver:
    """The system's resolver, a daemon thread for each look-up, and so many at the same time.

    A look-up cannot be stopped: it may go on for half a minute after nobody waits for it any more. So what counts
    is the threads and not who waits, one too many is refused and does not wait in a line that may never move, and
    names that strangers have brought here take nothing from the others. The interpreter does not wait for daemons.
    """

    def __init__(self) -> None:
        self._running: Counter[bool] = Counter()  # by whether the host is a stranger
        self._lock = threading.Lock()

    async def __call__(self, host: str, port: int) -> list[str]:
        stranger = _to_stranger.get()
        limit = STRANGERS_LOOK_UPS if stranger else LOOK_UPS
        with self._lock:
            if self._running[stranger] >= limit:
                raise PeerUnreachable("dns", f"{host}:{port}", "too many names are being looked up at this moment")
            self._running[stranger] += 1
        looked_up: Future[list[str]] = Future()
        looked_up.set_running_or_notify_cancel()  # from here on only its thread ends it
        arguments = (looked_up, host, port, stranger)
        threading.Thread(target=self._look_up, args=arguments, name="look-up", daemon=True).start()
        return await asyncio.wrap_future(looked_up)

    def _look_up(self, looked_up: Future[list[str]], host: str, port: int, stranger: bool) -> None:
        answers: list[Any] = []
        failure: Exception | None = None
        try:
            answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except Exception as error:  # noqa: BLE001 -- whatever it is, it is the answer of who waits
            failure = error
        with self._lock:
            self._running[stranger] -= 1
        if failure is not None:
            looked_up.set_exception(failure)
        else:
            looked_up.set_result([str(answer[4][0]) for answer in answers])


class _CheckedResolver(AbstractResolver):
    """Gives aiohttp checked addresses only; it keeps none, so each connection has its own check."""

    def __init__(self, guard: Guard, ask: Resolve, patience: float) -> None:
        self._guard = guard
        self._ask = ask
        self._patience = patience

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        _reached("dns")
        try:
            async with asyncio.timeout(self._patience):
                answers = await self._ask(host, port)
        except (OSError, UnicodeError) as error:  # TimeoutError is an OSError
            raise PeerUnreachable("dns", f"{host}:{port}", in_words(error)) from None
        addresses = self._guard.passing(host, answers)
        if not addresses:
            raise PeerUnreachable("dns", f"{host}:{port}", "the name has no address")
        _reached("tcp")
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
            for address in addresses
        ]

    async def close(self) -> None:
        """There is nothing to release."""


class _TracingContext(ssl.SSLContext):
    """Notes when a handshake begins, so that a failure before it and one in it have different names."""

    def wrap_bio(self, *args: Any, **named: Any) -> ssl.SSLObject:
        _reached("tls")
        return super().wrap_bio(*args, **named)


async def _connected(_session: aiohttp.ClientSession, _context: SimpleNamespace, _facts: object) -> None:
    _reached("http")


class AsyncOutbound:
    """Sends one request at a time per call, any number of calls at once; an async context manager."""

    def __init__(
        self,
        guard: Guard,
        *,
        user_agent: str,
        authorities: Mapping[str, Path] | None = None,
        resolve: Resolve | None = None,
        connect_timeout: float = CONNECT_SECONDS,
        idle_timeout: float = IDLE_SECONDS,
    ) -> None:
        """`authorities` are those of `Certificates`; without `resolve` names are looked up as the system does; the
        time-outs are in seconds."""
        self._guard = guard
        self._user_agent = user_agent
        self._certificates = Certificates(_TracingContext, authorities)
        self._resolve = resolve or _SystemResolver()
        self._resolver = _CheckedResolver(guard, self._resolve, connect_timeout)
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=connect_timeout, sock_read=idle_timeout)
        self._session: aiohttp.ClientSession | None = None

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        timeout: float,
        max_body: int,
        stranger: bool = False,
        redirects: int = 0,
        before_redirect: Callable[[Destination], object] | None = None,
    ) -> Response:
        """Send one request and return the whole answer, whatever its status.

        `redirects` are followed at most, each checked like any URL; the last one is the answer. They are for a GET
        without headers of the caller's own: what goes to another host holds no credential and no signature. A redirect
        from https to http is not followed. `before_redirect` may raise what keeps the caller from going there.

        `timeout` bounds everything from the first look-up to the last byte, in seconds; `max_body` is in bytes. The
        look-ups for a `stranger`, a host that anybody may have named, are bounded apart.
        Raises OutboundRefused, PeerUnreachable.
        """
        if redirects and (method != "GET" or headers or body is not None):
            raise ValueError("a redirect is followed by a bare GET only")
        fields = {"Accept-Encoding": "identity", "User-Agent": self._user_agent, **(headers or {})}
        check_headers(fields)
        destination = self._guard.check_url(url)
        steps: list[Step] = ["tcp"]
        token, stranger_token = _step.set(steps), _to_stranger.set(stranger)
        try:
            async with asyncio.timeout(timeout):
                answer = await self._exchange(method, destination, fields, body, max_body)
                for _ in range(redirects):
                    if (target := _redirected(answer)) is None:
                        break
                    destination = self._guard.check_url(target)
                    if before_redirect is not None:
                        before_redirect(destination)
                    answer = await self._exchange(method, destination, fields, None, max_body)
                return answer
        except aiohttp.ClientError as error:
            # aiohttp hides the error of the operating system or of TLS inside its own.
            cause = getattr(error, "os_error", None) or getattr(error, "certificate_error", None) or error
            words = self._certificates.in_words(cause, destination.host)
            raise PeerUnreachable(steps[0], str(destination), words) from None
        except TimeoutError:
            raise PeerUnreachable(steps[0], str(destination), f"not done within {timeout:g} s") from None
        except OSError as error:
            raise PeerUnreachable(steps[0], str(destination), in_words(error)) from None
        finally:
            _step.reset(token)
            _to_stranger.reset(stranger_token)

    async def _exchange(
        self, method: str, destination: Destination, fields: Mapping[str, str], body: bytes | None, max_body: int
    ) -> Response:
        async with self._open_session().request(
            method,
            _as_yarl(destination),
            headers=fields,
            data=BytesIO(body) if body and len(body) > PIECE else body,  # aiohttp would send bytes in one piece
            ssl=self._certificates.of(destination.host),
            allow_redirects=False,
            skip_auto_headers=("Content-Type",),
        ) as answer:
            if answer.headers.get("Content-Encoding", "identity").lower() != "identity":
                raise PeerUnreachable("http", str(destination), "the answer has an encoding that was not asked for")
            content = bytearray()
            async for piece in answer.content.iter_chunked(PIECE):
                content += piece
                if len(content) > max_body:
                    answer.close()
                    raise PeerUnreachable("http", str(destination), f"the answer is larger than {max_body} bytes")
            return Response(answer.status, answer.headers, bytes(content), destination.url)

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            tracing = aiohttp.TraceConfig()
            tracing.on_connection_create_end.append(_connected)
            tracing.on_connection_reuseconn.append(_connected)
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    resolver=self._resolver,
                    use_dns_cache=False,
                    limit=0,
                    limit_per_host=CONNECTIONS_PER_HOST,
                ),
                timeout=self._timeout,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
                trace_configs=[tracing],
            )
        return self._session

    def probe(self) -> Probe:
        """Return the means to make one connection step by step."""
        return Probe(self._guard, self._certificates.of, self._resolve)

    async def close(self) -> None:
        """Close the connections; a later request opens new ones."""
        if self._session is not None:
            session, self._session = self._session, None
            await session.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()


def _redirected(answer: Response) -> str | None:
    """Return where the answer sends a GET (RFC 9110 §15.4); None if nowhere, or from https to something less.

    Raises OutboundRefused.
    """
    location = answer.headers.get("Location")
    if answer.status not in REDIRECTS or not location:
        return None
    try:
        target = urljoin(answer.url, location)
    except ValueError:  # as for `//[`
        raise OutboundRefused("URL_REFUSED", "a redirect to something that is no URL") from None
    return None if answer.url.startswith("https:") and target.lower().startswith("http:") else target


def _as_yarl(destination: Destination) -> URL:
    """Build aiohttp's URL from the parts that were checked, so that nothing is parsed twice."""
    path, _, query = destination.target.partition("?")
    url = URL.build(
        scheme=destination.scheme,
        host=destination.host,
        port=destination.port,
        path=path,
        query_string=query,
        encoded=True,
    )
    if url.raw_path_qs != destination.target:
        raise OutboundRefused("URL_REFUSED", "a URL that would be sent in another form than it was given")
    return url
