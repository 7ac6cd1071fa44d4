"""Who has caused what a request makes us fetch elsewhere, for every edge alike."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from ipaddress import IPv4Network, IPv6Network

from aiohttp import web

from gateway.asking import asker
from gateway.first_contacts import caused_by

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def causing(handler: Handler, trusted_proxies: Iterable[IPv4Network | IPv6Network]) -> Handler:
    """Let what `handler` fetches count for its client, who may be behind `trusted_proxies`."""
    trusted = tuple(trusted_proxies)

    async def handle(request: web.Request) -> web.StreamResponse:
        with caused_by(asker(request, trusted)):
            return await handler(request)

    return handle
