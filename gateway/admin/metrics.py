"""Metrics for Prometheus and a health check, on a loopback port of their own; and one line per request in the log."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from sqlalchemy.exc import SQLAlchemyError

from backends.errors import StorageError
from gateway.admin.tally import Tally
from gateway.asking import asker
from gateway.breaker import Breakers
from gateway.config import Network
from gateway.store import directories, outbox, peers
from gateway.store.engine import Store, Work
from gateway.team import Team

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
T = TypeVar("T")

log = structlog.get_logger()


class Metrics:
    """What is counted."""

    def __init__(
        self,
        store: Store,
        trusted_proxies: Iterable[Network] = (),
        *,
        tally: Tally | None = None,
        team: Team | None = None,
        worker: int = 0,
        breakers: Breakers | None = None,
    ) -> None:
        """Count as `worker` of `team`; left out, this process is the only one."""
        self._breakers = breakers or Breakers()
        self._store = store
        self._trusted = tuple(trusted_proxies)
        self._tally = tally or Tally()
        self._team = team
        self._worker = worker
        self._registry = CollectorRegistry()
        self._registry.register(self._tally)
        self._pending = Gauge("ocm_gateway_outbox_pending", "Messages not delivered yet", registry=self._registry)
        self._silent = Gauge(
            "ocm_gateway_peers_failing",
            "Servers that have not answered since, by the state of their breaker in the process that leads",
            ("breaker",),
            registry=self._registry,
        )
        self._missing = Gauge(
            "ocm_gateway_workers_missing", "Worker processes that do not serve", registry=self._registry
        )
        self._ages = Gauge(
            "ocm_gateway_directory_age_seconds",
            "How old the list in use of a Directory Service is",
            ["url"],
            registry=self._registry,
        )

        self._last_used = Gauge(
            "ocm_gateway_legacy_last_used_timestamp_seconds",
            "When a way that federation.legacy may close was last used, to the minute; absent: never",
            ("way",),
            registry=self._registry,
        )

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
            self.like(request)(_path_of(request), status, time.monotonic() - begun)

    def like(self, request: web.Request) -> Callable[[str, int, float], None]:
        """Return how requests of the door, method and caller of `request` are counted and logged.

        That takes the path, the status and how many seconds it has lasted.
        """
        door, method, principal = door_of(request), request.method, request.match_info.get("principal")
        remote = asker(request, self._trusted)

        def note(path: str, status: int, seconds: float) -> None:
            self._tally.count(self._worker, door, method, status, seconds)
            log.info(
                "request",
                door=door,
                method=method,
                path=path,
                status=status,
                seconds=round(seconds, 4),
                principal=principal,
                remote=remote,
            )

        return note

    async def _show(self, _request: web.Request) -> web.Response:
        pending = await self._count_pending()
        if pending is None or not await self._note_ages():
            return _unavailable()
        self._pending.set(pending)
        self._missing.set(len(self._absent()))
        for way, moment in (await self._store.read(peers.legacy_last_used)).items():
            self._last_used.labels(way).set(moment)
        for state, servers in self._breakers.count().items():
            self._silent.labels(state.value).set(servers)
        return web.Response(body=generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _health(self, _request: web.Request) -> web.Response:
        """200 when the state answers, also while workers are missing: the others answer for them.

        Storage and peers have their own answers at their own doors.
        """
        if await self._count_pending() is None:
            return _unavailable()
        if absent := self._absent():
            return web.json_response({"status": "workers missing", "missing": absent})
        return web.json_response({"status": "ok"})

    async def _note_ages(self) -> bool:
        """Note how old the lists of Directory Services are; False when the state does not answer."""
        records = await self._read(directories.everything)
        self._ages.clear()
        for record in (records or {}).values():
            if record.fetched is not None:
                self._ages.labels(record.url).set(max(0.0, time.time() - record.fetched))
        return records is not None

    def _absent(self) -> list[int]:
        return self._team.missing() if self._team else []

    async def _count_pending(self) -> int | None:
        """Return how many messages wait; None when the state does not answer."""
        return await self._read(outbox.count_pending)

    async def _read(self, work: Work[T]) -> T | None:
        """Return what `work` reads; None when the state does not answer, or is no database any more."""
        try:
            return await self._store.read(work)
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
