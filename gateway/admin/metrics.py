"""Metrics for Prometheus and a health check, on a loopback port of their own; and one line per request in the log."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable

import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from sqlalchemy.exc import SQLAlchemyError

from backends.errors import StorageError
from gateway.config import Network
from gateway.proxies import client_address
from gateway.store import outbox
from gateway.store.engine import Store

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

METHODS = frozenset(
    (
        "GET",
        "HEAD",
        "PUT",
        "POST",
        "OPTIONS",
        "PROPFIND",
        "PROPPATCH",
        "MKCOL",
        "DELETE",
        "COPY",
        "MOVE",
        "LOCK",
        "UNLOCK",
    )
)  # what is counted by name; anything else is OTHER, so that a client cannot invent labels

log = structlog.get_logger()


class Metrics:
    """What is counted."""

    def __init__(self, store: Store, trusted_proxies: Iterable[Network] = ()) -> None:
        self._store = store
        self._trusted = tuple(trusted_proxies)
        self._registry = CollectorRegistry()
        labels = ("door", "method", "status")
        self._requests = Counter("ocm_gateway_requests", "Requests answered", labels, registry=self._registry)
        self._seconds = Histogram(
            "ocm_gateway_request_seconds",
            "Time from request to the end of its answer",
            ("door",),
            registry=self._registry,
        )
        self._children: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self._pending = Gauge("ocm_gateway_outbox_pending", "Messages not delivered yet", registry=self._registry)

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/metrics", self._show)
        app.router.add_get("/health", self._health)
        return app

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Count a request and log it when it ends; the path alone, never a query, a credential or a header."""
        begun = time.monotonic()
        status = 500
        try:
            response = await handler(request)
            status = response.status
            return response
        except web.HTTPException as error:
            status = error.status
            raise
        finally:
            seconds = time.monotonic() - begun
            door = door_of(request)
            self._count(door, _known_method(request.method), status, seconds)
            log.info(
                "request",
                door=door,
                method=request.method,
                path=_path_of(request),
                status=status,
                seconds=round(seconds, 4),
                principal=request.match_info.get("principal"),
                remote=client_address(request.remote, request.headers.get("X-Forwarded-For", ""), self._trusted),
            )

    def _count(self, door: str, method: str, status: int, seconds: float) -> None:
        found = self._children.get((door, method, status))
        if found is None:  # the library looks a child up with a lock and several copies; there are few of them
            found = self._requests.labels(door, method, str(status)), self._seconds.labels(door)
            self._children[door, method, status] = found
        found[0].inc()
        found[1].observe(seconds)

    async def _show(self, _request: web.Request) -> web.Response:
        pending = await self._count_pending()
        if pending is None:
            return _unavailable()
        self._pending.set(pending)
        return web.Response(body=generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _health(self, _request: web.Request) -> web.Response:
        """200 when the state answers; storage and peers have their own answers at their own doors."""
        if await self._count_pending() is None:
            return _unavailable()
        return web.json_response({"status": "ok"})

    async def _count_pending(self) -> int | None:
        """Return how many messages wait; None when the state does not answer, or is no database any more."""
        try:
            return await self._store.read(outbox.count_pending)
        except (StorageError, SQLAlchemyError) as error:
            log.warning("the state cannot be read", error=type(error).__name__)
            return None


def _unavailable() -> web.Response:
    return web.json_response({"status": "state unavailable"}, status=503)


def door_of(request: web.Request) -> str:
    """Return the door by the name of the route, so that the number of labels stays small."""
    resource = request.match_info.route.resource
    name = resource.name if resource is not None else None
    return name.partition(":")[0] if name else "web"


def _path_of(request: web.Request) -> str:
    """Return the path alone: a target in absolute form (RFC 9112 §3.2.2) could bring a user name along."""
    target = request.raw_path.partition("?")[0]
    return target if target.startswith("/") else request.rel_url.raw_path


def _known_method(method: str) -> str:
    return method if method in METHODS else "OTHER"
