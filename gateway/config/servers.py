"""Servers as lists of the operator name them: a host, or `.` and a suffix of hosts, with or without a port."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import PlainValidator

from gateway.config.values import canonical_ip, refuse

DEFAULT_PORT = 443  # of a server that names none, as in an OCM Address

_ENTRY = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(?::(?P<port>[1-9][0-9]{0,4}))?")
_LABEL = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"  # with `_`, which names of servers may have
_NAMES = re.compile(rf"\.?(?![0-9.]+$){_LABEL}(\.{_LABEL})*")  # no suffix of an IP address: it would mean nothing
_ALLOWED = (
    "a host, or '.' and a suffix of hosts, with or without a port, in ASCII (xn--) and without a final dot, "
    "as in cloud.example.org, .example.org or .example.org:8443"
)


@dataclass(frozen=True, slots=True)
class ServerPattern:
    """One entry: `host` is in lower case and without brackets; without a `port` every port is meant."""

    host: str
    port: int | None = None

    def matches(self, server: str) -> bool:
        """Tell whether it means `server`, which is host[:port] in its one form (gateway/ocm/address.py)."""
        parts = urlsplit(f"//{server}")
        host, port = parts.hostname or "", parts.port or DEFAULT_PORT
        is_host = host.endswith(self.host) if self.host.startswith(".") else host == self.host
        return is_host and self.port in (None, port)


def matching(patterns: Iterable[ServerPattern], server: str) -> bool:
    """Tell whether one of `patterns` means `server`."""
    return any(pattern.matches(server) for pattern in patterns)


def _server_pattern(value: object) -> ServerPattern:
    if isinstance(value, ServerPattern):
        return value
    text = value.lower() if isinstance(value, str) else ""
    if address := canonical_ip(text):  # IPv6 may stand without brackets, and has no port then
        return ServerPattern(address)
    entry = _ENTRY.fullmatch(text)
    host, port = (entry["host"], int(entry["port"] or 0)) if entry else ("", 0)
    address = canonical_ip(host.strip("[]"))
    if (address is None and not _NAMES.fullmatch(host)) or port > 65535:
        refuse(_ALLOWED)
    return ServerPattern(address or host, port or None)


Server = Annotated[ServerPattern, PlainValidator(_server_pattern)]
