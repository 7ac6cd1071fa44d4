"""Who a client is behind reverse proxies; used for logs alone, never for a decision about rights."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_address


def client_address(remote: str | None, forwarded_for: str, trusted: Iterable[IPv4Network | IPv6Network]) -> str | None:
    """Return the address of the client: `remote`, or what trusted proxies have written into X-Forwarded-For.

    Read from the right: each trusted proxy vouches for the address before its own, and the first address that no
    trusted proxy has is the client's; whatever stands left of it could be made up.
    """
    networks = tuple(trusted)
    address = remote
    for claimed in reversed([part.strip() for part in forwarded_for.split(",") if part.strip()]):
        if address is None or not _is_within(address, networks):
            return address
        address = claimed
    return address


def _is_within(address: str, networks: tuple[IPv4Network | IPv6Network, ...]) -> bool:
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    return any(parsed in network for network in networks)
