"""OCM Addresses and the servers in them (draft-07, Terms: `ocm-address = identifier "@" host [ ":" port ]`).

The identifier is opaque and case-sensitive and may hold "@"; the host is compared without case, the port counts,
and 443 is the port of an address that names none. Peers write worse than that: `normalise` takes what they send,
`parse` what a person should have typed.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from gateway.ocm.errors import Malformed
from gateway.ocm.text import is_identifier

IDENTIFIER_MAX = 1024  # characters
WRITTEN_MAX = 4096  # characters of an address with all that products put behind it
HOST_MAX = 253  # characters; RFC 1035 section 2.3.4, less the root's dot
DEFAULT_PORT = 443  # discovery is https (draft-07, Discovery, Process)

_SERVER = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s:@/?#%\[\]\\]+)(?::(?P<port>[0-9]{1,5}))?")
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMERIC = re.compile(r"[0-9]+|0x[0-9a-f]*")
_SCHEME = re.compile(r"\A[a-z][a-z0-9+.-]*://", re.IGNORECASE)
# The standard library knows IDNA 2003, which maps these to other letters and so to another host than IDNA 2008 does
# (RFC 5894 section 7.2). Nobody should share with the wrong one: they have to be written in their ASCII form.
_DEVIATIONS = frozenset("\N{LATIN SMALL LETTER SHARP S}\N{GREEK SMALL LETTER FINAL SIGMA}\u200c\u200d")


@dataclass(frozen=True, slots=True)
class OCMAddress:
    """A Party at an OCM Server. The host is lower-case ASCII, with brackets if it is an IPv6 literal."""

    identifier: str
    host: str
    port: int | None = None

    def __post_init__(self) -> None:
        """Bring host and port into their one form; raises Malformed."""
        if not is_identifier(self.identifier, IDENTIFIER_MAX) or self.identifier != self.identifier.strip():
            raise _refused(self.identifier, "its identifier is empty, too long, or holds what is not shown")
        if "://" in self.identifier:
            raise _refused(self.identifier, "an OCM Address has no scheme")
        object.__setattr__(self, "host", _host(self.host))
        object.__setattr__(self, "port", _port(self.port))

    @classmethod
    def parse(cls, raw: str) -> OCMAddress:
        """Read an address as the draft defines it; raises Malformed("INVALID_ADDRESS")."""
        identifier, at, server = raw.rpartition("@")
        if not at:
            raise _refused(raw, 'it has no "@"')
        return cls(identifier, *_split(server))

    @classmethod
    def normalise(cls, raw: str) -> OCMAddress:
        """Read an address as products write it: `alice@https://nc1/`, `uuid@https://h@h`, `alice@gw@gw`.

        A repeated host is one host; an identifier that happens to end in its own host is cut, too. Raises
        Malformed("INVALID_ADDRESS"), also for a path: two servers on one host would become one.
        """
        if len(raw) > WRITTEN_MAX:  # each host that is repeated is looked at
            raise _refused(raw, "it is too long")
        identifier, at, server = raw.strip().rpartition("@")
        if not at:
            raise _refused(raw, 'it has no "@"')
        server = normalise_server(server)
        while True:
            rest, at, repeated = identifier.rpartition("@")
            if not at or not _names(repeated, server):
                return cls(identifier, *_split(server))
            identifier = rest

    @property
    def server(self) -> str:
        """Return `host` or `host:port`, the name under which a server is known everywhere."""
        return _joined(self.host, self.port)

    def __str__(self) -> str:
        return f"{self.identifier}@{self.server}"


def canonical_server(raw: str) -> str:
    """Return the one form of `host[:port]`: lower-case ASCII, without `:443` and without a final dot.

    Raises Malformed("INVALID_ADDRESS") for anything else: a scheme, a path, user information, a port out of range.
    """
    return _joined(*_split(raw))


def normalise_server(raw: str) -> str:
    """Return the one form of a server that a peer may have written as a URL; raises Malformed("INVALID_ADDRESS")."""
    return _joined(*_split(_without_url(raw.strip())))


def _names(raw: str, server: str) -> bool:
    try:
        return normalise_server(raw) == server
    except Malformed:
        return False


def _without_url(raw: str) -> str:
    """Strip a scheme, final slashes and the front controller that Nextcloud may leave in a server's name."""
    bare = _SCHEME.sub("", raw, count=1).rstrip("/")
    return bare.removesuffix("/index.php").rstrip("/")


def _split(raw: str) -> tuple[str, int | None]:
    match = _SERVER.fullmatch(raw)
    if match is None:
        raise _no_server(raw, "it has to be host or host:port")
    return _host(match["host"]), _port(int(match["port"]) if match["port"] else None)


def _joined(host: str, port: int | None) -> str:
    return host if port is None else f"{host}:{port}"


def _port(port: int | None) -> int | None:
    if port is not None and not 0 < port < 65536:
        raise Malformed("INVALID_ADDRESS", f"{port} is no port: ports are between 1 and 65535")
    return None if port == DEFAULT_PORT else port


def _host(raw: str) -> str:
    """Return the one form of an IP literal, an IPv4 address or a registered name; raises Malformed."""
    if raw.startswith("["):
        try:
            return f"[{ipaddress.IPv6Address(raw.strip('[]')).compressed}]"
        except ValueError as error:
            raise _no_server(raw, "it has no IPv6 address between its brackets") from error
    host = _ascii(raw).lower().removesuffix(".")
    labels = host.split(".")
    if len(host) > HOST_MAX or not all(_LABEL.fullmatch(label) for label in labels):
        raise _no_server(raw, "DNS cannot hold such a name")
    if _NUMERIC.fullmatch(labels[-1]):  # a resolver would take `2130706433` and `0x7f.1` for addresses, too
        try:
            ipaddress.IPv4Address(host)
        except ValueError as error:
            raise _no_server(raw, "it is a number, but no IPv4 address in dotted decimal form") from error
    return host


def _ascii(host: str) -> str:
    if host.isascii():
        return host
    if len(host) > HOST_MAX or not _DEVIATIONS.isdisjoint(host):
        raise _no_server(host, "it has to be written in its ASCII form (xn--)")
    try:
        return host.encode("idna").decode("ascii")
    except UnicodeError as error:
        raise _no_server(host, "it has no ASCII form") from error


def _no_server(raw: str, why: str) -> Malformed:
    return Malformed("INVALID_ADDRESS", f"{raw[:100]!r} is no server: {why}")


def _refused(raw: str, why: str) -> Malformed:
    return Malformed("INVALID_ADDRESS", f"{raw[:100]!r} is no OCM Address: {why}")
