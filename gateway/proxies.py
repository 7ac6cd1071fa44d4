"""Who a client is behind reverse proxies; for logs, limits and the server behind, never for a decision about rights."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address

_WITH_PORT = re.compile(r"([0-9.]+):[0-9]{1,5}|\[([0-9A-Fa-f:.]+)\](?::[0-9]{1,5})?")  # as Azure's gateways write it


def client_address(remote: str | None, forwarded_for: str, trusted: Iterable[IPv4Network | IPv6Network]) -> str | None:
    """Return the address of the client: `remote`, or what trusted proxies have written into X-Forwarded-For.

    Read from the right: each trusted proxy vouches for the address before its own, and the first address that no
    trusted proxy has is the client's; whatever stands left of it could be made up. A port is not part of an address:
    with each connection it is another.
    """
    networks = tuple(trusted)
    address = remote
    for claimed in reversed([part.strip() for part in forwarded_for.split(",") if part.strip()]):
        if address is None or not is_within(address, networks):
            return address
        written = _WITH_PORT.fullmatch(claimed)
        address = written[1] or written[2] if written else claimed
    return address


@functools.lru_cache(maxsize=10_000)
def subscriber(address: str | None) -> str:
    """Return what stands for whoever has `address`: it alone, and of IPv6 the /64 that one subscriber has at least.

    Empty where there is none (a Unix socket); what a proxy has sent and is no address stands for itself, cut.
    """
    try:
        parsed = ip_address((address or "").partition("%")[0])
    except ValueError:
        return (address or "")[:64]
    if isinstance(parsed, IPv6Address):
        return str(parsed.ipv4_mapped or IPv6Network((parsed, 64), strict=False))
    return str(parsed)


def is_within(address: str, networks: Iterable[IPv4Network | IPv6Network]) -> bool:
    """Tell whether `address` is in one of `networks`; what is no address is in none."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    return any(parsed in network for network in networks)
