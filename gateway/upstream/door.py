"""The door to the server behind: every request that is for no door of ours."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network

import structlog
from aiohttp import web

from gateway.config import UpstreamConfig
from gateway.own_paths import OwnPaths
from gateway.proxies import is_within
from gateway.upstream.connection import Connection, Connections
from gateway.upstream.errors import RequestError, UpstreamError, response
from gateway.upstream.exchange import Exchange
from gateway.upstream.fields import Client, pseudonym
from gateway.upstream.outgoing import prepare

log = structlog.get_logger()


class UpstreamDoor:
    """Passes on what is not ours."""

    def __init__(
        self,
        config: UpstreamConfig,
        own_paths: OwnPaths,
        *,
        server: str,
        trusted_proxies: Iterable[IPv4Network | IPv6Network] = (),
    ) -> None:
        """`server` is our own host[:port], which a client without a Host field gets."""
        self._config = config
        self._own_paths = own_paths
        self._server = server.encode()
        self._name = pseudonym(server)
        self._trusted = tuple(trusted_proxies)
        self._connections = Connections(config.url, config.ca)
        self._tunnels: set[Connection] = set()

    def add_routes(self, app: web.Application) -> None:
        """Take what is not ours; to be called before doors that have a word on all paths."""
        app.router.register_resource(_NotOurs(self._own_paths, self))
        app.on_shutdown.append(self._end_tunnels)

    def close(self) -> None:
        """Close idle connections."""
        self._connections.close()

    async def _end_tunnels(self, _app: web.Application) -> None:
        """End what would not end by itself while the gateway stops."""
        for connection in tuple(self._tunnels):
            connection.close()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Relay one request."""
        try:
            outgoing = prepare(request, self._client(request), self._name)
            idle = self._config.idle_timeout
            return await Exchange(request, outgoing, self._connections, self._tunnels, idle).run()
        except (UpstreamError, RequestError) as error:
            write = log.warning if isinstance(error, UpstreamError) else log.info
            write("upstream.failed", method=request.method, error=type(error).__name__, reason=str(error))
            answer = response(error)
            if not request.content.is_eof():
                answer.force_close()  # what is left of the body must not be taken for the next request
            return answer

    def _client(self, request: web.Request) -> Client:
        address = request.remote or ""
        return Client(
            address=address,
            scheme="https" if request.secure else "http",
            host=next((value for name, value in request.raw_headers if name.lower() == b"host"), self._server),
            is_trusted=is_within(address, self._trusted),
        )


class _NotOurs(web.DynamicResource):
    """Matches any target that the table of own paths does not hold, whatever its form and method."""

    def __init__(self, own_paths: OwnPaths, door: UpstreamDoor) -> None:
        super().__init__("/{upstream:[\\s\\S]*}", name="upstream")
        self._own_paths = own_paths
        self._route = self.add_route("*", door.handle, expect_handler=_expect_later)

    async def resolve(self, request: web.Request) -> tuple[web.UrlMappingMatchInfo | None, set[str]]:
        if self._own_paths.include(request.raw_path):
            return None, set()
        return web.UrlMappingMatchInfo({}, self._route), set()


async def _expect_later(_request: web.Request) -> None:
    """Leave expectations to the server behind, which has to meet them."""
