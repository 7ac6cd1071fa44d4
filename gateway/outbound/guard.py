"""Which URLs, addresses and headers may leave."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import NoReturn

from gateway.outbound.errors import OutboundRefused

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# Source: the IANA IPv4 and IPv6 Special-Purpose Address Registries (RFC 6890 and the RFCs named there).
SPECIAL: tuple[tuple[Network, str], ...] = tuple(
    (ip_network(network), what)
    for network, what in (
        ("0.0.0.0/8", "unspecified"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "shared by a provider's customers"),
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "reserved"),
        ("192.0.2.0/24", "documentation"),
        ("192.88.99.0/24", "a 6to4 relay"),
        ("192.168.0.0/16", "private"),
        ("198.18.0.0/15", "for benchmarks"),
        ("198.51.100.0/24", "documentation"),
        ("203.0.113.0/24", "documentation"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
        ("::/128", "unspecified"),
        ("::1/128", "loopback"),
        ("::/96", "IPv4-compatible"),
        ("::ffff:0:0/96", "IPv4-mapped"),
        ("64:ff9b::/96", "NAT64"),
        ("64:ff9b:1::/48", "NAT64"),
        ("100::/64", "discarded"),
        ("2001::/32", "Teredo"),
        ("2001::/23", "reserved"),
        ("2001:db8::/32", "documentation"),
        ("2002::/16", "6to4"),
        ("3fff::/20", "documentation"),
        ("fc00::/7", "unique-local"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "site-local"),
        ("ff00::/8", "multicast"),
    )
)
EVERYWHERE: tuple[Network, ...] = (ip_network("0.0.0.0/0"), ip_network("::/0"))  # for what the operator has named
GLOBAL_UNICAST = IPv6Network("2000::/3")  # RFC 4291 section 2.4: nothing else has been given out

# The last 32 bits are an IPv4 address: RFC 4291 sections 2.5.5.1 and 2.5.5.2, RFC 6052 section 2.2. Below the /48 a
# site may choose other places; they are its own affair, since the whole /48 is refused until the site lists it.
ENDS_IN_IPV4 = tuple(IPv6Network(network) for network in ("::/96", "::ffff:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48"))
NOT_EMBEDDING = (IPv6Address("::"), IPv6Address("::1"))

DEFAULT_PORTS = {"http": 80, "https": 443}
SSH, SSH_PORT = "ssh", 22
_LOW_PORTS = {"http": (80, 443), "https": (80, 443), SSH: (SSH_PORT,)}  # others below 1024 are other services'
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)([^#]*)")
_AUTHORITY = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]*)(?::([0-9]{1,5}))?")
_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")  # a last label that some resolvers read as part of an IPv4 address
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 section 5.6.2
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")  # RFC 9110 section 5.5


@dataclass(frozen=True, slots=True)
class Destination:
    """A URL that passed the check; `target` is its path and query, byte for byte."""

    scheme: str
    host: str
    port: int
    target: str

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self}{self.target}"

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Guard:
    """Which URLs and addresses may be contacted; `http_allowed` tells for which hosts plain http is.

    `denied` tells which servers, as host:port, are not contacted whoever names them: a peer's own documents may.
    """

    def __init__(
        self,
        allow_networks: Iterable[Network],
        http_allowed: Callable[[str], bool],
        denied: Callable[[str], bool] = lambda _server: False,
    ) -> None:
        self._allowed = tuple(allow_networks)
        self._http_allowed = http_allowed
        self._denied = denied

    def check_url(self, url: str) -> Destination:
        """Return where `url` leads, as far as that can be told without a resolver; raises OutboundRefused."""
        if not all("!" <= char <= "~" and char != "\\" for char in url):
            raise OutboundRefused("URL_REFUSED", "a URL with a space, backslash, control or non-ASCII character")
        parts = _URL.match(url)
        if parts is None:
            raise OutboundRefused("URL_REFUSED", "not an absolute URL")
        scheme, authority, target = parts[1].lower(), parts[2], parts[3]
        if scheme not in DEFAULT_PORTS:
            raise OutboundRefused("SCHEME_REFUSED", f"{scheme!r} is not http or https")
        host, port = _split(authority)
        port = DEFAULT_PORTS[scheme] if port is None else port
        return self._checked(Destination(scheme, host, port, target if target.startswith("/") else f"/{target}"))

    def check_ssh(self, server: str) -> Destination:
        """Return where an SSH server, as host or host:port, is; raises OutboundRefused."""
        host, port = _split(server)
        return self._checked(Destination(SSH, host, SSH_PORT if port is None else port, ""))

    def _checked(self, destination: Destination) -> Destination:
        low = _LOW_PORTS[destination.scheme]
        if not (destination.port in low or 1024 <= destination.port <= 65535):
            allowed = ", ".join(map(str, low))
            raise OutboundRefused("PORT_REFUSED", f"port {destination.port} is not {allowed} or 1024 and above")
        if destination.scheme == "http" and not self._http_allowed(destination.host):
            sentence = f"plain http is not allowed for {destination.host} (federation.allow_http)"
            raise OutboundRefused("SCHEME_REFUSED", sentence)
        if is_address(destination.host):
            self.check_address(destination.host)
        if self._denied(str(destination)):
            raise OutboundRefused("HOST_REFUSED", f"{destination} is denied here (federation.denylist)")
        return destination

    def check_address(self, address: str | Address) -> None:
        """Refuse an address that is neither public nor listed; each IPv4 address inside it has to pass as well.

        Raises OutboundRefused.
        """
        try:
            outer = ip_address(address) if isinstance(address, str) else address
        except ValueError:
            raise OutboundRefused("ADDRESS_REFUSED", f"{address!r} is not an address") from None
        for candidate in (outer, *embedded(outer)):
            kind = special(candidate)
            if kind is not None and not any(candidate in network for network in self._allowed):
                inside = f" (inside {outer})" if candidate is not outer else ""
                sentence = f"{candidate}{inside} is {kind} and not in federation.allow_networks"
                raise OutboundRefused("ADDRESS_REFUSED", sentence)

    def passing(self, host: str, addresses: Iterable[str]) -> list[str]:
        """Return those of the addresses of `host` that may be contacted; raises OutboundRefused when none may."""
        passing: list[str] = []
        refused: OutboundRefused | None = None
        for address in dict.fromkeys(addresses):
            try:
                self.check_address(address)
                passing.append(address)
            except OutboundRefused as error:
                refused = error
        if refused is not None and not passing:
            raise OutboundRefused(refused.code, f"{host}: {refused}")
        return passing


def special(address: Address) -> str | None:
    """Name what sets `address` apart from the public Internet; None when nothing does."""
    for network, what in SPECIAL:
        if address in network:
            return what
    return "reserved" if isinstance(address, IPv6Address) and address not in GLOBAL_UNICAST else None


def embedded(address: Address) -> Iterator[IPv4Address]:
    """Yield the IPv4 addresses that a translator or tunnel on the way would take out of `address`."""
    if isinstance(address, IPv4Address) or address in NOT_EMBEDDING:
        return
    if any(address in network for network in ENDS_IN_IPV4):
        yield IPv4Address(address.packed[12:])
    if address.sixtofour is not None:
        yield address.sixtofour
    if address.teredo is not None:
        yield from address.teredo


def is_address(host: str) -> bool:
    """Tell whether `host` is an IP address and not a name."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _split(authority: str) -> tuple[str, int | None]:
    """Return the host in lower case without brackets, and the port; raises OutboundRefused.

    A host is an address as `ipaddress` reads it, or a name that no resolver takes for an address.
    """
    if "@" in authority:
        raise OutboundRefused("USERINFO_REFUSED", "a URL with a user name or password")
    split = _AUTHORITY.fullmatch(authority)
    if split is None:
        _refuse_host(authority)
    host, port = split[1], int(split[2]) if split[2] else None
    if is_address(host):
        return str(ip_address(host)), port  # an IPv6 address without brackets does not match above
    if host.startswith("[") and "%" not in host and is_address(host[1:-1]) and ":" in host:
        return str(ip_address(host[1:-1])), port
    labels = host.split(".")
    if len(host) > 253 or not all(map(_LABEL.fullmatch, labels)) or _NUMBER.fullmatch(labels[-1]):
        _refuse_host(host)
    return host.lower(), port


def _refuse_host(host: str) -> NoReturn:
    raise OutboundRefused("HOST_REFUSED", f"{host[:80]!r} is neither a host name nor a plainly written address")


def check_headers(headers: Mapping[str, str]) -> None:
    """Refuse a value that would end its header: a peer's token may hold anything, and no message repeats it."""
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
            raise OutboundRefused("HEADER_REFUSED", f"the value for the header {name[:40]!r} cannot be sent")
