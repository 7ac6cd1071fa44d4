"""Who asks, behind trusted proxies, for every edge alike."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network

from aiohttp import web

from gateway.proxies import client_address


def forwarded_for(request: web.Request) -> str:
    """Return all that X-Forwarded-For says: some proxies leave a client's line, and put theirs below it."""
    return ", ".join(request.headers.getall("X-Forwarded-For", ()))


def asker(request: web.Request, trusted: Iterable[IPv4Network | IPv6Network]) -> str | None:
    """Return the address of the client, which may be behind `trusted` proxies."""
    return client_address(request.remote, forwarded_for(request), trusted)
