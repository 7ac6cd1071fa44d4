"""`federation.accept` and `federation.auto_accept`: whose Shares are taken, and which without asking."""

from __future__ import annotations

import re
from typing import Annotated, Literal, get_args

from pydantic import PlainValidator

from gateway.config.values import HOST_NAME, canonical_ip, refuse

ANYONE = "anyone"
Demand = Literal["signed", "contacts", "allowlist"]  # what a sender may have to meet

_SERVER = re.compile(r"(?P<host>\[[0-9a-f:.]+\]|[^\[\]:]+)(?::(?P<port>[0-9]{1,5}))?")


def _accept(value: object) -> tuple[Demand, ...]:
    """Return what is demanded: nothing, one thing, or all of a list."""
    words = value if isinstance(value, list) else [value]
    if words == [ANYONE]:
        return ()
    if not words or not all(word in get_args(Demand) for word in words):
        refuse(f"{ANYONE}, or one or several of {', '.join(get_args(Demand))}; senders have to meet all of a list")
    return tuple(word for word in get_args(Demand) if word in words)


def _server_or_address(value: object) -> str:
    """Return a server as host[:port], or an OCM Address there, in the one form of each."""
    allowed = "a server or an OCM Address, as in cloud.example.org, nas.example.org:8443 or bob@cloud.example.org"
    identifier, at, server = value.rpartition("@") if isinstance(value, str) else ("", "", "")
    match = _SERVER.fullmatch(server.lower())
    host, port = (match["host"], match["port"]) if match else ("", None)
    address = canonical_ip(host.strip("[]"))
    if address is None and not HOST_NAME.fullmatch(host):
        refuse(allowed)
    if (at and not identifier) or not identifier.isprintable() or (port and not 0 < int(port) < 65536):
        refuse(allowed)
    name = f"[{address}]" if address and ":" in address else address or host
    return f"{identifier}{at}{name}" + (f":{int(port)}" if port and int(port) != 443 else "")


Accept = Annotated[tuple[Demand, ...], PlainValidator(_accept)]
ServerOrAddress = Annotated[str, PlainValidator(_server_or_address)]
