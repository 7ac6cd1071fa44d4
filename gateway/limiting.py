"""How often a client may ask, for every edge alike: 429 before anything of the request is read, logged or counted."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from ipaddress import IPv4Network, IPv6Network
from typing import Any

from aiohttp import web

from gateway.asking import asker
from gateway.errors import TooMany
from gateway.limits import LIMITED, Limits
from gateway.proxies import subscriber

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

# The doors that limit themselves: what fails is counted there, and transfers are as many as they are.
UNLIMITED = ("ocm", "files", "upstream")


def limiter(limits: Limits, trusted: Iterable[IPv4Network | IPv6Network]) -> Any:
    """Return a middleware that counts requests by the names of their routes; `trusted` are the proxies."""
    networks = tuple(trusted)

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        name = limit_of(request)
        if name is not None:
            try:
                limits.take(name, client_of(request, networks))
            except TooMany as error:
                return _come_back(request, error)
        return await handler(request)

    return middleware


def limit_of(request: web.Request) -> str | None:
    """Return which limit a request counts for: that of its endpoint, `pages` for what has none, None for no limit."""
    resource = request.match_info.route.resource
    door, _, rest = (resource.name or "" if resource is not None else "").partition(":")
    if door in UNLIMITED:
        return None
    endpoint = rest.partition(":")[0].replace("-", "_")
    return endpoint if endpoint in LIMITED else "pages"


def client_of(request: web.Request, trusted: Iterable[IPv4Network | IPv6Network]) -> str:
    """Return who asks, as limits count: see `subscriber`."""
    return subscriber(asker(request, trusted))


def _come_back(request: web.Request, error: TooMany) -> web.Response:
    headers = {"Retry-After": str(error.retry_after)}
    answer = web.json_response({"message": error.code}, status=429, headers=headers)
    if not request.content.is_eof():
        answer.force_close()  # what comes of the body would be taken for the next request
    return answer
